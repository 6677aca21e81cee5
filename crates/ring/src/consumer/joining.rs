//! Joining: how a subscriber takes its slot and finds the position at which it begins.
//!
//! Invariant (I3): the order is a first cursor, the state, a full fence, `head` again. Either the publisher's next scan
//! sees the slot, or the joiner begins at a `head` behind everything that the scan allows to be overwritten. Called
//! once, before anything is read. The caller holds the slot's lock.
//!
//! The next holder of a durable position needs none of that: its cursor has counted all the time (I12), and it begins
//! there.

use core::cell::Cell;

use super::acknowledging::known;
use super::{Consumer, Position, Reported, Start};
use crate::account::Account;
use crate::frame::{BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD};
use crate::layout::{Overflow, is_position};
use crate::memory::{ControlMemory, DataMemory};
use crate::read::Fault;
use crate::slot::{Resumed, Slot, UNKNOWN, Word};
use crate::sync::{Ordering, fence, spin_loop};
use crate::walk::Current;

/// How often a joiner tries to load a `head` and a sequence, or a `floor` and a sequence, that belong together.
const MAX_RETRIES: usize = 64;

impl Consumer {
    /// Joins the topic in a slot whose lock the caller holds, through an open file description of its own.
    ///
    /// `who`: a process id and the hash of a durable name, 0 for none. A caller with a name holds the lock on that
    /// name, and has chosen the slot that [`ControlMemory::slot_of`] named, if it named one. Positions are kept under
    /// [`Overflow::Block`] only; under other policies the name has no effect.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] if the control segment or `head` contain something invalid. [`Fault::Evicted`] if the
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
        let (pid, name) = (who.0, if overflow == Overflow::Block { who.1 } else { 0 });
        let resumed = if name == 0 { Some(Resumed::Nothing) } else { owned.resume(name) };
        let lost = match resumed.ok_or(unsteady)? {
            Resumed::Position(active) => {
                reset_counters(owned, pid);
                return Self::resume(data, control, slot, name, active);
            }
            Resumed::Loss => {
                Some((owned.acknowledged.load(Ordering::Relaxed), owned.delivered.load(Ordering::Relaxed)))
            }
            Resumed::Nothing => None,
        };
        let redelivered_below = lost.map_or(0, |(_, delivered)| delivered);
        let free = owned.take().ok_or(unsteady)?;
        reset_counters(owned, pid);
        owned.name_hash.store(name, Ordering::Relaxed);
        owned.delivered.store(redelivered_below, Ordering::Relaxed);
        owned.acknowledged.store(UNKNOWN, Ordering::Relaxed);
        // SYNC: a first guess, which the publisher clamps. The release in `joining` publishes it with the state.
        owned.cursor.store(data.header().head.end.load(Ordering::Acquire), Ordering::Relaxed);
        let joining = owned.joining(free).ok_or(unsteady)?;
        // SYNC: pairs with the fence in `Producer::slowest`. Either the publisher's next scan sees this slot, or this load
        // sees every `head` that was stored before that scan. So what is read from here on is not overwritten (I3).
        fence(Ordering::SeqCst);
        let (joined, mut next_sequence) = latest(&data);
        owned.acknowledged.store(next_sequence.unwrap_or(UNKNOWN), Ordering::Relaxed);
        // SYNC: pairs with the acquire in `Producer::slowest`, as in `Consumer::publish`.
        owned.cursor.store(joined, Ordering::Release);
        let active = owned.activate(joining).ok_or(Fault::Evicted)?;
        let mut tail = joined;
        let mut resume = 0;
        let done = lost
            .and_then(|(acknowledged, _)| known(acknowledged))
            .filter(|&done| next_sequence.is_some_and(|next| done <= next));
        if start == Start::Earliest {
            let (floor, sequence) = oldest(&data);
            if floor < joined {
                (tail, next_sequence) = (floor, sequence);
            }
        }
        if let Some(done) = done {
            // The messages between were missed. What was acknowledged is not wanted again.
            resume = done;
            next_sequence = next_sequence.map(|next| next.min(done));
        }
        if !is_position(joined) || !is_position(tail) {
            return Err(Fault::Corrupt("head or floor is not a valid position"));
        }
        if name != 0 && tail != joined {
            // History must be acknowledged like other messages.
            owned.acknowledged.store(next_sequence.unwrap_or(UNKNOWN), Ordering::Relaxed);
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
            reported: Reported { cursor: tail, delivered: redelivered_below },
            joined,
            current: Current::default(),
            next_sequence,
            partial: None,
            received: 0,
            missed: 0,
            wakeups: 0,
            position: if lost.is_some() { Position::Lost } else { Position::New },
            name,
            resume,
            account: Account::new(joined, next_sequence, redelivered_below),
            passed: None,
            frame_hint: 64,
            fault: None,
            barrier: data.needs_barriers().then_some(no_barrier),
            streak: Cell::new(0),
            latest: None,
        })
    }

    /// Continues where the last holder of the name stopped. The slot is active already, under this holder's word.
    fn resume(
        data: DataMemory,
        control: ControlMemory,
        slot: usize,
        name: u64,
        active: Word,
    ) -> Result<Self, Fault> {
        let owned = control.slot(slot).ok_or(Fault::Corrupt("there is no such slot"))?;
        // SYNC: pairs with the release in `Consumer::publish`: the sequence belongs to this cursor, or to a later one
        // (I12).
        let cursor = owned.cursor.load(Ordering::Acquire);
        let acknowledged = owned.acknowledged.load(Ordering::Relaxed);
        let delivered = owned.delivered.load(Ordering::Relaxed);
        let (head, end) = latest(&data);
        if !is_position(cursor) || !is_position(head) || cursor > head {
            return Err(Fault::Corrupt("the position that was kept is none"));
        }
        // Nothing from the cursor on is overwritten, so the batch there can be read in place.
        let first = if cursor == head { end } else { Some(data.frames.load(cursor + 8)) };
        // No honest holder acknowledges what was not sent. If one did, everything that is left is delivered again.
        let acknowledged = known(acknowledged).filter(|&sequence| end.is_none_or(|end| sequence <= end));
        let (mut tail, mut next_sequence) = (cursor, first);
        if let (Some(first), Some(acknowledged)) = (first, acknowledged)
            && acknowledged < first
        {
            // The last holder had begun with history, and not finished it. What is gone of that was missed.
            let (floor, sequence) = oldest(&data);
            if floor < cursor && is_position(floor) {
                tail = floor;
            }
            next_sequence = sequence.map(|sequence| sequence.min(acknowledged));
        }
        Ok(Self {
            data,
            control,
            slot,
            generation: active.generation(),
            overflow: Overflow::Block,
            tail,
            head: cursor,
            published: cursor,
            reported: Reported { cursor: tail, delivered },
            joined: cursor,
            current: Current::default(),
            next_sequence,
            partial: None,
            received: 0,
            missed: 0,
            wakeups: 0,
            position: Position::Resumed,
            name,
            resume: acknowledged.unwrap_or(0),
            account: Account::new(cursor, acknowledged.or(first), delivered),
            passed: None,
            frame_hint: 64,
            fault: None,
            barrier: data.needs_barriers().then_some(no_barrier),
            streak: Cell::new(0),
            latest: None,
        })
    }
}

/// The barrier of a subscriber that was given none: it must not sleep.
fn no_barrier() -> bool {
    false
}

/// Resets the figures of the slot for a new owner.
fn reset_counters(owned: &Slot, pid: u32) {
    owned.pid.store(pid, Ordering::Relaxed);
    owned.rung.store(0, Ordering::Relaxed);
    for counter in [&owned.received, &owned.missed, &owned.wakeups, &owned.flushed, &owned.redelivered] {
        counter.store(0, Ordering::Relaxed);
    }
}

/// `head`, and the sequence of the message after it. `None` for the sequence: the two never agreed.
pub(super) fn latest(data: &DataMemory) -> (u64, Option<u64>) {
    let head = &data.header().head;
    for _ in 0..MAX_RETRIES {
        // SYNC: each pairs with its release in `Producer::publish`. After the first load, `head` is not older than that
        // sequence. After the second, the other sequence is not older than `head`. If both are equal, they belong to
        // the `head` between them (I7).
        let after = head.after.load(Ordering::Acquire);
        let end = head.end.load(Ordering::Acquire);
        if head.before.load(Ordering::Relaxed) == after {
            return (end, Some(after));
        }
        spin_loop();
    }
    // SYNC: pairs with the release of `head` in `Producer::publish`.
    (head.end.load(Ordering::Acquire), None)
}

/// `floor`, and the sequence of the first message that begins there. `None` for the sequence: `floor` kept moving.
fn oldest(data: &DataMemory) -> (u64, Option<u64>) {
    let floor = &data.header().floor;
    // SYNC: pairs with the release of `floor` in `Producer::advance_floor`: the batch there is visible.
    let mut at = floor.load(Ordering::Acquire);
    for _ in 0..MAX_RETRIES {
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
