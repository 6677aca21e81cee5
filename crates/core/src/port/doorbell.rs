//! Doorbells of both kinds: the eventfd that processes of one user share, and the socket to a process of another
//! user.
//!
//! A process that holds a shared eventfd can turn it against the other holders: it can read their rings, ring
//! without end, or try to block the ringer (`sys/eventfd.rs` says what is done about that). So an eventfd is only
//! for processes of one's own user. The doorbell of another user is a socket, on which each side sends bytes. A
//! topic's guest uses the connection of its handshake. A channel's connection uses a socket pair of its own: data
//! that is not taken from the connection would block the rings behind it. The kernel closes the socket when either
//! holder dies, so it is also the proof of life. Called by `Writer`, `Reader` and `guests`. Ringing never waits and
//! never reports an error: if a peer does not read, the byte is not sent, and if it cannot be sent, the connection ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket;

/// The byte that is sent to ring.
const RING: [u8; 1] = [1];
/// How often a ring is tried when the kernel has no memory.
const RING_TRIES: u32 = 4;
/// The most bytes that are taken at once. A peer that sends without end then does not hold up this side.
const MOST: usize = 64;

/// A socket that is a doorbell and a proof of life, in both directions.
#[derive(Debug)]
pub(crate) struct SocketDoorbell {
    /// It is not in a forked child, which would keep the connection alive.
    socket: ForkGuarded,
}

/// What was taken from a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainedRings {
    /// This number of rings, perhaps none. There may be more.
    Rings(usize),
    /// The connection has ended, or something came that is not a ring. Nothing after it counts.
    End,
}

impl SocketDoorbell {
    /// Takes over a connection whose handshake is done.
    pub(crate) fn new(socket: ForkGuarded) -> SocketDoorbell {
        seqpacket::keep_small(&socket);
        SocketDoorbell { socket }
    }

    /// Makes a socket pair: this end, and the end for the peer.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn pair() -> Result<(SocketDoorbell, ForkGuarded)> {
        let (ours, theirs) =
            seqpacket::pair().map_err(|errno| Error::os("socketpair", errno, "cannot make a doorbell"))?;
        Ok((SocketDoorbell::new(ForkGuarded::new(ours)), ForkGuarded::new(theirs)))
    }

    /// Takes over the end that a peer gave, after a check that it is a socket of the right kind.
    ///
    /// # Errors
    /// `ERR_RINGBELL_CORRUPT_PEER` when it is something else. The descriptor is closed then.
    pub(crate) fn from_peer(fd: OwnedFd) -> Result<SocketDoorbell> {
        match seqpacket::is_one(&fd) {
            true => Ok(SocketDoorbell::new(ForkGuarded::new(fd))),
            false => Err(Error::CorruptPeer { what: "the doorbell is not a SOCK_SEQPACKET socket".into() }),
        }
    }

    /// Rings. A peer that has not read earlier rings does not need another one. If the kernel has no memory for the ring,
    /// the peer would sleep for ever. So the connection ends then, which wakes the peer and tells both sides.
    pub(crate) fn ring(&self) {
        let no_memory = |errno| matches!(errno, Errno::ENOBUFS | Errno::ENOMEM);
        let lost = (0..RING_TRIES).all(|_| scm::send(&self.socket, &RING, &[]).is_err_and(no_memory));
        if lost {
            self.shutdown();
        }
    }

    /// Takes the rings that have come, without waiting.
    pub(crate) fn drain(&self) -> DrainedRings {
        for count in 0..MOST {
            let mut byte = [0; RING.len()];
            match scm::receive_plain(&self.socket, &mut byte) {
                Ok(1) if byte == RING => {}
                Err(ReceiveError::Os(Errno::EAGAIN)) => return DrainedRings::Rings(count),
                _ => return DrainedRings::End,
            }
        }
        DrainedRings::Rings(MOST)
    }

    /// Whether the peer still holds its end.
    pub(crate) fn lives(&self) -> bool {
        seqpacket::is_connected(&self.socket)
    }

    /// Ends the connection, also for other holders of this end.
    pub(crate) fn shutdown(&self) {
        seqpacket::hang_up(&self.socket);
    }
}

impl AsFd for SocketDoorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A doorbell of either kind.
#[derive(Clone, Debug)]
pub(crate) enum Doorbell {
    /// An eventfd that processes of this user share. All of them listen on it, so a listener never reads it.
    Shared(Arc<EventFd>),
    /// The socket to one peer.
    Socket(Arc<SocketDoorbell>),
}

impl Doorbell {
    /// Rings it.
    pub(crate) fn ring(&self) {
        match self {
            Doorbell::Shared(bell) => bell.ring(),
            Doorbell::Socket(socket) => socket.ring(),
        }
    }

    /// Takes earlier rings before the caller goes to sleep, if they have to be taken. False: the peer is gone and
    /// will never ring.
    pub(crate) fn drain(&self) -> bool {
        match self {
            Doorbell::Shared(_) => true,
            Doorbell::Socket(socket) => !matches!(socket.drain(), DrainedRings::End),
        }
    }

    /// The socket, if it is one.
    pub(crate) fn socket(&self) -> Option<&Arc<SocketDoorbell>> {
        match self {
            Doorbell::Shared(_) => None,
            Doorbell::Socket(socket) => Some(socket),
        }
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Doorbell::Shared(bell) => bell.as_fd(),
            Doorbell::Socket(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (SocketDoorbell, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        (SocketDoorbell::new(ForkGuarded::new(one)), other)
    }

    #[test]
    fn rings_cross_and_are_taken_all_at_once() {
        let (socket, other) = pair();
        let other = SocketDoorbell::new(ForkGuarded::new(other));
        assert_eq!(socket.drain(), DrainedRings::Rings(0));
        other.ring();
        other.ring();
        assert_eq!((socket.drain(), socket.drain()), (DrainedRings::Rings(2), DrainedRings::Rings(0)));
        assert!(socket.lives());
        drop(other);
        assert!(!socket.lives());
        assert_eq!(socket.drain(), DrainedRings::End);
        socket.ring();
    }

    #[test]
    fn an_unread_doorbell_does_not_block_and_queues_little() {
        let (socket, _other) = pair();
        for _ in 0..10_000 {
            socket.ring();
        }
        let (deaf, other) = pair();
        assert_eq!(deaf.drain(), DrainedRings::Rings(0));
        let sent = (0..10_000).take_while(|_| scm::send(&socket, &RING, &[]).is_ok()).count();
        assert_eq!(sent, 0, "it is full, and stays so");
        drop(other);
    }

    #[test]
    fn an_invalid_ring_ends_the_doorbell() {
        for bytes in [&[1, 2][..], &[], &[7]] {
            let (socket, other) = pair();
            scm::send(&other, bytes, &[]).unwrap();
            assert_eq!(socket.drain(), DrainedRings::End, "{bytes:?}");
        }
        let (socket, other) = pair();
        let file = tempfile::tempfile().unwrap();
        scm::send(&other, &RING, &[file.as_fd()]).unwrap();
        assert_eq!(socket.drain(), DrainedRings::End, "descriptors that were not asked for");
    }

    #[test]
    fn a_flood_is_heard_in_portions() {
        let (socket, other) = pair();
        let sent = (0..1000).take_while(|_| scm::send(&other, &RING, &[]).is_ok()).count();
        let mut heard = 0;
        loop {
            match socket.drain() {
                DrainedRings::Rings(0) => break,
                DrainedRings::Rings(count) => {
                    assert!(count <= MOST);
                    heard += count;
                }
                DrainedRings::End => panic!("the peer is there"),
            }
        }
        assert_eq!(heard, sent);
    }
}
