//! A server's quota: how many connections there may be at a time, and how many of them another user may hold.
//!
//! Invariant: a user that is neither the server's own nor root never holds more permits than are left free, and takes
//! them no faster than its ration. So one user alone cannot keep all others out. A permit is given back when it is
//! dropped, on any thread; a forked child must not give it back. The server's side of the handshake asks for permits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::port::Admissions;
use crate::sys::generation::Home;

/// All permits of one server.
pub(super) struct ConnectionQuota {
    most: u32,
    permits: Mutex<Permits>,
}

#[derive(Default)]
struct Permits {
    taken: u32,
    /// How many permits each other user holds.
    of_others: HashMap<u32, u32>,
    /// How often each other user came in recent time.
    admissions: Admissions,
}

/// The right to have one connection.
pub(super) struct Permit {
    quota: Arc<ConnectionQuota>,
    /// The holder's user id, if it is another user's.
    other: Option<u32>,
    home: Home,
}

impl ConnectionQuota {
    pub(super) fn new(most: u32) -> Arc<ConnectionQuota> {
        Arc::new(ConnectionQuota { most, permits: Mutex::default() })
    }

    /// Takes a permit, if there is one. `other` is the client's user id if the client belongs to another user.
    pub(super) fn take(self: &Arc<Self>, other: Option<u32>) -> Option<Permit> {
        let mut permits = self.permits();
        let free = self.most - permits.taken;
        if free == 0 {
            return None;
        }
        if let Some(uid) = other {
            let held = permits.of_others.get(&uid).copied().unwrap_or(0);
            // A user that holds many permits waits by itself, and makes no other user wait.
            if held >= free || !permits.admissions.take(uid) {
                return None;
            }
            permits.of_others.insert(uid, held + 1);
        }
        permits.taken += 1;
        Some(Permit { quota: Arc::clone(self), other, home: Home::here() })
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // In a forked child, the thread that holds the lock may not exist.
        if self.home.is_foreign() {
            return;
        }
        let mut permits = self.quota.permits();
        permits.taken -= 1;
        if let Some(uid) = self.other
            && let Some(held) = permits.of_others.get_mut(&uid)
        {
            *held -= 1;
            if *held == 0 {
                permits.of_others.remove(&uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(quota: &Arc<ConnectionQuota>, other: Option<u32>, wanted: usize) -> Vec<Permit> {
        std::iter::from_fn(|| quota.take(other)).take(wanted).collect()
    }

    #[test]
    fn another_user_gets_half_of_the_free_places_and_the_owner_all() {
        let quota = ConnectionQuota::new(16);
        let greedy = take(&quota, Some(7), 100);
        assert_eq!(greedy.len(), 8);
        let second = take(&quota, Some(8), 100);
        assert_eq!(second.len(), 4);
        let own = take(&quota, None, 100);
        assert_eq!(own.len(), 4);
        assert!(quota.take(Some(9)).is_none());
        drop(own);
        assert_eq!(take(&quota, Some(9), 100).len(), 2);
        drop((greedy, second));
        let permits = quota.permits();
        assert_eq!((permits.taken, permits.of_others.len()), (0, 0), "given back");
    }

    #[test]
    fn the_only_permit_goes_to_any_user() {
        let quota = ConnectionQuota::new(1);
        let permit = quota.take(Some(7));
        assert!(permit.is_some() && quota.take(None).is_none());
        drop(permit);
        assert!(quota.take(None).is_some());
    }

    #[test]
    fn a_user_that_comes_again_and_again_is_rationed() {
        let quota = ConnectionQuota::new(64);
        let came = (0..200).filter(|_| quota.take(Some(7)).is_some()).count();
        assert!((32..200).contains(&came), "{came} at once");
        assert!(quota.take(Some(8)).is_some(), "another user is not");
        assert_eq!((0..200).filter(|_| quota.take(None).is_some()).count(), 200, "nor is one's own");
    }
}
