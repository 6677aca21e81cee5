//! Receiving for Rust callers: a batch that is handed out message by message, and a busy wait before sleeping.
//!
//! Topics and channels receive through it (`recv` and its kin). Messages are copied into one slab that is used
//! again and again, so a message that is handed out borrows the receiver. It never sleeps.

use std::time::{Duration, Instant};

use ringbell_ring::Entry;

use crate::error::Result;

const SLAB: usize = 128 << 10;
const TABLE: usize = 1024;
/// How many looks come between two reads of the clock.
pub(crate) const SPIN_ITERATIONS: u32 = 256;

/// A batch that was copied and not yet handed out.
#[derive(Default)]
pub(crate) struct Batch {
    buffers: Buffers,
    count: usize,
    next: usize,
}

/// The memory that a batch is copied to.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) slab: Vec<u8>,
    pub(crate) table: Vec<Entry>,
}

impl Buffers {
    /// Makes room for a message of this number of bytes, headers included.
    pub(crate) fn grow(&mut self, bytes: usize) {
        // It grows in steps, so messages that grow slowly do not cost a new slab each.
        self.slab = vec![0; bytes.next_multiple_of(SLAB)];
    }
}

impl Batch {
    /// Forgets the batch, and lends its buffers for the next one.
    pub(crate) fn begin(&mut self) -> Buffers {
        (self.count, self.next) = (0, 0);
        let mut buffers = std::mem::take(&mut self.buffers);
        if buffers.table.is_empty() {
            buffers.grow(SLAB);
            buffers.table = vec![Entry::default(); TABLE];
        }
        buffers
    }

    /// Takes the buffers back, with this number of messages in them.
    pub(crate) fn end(&mut self, buffers: Buffers, count: usize) {
        (self.buffers, self.count) = (buffers, count);
    }

    /// Messages in the batch.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Index of the message that is handed out next.
    #[inline]
    pub(crate) fn next(&self) -> usize {
        self.next
    }

    /// Whether a message is left.
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        self.next < self.count
    }

    /// Notes that the messages before this one were handed out.
    #[inline]
    pub(crate) fn advance_to(&mut self, next: usize) {
        self.next = next;
    }

    /// Where a message of the batch lies.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Option<Entry> {
        self.buffers.table[..self.count].get(index).copied()
    }

    /// The memory that the messages lie in.
    #[inline]
    pub(crate) fn slab(&self) -> &[u8] {
        &self.buffers.slab
    }
}

/// The payload and the headers of a message in the slab that it was copied to. How long the headers are stands in the two
/// bytes before the payload.
#[inline]
pub(crate) fn data_and_headers(slab: &[u8], entry: Entry) -> Option<(&[u8], &[u8])> {
    let (before, message) = slab.split_at_checked(entry.offset as usize)?;
    let (data, behind) = message.split_at_checked(entry.length as usize)?;
    let headers = u16::from_le_bytes(*before.last_chunk()?);
    Some((data, behind.get(..headers.into())?))
}

/// The result of spinning before sleeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpinResult {
    /// Something was found.
    Found,
    /// Nothing was found for long enough: sleep now.
    Enough,
    /// The deadline has passed.
    Late,
}

/// Looks until something is found, `spin` has passed, or the deadline has passed. It looks at least once, unless
/// `spin` is zero. [`Duration::MAX`] never ends in a sleep.
///
/// # Errors
/// The error of `look`.
pub(crate) fn spin_until(
    spin: Duration,
    deadline: Option<Instant>,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<SpinResult> {
    let begun = Instant::now();
    loop {
        let now = Instant::now();
        // This comes before the check of the deadline: a caller that never looks must arm and harvest even when it
        // is late.
        if now.duration_since(begun) >= spin {
            return Ok(SpinResult::Enough);
        }
        if look()? {
            return Ok(SpinResult::Found);
        }
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(SpinResult::Late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_ends_at_a_find_or_at_its_time_limit() {
        let now = Instant::now();
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            Ok(looks == 3)
        };
        assert_eq!(spin_until(Duration::MAX, None, &mut third), Ok(SpinResult::Found));
        assert_eq!(spin_until(Duration::ZERO, None, || unreachable!()), Ok(SpinResult::Enough));
        assert_eq!(spin_until(Duration::ZERO, Some(now), || unreachable!()), Ok(SpinResult::Enough));
        assert_eq!(spin_until(Duration::MAX, Some(now), || Ok(true)), Ok(SpinResult::Found));
        assert_eq!(spin_until(Duration::MAX, Some(now), || Ok(false)), Ok(SpinResult::Late));
        let until = now + Duration::from_millis(1);
        assert_eq!(spin_until(Duration::MAX, Some(until), || Ok(false)), Ok(SpinResult::Late));
        assert_eq!(spin_until(Duration::from_millis(1), None, || Ok(false)), Ok(SpinResult::Enough));
        assert!(Instant::now() >= until);
    }

    #[test]
    fn a_batch_is_handed_out_once_and_its_buffers_are_used_again() {
        let mut batch = Batch::default();
        let mut buffers = batch.begin();
        buffers.grow(SLAB + 1);
        let (length, address) = (buffers.slab.len(), buffers.slab.as_ptr());
        assert_eq!(length, 2 * SLAB);
        let mut large = Buffers::default();
        large.grow(8 * SLAB + 1);
        assert_eq!(large.slab.len(), 9 * SLAB, "a large message does not take twice its size");
        batch.end(buffers, 2);
        assert!(batch.has_next() && batch.entry(1).is_some() && batch.entry(2).is_none());
        batch.advance_to(2);
        assert!(!batch.has_next());
        let buffers = batch.begin();
        assert_eq!((buffers.slab.as_ptr(), batch.count(), batch.next()), (address, 0, 0));
    }
}
