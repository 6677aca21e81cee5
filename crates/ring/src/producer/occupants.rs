//! Who has the slots, for a publisher that wants to hear of subscribers that come, stall and leave.
//!
//! The publisher announces that it listens, looks at the occupants of all slots, and compares them with those of its
//! last look. A subscriber that comes or leaves rings. One that dies does not, and is found by
//! [`sweep`](Producer::sweep). Nothing here is called while messages are sent, and nothing here decides about a slot.

use super::Producer;
use crate::slot::{SlotState, SlotView};
use crate::sync::Ordering;
use crate::wake;

/// Who has a slot, for a publisher that wants to hear of its subscribers. Owners have different generations, unless a
/// peer breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// The state of the slot.
    pub state: SlotState,
    /// Its generation.
    pub generation: u64,
    /// Since when its owner has been in the way of a message, in nanoseconds of monotonic time.
    pub stalled_since: Option<u64>,
}

/// How the publisher itself ended a subscriber's stay in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It found the owner dead.
    Died,
    /// The owner stalled the topic for too long.
    Evicted,
    /// The owner's cursor broke the rules.
    Expelled,
}

/// What a slot's generations tell about how a subscriber left, if the publisher did not end its stay itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It gave the slot back, or parked it.
    Closed,
    /// It died, and another subscriber has the slot.
    Died,
    /// The slot has changed hands too often to tell.
    Unknown,
}

impl Departure {
    /// How the owner of this `generation` left, by what is in the slot `now`. `durable`: whether it had a name.
    pub fn of(generation: u64, durable: bool, now: Occupant) -> Self {
        match (now.generation.wrapping_sub(generation), now.state) {
            (0, SlotState::Parked) | (1, SlotState::Free) => Self::Closed,
            // Parked, and continued by the next holder of the name.
            (1, SlotState::Active) if durable => Self::Closed,
            (2, SlotState::Joining | SlotState::Active) if !durable => Self::Closed,
            (3, SlotState::Joining | SlotState::Active) if !durable => Self::Died,
            _ => Self::Unknown,
        }
    }
}

impl Producer {
    /// Announces that the publisher wants to hear of subscribers that come and leave: the next one rings. Look at the
    /// [occupants](Self::occupant) afterwards, and announce it again after each ring.
    pub fn listen(&mut self) {
        self.guests.set_listening(true);
        wake::announce_listening(&self.control);
    }

    /// Takes the announcement back.
    pub fn stop_listening(&mut self) {
        self.guests.set_listening(false);
        wake::retract_listening(&self.control);
    }

    /// Whether no subscriber of the shared slots has come or left since [`listen`](Self::listen).
    pub fn is_listening(&self) -> bool {
        wake::is_listening(&self.control)
    }

    /// How many slots there are, those of guests included.
    pub fn slot_count(&self) -> usize {
        self.seen.len()
    }

    /// Who has this slot. `None`: there is no such slot, or no guest has it.
    pub fn occupant(&self, index: usize) -> Option<Occupant> {
        let slot = self.slot(index)?;
        let (word, seen) = (slot.word(), self.seen.get(index)?);
        let guest = self.guest_slot(index).is_some();
        let same = seen.generation == word.generation() && seen.cursor == slot.cursor.load(Ordering::Relaxed);
        // As in `evict_blockers`, which notes these times.
        let stalls = self.wanted > self.limit && seen.stalled_since != 0 && seen.stalled_at == self.head;
        Some(Occupant {
            state: word.state(),
            generation: word.generation(),
            stalled_since: (stalls && (same || guest)).then_some(seen.stalled_since),
        })
    }

    /// What the owner of this slot states of itself. `None`: the slot is free.
    pub fn slot_view(&self, index: usize) -> Option<SlotView> {
        let view = match self.guest_slot(index) {
            None => self.control.view(index, self.head),
            Some(guest_slot) => self.guests.control(guest_slot)?.view(0, self.head),
        };
        view.map(|view| SlotView { index, ..view })
    }

    /// The last owner of this slot whose stay was ended by this producer, by its generation, and how. Each is told once.
    pub fn take_ending(&mut self, index: usize) -> Option<(u64, Ending)> {
        self.seen.get_mut(index)?.ended.take()
    }
}
