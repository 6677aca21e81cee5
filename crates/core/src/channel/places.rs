//! A server's places: how many connections there may be at a time, and how many of them another user may hold.
//!
//! Invariant: a user that is neither the server's own nor root never holds more places than are left free, and takes them no
//! faster than its ration, so that none keeps everybody else out alone. A place is given back when it is dropped, wherever
//! that is; in a forked child it is not the child's to give.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::acquire::Admissions;
use crate::sys::generation::Home;

/// All places of one server.
pub(super) struct Places {
    most: u32,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    taken: u32,
    /// How many of them each other user holds.
    of_others: HashMap<u32, u32>,
    /// How often each came lately.
    admissions: Admissions,
}

/// One connection's.
pub(super) struct Place {
    places: Arc<Places>,
    /// Its user, if it is another one.
    other: Option<u32>,
    home: Home,
}

impl Places {
    pub(super) fn new(most: u32) -> Arc<Places> {
        Arc::new(Places { most, book: Mutex::default() })
    }

    /// Takes a place, if there is one; `other` is the user of a client whose user is another one.
    pub(super) fn enter(self: &Arc<Self>, other: Option<u32>) -> Option<Place> {
        let mut book = self.book();
        let free = self.most - book.taken;
        if free == 0 {
            return None;
        }
        if let Some(uid) = other {
            let held = book.of_others.get(&uid).copied().unwrap_or(0);
            // What it holds makes it wait, not those who come after it.
            if held >= free || !book.admissions.take(uid) {
                return None;
            }
            book.of_others.insert(uid, held + 1);
        }
        book.taken += 1;
        Some(Place { places: Arc::clone(self), other, home: Home::here() })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nobody may be left to unlock the book there.
        if self.home.is_foreign() {
            return;
        }
        let mut book = self.places.book();
        book.taken -= 1;
        if let Some(uid) = self.other
            && let Some(held) = book.of_others.get_mut(&uid)
        {
            *held -= 1;
            if *held == 0 {
                book.of_others.remove(&uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>, other: Option<u32>, wanted: usize) -> Vec<Place> {
        std::iter::from_fn(|| places.enter(other)).take(wanted).collect()
    }

    #[test]
    fn another_user_holds_no_more_than_are_left_and_ones_own_takes_all() {
        let places = Places::new(16);
        let greedy = take(&places, Some(7), 100);
        assert_eq!(greedy.len(), 8);
        let second = take(&places, Some(8), 100);
        assert_eq!(second.len(), 4);
        let own = take(&places, None, 100);
        assert_eq!(own.len(), 4);
        assert!(places.enter(Some(9)).is_none());
        drop(own);
        assert_eq!(take(&places, Some(9), 100).len(), 2);
        drop((greedy, second));
        let book = places.book();
        assert_eq!((book.taken, book.of_others.len()), (0, 0), "given back");
    }

    #[test]
    fn the_only_place_is_for_whoever_comes() {
        let places = Places::new(1);
        let place = places.enter(Some(7));
        assert!(place.is_some() && places.enter(None).is_none());
        drop(place);
        assert!(places.enter(None).is_some());
    }

    #[test]
    fn who_comes_again_and_again_is_rationed() {
        let places = Places::new(64);
        let came = (0..200).filter(|_| places.enter(Some(7)).is_some()).count();
        assert!((32..200).contains(&came), "{came} at once");
        assert!(places.enter(Some(8)).is_some(), "another user is not");
        assert_eq!((0..200).filter(|_| places.enter(None).is_some()).count(), 200, "nor is one's own");
    }
}
