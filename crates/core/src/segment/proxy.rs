//! Slots that the publisher's process holds itself, in the stead of subscribers that it streams to.
//!
//! Invariant: a slot that is held here is held against everybody. Where there is a control segment its lock is taken, through
//! one description for all of them; what that description locks the kernel does not keep apart, so `held` does. Where there
//! is none, nobody else can claim. Shared by the bus thread, which claims, and the publisher, which asks who lives.

use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringbell_ring::{ControlMemory, Vacancy, layout};

use crate::sys::fork::ForkGuarded;
use crate::sys::{lock, memfd};
use crate::{Error, Result};

/// The slots held by this process.
pub(crate) struct ProxySlots {
    state: Mutex<State>,
}

struct State {
    held: Vec<bool>,
    /// The control segment through a description for these locks alone; there from the first claim on.
    file: Option<ForkGuarded>,
}

impl ProxySlots {
    pub(crate) fn new(slots: usize) -> ProxySlots {
        ProxySlots { state: Mutex::new(State { held: vec![false; slots], file: None }) }
    }

    /// Claims a slot: one that is free if there is one, else a dead subscriber's; the news that a durable position was lost are
    /// kept for as long as that goes, a position itself always.
    ///
    /// # Errors
    /// `ERR_RINGBELL_NO_SLOT`, `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn claim(&self, control: &ControlMemory, control_fd: Option<impl AsFd>) -> Result<usize> {
        let mut state = self.state();
        if let Some(control_fd) = control_fd
            && state.file.is_none()
        {
            state.file = Some(ForkGuarded::new(memfd::reopen(control_fd)?));
        }
        for wanted in [Vacancy::Free, Vacancy::Anonymous, Vacancy::Lost] {
            for slot in 0..state.held.len() {
                if !state.held[slot] && control.vacancy(slot) == Some(wanted) && state.take(control, slot)? {
                    state.held[slot] = true;
                    return Ok(slot);
                }
            }
        }
        Err(Error::NoSlot { max: state.held.len() })
    }

    /// Gives a slot back.
    pub(crate) fn release(&self, slot: usize) {
        let mut state = self.state();
        if let Some(file) = &state.file {
            // What cannot be given back now goes with the file: the slot stays taken as long as this process lives.
            let _ = lock::release(file, layout::slot_lock_byte(slot));
        }
        state.held[slot] = false;
    }

    /// Whether this process holds the slot.
    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.state().held.get(slot).copied().unwrap_or(false)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&self, control: &ControlMemory, slot: usize) -> Result<bool> {
        let (Some(file), byte) = (&self.file, layout::slot_lock_byte(slot)) else { return Ok(true) };
        if !lock::take(file, byte)? {
            return Ok(false);
        }
        // Somebody with a name may have come and died since it was looked at.
        let kept = control.vacancy(slot) == Some(Vacancy::Kept);
        if kept {
            lock::release(file, byte)?;
        }
        Ok(!kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Segments, SlotLock, create};

    #[test]
    fn what_is_held_here_is_held_against_everybody() {
        let own = create(4096, 3).unwrap();
        let peer = memfd::reopen(&own.control_fd).unwrap();
        let proxies = ProxySlots::new(3);
        assert_eq!(SlotLock::claim(&own.control.memory(), &peer).unwrap(), 0);
        assert_eq!(proxies.claim(&own.control.memory(), Some(&own.control_fd)).unwrap(), 1);
        assert_eq!(proxies.claim(&own.control.memory(), Some(&own.control_fd)).unwrap(), 2);
        assert_eq!(
            proxies.claim(&own.control.memory(), Some(&own.control_fd)).unwrap_err(),
            Error::NoSlot { max: 3 }
        );
        let other = memfd::reopen(&own.control_fd).unwrap();
        assert!(SlotLock::claim(&own.control.memory(), &other).is_err());
        assert!(proxies.holds(2) && !proxies.holds(0) && SlotLock::is_held(&own.control_own, 2).unwrap());
        proxies.release(1);
        assert!(!SlotLock::is_held(&own.control_own, 1).unwrap());
        assert_eq!(SlotLock::claim(&own.control.memory(), &other).unwrap(), 1);
        assert!(proxies.claim(&own.control.memory(), Some(&own.control_fd)).is_err());
    }

    #[test]
    fn without_a_segment_there_is_nobody_else() {
        let local = Segments::local(4096, 2).unwrap();
        let proxies = ProxySlots::new(2);
        let claim = || proxies.claim(&local.control().memory(), None::<&std::fs::File>);
        assert_eq!((claim().unwrap(), claim().unwrap()), (0, 1));
        assert!(claim().is_err());
        proxies.release(0);
        assert_eq!(claim().unwrap(), 0);
    }
}
