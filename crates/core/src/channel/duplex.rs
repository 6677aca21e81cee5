//! Both directions of a connection: two ports back to back.
//!
//! In shared memory, both are rings that the peer maps, too. Over a stream, each side writes a ring in memory of its
//! own. There the bus thread holds the ring's one slot for the peer, and forwards the bytes over a socket for that
//! direction only, as a topic's publisher does (`port::stream`). Both sides of the handshake make a `Duplex`; the
//! connection uses it. Invariant: the slot is taken before anything can be written, so a write never runs past a
//! missing reader. After the slot is given back, nothing is read any more.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringbell_ring::{Feed, Identity, Overflow, Start};

use crate::error::Result;
use crate::port::stream::{ProxyReader, StreamReader, StreamServer, StreamSource};
use crate::port::{Doorbell, Doorbells, End, Reader, Writer, WriterState};
use crate::reactor::{Handle, Inbox};
use crate::segment::{Pair, Segments};
use crate::sys::fork::ForkGuarded;

/// A ring of a connection has one reader.
const SLOTS: usize = 1;

/// One side's ends of both directions.
pub(super) struct Duplex {
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    /// Over streams: the source from which the bus thread forwards.
    source: Option<Arc<StreamSource>>,
}

/// The forwarder's parts for what this side writes, until they are started.
pub(super) struct Forwarding {
    server: StreamServer,
    proxy: ProxyReader,
    socket: ForkGuarded,
}

impl Forwarding {
    /// Forwards from now on, until one of the two ends goes away.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors or watches ran out.
    pub(super) fn begin(self) -> Result<()> {
        self.server.adopt(self.socket, self.proxy)
    }
}

/// Sizes of both rings in bytes.
pub(super) struct Sizes {
    pub(super) outgoing: usize,
    pub(super) incoming: usize,
}

/// The sockets of both directions. The bus thread reads one of them and the endpoint reads the other, never both the
/// same one.
pub(super) struct Sockets {
    pub(super) outgoing: OwnedFd,
    pub(super) incoming: OwnedFd,
}

impl Duplex {
    /// Both directions in shared memory, with this side's doorbell and the peer's doorbell.
    pub(super) fn shared(pair: Pair, own: Doorbell, peer: Doorbell) -> Duplex {
        let Pair { outgoing, incoming, memory } = pair;
        let reader = Reader::of_pair(incoming, Arc::clone(&memory), own, peer.clone());
        Duplex { writer: Writer::of_pair(outgoing, memory, peer), reader, source: None }
    }

    /// Makes the ring that this side writes, and the reader for the other direction. The peer is described by its
    /// process id, and by whether it belongs to another user.
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
        // No peer maps this ring, so no peer compares its nonce. Any nonce will do.
        let identity =
            Identity { capacity: sizes.outgoing, max_slots: SLOTS, overflow: Overflow::Block, nonce: [0; 2] };
        let (doorbells, proxies) = (Doorbells::new(SLOTS, false)?, Arc::default());
        let source = StreamSource::new(&segments, &doorbells, &proxies, Overflow::Block)?;
        let writer = Writer::create(segments, doorbells, proxies, identity, 0);
        let server = StreamServer::new(Arc::clone(&source), handle);
        let proxy = server.admit((pid, 0), Start::Latest)?.rationed(other_user);
        // Nothing was written yet, so both streams begin at position 0.
        let feed = Feed::new(sizes.incoming, Overflow::Block, 0, 0, Some(0))?;
        let stream = StreamReader::new(ForkGuarded::new(sockets.incoming), 0, sizes.incoming, feed);
        let forwarding = Forwarding { server, proxy, socket: ForkGuarded::new(sockets.outgoing) };
        let duplex = Duplex { writer, reader: Reader::Stream(Box::new(stream)), source: Some(source) };
        Ok((duplex, forwarding))
    }

    /// Lets both directions wake the endpoint, under this number.
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

    /// Whether one of the two streams broke off, and everything that came was read.
    pub(super) fn is_severed(&self) -> bool {
        self.source.is_some()
            && (self.reader.end(WriterState::Present) == Some(End::Severed) || self.writer.is_unread())
    }

    /// Whether the forwarder has no receiver any more: the peer has closed its end of the stream, or has broken its
    /// rules.
    pub(super) fn is_unread(&self) -> bool {
        self.source.is_some() && self.writer.is_unread()
    }
}
