//! What all rungs with memory have in common: it begins with the descriptors that came and ends with a slot in the
//! topic.
//!
//! Invariant: the descriptors of each rung pass through here, so that all rungs refuse the same things. The slot's
//! lock is held from `Joined::new` on, through a file description of this process's own. Dropping a `Joined` gives
//! the slot back. `direct` and `want` call this.

use std::os::fd::OwnedFd;

use ringbell_ring::layout::SLOTS_PER_DOORBELL;

use crate::handshake::Verdict;
use crate::record::{EventfdRef, TopicMemory, TopicRecord};
use crate::segment::{self, DurableName, PeerSegments, slots};
use crate::sys::eventfd::EventFd;
use crate::{Error, Result};

/// Segments that were checked, with a slot in them. Only the slot's doorbell is missing.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(super) segments: PeerSegments,
    pub(super) slot: usize,
    /// `None` for a guest. Its connection is its doorbell in both directions.
    pub(super) room: Option<EventFd>,
}

impl Joined {
    /// Checks and maps the segments, and claims a slot. With a durable name, it is the slot that holds the name's
    /// position.
    pub(super) fn new(
        data: OwnedFd,
        control: OwnedFd,
        room: OwnedFd,
        topic: &TopicRecord,
        durable: Option<&DurableName>,
    ) -> Result<Joined> {
        let room = EventFd::from_peer(room, memory_of(topic)?.room.id)?;
        let segments = segment::attach(data, control, topic)?;
        let slot = match &segments.control_own {
            Some(own) => slots::claim(&segments.control.memory(), &mut slots::FileLocks(own), durable)?,
            None => 0,
        };
        Ok(Joined { segments, slot, room: Some(room) })
    }

    /// The same for a guest. Its control segment has one slot, which is its own.
    pub(super) fn as_guest(data: OwnedFd, control: OwnedFd, topic: &TopicRecord) -> Result<Joined> {
        Ok(Joined { segments: segment::attach_as_guest(data, control, topic)?, slot: 0, room: None })
    }

    /// The doorbell of the slot, as the record announces it.
    pub(super) fn doorbell(&self, topic: &TopicRecord) -> Result<EventfdRef> {
        memory_of(topic)?.doorbells.get(self.slot / SLOTS_PER_DOORBELL).copied().ok_or_else(|| {
            Error::CorruptPeer { what: format!("its record announces no doorbell for slot {}", self.slot) }
        })
    }

    /// The last check: whether the publisher still holds the lock in its own control segment. For a guest, its
    /// connection tells it.
    pub(super) fn publisher_lives(&self) -> std::result::Result<(), Verdict> {
        match &self.segments.control_own {
            Some(own) if !slots::publisher_lives(own)? => Err(Verdict::Gone),
            _ => Ok(()),
        }
    }
}

/// The memory that a topic's record announces.
pub(super) fn memory_of(topic: &TopicRecord) -> Result<&TopicMemory> {
    topic.memory.as_ref().ok_or_else(|| Error::CorruptPeer { what: "its record announces no memory".into() })
}
