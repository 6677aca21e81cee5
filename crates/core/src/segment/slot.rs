//! A slot of the control segment: claimed, and alive, by an OFD write lock on its first byte.
//!
//! Invariant: the lock comes before the state. What the slot's words say is a hint for where to look
//! first; only the kernel decides, and releases on any death. The lock lives as long as the description
//! does, so a claimed slot is given back by closing `control_own`, on every path. The same goes for a durable name.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::AsFd;

use ringbell_ring::{ControlMemory, Vacancy, layout};

use super::name::DurableName;
use crate::sys::lock;
use crate::{Error, Result};

/// The locks on slots. No state of its own: the kernel keeps it.
pub(crate) struct SlotLock;

impl SlotLock {
    /// Claims a slot through a description of the caller's own: one that looks free if there is one, else
    /// any whose lock is free, such as a dead subscriber's, but none that holds a durable position. One claim for one
    /// description: the kernel gives a description its own lock again.
    ///
    /// # Errors
    /// `ERR_RINGBELL_NO_SLOT` when every lock is held, or kept for a name.
    pub(crate) fn claim(control: &ControlMemory, own: impl AsFd) -> Result<usize> {
        let own = own.as_fd();
        let max = control.max_slots();
        // The first doorbell's slots from the lowest up: few subscribers then share one doorbell, which is one write to
        // ring. Behind them from anywhere: of a thousand that come at once, each finds a free one in a few tries
        // (the kernel looks through all locks of a file at each try).
        let first = max.min(layout::SLOTS_PER_DOORBELL);
        let start = RandomState::new().hash_one(max) as usize % max.max(1);
        let anywhere = || (0..max).map(move |step| (start + step) % max);
        let likely = (0..first).chain(anywhere()).filter(|slot| control.looks_free(*slot));
        let holds = |slot: &usize, vacancy| control.vacancy(*slot) == Some(vacancy);
        let dead = anywhere().filter(|slot| !holds(slot, Vacancy::Kept) && !holds(slot, Vacancy::Lost));
        let lost = anywhere().filter(|slot| holds(slot, Vacancy::Lost));
        for slot in likely.chain(dead).chain(lost) {
            let byte = layout::slot_lock_byte(slot);
            if lock::take(own, byte)? {
                if !holds(&slot, Vacancy::Kept) {
                    return Ok(slot);
                }
                // Somebody with a name came and died since it was looked at.
                lock::release(own, byte)?;
            }
        }
        Err(Error::NoSlot { max })
    }

    /// Claims a durable name, and the slot that holds its position if there is one, else any.
    ///
    /// # Errors
    /// `ERR_RINGBELL_NAME_TAKEN` while somebody else holds the name, otherwise as `claim`.
    pub(crate) fn claim_named(
        control: &ControlMemory,
        own: impl AsFd,
        durable: &DurableName,
    ) -> Result<usize> {
        let own = own.as_fd();
        if !lock::take(own, layout::name_lock_byte(durable.hash()))? {
            return Err(durable.taken());
        }
        match control.slot_of(durable.hash()) {
            Some(slot) if lock::take(own, layout::slot_lock_byte(slot))? => Ok(slot),
            // Whoever has locked it is about to see what it holds, and to leave it.
            Some(slot) if control.vacancy(slot) == Some(Vacancy::Kept) => Err(durable.taken()),
            _ => Self::claim(control, own),
        }
    }

    /// Whether another description holds the slot: its subscriber lives.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn is_held(own: impl AsFd, slot: usize) -> Result<bool> {
        lock::is_held(own, layout::slot_lock_byte(slot))
    }

    /// Whether the publisher lives, as seen from a subscriber's own description.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn publisher_lives(own: impl AsFd) -> Result<bool> {
        lock::is_held(own, layout::PUBLISHER_LOCK_BYTE)
    }
}
