//! Sending in place, for Rust: a [`Loan`] is one message, a [`Batch`] is many. Both are written straight into the
//! ring.
//!
//! Invariant: both borrow the publisher, so nothing else can be sent while one is open. A loan that is dropped
//! without a commit was never sent. A batch that is dropped is committed. Rust programs call this; the binding uses
//! `window.rs` instead. It must never commit bytes that were not reserved before.

use ringbell_ring::{MESSAGE_OVERHEAD, padded};

use super::Publisher;
use crate::error::Result;

/// Most bytes that a batch collects before it commits by itself.
const BATCH: usize = 64 << 10;

/// One message that is written in place, where its subscribers will read it. If it is dropped without a commit,
/// nothing is sent.
#[derive(Debug)]
pub struct Loan<'a> {
    publisher: &'a mut Publisher,
    len: usize,
}

impl Publisher {
    /// Lends memory of the ring for one message of up to `len` bytes. `None` means that there is no room; that is the
    /// case in which [`send`](Self::send) answers `false`. The lent bytes hold what the ring held there before. Write
    /// all that you commit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    ///
    /// let mut loan = publisher.loan(100)?.expect("an empty ring has room");
    /// loan.bytes()[..6].copy_from_slice(b"tick 1");
    /// loan.commit(6); // 6 of the 100 bytes are the message
    ///
    /// assert_eq!(subscriber.recv()?.data, b"tick 1");
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN`.
    pub fn loan(&mut self, len: usize) -> Result<Option<Loan<'_>>> {
        self.ensure_ready()?;
        self.ensure_fits(len)?;
        if self.writer.reserve(padded(len), padded(len)).is_none() {
            self.writer.note_full();
            return Ok(None);
        }
        Ok(Some(Loan { publisher: self, len }))
    }

    /// Begins a batch. Its messages are written in place and become visible together.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    ///
    /// let mut batch = publisher.batch()?;
    /// for tick in 0..3u64 {
    ///     assert!(batch.push(&tick.to_le_bytes())?); // false: there is no room
    /// }
    /// drop(batch); // commits
    ///
    /// for tick in 0..3u64 {
    ///     assert_eq!(subscriber.recv()?.data, tick.to_le_bytes());
    /// }
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_WINDOW_OPEN`.
    pub fn batch(&mut self) -> Result<Batch<'_>> {
        self.ensure_ready()?;
        self.lengths.clear();
        Ok(Batch { publisher: self, used: 0, reserved: 0 })
    }
}

impl Loan<'_> {
    /// The bytes to write. In a forked child there are none.
    pub fn bytes(&mut self) -> &mut [u8] {
        if self.publisher.is_foreign() {
            return &mut [];
        }
        let len = self.len;
        &mut self.publisher.writer.reserved_bytes()[MESSAGE_OVERHEAD..MESSAGE_OVERHEAD + len]
    }

    /// Sends the first `len` of the lent bytes. A larger `len` counts as all of them.
    pub fn commit(self, len: usize) {
        if self.publisher.is_foreign() {
            return;
        }
        let length = len.min(self.len) as u32;
        self.publisher.writer.commit(&[length]);
    }
}

/// Messages that become visible together. The batch commits when it is full and when it is dropped.
#[derive(Debug)]
pub struct Batch<'a> {
    publisher: &'a mut Publisher,
    used: usize,
    reserved: usize,
}

impl Batch<'_> {
    /// Adds a message. `false` means that there is no room for it. What was added before has been committed then.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub fn push(&mut self, payload: &[u8]) -> Result<bool> {
        self.publisher.ensure_home()?;
        self.publisher.ensure_fits(payload.len())?;
        let frame = padded(payload.len());
        if self.used + frame > self.reserved && !self.begin(frame) {
            return Ok(false);
        }
        let start = self.used + MESSAGE_OVERHEAD;
        self.publisher.writer.reserved_bytes()[start..start + payload.len()].copy_from_slice(payload);
        self.used += frame;
        self.publisher.lengths.push(payload.len() as u32);
        Ok(true)
    }

    /// Commits what was added. The batch is empty afterwards and can be filled again.
    pub fn commit(&mut self) {
        if self.publisher.is_foreign() {
            return;
        }
        self.used = 0;
        self.reserved = 0;
        let lengths = std::mem::take(&mut self.publisher.lengths);
        self.publisher.writer.commit(&lengths);
        self.publisher.lengths = lengths;
        self.publisher.lengths.clear();
    }

    fn begin(&mut self, frame: usize) -> bool {
        self.commit();
        let most = BATCH.min(self.publisher.capacity() / 8);
        match self.publisher.writer.reserve(frame, most) {
            Some(span) => {
                self.reserved = span.length;
                true
            }
            None => {
                self.publisher.writer.note_full();
                false
            }
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.commit();
    }
}
