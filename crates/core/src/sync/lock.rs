//! The lock: held alone by one process, or shared by many.

use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::table::Want;

use super::hold::Guard;
use super::member::Member;
use super::wait::Patience;
use crate::error::Result;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By one alone.
    Exclusive,
    /// By many at a time.
    Shared,
}

impl Mode {
    pub(super) fn want(self) -> Want {
        match self {
            Mode::Exclusive => Want::Exclusive,
            Mode::Shared => Want::Shared,
        }
    }
}

/// Who holds a lock, or waits for it, as the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Client {
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    /// How it holds, or wants to hold.
    pub mode: Mode,
}

/// A lock between processes. Clones are the same member; see [`super`] for what is guaranteed.
#[derive(Clone, Debug)]
pub struct Lock {
    pub(super) member: Arc<Member>,
}

impl Lock {
    /// The name that it was opened with.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// Takes it alone, and waits as long as that takes.
    ///
    /// # Errors
    /// `ERR_RINGBELL_CLOSED` once the bus is closed and in a forked child, `ERR_RINGBELL_CORRUPT_PEER` when another
    /// process broke the table.
    #[inline]
    pub fn lock(&self) -> Result<Guard<'_>> {
        self.take(Mode::Exclusive, Patience::new(None))
    }

    /// The same for at most this time.
    ///
    /// # Errors
    /// As [`Lock::lock`], and `ERR_RINGBELL_TIMEOUT`.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.take(Mode::Exclusive, Patience::new(Some(timeout)))
    }

    /// Takes it alone if nobody has it.
    ///
    /// # Errors
    /// As [`Lock::lock`].
    pub fn try_lock(&self) -> Result<Option<Guard<'_>>> {
        self.try_take(Mode::Exclusive)
    }

    /// Takes it together with others.
    ///
    /// # Errors
    /// As [`Lock::lock`].
    pub fn lock_shared(&self) -> Result<Guard<'_>> {
        self.take(Mode::Shared, Patience::new(None))
    }

    /// The same for at most this time.
    ///
    /// # Errors
    /// As [`Lock::lock_timeout`].
    pub fn lock_shared_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.take(Mode::Shared, Patience::new(Some(timeout)))
    }

    /// Takes it together with others, if nobody has it alone or waits to.
    ///
    /// # Errors
    /// As [`Lock::lock`].
    pub fn try_lock_shared(&self) -> Result<Option<Guard<'_>>> {
        self.try_take(Mode::Shared)
    }

    /// Who holds it, and who waits for it, at about this moment.
    ///
    /// # Errors
    /// As [`Lock::lock`].
    pub fn query(&self) -> Result<(Vec<Client>, Vec<Client>)> {
        self.member.check()?;
        let table = self.member.table.mapped.memory();
        let client = |member: usize, mode| Some(Client { pid: table.who(member)?.1, mode });
        let mut held: Vec<Client> =
            table.holders(0).0.and_then(|owner| client(owner, Mode::Exclusive)).into_iter().collect();
        for member in table.members().iter() {
            if table.held_by(member) > 0 {
                held.extend(client(member, Mode::Shared));
            }
        }
        let mode = |want| if want == Want::Shared { Mode::Shared } else { Mode::Exclusive };
        let pending = table.waiting().filter_map(|(member, want)| client(member, mode(want))).collect();
        Ok((held, pending))
    }

    #[inline]
    fn take(&self, mode: Mode, patience: Patience) -> Result<Guard<'_>> {
        let taken = self.member.take(0, mode.want(), patience)?;
        Ok(Guard { member: &self.member, cell: 0, want: mode.want(), abandoned: taken.abandoned })
    }

    fn try_take(&self, mode: Mode) -> Result<Option<Guard<'_>>> {
        let taken = self.member.try_take(0, mode.want())?;
        Ok(taken.map(|taken| Guard {
            member: &self.member,
            cell: 0,
            want: mode.want(),
            abandoned: taken.abandoned,
        }))
    }
}

/// How often a [`SpinLock`] looks before it sleeps: about 20 microseconds.
const SPINS: u32 = 2000;

/// A [`Lock`] that spins for a bounded time before it sleeps. It is for very short holds, on machines with processors to
/// spare.
#[derive(Clone, Debug)]
pub struct SpinLock {
    pub(super) lock: Lock,
}

impl SpinLock {
    /// As [`Lock::lock`].
    ///
    /// # Errors
    /// As [`Lock::lock`].
    #[inline]
    pub fn lock(&self) -> Result<Guard<'_>> {
        self.lock.take(Mode::Exclusive, Patience { timeout: None, spins: SPINS })
    }

    /// As [`Lock::lock_timeout`].
    ///
    /// # Errors
    /// As [`Lock::lock_timeout`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Guard<'_>> {
        self.lock.take(Mode::Exclusive, Patience { timeout: Some(timeout), spins: SPINS })
    }

    /// As [`Lock::try_lock`].
    ///
    /// # Errors
    /// As [`Lock::lock`].
    pub fn try_lock(&self) -> Result<Option<Guard<'_>>> {
        self.lock.try_lock()
    }

    /// The same lock, without spinning.
    pub fn as_lock(&self) -> &Lock {
        &self.lock
    }
}
