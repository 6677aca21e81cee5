//! A connection's socket after the handshake: it brings the peer's descriptors and reports the peer's end.
//!
//! The connection calls it. Invariants: descriptors from another user's peer enter this process only when the caller
//! asks for them. Until then they wait in the socket, at the sender's expense. A few descriptors from peers of this
//! process's own user are taken in at once. Descriptors that the caller does not take never hide the peer's end, and
//! can still be taken after it. It never waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::parcel::{self, Parcel};
use crate::error::Error;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket;

/// Most parcels of this process's own user that are taken in ahead. The others stay in the socket.
const AHEAD: usize = 16;

/// The socket, and what has come over it.
pub(super) struct FdSocket {
    socket: Arc<ForkGuarded>,
    /// How many parcels are taken out of the socket before the caller asks for them.
    ahead: usize,
    parcels: VecDeque<Parcel>,
    /// Whether there may still be something in the socket.
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
            // The socket is watched by edges, and what came before the watch caused no edge.
            readable: true,
            ended: false,
            fault: None,
        }
    }

    /// Takes in what is in the socket.
    pub(super) fn poll(&mut self) {
        self.readable = true;
        self.take_in(self.ahead);
    }

    /// Takes parcels out of the socket until there are this many.
    fn take_in(&mut self, most: usize) {
        let mut reset = false;
        while self.readable && self.parcels.len() < most {
            let mut buffer = [0; parcel::LONGEST];
            let broken = match scm::receive(&*self.socket, &mut buffer) {
                Ok(received) if received.length == 0 => {
                    self.end();
                    continue;
                }
                Ok(received) => match parcel::decode(&buffer[..received.length], received.fds) {
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
                // The kernel reports this once, before the data: the peer went without reading everything that was
                // sent to it.
                Err(ReceiveError::Os(Errno::ECONNRESET)) if !reset => {
                    (reset, self.ended) = (true, true);
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
        // Parcels that the caller does not take must not hide the peer's end.
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

    /// Whether there may be a parcel to take.
    pub(super) fn has_parcels(&self) -> bool {
        !self.parcels.is_empty() || (self.readable && seqpacket::has_unread(&*self.socket))
    }

    /// The parcels that came before the end of the connection and were not taken, as a socket of their own. `None` if
    /// there are none.
    pub(super) fn left(&mut self) -> Option<FdSocket> {
        self.poll();
        if !self.has_parcels() {
            return None;
        }
        // The peer must see the end, even while its parcels are kept here.
        seqpacket::hang_up(&*self.socket);
        let parcels = std::mem::take(&mut self.parcels);
        Some(FdSocket { socket: Arc::clone(&self.socket), parcels, fault: None, ..*self })
    }

    /// Shows the peer the end of the connection. What the peer has sent before can still be taken.
    pub(super) fn shutdown(&self) {
        seqpacket::hang_up(&*self.socket);
    }

    /// Whether the peer has gone or has broken the rules.
    #[inline]
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether its parcels wait in the socket, because the peer belongs to another user.
    pub(super) fn is_of_another_user(&self) -> bool {
        self.ahead == 0
    }

    pub(super) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// Sends descriptors without waiting.
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

    /// Sends this many numbered parcels, each with the most descriptors that a parcel can have.
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
            mine.poll();
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
            // The peer goes without reading this. That is a reset, which is reported before everything else.
            send(&mine, 1);
            drop(theirs);
            mine.poll();
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
        theirs.poll();
        assert!(theirs.ended());
        assert_eq!(numbers(&mut left), [0]);
    }
}
