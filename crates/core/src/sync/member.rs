//! A member: one opening of a name by this process, and everything that its guards and waits share.
//!
//! Invariants: while a member exists, its record is announced, its lock on the table is held, and what it announced stays
//! open. In a forked child nothing here touches the table: it is not mapped there. A table that breaks the rules is
//! never used again by this member. `lock`, `semaphore`, `flag` and `sharded` are faces of it; `wait` and `requests`
//! wait with it; `keeper` looks after the other members.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use ringbell_ring::Fault;
use ringbell_ring::table::{Kind, Members, REQUESTS, Seat, member_lock_byte};

use crate::bus::Announced;
use crate::bus::arbiter::ArbiterFile;
use crate::error::{Error, Result};
use crate::reactor::{Handle, Token};
use crate::segment::OwnTable;
use crate::sys::{futex, lock};

/// What a member is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(super) kind: Kind,
    pub(super) cells: usize,
    pub(super) permits: u32,
}

impl Spec {
    /// The record's kind, which also begins the name of the service.
    pub(super) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Lock => "lock",
            Kind::Semaphore => "semaphore",
            Kind::Flag => "flag",
            Kind::Sharded => "mutex",
        }
    }
}

/// See the head of this file.
pub(crate) struct Member {
    /// Withdrawn first: what a record announces stays open as long as it is locked. `None` once the member was cut off.
    pub(super) announced: Mutex<Option<Announced>>,
    pub(super) name: String,
    pub(super) spec: Spec,
    pub(super) seat: Seat,
    pub(super) table: OwnTable,
    /// Tells newcomers that a member lives, even while no record says so. Exchanged when the directory was lost. `None` once
    /// the member was cut off: others share another table.
    pub(super) presence: Mutex<Option<ArbiterFile>>,
    pub(super) handle: Handle,
    pub(super) keeper: OnceLock<Kept>,
    /// `joins` of the table when the keeper last looked for new members, and one bit that says that it did.
    pub(super) kept: AtomicU64,
    /// The keeper was told that a wait has ended, and will look whether it can rest.
    pub(super) rests: AtomicBool,
    /// One at a time: an open file is granted its own lock again.
    reaping: Mutex<()>,
    places: Mutex<Places>,
    place_freed: Condvar,
    /// The requests of event loops. Only `requests` knows their type, which names this one.
    pub(super) asyncs: OnceLock<Arc<dyn Any + Send + Sync>>,
    /// How many of those wait for a place.
    pub(super) queued: AtomicUsize,
    /// Why the table is not used any more.
    unusable: OnceLock<Error>,
    is_unusable: AtomicBool,
}

/// The member's keeper on the bus thread.
pub(super) struct Kept {
    pub(super) token: Token,
    /// Tells it something. It acts on that soon, on the bus thread.
    pub(super) tell: Box<dyn Fn(Tell) + Send + Sync>,
}

/// What a keeper is told.
pub(super) enum Tell {
    /// Somebody waits, and not all members are watched.
    Look,
    /// A wait has ended.
    Rest,
    /// Let go of this use of the member. One that was cut off withdraws its record first.
    Drop(Arc<Member>),
}

/// Which of the member's places for requests are free.
#[derive(Debug)]
struct Places {
    free: [bool; REQUESTS],
}

impl Member {
    pub(super) fn new(
        name: String,
        spec: Spec,
        seat: Seat,
        table: OwnTable,
        presence: ArbiterFile,
        handle: Handle,
    ) -> Member {
        Member {
            announced: Mutex::new(None),
            name,
            spec,
            seat,
            table,
            presence: Mutex::new(Some(presence)),
            handle,
            keeper: OnceLock::new(),
            kept: AtomicU64::new(0),
            rests: AtomicBool::new(false),
            reaping: Mutex::new(()),
            places: Mutex::new(Places { free: [true; REQUESTS] }),
            place_freed: Condvar::new(),
            asyncs: OnceLock::new(),
            queued: AtomicUsize::new(0),
            unusable: OnceLock::new(),
            is_unusable: AtomicBool::new(false),
        }
    }

    /// What the name is of, in words: `lock 'orders'`.
    pub(super) fn what(&self) -> String {
        format!("{} '{}'", self.spec.kind_name(), self.name)
    }

    /// Fails once the table must not be used any more.
    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        if self.table.mapped.is_foreign() || self.is_unusable.load(Ordering::Relaxed) {
            return Err(self.reason());
        }
        Ok(())
    }

    #[cold]
    pub(super) fn reason(&self) -> Error {
        self.unusable.get().cloned().unwrap_or(Error::Closed { what: self.spec.kind_name() })
    }

    /// From now on every call fails with this error. Everybody who waits wakes up and hears of it.
    pub(super) fn end(&self, error: Error) -> Error {
        let error = self.unusable.get_or_init(|| error).clone();
        self.is_unusable.store(true, Ordering::Release);
        self.ring_own();
        // Taken and given back, so that nobody is between a look at `check` and its sleep.
        drop(self.places());
        self.place_freed.notify_all();
        error
    }

    pub(super) fn broken(&self, fault: Fault) -> Error {
        self.end(Error::from(fault))
    }

    /// Does something with the table, and wakes whom it concerns.
    #[inline]
    pub(super) fn with<T>(&self, call: impl FnOnce(&Seat, &mut Members) -> Result<T, Fault>) -> Result<T> {
        self.check()?;
        self.with_unchecked(call)
    }

    /// The same for what must be given back, also when the bus was closed meanwhile. Not in a forked child.
    #[inline]
    pub(super) fn with_unchecked<T>(
        &self,
        call: impl FnOnce(&Seat, &mut Members) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut wakes = Members::none();
        let result = call(&self.seat, &mut wakes);
        if !wakes.is_empty() {
            self.wake(&wakes);
        }
        result.map_err(|fault| self.broken(fault))
    }

    pub(super) fn wake(&self, members: &Members) {
        let table = self.table.mapped.memory();
        for member in members.iter() {
            table.ring(member);
            if let Some(word) = table.bell_address(member) {
                futex::wake(word);
            }
        }
    }

    /// Makes every thread of this member look again. A forked child has none, nor the table.
    pub(super) fn ring_own(&self) {
        if self.table.mapped.is_foreign() {
            return;
        }
        let mut own = Members::none();
        own.add(self.seat.member());
        self.wake(&own);
    }

    /// Sleeps until the member's bell has rung since it had this count, or until the deadline.
    pub(super) fn sleep(&self, bell: u32, deadline: Option<Instant>) {
        if let Some(word) = self.table.mapped.memory().bell_address(self.seat.member()) {
            futex::wait(word, bell, deadline);
        }
    }

    pub(super) fn bell(&self) -> u32 {
        self.table.mapped.memory().bell(self.seat.member())
    }

    /// A place for a request. Waits for one until the deadline; `None`: there was none.
    pub(super) fn take_place(&self, deadline: Option<Instant>) -> Result<Option<usize>> {
        let mut places = self.places();
        loop {
            self.check()?;
            if let Some(place) = places.take() {
                return Ok(Some(place));
            }
            places = match deadline {
                None => self.place_freed.wait(places).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    let waited = self.place_freed.wait_timeout(places, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// A place for a request, if one is free now.
    pub(super) fn try_place(&self) -> Option<usize> {
        self.places().take()
    }

    pub(super) fn free_place(&self, place: usize) {
        self.places().free[place] = true;
        self.place_freed.notify_one();
        // SeqCst: either this is seen, or whoever begins to wait for a place rings by itself.
        if self.queued.load(Ordering::SeqCst) > 0 {
            self.ring_own();
        }
        // See `Keeper::rested`. Mostly nobody is watched, or the keeper knows.
        fence(Ordering::SeqCst);
        if self.kept.load(Ordering::Relaxed) != 0
            && !self.rests.swap(true, Ordering::Relaxed)
            && let Some(keeper) = self.keeper.get()
        {
            (keeper.tell)(Tell::Rest);
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_byte(&self, member: usize) -> u64 {
        member_lock_byte(self.table.mapped.memory().shape().cells, member)
    }

    /// Whether this member lives, as its lock says. If that cannot be told, it lives.
    pub(super) fn lives(&self, member: usize) -> bool {
        member == self.seat.member() || lock::is_held(&self.table.own, self.lock_byte(member)).unwrap_or(true)
    }

    /// Gives back what members have that are dead. It is a system call for each of these members.
    pub(super) fn look_for_dead(&self, among: &Members) -> Result<()> {
        for member in among.iter() {
            if !self.lives(member) {
                self.reap(member)?;
            }
        }
        Ok(())
    }

    /// Gives back what a dead member has. Does nothing if it lives after all, or if somebody else does this.
    pub(super) fn reap(&self, member: usize) -> Result<()> {
        self.check()?;
        let _one_at_a_time = self.reaping.lock().unwrap_or_else(PoisonError::into_inner);
        let byte = self.lock_byte(member);
        if member == self.seat.member() || !lock::take(&self.table.own, byte)? {
            return Ok(());
        }
        let mut wakes = Members::none();
        let table = self.table.mapped.memory();
        let in_use = table.members().contains(member);
        let reaped = if in_use { table.reap(member, self.seat.member(), &mut wakes) } else { Ok(()) };
        let released = lock::release(&self.table.own, byte);
        self.wake(&wakes);
        reaped.map_err(|fault| self.broken(fault))?;
        released
    }

    /// Called by each thread before it sleeps: the keeper knows all members, or will look at them soon.
    pub(super) fn ensure_kept(&self) {
        let now = u64::from(self.table.mapped.memory().joins()) << 1 | 1;
        // See `Keeper::rested`. Otherwise relaxed: the keeper looks for itself.
        fence(Ordering::SeqCst);
        if self.kept.load(Ordering::Relaxed) != now
            && let Some(keeper) = self.keeper.get()
        {
            (keeper.tell)(Tell::Look);
        }
    }

    /// Lets go of the member on the bus thread, soon. One that was cut off withdraws its record there.
    pub(super) fn drop_later(self: Arc<Self>) {
        if let Some(keeper) = self.keeper.get() {
            (keeper.tell)(Tell::Drop(Arc::clone(&self)));
        }
    }

    /// Withdraws the record if the member was cut off.
    pub(super) fn withdraw_record(&self) {
        if self.presence.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            drop(self.announced.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Places {
    fn take(&mut self) -> Option<usize> {
        let place = self.free.iter().position(|free| *free)?;
        self.free[place] = false;
        Some(place)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            self.handle.remove_soon(keeper.token);
        }
        // The record goes before the place: who finds the record finds a member.
        drop(self.announced.lock().unwrap_or_else(PoisonError::into_inner).take());
        if !self.table.mapped.is_foreign() {
            self.seat.leave();
        }
    }
}
