//! The slot table of a control segment: which slot a new subscriber gets, and who holds it.
//!
//! A slot is claimed by a lock on its first byte, a durable name by a lock on a byte far behind the segment's end. The lock comes
//! before the state: what a slot's words say is only a hint for where to look first. Who keeps the locks is a [`SlotLocks`]: an open
//! file of the subscriber's own ([`FileLocks`]), or a book of the publisher's process (`proxy_slots`). Called when a topic is
//! joined. Never writes to a slot: that is the ring's work.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::AsFd;

use ringbell_ring::{ControlMemory, Vacancy, layout};

use super::name::DurableName;
use crate::sys::lock;
use crate::{Error, Result};

/// Who keeps the locks on the bytes of a control segment.
pub(crate) trait SlotLocks {
    /// Takes the lock on a byte. False: somebody else holds it.
    ///
    /// # Errors
    /// What the kernel answered.
    fn take(&mut self, byte: u64) -> Result<bool>;

    /// Gives the lock on a byte back.
    ///
    /// # Errors
    /// What the kernel answered.
    fn release(&mut self, byte: u64) -> Result<()>;

    /// Where to look first behind the first doorbell's slots.
    fn start(&self, max: usize) -> usize;
}

/// Write locks of one open file description. The kernel releases them on any death. One claim for one description: the kernel
/// gives a description its own lock again.
pub(crate) struct FileLocks<F>(pub(crate) F);

impl<F: AsFd> SlotLocks for FileLocks<F> {
    fn take(&mut self, byte: u64) -> Result<bool> {
        lock::take(&self.0, byte)
    }

    fn release(&mut self, byte: u64) -> Result<()> {
        lock::release(&self.0, byte)
    }

    /// At random: of a thousand processes that claim at once, each then finds a free slot in a few tries. The kernel looks through
    /// all locks of a file at each try.
    fn start(&self, max: usize) -> usize {
        RandomState::new().hash_one(max) as usize % max.max(1)
    }
}

/// Claims a slot; with a durable name also the name, and the slot that holds its position if there is one. What was claimed is
/// given back by releasing the locks.
///
/// # Errors
/// `ERR_RINGBELL_NO_SLOT` when every lock is held, or kept for a name; `ERR_RINGBELL_NAME_TAKEN` while another subscriber holds the
/// name; what the kernel answered.
pub(crate) fn claim(
    control: &ControlMemory,
    locks: &mut impl SlotLocks,
    name: Option<&DurableName>,
) -> Result<usize> {
    let Some(name) = name else { return claim_any(control, locks) };
    // Two names can have one byte: then they exclude each other.
    let byte = layout::name_lock_byte(name.hash());
    if !locks.take(byte)? {
        return Err(name.taken());
    }
    let claimed = claim_kept(control, locks, name);
    if claimed.is_err() {
        locks.release(byte)?;
    }
    claimed
}

/// The slot that holds the position of a name whose lock is held, if there is one, else any.
fn claim_kept(control: &ControlMemory, locks: &mut impl SlotLocks, name: &DurableName) -> Result<usize> {
    match control.slot_of(name.hash()) {
        Some(slot) if locks.take(layout::slot_lock_byte(slot))? => Ok(slot),
        // Another claimer has locked it, is about to see what it holds, and will leave it.
        Some(slot) if control.vacancy(slot) == Some(Vacancy::Kept) => Err(name.taken()),
        _ => claim_any(control, locks),
    }
}

/// A free slot if there is one, else a dead subscriber's. A slot that says that a durable position was lost comes last, one that
/// holds a position never.
fn claim_any(control: &ControlMemory, locks: &mut impl SlotLocks) -> Result<usize> {
    let max = control.max_slots();
    // First the first doorbell's slots, from the lowest: few subscribers then share one doorbell, which takes one write to ring.
    let first = max.min(layout::SLOTS_PER_DOORBELL);
    let start = locks.start(max);
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
            // A subscriber with a name came and died since the look.
            locks.release(byte)?;
        }
    }
    Err(Error::NoSlot { max })
}

/// Whether another open file holds the slot: its subscriber lives.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn is_held(own: impl AsFd, slot: usize) -> Result<bool> {
    lock::is_held(own, layout::slot_lock_byte(slot))
}

/// Whether the publisher lives, as seen from a subscriber's own open file.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn publisher_lives(own: impl AsFd) -> Result<bool> {
    lock::is_held(own, layout::PUBLISHER_LOCK_BYTE)
}
