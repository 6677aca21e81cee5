//! Who sleeps, and who is to be woken: the two store-then-look protocols of the ring, mirror images of each other.
//!
//! ```text
//! sleeper                                waker
//!   sets its flag                          stores head (or its cursor)
//!   fence(SeqCst)                          fence(SeqCst)
//!   looks again, sleeps if nothing         loads the flags, swaps them to zero if any, rings
//! ```
//!
//! With a full fence on both sides at least one of the two sees the other's store, so no wake-up is lost. Only the
//! waker clears, and by a swap: a sleeper that cleared a bit it shares would take its neighbour's with it, and a
//! waker that loaded and stored would lose a flag set in between (model checking finds both).

use crate::layout::{MAX_SLOTS, SLOTS_PER_DOORBELL};
use crate::memory::ControlMemory;
use crate::sync::{Ordering, fence};

const _: () = assert!(MAX_SLOTS / SLOTS_PER_DOORBELL == u64::BITS as usize);

/// Subscriber: says that whoever listens to `slot`'s doorbell may be asleep. Look again before sleeping.
pub(crate) fn announce_sleep(control: &ControlMemory, slot: usize) {
    let bit = 1u64 << (slot / SLOTS_PER_DOORBELL);
    // SYNC: the fence pairs with the one in `take_sleepers`.
    control.header().sleepers.fetch_or(bit, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// Publisher, after it stored `head`: the doorbells to ring, bit by bit.
///
/// The fence also orders that store before any later look at the slots, which `Producer::make_room` relies on.
pub(crate) fn take_sleepers(control: &ControlMemory) -> u64 {
    // SYNC: pairs with the fence in `announce_sleep`, and with the one in `Consumer::join`.
    fence(Ordering::SeqCst);
    let sleepers = &control.header().sleepers;
    // Looked at before it is swapped: the line stays shared while everybody is awake.
    if sleepers.load(Ordering::Relaxed) == 0 { 0 } else { sleepers.swap(0, Ordering::Relaxed) }
}

/// Publisher: says that it waits for room. Look again before sleeping.
pub(crate) fn announce_wait(control: &ControlMemory) {
    control.header().publisher_waiting.store(1, Ordering::Relaxed);
    // SYNC: pairs with the fence in `take_waiting`.
    fence(Ordering::SeqCst);
}

/// Publisher: found room after all.
pub(crate) fn retract_wait(control: &ControlMemory) {
    control.header().publisher_waiting.store(0, Ordering::Relaxed);
}

/// Subscriber, after it stored its cursor: whether the publisher's doorbell is to be rung.
pub(crate) fn take_waiting(control: &ControlMemory) -> bool {
    // SYNC: pairs with the fence in `announce_wait`.
    fence(Ordering::SeqCst);
    let waiting = &control.header().publisher_waiting;
    // SYNC: the acquire pairs with the release in `Guests::set_waiting`.
    waiting.load(Ordering::Relaxed) != 0 && waiting.swap(0, Ordering::Acquire) != 0
}
