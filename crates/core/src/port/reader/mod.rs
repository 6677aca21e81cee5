//! The reading end of a port, on any rung: a ring in shared memory, or a stream of one.
//!
//! Topics and channels read through it, in the same way on every rung. The rungs differ in three things: whether a
//! look costs a system call, whether messages can be lent in place, and how the reader learns of an end. The rung
//! is matched once a batch, never once a message. A reader belongs to one thread. It waits only until the deadlines
//! that it is given, and never decides what an end means.

mod ring;

use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::{Entry, Fault, Newest, Piece, Position, PublisherCounters, Read, SlotView};

use self::ring::RingReader;
use super::stream::StreamReader;
use super::{End, Probe, WriterState};
use crate::error::Result;
use crate::reactor::Inbox;
use crate::segment::MappedData;

pub(crate) use ring::Memory;

/// The reading end of a port.
pub(crate) enum Reader {
    Ring(Box<RingReader>),
    Stream(Box<StreamReader>),
}

/// What a reader has counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReaderCounters {
    /// Messages read.
    pub(crate) received: u64,
    /// Messages missed.
    pub(crate) missed: u64,
    /// Times that it rang the writer or sent it a report.
    pub(crate) rings: u64,
    /// Messages read and not acknowledged.
    pub(crate) unacknowledged: u64,
    /// Times that messages were acknowledged apart from reading.
    pub(crate) flushed: u64,
    /// Messages read that an earlier holder of the durable name may have seen.
    pub(crate) redelivered: u64,
}

/// What a reader knows of the writer and its other readers.
pub(crate) struct WriterView {
    /// Whether this reader is the writer's guest.
    pub(crate) guest: bool,
    /// Index of this reader's slot.
    pub(crate) slot: usize,
    pub(crate) counters: PublisherCounters,
    /// All slots, and whether their readers live.
    pub(crate) slots: Vec<(SlotView, bool)>,
}

impl Reader {
    /// Copies whole messages to `slab[fill..]`; see [`ringbell_ring::Consumer::read`]. The messages are
    /// acknowledged at once, unless that is done apart.
    ///
    /// # Errors
    /// A [`Fault`], and the same one at every later call.
    #[inline]
    pub(crate) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        match self {
            Reader::Ring(ring) => ring.read(slab, fill, table),
            Reader::Stream(stream) => stream.read(slab, fill, table),
        }
    }

    /// Copies the newest message; see [`ringbell_ring::Consumer::newest`]. A stream gives the newest that has arrived.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline]
    pub(crate) fn newest(&mut self, target: &mut [u8]) -> Result<Newest, Fault> {
        match self {
            Reader::Ring(ring) => ring.consumer_mut().newest(target),
            Reader::Stream(stream) => stream.newest(target),
        }
    }

    /// As [`Consumer::newest_again`](ringbell_ring::Consumer::newest_again). A stream answers `None`.
    #[inline]
    pub(crate) fn newest_again(&mut self, target: &mut [u8]) -> Option<(usize, u64)> {
        match self {
            Reader::Ring(ring) => ring.consumer_mut().newest_again(target),
            Reader::Stream(_) => None,
        }
    }

    /// Takes the next piece of the large message that a read has found.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        match self {
            Reader::Ring(ring) => ring.read_large(target),
            Reader::Stream(stream) => stream.read_large(target),
        }
    }

    /// Drops the large message that a read has found.
    pub(crate) fn skip_large(&mut self) {
        match self {
            Reader::Ring(ring) => ring.skip_large(),
            Reader::Stream(stream) => stream.skip_large(),
        }
    }

    /// Finds whole messages in place, in [`memory`](Self::memory). A stream has none.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn lease(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        match self {
            Reader::Ring(ring) => ring.lease(table),
            Reader::Stream(_) => Ok(Read::Empty),
        }
    }

    /// Gives back what was leased. The messages are also acknowledged, unless that is done apart.
    pub(crate) fn release(&mut self) {
        if let Reader::Ring(ring) = self {
            ring.release();
        }
    }

    /// The memory that leased messages lie in.
    pub(crate) fn memory(&self) -> Option<Arc<MappedData>> {
        match self {
            Reader::Ring(ring) => ring.memory(),
            Reader::Stream(_) => None,
        }
    }

    /// Acknowledges all messages before `sequence` that were read. Returns whether that was news.
    pub(crate) fn acknowledge_below(&mut self, sequence: u64) -> bool {
        match self {
            Reader::Ring(ring) => ring.acknowledge_below(sequence),
            Reader::Stream(stream) => stream.acknowledge_below(sequence),
        }
    }

    /// Another reader of the same flow has come to this message. This reader passes over what comes before it. What
    /// lies in between was missed.
    pub(crate) fn go_on_at(&mut self, sequence: u64) {
        match self {
            Reader::Ring(ring) => ring.consumer_mut().go_on_at(sequence),
            Reader::Stream(stream) => stream.feed_mut().go_on_at(sequence),
        }
    }

    /// The messages before `sequence` were handed out before, under the same durable name. If they come again, they
    /// are marked.
    pub(crate) fn note_seen(&mut self, sequence: u64) {
        match self {
            Reader::Ring(ring) => ring.consumer_mut().note_seen(sequence),
            Reader::Stream(stream) => stream.feed_mut().note_seen(sequence),
        }
    }

    /// Leaves a durable position to the next holder of its name, or gives it up (`forget`). The position of a ring
    /// is left when the reader is dropped.
    pub(crate) fn leave(&mut self, forget: bool, deadline: Instant) {
        match self {
            Reader::Ring(ring) if forget => ring.forget(),
            Reader::Ring(_) => {}
            Reader::Stream(stream) => stream.leave(forget, deadline),
        }
    }

    /// Waits until the writer of a stream that was left has parked the position.
    pub(crate) fn wait_for_park(&mut self, deadline: Instant) {
        if let Reader::Stream(stream) = self {
            stream.wait_for_park(deadline);
        }
    }

    /// Registers what the writer rings: it wakes the reader's thread, under this number.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when `fs.epoll.max_user_watches` or memory ran out.
    pub(crate) fn watch<A>(&self, inbox: &Inbox<A>, number: u64) -> Result<()> {
        match self {
            Reader::Ring(ring) => ring.watch(inbox, number),
            Reader::Stream(stream) => stream.watch(inbox, number),
        }
    }

    /// The opposite of `watch`. Without it, the writer's copies of a doorbell would keep it watched.
    pub(crate) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        match self {
            Reader::Ring(ring) => ring.unwatch(inbox),
            Reader::Stream(stream) => inbox.forget(&**stream),
        }
    }

    /// Lets the socket of a stream wake the reader's thread also when it has room, while a report is owed.
    pub(crate) fn watch_room<A>(&mut self, inbox: &Inbox<A>, number: u64) {
        if let Reader::Stream(stream) = self {
            stream.watch_room(inbox, number);
        }
    }

    /// Whether there is something to read, or a fault to report.
    #[inline]
    pub(crate) fn pending(&self) -> bool {
        match self {
            Reader::Ring(ring) => ring.pending(),
            Reader::Stream(stream) => stream.pending(),
        }
    }

    /// Looks about `iterations` times for something to read, with pause instructions in between.
    #[inline]
    pub(crate) fn spin(&self, iterations: u32) -> bool {
        match self {
            Reader::Ring(ring) => ring.spin(iterations),
            Reader::Stream(stream) => stream.spin(iterations),
        }
    }

    /// Takes earlier rings, so that the next one wakes the reader again. False: the writer is gone and will never
    /// ring. Call it before [`arm`](Self::arm): a ring that comes after `arm` must not be taken for an earlier one.
    pub(crate) fn drain_doorbell(&self) -> bool {
        match self {
            Reader::Ring(ring) => ring.drain_doorbell(),
            Reader::Stream(_) => true,
        }
    }

    /// Announces that the reader is about to sleep. False: look again.
    pub(crate) fn arm(&mut self) -> bool {
        match self {
            Reader::Ring(ring) => ring.consumer_mut().arm(),
            Reader::Stream(stream) => stream.arm(),
        }
    }

    /// Whether a sleeper must be woken, because the bytes that would have woken it were taken from the socket but
    /// not read.
    pub(crate) fn consumed_wakeup(&mut self) -> bool {
        match self {
            Reader::Ring(_) => false,
            Reader::Stream(stream) => stream.consumed_wakeup(),
        }
    }

    /// Notes that something woke the reader's thread.
    pub(crate) fn note_wakeup(&mut self) {
        match self {
            Reader::Ring(ring) => ring.note_wakeup(),
            Reader::Stream(stream) => stream.note_wakeup(),
        }
    }

    /// How the flow ends, given what is known of its writer. `None`: something can still be read, or can still
    /// come.
    pub(crate) fn end(&self, writer: WriterState) -> Option<End> {
        match self {
            Reader::Ring(ring) => ring.end(writer),
            Reader::Stream(stream) => stream.end(writer),
        }
    }

    /// The sequence after the last message that was read as a whole, if it is known.
    pub(crate) fn delivered(&self) -> Option<u64> {
        match self {
            Reader::Ring(ring) => ring.consumer().delivered(),
            Reader::Stream(stream) => stream.feed().delivered(),
        }
    }

    /// The position that was found under the durable name. A ring that was joined without a name answers that there
    /// was none.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Reader::Ring(ring) => Some(ring.consumer().position()),
            Reader::Stream(stream) => stream.position(),
        }
    }

    /// Messages before this sequence may have been delivered to an earlier holder of the durable name.
    pub(crate) fn redelivered_below(&self) -> u64 {
        match self {
            Reader::Ring(ring) => ring.consumer().redelivered_below(),
            Reader::Stream(stream) => stream.feed().redelivered_below(),
        }
    }

    /// What was counted so far.
    pub(crate) fn counters(&self) -> ReaderCounters {
        match self {
            Reader::Ring(ring) => ring.counters(),
            Reader::Stream(stream) => {
                let feed = stream.feed();
                ReaderCounters {
                    received: feed.received(),
                    missed: feed.missed(),
                    rings: stream.reports(),
                    unacknowledged: feed.unacknowledged(),
                    flushed: feed.flushed(),
                    redelivered: feed.redelivered(),
                }
            }
        }
    }

    /// Messages missed so far.
    #[inline]
    pub(crate) fn missed(&self) -> u64 {
        match self {
            Reader::Ring(ring) => ring.consumer().missed(),
            Reader::Stream(stream) => stream.feed().missed(),
        }
    }

    /// Bytes of the ring.
    pub(crate) fn capacity(&self) -> usize {
        match self {
            Reader::Ring(ring) => ring.consumer().capacity(),
            Reader::Stream(stream) => stream.capacity(),
        }
    }

    /// Bytes that are still to be read.
    pub(crate) fn backlog(&self) -> u64 {
        match self {
            Reader::Ring(ring) => ring.consumer().backlog(),
            Reader::Stream(stream) => stream.backlog(),
        }
    }

    /// A way to learn on another thread whether the writer lives.
    ///
    /// # Errors
    /// The error of opening a descriptor again.
    pub(crate) fn probe(&self) -> Result<Probe> {
        match self {
            Reader::Ring(ring) => ring.probe(),
            Reader::Stream(stream) => Ok(Probe::Stream(stream.socket())),
        }
    }

    /// What is known of the writer. The writer of a stream is asked, and its answer is waited for until the
    /// deadline.
    pub(crate) fn view(&mut self, deadline: Instant) -> WriterView {
        match self {
            Reader::Ring(ring) => ring.view(),
            Reader::Stream(stream) => {
                stream.refresh(deadline);
                WriterView {
                    guest: stream.is_guest(),
                    slot: stream.slot(),
                    counters: stream.counters(),
                    slots: stream.slots().iter().map(|slot| (*slot, true)).collect(),
                }
            }
        }
    }
}
