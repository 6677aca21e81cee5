//! Guests: subscribers of other users, each with a control segment of its own that has one slot.
//!
//! A subscriber that shares a control segment can stop its neighbours, so a guest shares it with nobody. The publisher knows the
//! memory of all places from the start; which of them are taken says [`Admitted`], a word of the publisher's own process
//! that no peer sees. A topic without places never looks at it, and nobody pays for a place that is free.
//!
//! A place's bit is set before its guest can have the segment, so it is set before the guest's slot is joining: either a
//! scan of the publisher's sees the bit, or the guest sees the `head` before that scan (I3, as for any joiner). The bit
//! alone decides whether a guest counts: what a guest writes into its slot after it was dismissed moves nobody.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::memory::ControlMemory;
use crate::slot::Slot;
use crate::sync::{AtomicU64, Ordering, fence};

/// Most guests of a topic: one bit each.
pub const MAX_GUESTS: usize = 64;

/// Which places are taken. Shared between the publisher and the bus thread, which admits guests.
#[derive(Clone, Debug, Default)]
pub struct Admitted(Arc<AtomicU64>);

impl Admitted {
    /// Nobody is.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the guest in this place counts. Called before it is given the place's segment.
    pub fn admit(&self, place: usize) {
        // SYNC: pairs with the load in `bits`: the segment in this place is the new guest's.
        self.0.fetch_or(1 << place, Ordering::Release);
    }

    /// From now on it does not. False: it did not before. A publisher that is about to wait for room either sees this,
    /// or has announced so before this returns (SYNC: the fence pairs with the one in `announce_wait`).
    pub fn dismiss(&self, place: usize) -> bool {
        let before = self.0.fetch_and(!(1 << place), Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before >> place & 1 == 1
    }

    /// Whether the guest in this place counts.
    pub fn contains(&self, place: usize) -> bool {
        self.bits() >> place & 1 == 1
    }

    /// One bit for each place that is taken.
    pub fn bits(&self) -> u64 {
        // SYNC: pairs with the release in `admit`.
        self.0.load(Ordering::Acquire)
    }
}

/// What a publisher has of its guests.
#[derive(Default)]
pub(crate) struct Guests {
    places: Box<[ControlMemory]>,
    admitted: Admitted,
    /// Guests to be woken that nobody has asked for yet.
    bells: u64,
    /// How long one may leave no room for one and the same message, in nanoseconds; 0: for ever.
    pub(crate) patience: u64,
}

impl Guests {
    pub(crate) fn new(places: Box<[ControlMemory]>, admitted: Admitted, patience: u64) -> Self {
        debug_assert!(places.len() <= MAX_GUESTS);
        Self { places, admitted, bells: 0, patience }
    }

    /// The places that are taken, as a list that does not change while it is walked.
    pub(crate) fn present(&self) -> Places {
        match self.places.len() {
            0 => Places(0),
            places => Places(self.admitted.bits() & (u64::MAX >> (MAX_GUESTS - places))),
        }
    }

    /// The one slot of a place that is taken.
    pub(crate) fn slot(&self, place: usize) -> Option<&Slot> {
        let memory = self.places.get(place)?;
        if self.admitted.contains(place) { memory.slot(0) } else { None }
    }

    pub(crate) fn control(&self, place: usize) -> Option<ControlMemory> {
        self.places.get(place).copied()
    }

    pub(crate) fn dismiss(&self, place: usize) -> bool {
        self.admitted.dismiss(place)
    }

    /// After `head` was stored and the full fence of `take_sleepers`: notes which guests are to be woken.
    #[inline]
    pub(crate) fn note_sleepers(&mut self) {
        if !self.places.is_empty() {
            self.look_at_sleepers();
        }
    }

    fn look_at_sleepers(&mut self) {
        for place in self.present() {
            let sleepers = &self.places[place].header().sleepers;
            // SYNC: as in `take_sleepers`, whose fence came before.
            if sleepers.load(Ordering::Relaxed) != 0 && sleepers.swap(0, Ordering::Relaxed) != 0 {
                self.bells |= 1 << place;
            }
        }
    }

    pub(crate) fn take_bells(&mut self) -> u64 {
        core::mem::take(&mut self.bells)
    }

    /// Says, or no longer says, to every guest that the publisher waits for room. A full fence follows where it is said.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        for place in self.present() {
            // SYNC: pairs with the acquire in `take_waiting`: a guest that takes the flag, and whoever it tells so, sees what
            // the publisher did before.
            self.places[place].header().publisher_waiting.store(waiting.into(), Ordering::Release);
        }
    }
}

/// The numbers of the bits that are set.
pub(crate) struct Places(u64);

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(place)
    }
}
