//! The reader of a state with one value: the newest message of the newest writer.
//!
//! Invariants: a read makes no system call while the writer's memory is shared and no writer comes or goes. The last value
//! stays readable when its writer ends, however it ends; but not when the writer broke the protocol, unless the value was
//! kept before. Versions never go back: a writer with a smaller epoch than one whose value was read is ignored, and a kept
//! value counts only while it is the newest. One thread uses it. Only `wait` may wait.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbell_ring::{Fault, Newest};

use super::notice::StateNotice;
use super::options::StateReaderOptions;
use super::waiting::{self, Waiting};
use crate::bus::Bus;
use crate::error::{Error, Result};
use crate::record::{Record, Rung, StateKind, check_name};
use crate::topic::{Notice, Subscriber, SubscriberStats};

/// For how long a read tries again while the writer overwrites each value during its copy.
const PATIENCE: Duration = Duration::from_millis(20);
/// No writer comes to this number.
const ENDLESS: Fault = Fault::Corrupt("the sequence of a value is the last one that there is");

/// Which value of a state it is. A later one is greater, whoever its writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Grows with each writer of the name.
    pub epoch: u64,
    /// How many values its writer had set with this one: 1 for its first.
    pub number: u64,
}

/// A value that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The value. It was copied out of the ring, so no other process can change it.
    pub data: &'a [u8],
    /// Its version.
    pub version: Version,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A value, which was copied.
    Value {
        /// Its length in bytes.
        length: usize,
        /// Its version.
        version: Version,
    },
    /// There is none.
    Nothing,
    /// The value has this many bytes, and the caller's memory fewer.
    Needs(usize),
}

/// A writer that is attached.
#[derive(Debug)]
struct Writer {
    source: u32,
    epoch: u64,
    record: Arc<Record>,
    /// A stream has to be asked whether it has ended.
    streamed: bool,
}

/// What a look at the present writer brought.
enum Found {
    /// Its length, and how many values its writer had set with it.
    Value(usize, u64),
    /// It has set no value, or there is none.
    Nothing,
    Needs(usize),
}

/// The reading side of a state.
pub struct StateReader {
    subscriber: Subscriber,
    /// The attached writers. Mostly there is one.
    writers: Vec<Writer>,
    /// Index of the writer with the greatest epoch, if no value of a later one was read.
    current: Option<usize>,
    /// The newest value that was kept, and its version.
    kept: Vec<u8>,
    kept_length: usize,
    kept_version: Option<Version>,
    /// Memory for the next copy.
    spare: Vec<u8>,
    /// The newest version that was read or kept.
    newest: Option<Version>,
    /// The version that a wait has last told of.
    told: Option<Version>,
    notices: VecDeque<StateNotice>,
    spin: Duration,
}

impl Bus {
    /// Reads the state of this name, whoever writes it, now and in future. Returns at once, even if there is no writer.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`.
    pub fn watch_state(&self, name: &str, options: StateReaderOptions) -> Result<StateReader> {
        check_name("service name", name)?;
        Ok(StateReader {
            subscriber: self.subscriber(name, options.subscriber(StateKind::Value))?,
            writers: Vec::new(),
            current: None,
            kept: Vec::new(),
            kept_length: 0,
            kept_version: None,
            spare: Vec::new(),
            newest: None,
            told: None,
            notices: VecDeque::new(),
            spin: Duration::from_micros(50),
        })
    }
}

impl StateReader {
    /// Copies the value to the start of `target`. Answers its length and version, or `None` if there never was a value.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` when `target` is shorter than the value. `ERR_RINGBELL_TIMEOUT` when the writer
    /// overwrites every value while it is copied. `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub fn read(&mut self, target: &mut [u8]) -> Result<Option<(usize, Version)>> {
        if let Some(value) = self.read_again(target) {
            return Ok(Some(value));
        }
        match self.read_anew(target)? {
            Reading::Value { length, version } => Ok(Some((length, version))),
            Reading::Nothing => Ok(None),
            Reading::Needs(length) => {
                let (value, rule) =
                    (format!("{} bytes", target.len()), format!("the value has {length} bytes"));
                Err(Error::InvalidOption { option: "target", value, rule })
            }
        }
    }

    /// As [`read`](Self::read), for a caller that can get more memory.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    #[inline]
    pub fn read_or_needs(&mut self, target: &mut [u8]) -> Result<Reading> {
        if let Some((length, version)) = self.read_again(target) {
            return Ok(Reading::Value { length, version });
        }
        self.read_anew(target)
    }

    /// Copies the value that the last read found, if nothing has happened since. Most reads end here, so nothing else may be
    /// done here.
    #[inline]
    fn read_again(&mut self, target: &mut [u8]) -> Option<(usize, Version)> {
        if self.subscriber.has_news() {
            return None;
        }
        let Writer { source, epoch, .. } = *self.writers.get(self.current?)?;
        let (length, sequence) = self.subscriber.newest_again(source, target)?;
        let version = Version { epoch, number: sequence.checked_add(1)? };
        self.newest = Some(version);
        Some((length, version))
    }

    fn read_anew(&mut self, target: &mut [u8]) -> Result<Reading> {
        self.keep_up()?;
        let Some(current) = self.current else { return Ok(self.read_kept(target)) };
        let Writer { source, epoch, .. } = self.writers[current];
        Ok(match self.look(source, target)? {
            Found::Value(length, number) => {
                let version = Version { epoch, number };
                self.newest = Some(version);
                Reading::Value { length, version }
            }
            Found::Nothing => self.read_kept(target),
            Found::Needs(length) => Reading::Needs(length),
        })
    }

    /// The value, in memory of the reader. `None` if there never was one.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_TIMEOUT` as [`read`](Self::read), `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn latest(&mut self) -> Result<Option<Value<'_>>> {
        self.keep_up()?;
        self.keep()?;
        Ok(self.kept().map(|version| Value { data: &self.kept[..self.kept_length], version }))
    }

    /// The version of the value that was read last, by any call.
    pub fn version(&self) -> Option<Version> {
        self.newest
    }

    /// Waits until there is a value that no wait has told of, or until `timeout` has passed. Says whether there is one;
    /// [`latest`](Self::latest) then answers it, or a later one. Values in between are passed over.
    ///
    /// # Errors
    ///
    /// As [`latest`](Self::latest). `ERR_RINGBELL_CLOSED` when the bus is closed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let spin = self.spin;
        waiting::wait(self, spin, timeout)
    }

    /// Sets how long a wait looks at the ring before it sleeps. The default is 50 µs.
    pub fn set_spin(&mut self, spin: Duration) {
        self.spin = spin;
    }

    /// Takes in what has happened. Says whether there is a value that neither this call nor a wait has told of before.
    ///
    /// # Errors
    ///
    /// As [`latest`](Self::latest).
    pub fn poll(&mut self) -> Result<bool> {
        self.follow()?;
        self.keep()?;
        // If the newest one is lost, nobody is told of it any more.
        let changed = self.kept().is_some_and(|version| self.told != Some(version));
        self.told = self.newest;
        Ok(changed)
    }

    /// As [`read_or_needs`](Self::read_or_needs), but only a value that neither this call nor [`poll`](Self::poll) has told
    /// of before.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn next_or_needs(&mut self, target: &mut [u8]) -> Result<Reading> {
        let reading = self.read_or_needs(target)?;
        let version = match reading {
            Reading::Value { version, .. } => Some(version),
            // As in `poll`.
            Reading::Nothing => self.newest,
            Reading::Needs(_) => return Ok(reading),
        };
        let told = std::mem::replace(&mut self.told, version);
        Ok(if told == version { Reading::Nothing } else { reading })
    }

    /// What happened to writers, in order. Each notice is told once.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn notices(&mut self) -> Result<Vec<StateNotice>> {
        self.follow()?;
        Ok(self.notices.drain(..).collect())
    }

    /// Whether [`notices`](Self::notices) has something to tell.
    pub fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The record of the writer whose values are read. `None`: there is none, and the value is that of the last one.
    pub fn writer(&self) -> Option<&Arc<Record>> {
        self.current.map(|current| &self.writers[current].record)
    }

    /// Looks for something new, about `turns` times, with pause instructions in between.
    pub fn spin(&self, turns: u32) -> bool {
        self.subscriber.spin(turns) || self.newest != self.told
    }

    /// Announces that the caller is about to sleep. True: sleep on `as_fd`, and call [`harvest`](Self::harvest) then.
    pub fn arm(&mut self) -> bool {
        self.subscriber.arm() && self.newest == self.told && self.notices.is_empty()
    }

    /// As [`Subscriber::harvest`].
    ///
    /// # Errors
    ///
    /// As [`Subscriber::harvest`].
    pub fn harvest(&mut self) -> Result<bool> {
        self.subscriber.harvest()
    }

    /// Counters, as those of a subscriber. Missed messages are values that were overwritten before they were looked at.
    pub fn stats(&mut self) -> SubscriberStats {
        self.subscriber.stats()
    }

    /// Takes in news, before a read. A stream is asked each time, because its end comes with its bytes.
    #[inline]
    fn keep_up(&mut self) -> Result<()> {
        let streamed = self.current.is_some_and(|current| self.writers[current].streamed);
        if streamed || self.subscriber.has_news() { self.follow() } else { Ok(()) }
    }

    #[cold]
    fn follow(&mut self) -> Result<()> {
        self.subscriber.take_in()?;
        self.note_all();
        for source in self.subscriber.endings() {
            let present = self.current.is_some_and(|current| self.writers[current].source == source);
            // Also the value of a writer that does not count, because only a writer whose values were read has ended.
            if let (Some((length, number)), true) = (self.copy(source)?, present) {
                self.keep_copy(length, number);
            }
            self.subscriber.end_if_over(source);
        }
        self.note_all();
        Ok(())
    }

    fn note_all(&mut self) {
        self.subscriber.notices().into_iter().for_each(|notice| self.note(notice));
    }

    fn note(&mut self, notice: Notice) {
        match &notice {
            Notice::Attached { source, record, rung, .. } => {
                self.writers.push(Writer {
                    source: *source,
                    epoch: record.state.map_or(0, |state| state.epoch),
                    record: record.clone(),
                    streamed: *rung == Rung::Stream,
                });
                // The value of the writer before stays readable until this one has set its first. If it cannot be read, because
                // that writer never stops setting values, the new one is followed all the same.
                let _ = self.keep();
            }
            Notice::Ended { source, .. } => self.writers.retain(|writer| writer.source != *source),
            _ => {}
        }
        let floor = self.newest.map_or(0, |version| version.epoch);
        let eligible = self.writers.iter().enumerate().filter(|(_, writer)| writer.epoch >= floor);
        self.current = eligible.max_by_key(|(_, writer)| writer.epoch).map(|(index, _)| index);
        self.notices.extend(StateNotice::of(notice));
    }

    /// Copies the present writer's value, if it has set one.
    fn keep(&mut self) -> Result<()> {
        let Some(current) = self.current else { return Ok(()) };
        if let Some((length, number)) = self.copy(self.writers[current].source)? {
            self.keep_copy(length, number);
        }
        Ok(())
    }

    /// Copies the value of a writer to the spare memory. Answers its length and number; `None`: there is none.
    fn copy(&mut self, source: u32) -> Result<Option<(usize, u64)>> {
        loop {
            let mut spare = std::mem::take(&mut self.spare);
            let found = self.look(source, &mut spare);
            self.spare = spare;
            match found? {
                Found::Value(length, number) => return Ok(Some((length, number))),
                Found::Nothing => return Ok(None),
                Found::Needs(length) => self.spare = vec![0; length],
            }
        }
    }

    /// The copy in the spare memory becomes the value that is kept. It is the present writer's.
    fn keep_copy(&mut self, length: usize, number: u64) {
        let Some(Writer { epoch, .. }) = self.current.map(|current| &self.writers[current]) else { return };
        std::mem::swap(&mut self.kept, &mut self.spare);
        self.kept_length = length;
        self.kept_version = Some(Version { epoch: *epoch, number });
        self.newest = self.kept_version;
    }

    #[inline]
    fn look(&mut self, source: u32, target: &mut [u8]) -> Result<Found> {
        match self.subscriber.newest(source, target)? {
            Some(Ok(Newest::Message { length, sequence, .. })) => Ok(self.found(source, length, sequence)),
            Some(Ok(Newest::Nothing)) | None => Ok(Found::Nothing),
            Some(Ok(Newest::Needs(length))) => Ok(Found::Needs(length)),
            Some(Ok(Newest::Lapped)) => self.look_again(source, target),
            Some(Err(fault)) => Ok(self.fail(source, fault)),
        }
    }

    /// The writer has overwritten each value while it was copied, as often as the ring tries.
    #[cold]
    fn look_again(&mut self, source: u32, target: &mut [u8]) -> Result<Found> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.subscriber.newest(source, target)? {
                Some(Ok(Newest::Message { length, sequence, .. })) => {
                    return Ok(self.found(source, length, sequence));
                }
                Some(Ok(Newest::Needs(length))) => return Ok(Found::Needs(length)),
                Some(Ok(Newest::Lapped)) => {}
                Some(Ok(Newest::Nothing)) | None => return Ok(Found::Nothing),
                Some(Err(fault)) => return Ok(self.fail(source, fault)),
            }
        }
        let what = "a value that is not overwritten while it is read".to_owned();
        Err(Error::Timeout { what, milliseconds: PATIENCE.as_millis() as u64 })
    }

    #[inline]
    fn found(&mut self, source: u32, length: usize, sequence: u64) -> Found {
        match sequence.checked_add(1) {
            Some(number) => Found::Value(length, number),
            None => self.fail(source, ENDLESS),
        }
    }

    /// The writer broke the protocol. It is let go, and its value with it.
    #[cold]
    fn fail(&mut self, source: u32, fault: Fault) -> Found {
        self.subscriber.fail(source, fault);
        self.note_all();
        Found::Nothing
    }

    /// The version of the value that is kept, unless a later one was read.
    fn kept(&self) -> Option<Version> {
        self.kept_version.filter(|version| Some(*version) == self.newest)
    }

    fn read_kept(&self, target: &mut [u8]) -> Reading {
        let Some(version) = self.kept() else { return Reading::Nothing };
        let length = self.kept_length;
        match target.get_mut(..length) {
            Some(target) => target.copy_from_slice(&self.kept[..length]),
            None => return Reading::Needs(length),
        }
        Reading::Value { length, version }
    }
}

impl Waiting for StateReader {
    fn subscriber(&mut self) -> &mut Subscriber {
        &mut self.subscriber
    }

    fn look(&mut self) -> Result<bool> {
        self.poll()
    }
}

impl AsFd for StateReader {
    /// As that of a [`Subscriber`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.subscriber.as_fd()
    }
}

impl std::fmt::Debug for StateReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateReader").field("writer", &self.writer()).field("version", &self.newest).finish()
    }
}
