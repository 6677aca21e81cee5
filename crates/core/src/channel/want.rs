//! What a client wants of a server: a pair of rings in shared memory, or the same over streams.
//!
//! Invariants: nothing that came is used before it was checked. This process maps or makes no more memory than was
//! announced or asked for. It takes no doorbell from another user that other processes could use against it. The
//! endpoint is told the result exactly once, unless it gave the connection up ([`Connecting`]). `handshake` calls
//! this, on the bus thread.

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::connection::PeerInfo;
use super::duplex::{Duplex, Forwarding, Sizes, Sockets};
use super::fd_socket::FdSocket;
use super::registrar::{ConnectionEvent, ConnectionRegistrar};
use super::server::nonce_words;
use crate::error::{Error, Result};
use crate::handshake::wire::{Connect, Connected, Datagram, GUEST, SHARED_MEMORY, STREAM};
use crate::handshake::{Acquired, Attempt, Next, Verdict, Want};
use crate::port::{Doorbell, SocketDoorbell};
use crate::reactor::Handle;
use crate::record::{Record, Rung};
use crate::segment::{PairFds, PairShape, attach_pair, check_capacity};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket::{self, Peer};

/// What a client wants of a connection.
pub(super) struct Pair {
    /// Wanted sizes of the rings in bytes. 0: what the server offers.
    pub(super) client_ring: u64,
    pub(super) server_ring: u64,
    /// Asks for a guest's terms, and insists on them. A server of another user is asked for them in any case.
    pub(super) as_guest: bool,
    /// Handle of the bus thread, which forwards streams.
    pub(super) handle: Handle,
}

/// The parts of a connection.
pub(super) struct Parts {
    duplex: Duplex,
    /// Over streams: the forwarding, which begins once the connection is registered.
    forwarding: Option<Forwarding>,
}

/// A connection that is not registered yet.
pub(super) struct NewConnection {
    parts: Parts,
    peer: Peer,
    fd_socket: FdSocket,
}

impl Want for Pair {
    /// One answer brings everything.
    type Partial = Infallible;
    type Parts = Parts;
    type Port = NewConnection;

    const ROLE: &'static str = "server";
    const RUNGS: &'static [Rung] = &[Rung::Handshake, Rung::Stream];

    fn check(&self, record: &Record) -> Result<()> {
        if record.channel.is_some() {
            return Ok(());
        }
        Err(Error::Record {
            file: record.file_name(),
            reason: "it announces no server, so there is nothing to connect to".into(),
        })
    }

    fn request(&self, attempt: &Attempt) -> Datagram {
        let transport = if attempt.rung == Rung::Stream { STREAM } else { SHARED_MEMORY };
        Datagram::Connect(Connect {
            id: attempt.id,
            capabilities: transport | if self.is_guest(&attempt.record) { GUEST } else { 0 },
            pid: std::process::id(),
            client_ring: self.client_ring,
            server_ring: self.server_ring,
        })
    }

    fn on_datagram(
        &mut self,
        attempt: &Attempt,
        _partial: Option<Infallible>,
        datagram: Datagram,
        fds: Vec<OwnedFd>,
    ) -> Result<Next<Infallible, Parts>, Verdict> {
        let streamed = attempt.rung == Rung::Stream;
        match datagram {
            Datagram::Connected(connected) if !streamed => self.share(&attempt.record, &connected, fds),
            Datagram::Streamed { client_ring, server_ring } if streamed => {
                let sizes = self.sizes(&attempt.record, client_ring, server_ring)?;
                self.stream(&attempt.record, &sizes, fds)
            }
            other => Err(Verdict::unexpected(other)),
        }
        .map(Next::Confirm)
    }

    fn finish(
        &mut self,
        attempt: &Attempt,
        parts: Parts,
        socket: ForkGuarded,
    ) -> Result<NewConnection, Verdict> {
        let peer = seqpacket::peer(&socket)
            .map_err(|errno| Error::os("getsockopt", errno, "cannot see who is at the other end"))?;
        Ok(NewConnection { parts, peer, fd_socket: FdSocket::new(socket, !self.is_guest(&attempt.record)) })
    }
}

impl Pair {
    /// Whether this side asks for a guest's terms. A process, even root's, does not take the doorbells that the
    /// processes of another user share.
    fn is_guest(&self, server: &Record) -> bool {
        self.as_guest || server.is_of_other_user()
    }

    /// Checks the sizes of both rings. This process pays for what it maps or makes, so it accepts no more than was
    /// announced or asked for.
    fn sizes(&self, server: &Record, client_ring: u64, server_ring: u64) -> Result<Sizes, Verdict> {
        let announced = server.channel.as_ref().map_or(0, |channel| channel.capacity);
        let capacity = |bytes: u64, wanted: u64| {
            usize::try_from(bytes)
                .ok()
                .filter(|bytes| check_capacity(*bytes).is_ok())
                .filter(|_| bytes <= announced && (wanted == 0 || wanted > announced || bytes <= wanted))
                .ok_or_else(|| Verdict::corrupt("it offers a ring of a size that cannot be"))
        };
        Ok(Sizes {
            outgoing: capacity(client_ring, self.client_ring)?,
            incoming: capacity(server_ring, self.server_ring)?,
        })
    }

    /// The connection is in shared memory.
    fn share(&self, server: &Record, connected: &Connected, mut fds: Vec<OwnedFd>) -> Result<Parts, Verdict> {
        let as_guest = self.is_guest(server);
        if (connected.capabilities & GUEST != 0) != as_guest {
            return Err(Verdict::corrupt("it answers on other terms than those that it was asked for"));
        }
        let bells = fds.split_off(fds.len().min(3));
        let Ok([client_data, server_data, control]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(Verdict::corrupt("its rings came without their three descriptors"));
        };
        let Sizes { outgoing, incoming } =
            self.sizes(server, connected.client_ring, connected.server_ring)?;
        let nonce = nonce_words(connected.nonce);
        let shape = PairShape { client_ring: outgoing, server_ring: incoming, nonce };
        let fds = PairFds { client_data, server_data, control };
        let pair = attach_pair(shape, &fds).map_err(Verdict::of)?;
        let (own_bell, peer_bell) = bells_of(connected, as_guest, bells)?;
        Ok(Parts { duplex: Duplex::shared(pair, own_bell, peer_bell), forwarding: None })
    }

    /// The connection is over streams.
    fn stream(&self, server: &Record, sizes: &Sizes, fds: Vec<OwnedFd>) -> Result<Parts, Verdict> {
        let Ok([incoming, outgoing]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(Verdict::corrupt("its streams came without their two descriptors"));
        };
        if !seqpacket::is_one(&incoming) || !seqpacket::is_one(&outgoing) {
            return Err(Verdict::corrupt("its streams are not SOCK_SEQPACKET sockets"));
        }
        let sockets = Sockets { outgoing, incoming };
        let peer = (server.pid, server.is_of_other_user());
        let (duplex, forwarding) = Duplex::streamed(sizes, sockets, peer, self.handle.clone())?;
        Ok(Parts { duplex, forwarding: Some(forwarding) })
    }
}

/// The doorbells that came: first this side's own, then the server's.
fn bells_of(
    connected: &Connected,
    as_guest: bool,
    fds: Vec<OwnedFd>,
) -> Result<(Doorbell, Doorbell), Verdict> {
    if as_guest {
        let Ok([end]) = <[OwnedFd; 1]>::try_from(fds) else {
            return Err(Verdict::corrupt("its rings came without the doorbell of both sides"));
        };
        let socket = Arc::new(SocketDoorbell::from_peer(end)?);
        return Ok((Doorbell::Socket(Arc::clone(&socket)), Doorbell::Socket(socket)));
    }
    let Ok([server_bell, client_bell]) = <[OwnedFd; 2]>::try_from(fds) else {
        return Err(Verdict::corrupt("its rings came without their two doorbells"));
    };
    let own_bell = EventFd::from_peer(client_bell, connected.client_bell)?.guarded();
    let peer_bell = EventFd::from_peer(server_bell, connected.server_bell)?;
    Ok((Doorbell::Shared(Arc::new(own_bell)), Doorbell::Shared(Arc::new(peer_bell))))
}

/// A connection number whose connection is being made. If it is dropped before the result was reported, it reports
/// that the bus has closed.
pub(super) struct Connecting {
    registrar: Arc<ConnectionRegistrar>,
    number: u32,
    reported: bool,
}

impl Connecting {
    pub(super) fn new(registrar: Arc<ConnectionRegistrar>, number: u32) -> Connecting {
        Connecting { registrar, number, reported: false }
    }

    /// Tells the endpoint the result.
    pub(super) fn done(mut self, result: Result<Acquired<NewConnection>>) {
        let opened = result.and_then(|Acquired { record, port, rung, fallbacks }| {
            let NewConnection { parts: Parts { duplex, forwarding }, peer, fd_socket } = port;
            let peer_info = PeerInfo { peer, rung, fallbacks, record: Some(record), _permit: None };
            self.registrar.open(self.number, peer_info, duplex, fd_socket)?;
            if let Some(forwarding) = forwarding {
                // If this fails, the connection ends, because the forwarding gives its slot back. The order matters:
                // a stream never ends if its ring has no connection that closes it.
                let _ = forwarding.begin();
            }
            Ok(())
        });
        self.reported = true;
        if let Err(error) = opened {
            self.registrar.inbox().put(ConnectionEvent::Failed(self.number, error));
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if !self.reported {
            let closed = Error::Closed { what: "bus" };
            self.registrar.inbox().put(ConnectionEvent::Failed(self.number, closed));
        }
    }
}
