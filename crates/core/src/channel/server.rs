//! What a server gives to a client at the handshake: a connection of its own, in shared memory or over streams.
//!
//! Invariants: nothing is made for a client before its request was understood. No client of another user gets a
//! doorbell that could be used against the process that rings it. A connection belongs to the client once the client
//! has said ACK: it is registered then, and never before. `handshake` calls this, on the bus thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::connection::PeerInfo;
use super::duplex::{Duplex, Forwarding, Sizes, Sockets};
use super::fd_socket::FdSocket;
use super::quota::{ConnectionQuota, Permit};
use super::registrar::ConnectionRegistrar;
use crate::error::{Error, Result};
use crate::handshake::wire::{Connect, Connected, Datagram, GUEST, Refusal, SHARED_MEMORY, STREAM};
use crate::handshake::{Answer, PeerClass, Service, Then};
use crate::port::{Doorbell, SocketDoorbell};
use crate::reactor::Handle;
use crate::record::{Granted, Rung};
use crate::segment::{PairFds, PairShape, check_capacity, create_pair, words};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket::Peer;
use crate::sys::{random, seqpacket};

/// What a server has for its clients, and which other users may connect.
pub(super) struct ChannelServer {
    registrar: Arc<ConnectionRegistrar>,
    rungs: Vec<Rung>,
    capacity: usize,
    quota: Arc<ConnectionQuota>,
    granted: Option<Granted>,
    /// Handle of the bus thread, which forwards streams.
    handle: Handle,
}

impl ChannelServer {
    pub(super) fn new(
        registrar: Arc<ConnectionRegistrar>,
        rungs: Vec<Rung>,
        capacity: usize,
        max_connections: u32,
        granted: Option<Granted>,
        handle: Handle,
    ) -> ChannelServer {
        ChannelServer {
            registrar,
            rungs,
            capacity,
            quota: ConnectionQuota::new(max_connections),
            granted,
            handle,
        }
    }

    fn has(&self, rung: Rung) -> bool {
        self.rungs.contains(&rung)
    }

    fn sizes(&self, connect: Connect) -> Sizes {
        Sizes {
            outgoing: size_for(connect.server_ring, self.capacity),
            incoming: size_for(connect.client_ring, self.capacity),
        }
    }

    /// Makes both rings and the doorbells, on the terms that the client asks for. A client that does not trust this
    /// server may ask for a guest's terms.
    fn make(&self, connect: Connect, permit: Permit) -> Result<Made> {
        let Sizes { outgoing, incoming } = self.sizes(connect);
        let nonce = random::bytes128()?;
        let shape = PairShape { client_ring: incoming, server_ring: outgoing, nonce: nonce_words(nonce) };
        let (pair, PairFds { client_data, server_data, control }) = create_pair(shape)?;
        let mut fds: Vec<_> = [client_data, server_data, control].into_iter().map(ForkGuarded::new).collect();
        let mut reply = Connected {
            nonce,
            client_ring: incoming as u64,
            server_ring: outgoing as u64,
            server_bell: 0,
            client_bell: 0,
            capabilities: SHARED_MEMORY,
        };
        let guest = connect.capabilities & GUEST != 0;
        let (own_bell, peer_bell, bells);
        if guest {
            let (socket, theirs) = SocketDoorbell::pair()?;
            let socket = Arc::new(socket);
            (own_bell, peer_bell, bells) =
                (Doorbell::Socket(Arc::clone(&socket)), Doorbell::Socket(socket), Vec::new());
            fds.push(theirs);
            reply.capabilities |= GUEST;
        } else {
            let (own, peer) = (Arc::new(EventFd::new()?.shared()), Arc::new(EventFd::new()?.shared()));
            (reply.server_bell, reply.client_bell) = (own.id()?, peer.id()?);
            bells = vec![Arc::clone(&own), Arc::clone(&peer)];
            (own_bell, peer_bell) = (Doorbell::Shared(own), Doorbell::Shared(peer));
        }
        let (duplex, reply) = (Duplex::shared(pair, own_bell, peer_bell), Datagram::Connected(reply));
        Ok(Made { permit, duplex, forwarding: None, guest, fds, bells, reply })
    }

    /// Makes the ring that this side writes, and a socket for each direction.
    fn make_streams(&self, connect: Connect, other_user: bool, permit: Permit) -> Result<Made> {
        let sizes = self.sizes(connect);
        let pair =
            || seqpacket::pair().map_err(|errno| Error::os("socketpair", errno, "cannot make a stream"));
        let ((outgoing, down), (incoming, up)) = (pair()?, pair()?);
        let reply =
            Datagram::Streamed { client_ring: sizes.incoming as u64, server_ring: sizes.outgoing as u64 };
        let sockets = Sockets { outgoing, incoming };
        let (duplex, forwarding) =
            Duplex::streamed(&sizes, sockets, (connect.pid, other_user), self.handle.clone())?;
        Ok(Made {
            permit,
            duplex,
            forwarding: Some(forwarding),
            guest: other_user || connect.capabilities & GUEST != 0,
            fds: [down, up].into_iter().map(ForkGuarded::new).collect(),
            bells: Vec::new(),
            reply,
        })
    }
}

/// A connection that was made for a client and is not registered yet.
pub(super) struct Made {
    permit: Permit,
    duplex: Duplex,
    /// Over streams: the forwarding, which begins once the connection is registered.
    forwarding: Option<Forwarding>,
    /// Whether the client belongs to another user, or does not trust this server.
    guest: bool,
    /// Descriptors for the reply. This side does not keep them.
    fds: Vec<ForkGuarded>,
    /// Doorbells for the reply. This side keeps using them.
    bells: Vec<Arc<EventFd>>,
    reply: Datagram,
}

impl Service for ChannelServer {
    type Offer = Box<Made>;

    const ROLE: &'static str = "server";
    const TAKES_DESCRIPTORS: bool = true;

    fn granted(&self) -> Option<&Granted> {
        self.granted.as_ref()
    }

    fn open(&self, peer: &Peer, class: PeerClass, request: Datagram, _now: Instant) -> Answer<Box<Made>> {
        let refuse = |refusal, text: &str| Answer::Refuse(refusal, text.to_owned());
        let connect = match request {
            Datagram::Connect(connect) => connect,
            Datagram::Hello { .. } => {
                return refuse(Refusal::NothingInCommon, "this is a server, not a topic");
            }
            _ => return Answer::HangUp,
        };
        let common = |capability, rung| connect.capabilities & capability != 0 && self.has(rung);
        let shared = common(SHARED_MEMORY, Rung::Handshake);
        if !shared && !common(STREAM, Rung::Stream) {
            let text = match self.has(Rung::Stream) {
                true => "this server only has streams to offer",
                false => "this server only has shared memory to offer",
            };
            return refuse(Refusal::NothingInCommon, text);
        }
        let other = (class == PeerClass::Other).then_some(peer.uid);
        if shared && other.is_some() && connect.capabilities & GUEST == 0 {
            let text = "to other users this server offers a guest's terms alone";
            return refuse(Refusal::NothingInCommon, text);
        }
        let Some(permit) = self.quota.take(other) else {
            let text = match other {
                None => "all of this server's connections are taken; raise maxConnections",
                Some(_) => "this user has its share of the server's connections, or comes too often",
            };
            return refuse(Refusal::Busy, text);
        };
        let made = match shared {
            true => self.make(connect, permit),
            false => self.make_streams(connect, other.is_some(), permit),
        };
        match made {
            Ok(made) => Answer::Offer(Box::new(made)),
            Err(error) => refuse(Refusal::Busy, &error.to_string()),
        }
    }

    fn proceed(&self, made: Box<Made>, datagram: Datagram) -> Answer<Box<Made>> {
        if datagram == Datagram::Ack { Answer::Admit(made) } else { Answer::HangUp }
    }

    fn message<'a>(&'a self, made: &'a Box<Made>) -> (Datagram, Vec<BorrowedFd<'a>>, Then) {
        let bells = made.bells.iter().map(|bell| bell.as_fd());
        let fds = made.fds.iter().map(AsFd::as_fd).chain(bells).collect();
        (made.reply.clone(), fds, Then::Expect)
    }

    fn admit(&self, socket: ForkGuarded, peer: Peer, made: Box<Made>) {
        let Made { permit, duplex, forwarding, guest, .. } = *made;
        let peer_info = PeerInfo {
            peer,
            rung: if forwarding.is_some() { Rung::Stream } else { Rung::Handshake },
            fallbacks: Vec::new(),
            record: None,
            _permit: Some(permit),
        };
        let fd_socket = FdSocket::new(socket, !guest);
        let number = self.registrar.number();
        // If registering fails, the client sees its connection end, and finds another server or tries again. If
        // forwarding fails, the connection ends as well, because its slot is given back. The order matters: a stream
        // never ends if its ring has no connection that closes it.
        if self.registrar.open(number, peer_info, duplex, fd_socket).is_ok()
            && let Some(forwarding) = forwarding
        {
            let _ = forwarding.begin();
        }
    }
}

/// The nonce as both headers hold it: the upper 64 bits first.
pub(super) fn nonce_words(nonce: [u8; 16]) -> [u64; 2] {
    words(u128::from_be_bytes(nonce))
}

/// The size that the client wants, if it is a valid capacity and not more than the server gives. Otherwise the size
/// that the server gives.
fn size_for(wanted: u64, most: usize) -> usize {
    let wanted = usize::try_from(wanted).ok().filter(|wanted| *wanted < most);
    wanted.filter(|wanted| check_capacity(*wanted).is_ok()).unwrap_or(most)
}
