//! A ring that is read in place: the memory, the slot in it, and the doorbells of both sides.
//!
//! The lock of a topic's slot belongs to `control_own`, an open file that only this reader has. Dropping the reader
//! first gives the slot back, then closes that file. If the process dies, the file is closed and the slot is not
//! given back. So the next owner of a slot takes it in any state. The slot of a guest or of a channel has no lock:
//! the connection is the proof of life, and is ended last. Called through `Reader`. It never touches the memory in
//! a forked child, where it is not mapped.

use std::sync::Arc;

use ringbell_ring::{Consumer, Entry, Fault, Overflow, Piece, PublisherCounters, Read, Start};

use super::{Reader, ReaderCounters, WriterView};
use crate::error::{Error, Result};
use crate::port::{Acknowledging, Doorbell, End, Mapped, Probe, WriterState};
use crate::reactor::Inbox;
use crate::record::Rung;
use crate::segment::{MappedData, PairMemory, PeerSegments, slots};
use crate::sys::generation::Home;
use crate::sys::membarrier;
use crate::sys::memfd;

/// The memory of a topic and a slot in it, as acquisition provides them.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Both segments, checked and mapped.
    pub(crate) segments: PeerSegments,
    /// The slot, locked through `segments.control_own` if that exists.
    pub(crate) slot: usize,
    /// Rung by this reader when there is room and the publisher waits for it.
    pub(crate) room: Doorbell,
    /// The slot's doorbell.
    pub(crate) doorbell: Doorbell,
}

/// A joined ring.
pub(crate) struct RingReader {
    consumer: Consumer,
    /// Rung by the writer.
    doorbell: Doorbell,
    /// Rung by this reader when the writer waits for room.
    room: Doorbell,
    acknowledging: Acknowledging,
    rings: u64,
    /// The process in which the memory is mapped. It is not mapped in a forked child.
    home: Home,
    mapped: Mapped<PeerSegments>,
}

impl Reader {
    /// Joins a topic's ring in the slot whose lock came with the memory. `name`: the hash of a durable name, or 0.
    ///
    /// # Errors
    /// As [`Consumer::join`].
    pub(crate) fn join(
        memory: Memory,
        overflow: Overflow,
        start: Start,
        name: u64,
        rung: Rung,
        acknowledging: Acknowledging,
    ) -> Result<Reader, Fault> {
        let Memory { segments, slot, room, doorbell } = memory;
        let (data, control) = (segments.data.memory(), segments.control.memory());
        let consumer = Consumer::join(data, control, slot, overflow, start, (std::process::id(), name))?;
        let consumer = consumer.with_barrier(membarrier::barrier);
        consumer.note_way(rung.code());
        if consumer.arrived() {
            room.ring();
        }
        let mapped = Mapped::Topic(segments);
        Ok(RingReader { consumer, doorbell, room, acknowledging, rings: 0, home: Home::here(), mapped }
            .into())
    }

    /// The reading end of a channel's ring, which was joined when its memory was made.
    pub(crate) fn of_pair(
        consumer: Consumer,
        memory: Arc<PairMemory>,
        doorbell: Doorbell,
        room: Doorbell,
    ) -> Reader {
        let mapped = Mapped::Pair { _memory: memory };
        let acknowledging = Acknowledging::AtOnce;
        RingReader { consumer, doorbell, room, acknowledging, rings: 0, home: Home::here(), mapped }.into()
    }
}

impl From<RingReader> for Reader {
    fn from(ring: RingReader) -> Reader {
        Reader::Ring(Box::new(ring))
    }
}

impl RingReader {
    #[inline]
    pub(super) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        let read = self.consumer.read(slab, fill, table)?;
        self.give_back();
        Ok(read)
    }

    pub(super) fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        let piece = self.consumer.read_large(target)?;
        // Each piece is given back by itself. Otherwise a message larger than the ring could never be read to its
        // end.
        if matches!(piece, Piece::Copied { .. }) {
            self.give_back();
        }
        Ok(piece)
    }

    pub(super) fn skip_large(&mut self) {
        self.consumer.skip_large();
    }

    pub(super) fn lease(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        let read = self.consumer.lease(table)?;
        // Nothing is leased, but something may have been passed over.
        if !matches!(read, Read::Messages { .. }) {
            self.give_back();
        }
        Ok(read)
    }

    pub(super) fn release(&mut self) {
        if self.acknowledging == Acknowledging::AtOnce {
            self.give_back();
        }
    }

    /// Acknowledges what was read. If acknowledging is done apart, it gives back only what will never be
    /// acknowledged.
    #[inline]
    fn give_back(&mut self) {
        let waits = match self.acknowledging {
            Acknowledging::AtOnce => self.consumer.acknowledge(),
            Acknowledging::Apart => self.consumer.give_back(),
        };
        self.ring_if(waits);
    }

    pub(super) fn acknowledge_below(&mut self, sequence: u64) -> bool {
        let flushed = self.consumer.flushed();
        let waits = self.consumer.acknowledge_below(sequence);
        self.ring_if(waits);
        self.consumer.flushed() != flushed
    }

    pub(super) fn forget(&mut self) {
        let waits = self.consumer.forget();
        self.ring_if(waits);
    }

    #[inline]
    fn ring_if(&mut self, waits: bool) {
        if waits {
            self.room.ring();
            self.rings += 1;
        }
    }

    /// Tells a topic's publisher that the reader was woken. A channel's peer does not ask, and the slot lies in memory
    /// that both write, so it is left alone.
    pub(super) fn note_wakeup(&mut self) {
        if self.mapped.segments().is_some() {
            self.consumer.note_wakeup();
        }
    }

    pub(super) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    pub(super) fn consumer_mut(&mut self) -> &mut Consumer {
        &mut self.consumer
    }

    #[inline]
    pub(super) fn pending(&self) -> bool {
        self.consumer.pending()
    }

    #[inline]
    pub(super) fn spin(&self, iterations: u32) -> bool {
        self.consumer.spin(iterations)
    }

    pub(super) fn watch<A>(&self, inbox: &Inbox<A>, number: u64) -> Result<()> {
        inbox.watch(&self.doorbell, number)
    }

    pub(super) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        inbox.forget(&self.doorbell);
    }

    pub(super) fn drain_doorbell(&self) -> bool {
        self.doorbell.drain()
    }

    pub(super) fn end(&self, writer: WriterState) -> Option<End> {
        match writer {
            _ if self.consumer.ended() => Some(End::Closed),
            WriterState::Gone if self.consumer.drained() => Some(End::Died),
            WriterState::Gone => Some(End::Unreadable),
            _ => None,
        }
    }

    pub(super) fn memory(&self) -> Option<Arc<MappedData>> {
        self.mapped.segments().map(|segments| segments.data.clone())
    }

    pub(super) fn counters(&self) -> ReaderCounters {
        ReaderCounters {
            received: self.consumer.received(),
            missed: self.consumer.missed(),
            rings: self.rings,
            unacknowledged: self.consumer.unacknowledged(),
            flushed: self.consumer.flushed(),
            redelivered: self.consumer.redelivered(),
        }
    }

    pub(super) fn view(&self) -> WriterView {
        let own = self.consumer.slot_index();
        let Some(segments) = self.mapped.segments() else {
            let (counters, slots) = (PublisherCounters::default(), Vec::new());
            return WriterView { guest: false, slot: own, counters, slots };
        };
        // A process's own lock never conflicts with itself, so the kernel is only asked about the other slots.
        let alive = |slot| {
            let held = segments.control_own.as_ref().map(|control| slots::is_held(control, slot));
            slot == own || held.is_none_or(|held| held.unwrap_or(true))
        };
        let counters = segments.data.memory().counters();
        let views = segments.control.memory();
        let slots = views.slots(counters.head).map(|view| (view, alive(view.index))).collect();
        WriterView { guest: segments.control_own.is_none(), slot: own, counters, slots }
    }

    pub(super) fn probe(&self) -> Result<Probe> {
        match (
            self.mapped.segments().and_then(|segments| segments.control_own.as_ref()),
            self.doorbell.socket(),
        ) {
            (_, Some(socket)) => Ok(Probe::Connection(socket.clone())),
            (Some(control), None) => memfd::reopen(control).map(Probe::Lock),
            (None, None) => {
                Err(Error::CorruptPeer { what: "it gave neither a lock nor a connection".into() })
            }
        }
    }
}

impl Drop for RingReader {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        if self.consumer.leave() {
            self.room.ring();
        }
        if let Some(socket) = self.doorbell.socket() {
            socket.shutdown();
        }
    }
}
