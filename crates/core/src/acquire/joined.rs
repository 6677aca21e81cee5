//! The part of an acquisition that every rung shares: from descriptors that came to a place in the topic.
//!
//! Invariant: whatever a rung brings passes through here, so that all rungs refuse the same things. The slot's
//! lock is held from `Joined::new` on, through a description of our own: dropping a `Joined` gives it back.

use std::os::fd::OwnedFd;

use ringbell_ring::layout::SLOTS_PER_DOORBELL;

use super::verdict::Verdict;
use crate::bus::record::{EventfdRef, Record, TopicRecord};
use crate::segment::{self, DurableName, PeerSegments, SlotLock};
use crate::sys::eventfd::EventFd;
use crate::{Error, Result};

/// Segments that were checked, with a slot of them; only the slot's doorbell is missing.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) segments: PeerSegments,
    pub(super) slot: usize,
    pub(super) room: EventFd,
}

impl Joined {
    /// With a durable name, in the slot that holds its position.
    pub(super) fn new(
        data: OwnedFd,
        control: OwnedFd,
        room: OwnedFd,
        topic: &TopicRecord,
        durable: Option<&DurableName>,
    ) -> Result<Joined> {
        let room = EventFd::from_peer(room, topic.room.id)?;
        let segments = segment::attach(data, control, topic)?;
        let (slots, own) = (segments.control.memory(), &segments.control_own);
        let slot = match durable {
            Some(durable) => SlotLock::claim_named(&slots, own, durable)?,
            None => SlotLock::claim(&slots, own)?,
        };
        Ok(Joined { segments, slot, room })
    }

    /// The doorbell that the slot belongs to, by the record.
    pub(super) fn doorbell(&self, topic: &TopicRecord) -> Result<EventfdRef> {
        topic.doorbells.get(self.slot / SLOTS_PER_DOORBELL).copied().ok_or_else(|| Error::CorruptPeer {
            what: format!("its record announces no doorbell for slot {}", self.slot),
        })
    }

    /// The last look: whether the publisher still holds the lock in its own control segment.
    pub(super) fn publisher_lives(&self) -> std::result::Result<(), Verdict> {
        if SlotLock::publisher_lives(&self.segments.control_own)? { Ok(()) } else { Err(Verdict::Gone) }
    }
}

/// The topic that a record announces.
pub(super) fn topic_of(record: &Record) -> Result<&TopicRecord> {
    record.topic.as_ref().ok_or_else(|| Error::Record {
        file: record.file_name(),
        reason: "it announces no topic, so there is nothing to attach to".into(),
    })
}
