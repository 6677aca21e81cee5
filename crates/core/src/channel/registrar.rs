//! Where an endpoint's new connections are registered. It gives each a number and passes it on to the endpoint.
//!
//! Invariants: a number is never used again. A connection is registered once its handshake is done, and never before.
//! Both sides of the handshake call this, on the bus thread.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::connection::{Connection, PeerInfo};
use super::duplex::Duplex;
use super::fd_socket::FdSocket;
use crate::error::{Error, Result};
use crate::reactor::{Inbox, Step, Thread, Watched};

/// Reports from the bus thread.
pub(super) enum ConnectionEvent {
    /// A connection is open, and its descriptors are watched.
    Opened(Box<Connection>),
    /// A connection could not be made.
    Failed(u32, Error),
    /// The bus was closed: no connection will arrive any more.
    Closed,
}

/// The registrar of one endpoint.
pub(super) struct ConnectionRegistrar {
    inbox: Arc<Inbox<ConnectionEvent>>,
    next: AtomicU32,
}

impl ConnectionRegistrar {
    pub(super) fn new(inbox: Arc<Inbox<ConnectionEvent>>) -> Arc<ConnectionRegistrar> {
        Arc::new(ConnectionRegistrar { inbox, next: AtomicU32::new(1) })
    }

    pub(super) fn inbox(&self) -> &Inbox<ConnectionEvent> {
        &self.inbox
    }

    /// A number that no connection of this endpoint has had. Relaxed: the number carries no other data.
    pub(super) fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a connection under its number.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when its descriptors cannot be watched.
    pub(super) fn open(
        &self,
        number: u32,
        peer_info: PeerInfo,
        duplex: Duplex,
        fd_socket: FdSocket,
    ) -> Result<()> {
        let connection = Connection::new(number, peer_info, duplex, fd_socket, &self.inbox)?;
        self.inbox.put(ConnectionEvent::Opened(Box::new(connection)));
        Ok(())
    }
}

/// Tells the endpoint that the bus thread has ended.
pub(super) struct Sentinel(pub(super) Arc<ConnectionRegistrar>);

impl Watched for Sentinel {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(None)
    }

    fn failed(&mut self, _error: &Error) {
        self.0.inbox.put(ConnectionEvent::Closed);
    }
}
