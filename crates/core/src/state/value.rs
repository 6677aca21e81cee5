//! The writer of a state with one value: a publisher whose readers want only the newest message.
//!
//! Invariant: `set` never waits, and makes no system call while every reader is awake. A process that is killed in the
//! middle of it leaves the value before. One thread uses it.

use std::ops::{Deref, DerefMut};

use super::options::{Layout, StateOptions};
use super::writer::StateWriter;
use crate::bus::Bus;
use crate::error::{Error, Result};
use crate::record::StateKind;

/// A value takes at most this part of the ring, so that a reader has time to copy one while others are written.
const PART: usize = 4;
/// The smallest ring that is chosen when none is asked for, in bytes.
const SMALLEST: usize = 16 << 10;
const LAYOUT: Layout = Layout { kind: StateKind::Value, extra: 0, part: PART, smallest: SMALLEST };

/// The writing side of a state. It has what every [`StateWriter`] has.
#[derive(Debug)]
pub struct State {
    writer: StateWriter,
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
        Ok(State { writer: StateWriter::open(self, name, options, &LAYOUT)?, version: 0 })
    }
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
        if value.len() > self.writer.size() {
            return Err(Error::MessageTooLarge { size: value.len(), limit: self.writer.size() });
        }
        // A topic that drops the oldest takes every message.
        self.writer.publisher.send(value)?;
        self.version += 1;
        Ok(self.version)
    }

    /// The version of the value: how often one was set.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Withdraws the state. Readers keep the last value. Dropping it does the same.
    pub fn close(self) {}
}

impl Deref for State {
    type Target = StateWriter;

    fn deref(&self) -> &StateWriter {
        &self.writer
    }
}

impl DerefMut for State {
    fn deref_mut(&mut self) -> &mut StateWriter {
        &mut self.writer
    }
}
