//! Sending in place, for Rust: a [`Loan`] is one message, a [`Batch`] many, written straight into the ring.
//!
//! Both borrow the publisher, so nothing else can be sent while one is open. What is dropped without a commit was never sent, but for the
//! messages of a batch.

use ringbell_ring::{MESSAGE_OVERHEAD, padded};

use super::Publisher;
use crate::error::Result;

/// Most bytes that a batch collects before it commits by itself.
const BATCH: usize = 64 << 10;

/// One message that is being written where its subscribers will read it. Dropped without a commit, nothing is sent.
#[derive(Debug)]
pub struct Loan<'a> {
    publisher: &'a mut Publisher,
    len: usize,
}

impl Publisher {
    /// Lends room for a message of up to `len` bytes. `None`: there is no room, as when [`send`](Self::send) is `false`.
    /// It holds whatever the ring held there before.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN`.
    pub fn loan(&mut self, len: usize) -> Result<Option<Loan<'_>>> {
        self.ensure_ready()?;
        self.ensure_fits(len)?;
        if self.writer().reserve(padded(len), padded(len)).is_none() {
            self.writer().note_full();
            return Ok(None);
        }
        Ok(Some(Loan { publisher: self, len }))
    }

    /// Begins a batch. Messages are written in place and become visible together.
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
    /// The bytes to be written; none in a forked child.
    pub fn bytes(&mut self) -> &mut [u8] {
        if self.publisher.is_foreign() {
            return &mut [];
        }
        let len = self.len;
        &mut self.publisher.writer().reserved_bytes()[MESSAGE_OVERHEAD..MESSAGE_OVERHEAD + len]
    }

    /// Sends the first `len` bytes, at most as many as were lent.
    pub fn commit(self, len: usize) {
        if self.publisher.is_foreign() {
            return;
        }
        let length = len.min(self.len) as u32;
        self.publisher.writer().commit(&[length]);
    }
}

/// Messages that become visible together. Committed when it is full and when it is dropped.
#[derive(Debug)]
pub struct Batch<'a> {
    publisher: &'a mut Publisher,
    used: usize,
    reserved: usize,
}

impl Batch<'_> {
    /// Adds a message. `false`: there is no room for it; what was added before has been committed.
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
        self.publisher.writer().reserved_bytes()[start..start + payload.len()].copy_from_slice(payload);
        self.used += frame;
        self.publisher.lengths.push(payload.len() as u32);
        Ok(true)
    }

    /// Commits what was added, and goes on with an empty batch.
    pub fn commit(&mut self) {
        if self.publisher.is_foreign() {
            return;
        }
        self.used = 0;
        self.reserved = 0;
        let lengths = std::mem::take(&mut self.publisher.lengths);
        self.publisher.writer().commit(&lengths);
        self.publisher.lengths = lengths;
        self.publisher.lengths.clear();
    }

    fn begin(&mut self, frame: usize) -> bool {
        self.commit();
        let most = BATCH.min(self.publisher.capacity() / 8);
        match self.publisher.writer().reserve(frame, most) {
            Some(span) => {
                self.reserved = span.length;
                true
            }
            None => {
                self.publisher.writer().note_full();
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
