//! Both directions of a connection: two ports back to back.
//!
//! In shared memory both are rings that the peer has mapped, too. Over a stream each side writes a ring in memory of its own; its bus
//! thread holds the one slot for the peer and forwards the bytes, as a topic's publisher does, over a socket of that direction alone
//! (`port::stream`). Made by both sides of the handshake, used by the connection. The slot is taken before anything can be written,
//! so nothing is ever written past a missing reader; once it is given back, nobody will read.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringbell_ring::{Config, Feed, Identity, Overflow, Producer, Start};

use crate::error::{Error, Result};
use crate::port::stream::{ProxyReader, StreamReader, StreamServer, StreamSource};
use crate::port::{Doorbell, End, Reader, WriterState};
use crate::reactor::{Handle, Inbox};
use crate::segment::{Pair, PairMemory, Segments};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;

/// A connection has one reader a ring.
const SLOTS: usize = 1;

/// One side's ends of both directions.
pub(super) struct Duplex {
    pub(super) outgoing: Producer,
    pub(super) incoming: Reader,
    /// What is rung when something was written.
    peer: PeerDoorbell,
    /// Rung when there is room again. In shared memory the reader's own doorbell is.
    room: Option<Arc<EventFd>>,
    /// Dropped after them.
    _memory: Memory,
}

/// What the rings lie in.
enum Memory {
    Shared { _pair: Arc<PairMemory> },
    Local { _segments: Segments },
}

/// What is rung when something was written.
enum PeerDoorbell {
    /// The peer's. To another user it is the same as this side's own.
    Peer(Doorbell),
    /// That of this process's bus thread, which forwards what was written.
    Forwarder(Arc<StreamSource>),
}

/// What this side writes, on its way to the peer.
pub(super) struct Forwarding {
    server: StreamServer,
    proxy: ProxyReader,
    socket: ForkGuarded,
}

impl Forwarding {
    /// Forwards from now on, until either end goes.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors or watches ran out.
    pub(super) fn begin(self) -> Result<()> {
        self.server.adopt(self.socket, self.proxy)
    }
}

/// Bytes of both rings.
pub(super) struct Sizes {
    pub(super) outgoing: usize,
    pub(super) incoming: usize,
}

/// The sockets of both directions; neither is read by both the bus thread and the endpoint.
pub(super) struct Sockets {
    pub(super) outgoing: OwnedFd,
    pub(super) incoming: OwnedFd,
}

impl Duplex {
    /// Both directions in shared memory, with this side's doorbell and the peer's.
    pub(super) fn shared(pair: Pair, own: Doorbell, peer: Doorbell) -> Duplex {
        let Pair { outgoing, incoming, memory } = pair;
        let incoming = Reader::of_pair(incoming, Arc::clone(&memory), own, peer.clone());
        let peer = PeerDoorbell::Peer(peer);
        Duplex { outgoing, incoming, peer, room: None, _memory: Memory::Shared { _pair: memory } }
    }

    /// Makes the ring that this side writes, and what reads the other one. The peer is told by its process id, and by whether
    /// it is another user's.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub(super) fn streamed(
        sizes: &Sizes,
        sockets: Sockets,
        (pid, other_user): (u32, bool),
        handle: Handle,
    ) -> Result<(Duplex, Forwarding)> {
        let segments = Segments::local(sizes.outgoing, SLOTS)?;
        // Nobody recognises memory that nobody else can map: the nonce is nobody's.
        let identity =
            Identity { capacity: sizes.outgoing, max_slots: SLOTS, overflow: Overflow::Block, nonce: [0; 2] };
        let (data, control) = (segments.data().clone(), segments.control().clone());
        let outgoing = Producer::create(data.memory(), control.memory(), Config { identity, evict_after: 0 });
        let room = Arc::new(EventFd::new()?.guarded());
        let source = Arc::new(StreamSource {
            data,
            control,
            control_fd: None,
            proxies: Arc::default(),
            room: Arc::clone(&room),
            doorbells: [EventFd::new()?.guarded()].into(),
            overflow: Overflow::Block,
            breached: AtomicBool::new(false),
        });
        let server = StreamServer::new(Arc::clone(&source), handle);
        let proxy = server.admit((pid, 0), Start::Latest)?.rationed(other_user);
        let corrupt = |fault| Error::CorruptPeer { what: format!("{fault:?}") };
        // Nothing was written yet: both streams begin at the beginning.
        let feed = Feed::new(sizes.incoming, Overflow::Block, 0, 0, Some(0)).map_err(corrupt)?;
        let stream = StreamReader::new(ForkGuarded::new(sockets.incoming), 0, sizes.incoming, feed);
        let forwarding = Forwarding { server, proxy, socket: ForkGuarded::new(sockets.outgoing) };
        let duplex = Duplex {
            outgoing,
            incoming: Reader::Stream(Box::new(stream)),
            peer: PeerDoorbell::Forwarder(source),
            room: Some(room),
            _memory: Memory::Local { _segments: segments },
        };
        Ok((duplex, forwarding))
    }

    /// Has both directions wake the endpoint, under this number.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when `fs.epoll.max_user_watches` or memory ran out.
    pub(super) fn watch<A>(&self, inbox: &Inbox<A>, number: u64) -> Result<()> {
        self.room.iter().try_for_each(|room| inbox.watch(&**room, number))?;
        self.incoming.watch(inbox, number)
    }

    pub(super) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        self.room.iter().for_each(|room| inbox.forget(&**room));
        self.incoming.unwatch(inbox);
    }

    /// Something was written.
    pub(super) fn ring(&self) {
        match &self.peer {
            PeerDoorbell::Peer(doorbell) => doorbell.ring(),
            PeerDoorbell::Forwarder(source) => source.doorbells.iter().for_each(EventFd::ring),
        }
    }

    /// Whether the bus thread has found that the peer breaks the rules of a stream.
    pub(super) fn is_breached(&self) -> bool {
        matches!(&self.peer, PeerDoorbell::Forwarder(source) if source.breached.load(Ordering::Relaxed))
    }

    /// Whether one of two streams has ended without a word, after everything that came was read.
    pub(super) fn is_severed(&self) -> bool {
        self.incoming.end(WriterState::Present) == Some(End::Severed) || self.is_unread()
    }

    /// Whether what is written is forwarded to nobody: the peer has closed its end of the stream, or broken its rules.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.incoming, Reader::Stream(_)) && self.outgoing.slots().next().is_none()
    }
}
