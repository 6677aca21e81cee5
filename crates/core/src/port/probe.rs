//! Whether the writer of a flow lives. It answers on another thread than the reader's.
//!
//! The bus thread keeps a probe of each publisher that a subscriber is attached to: a missing record is no proof
//! that its publisher is gone. A probe alone never keeps a slot, a stream or a publisher alive.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use super::SocketDoorbell;
use crate::segment::{ForkGuarded, slots};
use crate::sys::seqpacket;

/// Tells whether a writer lives.
pub(crate) enum Probe {
    /// By the lock on the publisher's control segment. This is right for zombies, for other pid namespaces, and for
    /// an instance whose record was lost with the directory. The probe has an open file of its own: a duplicate of
    /// the reader's would keep the slot's lock long after the reader is gone.
    Lock(OwnedFd),
    /// By a guest's connection.
    Connection(Arc<SocketDoorbell>),
    /// By a stream's connection, for as long as the reader has it.
    Stream(Weak<ForkGuarded>),
}

impl Probe {
    pub(crate) fn writer_lives(&self) -> bool {
        match self {
            // A failed probe proves nothing. The next one will tell.
            Probe::Lock(fd) => slots::publisher_lives(fd).unwrap_or(true),
            Probe::Connection(socket) => socket.lives(),
            Probe::Stream(socket) => socket.upgrade().is_some_and(|socket| seqpacket::is_connected(&*socket)),
        }
    }
}
