//! The slot table of a control segment: which slot a new subscriber gets, and which process holds it.
//!
//! A slot is claimed by a lock on its first byte. A durable name is claimed by a lock on a byte far behind the
//! segment's end. The lock counts, not the state: the words of a slot are only a hint where to look first. A
//! [`SlotLocks`] keeps the locks: an open file of the subscriber ([`FileLocks`]), or a table in the publisher's
//! process (`proxy_slots`). Called when a topic is joined. It never writes to a slot: only the ring does.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::AsFd;

use ringbell_ring::{ControlMemory, Vacancy, layout};

use super::name::DurableName;
use crate::sys::lock;
use crate::{Error, Result};

/// Keeps the locks on the bytes of a control segment.
pub(crate) trait SlotLocks {
    /// Takes the lock on a byte. False: another subscriber holds it.
    ///
    /// # Errors
    /// The kernel's error.
    fn take(&mut self, byte: u64) -> Result<bool>;

    /// Gives the lock on a byte back.
    ///
    /// # Errors
    /// The kernel's error.
    fn release(&mut self, byte: u64) -> Result<()>;
}

/// Write locks of one open file. The kernel releases them on any death. An open file may claim only once: the
/// kernel grants an open file its own lock again.
pub(crate) struct FileLocks<F>(pub(crate) F);

impl<F: AsFd> SlotLocks for FileLocks<F> {
    fn take(&mut self, byte: u64) -> Result<bool> {
        lock::take(&self.0, byte)
    }

    fn release(&mut self, byte: u64) -> Result<()> {
        lock::release(&self.0, byte)
    }
}

/// Claims a slot. With a durable name it also claims the name, and takes the slot that holds its position if there
/// is one. Releasing the locks gives back what was claimed.
///
/// # Errors
/// `ERR_RINGBELL_NO_SLOT` when every lock is held, or kept for a name; `ERR_RINGBELL_NAME_TAKEN` while another
/// subscriber holds the name; otherwise the kernel's error.
///
/// The search begins at a random slot. When a thousand processes claim at once, each then finds a free slot in a few
/// tries. Few tries matter, because the kernel looks through all locks of a file at each one.
pub(crate) fn claim(
    control: &ControlMemory,
    locks: &mut impl SlotLocks,
    name: Option<&DurableName>,
) -> Result<usize> {
    let max = control.max_slots();
    claim_from(RandomState::new().hash_one(max) as usize % max.max(1), control, locks, name)
}

/// As [`claim`]. Behind the slots of the first doorbell, the search begins at `start`.
pub(super) fn claim_from(
    start: usize,
    control: &ControlMemory,
    locks: &mut impl SlotLocks,
    name: Option<&DurableName>,
) -> Result<usize> {
    let Some(name) = name else { return claim_any(start, control, locks) };
    // Two names can select the same byte. Then they exclude each other.
    let byte = layout::name_lock_byte(name.hash());
    if !locks.take(byte)? {
        return Err(name.taken());
    }
    let claimed = claim_kept(start, control, locks, name);
    if claimed.is_err() {
        locks.release(byte)?;
    }
    claimed
}

/// Claims the slot that holds the position of a name whose lock is held. If there is none, it claims any slot.
fn claim_kept(
    start: usize,
    control: &ControlMemory,
    locks: &mut impl SlotLocks,
    name: &DurableName,
) -> Result<usize> {
    match control.slot_of(name.hash()) {
        Some(slot) if locks.take(layout::slot_lock_byte(slot))? => Ok(slot),
        // Another subscriber has locked it to claim it. It will see what the slot holds, and leave it.
        Some(slot) if control.vacancy(slot) == Some(Vacancy::Kept) => Err(name.taken()),
        _ => claim_any(start, control, locks),
    }
}

/// Claims a free slot if there is one, otherwise a dead subscriber's. A slot that says that a durable position was
/// lost comes last. A slot that holds a position is never taken.
fn claim_any(start: usize, control: &ControlMemory, locks: &mut impl SlotLocks) -> Result<usize> {
    let max = control.max_slots();
    // The slots of the first doorbell come first, from the lowest. Few subscribers then share one doorbell, which
    // one write rings.
    let first = max.min(layout::SLOTS_PER_DOORBELL);
    let anywhere = || (0..max).map(move |step| (start + step) % max);
    let holds = |slot: &usize, vacancy| control.vacancy(*slot) == Some(vacancy);
    let free = (0..first).chain(anywhere()).filter(|slot| control.looks_free(*slot));
    let dead = anywhere().filter(|slot| !holds(slot, Vacancy::Kept) && !holds(slot, Vacancy::Lost));
    let lost = anywhere().filter(|slot| holds(slot, Vacancy::Lost));
    for slot in free.chain(dead).chain(lost) {
        let byte = layout::slot_lock_byte(slot);
        if locks.take(byte)? {
            if !holds(&slot, Vacancy::Kept) {
                return Ok(slot);
            }
            // A subscriber with a name came and died since the look at the slot.
            locks.release(byte)?;
        }
    }
    Err(Error::NoSlot { max })
}

/// Whether another open file holds the slot: its subscriber lives.
///
/// # Errors
/// The kernel's error.
pub(crate) fn is_held(own: impl AsFd, slot: usize) -> Result<bool> {
    lock::is_held(own, layout::slot_lock_byte(slot))
}

/// Whether the publisher lives, as seen from a subscriber's own open file.
///
/// # Errors
/// The kernel's error.
pub(crate) fn publisher_lives(own: impl AsFd) -> Result<bool> {
    lock::is_held(own, layout::PUBLISHER_LOCK_BYTE)
}
