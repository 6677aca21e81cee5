//! The slots that the publisher's process holds for subscribers that it streams to.
//!
//! The kernel cannot tell apart the locks of one open file, so a table in this process does. If the control segment
//! is shared, every entry is also a file lock, which holds against other processes. The bus thread claims and
//! releases slots here, and the publisher asks which slots are held. It never waits for another process.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ringbell_ring::{ControlMemory, layout};

use super::name::DurableName;
use super::slots::{self, SlotLocks};
use crate::Result;
use crate::sys::fork::ForkGuarded;
use crate::sys::{lock, memfd};

/// The slots held by this process.
#[derive(Default)]
pub(crate) struct ProxySlots {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    locks: LockTable,
    /// For each claimed slot: the byte of its holder's durable name, if it has one.
    claimed: HashMap<usize, Option<u64>>,
}

/// The locks that this process holds, by byte.
#[derive(Default)]
struct LockTable {
    held: HashSet<u64>,
    /// The control segment, if other processes have it, through an open file for these locks alone. It is opened at
    /// the first claim.
    file: Option<ForkGuarded>,
}

impl SlotLocks for LockTable {
    fn take(&mut self, byte: u64) -> Result<bool> {
        if self.held.contains(&byte) {
            return Ok(false);
        }
        let taken = self.file.as_ref().map_or(Ok(true), |file| lock::take(file, byte))?;
        if taken {
            self.held.insert(byte);
        }
        Ok(taken)
    }

    fn release(&mut self, byte: u64) -> Result<()> {
        self.held.remove(&byte);
        self.file.as_ref().map_or(Ok(()), |file| lock::release(file, byte))
    }
}

impl ProxySlots {
    /// Claims a slot, also against other processes if they have the control segment. `name`: the hash of a durable
    /// name, or 0.
    ///
    /// # Errors
    /// As [`slots::claim`], and `ERR_RINGBELL_RESOURCE` when descriptors ran out.
    pub(crate) fn claim(
        &self,
        control: &ControlMemory,
        control_fd: Option<impl AsFd>,
        name: u64,
    ) -> Result<usize> {
        let mut state = self.state();
        if let Some(control_fd) = control_fd
            && state.locks.file.is_none()
        {
            state.locks.file = Some(ForkGuarded::new(memfd::reopen(control_fd)?));
        }
        let name = DurableName::from_hash(name);
        // From the lowest slot on. Only one thread claims here, and one doorbell then wakes as many streams as
        // possible.
        let slot = slots::claim_from(0, control, &mut state.locks, name.as_ref())?;
        state.claimed.insert(slot, name.map(|name| layout::name_lock_byte(name.hash())));
        Ok(slot)
    }

    /// Gives back a slot, and the durable name that was claimed with it.
    pub(crate) fn release(&self, slot: usize) {
        let mut state = self.state();
        let name = state.claimed.remove(&slot).flatten();
        for byte in [Some(layout::slot_lock_byte(slot)), name].into_iter().flatten() {
            // A lock that cannot be released now is released when the file is closed. The slot stays taken as long
            // as this process lives.
            let _ = state.locks.release(byte);
        }
    }

    /// Whether the slot's subscriber lives. `control_fd`: the control segment, if other processes have it, through
    /// an open file that claims no slot.
    pub(crate) fn is_alive(&self, control_fd: Option<impl AsFd>, slot: usize) -> bool {
        match control_fd {
            // A failed probe proves nothing, and only a proof of death may free a slot.
            Some(control_fd) => slots::is_held(control_fd, slot).unwrap_or(true),
            None => self.state().claimed.contains_key(&slot),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::segment::slots::FileLocks;
    use crate::segment::{Segments, create};

    /// What another process would get.
    fn claim_elsewhere(memory: &ControlMemory, own: impl AsFd, name: Option<&DurableName>) -> Result<usize> {
        slots::claim(memory, &mut FileLocks(own), name)
    }

    #[test]
    fn a_slot_held_by_a_proxy_is_held_against_all_processes() {
        let own = create(4096, 3).unwrap();
        let peer = memfd::reopen(&own.control_fd).unwrap();
        let proxies = ProxySlots::default();
        assert_eq!(claim_elsewhere(&own.control.memory(), &peer, None).unwrap(), 0);
        assert_eq!(proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).unwrap(), 1);
        assert_eq!(proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).unwrap(), 2);
        assert_eq!(
            proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).unwrap_err(),
            Error::NoSlot { max: 3 }
        );
        let other = memfd::reopen(&own.control_fd).unwrap();
        assert!(claim_elsewhere(&own.control.memory(), &other, None).is_err());
        assert!(slots::is_held(&own.control_own, 2).unwrap());
        proxies.release(1);
        assert!(!slots::is_held(&own.control_own, 1).unwrap());
        assert_eq!(claim_elsewhere(&own.control.memory(), &other, None).unwrap(), 1);
        assert!(proxies.claim(&own.control.memory(), Some(&own.control_fd), 0).is_err());
    }

    #[test]
    fn proxy_slots_without_a_segment_are_local() {
        let local = Segments::local(4096, 2).unwrap();
        let proxies = ProxySlots::default();
        let claim = || proxies.claim(&local.control().memory(), None::<&std::fs::File>, 0);
        let alive = |slot| proxies.is_alive(None::<&std::fs::File>, slot);
        assert_eq!((claim().unwrap(), claim().unwrap()), (0, 1));
        assert!(claim().is_err() && alive(0) && alive(1));
        proxies.release(0);
        assert!(!alive(0) && alive(1));
        assert_eq!(claim().unwrap(), 0);
    }

    #[test]
    fn a_name_has_one_holder_here_and_elsewhere() {
        let own = create(4096, 4).unwrap();
        let memory = own.control.memory();
        let proxies = ProxySlots::default();
        let name = DurableName::parse("billing").unwrap();
        let claim = |hash| proxies.claim(&memory, Some(&own.control_fd), hash);
        let slot = claim(name.hash()).unwrap();
        assert_eq!(claim(name.hash()).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        // Two hashes that select the same byte exclude each other, too.
        assert_eq!(claim(name.hash() ^ 1).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        let peer = memfd::reopen(&own.control_fd).unwrap();
        assert_eq!(claim_elsewhere(&memory, &peer, Some(&name)), Err(name.taken()));
        let other = DurableName::parse("audit").unwrap();
        assert_ne!(claim(other.hash()).unwrap(), slot);
        proxies.release(slot);
        assert!(claim_elsewhere(&memory, &peer, Some(&name)).is_ok());
        // The attempt left nothing behind, and the other name is held as before.
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
            let proxies = ProxySlots::default();
            let claim = |hash| proxies.claim(&own.control.memory(), fd, hash);
            let anonymous = claim(0).unwrap();
            assert_eq!(claim(7).unwrap_err(), Error::NoSlot { max: 1 });
            proxies.release(anonymous);
            assert_eq!(claim(7).unwrap(), anonymous, "{shared}");
            assert_eq!(claim(7).unwrap_err().code(), "ERR_RINGBELL_NAME_TAKEN");
        }
    }
}
