//! The table of a keyed reader: the keys with their values, and which of them have changed.
//!
//! Invariant: only changes that can be seen are kept: a key that was added and deleted between two looks is none. So what is
//! kept is never more than two tables. Plain memory, used by `keyed` alone.

use std::collections::BTreeMap;

use super::entry::space;

/// Keys and values.
#[derive(Default)]
pub(super) struct Table {
    entries: BTreeMap<Box<str>, (u64, Vec<u8>)>,
    /// Bytes that the entries take in the ring.
    pub(super) used: usize,
}

impl Table {
    pub(super) fn set(&mut self, key: &str, version: u64, value: &[u8]) {
        self.used += space(key, value.len());
        if let Some((of, old)) = self.entries.get_mut(key) {
            self.used -= space(key, old.len());
            *of = version;
            old.clear();
            old.extend_from_slice(value);
        } else {
            self.entries.insert(key.into(), (version, value.to_vec()));
        }
    }

    pub(super) fn delete(&mut self, key: &str) {
        if let Some((_, old)) = self.entries.remove(key) {
            self.used -= space(key, old.len());
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<(u64, &[u8])> {
        self.entries.get(key).map(|(version, value)| (*version, value.as_slice()))
    }

    /// The keys that begin with this, in order.
    pub(super) fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let from = (std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded);
        let keys = self.entries.range::<str, _>(from).map(|(key, _)| &**key);
        keys.take_while(move |key| key.starts_with(prefix))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The keys that have changed since the last look. Each says whether it had a value then.
#[derive(Default)]
pub(super) struct Changes(BTreeMap<Box<str>, bool>);

impl Changes {
    /// Notes that a key gets a value, or loses it. `had`: whether it had one before this change.
    pub(super) fn note(&mut self, key: &str, had: bool, has: bool) {
        match self.0.get(key) {
            Some(false) if !has => drop(self.0.remove(key)),
            None if had || has => drop(self.0.insert(key.into(), had)),
            _ => {}
        }
    }

    /// Notes everything that differs between two tables. `anew`: the versions are those of another writer.
    pub(super) fn compare(&mut self, before: &Table, after: &Table, anew: bool) {
        for key in before.keys("").filter(|key| after.get(key).is_none()) {
            self.note(key, true, false);
        }
        for key in after.keys("") {
            let same = match (before.get(key), after.get(key)) {
                (Some((_, old)), Some((_, new))) if anew => old == new,
                (Some((old, _)), Some((new, _))) => old == new,
                _ => false,
            };
            if !same {
                self.note(key, before.get(key).is_some(), true);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.0).into_keys().map(String::from).collect()
    }
}
