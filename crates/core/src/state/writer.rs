//! What every writer of a state has, with one value or with keys: its ring, and the right to its name.
//!
//! Invariant: the name is claimed before the ring is announced, and given back after it was withdrawn. [`State`](super::State) and
//! [`KeyedState`](super::KeyedState) are made of it. The ring and its readers are the business of `topic`.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use serde_json::Map;

use super::options::{Layout, StateOptions};
use crate::bus::{Bus, Claim};
use crate::error::{Error, Result};
use crate::record::{Record, check_name};
use crate::topic::{Publisher, PublisherStats};

/// What a [`State`](super::State) and a [`KeyedState`](super::KeyedState) have in common.
#[derive(Debug)]
pub struct StateWriter {
    pub(super) publisher: Publisher,
    /// Released after the publisher has withdrawn the state.
    claim: Option<Claim>,
    size: usize,
    epoch: u64,
}

impl StateWriter {
    /// Claims the name, unless the caller has done so, and announces the state.
    pub(super) fn open(bus: &Bus, name: &str, options: StateOptions, layout: &Layout) -> Result<StateWriter> {
        check_name("service name", name)?;
        let size = options.size;
        let (claim, epoch) = turn(bus, name, &options)?;
        let publisher = bus.publisher(name, options.publisher(layout, epoch)?)?;
        Ok(StateWriter { publisher, claim, size, epoch })
    }

    /// Grows with each writer of this name.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The claim on the name. `None`: the caller holds it. Once it is lost, readers follow the next writer.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// The largest value in bytes; with keys, the largest key and value together.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The record as it is announced now.
    pub fn record(&self) -> Arc<Record> {
        self.publisher.record()
    }

    /// How many readers are attached and alive.
    pub fn readers(&self) -> usize {
        self.publisher.subscribers()
    }

    /// Counters, and what is known of each reader. With keys, entries that were written again are messages, too.
    pub fn stats(&self) -> PublisherStats {
        self.publisher.stats()
    }

    /// Replaces the record's metadata, as [`Publisher::update`].
    ///
    /// # Errors
    ///
    /// As [`Publisher::update`].
    pub fn update(&mut self, metadata: Map<String, serde_json::Value>) -> Result<()> {
        self.publisher.update(metadata)
    }
}

impl AsFd for StateWriter {
    /// That of the publisher: see [`Publisher`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.publisher.as_fd()
    }
}

/// The right to write the state of this name, and its epoch. No claim: the caller has one.
fn turn(bus: &Bus, name: &str, options: &StateOptions) -> Result<(Option<Claim>, u64)> {
    if let Some(epoch) = options.epoch {
        return Ok((None, epoch));
    }
    let claim = bus.try_claim(name)?.ok_or_else(|| Error::Refused {
        reason: format!("another process writes the state '{name}'; to wait for a turn, claim the name, and set the option epoch to that of the claim"),
    })?;
    let epoch = claim.epoch();
    Ok((Some(claim), epoch))
}
