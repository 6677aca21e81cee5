//! Joining: how a subscriber takes its slot and finds where to begin.
//!
//! The order is the promise: a first cursor, the state, a full fence, `head` again. Either the publisher's next scan sees
//! the slot, or the joiner begins at a `head` behind everything that the scan let be overwritten (I3). Called once, before
//! anything is read; whoever calls holds the slot's lock.

use super::{Consumer, Fault, Start, is_position};
use crate::frame::{BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD};
use crate::layout::Overflow;
use crate::memory::{ControlMemory, DataMemory};
use crate::sync::{Ordering, fence, spin_loop};
use crate::walk::Current;

/// How often a joiner looks for a `head` and a sequence, or a `floor` and a sequence, that belong together.
const LOOKS: usize = 64;

impl Consumer {
    /// Joins the topic in a slot whose lock the caller holds, through an open file description of its own.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] when the control segment or `head` don't hold what they should; [`Fault::Evicted`] when the
    /// publisher stopped waiting before the join was done.
    pub fn join(
        data: DataMemory,
        control: ControlMemory,
        slot: usize,
        overflow: Overflow,
        start: Start,
        who: (u32, u64),
    ) -> Result<Self, Fault> {
        let owned = control.slot(slot).ok_or(Fault::Corrupt("there is no such slot"))?;
        let unsteady = Fault::Corrupt("the slot's state does not hold still");
        let free = owned.take().ok_or(unsteady)?;
        owned.pid.store(who.0, Ordering::Relaxed);
        owned.name_hash.store(who.1, Ordering::Relaxed);
        for counter in [&owned.received, &owned.missed, &owned.wakeups] {
            counter.store(0, Ordering::Relaxed);
        }
        // SYNC: a first guess, which the publisher clamps; the release in `joining` publishes it with the state.
        owned.cursor.store(data.header().head.end.load(Ordering::Acquire), Ordering::Relaxed);
        let joining = owned.joining(free).ok_or(unsteady)?;
        // SYNC: pairs with the fence in `take_sleepers`. Either the publisher's next scan sees this slot, or this
        // sees every `head` that was stored before that scan: what is read from here on is not overwritten (I3).
        fence(Ordering::SeqCst);
        let (joined, mut next_sequence) = latest(&data);
        // SYNC: pairs with the acquire in `Producer::slowest`, as in `acknowledge`.
        owned.cursor.store(joined, Ordering::Release);
        let active = owned.activate(joining).ok_or(Fault::Evicted)?;
        let mut tail = joined;
        if start == Start::Earliest {
            let (floor, sequence) = oldest(&data);
            if floor < joined {
                (tail, next_sequence) = (floor, sequence);
            }
        }
        if !is_position(joined) || !is_position(tail) {
            return Err(Fault::Corrupt("head or floor is no position"));
        }
        Ok(Self {
            data,
            control,
            slot,
            generation: active.generation(),
            overflow,
            tail,
            head: joined,
            published: joined,
            joined,
            current: Current::default(),
            next_sequence,
            partial: None,
            received: 0,
            missed: 0,
            wakeups: 0,
            frame_hint: 64,
            fault: None,
        })
    }
}

/// `head`, and the sequence of the message after it unless the two would not hold still together.
fn latest(data: &DataMemory) -> (u64, Option<u64>) {
    let head = &data.header().head;
    for _ in 0..LOOKS {
        // SYNC: each pairs with its release in `Producer::commit`. The first brings a `head` that is not older than
        // the sequence, the second a sequence that is not older than `head`: equal ones belong to the `head` between.
        let after = head.after.load(Ordering::Acquire);
        let end = head.end.load(Ordering::Acquire);
        if head.before.load(Ordering::Relaxed) == after {
            return (end, Some(after));
        }
        spin_loop();
    }
    // SYNC: pairs with the release of `head` in `Producer::commit`.
    (head.end.load(Ordering::Acquire), None)
}

/// `floor`, and the sequence of the first message that begins above it unless the two would not hold still together.
fn oldest(data: &DataMemory) -> (u64, Option<u64>) {
    let floor = &data.header().floor;
    // SYNC: pairs with the release of `floor` in `Producer::advance_floor`: the batch there is seen.
    let mut at = floor.load(Ordering::Acquire);
    for _ in 0..LOOKS {
        let word = |offset: usize| data.frames.load(at.wrapping_add(offset as u64));
        let sequence = word(8);
        let begun =
            Header::is_fragment(word(BATCH_OVERHEAD)) && word(BATCH_OVERHEAD + MESSAGE_OVERHEAD + 8) != 0;
        // SYNC: pairs with the release fence in `Producer::advance_floor`, as in `Consumer::read` (I5).
        fence(Ordering::Acquire);
        let again = floor.load(Ordering::Acquire);
        if again == at {
            return (at, Some(sequence.wrapping_add(begun.into())));
        }
        at = again;
    }
    (at, None)
}
