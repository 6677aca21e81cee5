//! Guests: subscribers of other users. Each has a control segment of its own with one slot.
//!
//! A process that shares a control segment can stop its neighbours, so no other process shares a guest's. The publisher
//! knows the memory of all guest slots from the start. [`Admitted`], a word of the publisher's own process that
//! no peer sees, says which of them are taken. A topic without guest slots never looks at it.
//!
//! Invariants: the bit of a guest slot is set before its guest can have the segment, so before the guest's slot is
//! joining. Either a scan of the publisher sees the bit, or the guest sees the `head` before that scan (I3, as for any
//! joiner). The bit alone decides whether a guest counts: after a guest was dismissed, its slot has no effect.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::memory::ControlMemory;
use crate::slot::Slot;
use crate::sync::{AtomicU64, Ordering, fence};

/// Most guests of a topic: one bit each.
pub const MAX_GUESTS: usize = 64;

/// Which guest slots are taken. The publisher shares it with the code that admits guests in its process.
#[derive(Clone, Debug, Default)]
pub struct Admitted(Arc<AtomicU64>);

impl Admitted {
    /// No guest slot is taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the guest in this guest slot counts. Called before the guest gets the segment.
    pub fn admit(&self, guest_slot: usize) {
        // SYNC: pairs with the load in `bits`: the segment that is mapped there is the new guest's.
        self.0.fetch_or(1 << guest_slot, Ordering::Release);
    }

    /// From now on the guest does not count. False: it did not count before. A publisher that is about to wait for room
    /// either sees this, or has announced its wait before this returns (SYNC: the fence pairs with the one in
    /// `announce_wait`).
    pub fn dismiss(&self, guest_slot: usize) -> bool {
        let before = self.0.fetch_and(!(1 << guest_slot), Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before >> guest_slot & 1 == 1
    }

    /// Whether the guest in this guest slot counts.
    pub fn contains(&self, guest_slot: usize) -> bool {
        self.bits() >> guest_slot & 1 == 1
    }

    /// One bit for each guest slot that is taken.
    pub fn bits(&self) -> u64 {
        // SYNC: pairs with the release in `admit`.
        self.0.load(Ordering::Acquire)
    }
}

/// The publisher's side of its guests.
#[derive(Default)]
pub(crate) struct Guests {
    guest_slots: Box<[ControlMemory]>,
    admitted: Admitted,
    /// Guests that must be woken, since `take_bells` was last called.
    bells: u64,
    /// How long a guest may block one message, in nanoseconds; 0: without limit.
    pub(crate) patience: u64,
}

impl Guests {
    pub(crate) fn new(guest_slots: Box<[ControlMemory]>, admitted: Admitted, patience: u64) -> Self {
        debug_assert!(guest_slots.len() <= MAX_GUESTS);
        Self { guest_slots, admitted, bells: 0, patience }
    }

    /// The guest slots that are taken. The list does not change while it is walked.
    pub(crate) fn present(&self) -> GuestSlots {
        match self.guest_slots.len() {
            0 => GuestSlots(0),
            guest_slots => GuestSlots(self.admitted.bits() & (u64::MAX >> (MAX_GUESTS - guest_slots))),
        }
    }

    /// The one slot of a guest slot that is taken; `None` if it is free.
    pub(crate) fn slot(&self, guest_slot: usize) -> Option<&Slot> {
        let memory = self.guest_slots.get(guest_slot)?;
        if self.admitted.contains(guest_slot) { memory.slot(0) } else { None }
    }

    pub(crate) fn control(&self, guest_slot: usize) -> Option<ControlMemory> {
        self.guest_slots.get(guest_slot).copied()
    }

    pub(crate) fn dismiss(&self, guest_slot: usize) -> bool {
        self.admitted.dismiss(guest_slot)
    }

    /// Notes which guests must be woken. Called after `take_sleepers`, behind the same fence.
    #[inline]
    pub(crate) fn note_sleepers(&mut self) {
        if !self.guest_slots.is_empty() {
            self.poll_sleepers();
        }
    }

    fn poll_sleepers(&mut self) {
        for guest_slot in self.present() {
            let sleepers = &self.guest_slots[guest_slot].header().sleepers;
            // SYNC: as in `take_sleepers`.
            if sleepers.load(Ordering::Relaxed) != 0 && sleepers.swap(0, Ordering::Relaxed) != 0 {
                self.bells |= 1 << guest_slot;
            }
        }
    }

    /// Whether a guest must be woken.
    #[inline]
    pub(crate) fn has_bells(&self) -> bool {
        self.bells != 0
    }

    pub(crate) fn take_bells(&mut self) -> u64 {
        core::mem::take(&mut self.bells)
    }

    /// Tells every guest that the publisher waits for room, or that it no longer does. The caller makes a full fence
    /// after `true`.
    pub(crate) fn set_waiting(&self, waiting: bool) {
        for guest_slot in self.present() {
            // SYNC: pairs with the acquire in `take_waiting`: a guest that takes the flag sees what the publisher did
            // before. So does a process that the guest then rings.
            self.guest_slots[guest_slot].header().publisher_waiting.store(waiting.into(), Ordering::Release);
        }
    }

    /// Tells every guest whether the publisher wants to hear that it comes or leaves. As `set_waiting`.
    pub(crate) fn set_listening(&self, listening: bool) {
        for guest_slot in self.present() {
            // SYNC: pairs with the acquire in `take_listening`.
            let flag = &self.guest_slots[guest_slot].header().publisher_listening;
            flag.store(listening.into(), Ordering::Release);
        }
    }
}

/// The numbers of the set bits, in order.
pub(crate) struct GuestSlots(u64);

impl Iterator for GuestSlots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let guest_slot = (self.0 != 0).then(|| self.0.trailing_zeros() as usize)?;
        self.0 &= self.0 - 1;
        Some(guest_slot)
    }
}
