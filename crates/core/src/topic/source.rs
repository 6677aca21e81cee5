//! A source: one publisher that a subscriber is attached to. It is the reading end of that topic, and what is known
//! of it.
//!
//! The bus thread joins it; the subscriber reads it. A ring ends when its publisher has closed it or has died. A
//! stream reports that it is closed, or it breaks off; then the bus thread finds out what happened to the publisher.
//! Invariant: this file does not know how a ring differs from a stream. `port::Reader` knows it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::{Entry, Fault, Position, Read, Start};

use super::acks::AckMode;
use super::options::SubscriberOptions;
use super::stats::{AckStats, SlotStats, SourceStats};
use crate::error::{Error, Result};
use crate::port::{Acknowledging, End, Probe, Reader, WriterState};
use crate::reactor::Inbox;
use crate::record::{Fallback, GroupRecord, Overflow, Record, Rung};
use crate::segment::DurableName;
use crate::topic::acquire::{Attachment, TopicPort};

/// Number under which the doorbells of all sources are watched. It does not matter which one rang.
const DOORBELL: u64 = 1;

/// A publisher that was acquired and joined, on its port from the bus thread to the subscriber.
pub(super) struct JoinedPublisher {
    pub(super) record: Arc<Record>,
    pub(super) rung: Rung,
    pub(super) fallbacks: Vec<Fallback>,
    reader: Reader,
    ack: AckMode,
    durable: bool,
    /// Why no memory of it can be leased; `None` if it can.
    not_leasable: Option<&'static str>,
}

impl JoinedPublisher {
    /// Joins the ring in the slot that the attachment holds, or takes the stream as it is. `resume` is for a stream
    /// that replaces a lost one of the same publisher: the sequence of the first message that the lost one had not
    /// brought.
    pub(super) fn join(
        attachment: Attachment,
        options: &SubscriberOptions,
        start: Start,
        resume: Option<u64>,
    ) -> Result<Self> {
        let Attachment { record, port, rung, fallbacks } = attachment;
        let durable = options.durable_name()?;
        let acknowledging = match options.ack {
            AckMode::Immediate => Acknowledging::AtOnce,
            AckMode::Batch | AckMode::Deferred => Acknowledging::Apart,
        };
        let (mut reader, not_leasable) = match port {
            TopicPort::Memory(memory) => {
                let topic = record.topic()?;
                let name = durable.as_ref().map_or(0, DurableName::hash);
                let reader = Reader::join(memory, topic.overflow, start, name, rung, acknowledging)
                    .map_err(|fault| fault_error(fault, &record.service))?;
                let leasable = topic.overflow == Overflow::Block && topic.evict_after_ms.is_none();
                (reader, (!leasable).then_some("leases need a block topic without evictAfter"))
            }
            TopicPort::Stream(mut stream) => {
                stream.acknowledge(acknowledging);
                (Reader::Stream(stream), Some("leases need shared memory, and this is a stream"))
            }
        };
        if let Some(sequence) = resume {
            // Messages that were not acknowledged under a durable name come again, even to the same subscriber.
            match durable.is_some() && options.ack != AckMode::Immediate {
                true => reader.note_seen(sequence),
                false => reader.go_on_at(sequence),
            }
        }
        let (ack, durable) = (options.ack, durable.is_some());
        Ok(Self { record, rung, fallbacks, reader, ack, durable, not_leasable })
    }

    /// The position that was kept under the durable name. `None` without a name.
    pub(super) fn position(&self) -> Option<Position> {
        self.reader.position().filter(|_| self.durable)
    }

    /// Messages before this sequence may have been delivered to an earlier holder of the name.
    pub(super) fn redelivered_below(&self) -> u64 {
        self.reader.redelivered_below()
    }

    /// Makes a probe, with which another thread can find out whether the publisher lives.
    pub(super) fn probe(&self) -> Result<Probe> {
        self.reader.probe()
    }

    /// Lets the publisher's doorbell wake the subscriber.
    pub(super) fn watch<A>(&self, inbox: &Inbox<A>) -> Result<()> {
        self.reader.watch(inbox, DOORBELL)
    }

    /// Stops watching the doorbell. Otherwise the publisher's copies of it would keep the registration alive.
    pub(super) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        self.reader.unwatch(inbox);
    }
}

/// The error that reports a broken protocol.
pub(super) fn fault_error(fault: Fault, service: &str) -> Error {
    match fault {
        Fault::Evicted => Error::Evicted { service: service.to_owned() },
        fault => fault.into(),
    }
}

/// The last term of a publisher: its epoch, and the sequence of its first message.
fn terms_of(group: GroupRecord) -> Option<(u64, u64)> {
    (group.epoch > 0).then_some((group.epoch, group.first.unwrap_or(0)))
}

/// An attached publisher.
pub(super) struct Source {
    joined: Box<JoinedPublisher>,
    pub(super) number: u32,
    /// What the bus thread has reported about the publisher.
    pub(super) writer: WriterState,
    /// The part of a large message that has come.
    pub(super) gathered: Vec<u8>,
    /// The role of the member that publishes, as its record says.
    pub(super) group: Option<GroupRecord>,
    /// It is not read for now: see `subscriber/following.rs`.
    pub(super) held: bool,
    /// It may have committed messages after the end of its last term. They are passed over when its next one begins.
    pub(super) stale: bool,
    /// The sequence before which to stop, because another term begins there.
    pub(super) stop: Option<u64>,
    /// The terms that are not read yet: the epoch, and the sequence of its first message.
    pub(super) terms: VecDeque<(u64, u64)>,
    reported_missed: u64,
}

impl Source {
    pub(super) fn new(joined: Box<JoinedPublisher>, number: u32) -> Self {
        let group = joined.record.group;
        Self {
            joined,
            number,
            writer: WriterState::Present,
            gathered: Vec::new(),
            group,
            held: false,
            stale: false,
            stop: None,
            terms: group.and_then(terms_of).into_iter().collect(),
            reported_missed: 0,
        }
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.joined.record
    }

    pub(super) fn rung(&self) -> Rung {
        self.joined.rung
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.joined.reader
    }

    #[inline]
    pub(super) fn reader_mut(&mut self) -> &mut Reader {
        &mut self.joined.reader
    }

    #[inline]
    pub(super) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        let most = self.most(table.len());
        if most == 0 {
            return Ok(Read::Empty);
        }
        let read = self.joined.reader.read(slab, fill, &mut table[..most])?;
        self.forget_gathered(read);
        Ok(read)
    }

    /// Call this only if [`not_leasable`](Self::not_leasable) answers `None`.
    pub(super) fn lease(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        let most = self.most(table.len());
        if most == 0 {
            return Ok(Read::Empty);
        }
        let read = self.joined.reader.lease(&mut table[..most])?;
        self.forget_gathered(read);
        Ok(read)
    }

    /// How many messages may be read now, of those that a table has room for.
    #[inline]
    fn most(&self, room: usize) -> usize {
        match self.stop {
            None => room,
            Some(stop) => {
                // Before anything was read, its position may not be known.
                let left = self.joined.reader.delivered().map_or(1, |next| stop.saturating_sub(next));
                room.min(usize::try_from(left).unwrap_or(room))
            }
        }
    }

    /// The record has this role now.
    pub(super) fn note_role(&mut self, group: Option<GroupRecord>) {
        self.group = group;
        if let Some(term) = group.and_then(terms_of)
            && self.terms.back().is_none_or(|last| last.0 < term.0)
        {
            self.terms.push_back(term);
        }
    }

    /// Drops the part of a large message when other messages come: they come behind it, or in its place.
    #[inline]
    fn forget_gathered(&mut self, read: Read) {
        if matches!(read, Read::Messages { .. }) && !self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }

    /// Why no memory of it can be leased; `None` if it can.
    pub(super) fn not_leasable(&self) -> Option<&'static str> {
        self.joined.not_leasable
    }

    /// Publishes that all messages up to this one are done, and rings the publisher if it waits for room. Says
    /// whether that was new. The error holds the sequence of the last message that was read.
    pub(super) fn acknowledge_through<A>(
        &mut self,
        sequence: u64,
        inbox: &Inbox<A>,
    ) -> Result<bool, Option<u64>> {
        let reader = &mut self.joined.reader;
        let delivered = reader.delivered().unwrap_or(0);
        if sequence >= delivered {
            return Err(delivered.checked_sub(1));
        }
        let news = reader.acknowledge_below(sequence + 1);
        // A subscriber may be asleep already. It must wake and send this report when the socket has room again.
        reader.watch_room(inbox, DOORBELL);
        Ok(news)
    }

    #[inline]
    pub(super) fn pending(&self) -> bool {
        // After a stream broke off, there is nothing to do until the bus thread reports.
        !self.held && self.most(1) > 0 && self.writer != WriterState::Asked && self.joined.reader.pending()
    }

    #[inline]
    pub(super) fn spin(&self, iterations: u32) -> bool {
        !self.held
            && self.most(1) > 0
            && self.writer != WriterState::Asked
            && self.joined.reader.spin(iterations)
    }

    /// Announces that the subscriber is about to sleep. False means: look again.
    pub(super) fn arm<A>(&mut self, inbox: &Inbox<A>) -> bool {
        if !self.joined.reader.drain_doorbell() {
            self.writer = WriterState::Gone;
        }
        let quiet = match self.writer {
            WriterState::Asked => true,
            WriterState::Gone => false,
            _ => self.joined.reader.arm() || self.held || self.most(1) == 0,
        };
        self.joined.reader.watch_room(inbox, DOORBELL);
        quiet
    }

    /// Messages missed since the last call.
    #[inline]
    pub(super) fn newly_missed(&mut self) -> u64 {
        let missed = self.joined.reader.missed();
        missed - std::mem::replace(&mut self.reported_missed, missed)
    }

    /// How it ended, once everything was read. `None` while something can still come.
    pub(super) fn end(&self) -> Option<End> {
        self.joined.reader.end(self.writer)
    }

    pub(super) fn acks(&self) -> AckStats {
        let counters = self.joined.reader.counters();
        let tracked = self.joined.ack != AckMode::Immediate || self.joined.durable;
        AckStats {
            pending: if tracked { counters.unacknowledged } else { 0 },
            flushed: counters.flushed,
            redelivered: counters.redelivered,
        }
    }

    /// Asks the publisher of a stream, and waits for its answer until the deadline.
    pub(super) fn stats(&mut self, deadline: Instant) -> SourceStats {
        let view = self.joined.reader.view(deadline);
        let counters = self.joined.reader.counters();
        SourceStats {
            source: self.number,
            service: self.joined.record.service.clone(),
            id: self.joined.record.id.clone(),
            pid: self.joined.record.pid,
            rung: self.joined.rung,
            fallbacks: self.joined.fallbacks.clone(),
            guest: view.guest,
            slot: view.slot,
            received: counters.received,
            missed: counters.missed,
            backlog: self.joined.reader.backlog(),
            acks: self.acks(),
            publisher: view.counters.into(),
            subscribers: view
                .slots
                .into_iter()
                .filter_map(|(slot, alive)| SlotStats::of(slot, alive))
                .collect(),
        }
    }
}
