//! Requests without blocking, for event loops: an answer now, or a token and an answer later.
//!
//! Invariants: each token is answered once, or cancelled. An answer that nobody takes is dropped, which gives back what it
//! holds. The thread of a member sleeps on the member's bell while requests wait, and ends soon after the last one. It
//! never calls into anything of the caller: it puts answers into the inbox, whose descriptor wakes the event loop.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::table::Want;

use super::flag::{AtomicFlag, wanted};
use super::hold::Hold;
use super::lock::{Lock, Mode};
use super::member::Member;
use super::open;
use super::semaphore::Semaphore;
use super::sharded::ShardedMutex;
use crate::bus::Bus;
use crate::error::{Error, Result};
use crate::reactor::Inbox;
use crate::segment::MappedTable;
use crate::sys::futex;

/// How long a member's thread waits for more requests before it ends.
const LINGER: Duration = Duration::from_secs(1);
const STACK: usize = 128 * 1024;

/// What to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opening {
    /// See [`Bus::lock`].
    Lock,
    /// See [`Bus::semaphore`].
    Semaphore {
        /// How many permits there are in all.
        permits: u32,
    },
    /// See [`Bus::flag`].
    Flag,
    /// See [`Bus::sharded_mutex`].
    ShardedMutex {
        /// How many shards there are, a power of two.
        shards: usize,
    },
}

/// What was opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// A lock.
    Lock(Lock),
    /// A semaphore.
    Semaphore(Semaphore),
    /// A flag.
    Flag(AtomicFlag),
    /// A sharded mutex.
    ShardedMutex(ShardedMutex),
}

/// A positive answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// It was taken. Dropping it gives it back.
    Held(Hold),
    /// The flag has the value that was waited for.
    Reached,
    /// It is open.
    Opened(Opened),
}

/// What a request answers at once.
#[derive(Debug)]
pub enum Outcome {
    /// The answer.
    Now(Answer),
    /// The answer comes under this token.
    Later(u64),
}

/// The answer of a token.
#[derive(Debug)]
pub struct Settled {
    /// The token.
    pub token: u64,
    /// What came of it.
    pub result: Result<Answer>,
}

/// The requests of one event loop, for any number of locks, semaphores, flags and mutexes.
pub struct Requests {
    inbox: Arc<Inbox<Settled>>,
    next: AtomicU64,
    waiting: Mutex<Vec<(u64, Weak<Member>)>>,
}

impl Requests {
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors ran out.
    pub fn new() -> Result<Requests> {
        Ok(Requests { inbox: Inbox::new()?, next: AtomicU64::new(1), waiting: Mutex::default() })
    }

    /// Opens a name on a thread of its own. The answer is [`Answer::Opened`].
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when there can be no thread. Everything else comes under the token.
    pub fn open(&self, bus: &Bus, name: &str, opening: Opening) -> Result<u64> {
        let token = self.token();
        let (bus, name, inbox) = (bus.clone(), name.to_owned(), Arc::clone(&self.inbox));
        spawn("ringbell-open", move || {
            let opened = open::open(&bus, &name, opening.spec()).map(|member| match opening {
                Opening::Lock => Opened::Lock(Lock { member }),
                Opening::Semaphore { .. } => Opened::Semaphore(Semaphore { member }),
                Opening::Flag => Opened::Flag(AtomicFlag { member }),
                Opening::ShardedMutex { .. } => Opened::ShardedMutex(ShardedMutex { member }),
            });
            inbox.put(Settled { token, result: opened.map(Answer::Opened) });
        })?;
        Ok(token)
    }

    /// Takes a lock.
    ///
    /// # Errors
    /// As [`Lock::lock`], and `ERR_RINGBELL_RESOURCE` when there can be no thread.
    pub fn lock(&self, lock: &Lock, mode: Mode) -> Result<Outcome> {
        self.request(&lock.member, &[0], mode.want())
    }

    /// Takes a lock if nobody has it.
    ///
    /// # Errors
    /// As [`Lock::try_lock`].
    pub fn try_lock(&self, lock: &Lock, mode: Mode) -> Result<Option<Hold>> {
        try_hold(&lock.member, 0, mode.want())
    }

    /// Takes permits.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`], and `ERR_RINGBELL_RESOURCE` when there can be no thread.
    pub fn acquire(&self, semaphore: &Semaphore, permits: u32) -> Result<Outcome> {
        self.request(&semaphore.member, &[0], semaphore.want(permits)?)
    }

    /// Takes permits if they are free and nobody waits.
    ///
    /// # Errors
    /// As [`Semaphore::try_acquire`].
    pub fn try_acquire(&self, semaphore: &Semaphore, permits: u32) -> Result<Option<Hold>> {
        try_hold(&semaphore.member, 0, semaphore.want(permits)?)
    }

    /// Takes the shards of all these keys, in an order in which no two requests wait for each other in a circle.
    ///
    /// # Errors
    /// As [`ShardedMutex::with_keys`], and `ERR_RINGBELL_RESOURCE` when there can be no thread.
    pub fn with_keys<K: AsRef<[u8]>>(
        &self,
        mutex: &ShardedMutex,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Outcome> {
        let cells: Vec<usize> = mutex.shards_of(keys).into_iter().collect();
        self.request(&mutex.member, &cells, Want::Exclusive)
    }

    /// Waits until the flag has this value. The answer is [`Answer::Reached`].
    ///
    /// # Errors
    /// As [`AtomicFlag::wait_for`], and `ERR_RINGBELL_RESOURCE` when there can be no thread.
    pub fn wait_for(&self, flag: &AtomicFlag, value: bool) -> Result<Outcome> {
        if flag.get()? == value {
            return Ok(Outcome::Now(Answer::Reached));
        }
        self.request(&flag.member, &[0], wanted(value))
    }

    /// Withdraws a request. True: no answer comes. False: its answer was given already, or it is no request that waits.
    pub fn cancel(&self, token: u64) -> bool {
        let member = {
            let mut waiting = self.waiting();
            let Some(at) = waiting.iter().position(|(waits, _)| *waits == token) else { return false };
            waiting.swap_remove(at).1.upgrade()
        };
        member.is_some_and(|member| member.cancel_async(&self.inbox, token))
    }

    /// The answers that have come.
    pub fn take(&self) -> Vec<Settled> {
        let answers = Vec::from(self.inbox.take());
        let mut waiting = self.waiting();
        for answer in &answers {
            if let Some(at) = waiting.iter().position(|(waits, _)| *waits == answer.token) {
                waiting.swap_remove(at);
            }
        }
        answers
    }

    fn token(&self) -> u64 {
        // Relaxed: the number alone matters.
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn request(&self, member: &Arc<Member>, cells: &[usize], want: Want) -> Result<Outcome> {
        if let [cell] = cells
            && let Some(taken) = member.take_now(*cell, want)?
        {
            let cells = vec![*cell];
            let (member, abandoned) = (Arc::clone(member), taken.abandoned);
            return Ok(Outcome::Now(Answer::Held(Hold { member, cells, want, abandoned })));
        }
        member.check()?;
        let token = self.token();
        let wait = Wait {
            token,
            inbox: Arc::clone(&self.inbox),
            place: None,
            ticket: member.seat.ticket(),
            hold: Hold { member: Arc::clone(member), cells: Vec::new(), want, abandoned: false },
            rest: cells.iter().copied().collect(),
        };
        match member.begin_async(wait)? {
            Some(answer) => Ok(Outcome::Now(answer)),
            None => {
                self.waiting().push((token, Arc::downgrade(member)));
                Ok(Outcome::Later(token))
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(u64, Weak<Member>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Requests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut *self.waiting());
        for (token, member) in waiting {
            if let Some(member) = member.upgrade() {
                member.cancel_async(&self.inbox, token);
            }
        }
        self.inbox.close();
    }
}

fn try_hold(member: &Arc<Member>, cell: usize, want: Want) -> Result<Option<Hold>> {
    let taken = member.try_take(cell, want)?;
    Ok(taken.map(|taken| Hold {
        member: Arc::clone(member),
        cells: vec![cell],
        want,
        abandoned: taken.abandoned,
    }))
}

fn spawn(name: &str, call: impl FnOnce() + Send + 'static) -> Result<()> {
    let builder = std::thread::Builder::new().name(name.into()).stack_size(STACK);
    builder.spawn(call).map(drop).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EAGAIN as i32));
        Error::os("clone", errno, "cannot start a thread that waits")
    })
}

/// The requests of a member that wait for an answer.
#[derive(Default)]
pub(super) struct Asyncs {
    /// In the order in which they came. The first ones have places.
    waits: VecDeque<Wait>,
    /// Whether the member's thread runs.
    runs: bool,
}

fn asyncs_of(member: &Member) -> Arc<Mutex<Asyncs>> {
    let any = Arc::clone(member.asyncs.get_or_init(|| Arc::<Mutex<Asyncs>>::default()));
    // Nothing else fills it, so the second one is never made.
    any.downcast().unwrap_or_default()
}

fn locked(asyncs: &Mutex<Asyncs>) -> MutexGuard<'_, Asyncs> {
    asyncs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request that waits.
struct Wait {
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
            self.hold.cells.push(cell);
            self.hold.abandoned |= taken.abandoned;
        }
        Ok(true)
    }

    fn ask(&self, member: &Member, place: usize, cell: usize) -> Result<Option<ringbell_ring::table::Taken>> {
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

fn accept(member: &Member, place: usize) -> Result<Option<ringbell_ring::table::Taken>> {
    if !member.seat.is_granted(place) {
        return Ok(None);
    }
    member.with(|seat, wakes| seat.accept(place, wakes)).map(Some)
}

impl Member {
    /// Answers at once, or makes the member's thread wait.
    fn begin_async(self: &Arc<Self>, mut wait: Wait) -> Result<Option<Answer>> {
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
    fn cancel_async(&self, inbox: &Arc<Inbox<Settled>>, token: u64) -> bool {
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
    /// How many requests wait for a place.
    fn queued(&self) -> usize {
        self.waits.iter().filter(|wait| wait.place.is_none()).count()
    }

    /// Takes out every request that has its answer.
    fn settle(&mut self) -> Vec<Settlement> {
        let mut settled = Vec::new();
        let mut index = 0;
        while let Some(wait) = self.waits.get_mut(index) {
            let member = Arc::clone(&wait.hold.member);
            let result = member.check().and_then(|()| wait.advance());
            if let Ok(false) = result {
                index += 1;
                continue;
            }
            let Some(wait) = self.waits.remove(index) else { break };
            settled.push(match result {
                Ok(_) => {
                    // Its place is free now, so the ones that wait for a place are looked at again.
                    index = 0;
                    Settlement::new(&wait.inbox.clone(), wait.token, Ok(wait.finish()))
                }
                Err(error) => {
                    let (inbox, token) = (Arc::clone(&wait.inbox), wait.token);
                    wait.withdraw();
                    Settlement::new(&inbox, token, Err(error))
                }
            });
        }
        settled
    }
}

impl std::fmt::Debug for Asyncs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asyncs").field("waits", &self.waits.len()).field("runs", &self.runs).finish()
    }
}

/// An answer, and where it goes.
struct Settlement(Arc<Inbox<Settled>>, Settled);

impl Settlement {
    fn new(inbox: &Arc<Inbox<Settled>>, token: u64, result: Result<Answer>) -> Settlement {
        Settlement(Arc::clone(inbox), Settled { token, result })
    }
}

/// What the thread of a member does. It keeps the table mapped, and does not keep the member: only requests do.
fn serve(member: &Weak<Member>, table: &MappedTable) {
    let mut idle_since: Option<Instant> = None;
    while let Some(member) = member.upgrade() {
        let bell = member.bell();
        let (settled, idle) = {
            let shared = asyncs_of(&member);
            let mut asyncs = locked(&shared);
            let settled = asyncs.settle();
            member.queued.store(asyncs.queued(), Ordering::SeqCst);
            let idle = asyncs.waits.is_empty();
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
