//! A connection's socket after the handshake: the descriptors that the peer sends, and the news of its end.
//!
//! Called by the connection. No descriptor of a peer of another user is in this process before the caller asks for it: it waits in the
//! socket, at the sender's expense. Of one's own user's a few are taken in at once. What nobody takes never hides the peer's end, and
//! can still be taken after it. Never waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::parcel::{self, Parcel};
use crate::error::Error;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket;

/// Most parcels of one's own user that wait to be taken; the others stay in the socket.
const AHEAD: usize = 16;

/// What comes over the socket.
pub(super) struct FdSocket {
    socket: Arc<ForkGuarded>,
    /// How many parcels are taken out of the socket before somebody asks.
    ahead: usize,
    parcels: VecDeque<Parcel>,
    /// Something may be in the socket still.
    readable: bool,
    ended: bool,
    fault: Option<Error>,
}

impl FdSocket {
    /// Takes over a socket whose handshake is done.
    pub(super) fn new(socket: ForkGuarded, own_user: bool) -> FdSocket {
        FdSocket {
            socket: Arc::new(socket),
            ahead: if own_user { AHEAD } else { 0 },
            parcels: VecDeque::new(),
            // Watched by edges, and what came before was none.
            readable: true,
            ended: false,
            fault: None,
        }
    }

    /// Looks at what is in the socket.
    pub(super) fn look(&mut self) {
        self.readable = true;
        self.take_in(self.ahead);
    }

    /// Takes parcels out of the socket until there are so many.
    fn take_in(&mut self, most: usize) {
        while self.readable && self.parcels.len() < most {
            let mut buffer = [0; parcel::LONGEST];
            let broken = match scm::receive(&*self.socket, &mut buffer) {
                Ok(received) if received.length == 0 => {
                    self.end();
                    continue;
                }
                Ok(received) => match parcel::understand(&buffer[..received.length], received.fds) {
                    Ok(parcel) => {
                        self.parcels.push_back(parcel);
                        continue;
                    }
                    Err(what) => Error::CorruptPeer { what: what.into() },
                },
                Err(ReceiveError::Os(Errno::EAGAIN)) => {
                    self.readable = false;
                    continue;
                }
                // Told once, and before what it has sent: it went without reading all of what it was sent.
                Err(ReceiveError::Os(Errno::ECONNRESET)) => {
                    self.ended = true;
                    continue;
                }
                Err(ReceiveError::Os(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))) => {
                    Error::os("recvmsg", errno, "descriptors that a peer sent could not be received")
                }
                Err(ReceiveError::Os(_)) => {
                    self.end();
                    continue;
                }
                Err(ReceiveError::Truncated | ReceiveError::DescriptorsLost) => {
                    Error::CorruptPeer { what: "a parcel did not arrive as it was sent".into() }
                }
            };
            self.fault.get_or_insert(broken);
            self.end();
        }
        // What nobody takes must not hide the peer's end.
        if self.readable && seqpacket::has_ended(&*self.socket) {
            self.ended = true;
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.readable = false;
    }

    /// The oldest parcel that has come.
    pub(super) fn take(&mut self) -> Option<Parcel> {
        if self.parcels.is_empty() {
            self.take_in(self.ahead.max(1));
        }
        self.parcels.pop_front()
    }

    /// Whether there may be one to take.
    pub(super) fn has_parcels(&self) -> bool {
        !self.parcels.is_empty() || (self.readable && seqpacket::has_unread(&*self.socket))
    }

    /// What came before the end of the connection and was not taken, to be taken without it; `None` when there is nothing.
    pub(super) fn left(&mut self) -> Option<FdSocket> {
        self.look();
        if !self.has_parcels() {
            return None;
        }
        // The peer is to see the end, also while this is kept.
        seqpacket::hang_up(&*self.socket);
        let parcels = std::mem::take(&mut self.parcels);
        Some(FdSocket { socket: Arc::clone(&self.socket), parcels, fault: None, ..*self })
    }

    /// Has the peer see the end. What it has sent before can still be taken.
    pub(super) fn shutdown(&self) {
        seqpacket::hang_up(&*self.socket);
    }

    /// Whether the peer has gone, or has broken the rules.
    #[inline]
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether its parcels wait in the socket, because it is another user's.
    pub(super) fn is_of_another_user(&self) -> bool {
        self.ahead == 0
    }

    pub(super) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// Sends descriptors, without waiting.
    ///
    /// # Errors
    /// As [`scm::send`].
    pub(super) fn send(&self, data: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
        parcel::send(&*self.socket, data, fds)
    }
}

impl AsFd for FdSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.socket).as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd_socket(own_user: bool) -> (FdSocket, FdSocket) {
        let (one, other) = seqpacket::pair().unwrap();
        for end in [&one, &other] {
            seqpacket::allow_rights(end.as_fd());
        }
        (FdSocket::new(ForkGuarded::new(one), own_user), FdSocket::new(ForkGuarded::new(other), own_user))
    }

    /// Sends so many parcels, numbered, each with all the descriptors that one can have.
    fn send(from: &FdSocket, count: u8) {
        let null = std::fs::File::open("/dev/null").unwrap();
        for number in 0..count {
            from.send(&[number], &[null.as_fd(); parcel::MOST_DESCRIPTORS]).unwrap();
        }
    }

    fn numbers(fd_socket: &mut FdSocket) -> Vec<u8> {
        std::iter::from_fn(|| fd_socket.take()).map(|parcel| parcel.data[0]).collect()
    }

    #[test]
    fn messages_of_another_user_stay_in_the_socket_until_requested() {
        for (own_user, inside) in [(true, 3), (false, 0)] {
            let (mut mine, theirs) = fd_socket(own_user);
            send(&theirs, 3);
            mine.look();
            assert_eq!((mine.parcels.len(), mine.has_parcels(), mine.ended()), (inside, true, false));
            assert_eq!(mine.take().unwrap().fds.len(), parcel::MOST_DESCRIPTORS);
            assert_eq!(mine.parcels.len(), 2 * usize::from(own_user), "one at a time");
            assert_eq!(numbers(&mut mine), [1, 2]);
            assert!(!mine.has_parcels() && !mine.ended());
        }
    }

    #[test]
    fn the_end_is_seen_behind_unread_messages_which_are_kept() {
        for own_user in [true, false] {
            let (mut mine, theirs) = fd_socket(own_user);
            send(&theirs, 20);
            // It goes without having read this: a reset, which comes before everything else.
            send(&mine, 1);
            drop(theirs);
            mine.look();
            assert!(mine.ended());
            let mut left = mine.left().unwrap();
            drop(mine);
            assert_eq!(numbers(&mut left), (0..20).collect::<Vec<_>>());
            assert!(left.fault().is_none() && left.left().is_none());
        }
    }

    #[test]
    fn keeping_unread_messages_does_not_keep_the_connection() {
        let (mut mine, mut theirs) = fd_socket(false);
        send(&theirs, 1);
        let mut left = mine.left().unwrap();
        drop(mine);
        theirs.look();
        assert!(theirs.ended());
        assert_eq!(numbers(&mut left), [0]);
    }
}
