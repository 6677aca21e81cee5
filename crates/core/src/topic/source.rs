//! One publisher that a subscriber is attached to: its segments, the slot there, and the ring's reading side.
//!
//! The slot's lock belongs to `control_own`, an open file of this source alone; dropping the source gives the slot
//! back first and closes the lock's descriptor after. Dying does the second without the first, which is why the next
//! owner of the slot takes it in any state. A guest's slot has no lock: its connection is the proof, and is ended last.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ringbell_ring::{Consumer, Entry, Fault, Position, Read};

use super::acks::AckMode;
use super::options::SubscriberOptions;
use super::stats::{AckStats, SlotStats, SourceStats};
use crate::acquire::{Attachment, Bell, Cord, Rung, StepDown};
use crate::bus::{Overflow, Record, TopicRecord};
use crate::error::{Error, Result};
use crate::segment::{DurableName, MappedData, PeerSegments, SlotLock};
use crate::sys::generation::Home;
use crate::sys::memfd;

/// A publisher that was acquired and joined, on its way from the bus thread to the subscriber.
pub(super) struct Joined {
    pub(super) record: Arc<Record>,
    pub(super) rung: Rung,
    pub(super) step_downs: Vec<StepDown>,
    pub(super) doorbell: Bell,
    /// Where the segments are mapped: in a forked child they are not.
    home: Home,
    segments: PeerSegments,
    room: Bell,
    consumer: Consumer,
    leasable: bool,
    ack: AckMode,
    durable: bool,
}

impl Joined {
    /// Joins the ring in the slot that the attachment holds the lock of.
    pub(super) fn join(attachment: Attachment, options: &SubscriberOptions) -> Result<Self> {
        let Attachment { record, segments, slot, room, doorbell, rung, step_downs } = attachment;
        let topic = topic_of(&record)?;
        let leasable = topic.overflow == Overflow::Block && topic.evict_after_ms.is_none();
        let durable = options.durable_name()?;
        let consumer = Consumer::join(
            segments.data.memory(),
            segments.control.memory(),
            slot,
            topic.overflow.into(),
            options.from,
            (std::process::id(), durable.as_ref().map_or(0, DurableName::hash)),
        )
        .map_err(|fault| fault_error(fault, &record.service))?;
        let home = Home::here();
        let (ack, durable) = (options.ack, durable.is_some());
        Ok(Self {
            record,
            rung,
            step_downs,
            doorbell,
            home,
            segments,
            room,
            consumer,
            leasable,
            ack,
            durable,
        })
    }

    /// What there was under the durable name, if there is one.
    pub(super) fn position(&self) -> Option<Position> {
        self.durable.then(|| self.consumer.position())
    }

    /// Messages before this sequence may have been delivered to an earlier holder of the name.
    pub(super) fn redelivered_below(&self) -> u64 {
        self.consumer.redelivered_below()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        if self.consumer.leave() {
            self.room.ring();
        }
        if let Some(cord) = self.doorbell.cord() {
            cord.hang_up();
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
    /// What there is of a large message.
    pub(super) gathered: Vec<u8>,
    reported_missed: u64,
    rings: u64,
}

impl Source {
    pub(super) fn new(joined: Box<Joined>, number: u32) -> Self {
        Self { joined, number, ending: false, gathered: Vec::new(), reported_missed: 0, rings: 0 }
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.joined.record
    }

    pub(super) fn doorbell(&self) -> &Bell {
        &self.joined.doorbell
    }

    #[inline]
    pub(super) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        let read = self.joined.consumer.read(slab, fill, table)?;
        if self.joined.ack == AckMode::Immediate {
            self.acknowledge();
        }
        self.forget_gathered(read);
        Ok(read)
    }

    pub(super) fn lease(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        let read = self.joined.consumer.lease(table)?;
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

    pub(super) fn consumer(&mut self) -> &mut Consumer {
        &mut self.joined.consumer
    }

    /// Publishes how far this source was read, and rings the publisher if it waits for room.
    pub(super) fn acknowledge(&mut self) {
        let ring = self.joined.consumer.acknowledge();
        self.ring_if(ring);
    }

    /// Pieces of a large message were read. What came before them may have to be acknowledged first.
    pub(super) fn give_back(&mut self) {
        if self.joined.ack == AckMode::Immediate {
            self.acknowledge();
        } else {
            let ring = self.joined.consumer.give_back();
            self.ring_if(ring);
        }
    }

    /// A leased batch was given back. That it is done is said apart, unless every read says so.
    pub(super) fn release(&mut self) {
        if self.joined.ack == AckMode::Immediate {
            self.acknowledge();
        }
    }

    /// Publishes that all messages up to this one are done, and rings the publisher if it waits for room. Says whether that
    /// was news; the error has the last sequence that was read.
    pub(super) fn acknowledge_through(&mut self, sequence: u64) -> Result<bool, Option<u64>> {
        let consumer = &mut self.joined.consumer;
        let delivered = consumer.delivered().unwrap_or(0);
        if sequence >= delivered {
            return Err(delivered.checked_sub(1));
        }
        let flushed = consumer.flushed();
        let ring = consumer.acknowledge_below(sequence + 1);
        self.ring_if(ring);
        Ok(self.joined.consumer.flushed() != flushed)
    }

    fn ring_if(&mut self, ring: bool) {
        if ring {
            self.joined.room.ring();
            self.rings += 1;
        }
    }

    /// Gives the slot back with the position in it, instead of leaving it to the next holder of the name.
    pub(super) fn forget(&mut self) {
        let ring = self.joined.consumer.forget();
        self.ring_if(ring);
    }

    pub(super) fn acks(&self) -> AckStats {
        let consumer = &self.joined.consumer;
        let tracked = self.joined.ack != AckMode::Immediate || self.joined.durable;
        AckStats {
            pending: if tracked { consumer.unacknowledged() } else { 0 },
            flushed: consumer.flushed(),
            redelivered: consumer.redelivered(),
        }
    }

    pub(super) fn leasable(&self) -> bool {
        self.joined.leasable
    }

    pub(super) fn redelivered_below(&self) -> u64 {
        self.joined.redelivered_below()
    }

    pub(super) fn memory(&self) -> Arc<MappedData> {
        self.joined.segments.data.clone()
    }

    pub(super) fn pending(&self) -> bool {
        self.joined.consumer.pending()
    }

    pub(super) fn spin(&self, turns: u32) -> bool {
        self.joined.consumer.spin(turns)
    }

    pub(super) fn arm(&mut self) -> bool {
        // Before it is announced: what is rung from then on must not be taken for what was rung before.
        if !self.joined.doorbell.settle() {
            self.ending = true;
        }
        self.joined.consumer.arm()
    }

    pub(super) fn note_wakeup(&mut self) {
        self.joined.consumer.note_wakeup();
    }

    /// Messages missed since this was last asked.
    pub(super) fn newly_missed(&mut self) -> u64 {
        let missed = self.joined.consumer.missed();
        missed - std::mem::replace(&mut self.reported_missed, missed)
    }

    /// Whether everything was read and nothing can follow.
    pub(super) fn over(&self) -> bool {
        self.joined.consumer.ended() || (self.ending && self.joined.consumer.drained())
    }

    /// Whether it can never be over: its process has gone, and what it left behind cannot be read.
    pub(super) fn stuck(&self) -> bool {
        self.ending && !self.joined.consumer.drained()
    }

    /// Whether it ended in good order.
    pub(super) fn closed(&self) -> bool {
        self.joined.segments.data.memory().closed()
    }

    pub(super) fn received(&self) -> u64 {
        self.joined.consumer.received()
    }

    pub(super) fn missed(&self) -> u64 {
        self.joined.consumer.missed()
    }

    pub(super) fn rings(&self) -> u64 {
        self.rings
    }

    pub(super) fn stats(&self) -> SourceStats {
        let consumer = &self.joined.consumer;
        let segments = &self.joined.segments;
        let counters = segments.data.memory().counters();
        let own = consumer.slot_index();
        // One's own lock is no obstacle to oneself, so the kernel is only asked about the others.
        let alive = |slot| {
            let held = segments.control_own.as_ref().map(|control| SlotLock::is_held(control, slot));
            slot == own || held.is_none_or(|held| held.unwrap_or(true))
        };
        let slots = segments.control.memory();
        SourceStats {
            source: self.number,
            service: self.joined.record.service.clone(),
            id: self.joined.record.id.clone(),
            pid: self.joined.record.pid,
            rung: self.joined.rung,
            step_downs: self.joined.step_downs.clone(),
            guest: segments.control_own.is_none(),
            slot: own,
            received: consumer.received(),
            missed: consumer.missed(),
            backlog: consumer.backlog(),
            acks: self.acks(),
            subscribers: slots
                .slots(counters.head)
                .filter_map(|slot| SlotStats::of(slot, alive(slot.index)))
                .collect(),
            publisher: counters.into(),
        }
    }
}

/// What tells on another thread whether a publisher lives: right for zombies, other pid namespaces, and for an instance whose
/// record was lost with the directory.
pub(super) enum Probe {
    /// The lock in its control segment, through an open file of the probe's own: a mere duplicate would hold on to the slot's lock
    /// when the source is long gone.
    Lock(OwnedFd),
    /// A guest's connection.
    Cord(Arc<Cord>),
}

impl Probe {
    pub(super) fn publisher_lives(&self) -> bool {
        match self {
            // A probe that fails proves nothing; the next one will tell.
            Probe::Lock(control) => SlotLock::publisher_lives(control).unwrap_or(true),
            Probe::Cord(cord) => cord.lives(),
        }
    }
}

impl Joined {
    pub(super) fn probe(&self) -> Result<Probe> {
        match (&self.segments.control_own, self.doorbell.cord()) {
            (_, Some(cord)) => Ok(Probe::Cord(cord.clone())),
            (Some(control), None) => memfd::reopen(control).map(Probe::Lock),
            (None, None) => {
                Err(Error::CorruptPeer { what: "it gave neither a lock nor a connection".into() })
            }
        }
    }
}
