//! Both directions of a connection: two ports back to back.
//!
//! In shared memory both are rings that the peer has mapped, too. Over a stream each side writes a ring in memory of its own; its bus
//! thread holds the one slot for the peer and forwards the bytes, as a topic's publisher does, over a socket of that direction alone
//! (`port::stream`). Made by both sides of the handshake, used by the connection. The slot is taken before anything can be written,
//! so nothing is ever written past a missing reader; once it is given back, nobody will read.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringbell_ring::{Feed, Identity, Overflow, Start};

use crate::error::{Error, Result};
use crate::port::stream::{ProxyReader, StreamReader, StreamServer, StreamSource};
use crate::port::{Doorbell, Doorbells, End, Reader, Writer, WriterState};
use crate::reactor::{Handle, Inbox};
use crate::segment::{Pair, Segments};
use crate::sys::fork::ForkGuarded;

/// A connection has one reader a ring.
const SLOTS: usize = 1;

/// One side's ends of both directions.
pub(super) struct Duplex {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    /// Over streams, what the bus thread forwards from.
    source: Option<Arc<StreamSource>>,
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
        let reader = Reader::of_pair(incoming, Arc::clone(&memory), own, peer.clone());
        Duplex { writer: Writer::of_pair(outgoing, memory, peer), reader, source: None }
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
        let (doorbells, proxies) = (Doorbells::new(SLOTS)?, Arc::default());
        let source = StreamSource::new(&segments, &doorbells, &proxies, Overflow::Block)?;
        let writer = Writer::create(segments, doorbells, proxies, identity, 0);
        let server = StreamServer::new(Arc::clone(&source), handle);
        let proxy = server.admit((pid, 0), Start::Latest)?.rationed(other_user);
        let corrupt = |fault| Error::CorruptPeer { what: format!("{fault:?}") };
        // Nothing was written yet: both streams begin at the beginning.
        let feed = Feed::new(sizes.incoming, Overflow::Block, 0, 0, Some(0)).map_err(corrupt)?;
        let stream = StreamReader::new(ForkGuarded::new(sockets.incoming), 0, sizes.incoming, feed);
        let forwarding = Forwarding { server, proxy, socket: ForkGuarded::new(sockets.outgoing) };
        let duplex = Duplex { writer, reader: Reader::Stream(Box::new(stream)), source: Some(source) };
        Ok((duplex, forwarding))
    }

    /// Has both directions wake the endpoint, under this number.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when `fs.epoll.max_user_watches` or memory ran out.
    pub(super) fn watch<A>(&self, inbox: &Inbox<A>, number: u64) -> Result<()> {
        if let Some(room) = self.writer.room() {
            inbox.watch(&**room, number)?;
        }
        self.reader.watch(inbox, number)
    }

    pub(super) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        if let Some(room) = self.writer.room() {
            inbox.forget(&**room);
        }
        self.reader.unwatch(inbox);
    }

    /// Whether the bus thread has found that the peer breaks the rules of a stream.
    pub(super) fn is_breached(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.is_breached())
    }

    /// Whether one of two streams has ended without a word, after everything that came was read.
    pub(super) fn is_severed(&self) -> bool {
        self.reader.end(WriterState::Present) == Some(End::Severed) || self.is_unread()
    }

    /// Whether what is written is forwarded to nobody: the peer has closed its end of the stream, or broken its rules.
    pub(super) fn is_unread(&self) -> bool {
        self.source.is_some() && self.writer.is_unread()
    }
}
