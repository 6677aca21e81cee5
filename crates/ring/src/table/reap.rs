//! What is left of a dead member, and what others see of a living one.
//!
//! Invariant: the caller of `reap` has taken the lock on the dead member's bytes, so the member is dead, nobody else
//! cleans up, and no process takes its place meanwhile. A caller that dies in the middle leaves the place in use with
//! its lock free, so somebody else begins again. Each step may have been done before.

use super::combine::{Combiner, RESTLESS, TRIES};
use super::members::Members;
use super::memory::TableMemory;
use super::words::{Gate, Owner, Request};
use crate::read::Fault;
use crate::sync::Ordering;

impl TableMemory {
    /// Gives back what a dead member had, and ends what it had begun. `me` combines in its place: a living member, or
    /// the number of the dead one if the caller is about to take its place.
    ///
    /// # Errors
    ///
    /// [`Fault`] when a member keeps changing a gate.
    pub fn reap(&self, dead: usize, me: usize, wakes: &mut Members) -> Result<(), Fault> {
        let Some(member) = self.member(dead) else { return Ok(()) };
        // Requests first: a cell that was granted to one of them, and not yet accepted, was never used.
        self.clear(dead);
        for cell in 0..self.shape().cells {
            self.reap_at(cell, dead, me, wakes)?;
        }
        // It may have granted and died before it could wake.
        for waiter in self.asking().iter() {
            wakes.add(waiter);
        }
        let word = member.own.word.load(Ordering::Acquire);
        // SYNC: pairs with the acquire in `in_use`.
        member.own.word.store(word & !1, Ordering::Release);
        Ok(())
    }

    /// Withdraws a member's requests, and takes away its permits and shared holds.
    fn clear(&self, member: usize) {
        let Some(member) = self.member(member) else { return };
        for place in &member.requests {
            let word = Request(place.word.load(Ordering::Acquire));
            place.word.store(word.free().0, Ordering::Release);
        }
        member.own.asking.store(0, Ordering::Release);
        member.own.held.store(0, Ordering::Release);
    }

    fn reap_at(&self, cell: usize, dead: usize, me: usize, wakes: &mut Members) -> Result<(), Fault> {
        let mut gate = self.gate(cell);
        for _ in 0..TRIES {
            if gate == Gate::FREE {
                // Nobody asks at this gate. A swap all the same: who asks from here on sees what `clear` took away.
                match self.change(cell, gate, gate) {
                    Ok(()) => return Ok(()),
                    Err(now) => gate = now,
                }
                continue;
            }
            // The dead one may have been woken, and a nudge wakes nobody else.
            let mut next = gate.without(Gate::NUDGED);
            if gate.owning_member() == Some(dead) {
                let used = matches!(gate.owner(), Owner::Member(_));
                next = next.owned_by(Owner::Nobody).set(Gate::ABANDONED, used || gate.has(Gate::ABANDONED));
            }
            let busy = self.combiner_of(gate).is_some_and(|combiner| combiner != dead);
            next = if busy { next.with(Gate::DIRTY) } else { next.combined_by(Some(me)) };
            match self.change(cell, gate, next) {
                Ok(()) if busy => return Ok(()),
                Ok(()) => return Combiner { table: self, cell, me, waits: false, wakes }.settle(),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    /// Nobody is on its way to the cell any more.
    pub(super) fn forget_nudge(&self, cell: usize) -> Result<(), Fault> {
        let mut gate = self.gate(cell);
        for _ in 0..TRIES {
            if !gate.has(Gate::NUDGED) {
                return Ok(());
            }
            match self.change(cell, gate, gate.without(Gate::NUDGED)) {
                Ok(()) => return Ok(()),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    /// The members whose place is in use. Their locks say which of them live.
    pub fn members(&self) -> Members {
        let mut members = Members::none();
        for member in (0..self.high()).filter(|member| self.in_use(*member)) {
            members.add(member);
        }
        members
    }

    /// The members that may be the reason why a cell cannot be taken: those that have something, ask for something, or combine.
    pub fn in_the_way(&self, cell: usize) -> Members {
        let mut members = self.asking();
        let gate = self.gate(cell);
        for member in [gate.owning_member(), self.combiner_of(gate)].into_iter().flatten() {
            members.add(member);
        }
        for member in (0..self.high()).filter(|member| self.held_by(*member) > 0) {
            members.add(member);
        }
        members
    }

    /// Which use of the member's place this is, with the process's id and its pid namespace, as the member states them.
    /// None: the place is not in use.
    pub fn who(&self, member: usize) -> Option<(u64, u32, u64)> {
        let own = &self.member(member)?.own;
        let word = own.word.load(Ordering::Acquire);
        let pids = (own.pid.load(Ordering::Relaxed), own.pid_namespace.load(Ordering::Relaxed));
        (word & 1 == 1).then_some((word >> 8, pids.0, pids.1))
    }

    /// How often a member came.
    pub fn joins(&self) -> u32 {
        // SYNC: pairs with the release of `join`.
        self.header().membership.joins.load(Ordering::Acquire)
    }

    /// Counts a member's bell up. Then wake whoever sleeps on it: [`TableMemory::bell_address`].
    pub fn ring(&self, member: usize) {
        if let Some(member) = self.member(member) {
            // SYNC: pairs with the acquire in `bell`.
            member.bell.fetch_add(1, Ordering::Release);
        }
    }

    /// The count of a member's bell. A sleeper loads it before it looks at its request.
    pub fn bell(&self, member: usize) -> u32 {
        // SYNC: pairs with the release in `ring`.
        self.member(member).map_or(0, |member| member.bell.load(Ordering::Acquire))
    }

    /// Where the bell lies, for futex(2).
    #[cfg(not(loom))]
    pub fn bell_address(&self, member: usize) -> Option<*const u32> {
        Some(self.member(member)?.bell.as_ptr().cast_const())
    }

    /// Who holds a cell alone, and how many permits or shared holds are taken, as the table says.
    pub fn holders(&self, cell: usize) -> (Option<usize>, u64) {
        let held = (0..self.high()).filter_map(|member| self.member(member));
        let held =
            held.fold(0, |sum: u64, member| sum.saturating_add(member.own.held.load(Ordering::Acquire)));
        (self.gate(cell).owning_member(), held)
    }

    /// Permits, or shared holds, that a member has.
    pub fn held_by(&self, member: usize) -> u64 {
        self.member(member).map_or(0, |member| member.own.held.load(Ordering::Acquire))
    }

    /// The requests that wait: for each of them the member and whether it wants the cell alone.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, super::words::Want)> + '_ {
        (0..self.high()).filter_map(|index| Some((index, self.member(index)?))).flat_map(|(index, member)| {
            let words = member.requests.iter().map(|place| Request(place.word.load(Ordering::Acquire)));
            words
                .filter(|word| word.state() == super::words::State::Waiting)
                .map(move |word| (index, word.want()))
        })
    }
}
