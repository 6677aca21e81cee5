//! The flag: one value, true or false, which processes change at once and wait for.

use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::table::Want;

use super::member::Member;
use super::wait::Patience;
use crate::error::Result;

/// A flag between processes. Clones are the same member. A flag keeps its value as long as any member lives.
#[derive(Clone, Debug)]
pub struct AtomicFlag {
    pub(super) member: Arc<Member>,
}

pub(super) fn wanted(value: bool) -> Want {
    Want::Value(value.into())
}

impl AtomicFlag {
    /// The name that it was opened with.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// The value.
    ///
    /// # Errors
    /// As [`Lock::lock`](super::Lock::lock).
    pub fn get(&self) -> Result<bool> {
        self.member.check()?;
        Ok(self.member.seat.value() != 0)
    }

    /// Makes it true.
    ///
    /// # Errors
    /// As [`AtomicFlag::get`].
    pub fn set(&self) -> Result<()> {
        self.swap(true).map(drop)
    }

    /// Makes it false.
    ///
    /// # Errors
    /// As [`AtomicFlag::get`].
    pub fn clear(&self) -> Result<()> {
        self.swap(false).map(drop)
    }

    /// Stores a value. Returns the one before.
    ///
    /// # Errors
    /// As [`AtomicFlag::get`].
    pub fn swap(&self, value: bool) -> Result<bool> {
        Ok(self.member.with(|seat, wakes| seat.swap_value(value.into(), wakes))? != 0)
    }

    /// Stores `value` if the flag is `current`. Returns whether it was.
    ///
    /// # Errors
    /// As [`AtomicFlag::get`].
    pub fn compare_and_swap(&self, current: bool, value: bool) -> Result<bool> {
        let (from, to) = (u32::from(current), u32::from(value));
        Ok(self.member.with(|seat, wakes| seat.compare_and_swap_value(from, to, wakes))? == from)
    }

    /// Waits until the flag is seen with this value. A value that lasts only for a moment may go unseen.
    ///
    /// # Errors
    /// As [`AtomicFlag::get`], and `ERR_RINGBELL_TIMEOUT`.
    pub fn wait_for(&self, value: bool, timeout: Option<Duration>) -> Result<()> {
        if self.get()? == value {
            return Ok(());
        }
        self.member.take(0, wanted(value), Patience::new(timeout)).map(drop)
    }
}
