//! The writer of a state with one value: a publisher whose readers want only the newest message.
//!
//! Invariant: `set` never waits, and makes no system call while every reader is awake. A process that is killed in the
//! middle of it leaves the value before. One thread uses it. The ring and its readers are the business of `topic`.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use serde_json::Map;

use super::options::StateOptions;
use crate::bus::{Bus, Claim};
use crate::error::{Error, Result};
use crate::record::{Record, StateKind, check_name};
use crate::topic::{Publisher, PublisherStats};

/// A value takes at most this part of the ring, so that a reader has time to copy one while others are written.
const PART: usize = 4;

/// The writing side of a state.
#[derive(Debug)]
pub struct State {
    publisher: Publisher,
    /// Released after the publisher has withdrawn the state.
    claim: Option<Claim>,
    size: usize,
    epoch: u64,
    version: u64,
}

impl Bus {
    /// Announces a state and makes this process its writer. Readers find no value until the first [`set`](State::set).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::state::{StateOptions, StateReaderOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut state = bus.state("limits", StateOptions::default())?;
    /// state.set(b"100 a second")?;
    ///
    /// let mut reader = bus.watch_state("limits", StateReaderOptions::default())?;
    /// assert!(reader.wait(Some(Duration::from_secs(30)))?);
    /// assert_eq!(reader.latest()?.map(|value| value.data), Some(&b"100 a second"[..]));
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Bus::publisher`], and `ERR_RINGBELL_REFUSED` while another writer holds the name.
    pub fn state(&self, name: &str, options: StateOptions) -> Result<State> {
        check_name("service name", name)?;
        let size = options.size;
        let (claim, epoch) = turn(self, name, &options)?;
        let options = options.publisher(StateKind::Value, epoch, 0, PART, StateOptions::smallest())?;
        Ok(State { publisher: self.publisher(name, options)?, claim, size, epoch, version: 0 })
    }
}

/// The right to write the state of this name, and its epoch. No claim: the caller has one.
pub(super) fn turn(bus: &Bus, name: &str, options: &StateOptions) -> Result<(Option<Claim>, u64)> {
    if let Some(epoch) = options.epoch {
        return Ok((None, epoch));
    }
    let claim = bus.try_claim(name)?.ok_or_else(|| Error::Refused {
        reason: format!("another writer holds '{name}'; claim the name to wait for its turn"),
    })?;
    let epoch = claim.epoch();
    Ok((Some(claim), epoch))
}

impl State {
    /// Sets the value, and answers its version: 1 for the first, and one more each time.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE` for a value above `size`; the value stays as it was. `ERR_RINGBELL_CLOSED` in a
    /// forked child.
    #[inline]
    pub fn set(&mut self, value: &[u8]) -> Result<u64> {
        if value.len() > self.size {
            return Err(Error::MessageTooLarge { size: value.len(), limit: self.size });
        }
        // A topic that drops the oldest takes every message.
        self.publisher.send(value)?;
        self.version += 1;
        Ok(self.version)
    }

    /// The version of the value: how often one was set.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Grows with each writer of this name.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The claim on the name. `None`: the caller holds it. Once it is lost, readers follow the next writer.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// The largest value in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The record as it is announced now.
    pub fn record(&self) -> Arc<Record> {
        self.publisher.record()
    }

    /// Replaces the record's metadata, as [`Publisher::update`].
    ///
    /// # Errors
    ///
    /// As [`Publisher::update`].
    pub fn update(&mut self, metadata: Map<String, serde_json::Value>) -> Result<()> {
        self.publisher.update(metadata)
    }

    /// How many readers are attached and alive.
    pub fn readers(&self) -> usize {
        self.publisher.subscribers()
    }

    /// Counters, and what is known of each reader.
    pub fn stats(&self) -> PublisherStats {
        self.publisher.stats()
    }

    /// Withdraws the state. Readers keep the last value. Dropping it does the same.
    pub fn close(self) {}
}

impl AsFd for State {
    /// That of the publisher: see [`Publisher`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.publisher.as_fd()
    }
}
