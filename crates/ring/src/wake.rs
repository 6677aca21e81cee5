//! Sleeping and waking: the three store-then-look protocols of the ring. Two are the mirror image of the first.
//!
//! ```text
//! sleeper                                waker
//!   sets its flag                          stores head (or its cursor, or its state)
//!   fence(SeqCst)                          fence(SeqCst)
//!   looks again, sleeps if nothing         loads the flags, swaps them to zero if any, rings
//! ```
//!
//! Invariant (I9): both sides have a full fence, so at least one of them sees the other's store, and no wake-up is lost.
//! Only the waker clears a flag, and only by a swap. A sleeper shares its bit with neighbours, so it would clear theirs,
//! too. A waker that loaded and stored would lose a flag set in between. Model checking finds both mistakes.
//!
//! Called by `Consumer` and `Producer`. Nothing here rings or sleeps: the crate above does.

use crate::layout::{MAX_SLOTS, SLOTS_PER_DOORBELL};
use crate::memory::ControlMemory;
use crate::sync::{Ordering, fence};

const _: () = assert!(MAX_SLOTS / SLOTS_PER_DOORBELL == u64::BITS as usize);

/// Subscriber: announces that a listener of `slot`'s doorbell may be asleep. Look again before sleeping.
pub(crate) fn announce_sleep(control: &ControlMemory, slot: usize) {
    let bit = 1u64 << (slot / SLOTS_PER_DOORBELL);
    // SYNC: the fence pairs with the one in `take_sleepers`.
    control.header().sleepers.fetch_or(bit, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Publisher, after it stored `head`: the doorbells to ring, one bit each.
///
/// The fence also orders that store before any later look at the slots. `Producer::make_room` relies on this (I3).
pub(crate) fn take_sleepers(control: &ControlMemory) -> u64 {
    // SYNC: pairs with the fence in `announce_sleep`, and with the one in `Consumer::join`.
    fence(Ordering::SeqCst);
    let sleepers = &control.header().sleepers;
    // Load before the swap: the cache line stays shared while all subscribers are awake.
    if sleepers.load(Ordering::Relaxed) == 0 { 0 } else { sleepers.swap(0, Ordering::Relaxed) }
}

/// Publisher: announces that it waits for room. Look again before sleeping.
pub(crate) fn announce_wait(control: &ControlMemory) {
    control.header().publisher_waiting.store(1, Ordering::Relaxed);
    // SYNC: pairs with the fence in `take_waiting`.
    fence(Ordering::SeqCst);
}

/// Publisher: takes the announcement back, because it found room.
pub(crate) fn retract_wait(control: &ControlMemory) {
    control.header().publisher_waiting.store(0, Ordering::Relaxed);
}

/// Subscriber, after it stored its cursor: true if the publisher's doorbell must be rung.
pub(crate) fn take_waiting(control: &ControlMemory) -> bool {
    // SYNC: pairs with the fence in `announce_wait`.
    fence(Ordering::SeqCst);
    let waiting = &control.header().publisher_waiting;
    // SYNC: the acquire pairs with the release in `Guests::set_waiting`.
    waiting.load(Ordering::Relaxed) != 0 && waiting.swap(0, Ordering::Acquire) != 0
}

/// Publisher: announces that it wants to hear of subscribers that come and leave. Look at the slots afterwards.
pub(crate) fn announce_listening(control: &ControlMemory) {
    control.header().publisher_listening.store(1, Ordering::Relaxed);
    // SYNC: pairs with the fence in `take_listening`.
    fence(Ordering::SeqCst);
}

/// Publisher: no longer wants to hear.
pub(crate) fn retract_listening(control: &ControlMemory) {
    control.header().publisher_listening.store(0, Ordering::Relaxed);
}

/// Publisher: whether no subscriber has come or left since the announcement.
pub(crate) fn is_listening(control: &ControlMemory) -> bool {
    // Relaxed: a subscriber that takes the flag rings afterwards.
    control.header().publisher_listening.load(Ordering::Relaxed) != 0
}

/// Subscriber, after it changed the state of its slot: true if the publisher's doorbell must be rung.
pub(crate) fn take_listening(control: &ControlMemory) -> bool {
    // SYNC: pairs with the fence in `announce_listening`.
    fence(Ordering::SeqCst);
    let listening = &control.header().publisher_listening;
    // Load before the swap, as in `take_sleepers`: many subscribers may come at once.
    // SYNC: the acquire pairs with the release in `Guests::set_listening`.
    listening.load(Ordering::Relaxed) != 0 && listening.swap(0, Ordering::Acquire) != 0
}
