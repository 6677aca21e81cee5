//! Sleeping and waking: the three store-then-look protocols of the ring. Two are the mirror image of the first.
//!
//! ```text
//! sleeper                                waker
//!   sets its flag                          stores head (or its cursor, or its state)
//!   full fence                             full fence
//!   looks again, sleeps if nothing         loads the flags, swaps them to zero if any, rings
//! ```
//!
//! Invariant (I9): both sides have a full fence, their own or one that the other side called for. So at least one of them
//! sees the other's store, and no wake-up is lost.
//! Only the waker clears a flag, and only by a swap. A sleeper shares its bit with neighbours, so it would clear theirs,
//! too. A waker that loaded and stored would lose a flag set in between. Model checking finds both mistakes.
//!
//! A full fence waits until all earlier stores have reached the other processor, which costs a publisher a third or more
//! of its throughput. So a publisher whose readers stay awake leaves it out, and says so in `unfenced`. A reader that finds
//! `unfenced` set calls for a barrier (membarrier(2)): the kernel makes every processor that runs the publisher execute a
//! full fence. Readers that sleep often never meet that price, because a publisher that finds a sleeper fences again.
//!
//! Called by `Consumer` and `Producer`. Nothing here rings or sleeps: the crate above does.

use crate::layout::{DataHeader, MAX_SLOTS, SLOTS_PER_DOORBELL};
use crate::memory::ControlMemory;
use crate::sync::{Ordering, fence, light_fence};

const _: () = assert!(MAX_SLOTS / SLOTS_PER_DOORBELL == u64::BITS as usize);

/// After how many commits that found no sleeper a publisher leaves out the fence.
const QUIET: u32 = 16;

/// Which fence the publisher makes after a commit.
#[derive(Default)]
pub(crate) struct Fences {
    /// All readers can call for a barrier.
    barriers: bool,
    /// What `unfenced` says.
    unfenced: bool,
    /// Commits since a sleeper was found.
    quiet: u32,
}

impl Fences {
    pub(crate) fn with_barriers() -> Self {
        Self { barriers: true, ..Self::default() }
    }

    /// Between the store of `head` and the look at the sleepers.
    #[inline]
    pub(crate) fn after_commit(&mut self, data: &DataHeader) {
        if self.unfenced {
            // SYNC: pairs with the barrier of a reader in `announce_sleep`.
            light_fence();
        } else {
            if self.barriers && self.quiet >= QUIET {
                self.unfenced = true;
                // SYNC: before the fence. A reader whose flag this commit does not see will see this word.
                data.status.unfenced.store(1, Ordering::Relaxed);
            }
            // SYNC: pairs with the fence in `announce_sleep`.
            fence(Ordering::SeqCst);
        }
    }

    /// After the look at the sleepers.
    #[inline]
    pub(crate) fn note_sleepers(&mut self, data: &DataHeader, found: bool) {
        if found {
            self.quiet = 0;
            if self.unfenced {
                self.unfenced = false;
                // SYNC: pairs with the acquire in `announce_sleep`: a reader that sees this 0 also sees every `head`
                // that was committed without a fence.
                data.status.unfenced.store(0, Ordering::Release);
            }
        } else if !self.unfenced {
            self.quiet = self.quiet.saturating_add(1);
        }
    }
}

/// Subscriber: announces that a listener of `slot`'s doorbell may be asleep. Look again before sleeping. `barrier` makes
/// every processor that runs the publisher execute a full fence; `None`: no publisher of this ring ever leaves out its own.
/// False: it could not, and the subscriber must not sleep.
pub(crate) fn announce_sleep(
    data: &DataHeader,
    control: &ControlMemory,
    slot: usize,
    barrier: Option<fn() -> bool>,
) -> bool {
    let bit = 1u64 << (slot / SLOTS_PER_DOORBELL);
    control.header().sleepers.fetch_or(bit, Ordering::Relaxed);
    // SYNC: pairs with the fence in `Fences::after_commit`.
    fence(Ordering::SeqCst);
    // SYNC: the acquire pairs with the release in `Fences::note_sleepers`.
    barrier.is_none_or(|barrier| data.status.unfenced.load(Ordering::Acquire) == 0 || barrier())
}

/// Publisher, after it stored `head` and made its fence: the doorbells to ring, one bit each.
#[inline]
pub(crate) fn take_sleepers(control: &ControlMemory) -> u64 {
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
