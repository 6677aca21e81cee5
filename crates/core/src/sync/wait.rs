//! Blocking: a thread takes what it wants, or sleeps on the member's bell until it is granted or the time is over.
//!
//! Invariants: the bell is read before the request is looked at, so no wake-up is missed. A thread sleeps only after the
//! keeper was told of every member that there is. A request is either accepted or withdrawn before its place is free
//! again. The faces (`lock` and so on) call this; `requests` does the same without blocking.

use std::time::{Duration, Instant};

use ringbell_ring::table::{Taken, Want};

use super::member::Member;
use crate::error::{Error, Result};

/// How often a thread looks before it sleeps. It is enough for a holder that is about to finish on another processor.
const SPINS: u32 = 64;

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) timeout: Option<Duration>,
    /// How often to look before sleeping.
    pub(super) spins: u32,
}

impl Patience {
    pub(super) fn new(timeout: Option<Duration>) -> Patience {
        Patience { timeout, spins: SPINS }
    }
}

impl Member {
    /// Takes it without waiting for anybody who holds it. A dead holder is found.
    pub(super) fn try_take(&self, cell: usize, want: Want) -> Result<Option<Taken>> {
        if let Some(taken) = self.take_now(cell, want)? {
            return Ok(Some(taken));
        }
        self.look_for_dead(&self.table.mapped.memory().in_the_way(cell))?;
        if let Some(taken) = self.take_now(cell, want)? {
            return Ok(Some(taken));
        }
        // A request is granted if only a combiner is in the way, or a holder that has just gone.
        let Some(place) = self.try_place() else { return Ok(None) };
        let result = self.ask_and_look(place, cell, want);
        if result.is_err() {
            self.abandon(place, cell, want);
        }
        self.free_place(place);
        result
    }

    fn ask_and_look(&self, place: usize, cell: usize, want: Want) -> Result<Option<Taken>> {
        self.with(|seat, wakes| seat.ask(place, cell, want, seat.ticket(), wakes))?;
        for _ in 0..SPINS {
            if self.seat.is_granted(place) {
                break;
            }
            std::hint::spin_loop();
        }
        self.withdraw(place)
    }

    /// Takes what was granted, or withdraws the request.
    pub(super) fn withdraw(&self, place: usize) -> Result<Option<Taken>> {
        if self.with(|seat, wakes| seat.cancel(place, wakes))? {
            return Ok(None);
        }
        self.with(|seat, wakes| seat.accept(place, wakes)).map(Some)
    }

    /// Withdraws a request whose caller has failed, and gives back what it was granted.
    pub(super) fn abandon(&self, place: usize, cell: usize, want: Want) {
        if self.table.mapped.is_foreign() {
            return;
        }
        // An error here is the member's own already: it is never used again.
        if let Ok(false) = self.with_unchecked(|seat, wakes| seat.cancel(place, wakes))
            && let Ok(taken) = self.with_unchecked(|seat, wakes| seat.accept(place, wakes))
        {
            // The caller is not told that it was abandoned, so the next holder is.
            if taken.abandoned { self.give_up(cell, want) } else { self.give_back(cell, want) }
        }
    }

    /// Takes it if nobody has it and nobody waits.
    #[inline]
    pub(super) fn take_now(&self, cell: usize, want: Want) -> Result<Option<Taken>> {
        self.check()?;
        match want {
            Want::Exclusive => Ok(self.seat.try_lock(cell)),
            Want::Value(_) => Ok(None),
            Want::Shared | Want::Permits(_) => self.with(|seat, wakes| seat.try_count(cell, want, wakes)),
        }
    }

    /// Takes it, and waits for it as long as the caller has patience.
    ///
    /// # Errors
    /// `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_CORRUPT_PEER`.
    #[inline]
    pub(super) fn take(&self, cell: usize, want: Want, patience: Patience) -> Result<Taken> {
        match self.take_now(cell, want)? {
            Some(taken) => Ok(taken),
            None => self.take_later(cell, want, patience),
        }
    }

    #[cold]
    fn take_later(&self, cell: usize, want: Want, patience: Patience) -> Result<Taken> {
        let deadline = patience.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let ticket = self.seat.ticket();
        if want == Want::Exclusive {
            for _ in 0..patience.spins {
                std::hint::spin_loop();
                if self.seat.looks_free(cell)
                    && let Some(taken) = self.seat.try_lock(cell)
                {
                    return Ok(taken);
                }
            }
        }
        let late = || self.late(patience.timeout);
        let place = self.take_place(deadline)?.ok_or_else(late)?;
        let result = self.wait(place, cell, want, ticket, deadline);
        self.free_place(place);
        result?.ok_or_else(late)
    }

    /// Takes several cells in this order, alone. It has a place before it takes anything: while it waits for one, those that
    /// have places may wait for what it holds. `each` hears of every cell at once.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub(super) fn take_all(
        &self,
        cells: impl IntoIterator<Item = usize>,
        timeout: Option<Duration>,
        mut each: impl FnMut(usize, Taken),
    ) -> Result<()> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let late = || self.late(timeout);
        let place = self.take_place(deadline)?.ok_or_else(late)?;
        let result = cells.into_iter().try_for_each(|cell| {
            let taken = match self.take_now(cell, Want::Exclusive)? {
                Some(taken) => Some(taken),
                None => self.wait(place, cell, Want::Exclusive, self.seat.ticket(), deadline)?,
            };
            each(cell, taken.ok_or_else(late)?);
            Ok(())
        });
        self.free_place(place);
        result
    }

    fn late(&self, timeout: Option<Duration>) -> Error {
        let milliseconds = timeout.map_or(0, |timeout| timeout.as_millis() as u64);
        Error::Timeout { what: self.what(), milliseconds }
    }

    /// Asks in this place, and waits until the deadline. After an error nothing is left of the request.
    fn wait(
        &self,
        place: usize,
        cell: usize,
        want: Want,
        ticket: u64,
        deadline: Option<Instant>,
    ) -> Result<Option<Taken>> {
        let mut bell = self.bell();
        let mut granted = || -> Result<Option<Taken>> {
            self.with(|seat, wakes| seat.ask(place, cell, want, ticket, wakes))?;
            loop {
                if self.seat.is_granted(place) {
                    return self.with(|seat, wakes| seat.accept(place, wakes)).map(Some);
                }
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    // However short the time was: who is dead holds nothing.
                    self.look_for_dead(&self.table.mapped.memory().in_the_way(cell))?;
                    self.with(|seat, wakes| seat.insist(place, wakes))?;
                    return self.withdraw(place);
                }
                self.check()?;
                self.ensure_kept();
                self.sleep(bell, deadline);
                bell = self.bell();
                self.with(|seat, wakes| seat.insist(place, wakes))?;
            }
        };
        let result = granted();
        if result.is_err() {
            self.abandon(place, cell, want);
        }
        result
    }
}
