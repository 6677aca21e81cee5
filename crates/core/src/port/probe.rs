//! Whether the writer of a flow lives, for another thread than the reader's.
//!
//! The bus thread keeps a probe of each publisher that a subscriber is attached to, because a record that is gone is no proof that
//! its publisher is. Never keeps a slot, a stream or a publisher alive by itself.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::SocketDoorbell;
use crate::segment::{ForkGuarded, slots};
use crate::sys::seqpacket;

/// Tells whether a writer lives.
pub(crate) enum Probe {
    /// By the lock on its control segment: right for zombies, other pid namespaces, and for an instance whose record was lost
    /// with the directory. Through an open file of the probe's own: a mere duplicate would hold on to the slot's lock when the
    /// reader is long gone.
    Lock(OwnedFd),
    /// By a guest's connection.
    Connection(Arc<SocketDoorbell>),
    /// By a stream's connection, as long as the reader has it.
    Stream(Weak<ForkGuarded>),
}

impl Probe {
    pub(crate) fn writer_lives(&self) -> bool {
        match self {
            // A probe that fails proves nothing; the next one will tell.
            Probe::Lock(fd) => slots::publisher_lives(fd).unwrap_or(true),
            Probe::Connection(socket) => socket.lives(),
            Probe::Stream(socket) => socket.upgrade().is_some_and(|socket| seqpacket::is_connected(&*socket)),
        }
    }
}
