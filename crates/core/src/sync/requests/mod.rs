//! Requests without blocking, for event loops: an answer now, or a token and an answer later.
//!
//! Invariants: each token is answered once, or cancelled. An answer that nobody takes is dropped, which gives back what it
//! holds; what it would have told its caller, the next holder is told. `waits` are the requests of one member, `thread`
//! sleeps in their place.

mod thread;
mod waits;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ringbell_ring::table::{Taken, Want};
use thread::spawn;
use waits::Wait;

use super::flag::{AtomicFlag, wanted};
use super::hold::Hold;
use super::lock::{Lock, Mode};
use super::member::Member;
use super::open;
use super::semaphore::Semaphore;
use super::sharded::ShardedMutex;
use crate::bus::Bus;
use crate::error::Result;
use crate::reactor::Inbox;

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

impl Answer {
    /// The caller has it from here on.
    fn told(mut self) -> Answer {
        if let Answer::Held(hold) = &mut self {
            hold.told = true;
        }
        self
    }
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
        let answers = self.inbox.take();
        let mut waiting = self.waiting();
        for answer in &answers {
            if let Some(at) = waiting.iter().position(|(waits, _)| *waits == answer.token) {
                waiting.swap_remove(at);
            }
        }
        let told = |Settled { token, result }| Settled { token, result: result.map(Answer::told) };
        answers.into_iter().map(told).collect()
    }

    fn token(&self) -> u64 {
        // Relaxed: the number alone matters.
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn request(&self, member: &Arc<Member>, cells: &[usize], want: Want) -> Result<Outcome> {
        if let [cell] = cells
            && let Some(taken) = member.take_now(*cell, want)?
        {
            return Ok(Outcome::Now(Answer::Held(hold(member, *cell, want, taken))));
        }
        member.check()?;
        let token = self.token();
        let wait = Wait::new(member, cells, want, (token, Arc::clone(&self.inbox)));
        match member.begin_async(wait)? {
            Some(answer) => Ok(Outcome::Now(answer.told())),
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
    Ok(member.try_take(cell, want)?.map(|taken| hold(member, cell, want, taken)))
}

/// One cell that the caller has at once.
fn hold(member: &Arc<Member>, cell: usize, want: Want, taken: Taken) -> Hold {
    Hold { member: Arc::clone(member), cells: vec![(cell, taken.abandoned)], want, told: true }
}
