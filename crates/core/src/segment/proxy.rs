//! Slots that the publisher's process holds itself, in the stead of subscribers that it streams to.
//!
//! Invariant: a slot that is held here is held against everybody. Where there is a control segment its lock is taken, through
//! one description for all of them; what that description locks the kernel does not keep apart, so `held` does. Where there
//! is none, nobody else can claim. The same goes for durable names. Shared by the bus thread, which claims, and the
//! publisher, which asks who lives.

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
    held: Vec<Option<Held>>,
    /// The control segment through a description for these locks alone; there from the first claim on.
    file: Option<ForkGuarded>,
}

/// What goes with a slot.
#[derive(Clone, Copy)]
struct Held {
    /// The byte that stands for its holder's durable name.
    name_byte: Option<u64>,
}

impl ProxySlots {
    pub(crate) fn new(slots: usize) -> ProxySlots {
        ProxySlots { state: Mutex::new(State { held: vec![None; slots], file: None }) }
    }

    /// Claims a slot: one that is free if there is one, else a dead subscriber's; the news that a durable position was lost are
    /// kept for as long as that goes, a position itself always. With the hash of a durable name, if that is not 0, claims
    /// the name, too, and the slot that holds its position if there is one.
    ///
    /// # Errors
    /// `ERR_RINGBELL_NO_SLOT`, `ERR_RINGBELL_RESOURCE`; `ERR_RINGBELL_NAME_TAKEN` while somebody else holds the name.
    pub(crate) fn claim(
        &self,
        control: &ControlMemory,
        control_fd: Option<impl AsFd>,
        name: u64,
    ) -> Result<usize> {
        let mut state = self.state();
        if let Some(control_fd) = control_fd
            && state.file.is_none()
        {
            state.file = Some(ForkGuarded::new(memfd::reopen(control_fd)?));
        }
        if name == 0 { state.claim(control, None) } else { state.claim_named(control, name) }
    }

    /// Gives a slot back.
    pub(crate) fn release(&self, slot: usize) {
        let mut state = self.state();
        let held = state.held[slot].take();
        // What cannot be given back now goes with the file: the slot stays taken as long as this process lives.
        let _ = state.unlock(layout::slot_lock_byte(slot));
        if let Some(Held { name_byte: Some(byte) }) = held {
            let _ = state.unlock(byte);
        }
    }

    /// Whether this process holds the slot.
    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.state().held.get(slot).is_some_and(Option::is_some)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn claim(&mut self, control: &ControlMemory, name_byte: Option<u64>) -> Result<usize> {
        for wanted in [Vacancy::Free, Vacancy::Anonymous, Vacancy::Lost] {
            for slot in 0..self.held.len() {
                let (byte, vacancy) = (layout::slot_lock_byte(slot), || control.vacancy(slot));
                if self.held[slot].is_some() || vacancy() != Some(wanted) || !self.lock(byte)? {
                    continue;
                }
                if vacancy() != Some(Vacancy::Kept) {
                    self.held[slot] = Some(Held { name_byte });
                    return Ok(slot);
                }
                // Somebody with a name came and died since it was looked at.
                self.unlock(byte)?;
            }
        }
        Err(Error::NoSlot { max: self.held.len() })
    }

    /// As `SlotLock::claim_named`.
    fn claim_named(&mut self, control: &ControlMemory, name: u64) -> Result<usize> {
        let byte = layout::name_lock_byte(name);
        // Two names can have one byte: then they exclude each other, here as everywhere.
        if self.held.iter().flatten().any(|held| held.name_byte == Some(byte)) || !self.lock(byte)? {
            return Err(taken(name));
        }
        let claimed = self.claim_kept(control, name, byte);
        if claimed.is_err() {
            self.unlock(byte)?;
        }
        claimed
    }

    /// The slot that holds the position of the name, which is locked, if there is one, else any.
    fn claim_kept(&mut self, control: &ControlMemory, name: u64, byte: u64) -> Result<usize> {
        match control.slot_of(name) {
            Some(slot) if self.held[slot].is_none() && self.lock(layout::slot_lock_byte(slot))? => {
                self.held[slot] = Some(Held { name_byte: Some(byte) });
                Ok(slot)
            }
            // Whoever has locked it is about to see what it holds, and to leave it.
            Some(slot) if control.vacancy(slot) == Some(Vacancy::Kept) => Err(taken(name)),
            _ => self.claim(control, Some(byte)),
        }
    }

    /// Locks a byte against other processes, if there are any that could claim.
    fn lock(&self, byte: u64) -> Result<bool> {
        self.file.as_ref().map_or(Ok(true), |file| lock::take(file, byte))
    }

    fn unlock(&self, byte: u64) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| lock::release(file, byte))
    }
}

/// The name itself is not known here, and its holder says it better.
fn taken(hash: u64) -> Error {
    Error::NameTaken { name: format!("{hash:016x}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{DurableName, Segments, SlotLock, create};

    #[test]
    fn what_is_held_here_is_held_against_everybody() {
        let own = create(4096, 3).unwrap();
        let peer = memfd::reopen(&own.control_fd).unwrap();
        let proxies = ProxySlots::new(3);
        assert_eq!(SlotLock::claim(&own.control.memory(), &peer).unwrap(), 0);
        assert_eq!(proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).unwrap(), 1);
        assert_eq!(proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).unwrap(), 2);
        assert_eq!(
            proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).unwrap_err(),
            Error::NoSlot { max: 3 }
        );
        let other = memfd::reopen(&own.control_fd).unwrap();
        assert!(SlotLock::claim(&own.control.memory(), &other).is_err());
        assert!(proxies.holds(2) && !proxies.holds(0) && SlotLock::is_held(&own.control_own, 2).unwrap());
        proxies.release(1);
        assert!(!SlotLock::is_held(&own.control_own, 1).unwrap());
        assert_eq!(SlotLock::claim(&own.control.memory(), &other).unwrap(), 1);
        assert!(proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).is_err());
    }

    #[test]
    fn without_a_segment_there_is_nobody_else() {
        let local = Segments::local(4096, 2).unwrap();
        let proxies = ProxySlots::new(2);
        let claim = || proxies.claim(&local.control().memory(), None::<&std::fs::File>, 0);
        assert_eq!((claim().unwrap(), claim().unwrap()), (0, 1));
        assert!(claim().is_err());
        proxies.release(0);
        assert_eq!(claim().unwrap(), 0);
    }

    #[test]
    fn a_name_has_one_holder_here_and_elsewhere() {
        let own = create(4096, 4).unwrap();
        let memory = own.control.memory();
        let proxies = ProxySlots::new(4);
        let name = DurableName::parse("billing").unwrap();
        let claim = |hash| proxies.claim(&memory, Some(&own.control_fd), hash);
        let slot = claim(name.hash()).unwrap();
        assert_eq!(claim(name.hash()).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        // Two hashes that differ in what a byte does not say exclude each other, too.
        assert_eq!(claim(name.hash() ^ 1).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        let peer = memfd::reopen(&own.control_fd).unwrap();
        assert_eq!(SlotLock::claim_named(&memory, &peer, &name), Err(name.taken()));
        let other = DurableName::parse("audit").unwrap();
        assert_ne!(claim(other.hash()).unwrap(), slot);
        proxies.release(slot);
        assert!(SlotLock::claim_named(&memory, &peer, &name).is_ok());
        // The attempt has left nothing behind, and the other name is held as before.
        assert_eq!(claim(name.hash()).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        assert_eq!(claim(other.hash()).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        drop(peer);
        assert!(claim(name.hash()).is_ok());
    }

    #[test]
    fn a_name_without_a_slot_is_given_back() {
        for shared in [true, false] {
            let own = create(4096, 1).unwrap();
            let fd = shared.then_some(&own.control_fd);
            let proxies = ProxySlots::new(1);
            let claim = |hash| proxies.claim(&own.control.memory(), fd, hash);
            let anonymous = claim(0).unwrap();
            assert_eq!(claim(7).unwrap_err(), Error::NoSlot { max: 1 });
            proxies.release(anonymous);
            assert_eq!(claim(7).unwrap(), anonymous, "{shared}");
            assert_eq!(claim(7).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        }
    }
}
