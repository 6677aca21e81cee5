//! One publisher that a subscriber is attached to, by its ring or by a stream of it.
//!
//! Everything above asks in the same way and hears the same: what differs is whether a look costs a system call, whether
//! what is read can be lent in place, and how an end is learnt. A ring ends when its publisher has closed it or is
//! dead; a stream says that it is closed, or is cut off, and then the bus thread finds out what became of the publisher.

mod ring;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Instant;

use ringbell_ring::{Entry, Fault, Piece, Position, Read, Start};

use self::ring::Ring;
use super::acks::AckMode;
use super::options::SubscriberOptions;
use super::stats::{AckStats, SlotStats, SourceStats};
use crate::acquire::{Attachment, Cord, Link, Way, spin_socket};
use crate::error::{Error, Result};
use crate::reactor::Inbox;
use crate::record::{Fallback, Record, Rung, TopicRecord};
use crate::segment::{ForkGuarded, MappedData, slots};
use crate::sys::seqpacket;

/// A publisher that was acquired and joined, on its way from the bus thread to the subscriber.
pub(super) struct Joined {
    pub(super) record: Arc<Record>,
    pub(super) rung: Rung,
    pub(super) fallbacks: Vec<Fallback>,
    reader: Reader,
    ack: AckMode,
    durable: bool,
}

enum Reader {
    Ring(Box<Ring>),
    Stream(Box<Link>),
}

impl Joined {
    /// Joins the ring in the slot that the attachment holds, or takes the stream as it is. `resume`: sequence of the first message
    /// that a stream of the same publisher, lost before, had not brought.
    pub(super) fn join(
        attachment: Attachment,
        options: &SubscriberOptions,
        start: Start,
        resume: Option<u64>,
    ) -> Result<Self> {
        let Attachment { record, port: way, rung, fallbacks } = attachment;
        let durable = options.durable_name()?;
        let mut reader = match way {
            Way::Memory(memory) => {
                Reader::Ring(Box::new(Ring::join(memory, &record, rung, start, durable.as_ref())?))
            }
            Way::Stream(mut link) => {
                match options.ack {
                    AckMode::Immediate => link.acknowledge_at_once(),
                    AckMode::Batch | AckMode::Deferred => link.acknowledge_apart(),
                }
                Reader::Stream(link)
            }
        };
        if let Some(sequence) = resume {
            // What nobody has acknowledged under a durable name comes again, whoever has it.
            let again = durable.is_some() && options.ack != AckMode::Immediate;
            match &mut reader {
                Reader::Ring(ring) if again => ring.consumer.note_seen(sequence),
                Reader::Stream(link) if again => link.note_seen(sequence),
                Reader::Ring(ring) => ring.consumer.go_on_at(sequence),
                Reader::Stream(link) => link.go_on_at(sequence),
            }
        }
        let (ack, durable) = (options.ack, durable.is_some());
        Ok(Self { record, rung, fallbacks, reader, ack, durable })
    }

    /// What there was under the durable name, if there is one.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.reader {
            Reader::Ring(ring) => self.durable.then(|| ring.consumer.position()),
            Reader::Stream(link) => link.position(),
        }
    }

    /// Messages before this sequence may have been delivered to an earlier holder of the name.
    pub(super) fn redelivered_below(&self) -> u64 {
        match &self.reader {
            Reader::Ring(ring) => ring.consumer.redelivered_below(),
            Reader::Stream(link) => link.redelivered_below(),
        }
    }

    /// A way to learn on another thread whether the publisher lives.
    pub(super) fn probe(&self) -> Result<Probe> {
        match &self.reader {
            Reader::Ring(ring) => ring.probe(),
            Reader::Stream(link) => Ok(Probe::Socket(link.socket())),
        }
    }
}

/// Number under which every source's doorbell is watched: which one rang does not matter.
const DOORBELL: u64 = 1;

impl Joined {
    /// Has what the publisher rings wake the subscriber.
    pub(super) fn watch<A>(&self, inbox: &Inbox<A>) -> Result<()> {
        match &self.reader {
            Reader::Ring(ring) => inbox.watch(ring.doorbell.as_fd(), DOORBELL),
            Reader::Stream(link) => inbox.watch_socket(link, false, DOORBELL),
        }
    }

    /// The publisher's copies of a doorbell would keep it watched.
    pub(super) fn forget<A>(&self, inbox: &Inbox<A>) {
        match &self.reader {
            Reader::Ring(ring) => inbox.forget(ring.doorbell.as_fd()),
            Reader::Stream(link) => inbox.forget(link),
        }
    }
}

/// Tells whether a publisher lives.
pub(super) enum Probe {
    /// By the lock on its control segment: right for zombies, other pid namespaces, and for an instance whose record was lost
    /// with the directory. Through an open file of the probe's own: a mere duplicate would hold on to the slot's lock when the
    /// source is long gone.
    Lock(OwnedFd),
    /// By a guest's connection.
    Cord(Arc<Cord>),
    /// By a stream's connection, as long as the subscriber has it.
    Socket(Weak<ForkGuarded>),
}

impl Probe {
    pub(super) fn publisher_lives(&self) -> bool {
        match self {
            // A probe that fails proves nothing; the next one will tell.
            Probe::Lock(fd) => slots::publisher_lives(fd).unwrap_or(true),
            Probe::Cord(cord) => cord.lives(),
            Probe::Socket(socket) => socket.upgrade().is_some_and(|socket| seqpacket::is_connected(&*socket)),
        }
    }
}

fn topic_of(record: &Record) -> Result<&TopicRecord> {
    record.topic.as_ref().ok_or_else(|| Error::Record {
        file: record.file_name(),
        reason: "it announces a topic without saying where its segments are".into(),
    })
}

/// The error that a broken protocol is reported with.
pub(super) fn fault_error(fault: Fault, service: &str) -> Error {
    match fault {
        Fault::Evicted => Error::Evicted { service: service.to_owned() },
        Fault::Expelled => {
            Error::Refused { reason: "the publisher took this subscriber's cursor for invalid".into() }
        }
        Fault::Corrupt(what) => Error::CorruptPeer { what: what.into() },
        _ => Error::CorruptPeer { what: format!("{fault:?}") },
    }
}

/// An attached publisher.
pub(super) struct Source {
    joined: Box<Joined>,
    pub(super) number: u32,
    /// Its process has died or closed: what is committed is still read, then it ends.
    pub(super) ending: bool,
    /// The bus thread was asked what became of the publisher of a stream that was cut off.
    pub(super) asked: bool,
    /// It lives: the stream alone was lost.
    pub(super) lost: bool,
    /// Its socket is watched for room.
    watched_for_room: bool,
    /// What there is of a large message.
    pub(super) gathered: Vec<u8>,
    reported_missed: u64,
}

impl Source {
    pub(super) fn new(joined: Box<Joined>, number: u32) -> Self {
        Self {
            joined,
            number,
            ending: false,
            asked: false,
            lost: false,
            watched_for_room: false,
            gathered: Vec::new(),
            reported_missed: 0,
        }
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.joined.record
    }

    #[inline]
    pub(super) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        let read = match &mut self.joined.reader {
            Reader::Ring(ring) => {
                let read = ring.consumer.read(slab, fill, table)?;
                if self.joined.ack == AckMode::Immediate {
                    ring.acknowledge();
                } else {
                    // Of what was passed over.
                    ring.give_back();
                }
                read
            }
            Reader::Stream(link) => link.read(slab, fill, table)?,
        };
        self.forget_gathered(read);
        Ok(read)
    }

    /// Messages come after a large one, or in its place.
    #[inline]
    fn forget_gathered(&mut self, read: Read) {
        if matches!(read, Read::Messages { .. }) && !self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }

    /// Takes what comes next of the large message that a read has found.
    pub(super) fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        match &mut self.joined.reader {
            Reader::Ring(ring) => ring.consumer.read_large(target),
            Reader::Stream(link) => link.read_large(target),
        }
    }

    /// Drops the large message that a read has found.
    pub(super) fn skip_large(&mut self) {
        match &mut self.joined.reader {
            Reader::Ring(ring) => ring.consumer.skip_large(),
            Reader::Stream(link) => link.skip_large(),
        }
    }

    /// Only where [`not_leasable`](Self::not_leasable) has no objection.
    pub(super) fn lease(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        let read = match &mut self.joined.reader {
            Reader::Ring(ring) => {
                let read = ring.consumer.lease(table)?;
                // Nothing is leased; something may have been passed over.
                if !matches!(read, Read::Messages { .. }) {
                    match self.joined.ack {
                        AckMode::Immediate => ring.acknowledge(),
                        _ => ring.give_back(),
                    }
                }
                read
            }
            Reader::Stream(_) => Read::Empty,
        };
        self.forget_gathered(read);
        Ok(read)
    }

    /// Pieces of a large message were read. What came before them may have to be acknowledged first. A stream sees to it itself.
    pub(super) fn give_back(&mut self) {
        if let Reader::Ring(ring) = &mut self.joined.reader {
            if self.joined.ack == AckMode::Immediate {
                ring.acknowledge();
            } else {
                ring.give_back();
            }
        }
    }

    /// A leased batch was given back. That it is done is said apart, unless every read says so.
    pub(super) fn release(&mut self) {
        if let Reader::Ring(ring) = &mut self.joined.reader
            && self.joined.ack == AckMode::Immediate
        {
            ring.acknowledge();
        }
    }

    /// Publishes that all messages up to this one are done, and rings the publisher if it waits for room. Says whether that
    /// was news; the error has the last sequence that was read.
    pub(super) fn acknowledge_through(&mut self, sequence: u64) -> Result<bool, Option<u64>> {
        let delivered = match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.delivered(),
            Reader::Stream(link) => link.delivered(),
        };
        let delivered = delivered.unwrap_or(0);
        if sequence >= delivered {
            return Err(delivered.checked_sub(1));
        }
        match &mut self.joined.reader {
            Reader::Ring(ring) => {
                let flushed = ring.consumer.flushed();
                let bell = ring.consumer.acknowledge_below(sequence + 1);
                ring.ring_if(bell);
                Ok(ring.consumer.flushed() != flushed)
            }
            Reader::Stream(link) => Ok(link.acknowledge_below(sequence + 1)),
        }
    }

    /// Gives the slot back with the position in it, instead of leaving it to the next holder of the name.
    pub(super) fn forget(&mut self, deadline: Instant) {
        match &mut self.joined.reader {
            Reader::Ring(ring) => {
                let bell = ring.consumer.forget();
                ring.ring_if(bell);
            }
            Reader::Stream(link) => link.leave(true, deadline),
        }
    }

    /// Leaves the position of a stream to the next holder of the name, in order: a ring's is left by dropping it.
    pub(super) fn leave(&mut self, deadline: Instant) {
        if let Reader::Stream(link) = &mut self.joined.reader {
            link.leave(false, deadline);
        }
    }

    /// Waits until a publisher that was left has put that down.
    pub(super) fn see_off(&mut self, deadline: Instant) {
        if let Reader::Stream(link) = &mut self.joined.reader {
            link.see_off(deadline);
        }
    }

    pub(super) fn acks(&self) -> AckStats {
        let tracked = self.joined.ack != AckMode::Immediate || self.joined.durable;
        match &self.joined.reader {
            Reader::Ring(ring) => AckStats {
                pending: if tracked { ring.consumer.unacknowledged() } else { 0 },
                flushed: ring.consumer.flushed(),
                redelivered: ring.consumer.redelivered(),
            },
            Reader::Stream(link) => AckStats {
                pending: if tracked { link.unacknowledged() } else { 0 },
                flushed: link.flushed(),
                redelivered: link.redelivered(),
            },
        }
    }

    pub(super) fn redelivered_below(&self) -> u64 {
        self.joined.redelivered_below()
    }

    /// Why nothing can be lent of it, if so.
    pub(super) fn not_leasable(&self) -> Option<&'static str> {
        match &self.joined.reader {
            Reader::Ring(ring) if ring.leasable => None,
            Reader::Ring(_) => Some("leases need a block topic without evictAfter"),
            Reader::Stream(_) => Some("leases need shared memory, and this is a stream"),
        }
    }

    pub(super) fn memory(&self) -> Option<Arc<MappedData>> {
        match &self.joined.reader {
            Reader::Ring(ring) => Some(ring.memory()),
            Reader::Stream(_) => None,
        }
    }

    pub(super) fn pending(&self) -> bool {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.pending(),
            // Cut off, there is nothing to do but to wait for the bus thread's word.
            Reader::Stream(link) => (!self.asked || self.lost || self.ending) && link.pending(),
        }
    }

    pub(super) fn spin(&self, turns: u32) -> bool {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.spin(turns),
            Reader::Stream(_) => spin_socket(turns, || self.pending()),
        }
    }

    pub(super) fn arm(&mut self) -> bool {
        match &mut self.joined.reader {
            Reader::Ring(ring) => {
                // Before it is announced: what is rung from then on must not be taken for what was rung before.
                if !ring.doorbell.settle() {
                    self.ending = true;
                }
                ring.consumer.arm()
            }
            Reader::Stream(link) if link.severed() => self.asked && !self.lost && !self.ending,
            Reader::Stream(link) => link.arm(),
        }
    }

    /// Whether who sleeps must be woken, because what would have done so was taken from the socket without being read.
    pub(super) fn unnoticed(&mut self) -> bool {
        match &mut self.joined.reader {
            Reader::Ring(_) => false,
            Reader::Stream(link) => link.unnoticed(),
        }
    }

    /// Has the socket wake the subscriber also when it takes something, while a report is owed.
    pub(super) fn watch_room<A>(&mut self, inbox: &Inbox<A>) {
        if let Reader::Stream(link) = &self.joined.reader
            && link.owes() != self.watched_for_room
        {
            self.watched_for_room = link.owes();
            let _ = inbox.watch_socket(link, self.watched_for_room, DOORBELL);
        }
    }

    pub(super) fn forget_bell<A>(&self, inbox: &Inbox<A>) {
        self.joined.forget(inbox);
    }

    pub(super) fn note_wakeup(&mut self) {
        match &mut self.joined.reader {
            Reader::Ring(ring) => ring.consumer.note_wakeup(),
            Reader::Stream(link) => link.note_wakeup(),
        }
    }

    /// Messages missed since this was last asked.
    pub(super) fn newly_missed(&mut self) -> u64 {
        let missed = self.missed();
        missed - std::mem::replace(&mut self.reported_missed, missed)
    }

    /// Whether everything was read and nothing can follow.
    pub(super) fn over(&self) -> bool {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.ended() || (self.ending && ring.consumer.drained()),
            Reader::Stream(link) => link.closed() || (link.severed() && (self.ending || self.lost)),
        }
    }

    /// Whether it can never be over: its process has gone, and what it left behind cannot be read.
    pub(super) fn stuck(&self) -> bool {
        match &self.joined.reader {
            Reader::Ring(ring) => self.ending && !ring.consumer.drained(),
            // What is not whole of a stream that was cut off never will be: it is over.
            Reader::Stream(_) => false,
        }
    }

    /// Whether it ended in good order.
    pub(super) fn closed(&self) -> bool {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.closed(),
            Reader::Stream(link) => link.closed(),
        }
    }

    /// Whether a stream was cut off and nobody has asked why.
    pub(super) fn severed(&self) -> bool {
        match &self.joined.reader {
            Reader::Ring(_) => false,
            Reader::Stream(link) => !self.asked && link.severed(),
        }
    }

    /// Sequence of the message that would come next, if that is known.
    pub(super) fn next_sequence(&self) -> Option<u64> {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.delivered(),
            Reader::Stream(link) => link.delivered(),
        }
    }

    pub(super) fn received(&self) -> u64 {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.received(),
            Reader::Stream(link) => link.received(),
        }
    }

    pub(super) fn missed(&self) -> u64 {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.consumer.missed(),
            Reader::Stream(link) => link.missed(),
        }
    }

    pub(super) fn rings(&self) -> u64 {
        match &self.joined.reader {
            Reader::Ring(ring) => ring.rings(),
            Reader::Stream(link) => link.reports(),
        }
    }

    /// A stream's publisher is asked, and waited for until the deadline.
    pub(super) fn stats(&mut self, deadline: Instant) -> SourceStats {
        let (guest, slot, backlog, counters, subscribers) = match &mut self.joined.reader {
            Reader::Ring(ring) => {
                let counters = ring.counters();
                let consumer = &ring.consumer;
                (
                    ring.is_guest(),
                    consumer.slot_index(),
                    consumer.backlog(),
                    counters,
                    ring.slots(counters.head),
                )
            }
            Reader::Stream(link) => {
                link.refresh(deadline);
                let subscribers = link.slots().iter().copied().map(SlotStats::from).collect();
                (link.is_guest(), link.slot(), link.backlog(), link.counters(), subscribers)
            }
        };
        SourceStats {
            source: self.number,
            service: self.joined.record.service.clone(),
            id: self.joined.record.id.clone(),
            pid: self.joined.record.pid,
            rung: self.joined.rung,
            fallbacks: self.joined.fallbacks.clone(),
            guest,
            slot,
            received: self.received(),
            missed: self.missed(),
            backlog,
            acks: self.acks(),
            publisher: counters.into(),
            subscribers,
        }
    }
}
