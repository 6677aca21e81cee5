//! Combining: one member at a time looks at all requests for a cell, and grants what fits.
//!
//! Invariants. Only the combiner of a cell grants, and names an owner who did not take the cell by itself. The combiner
//! clears "dirty" before it looks, and gives the gate back only by a swap of the very gate it looked under; so a
//! request that was made meanwhile is looked at by somebody. Grants of the whole cell take two steps: the gate names the
//! request, then the request becomes granted. A combiner that finds only the first one done does the second. A rest of
//! the queue is never forgotten: where a combiner gives up, it wakes every waiter, and each of them looks by itself.
//!
//! `seat` and `reap` call this. It never waits.

use super::members::Members;
use super::memory::{Kind, TableMemory};
use super::words::{Gate, Owner, Request, State, Want};
use crate::read::Fault;
use crate::sync::Ordering;

/// How often a change of a gate is tried. Honest members never come near it.
pub(super) const TRIES: usize = 1 << 16;
/// How often a combiner looks before it leaves the rest to the waiters.
const LOOKS: usize = 256;
/// How often a waiter that was woken may find the cell taken, before the cell is handed to it.
const PATIENCE: u64 = 4;

/// A member of this table keeps changing a gate.
pub(super) const RESTLESS: Fault = Fault::Corrupt("the gate of a cell never stands still");

/// A request that a look has found.
#[derive(Clone, Copy)]
struct Found {
    member: usize,
    place: usize,
    word: Request,
    ticket: u64,
}

/// What one look at all members has found.
struct Look {
    /// The first request in the order of tickets that this cell can ever grant.
    head: Option<Found>,
    /// Permits, or shared holds, that are taken.
    held: u64,
}

/// What follows a look.
enum Then {
    /// Look again.
    Again,
    /// Nothing can be done. The gate goes back like this.
    GiveBack(Gate),
}

/// One member at the gate of one cell.
pub(super) struct Combiner<'a> {
    pub(super) table: &'a TableMemory,
    pub(super) cell: usize,
    /// Who combines.
    pub(super) me: usize,
    /// The member is awake, and waits for the cell itself.
    pub(super) waits: bool,
    /// Who must be woken afterwards.
    pub(super) wakes: &'a mut Members,
}

impl TableMemory {
    #[inline]
    pub(super) fn gate(&self, cell: usize) -> Gate {
        // SYNC: pairs with the release of `change`.
        Gate(self.cell(cell).gate.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn change(&self, cell: usize, from: Gate, to: Gate) -> Result<(), Gate> {
        // SYNC: release and acquire pair with each other, from each change of the gate to the next. So a holder sees
        // what the one before it did, and a combiner sees every request that was announced at the gate.
        let word = &self.cell(cell).gate;
        word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).map(drop).map_err(Gate)
    }

    pub(super) fn in_use(&self, member: usize) -> bool {
        // SYNC: pairs with the release of `join` and `leave`.
        self.member(member).is_some_and(|member| member.own.word.load(Ordering::Acquire) & 1 == 1)
    }

    /// The member that combines at this gate. A number that no member has is nobody: it cannot have come from an honest
    /// one.
    pub(super) fn combiner_of(&self, gate: Gate) -> Option<usize> {
        gate.combiner()?.ok().filter(|member| self.in_use(*member))
    }

    pub(super) fn word(&self, member: usize, place: usize) -> Option<Request> {
        // SYNC: pairs with the release of whoever changed it.
        Some(Request(self.member(member)?.requests.get(place)?.word.load(Ordering::Acquire)))
    }

    pub(super) fn swap_word(&self, member: usize, place: usize, from: Request, to: Request) -> bool {
        let Some(place) = self.member(member).and_then(|member| member.requests.get(place)) else {
            return false;
        };
        // SYNC: pairs with the loads in `word`.
        place.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether this table's cells can ever grant it.
    fn grants(&self, want: Want) -> bool {
        let shape = self.shape();
        match (shape.kind, want) {
            (Kind::Lock, Want::Exclusive | Want::Shared)
            | (Kind::Sharded, Want::Exclusive)
            | (Kind::Flag, Want::Value(_)) => true,
            (Kind::Semaphore, Want::Permits(permits)) => (1..=shape.permits).contains(&permits),
            _ => false,
        }
    }

    /// Every member with a request, of any state.
    pub(super) fn asking(&self) -> Members {
        let mut asking = Members::none();
        for index in 0..self.high() {
            if self.member(index).is_some_and(|member| member.own.asking.load(Ordering::Acquire) != 0) {
                asking.add(index);
            }
        }
        asking
    }
}

impl Combiner<'_> {
    /// Combines now, or makes the member that combines look again.
    pub(super) fn combine(&mut self) -> Result<(), Fault> {
        let mut gate = self.table.gate(self.cell);
        for _ in 0..TRIES {
            let busy = self.table.combiner_of(gate).is_some();
            let next = if busy { gate.with(Gate::DIRTY) } else { gate.combined_by(Some(self.me)) };
            match self.table.change(self.cell, gate, next) {
                Ok(()) if busy => return Ok(()),
                Ok(()) => return self.settle(),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    /// Called by the combiner: grants what fits, and gives the gate back.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        for _ in 0..LOOKS {
            let seen = self.table.gate(self.cell);
            if seen.combiner() != Some(Ok(self.me)) {
                return Err(Fault::Corrupt("another member took the gate of a cell from its combiner"));
            }
            let gate = seen.without(Gate::DIRTY);
            if seen != gate && self.table.change(self.cell, seen, gate).is_err() {
                continue;
            }
            if let Then::GiveBack(rest) = self.look(gate)
                && self.table.change(self.cell, gate, rest.combined_by(None)).is_ok()
            {
                return Ok(());
            }
        }
        self.give_up()
    }

    /// Gives the gate back although there may be something left to grant.
    fn give_up(&mut self) -> Result<(), Fault> {
        for member in self.table.asking().iter() {
            self.wakes.add(member);
        }
        let mut gate = self.table.gate(self.cell);
        for _ in 0..TRIES {
            let back = gate.with(Gate::WAITERS).without(Gate::DIRTY | Gate::NUDGED).combined_by(None);
            match self.table.change(self.cell, gate, back) {
                Ok(()) => return Ok(()),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    fn look(&mut self, gate: Gate) -> Then {
        match self.table.shape().kind {
            Kind::Flag => self.look_at_flag(gate),
            Kind::Semaphore => self.look_at_permits(gate),
            Kind::Lock | Kind::Sharded => match self.mend(gate) {
                true => self.look_at_lock(gate),
                false => Then::Again,
            },
        }
    }

    /// Whether the gate names an owner that has the cell, or nobody. Otherwise this goes one step towards that.
    fn mend(&mut self, gate: Gate) -> bool {
        let owner = gate.owner();
        let back = gate.owned_by(Owner::Nobody);
        let to = match owner {
            Owner::Nobody if gate == back => return true,
            Owner::Member(member) if self.table.in_use(member) => return true,
            Owner::Request(member, place) if self.table.in_use(member) => {
                match self.table.word(member, place).filter(|word| word.cell() == self.cell) {
                    Some(word) if word.state() == State::Granted => return true,
                    Some(word) if word.state() == State::Waiting && word.want() == Want::Exclusive => {
                        // The request that was named may have been granted and given back since the gate was loaded, and
                        // this may be another one in its place. Then the gate names it no longer: only this member names
                        // one (T1).
                        if self.table.gate(self.cell).owner() == owner {
                            self.grant(Found { member, place, word, ticket: 0 });
                        }
                        return false;
                    }
                    // It was cancelled.
                    _ => back,
                }
            }
            Owner::Nobody | Owner::Member(_) | Owner::Request(..) | Owner::Nonsense => {
                back.with(Gate::ABANDONED)
            }
        };
        let _ = self.table.change(self.cell, gate, to);
        false
    }

    fn look_at_lock(&mut self, gate: Gate) -> Then {
        let Look { head, held } = self.scan(|_| true);
        let gate_now = gate.set(Gate::WAITERS, head.is_some()).set(Gate::SHARED, held > 0);
        let owned = gate.owner() != Owner::Nobody;
        let Some(head) = head else {
            return Then::GiveBack(gate_now.without(Gate::NUDGED | Gate::HANDOFF));
        };
        if head.word.want() == Want::Shared {
            if !owned {
                self.grant(head);
                return Then::Again;
            }
            return Then::GiveBack(gate_now.without(Gate::NUDGED | Gate::HANDOFF));
        }
        let is_me = self.waits && head.member == self.me;
        if owned || held > 0 {
            if !is_me {
                return Then::GiveBack(gate_now);
            }
            let lost = self
                .table
                .member(head.member)
                .map_or(0, |member| member.requests[head.place].lost.load(Ordering::Relaxed));
            let handoff = gate.has(Gate::HANDOFF) || lost >= PATIENCE;
            return Then::GiveBack(gate_now.without(Gate::NUDGED).set(Gate::HANDOFF, handoff));
        }
        if is_me || gate.has(Gate::HANDOFF) {
            let owner = Owner::Request(head.member, head.place);
            let given = gate_now.owned_by(owner).without(Gate::NUDGED | Gate::HANDOFF);
            // The next look does the second step.
            let _ = self.table.change(self.cell, gate, given);
            return Then::Again;
        }
        // A waiter that woke up and is not the first one may be the one that was nudged.
        if self.waits || !gate.has(Gate::NUDGED) {
            self.wakes.add(head.member);
        }
        Then::GiveBack(gate_now.with(Gate::NUDGED))
    }

    fn look_at_permits(&mut self, gate: Gate) -> Then {
        let Look { head, held } = self.scan(|_| true);
        let free = u64::from(self.table.shape().permits).saturating_sub(held);
        match head {
            Some(head) if matches!(head.word.want(), Want::Permits(permits) if u64::from(permits) <= free) => {
                self.grant(head);
                Then::Again
            }
            head => Then::GiveBack(gate.set(Gate::WAITERS, head.is_some())),
        }
    }

    fn look_at_flag(&mut self, gate: Gate) -> Then {
        // SYNC: the gate was acquired after the change of the value that made this look necessary.
        let load = || self.table.cell(self.cell).value.load(Ordering::Acquire);
        let value = load();
        let mut waiters = false;
        let Look { head, .. } = self.scan(|want| {
            let hit = want == Want::Value(value);
            waiters |= !hit;
            hit
        });
        match head {
            // The value may have gone before this request was made. So it is loaded once more: a wait is answered only by a
            // value that was there while it lasted (T6).
            Some(head) if load() == value => {
                self.grant(head);
                Then::Again
            }
            Some(_) => Then::Again,
            None => Then::GiveBack(gate.set(Gate::WAITERS, waiters)),
        }
    }

    /// Looks at every request for the cell. Only the ones that `counts` accepts can be the head.
    fn scan(&self, mut counts: impl FnMut(Want) -> bool) -> Look {
        let mut look = Look { head: None, held: 0 };
        for index in 0..self.table.high() {
            let Some(member) = self.table.member(index) else { break };
            let asking = member.own.asking.load(Ordering::Acquire);
            for (place, request) in member.requests.iter().enumerate() {
                if asking >> place & 1 == 0 {
                    continue;
                }
                let word = Request(request.word.load(Ordering::Acquire));
                if word.cell() != self.cell || !self.table.grants(word.want()) {
                    continue;
                }
                match (word.state(), word.want()) {
                    (State::Granted, Want::Shared) => look.held = look.held.saturating_add(1),
                    (State::Granted, Want::Permits(permits)) => {
                        look.held = look.held.saturating_add(permits.into());
                    }
                    (State::Waiting, want) if counts(want) => {
                        let ticket = request.ticket.load(Ordering::Relaxed);
                        if look.head.is_none_or(|head| ticket < head.ticket) {
                            look.head = Some(Found { member: index, place, word, ticket });
                        }
                    }
                    _ => {}
                }
            }
            // SYNC: last, so it pairs with the release in `free`. A request that is no longer granted here is in this
            // count (T3). In the other order, one that is just being accepted would be in neither.
            look.held = look.held.saturating_add(member.own.held.load(Ordering::Acquire));
        }
        look
    }

    /// A request that was cancelled meanwhile stays as it is.
    fn grant(&mut self, found: Found) {
        if self.table.swap_word(found.member, found.place, found.word, found.word.granted()) {
            self.wakes.add(found.member);
        }
    }
}

impl Combiner<'_> {
    /// Called by the combiner: how many permits or shared holds it is, if it can be taken now without a request.
    pub(super) fn fits(&mut self, want: Want) -> Option<u32> {
        if !self.table.grants(want) {
            return None;
        }
        let Look { head, held } = self.scan(|_| true);
        match want {
            Want::Shared if head.is_none() => Some(1),
            Want::Permits(permits) if head.is_none() => {
                let free = u64::from(self.table.shape().permits).saturating_sub(held);
                (u64::from(permits) <= free).then_some(permits)
            }
            _ => None,
        }
    }
}
