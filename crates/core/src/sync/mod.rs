//! Turns between processes: locks, semaphores, flags and sharded mutexes that survive the death of their holder.
//!
//! A name is opened on a bus ([`Bus::lock`], [`Bus::semaphore`], [`Bus::flag`], [`Bus::sharded_mutex`], [`Bus::spin_lock`]).
//! All processes that open it share one table in a sealed memfd (`ringbell_ring::table`), which lives as long as anybody
//! uses it. Each opening is a *member*: it announces an ordinary record and holds a lock on its bytes of the table.
//!
//! ```
//! use std::time::Duration;
//! use ringbell::bus::{Bus, BusOptions};
//! # let folder = tempfile::tempdir().unwrap();
//! # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
//!
//! let lock = bus.lock("orders")?;
//! {
//!     let guard = lock.lock_timeout(Duration::from_secs(1))?;
//!     if guard.abandoned() {
//!         // The last holder died while it held the lock: check what it was changing.
//!     }
//! } // given back here
//! let permits = bus.semaphore("downloads", 4)?;
//! let two = permits.acquire(2)?;
//! assert!(permits.try_acquire(3)?.is_none());
//! # drop(two);
//! # Ok::<(), ringbell::Error>(())
//! ```
//!
//! # Without blocking
//!
//! [`Requests`] is for event loops. A request answers at once ([`Outcome::Now`]) or gives a token
//! ([`Outcome::Later`]). The answer of a token comes through a descriptor: wait until [`Requests`] (`AsFd`) is readable, then
//! [`Requests::take`]. [`Requests::cancel`] withdraws a request. What was taken is a [`Hold`]; dropping it gives it back, on
//! any thread. Opening waits for other processes, so [`Requests::open`] does it on a thread of its own. A thread for each
//! member with requests that wait sleeps on a futex; it ends when there are none.
//!
//! # What is guaranteed
//!
//! * One holder at a time, whatever dies and whenever. The next holder of what a dead process held alone is told so; also all
//!   that share it before.
//! * A member that stood still while the bus directory was removed, and another process made the name's table again, is cut
//!   off: its calls fail with `ERR_RINGBELL_REFUSED`. Drop what was opened, and open it again.
//! * What a holder wrote before it gave back is seen by the next one, also by the one after a death.
//! * Permits and shared holds are granted in the order in which they were asked for (each process has eight requests in
//!   that order at a time; more of them wait within the process). A lock may be taken by a running process before a
//!   waiter that has to be woken; a waiter that lost a few times is served first.
//! * Without rivals, a lock is taken and given back without a system call.
//!
//! # What is not
//!
//! * A process that stands still (SIGSTOP, a debugger) keeps what it holds. Waiters time out as they asked. Nobody steals.
//! * A process that calls `execve` while it holds something loses it, and those that wait already are not woken by that.
//! * Locks do not know priorities.
//! * Every process of this user can write the table. A hostile one can break it: free what others hold, or let nobody in.
//!   It cannot crash the others, nor make them wait longer than they asked.

mod flag;
mod hold;
mod keeper;
mod lock;
mod member;
mod open;
mod requests;
mod semaphore;
mod sharded;
#[cfg(test)]
mod tests;
mod wait;
mod want;

use ringbell_ring::table::Kind;

pub use flag::AtomicFlag;
pub use hold::{Guard, Hold};
pub use lock::{Client, Lock, Mode, SpinLock};
pub use requests::{Answer, Opened, Opening, Outcome, Requests, Settled};
pub use semaphore::Semaphore;
pub use sharded::{KeysGuard, ShardedMutex};

use crate::bus::Bus;
use crate::error::Result;
use member::Spec;

impl Bus {
    /// Opens a lock, which one process holds alone, or many share.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_ACQUIRE` where the living members cannot be reached,
    /// `ERR_RINGBELL_TIMEOUT`, and the errors of [`Bus::announce`].
    pub fn lock(&self, name: &str) -> Result<Lock> {
        Ok(Lock { member: open::open(self, name, Opening::Lock.spec())? })
    }

    /// Opens the lock of this name, to spin for a bounded time before sleeping. Members that spin and members that do not
    /// share one lock.
    ///
    /// # Errors
    /// As [`Bus::lock`].
    pub fn spin_lock(&self, name: &str) -> Result<SpinLock> {
        Ok(SpinLock { lock: self.lock(name)? })
    }

    /// Opens a semaphore. All members name the same number of permits.
    ///
    /// # Errors
    /// As [`Bus::lock`]; `ERR_RINGBELL_INVALID_OPTION` where the living members have another number of permits.
    pub fn semaphore(&self, name: &str, permits: u32) -> Result<Semaphore> {
        Ok(Semaphore { member: open::open(self, name, Opening::Semaphore { permits }.spec())? })
    }

    /// Opens a flag, which is false at first.
    ///
    /// # Errors
    /// As [`Bus::lock`].
    pub fn flag(&self, name: &str) -> Result<AtomicFlag> {
        Ok(AtomicFlag { member: open::open(self, name, Opening::Flag.spec())? })
    }

    /// Opens a mutex with this number of shards, a power of two up to 1,024. All members name the same number.
    ///
    /// # Errors
    /// As [`Bus::lock`]; `ERR_RINGBELL_INVALID_OPTION` where the living members have another number of shards.
    pub fn sharded_mutex(&self, name: &str, shards: usize) -> Result<ShardedMutex> {
        Ok(ShardedMutex { member: open::open(self, name, Opening::ShardedMutex { shards }.spec())? })
    }
}

impl Opening {
    fn spec(self) -> Spec {
        let (kind, cells, permits) = match self {
            Opening::Lock => (Kind::Lock, 1, 0),
            Opening::Semaphore { permits } => (Kind::Semaphore, 1, permits),
            Opening::Flag => (Kind::Flag, 1, 0),
            Opening::ShardedMutex { shards } => (Kind::Sharded, shards, 0),
        };
        Spec { kind, cells, permits }
    }
}
