//! A slot: the 128 bytes of one subscriber in the control segment, and the changes of its state.
//!
//! The process with the write lock on the slot's byte owns the slot. The owner changes it from any state to free, then
//! to joining and active. The publisher may evict it, and may free it once it has seen the lock free. Every change is a
//! compare-and-swap on one word that also holds a generation, so only one of two concurrent changes succeeds (I8).
//!
//! A slot with a durable name outlives its owner. An owner that leaves parks it, and the publisher parks the slot of a
//! dead owner. The next holder of the name continues at its cursor, which has counted all the time (I12).
//!
//! Called by `Consumer` (the owner) and `Producer` (the publisher). Nothing here looks at a lock: the callers do.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotState {
    /// Not in use.
    Free = 0,
    /// Its owner has stored a first cursor and will load `head` again.
    Joining = 1,
    /// Its owner reads; its cursor counts.
    Active = 2,
    /// The publisher went on without it: it stalled the topic for too long.
    Evicted = 3,
    /// The publisher went on without it: its cursor broke the rules.
    Expelled = 4,
    /// Nobody reads, but its cursor counts: it is kept for the next holder of its durable name.
    Parked = 5,
}

impl SlotState {
    /// The state in the lowest 8 bits. A peer may have written any value. An unknown value counts as `Expelled`.
    pub fn of(word: u64) -> Self {
        match word & 0xff {
            0 => Self::Free,
            1 => Self::Joining,
            2 => Self::Active,
            3 => Self::Evicted,
            5 => Self::Parked,
            _ => Self::Expelled,
        }
    }
}

/// A slot as others see it, for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Index of the slot.
    pub index: usize,
    /// Its state.
    pub state: SlotState,
    /// Bytes between its cursor and `head`.
    pub backlog: u64,
    /// Messages received, as its owner states.
    pub received: u64,
    /// Messages missed, as its owner states.
    pub missed: u64,
    /// How often its owner was woken, as the owner states.
    pub wakeups: u64,
    /// Hash of its owner's durable name, 0 for none.
    pub name_hash: u64,
    /// Messages delivered whose acknowledgement is not published, as its owner states.
    pub pending: u64,
    /// How often acknowledgements were published, as its owner states.
    pub flushed: u64,
    /// Messages that an earlier holder of the name may have seen, as its owner states.
    pub redelivered: u64,
    /// Its owner's process id, as the owner states.
    pub pid: u32,
    /// The rung over which its owner reads, as the owner states; 0 if it did not say.
    pub way: u32,
}

/// What a slot holds, for a process that looks for one to lock. It is a hint until the lock is held. After that it
/// stays true, because only the holder of the lock can store a name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacancy {
    /// Nothing.
    Free,
    /// An owner without a durable name. It is dead if the lock is free.
    Anonymous,
    /// The record that a durable position was lost. The next holder of the name must learn of it, so another slot is
    /// taken first if there is one.
    Lost,
    /// A durable position: only for the next holder of its name.
    Kept,
}

/// The result of [`Slot::reap`] for the slot of a dead owner.
pub(crate) enum Reaped {
    Freed,
    /// It is kept for the next holder, and its cursor counts, under this word.
    Parked(Word),
    /// It was left as it is, or another process changed it first.
    Left,
}

/// What a slot holds for a process that has locked it under a durable name.
pub(crate) enum Resumed {
    /// Nothing under that name.
    Nothing,
    /// Its position; the slot is active under this word.
    Position(Word),
    /// The record that there was a position, and that the publisher went on without it.
    Loss,
}

/// How often an owner tries to change its slot's word before it considers the control segment broken.
pub(crate) const TRIES: usize = 16;

/// Value of `acknowledged` while its owner does not know which message comes first.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// The slot as it lies in memory: 128 bytes.
#[derive(Default)]
#[repr(C, align(128))]
pub(crate) struct Slot {
    /// Generation in the upper 56 bits, state in the lowest 8.
    word: AtomicU64,
    /// The position up to which the owner has read, in bytes since the topic began.
    pub(crate) cursor: AtomicU64,
    /// The owner's own figures. Nothing is decided by them.
    pub(crate) name_hash: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) wakeups: AtomicU64,
    pub(crate) pid: AtomicU32,
    pub(crate) rung: AtomicU32,
    /// Sequence after the last message that any holder of the name has handed out.
    pub(crate) delivered: AtomicU64,
    /// Sequence of the first message that is not acknowledged, or [`UNKNOWN`]. Stored before its cursor (I12).
    pub(crate) acknowledged: AtomicU64,
    pub(crate) flushed: AtomicU64,
    pub(crate) redelivered: AtomicU64,
}

/// A slot's word, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) fn state(self) -> SlotState {
        SlotState::of(self.0)
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 >> 8
    }

    fn with(self, state: SlotState) -> Self {
        Self((self.0 & !0xff) | state as u64)
    }

    fn next(self, state: SlotState) -> Self {
        Self((self.generation().wrapping_add(1) << 8) | state as u64)
    }

    /// As `next`, after an owner that died before it could leave. It skips a generation, so that the publisher can tell
    /// such a slot from one that was given back (see `Departure`).
    fn after_death(self, state: SlotState) -> Self {
        self.next(state).next(state)
    }
}

impl Slot {
    pub(crate) fn word(&self) -> Word {
        // SYNC: pairs with the release in `change`: a load that sees a state also sees the cursor stored before it.
        Word(self.word.load(Ordering::Acquire))
    }

    fn change(&self, from: Word, to: Word) -> bool {
        // SYNC: release pairs with the acquire in `word`, acquire with the other side's release here.
        self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Publisher, before another process has the slot: makes it free, with this generation.
    pub(crate) fn begin(&self, generation: u64) {
        self.word.store(generation << 8, Ordering::Relaxed);
    }

    /// Owner: takes the slot, in any state that its last owner left. The caller holds its lock. So the only honest
    /// rival is a publisher that saw the lock free before, and that one frees the slot once. `None`: the word kept
    /// changing.
    pub(crate) fn take(&self) -> Option<Word> {
        for _ in 0..TRIES {
            let word = self.word();
            if word.state() == SlotState::Free {
                return Some(word);
            }
            let _ = self.change(word, word.after_death(SlotState::Free));
        }
        None
    }

    /// Owner: free → joining, with a generation of its own.
    pub(crate) fn joining(&self, free: Word) -> Option<Word> {
        let to = free.next(SlotState::Joining);
        self.change(free, to).then_some(to)
    }

    /// Owner: joining → active. `None`: the publisher has evicted the slot in the meantime.
    pub(crate) fn activate(&self, joining: Word) -> Option<Word> {
        let to = joining.with(SlotState::Active);
        self.change(joining, to).then_some(to)
    }

    /// Owner: gives the slot back, while it still holds the lock.
    pub(crate) fn leave(&self, generation: u64) {
        let word = self.word();
        if word.generation() == generation {
            // It can fail only because the publisher evicts the slot. The next owner also takes an evicted slot.
            let _ = self.change(word, word.next(SlotState::Free));
        }
    }

    /// Owner under a durable name: continues where the last holder of the name stopped. The cursor counts at every
    /// moment (I12). `None`: the word kept changing.
    pub(crate) fn resume(&self, name: u64) -> Option<Resumed> {
        if self.name_hash.load(Ordering::Relaxed) != name {
            return Some(Resumed::Nothing);
        }
        for _ in 0..TRIES {
            let word = self.word();
            match word.state() {
                state @ (SlotState::Active | SlotState::Parked) => {
                    let left = state == SlotState::Parked;
                    let active = SlotState::Active;
                    let to = if left { word.next(active) } else { word.after_death(active) };
                    if self.change(word, to) {
                        return Some(Resumed::Position(to));
                    }
                }
                SlotState::Evicted | SlotState::Expelled => return Some(Resumed::Loss),
                SlotState::Free | SlotState::Joining => return Some(Resumed::Nothing),
            }
        }
        None
    }

    /// Owner under a durable name: leaves the slot to the next holder of the name.
    pub(crate) fn park(&self, generation: u64) {
        let word = self.word();
        if word.generation() == generation && word.state() == SlotState::Active {
            // It can fail only because the publisher evicts the slot. The next holder learns of that.
            let _ = self.change(word, word.with(SlotState::Parked));
        }
    }

    pub(crate) fn vacancy(&self) -> Vacancy {
        let state = self.word().state();
        match (state, self.name_hash.load(Ordering::Relaxed)) {
            (SlotState::Free, _) => Vacancy::Free,
            (_, 0) | (SlotState::Joining, _) => Vacancy::Anonymous,
            (SlotState::Active | SlotState::Parked, _) => Vacancy::Kept,
            (SlotState::Evicted | SlotState::Expelled, _) => Vacancy::Lost,
        }
    }

    /// Publisher: reclaims the slot of a dead owner. Frees it, or parks it if it has a durable name. Does nothing if a
    /// process has taken the slot since `seen`. `keeps`: whether durable names are kept for this slot.
    pub(crate) fn reap(&self, seen: Word, keeps: bool) -> Reaped {
        // If the swap below succeeds, this is the name of `seen`'s owner: another owner stores its name after a swap.
        let durable = keeps && self.name_hash.load(Ordering::Relaxed) != 0;
        match seen.state() {
            SlotState::Active if durable => {
                let parked = seen.with(SlotState::Parked);
                if self.change(seen, parked) { Reaped::Parked(parked) } else { Reaped::Left }
            }
            SlotState::Parked if keeps => Reaped::Parked(seen),
            SlotState::Evicted | SlotState::Expelled if durable => Reaped::Left,
            _ if self.change(seen, seen.next(SlotState::Free)) => Reaped::Freed,
            _ => Reaped::Left,
        }
    }

    /// Publisher: goes on without the owner, in any state. Tries more than once: the owner may be changing the word.
    pub(crate) fn evict(&self) {
        for _ in 0..TRIES {
            let word = self.word();
            let there = matches!(word.state(), SlotState::Joining | SlotState::Active);
            if !there || self.expel(word, SlotState::Evicted) {
                return;
            }
        }
    }

    /// Publisher: goes on without the owner. False: the word has changed since `seen`.
    pub(crate) fn expel(&self, seen: Word, why: SlotState) -> bool {
        self.change(seen, seen.with(why))
    }
}
