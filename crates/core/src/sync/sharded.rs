//! The sharded mutex: many keys, each of which belongs to one of a power of two of shards that are locked one by one.
//!
//! Invariant: shards are taken in ascending order and each once, so two calls of `with_keys` never wait for each other in
//! a circle. A thread that holds a guard and takes another one is on its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::table::{Taken, Want};

use super::hold::Guard;
use super::member::Member;
use super::wait::Patience;
use crate::error::Result;
use crate::segment::fnv1a;

/// A mutex with shards, between processes. Clones are the same member.
#[derive(Clone, Debug)]
pub struct ShardedMutex {
    pub(super) member: Arc<Member>,
}

/// The shards of some keys. Dropping it gives all of them back.
#[derive(Debug)]
#[must_use = "dropping it gives them back"]
pub struct KeysGuard<'a> {
    guards: Vec<Guard<'a>>,
}

impl KeysGuard<'_> {
    /// Whether the last holder of any of the shards died while it held it.
    pub fn abandoned(&self) -> bool {
        self.guards.iter().any(Guard::abandoned)
    }

    /// Gives them back now.
    pub fn release(self) {}
}

impl ShardedMutex {
    /// The name that it was opened with.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.member.spec.cells
    }

    /// The shard of a key: its FNV-1a hash, the upper half folded into the lower one, modulo the number of shards.
    pub fn shard_of(&self, key: &[u8]) -> usize {
        let hash = fnv1a(key);
        (hash ^ hash >> 32) as usize & (self.shards() - 1)
    }

    /// Takes the shard of this key, and waits as long as that takes.
    ///
    /// # Errors
    /// As [`Lock::lock`](super::Lock::lock).
    pub fn lock(&self, key: &[u8]) -> Result<Guard<'_>> {
        self.take(self.shard_of(key), None)
    }

    /// The same for at most this time.
    ///
    /// # Errors
    /// As [`ShardedMutex::lock`], and `ERR_RINGBELL_TIMEOUT`.
    pub fn lock_timeout(&self, key: &[u8], timeout: Duration) -> Result<Guard<'_>> {
        self.take(self.shard_of(key), Some(timeout))
    }

    /// Takes the shard of this key if nobody has it.
    ///
    /// # Errors
    /// As [`ShardedMutex::lock`].
    pub fn try_lock(&self, key: &[u8]) -> Result<Option<Guard<'_>>> {
        let cell = self.shard_of(key);
        let taken = self.member.try_take(cell, Want::Exclusive)?;
        Ok(taken.map(|taken| self.guard(cell, taken.abandoned)))
    }

    /// Takes the shards of all these keys.
    ///
    /// # Errors
    /// As [`ShardedMutex::lock_timeout`]. Then none of them is held.
    pub fn with_keys<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        timeout: Option<Duration>,
    ) -> Result<KeysGuard<'_>> {
        let mut guards = Vec::new();
        let cells = self.shards_of(keys);
        let each = |cell, taken: Taken| guards.push(self.guard(cell, taken.abandoned));
        match self.member.take_all(cells, timeout, each) {
            Ok(()) => Ok(KeysGuard { guards }),
            Err(error) => {
                guards.into_iter().rev().for_each(Guard::pass_on);
                Err(error)
            }
        }
    }

    /// The shards of some keys, each once, in ascending order.
    pub(super) fn shards_of<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> BTreeSet<usize> {
        keys.into_iter().map(|key| self.shard_of(key.as_ref())).collect()
    }

    fn take(&self, cell: usize, timeout: Option<Duration>) -> Result<Guard<'_>> {
        let taken = self.member.take(cell, Want::Exclusive, Patience::new(timeout))?;
        Ok(self.guard(cell, taken.abandoned))
    }

    fn guard(&self, cell: usize, abandoned: bool) -> Guard<'_> {
        Guard { member: &self.member, cell, want: Want::Exclusive, abandoned }
    }
}
