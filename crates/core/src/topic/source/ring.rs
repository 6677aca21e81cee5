//! A publisher's ring, read in place: its segments, the slot there, and the reading side.
//!
//! The slot's lock belongs to `control_own`, an open file of this one alone; dropping it gives the slot back first and closes
//! the lock's descriptor after. Dying does the second without the first, which is why the next owner of the slot takes
//! it in any state. A guest's slot has no lock: its connection is the proof, and is ended last.

use std::sync::Arc;

use ringbell_ring::{Consumer, PublisherCounters, Start};

use super::{Probe, fault_error, topic_of};
use crate::acquire::{Bell, Memory};
use crate::error::{Error, Result};
use crate::record::{Overflow, Record, Rung};
use crate::segment::{DurableName, MappedData, PeerSegments, slots};
use crate::sys::generation::Home;
use crate::sys::memfd;
use crate::topic::stats::SlotStats;

/// A joined ring.
pub(super) struct Ring {
    pub(super) doorbell: Bell,
    pub(super) consumer: Consumer,
    pub(super) leasable: bool,
    /// Where the segments are mapped: in a forked child they are not.
    home: Home,
    segments: PeerSegments,
    room: Bell,
    rings: u64,
}

impl Ring {
    /// Joins the ring in the slot whose lock came with the memory.
    pub(super) fn join(
        memory: Memory,
        record: &Record,
        rung: Rung,
        start: Start,
        durable: Option<&DurableName>,
    ) -> Result<Self> {
        let Memory { segments, slot, room, doorbell } = memory;
        let topic = topic_of(record)?;
        let leasable = topic.overflow == Overflow::Block && topic.evict_after_ms.is_none();
        let consumer = Consumer::join(
            segments.data.memory(),
            segments.control.memory(),
            slot,
            topic.overflow,
            start,
            (std::process::id(), durable.map_or(0, DurableName::hash)),
        )
        .map_err(|fault| fault_error(fault, &record.service))?;
        consumer.note_way(rung.way());
        Ok(Self { doorbell, consumer, leasable, home: Home::here(), segments, room, rings: 0 })
    }

    /// Publishes how far it was read, and rings the publisher if it waits for room.
    pub(super) fn acknowledge(&mut self) {
        let ring = self.consumer.acknowledge();
        self.ring_if(ring);
    }

    /// As [`Consumer::give_back`], where `acknowledge` is not used.
    pub(super) fn give_back(&mut self) {
        let ring = self.consumer.give_back();
        self.ring_if(ring);
    }

    pub(super) fn ring_if(&mut self, ring: bool) {
        if ring {
            self.room.ring();
            self.rings += 1;
        }
    }

    pub(super) fn memory(&self) -> Arc<MappedData> {
        self.segments.data.clone()
    }

    pub(super) fn closed(&self) -> bool {
        self.segments.data.memory().closed()
    }

    pub(super) fn rings(&self) -> u64 {
        self.rings
    }

    pub(super) fn counters(&self) -> PublisherCounters {
        self.segments.data.memory().counters()
    }

    /// Whether the control segment is this subscriber's own, because the publisher is another user's.
    pub(super) fn is_guest(&self) -> bool {
        self.segments.control_own.is_none()
    }

    /// The slots whose owners live.
    pub(super) fn slots(&self, head: u64) -> Vec<SlotStats> {
        let own = self.consumer.slot_index();
        // One's own lock is no obstacle to oneself, so the kernel is only asked about the others.
        let alive = |slot| {
            let held = self.segments.control_own.as_ref().map(|control| slots::is_held(control, slot));
            slot == own || held.is_none_or(|held| held.unwrap_or(true))
        };
        let slots = self.segments.control.memory();
        slots.slots(head).filter_map(|slot| SlotStats::of(slot, alive(slot.index))).collect()
    }

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

impl Drop for Ring {
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
