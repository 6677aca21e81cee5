//! The semaphore: a number of permits. They are granted in the order of the requests, and come back from the dead.

use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::table::Want;

use super::hold::Guard;
use super::member::Member;
use super::wait::Patience;
use crate::error::{Error, Result};

/// A semaphore between processes. Clones are the same member.
#[derive(Clone, Debug)]
pub struct Semaphore {
    pub(super) member: Arc<Member>,
}

impl Semaphore {
    /// The name that it was opened with.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// How many permits there are in all.
    pub fn permits(&self) -> u32 {
        self.member.spec.permits
    }

    /// How many permits nobody has, at about this moment.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn available(&self) -> Result<u32> {
        self.member.check()?;
        let (_, held) = self.member.table.mapped.memory().holders(0);
        Ok(self.permits().saturating_sub(u32::try_from(held).unwrap_or(u32::MAX)))
    }

    /// Takes so many permits at once, and waits as long as that takes.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` for 0 or for more than there are; otherwise as [`Lock::lock`](super::Lock::lock).
    pub fn acquire(&self, permits: u32) -> Result<Guard<'_>> {
        self.take(permits, None)
    }

    /// The same for at most this time.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`], and `ERR_RINGBELL_TIMEOUT`.
    pub fn acquire_timeout(&self, permits: u32, timeout: Duration) -> Result<Guard<'_>> {
        self.take(permits, Some(timeout))
    }

    /// Takes so many permits if they are free and nobody waits.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    pub fn try_acquire(&self, permits: u32) -> Result<Option<Guard<'_>>> {
        let want = self.want(permits)?;
        let taken = self.member.try_take(0, want)?;
        Ok(taken.map(|_| Guard { member: &self.member, cell: 0, want, abandoned: false }))
    }

    fn take(&self, permits: u32, timeout: Option<Duration>) -> Result<Guard<'_>> {
        let want = self.want(permits)?;
        self.member.take(0, want, Patience::new(timeout))?;
        Ok(Guard { member: &self.member, cell: 0, want, abandoned: false })
    }

    pub(super) fn want(&self, permits: u32) -> Result<Want> {
        if (1..=self.permits()).contains(&permits) {
            return Ok(Want::Permits(permits));
        }
        Err(Error::InvalidOption {
            option: "permits",
            value: permits.to_string(),
            rule: format!("it must be from 1 to {}, which is all that there are", self.permits()),
        })
    }
}
