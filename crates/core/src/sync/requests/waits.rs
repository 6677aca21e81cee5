//! The requests of one member: each has a place and asks, or waits for a place in the process.
//!
//! Invariants: a request for several cells has a place before it takes any. What a request has taken is given back when it
//! is dropped, and then the next holder is told what nobody here was. The lock on them is never held while an answer is
//! put. `Requests` begins and cancels them; the member's thread, which runs [`serve`], settles them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ringbell_ring::table::{Taken, Want};

use super::thread::spawn;
use super::{Answer, Settled};
use crate::error::Result;
use crate::reactor::Inbox;
use crate::segment::MappedTable;
use crate::sync::hold::Hold;
use crate::sync::member::Member;
use crate::sys::futex;

/// How long a member's thread waits for more requests before it ends.
const LINGER: Duration = Duration::from_secs(1);

/// The requests of a member that wait for an answer.
#[derive(Default)]
pub(super) struct Asyncs {
    /// In the order in which they came. The first ones have places.
    waits: VecDeque<Wait>,
    /// Whether the member's thread runs.
    pub(super) runs: bool,
}

pub(super) fn asyncs_of(member: &Member) -> Arc<Mutex<Asyncs>> {
    let any = Arc::clone(member.asyncs.get_or_init(|| Arc::<Mutex<Asyncs>>::default()));
    // Nothing else fills it, so the second one is never made.
    any.downcast().unwrap_or_default()
}

pub(super) fn locked(asyncs: &Mutex<Asyncs>) -> MutexGuard<'_, Asyncs> {
    asyncs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request that waits.
pub(super) struct Wait {
    token: u64,
    inbox: Arc<Inbox<Settled>>,
    place: Option<usize>,
    ticket: u64,
    /// What was taken so far. Dropping it gives that back.
    hold: Hold,
    /// The cells that are still to be taken, in ascending order.
    rest: VecDeque<usize>,
}

impl Wait {
    pub(super) fn new(
        member: &Arc<Member>,
        cells: &[usize],
        want: Want,
        (token, inbox): (u64, Arc<Inbox<Settled>>),
    ) -> Wait {
        Wait {
            token,
            inbox,
            place: None,
            ticket: member.seat.ticket(),
            hold: Hold { member: Arc::clone(member), cells: Vec::new(), want, told: false },
            rest: cells.iter().copied().collect(),
        }
    }

    /// Takes what can be taken now. True: it has everything.
    fn advance(&mut self) -> Result<bool> {
        let member = Arc::clone(&self.hold.member);
        let want = self.hold.want;
        while let Some(cell) = self.rest.front().copied() {
            if self.place.is_none() && self.rest.len() > 1 {
                // Before it takes anything: while it waits for a place, those that have one may wait for what it holds.
                self.place = member.try_place();
                if self.place.is_none() {
                    return Ok(false);
                }
            }
            let taken = match self.place {
                Some(place) if member.seat.is_asking(place) => {
                    member.with(|seat, wakes| seat.insist(place, wakes))?;
                    accept(&member, place)?
                }
                _ => match member.take_now(cell, want)? {
                    Some(taken) => Some(taken),
                    None => match self.place.or_else(|| member.try_place()) {
                        None => return Ok(false),
                        Some(place) => {
                            self.place = Some(place);
                            self.ask(&member, place, cell)?
                        }
                    },
                },
            };
            let Some(taken) = taken else { return Ok(false) };
            self.rest.pop_front();
            self.hold.cells.push((cell, taken.abandoned));
        }
        Ok(true)
    }

    fn ask(&self, member: &Member, place: usize, cell: usize) -> Result<Option<Taken>> {
        member.with(|seat, wakes| seat.ask(place, cell, self.hold.want, self.ticket, wakes))?;
        accept(member, place)
    }

    /// Withdraws what was asked for, gives the place back, and with it everything that was taken.
    fn withdraw(mut self) {
        if let Some(place) = self.place.take() {
            let member = Arc::clone(&self.hold.member);
            if let Some(cell) = self.rest.front()
                && !member.table.mapped.is_foreign()
                && member.seat.is_asking(place)
            {
                member.abandon(place, *cell, self.hold.want);
            }
            member.free_place(place);
        }
    }

    /// The answer, once everything was taken.
    fn finish(mut self) -> Answer {
        if let Some(place) = self.place.take() {
            self.hold.member.free_place(place);
        }
        match self.hold.want {
            Want::Value(_) => Answer::Reached,
            _ => Answer::Held(self.hold),
        }
    }
}

fn accept(member: &Member, place: usize) -> Result<Option<Taken>> {
    if !member.seat.is_granted(place) {
        return Ok(None);
    }
    member.with(|seat, wakes| seat.accept(place, wakes)).map(Some)
}

impl Member {
    /// Answers at once, or makes the member's thread wait.
    pub(super) fn begin_async(self: &Arc<Self>, mut wait: Wait) -> Result<Option<Answer>> {
        self.check()?;
        let shared = asyncs_of(self);
        let mut asyncs = locked(&shared);
        // The bell is read by the thread before it looks, so what rings from here on is seen.
        match wait.advance() {
            Ok(true) => {
                drop(asyncs);
                return Ok(Some(wait.finish()));
            }
            Err(error) => {
                drop(asyncs);
                wait.withdraw();
                return Err(error);
            }
            Ok(false) => {}
        }
        self.ensure_kept();
        let (member, table) = (Arc::downgrade(self), Arc::clone(&self.table.mapped));
        if !asyncs.runs
            && let Err(error) = spawn("ringbell-wait", move || serve(&member, &table))
        {
            drop(asyncs);
            wait.withdraw();
            return Err(error);
        }
        asyncs.runs = true;
        let queued = wait.place.is_none();
        asyncs.waits.push_back(wait);
        self.queued.store(asyncs.queued(), Ordering::SeqCst);
        drop(asyncs);
        if queued {
            // A place may have become free before it was known that somebody waits for one.
            self.ring_own();
        }
        Ok(None)
    }

    /// Withdraws a request. False: it was answered.
    pub(super) fn cancel_async(&self, inbox: &Arc<Inbox<Settled>>, token: u64) -> bool {
        let shared = asyncs_of(self);
        let mut asyncs = locked(&shared);
        let ours = |wait: &Wait| wait.token == token && Arc::ptr_eq(&wait.inbox, inbox);
        let Some(at) = asyncs.waits.iter().position(ours) else { return false };
        let wait = asyncs.waits.remove(at);
        drop(asyncs);
        wait.into_iter().for_each(Wait::withdraw);
        true
    }
}

impl Asyncs {
    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// How many requests wait for a place.
    pub(super) fn queued(&self) -> usize {
        self.waits.iter().filter(|wait| wait.place.is_none()).count()
    }

    /// Takes out every request that has its answer.
    pub(super) fn settle(&mut self) -> Vec<Settlement> {
        let mut settled = Vec::new();
        let mut queued = self.pass(0, false, &mut settled);
        let mut before = 0;
        // Places have become free. The requests that wait for one are looked at again, and only those: for the others nothing has
        // changed.
        while let Some(first) = queued.filter(|_| settled.len() > before) {
            before = settled.len();
            queued = self.pass(first, true, &mut settled);
        }
        settled
    }

    /// Looks at the requests from this one on, and takes out those that have their answer. The first one that finds no place; none
    /// of those behind it passes it.
    fn pass(&mut self, mut index: usize, queued_only: bool, settled: &mut Vec<Settlement>) -> Option<usize> {
        let mut queued = None;
        while let Some(wait) = self.waits.get_mut(index) {
            let has_place = wait.place.is_some();
            if (has_place && queued_only) || (!has_place && queued.is_some()) {
                index += 1;
                continue;
            }
            let member = Arc::clone(&wait.hold.member);
            let result = member.check().and_then(|()| wait.advance());
            if let Ok(false) = result {
                if wait.place.is_none() {
                    queued = Some(index);
                }
                index += 1;
                continue;
            }
            let Some(wait) = self.waits.remove(index) else { break };
            let (inbox, token) = (Arc::clone(&wait.inbox), wait.token);
            let result = match result {
                Ok(_) => Ok(wait.finish()),
                Err(error) => {
                    wait.withdraw();
                    Err(error)
                }
            };
            settled.push(Settlement(inbox, Settled { token, result }));
        }
        queued
    }
}

impl std::fmt::Debug for Asyncs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asyncs").field("waits", &self.waits.len()).field("runs", &self.runs).finish()
    }
}

/// An answer, and where it goes.
pub(super) struct Settlement(pub(super) Arc<Inbox<Settled>>, pub(super) Settled);

/// What the thread of a member does: it sleeps on the member's bell while requests wait, and ends soon after the last one. It keeps the table mapped, and does not keep the member: only requests do.
fn serve(member: &Weak<Member>, table: &MappedTable) {
    let mut idle_since: Option<Instant> = None;
    while let Some(member) = member.upgrade() {
        let bell = member.bell();
        let (settled, idle) = {
            let shared = asyncs_of(&member);
            let mut asyncs = locked(&shared);
            let settled = asyncs.settle();
            member.queued.store(asyncs.queued(), Ordering::SeqCst);
            let idle = asyncs.is_empty();
            idle_since = if idle { idle_since.or_else(|| Some(Instant::now())) } else { None };
            let over = idle_since.is_some_and(|since| since.elapsed() >= LINGER) || member.check().is_err();
            asyncs.runs = !(idle && over);
            (settled, idle && over)
        };
        for Settlement(inbox, settled) in settled {
            inbox.put(settled);
        }
        if idle {
            return;
        }
        member.ensure_kept();
        let seat = member.seat.member();
        drop(member);
        if let Some(word) = table.memory().bell_address(seat) {
            futex::wait(word, bell, idle_since.map(|since| since + LINGER));
        }
    }
}
