//! The writer of a keyed state: a log of changes in a ring, which never gives up an entry that counts.
//!
//! Invariant: the oldest entry that counts lies above every position that the ring may give up for the next two entries.
//! So it is written again in time, and that can never push out another one. All entries that count take at most half of the
//! ring, so this ends. One thread uses it. It makes no system call while every reader is awake.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::entry::{Entry, HEADER, Kind, space};
use super::options::{Layout, StateOptions};
use super::writer::StateWriter;
use crate::bus::Bus;
use crate::error::{Error, Result};
use crate::record::StateKind;

/// An entry takes at most this part of the ring.
const PART: usize = 8;
/// The smallest ring that is chosen when none is asked for.
const SMALLEST: usize = 1 << 20;
const LAYOUT: Layout = Layout { kind: StateKind::Keyed, extra: HEADER, part: PART, smallest: SMALLEST };
/// What a producer frees at least when it makes room, as a part of the ring.
const FREED: u64 = 16;

/// The writing side of a state with keys. It has what every [`StateWriter`] has.
#[derive(Debug)]
pub struct KeyedState {
    writer: StateWriter,
    version: u64,
    live: HashMap<Arc<str>, Live>,
    /// The keys by the positions of their entries.
    order: BTreeMap<u64, Arc<str>>,
    /// Bytes that the entries that count take.
    used: usize,
    /// Where the next entry goes, and its sequence.
    position: u64,
    sequence: u64,
    message: Vec<u8>,
}

/// A key that has a value.
#[derive(Debug)]
struct Live {
    value: Vec<u8>,
    version: u64,
    position: u64,
    sequence: u64,
}

impl Bus {
    /// Announces a state that holds a value for each key, and makes this process its writer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::state::{StateOptions, StateReaderOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut state = bus.keyed_state("limits", StateOptions::default())?;
    /// state.set("uploads", b"10")?;
    ///
    /// let mut reader = bus.watch_keyed_state("limits", StateReaderOptions::default())?;
    /// assert!(reader.wait(Some(Duration::from_secs(30)))?);
    /// assert_eq!(reader.changes()?, ["uploads"]);
    /// assert_eq!(reader.get("uploads")?, Some(&b"10"[..]));
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Bus::state`].
    pub fn keyed_state(&self, name: &str, options: StateOptions) -> Result<KeyedState> {
        let mut state = KeyedState {
            writer: StateWriter::open(self, name, options, &LAYOUT)?,
            version: 0,
            live: HashMap::new(),
            order: BTreeMap::new(),
            used: 0,
            position: 0,
            sequence: 0,
            message: Vec::new(),
        };
        // A reader learns from it that there are no keys yet.
        state.append(Kind::Mark, "", &[], 0)?;
        Ok(state)
    }
}

impl KeyedState {
    /// Sets the value of a key. Answers the version of the state: how many changes there were.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE` when key and value are above `size`; `ERR_RINGBELL_STATE_FULL` when all keys and
    /// values would be above half of the ring; `ERR_RINGBELL_CLOSED` in a forked child. Nothing has changed then.
    pub fn set(&mut self, key: &str, value: &[u8]) -> Result<u64> {
        let size = key.len() + value.len();
        if size > self.writer.size() {
            return Err(Error::MessageTooLarge { size, limit: self.writer.size() });
        }
        let before = self.live.get(key).map_or(0, |live| space(key, live.value.len()));
        let used = self.used - before + space(key, value.len());
        let limit = self.writer.publisher.capacity() / 2;
        if used > limit {
            return Err(Error::StateFull { size: used, limit });
        }
        let version = self.version + 1;
        let key = self.forget(key).unwrap_or_else(|| key.into());
        let (position, sequence) = (self.position, self.sequence);
        self.order.insert(position, key.clone());
        self.live.insert(key.clone(), Live { value: value.to_vec(), version, position, sequence });
        self.append(Kind::Set, &key, value, version)?;
        (self.used, self.version) = (used, version);
        self.write_again()?;
        Ok(version)
    }

    /// Deletes a key. Says whether it was there.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn delete(&mut self, key: &str) -> Result<bool> {
        let Some(live) = self.live.get(key) else { return Ok(false) };
        self.used -= space(key, live.value.len());
        self.version += 1;
        self.forget(key);
        self.live.remove(key);
        self.append(Kind::Delete, key, &[], self.version)?;
        self.write_again()?;
        Ok(true)
    }

    /// The value of a key, as it was set here.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.live.get(key).map(|live| live.value.as_slice())
    }

    /// The keys that have a value, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.live.keys().map(|key| &**key)
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// How many changes there were.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Withdraws the state. Readers keep what they have. Dropping it does the same.
    pub fn close(self) {}

    /// The entry of this key counts no more. Answers the key as it is kept.
    fn forget(&mut self, key: &str) -> Option<Arc<str>> {
        self.order.remove(&self.live.get(key)?.position)
    }

    fn append(&mut self, kind: Kind, key: &str, value: &[u8], version: u64) -> Result<()> {
        let oldest = self.order.first_key_value().and_then(|(_, key)| self.live.get(key));
        let oldest = oldest.map_or(self.sequence + 1, |live| live.sequence);
        Entry { kind, oldest, version, key, value }.encode(&mut self.message);
        // A topic that drops the oldest takes every message.
        self.writer.publisher.send(&self.message)?;
        self.position += space(key, value.len()) as u64;
        self.sequence += 1;
        Ok(())
    }

    /// Writes the oldest entries again, until the next two entries of any size push out none that counts.
    fn write_again(&mut self) -> Result<()> {
        let capacity = self.writer.publisher.capacity() as u64;
        loop {
            let reach = self.position + 2 * capacity / PART as u64 + capacity / FREED;
            let Some((&position, _)) = self.order.first_key_value() else { return Ok(()) };
            if position + capacity >= reach {
                return Ok(());
            }
            let Some((_, key)) = self.order.pop_first() else { return Ok(()) };
            let Some(live) = self.live.get_mut(&key) else { return Ok(()) };
            (live.position, live.sequence) = (self.position, self.sequence);
            let (version, value) = (live.version, std::mem::take(&mut live.value));
            self.order.insert(self.position, key.clone());
            let appended = self.append(Kind::Set, &key, &value, version);
            if let Some(live) = self.live.get_mut(&key) {
                live.value = value;
            }
            appended?;
        }
    }
}

impl Deref for KeyedState {
    type Target = StateWriter;

    fn deref(&self) -> &StateWriter {
        &self.writer
    }
}

impl DerefMut for KeyedState {
    fn deref_mut(&mut self) -> &mut StateWriter {
        &mut self.writer
    }
}
