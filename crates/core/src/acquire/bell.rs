//! Doorbells of both kinds: the eventfd that peers of one user share, and the connection to a peer that is not trusted.
//!
//! A shared eventfd can be turned against those who sleep on it (a holder may read what was rung, or ring without end), so it
//! is for one's own user; ringing it waits for nobody (`sys/eventfd.rs`). To another user a doorbell is a socket: a byte either way, never waiting. For a topic's guest it is
//! the one that the handshake was made over; for a channel's connection, whose own carries descriptors, a pair made for it: what
//! nobody takes there would stand in the way of the rings behind it. It is its holders' proof of life as well, because the
//! kernel ends it with either of them. Invariant: ringing
//! never waits and never fails loudly; a peer that does not read costs nothing but a byte that is not sent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket;

/// What is sent to ring.
const RING: [u8; 1] = [1];
/// Most bytes that are taken in one go, so that whoever sends without end does not hold up who listens.
const MOST: usize = 64;

/// A connection as doorbell and proof of life, both ways.
#[derive(Debug)]
pub(crate) struct Cord {
    /// Not in a forked child, which would keep the connection alive.
    socket: ForkGuarded,
}

/// What came over a cord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// So many rings, perhaps none, and there may be more.
    Rings(usize),
    /// The end, or what is no ring; after it nothing counts.
    End,
}

impl Cord {
    /// Takes over a connection whose handshake is done.
    pub(crate) fn new(socket: ForkGuarded) -> Cord {
        seqpacket::keep_small(&socket);
        Cord { socket }
    }

    /// A new one, and the end that its peer is to have.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn pair() -> Result<(Cord, ForkGuarded)> {
        let (ours, theirs) =
            seqpacket::pair().map_err(|errno| Error::os("socketpair", errno, "cannot make a doorbell"))?;
        Ok((Cord::new(ForkGuarded::new(ours)), ForkGuarded::new(theirs)))
    }

    /// Takes over the end that a peer gave, after checking that it is one.
    ///
    /// # Errors
    /// `ERR_RINGBELL_CORRUPT_PEER` when it is something else; the descriptor is closed then.
    pub(crate) fn from_peer(fd: OwnedFd) -> Result<Cord> {
        match seqpacket::is_one(&fd) {
            true => Ok(Cord::new(ForkGuarded::new(fd))),
            false => {
                Err(Error::CorruptPeer { what: "what it gave as a doorbell is no socket of the kind".into() })
            }
        }
    }

    /// Rings. A peer that has not read what was rung before needs no more.
    pub(crate) fn ring(&self) {
        let _ = scm::send(&self.socket, &RING, &[]);
    }

    /// Takes what was rung, without waiting.
    pub(crate) fn hear(&self) -> Heard {
        for count in 0..MOST {
            let mut byte = [0; RING.len()];
            match scm::receive_plain(&self.socket, &mut byte) {
                Ok(1) if byte == RING => {}
                Err(ReceiveError::Os(Errno::EAGAIN)) => return Heard::Rings(count),
                _ => return Heard::End,
            }
        }
        Heard::Rings(MOST)
    }

    /// Whether the peer holds its end.
    pub(crate) fn lives(&self) -> bool {
        seqpacket::is_connected(&self.socket)
    }

    /// Ends it, whoever else holds this end.
    pub(crate) fn hang_up(&self) {
        seqpacket::hang_up(&self.socket);
    }
}

impl AsFd for Cord {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A doorbell, whatever it is made of.
#[derive(Debug)]
pub(crate) enum Bell {
    /// Shared with others of this user. Never read by who listens: others listen, too.
    Shared(Arc<EventFd>),
    /// One peer's alone.
    Cord(Arc<Cord>),
}

impl Bell {
    /// Rings it.
    pub(crate) fn ring(&self) {
        match self {
            Bell::Shared(bell) => bell.ring(),
            Bell::Cord(cord) => cord.ring(),
        }
    }

    /// Takes what was rung before one goes to sleep again, where it has to be taken. False: the peer is gone, and will
    /// never ring.
    pub(crate) fn settle(&self) -> bool {
        match self {
            Bell::Shared(_) => true,
            Bell::Cord(cord) => !matches!(cord.hear(), Heard::End),
        }
    }

    /// The connection, if it is one.
    pub(crate) fn cord(&self) -> Option<&Arc<Cord>> {
        match self {
            Bell::Shared(_) => None,
            Bell::Cord(cord) => Some(cord),
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Bell::Shared(bell) => bell.as_fd(),
            Bell::Cord(cord) => cord.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (Cord, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (Cord::new(ForkGuarded::new(one)), other)
    }

    #[test]
    fn rings_cross_and_are_taken_all_at_once() {
        let (cord, other) = pair();
        let other = Cord::new(ForkGuarded::new(other));
        assert_eq!(cord.hear(), Heard::Rings(0));
        other.ring();
        other.ring();
        assert_eq!((cord.hear(), cord.hear()), (Heard::Rings(2), Heard::Rings(0)));
        assert!(cord.lives());
        drop(other);
        assert!(!cord.lives());
        assert_eq!(cord.hear(), Heard::End);
        cord.ring();
    }

    #[test]
    fn who_never_reads_is_not_waited_for_and_holds_little() {
        let (cord, _other) = pair();
        for _ in 0..10_000 {
            cord.ring();
        }
        let (deaf, other) = pair();
        assert_eq!(deaf.hear(), Heard::Rings(0));
        let sent = (0..10_000).take_while(|_| scm::send(&cord, &RING, &[]).is_ok()).count();
        assert_eq!(sent, 0, "it is full, and stays so");
        drop(other);
    }

    #[test]
    fn what_is_no_ring_ends_it() {
        for bytes in [&[1, 2][..], &[], &[7]] {
            let (cord, other) = pair();
            scm::send(&other, bytes, &[]).unwrap();
            assert_eq!(cord.hear(), Heard::End, "{bytes:?}");
        }
        let (cord, other) = pair();
        let file = tempfile::tempfile().unwrap();
        scm::send(&other, &RING, &[file.as_fd()]).unwrap();
        assert_eq!(cord.hear(), Heard::End, "descriptors that nobody asked for");
    }

    #[test]
    fn a_flood_is_heard_in_portions() {
        let (cord, other) = pair();
        let sent = (0..1000).take_while(|_| scm::send(&other, &RING, &[]).is_ok()).count();
        let mut heard = 0;
        loop {
            match cord.hear() {
                Heard::Rings(0) => break,
                Heard::Rings(count) => {
                    assert!(count <= MOST);
                    heard += count;
                }
                Heard::End => panic!("the peer is there"),
            }
        }
        assert_eq!(heard, sent);
    }
}
