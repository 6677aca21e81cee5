//! Both directions of a connection, whatever they are made of: the ring that this side writes, and what it reads.
//!
//! In shared memory both are rings that the peer has mapped, too. Over a stream each side writes a ring in memory of its own;
//! its bus thread holds the one slot in the peer's stead and forwards the bytes, as a topic's publisher does, over a socket
//! of that direction alone (`acquire::stream`), and the peer walks them as they come. Invariant: the slot is taken before
//! anything can be written, so nothing is ever written past a missing reader; once it is given back, nobody will read.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringbell_ring::{Config, Consumer, Entry, Fault, Feed, Identity, Overflow, Piece, Producer, Read, Start};

use crate::acquire::{Link as Stream, Seat, Station, Tap, spin_socket};
use crate::error::{Error, Result};
use crate::reactor::{Handle, Inbox};
use crate::segment::{self, Segments};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;

/// A connection has one reader a ring.
const SLOTS: usize = 1;

/// One side's ends of both directions.
pub(super) struct Ends {
    /// The ring that this side writes.
    pub(super) outgoing: Producer,
    /// What it reads.
    pub(super) incoming: Reader,
    /// Dropped after them.
    _memory: Memory,
}

/// What the rings lie in.
enum Memory {
    Shared { _pair: segment::PairMemory },
    Local { _segments: Segments },
}

/// What a connection is read through.
pub(super) enum Reader {
    Ring(Box<Consumer>),
    Stream { link: Box<Stream>, capacity: usize, watched_for_room: bool },
}

/// What this side writes, on its way to the peer.
pub(super) struct Flow {
    station: Station,
    seat: Seat,
    socket: ForkGuarded,
}

impl Flow {
    /// Forwards from now on, until either end goes.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors or watches ran out.
    pub(super) fn begin(self) -> Result<()> {
        self.station.adopt(self.socket, self.seat)
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

/// A connection over streams in the making.
pub(super) struct Streamed {
    pub(super) ends: Ends,
    pub(super) flow: Flow,
    /// Rung when there is room again.
    pub(super) room: Arc<EventFd>,
    /// Whose doorbell has what was written be forwarded.
    pub(super) tap: Arc<Tap>,
}

impl Ends {
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
    ) -> Result<Streamed> {
        let segments = Segments::local(sizes.outgoing, SLOTS)?;
        // Nobody recognises memory that nobody else can map: the nonce is nobody's.
        let identity =
            Identity { capacity: sizes.outgoing, max_slots: SLOTS, overflow: Overflow::Block, nonce: [0; 2] };
        let (data, control) = (segments.data().clone(), segments.control().clone());
        let outgoing = Producer::create(data.memory(), control.memory(), Config { identity, evict_after: 0 });
        let room = Arc::new(EventFd::new()?.guarded());
        let tap = Arc::new(Tap {
            data,
            control,
            control_fd: None,
            proxies: Arc::default(),
            room: Arc::clone(&room),
            doorbells: [EventFd::new()?.guarded()].into(),
            overflow: Overflow::Block,
            breached: AtomicBool::new(false),
        });
        let station = Station::new(Arc::clone(&tap), handle);
        let seat = station.admit((pid, 0), Start::Latest)?.rationed(other_user);
        let corrupt = |fault| Error::CorruptPeer { what: format!("{fault:?}") };
        // Nothing was written yet: both streams begin at the beginning.
        let feed = Feed::new(sizes.incoming, Overflow::Block, 0, 0, Some(0)).map_err(corrupt)?;
        let link = Stream::new(ForkGuarded::new(sockets.incoming), 0, sizes.incoming, feed);
        let incoming =
            Reader::Stream { link: Box::new(link), capacity: sizes.incoming, watched_for_room: false };
        let flow = Flow { station, seat, socket: ForkGuarded::new(sockets.outgoing) };
        let ends = Ends { outgoing, incoming, _memory: Memory::Local { _segments: segments } };
        Ok(Streamed { ends, flow, room, tap })
    }

    /// Whether one of two streams has ended without a word, after everything that came was read.
    pub(super) fn broken(&self) -> bool {
        self.incoming.severed() || self.unread()
    }

    /// Whether what is written is forwarded to nobody: the peer has closed its end of the stream, or broken its rules.
    pub(super) fn unread(&self) -> bool {
        matches!(self.incoming, Reader::Stream { .. }) && self.outgoing.slots().next().is_none()
    }
}

impl From<segment::Pair> for Ends {
    fn from(pair: segment::Pair) -> Ends {
        let segment::Pair { outgoing, incoming, memory } = pair;
        Ends {
            outgoing,
            incoming: Reader::Ring(Box::new(incoming)),
            _memory: Memory::Shared { _pair: memory },
        }
    }
}

impl Reader {
    /// Has what comes over a stream wake the endpoint; in shared memory a doorbell does.
    pub(super) fn watch<A>(&self, inbox: &Inbox<A>, number: u64) -> Result<()> {
        match self {
            Reader::Ring(_) => Ok(()),
            Reader::Stream { link, .. } => inbox.watch_socket(&**link, false, number),
        }
    }

    pub(super) fn forget<A>(&self, inbox: &Inbox<A>) {
        if let Reader::Stream { link, .. } = self {
            inbox.forget(&**link);
        }
    }

    #[inline]
    pub(super) fn read(
        &mut self,
        slab: &mut [u8],
        fill: usize,
        table: &mut [Entry],
    ) -> std::result::Result<Read, Fault> {
        match self {
            Reader::Ring(ring) => ring.read(slab, fill, table),
            Reader::Stream { link, .. } => link.read(slab, fill, table),
        }
    }

    pub(super) fn read_large(&mut self, target: &mut [u8]) -> std::result::Result<Piece, Fault> {
        match self {
            Reader::Ring(ring) => ring.read_large(target),
            Reader::Stream { link, .. } => link.read_large(target),
        }
    }

    pub(super) fn skip_large(&mut self) {
        match self {
            Reader::Ring(ring) => ring.skip_large(),
            Reader::Stream { link, .. } => link.skip_large(),
        }
    }

    /// What was read need not be kept. True: the peer waits for room, ring it. Over a stream it is reported with the reading.
    #[inline]
    pub(super) fn acknowledge(&mut self) -> bool {
        match self {
            Reader::Ring(ring) => ring.acknowledge(),
            Reader::Stream { .. } => false,
        }
    }

    #[inline]
    pub(super) fn pending(&self) -> bool {
        match self {
            Reader::Ring(ring) => ring.pending(),
            // Cut off, there is nothing to read, and what became of the peer is told by its socket.
            Reader::Stream { link, .. } => !link.severed() && link.pending(),
        }
    }

    #[inline]
    pub(super) fn spin(&self, turns: u32) -> bool {
        match self {
            Reader::Ring(ring) => ring.spin(turns),
            Reader::Stream { .. } => spin_socket(turns, || self.pending()),
        }
    }

    /// Announces that nobody looks any more; `number` wakes. False: there is something to read.
    pub(super) fn arm<A>(&mut self, inbox: &Inbox<A>, number: u64) -> bool {
        match self {
            Reader::Ring(ring) => ring.arm(),
            Reader::Stream { link, watched_for_room, .. } => {
                let quiet = link.arm();
                if link.owes() != *watched_for_room {
                    *watched_for_room = link.owes();
                    // Cannot fail for one that is watched.
                    let _ = inbox.watch_socket(&**link, *watched_for_room, number);
                }
                quiet
            }
        }
    }

    /// What wakes has done so.
    pub(super) fn note_wakeup(&mut self) {
        if let Reader::Stream { link, .. } = self {
            link.note_wakeup();
        }
    }

    /// The peer has closed, and everything was read.
    pub(super) fn ended(&self) -> bool {
        match self {
            Reader::Ring(ring) => ring.ended(),
            Reader::Stream { link, .. } => link.closed(),
        }
    }

    /// Whether a stream ended without a word.
    pub(super) fn severed(&self) -> bool {
        match self {
            Reader::Ring(_) => false,
            Reader::Stream { link, .. } => link.severed(),
        }
    }

    /// Whether everything was read, of a peer that writes nothing any more.
    pub(super) fn drained(&self) -> bool {
        match self {
            Reader::Ring(ring) => ring.drained(),
            Reader::Stream { link, .. } => link.severed() || link.closed(),
        }
    }

    /// Whether it will never be drained, of a peer that writes nothing any more: what lies there cannot be read. What is
    /// not whole of a stream never was sent.
    pub(super) fn stuck(&self) -> bool {
        matches!(self, Reader::Ring(_)) && !self.drained()
    }

    /// Tells the peer that nobody reads any more. True: it waits for room, ring it. A stream's socket says it by its end.
    pub(super) fn leave(&mut self) -> bool {
        match self {
            Reader::Ring(ring) => ring.leave(),
            Reader::Stream { .. } => false,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        match self {
            Reader::Ring(ring) => ring.capacity(),
            Reader::Stream { capacity, .. } => *capacity,
        }
    }

    pub(super) fn received(&self) -> u64 {
        match self {
            Reader::Ring(ring) => ring.received(),
            Reader::Stream { link, .. } => link.received(),
        }
    }

    pub(super) fn backlog(&self) -> u64 {
        match self {
            Reader::Ring(ring) => ring.backlog(),
            Reader::Stream { link, .. } => link.backlog(),
        }
    }
}
