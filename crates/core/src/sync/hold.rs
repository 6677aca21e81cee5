//! What was taken: a guard that borrows, and a hold that can go to another thread.
//!
//! Dropping either gives it back. In a forked child a drop does nothing, because the hold is the parent's.

use std::sync::Arc;

use ringbell_ring::table::Want;

use super::member::Member;

impl Member {
    /// Gives back. What goes wrong is told by the next call: the member is unusable then.
    #[inline]
    pub(super) fn give_back(&self, cell: usize, want: Want) {
        if self.table.mapped.is_foreign() {
            return;
        }
        // Mostly nobody waits for it. Then nobody is to be woken.
        if want == Want::Exclusive && self.seat.unlock_unwanted(cell) {
            return;
        }
        self.give_back_and_wake(cell, want);
    }

    fn give_back_and_wake(&self, cell: usize, want: Want) {
        let _ = self.with_unchecked(|seat, wakes| match want {
            Want::Exclusive => seat.unlock(cell, wakes),
            Want::Shared => seat.give_back(cell, 1, wakes),
            Want::Permits(permits) => seat.give_back(cell, permits, wakes),
            Want::Value(_) => Ok(()),
        });
    }

    /// Gives back a cell, so that the next holder is told that it was abandoned. Of one that is shared, the next one is told in
    /// any case.
    pub(super) fn give_up(&self, cell: usize, want: Want) {
        if want != Want::Exclusive {
            return self.give_back(cell, want);
        }
        if self.table.mapped.is_foreign() {
            return;
        }
        // What goes wrong is told by the next call.
        let _ = self.with_unchecked(|seat, wakes| seat.abandon(cell, wakes));
    }
}

/// A lock, some permits or a shard that this thread has. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Guard<'a> {
    pub(super) member: &'a Member,
    pub(super) cell: usize,
    pub(super) want: Want,
    pub(super) abandoned: bool,
}

impl Guard<'_> {
    /// Whether the last process that held it alone died while it did. What it was changing may be half done. The first one that
    /// holds it alone is told, and all that share it before.
    pub fn abandoned(&self) -> bool {
        self.abandoned
    }

    /// Gives it back now.
    pub fn release(self) {}

    /// Gives it back for a caller who never had it: what it would have been told, the next holder is told.
    pub(super) fn pass_on(self) {
        if self.abandoned {
            self.member.give_up(self.cell, self.want);
            std::mem::forget(self);
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.member.give_back(self.cell, self.want);
    }
}

/// The same, for event loops: it may go to any thread. Dropping it gives everything back.
#[derive(Debug)]
#[must_use = "dropping it gives it back"]
pub struct Hold {
    pub(super) member: Arc<Member>,
    /// The cells that are held, in ascending order, and which of them were abandoned.
    pub(super) cells: Vec<(usize, bool)>,
    pub(super) want: Want,
    /// Whether the caller has it. What it was not told, the next holder is told.
    pub(super) told: bool,
}

impl Hold {
    /// As [`Guard::abandoned`]; for shards: whether any of them was.
    pub fn abandoned(&self) -> bool {
        self.cells.iter().any(|(_, abandoned)| *abandoned)
    }

    /// Gives it back now.
    pub fn release(self) {}

    /// Gives it back in the middle of the work: the next holder is told that it was abandoned, as after a death.
    pub fn abandon(mut self) {
        if self.want == Want::Exclusive {
            self.cells.drain(..).rev().for_each(|(cell, _)| self.member.give_up(cell, self.want));
        }
    }

    /// Gives it back for a caller that does not want it any more, and never looked at it. If it was abandoned, the next holder
    /// is told so.
    pub fn pass_on(mut self) {
        self.told = false;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for (cell, abandoned) in self.cells.drain(..).rev() {
            if abandoned && !self.told {
                self.member.give_up(cell, self.want);
            } else {
                self.member.give_back(cell, self.want);
            }
        }
    }
}
