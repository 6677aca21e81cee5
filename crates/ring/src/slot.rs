//! A subscriber's place in the control segment.
//!
//! Who holds the write lock on the slot's byte owns the slot. The owner moves it from any state to free and then to
//! joining and active; the publisher may free it once the lock is seen to be free, or evict it. Every move is a
//! compare-and-swap on one word that also holds a generation, so that of two who act at once only one succeeds.
//!
//! A slot with a durable name outlives its owner: an owner that goes leaves it parked, the publisher parks what the dead left
//! active, and the next holder of the name goes on at its cursor, which has counted all the while (I12).

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What a slot is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotState {
    /// Nobody uses it.
    Free = 0,
    /// Its owner has stored a first cursor and is about to look at `head` again.
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
    /// The state in the lowest 8 bits. A peer may have written any: what is no state is a broken rule.
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
    /// What it is in the middle of.
    pub state: SlotState,
    /// Bytes between its cursor and `head`.
    pub backlog: u64,
    /// Messages received, by its owner's own account.
    pub received: u64,
    /// Messages missed, by its owner's own account.
    pub missed: u64,
    /// Times that its owner was woken, by its own account.
    pub wakeups: u64,
    /// Hash of its owner's durable name, 0 for none.
    pub name_hash: u64,
    /// Messages delivered whose acknowledgement is not published, by its owner's own account.
    pub pending: u64,
    /// Times that acknowledgements were published, by its owner's own account.
    pub flushed: u64,
    /// Messages that an earlier holder of the name may have seen, by its owner's own account.
    pub redelivered: u64,
    /// Its owner's process id, by its own account.
    pub pid: u32,
    /// By which way its owner reads, by its own account; 0 where it did not say.
    pub way: u32,
}

/// What a slot holds, for a claimer that seeks one to lock. A hint until its lock is held, and true from then on: only who holds
/// the lock can put a name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vacancy {
    /// Nothing.
    Free,
    /// Somebody without a durable name, who is dead if the lock is free.
    Anonymous,
    /// That a durable position was lost: to be told to the next holder of its name, if there is another slot.
    Lost,
    /// A durable position: only for the next holder of its name.
    Kept,
}

/// What became of the slot of a dead owner.
pub(crate) enum Buried {
    Freed,
    /// It counts on, under this word.
    Parked(Word),
    /// It is left as it is, or somebody else was faster.
    Left,
}

/// What a slot holds for somebody who has locked it under a durable name.
pub(crate) enum Inheritance {
    /// Nothing of that name.
    Nothing,
    /// Its position; the slot is active under this word.
    Position(Word),
    /// That there was a position, and that the publisher went on without it.
    Loss,
}

/// How often an owner tries to move its slot's word before it takes the control segment for broken.
pub(crate) const TRIES: usize = 16;

/// Value of `acknowledged` while its owner does not know which message comes first.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// The slot as it lies in memory: 128 bytes.
#[derive(Default)]
#[repr(C, align(128))]
pub(crate) struct Slot {
    /// Generation in the upper 56 bits, state in the lowest 8.
    word: AtomicU64,
    /// Up to where the owner has read, in bytes since the topic began.
    pub(crate) cursor: AtomicU64,
    /// The owner's own figures; nobody decides anything by them.
    pub(crate) name_hash: AtomicU64,
    pub(crate) received: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) wakeups: AtomicU64,
    pub(crate) pid: AtomicU32,
    pub(crate) way: AtomicU32,
    /// Sequence after the last message handed out by any holder of the name.
    pub(crate) delivered: AtomicU64,
    /// Sequence of the first message that is not acknowledged, or [`UNKNOWN`]. Stored before the cursor that goes with it.
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
}

impl Slot {
    pub(crate) fn word(&self) -> Word {
        // SYNC: pairs with the release in `change`; a state that is seen brings the cursor stored before it.
        Word(self.word.load(Ordering::Acquire))
    }

    fn change(&self, from: Word, to: Word) -> bool {
        // SYNC: release pairs with the acquire in `word`, acquire with the other side's release here.
        self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Publisher, before anybody else has the slot: free, with this generation.
    pub(crate) fn begin(&self, generation: u64) {
        self.word.store(generation << 8, Ordering::Relaxed);
    }

    /// Owner: takes the slot in whatever state its last owner left it. The caller holds its lock, so the only honest
    /// rival is a publisher that frees it after having seen the lock free, once. `None` when the word won't hold still.
    pub(crate) fn take(&self) -> Option<Word> {
        for _ in 0..TRIES {
            let word = self.word();
            if word.state() == SlotState::Free {
                return Some(word);
            }
            let _ = self.change(word, word.next(SlotState::Free));
        }
        None
    }

    /// Owner: free → joining, with a generation of its own.
    pub(crate) fn joining(&self, free: Word) -> Option<Word> {
        let to = free.next(SlotState::Joining);
        self.change(free, to).then_some(to)
    }

    /// Owner: joining → active. `None` when the publisher has meanwhile evicted the slot.
    pub(crate) fn activate(&self, joining: Word) -> Option<Word> {
        let to = joining.with(SlotState::Active);
        self.change(joining, to).then_some(to)
    }

    /// Owner: gives the slot back, while it still holds the lock.
    pub(crate) fn leave(&self, generation: u64) {
        let word = self.word();
        if word.generation() == generation {
            // Lost only to a publisher that evicts: the next owner takes an evicted slot as well.
            let _ = self.change(word, word.next(SlotState::Free));
        }
    }

    /// Owner under a durable name: goes on where the last holder of the name stopped. At no time does the cursor not
    /// count. `None` when the word won't hold still.
    pub(crate) fn inherit(&self, name: u64) -> Option<Inheritance> {
        if self.name_hash.load(Ordering::Relaxed) != name {
            return Some(Inheritance::Nothing);
        }
        for _ in 0..TRIES {
            let word = self.word();
            match word.state() {
                SlotState::Active | SlotState::Parked => {
                    let to = word.next(SlotState::Active);
                    if self.change(word, to) {
                        return Some(Inheritance::Position(to));
                    }
                }
                SlotState::Evicted | SlotState::Expelled => return Some(Inheritance::Loss),
                SlotState::Free | SlotState::Joining => return Some(Inheritance::Nothing),
            }
        }
        None
    }

    /// Owner under a durable name: leaves the slot to the next holder of the name.
    pub(crate) fn park(&self, generation: u64) {
        let word = self.word();
        if word.generation() == generation && word.state() == SlotState::Active {
            // Lost only to a publisher that evicts: the next holder is told.
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

    /// Publisher: frees the slot of a dead owner, or parks it if it has a durable name. Does nothing when somebody has
    /// taken it since `seen`. `keeps`: whether a name means anything here.
    pub(crate) fn bury(&self, seen: Word, keeps: bool) -> Buried {
        // It is the name of `seen`'s owner if the swap below succeeds: another owner stores its own after a swap.
        let durable = keeps && self.name_hash.load(Ordering::Relaxed) != 0;
        match seen.state() {
            SlotState::Active if durable => {
                let parked = seen.with(SlotState::Parked);
                if self.change(seen, parked) { Buried::Parked(parked) } else { Buried::Left }
            }
            SlotState::Parked if keeps => Buried::Parked(seen),
            SlotState::Evicted | SlotState::Expelled if durable => Buried::Left,
            _ if self.change(seen, seen.next(SlotState::Free)) => Buried::Freed,
            _ => Buried::Left,
        }
    }

    /// Publisher: goes on without the owner, whatever that is in the middle of. It may be moving the word, so more than one try.
    pub(crate) fn evict(&self) {
        for _ in 0..TRIES {
            let word = self.word();
            let there = matches!(word.state(), SlotState::Joining | SlotState::Active);
            if !there || self.expel(word, SlotState::Evicted) {
                return;
            }
        }
    }

    /// Publisher: goes on without the owner.
    pub(crate) fn expel(&self, seen: Word, why: SlotState) -> bool {
        self.change(seen, seen.with(why))
    }
}
