//! A member's side: taking, asking, giving back.
//!
//! Invariants: the caller holds the lock on the member's bytes for as long as it uses a `Seat`, and asks with a place
//! only while no other request of the member has that place. Threads of one process share a seat. Every function
//! that changes something returns whom to wake: call [`TableMemory::ring`] and then wake the sleepers of that word.
//! The crate above calls this. It never waits.

use super::combine::{Combiner, RESTLESS};
use super::layout::{Member, Place};
use super::members::Members;
use super::memory::TableMemory;
use super::words::{Gate, Owner, Request, State, Want};
use crate::read::Fault;
use crate::sync::Ordering;

const FORGED: Fault = Fault::Corrupt("a member of this table changed a hold of another one");

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The last one that held the cell alone died while it did. The first one that takes it alone is told; those that take it shared
    /// before are all told.
    pub abandoned: bool,
}

/// A member of a table.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    table: TableMemory,
    member: usize,
}

impl Seat {
    /// Takes the place of a member, whose lock the caller has just got. Cleans up after its last owner.
    ///
    /// # Errors
    ///
    /// [`Fault`] when the memory breaks the rules.
    pub fn join(
        table: TableMemory,
        member: usize,
        pid: u32,
        pid_namespace: u64,
        wakes: &mut Members,
    ) -> Result<Self, Fault> {
        let Some(own) = table.member(member).map(|member| &member.own) else {
            return Err(Fault::Corrupt("a table has fewer members than was announced"));
        };
        // Whatever the last owner said: it may have left while it held something that it forgot.
        own.word.fetch_or(1, Ordering::AcqRel);
        table.reap(member, member, wakes)?;
        own.pid.store(pid, Ordering::Relaxed);
        own.pid_namespace.store(pid_namespace, Ordering::Relaxed);
        let word = own.word.load(Ordering::Relaxed);
        let generation = (word >> 8).wrapping_add(1) << 8;
        // SYNC: pairs with the acquire in `in_use` and `who`.
        own.word.store(generation | 1, Ordering::Release);
        let membership = &table.header().membership;
        // SYNC: pairs with the acquire in `high`.
        membership.high.fetch_max(member as u32 + 1, Ordering::AcqRel);
        // SYNC: pairs with the acquire in `joins`. Waiters then find the new member, and watch for its death.
        membership.joins.fetch_add(1, Ordering::AcqRel);
        for waiter in table.asking().iter() {
            wakes.add(waiter);
        }
        Ok(Self { table, member })
    }

    /// Gives the place back, while its lock is still held. The member has no request and holds nothing.
    pub fn leave(&self) {
        let word = self.own().own.word.load(Ordering::Relaxed);
        // SYNC: pairs with the acquire in `in_use`.
        self.own().own.word.store(word & !1, Ordering::Release);
    }

    /// The table.
    pub fn table(&self) -> &TableMemory {
        &self.table
    }

    /// The member's number.
    pub fn member(&self) -> usize {
        self.member
    }

    /// Takes a cell alone, if nobody has it and nobody is being given it.
    #[inline]
    pub fn try_lock(&self, cell: usize) -> Option<Taken> {
        let mine = Owner::Member(self.member);
        let mut gate = match self.table.change(cell, Gate::FREE, Gate::FREE.owned_by(mine)) {
            Ok(()) => return Some(Taken { abandoned: false }),
            Err(gate) => gate,
        };
        // A rival that takes the cell ends this. A rival that only sets flags does so a few times.
        for _ in 0..8 {
            let taken = gate.owner() != Owner::Nobody || self.table.combiner_of(gate).is_some();
            if taken || gate.has(Gate::SHARED | Gate::HANDOFF) {
                return None;
            }
            let next = gate.owned_by(mine).combined_by(None).without(Gate::ABANDONED);
            match self.table.change(cell, gate, next) {
                Ok(()) => return Some(Taken { abandoned: gate.has(Gate::ABANDONED) }),
                Err(now) => gate = now,
            }
        }
        None
    }

    /// Whether [`Seat::try_lock`] is worth a try. It only reads, so it does not take the gate from its holder's processor.
    #[inline]
    pub fn looks_free(&self, cell: usize) -> bool {
        let gate = self.table.gate(cell);
        gate.owner() == Owner::Nobody && !gate.has(Gate::SHARED | Gate::HANDOFF)
    }

    /// Gives a cell back that the member holds alone.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member has taken it away.
    #[inline]
    pub fn unlock(&self, cell: usize, wakes: &mut Members) -> Result<(), Fault> {
        match self.unlock_unwanted(cell) {
            true => Ok(()),
            false => self.unlock_wanted(cell, self.table.gate(cell), false, wakes),
        }
    }

    /// Gives a cell back that the member holds alone, if nobody wants it. False: call [`Seat::unlock`].
    #[inline]
    pub fn unlock_unwanted(&self, cell: usize) -> bool {
        let mine = Gate::FREE.owned_by(Owner::Member(self.member));
        self.table.change(cell, mine, Gate::FREE).is_ok()
    }

    /// The same for a holder that ends in the middle of its work: the next one is told, as after a death.
    ///
    /// # Errors
    ///
    /// As [`Seat::unlock`].
    pub fn abandon(&self, cell: usize, wakes: &mut Members) -> Result<(), Fault> {
        self.unlock_wanted(cell, self.table.gate(cell), true, wakes)
    }

    fn unlock_wanted(
        &self,
        cell: usize,
        mut gate: Gate,
        abandoned: bool,
        wakes: &mut Members,
    ) -> Result<(), Fault> {
        for _ in 0..super::combine::TRIES {
            if gate.owner() != Owner::Member(self.member) {
                return Err(FORGED);
            }
            let busy = self.table.combiner_of(gate).is_some();
            let on_its_way = gate.has(Gate::NUDGED) && !gate.has(Gate::HANDOFF);
            let combines = !busy && gate.has(Gate::WAITERS) && !on_its_way;
            let mut next = gate.owned_by(Owner::Nobody).set(Gate::ABANDONED, abandoned);
            if busy {
                next = next.with(Gate::DIRTY);
            } else if combines {
                next = next.combined_by(Some(self.member));
            }
            match self.table.change(cell, gate, next) {
                Ok(()) if combines => return self.combiner(cell, false, wakes).settle(),
                Ok(()) => return Ok(()),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    /// Gives back so many permits, or shared holds.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member has taken them away, or keeps changing the gate.
    pub fn give_back(&self, cell: usize, count: u32, wakes: &mut Members) -> Result<(), Fault> {
        let held = &self.own().own.held;
        // SYNC: pairs with the acquire of a scan, which follows at the gate.
        if held.fetch_add(u64::from(count).wrapping_neg(), Ordering::AcqRel) < u64::from(count) {
            held.store(0, Ordering::Release);
            return Err(FORGED);
        }
        self.touch(cell, wakes)
    }

    /// The next ticket: requests are granted in the order of theirs.
    pub fn ticket(&self) -> u64 {
        // Relaxed: the order of tickets is all that matters.
        self.table.header().tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks for a cell, with one of the member's places, which is free. It may be granted at once: see
    /// [`Seat::is_granted`].
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member keeps changing the gate.
    pub fn ask(
        &self,
        place: usize,
        cell: usize,
        want: Want,
        ticket: u64,
        wakes: &mut Members,
    ) -> Result<(), Fault> {
        let request = self.place(place);
        request.ticket.store(ticket, Ordering::Relaxed);
        request.lost.store(0, Ordering::Relaxed);
        let next = Request(request.word.load(Ordering::Relaxed)).next(cell, want);
        // SYNC: pairs with the acquire of a scan.
        request.word.store(next.0, Ordering::Release);
        self.own().own.asking.fetch_or(1 << place, Ordering::AcqRel);
        self.combiner(cell, true, wakes).combine()
    }

    /// Whether there is a request in this place, waiting or granted.
    pub fn is_asking(&self, place: usize) -> bool {
        self.table.word(self.member, place).is_some_and(|word| word.state() != State::Free)
    }

    /// Whether any of the member's requests waits, or was granted and not yet accepted.
    pub fn is_waiting(&self) -> bool {
        self.own().own.asking.load(Ordering::Acquire) != 0
    }

    /// Whether the request was granted. Then call [`Seat::accept`].
    pub fn is_granted(&self, place: usize) -> bool {
        self.table.word(self.member, place).is_some_and(|word| word.state() == State::Granted)
    }

    /// Looks whether the request can be granted now. A thread that waits for it calls this each time that it wakes up.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member keeps changing the gate.
    pub fn insist(&self, place: usize, wakes: &mut Members) -> Result<(), Fault> {
        let request = self.place(place);
        let word = Request(request.word.load(Ordering::Acquire));
        if word.state() != State::Waiting {
            return Ok(());
        }
        request.lost.fetch_add(1, Ordering::Relaxed);
        // If this thread was nudged, it is no longer on its way. Another member that combines just now cannot know that:
        // it would leave the nudge, and the next one that gives the cell back would wake nobody.
        self.table.forget_nudge(word.cell())?;
        self.combiner(word.cell(), true, wakes).combine()
    }

    /// Takes what was granted, and frees the place.
    ///
    /// # Errors
    ///
    /// [`Fault`] when it was not granted, or another member has taken it away.
    pub fn accept(&self, place: usize, wakes: &mut Members) -> Result<Taken, Fault> {
        let word = Request(self.place(place).word.load(Ordering::Acquire));
        if word.state() != State::Granted {
            return Err(FORGED);
        }
        let held = &self.own().own.held;
        let mut taken = Taken { abandoned: false };
        let count = match word.want() {
            Want::Exclusive => {
                taken = self.settle_hold(word.cell(), place)?;
                None
            }
            Want::Shared => {
                taken.abandoned = self.table.gate(word.cell()).has(Gate::ABANDONED);
                Some(1)
            }
            Want::Permits(permits) => Some(permits),
            Want::Value(_) => None,
        };
        if let Some(count) = count {
            // Before the place is free: for a moment it counts twice, and never less than once.
            held.fetch_add(count.into(), Ordering::AcqRel);
        }
        self.free(place, word);
        if count.is_some() {
            // Somebody may have looked in that moment.
            self.touch(word.cell(), wakes)?;
        }
        Ok(taken)
    }

    /// From here on the gate says that the member holds the cell, and the request is no longer needed for that.
    fn settle_hold(&self, cell: usize, place: usize) -> Result<Taken, Fault> {
        let mut gate = self.table.gate(cell);
        for _ in 0..super::combine::TRIES {
            if gate.owner() != Owner::Request(self.member, place) {
                return Err(FORGED);
            }
            let next = gate.owned_by(Owner::Member(self.member)).without(Gate::ABANDONED);
            match self.table.change(cell, gate, next) {
                Ok(()) => return Ok(Taken { abandoned: gate.has(Gate::ABANDONED) }),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    /// Withdraws a request. False: it was granted before, so [`Seat::accept`] it and give it back.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member keeps changing the gate.
    pub fn cancel(&self, place: usize, wakes: &mut Members) -> Result<bool, Fault> {
        let word = Request(self.place(place).word.load(Ordering::Acquire));
        if word.state() == State::Granted {
            return Ok(false);
        }
        if word.state() == State::Waiting && !self.table.swap_word(self.member, place, word, word.free()) {
            return Ok(false);
        }
        self.own().own.asking.fetch_and(!(1 << place), Ordering::AcqRel);
        // It may have been the one that was woken, or the first one in the queue. So the next one is woken.
        self.renudge(word.cell(), wakes)?;
        Ok(true)
    }

    fn renudge(&self, cell: usize, wakes: &mut Members) -> Result<(), Fault> {
        self.table.forget_nudge(cell)?;
        self.combiner(cell, false, wakes).combine()
    }

    /// The value of a flag.
    pub fn value(&self) -> u32 {
        // SYNC: pairs with the release of whoever stored it.
        self.table.cell(0).value.load(Ordering::Acquire)
    }

    /// Stores a value of a flag. Returns the one before.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member keeps changing the gate.
    pub fn swap_value(&self, value: u32, wakes: &mut Members) -> Result<u32, Fault> {
        let before = self.table.cell(0).value.swap(value, Ordering::AcqRel);
        if before != value {
            self.touch(0, wakes)?;
        }
        Ok(before)
    }

    /// Stores a value of a flag if it is still `current`. Returns the one before.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member keeps changing the gate.
    pub fn compare_and_swap_value(
        &self,
        current: u32,
        value: u32,
        wakes: &mut Members,
    ) -> Result<u32, Fault> {
        let word = &self.table.cell(0).value;
        match word.compare_exchange(current, value, Ordering::AcqRel, Ordering::Acquire) {
            Ok(before) => self.touch(0, wakes).map(|()| before),
            Err(before) => Ok(before),
        }
    }

    /// Takes permits or a shared hold without a request, if nobody waits and it fits.
    ///
    /// # Errors
    ///
    /// [`Fault`] when another member keeps changing the gate.
    pub fn try_count(&self, cell: usize, want: Want, wakes: &mut Members) -> Result<Option<Taken>, Fault> {
        let gate = self.table.gate(cell);
        let blocked = gate.owner() != Owner::Nobody || gate.has(Gate::WAITERS | Gate::HANDOFF);
        if blocked || self.table.combiner_of(gate).is_some() {
            return Ok(None);
        }
        if self.table.change(cell, gate, gate.combined_by(Some(self.member))).is_err() {
            return Ok(None);
        }
        let mut combiner = self.combiner(cell, false, wakes);
        let fits = combiner.fits(want);
        if let Some(count) = fits {
            self.own().own.held.fetch_add(count.into(), Ordering::AcqRel);
        }
        combiner.settle()?;
        let abandoned = want == Want::Shared && gate.has(Gate::ABANDONED);
        Ok(fits.map(|_| Taken { abandoned }))
    }

    /// Something that others may wait for has changed. It is a change of the gate even where the gate stays the same:
    /// so a combiner that comes later sees it, and one that came before is seen here.
    fn touch(&self, cell: usize, wakes: &mut Members) -> Result<(), Fault> {
        let mut gate = self.table.gate(cell);
        for _ in 0..super::combine::TRIES {
            let busy = self.table.combiner_of(gate).is_some();
            let combines = !busy && gate.has(Gate::WAITERS | Gate::SHARED);
            let next = match (busy, combines) {
                (true, _) => gate.with(Gate::DIRTY),
                (false, true) => gate.combined_by(Some(self.member)),
                (false, false) => gate,
            };
            match self.table.change(cell, gate, next) {
                Ok(()) if combines => return self.combiner(cell, false, wakes).settle(),
                Ok(()) => return Ok(()),
                Err(now) => gate = now,
            }
        }
        Err(RESTLESS)
    }

    fn free(&self, place: usize, word: Request) {
        self.own().own.asking.fetch_and(!(1 << place), Ordering::AcqRel);
        self.place(place).word.store(word.free().0, Ordering::Release);
    }

    fn combiner<'a>(&'a self, cell: usize, waits: bool, wakes: &'a mut Members) -> Combiner<'a> {
        Combiner { table: &self.table, cell, me: self.member, waits, wakes }
    }

    fn own(&self) -> &Member {
        // `join` has checked the number, and the shape of a view never changes.
        match self.table.member(self.member) {
            Some(member) => member,
            None => unreachable!("a seat has the number of a member"),
        }
    }

    /// The caller has places 0 to `REQUESTS - 1` and gives them out.
    fn place(&self, place: usize) -> &Place {
        &self.own().requests[place]
    }
}
