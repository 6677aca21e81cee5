//! The reader of a keyed state: a table that is built from the log of the newest writer.
//!
//! Invariants: the table is that of one moment of one writer. A reader that has begun, or was lapped, builds another table
//! from what the ring still holds, and shows it once it is whole. A writer whose log breaks the rules is dropped. One thread
//! uses it. Only `wait` may wait.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::{BATCH_OVERHEAD, Entry as Place, Fault};

use super::entry::{Entry, Kind};
use super::notice::StateNotice;
use super::options::StateReaderOptions;
use super::table::{Changes, Table};
use super::waiting::{self, Waiting};
use crate::bus::Bus;
use crate::error::Result;
use crate::record::{Record, StateKind, check_name};
use crate::topic::{Drained, Notice, Subscriber, SubscriberStats};

/// Messages that are taken in at once.
const ENTRIES: usize = 256;
const SLAB: usize = 64 << 10;
/// Batches that one call takes in. What is left is taken in by the next one.
const MOST_BATCHES: usize = 4096;

/// The reading side of a state with keys.
pub struct KeyedReader {
    subscriber: Subscriber,
    logs: Vec<Log>,
    table: Table,
    /// The epoch of the writer that the table comes from, once there is one.
    epoch: Option<u64>,
    changes: Changes,
    notices: VecDeque<StateNotice>,
    slab: Vec<u8>,
    places: Vec<Place>,
    spin: Duration,
}

/// The log of an attached writer.
struct Log {
    source: u32,
    epoch: u64,
    record: Arc<Record>,
    /// Most bytes that the entries that count may take.
    limit: usize,
    /// Sequence of the entry that comes next.
    next: Option<u64>,
    /// Sequence of the first entry that was read without a gap, and the table that they make while it is not whole.
    building: Option<(u64, Table)>,
}

impl Bus {
    /// Reads the keyed state of this name, whoever writes it, now and in future. Returns at once.
    ///
    /// # Errors
    ///
    /// As [`Bus::watch_state`].
    pub fn watch_keyed_state(&self, name: &str, options: StateReaderOptions) -> Result<KeyedReader> {
        check_name("service name", name)?;
        Ok(KeyedReader {
            subscriber: self.subscriber(name, options.subscriber(StateKind::Keyed))?,
            logs: Vec::new(),
            table: Table::default(),
            epoch: None,
            changes: Changes::default(),
            notices: VecDeque::new(),
            slab: vec![0; SLAB],
            places: vec![Place::default(); ENTRIES],
            spin: Duration::from_micros(50),
        })
    }
}

impl KeyedReader {
    /// Takes in what has come. Says whether keys have changed that [`changes`](Self::changes) has not told of. Makes no
    /// system call while the writer's memory is shared and no writer comes or goes.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` when the bus was closed, and in a forked child.
    pub fn poll(&mut self) -> Result<bool> {
        for _ in 0..MOST_BATCHES {
            match self.subscriber.drain(&mut self.slab, 0, &mut self.places)? {
                Drained::Batch { source, count, batch_sequence, .. } => {
                    self.take_in(source, count, batch_sequence)?;
                }
                Drained::NeedSlab(bytes) => self.slab = vec![0; bytes.next_multiple_of(SLAB)],
                Drained::Notice => self.note_all(),
                Drained::Large { .. } => drop(self.subscriber.take_large()),
                Drained::Empty => break,
            }
        }
        Ok(!self.changes.is_empty())
    }

    /// The value of a key. `None`: it has none.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn get(&mut self, key: &str) -> Result<Option<&[u8]>> {
        self.keep_up()?;
        Ok(self.table.get(key).map(|(_, value)| value))
    }

    /// The keys that begin with this and have a value, in order.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn keys<'a>(&'a mut self, prefix: &'a str) -> Result<impl Iterator<Item = &'a str>> {
        self.keep_up()?;
        Ok(self.table.keys(prefix))
    }

    /// How many keys have a value, as of the last call that took something in.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key has a value, as of the last call that took something in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a whole table was ever read. Until then, no key has a value because none is known.
    pub fn is_whole(&self) -> bool {
        self.epoch.is_some()
    }

    /// The keys that got another value or lost theirs since the last call, in order. [`get`](Self::get) has the value.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn changes(&mut self) -> Result<Vec<String>> {
        self.keep_up()?;
        Ok(self.changes.take())
    }

    /// Waits until keys have changed that `changes` has not told of, or until `timeout` has passed.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let spin = self.spin;
        waiting::wait(self, spin, timeout)
    }

    /// What happened to writers, in order. Each notice is told once.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn notices(&mut self) -> Result<Vec<StateNotice>> {
        self.keep_up()?;
        Ok(self.notices.drain(..).collect())
    }

    /// Whether [`notices`](Self::notices) has something to tell.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The epoch of the writer that the table comes from.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Looks for something new, about `turns` times, with pause instructions in between.
    pub fn spin(&self, turns: u32) -> bool {
        self.subscriber.spin(turns)
    }

    /// Announces that the caller is about to sleep. True: sleep on `as_fd`, and call [`harvest`](Self::harvest) then.
    pub fn arm(&mut self) -> bool {
        self.subscriber.arm() && self.changes.is_empty() && self.notices.is_empty()
    }

    /// As [`Subscriber::harvest`].
    ///
    /// # Errors
    ///
    /// As [`Subscriber::harvest`].
    pub fn harvest(&mut self) -> Result<bool> {
        self.subscriber.harvest()
    }

    /// Counters, as those of a subscriber.
    pub fn stats(&mut self) -> SubscriberStats {
        self.subscriber.stats()
    }

    /// The table stays readable when the bus is closed.
    fn keep_up(&mut self) -> Result<()> {
        match self.poll() {
            Err(_) if self.subscriber.is_over() => Ok(()),
            other => other.map(drop),
        }
    }

    fn note_all(&mut self) {
        for notice in self.subscriber.notices() {
            match &notice {
                Notice::Attached { source, record, .. } => {
                    let capacity = record.topic.as_ref().map_or(0, |topic| topic.capacity);
                    self.logs.push(Log {
                        source: *source,
                        epoch: record.state.map_or(0, |state| state.epoch),
                        record: record.clone(),
                        limit: (capacity / 2) as usize,
                        next: None,
                        building: None,
                    });
                }
                Notice::Ended { source, .. } => self.logs.retain(|log| log.source != *source),
                _ => {}
            }
            self.notices.extend(StateNotice::of(notice));
        }
    }

    /// Takes in a batch of one writer.
    fn take_in(&mut self, source: u32, count: usize, begun: u64) -> Result<()> {
        let Self { logs, table, epoch, changes, slab, places, .. } = self;
        let Some(log) = logs.iter_mut().find(|log| log.source == source) else { return Ok(()) };
        let mut taken = || {
            for place in &places[..count] {
                let first = match place.batch {
                    Place::CONTINUED => begun,
                    batch => word(slab, batch as usize + 8)?,
                };
                let data = slab.get(place.offset as usize..)?.get(..place.length as usize)?;
                let sequence = first.checked_add(place.index.into())?;
                log.apply(sequence, Entry::decode(data)?, table, epoch, changes)?;
            }
            Some(())
        };
        if taken().is_none() {
            self.subscriber
                .fail(source, Fault::Corrupt("the log of a state has something else than entries"));
            self.note_all();
        }
        Ok(())
    }
}

impl Log {
    /// Applies one entry to the table that is shown, or to the one that is built. `None`: it breaks a rule.
    fn apply(
        &mut self,
        sequence: u64,
        entry: Entry<'_>,
        table: &mut Table,
        epoch: &mut Option<u64>,
        changes: &mut Changes,
    ) -> Option<()> {
        if self.next != Some(sequence) {
            // The first entry, or a gap. What is shown stays until the new table is whole.
            self.building = Some((sequence, Table::default()));
        }
        self.next = Some(sequence.checked_add(1)?);
        let superseded = epoch.is_some_and(|epoch| epoch > self.epoch);
        let Some((begin, built)) = &mut self.building else {
            if superseded {
                return Some(());
            }
            let before = table.get(entry.key).map(|(version, _)| version);
            // An entry that was written again is no change.
            let news = before != Some(entry.version);
            match entry.kind {
                Kind::Set => table.set(entry.key, entry.version, entry.value),
                Kind::Delete => table.delete(entry.key),
                Kind::Mark => {}
            }
            if news && entry.kind != Kind::Mark {
                changes.note(entry.key, before.is_some(), entry.kind == Kind::Set);
            }
            return (table.used <= self.limit).then_some(());
        };
        match entry.kind {
            Kind::Set => built.set(entry.key, entry.version, entry.value),
            Kind::Delete => built.delete(entry.key),
            Kind::Mark => {}
        }
        if built.used > self.limit {
            return None;
        }
        if entry.oldest >= *begin {
            let (_, whole) = self.building.take()?;
            if !superseded {
                changes.compare(table, &whole, *epoch != Some(self.epoch));
                (*table, *epoch) = (whole, Some(self.epoch));
            }
        }
        Some(())
    }
}

fn word(slab: &[u8], at: usize) -> Option<u64> {
    const { assert!(BATCH_OVERHEAD >= 16, "the sequence is the second word of a batch") };
    slab.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Waiting for KeyedReader {
    fn subscriber(&mut self) -> &mut Subscriber {
        &mut self.subscriber
    }

    fn look(&mut self) -> Result<bool> {
        self.poll()
    }
}

impl AsFd for KeyedReader {
    /// As that of a [`Subscriber`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscriber.as_fd()
    }
}

impl std::fmt::Debug for KeyedReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let writers: Vec<_> = self.logs.iter().map(|log| &log.record.id).collect();
        f.debug_struct("KeyedReader").field("writers", &writers).field("keys", &self.len()).finish()
    }
}
