//! Reading messages that come in pieces, directly into the caller's memory.
//!
//! Invariant: a piece is a batch of its own, and `tail` stays at its start until all of it was read. So the cursor
//! moves from piece to piece, and a message can be larger than the ring. A message that does not come to its end was
//! missed: the publisher gave it up, history was overwritten, or the reader skipped it. A message that had begun before
//! this subscriber joined was not missed. `Consumer` and [`Feed`](crate::Feed) use this.

use super::{Consumer, Fault};
use crate::frame::{BATCH_OVERHEAD, FRAGMENT_FIELDS, FRAGMENT_OVERHEAD, Header, MAX_LARGE, MESSAGE_OVERHEAD};
use crate::layout::Overflow;
use crate::sync::{Ordering, fence};

/// A large message that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Large {
    /// Its sequence.
    pub sequence: u64,
    /// When its first piece was committed, in nanoseconds of the monotonic clock.
    pub time: u64,
    /// Bytes of the message, at most [`MAX_LARGE`].
    pub total: usize,
    /// Bytes of it that were read. 0: none yet.
    pub done: usize,
}

/// The result of a call for the next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Piece {
    /// Nothing new.
    Nothing,
    /// Bytes were copied to the start of the caller's memory.
    Copied {
        /// How many, at least one.
        bytes: usize,
        /// Bytes of the message that are still missing; 0: it is whole.
        left: usize,
    },
    /// The message will never be whole. Drop what was copied, and continue with [`Consumer::read`].
    Gone,
}

/// A large message of which some pieces may have been read.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    pub(super) large: Large,
    /// Offset in the message of the piece at `tail`.
    at: usize,
}

impl Partial {
    pub(crate) fn sequence(&self) -> u64 {
        self.large.sequence
    }

    pub(crate) fn total(&self) -> usize {
        self.large.total
    }
}

/// The batch at `tail`, if it is a piece.
enum Ahead {
    Piece(Found),
    Other,
    /// It was overwritten.
    Lapped,
}

/// A piece, as the headers of its batch describe it.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    sequence: u64,
    time: u64,
    total: usize,
    offset: usize,
    /// Bytes of the piece.
    length: usize,
    /// Bytes of the batch.
    pub(crate) batch: u64,
}

impl Found {
    /// Number of words in its headers.
    pub(crate) const WORDS: usize = 6;
    /// Offset of the piece itself in its batch.
    pub(crate) const OFFSET: usize = BATCH_OVERHEAD + FRAGMENT_OVERHEAD;

    /// Sequence of the message that it is a piece of.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Decodes the headers. `available`: bytes from the start of the batch to `head`. `None`: the batch is not a piece.
    pub(crate) fn decode(
        words: [u64; Self::WORDS],
        capacity: usize,
        overflow: Overflow,
        available: u64,
    ) -> Result<Option<Self>, &'static str> {
        let [batch, sequence, time, fragment, total, offset] = words;
        if !Header::is_fragment(fragment) {
            return Ok(None);
        }
        if overflow != Overflow::Block {
            return Err("a fragment on a topic that may lose some");
        }
        let Some(Header::Fragment { body }) = Header::decode(fragment, capacity) else {
            return Err("a fragment of an impossible length");
        };
        let inside = MESSAGE_OVERHEAD + body.next_multiple_of(8);
        if Header::decode(batch, capacity) != Some(Header::Batch { body: BATCH_OVERHEAD - 8 + inside }) {
            return Err("a fragment does not fill its batch");
        }
        if (BATCH_OVERHEAD + inside) as u64 > available {
            return Err("a batch reaches beyond head");
        }
        let length = body - FRAGMENT_FIELDS;
        if total > MAX_LARGE as u64 || offset >= total || length as u64 > total - offset {
            return Err("a fragment lies outside of its message");
        }
        Ok(Some(Self {
            sequence,
            time,
            total: total as usize,
            offset: offset as usize,
            length,
            batch: (BATCH_OVERHEAD + inside) as u64,
        }))
    }
}

/// What a reader knows about sequences, and about the large message that it has begun.
pub(crate) struct Pieces<'a> {
    pub(crate) partial: &'a mut Option<Partial>,
    pub(crate) next_sequence: &'a mut Option<u64>,
    pub(crate) missed: &'a mut u64,
    /// Messages before this sequence are passed over.
    pub(crate) resume: u64,
}

impl Pieces<'_> {
    /// The message that this piece belongs to. `None`: nobody reads that message, so the piece is passed over.
    pub(crate) fn meet(&mut self, found: Found) -> Result<Option<Large>, &'static str> {
        match *self.partial {
            Some(Partial { large, .. }) if found.sequence == large.sequence => {
                self.fits(found)?;
                return Ok(Some(large));
            }
            _ => self.give_up(),
        }
        // A sequence that is used up already belongs to a message that was skipped, or had begun before the join.
        let after = found.sequence.wrapping_add(1);
        let begins = found.offset == 0 && *self.next_sequence != Some(after) && found.sequence >= self.resume;
        let first = if begins { found.sequence } else { after };
        let expected = self.next_sequence.unwrap_or(first);
        let missed = first.wrapping_sub(expected);
        if missed > i64::MAX as u64 {
            return Err("a sequence went backwards");
        }
        let unwanted = self.resume.saturating_sub(expected).min(missed);
        *self.missed = self.missed.saturating_add(missed - unwanted);
        *self.next_sequence = Some(after);
        let Found { sequence, time, total, .. } = found;
        let large = Large { sequence, time, total, done: 0 };
        if begins {
            *self.partial = Some(Partial { large, at: 0 });
        }
        Ok(begins.then_some(large))
    }

    /// From which offset, and how many bytes, of the piece fit into `room` bytes. `None`: the piece is not part of the
    /// message that is being read.
    pub(crate) fn next(&self, found: Found, room: usize) -> Result<Option<(usize, usize)>, &'static str> {
        match *self.partial {
            Some(Partial { large, at }) if found.sequence == large.sequence => {
                self.fits(found)?;
                let from = large.done - at;
                Ok(Some((from, room.min(found.length - from))))
            }
            _ => Ok(None),
        }
    }

    /// Notes that `bytes` of the piece were copied. Returns whether the piece is done, and how many bytes of the
    /// message are still missing.
    pub(crate) fn copied(&mut self, found: Found, bytes: usize) -> (bool, usize) {
        let Some(Partial { mut large, mut at }) = *self.partial else { return (false, 0) };
        let all = large.done - at + bytes == found.length;
        large.done += bytes;
        if all {
            at = large.done;
        }
        let left = large.total - large.done;
        *self.partial = (left > 0).then_some(Partial { large, at });
        (all, left)
    }

    /// Gives up the message that was being read: it was missed.
    pub(crate) fn give_up(&mut self) {
        if self.partial.take().is_some() {
            *self.missed = self.missed.saturating_add(1);
        }
    }

    /// Fails unless this piece begins where the last one ended.
    fn fits(&self, found: Found) -> Result<(), &'static str> {
        match *self.partial {
            Some(Partial { large, at })
                if found.total == large.total && found.offset == at && large.done - at < found.length =>
            {
                Ok(())
            }
            _ => Err("the pieces of a message don't fit together"),
        }
    }
}

impl Consumer {
    /// Copies the next bytes of the large message that [`read`](Self::read) found to the start of `target`. It copies
    /// at most one piece in each call, so that the publisher gets its room back, by [`acknowledge`](Self::acknowledge),
    /// while the next piece is read. `target` may be the rest of a buffer, or less than that.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; every later call then returns it, too.
    pub fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        self.check()?;
        if self.partial.is_none() {
            return Ok(Piece::Gone);
        }
        let available = self.available()?;
        if available == 0 || target.is_empty() {
            return Ok(Piece::Nothing);
        }
        if available > self.data.capacity() as u64 {
            self.skip_to_floor()?;
            return Ok(Piece::Gone);
        }
        let found = match self.piece_ahead()? {
            Ahead::Piece(found) => Some(found),
            Ahead::Lapped => {
                self.skip_to_floor()?;
                return Ok(Piece::Gone);
            }
            Ahead::Other => None,
        };
        let next = match found {
            Some(found) => {
                let next = self.pieces().next(found, target.len());
                next.map_err(|what| self.corrupt(what))?.map(|(from, bytes)| (found, from, bytes))
            }
            None => None,
        };
        let Some((found, from, bytes)) = next else {
            self.give_up_partial();
            return Ok(Piece::Gone);
        };
        self.copy_piece(from, &mut target[..bytes]);
        // SYNC: as after the copy in `read` (I5).
        fence(Ordering::Acquire);
        if self.data.header().floor.load(Ordering::Acquire) > self.tail {
            self.skip_to_floor()?;
            return Ok(Piece::Gone);
        }
        let (all, left) = self.pieces().copied(found, bytes);
        if all {
            self.tail += found.batch;
        }
        self.received += u64::from(left == 0);
        if left == 0 && self.name != 0 {
            self.note_delivered(1);
        }
        Ok(Piece::Copied { bytes, left })
    }

    /// Drops the large message that [`read`](Self::read) found. Its other pieces are passed over, and it was missed.
    pub fn skip_large(&mut self) {
        self.give_up_partial();
    }

    /// The large message that the batch at `tail` is a piece of. It first passes over the pieces that nobody reads.
    /// `None`: the batch is of another kind, or everything up to the known `head` was passed over.
    #[cold]
    pub(super) fn large_ahead(&mut self) -> Result<Option<Large>, Fault> {
        // Bounded (I11): up to the known `head`, at most a capacity.
        while self.tail < self.head {
            let found = match self.piece_ahead()? {
                Ahead::Piece(found) => found,
                Ahead::Other => {
                    self.give_up_partial();
                    return Ok(None);
                }
                Ahead::Lapped => {
                    self.skip_to_floor()?;
                    return Ok(None);
                }
            };
            let met = self.pieces().meet(found);
            if let Some(large) = met.map_err(|what| self.corrupt(what))? {
                return Ok(Some(large));
            }
            self.tail += found.batch;
            if let Some(next) = self.next_sequence {
                self.acknowledged.pass_over(next);
            }
        }
        Ok(None)
    }

    /// Gives up the message that was being read: it was missed.
    pub(super) fn give_up_partial(&mut self) {
        self.pieces().give_up();
    }

    fn pieces(&mut self) -> Pieces<'_> {
        Pieces {
            partial: &mut self.partial,
            next_sequence: &mut self.next_sequence,
            missed: &mut self.missed,
            resume: self.resume,
        }
    }

    /// Reads the headers of the batch at `tail`, each word once (I11).
    fn piece_ahead(&mut self) -> Result<Ahead, Fault> {
        let frames = self.data.frames;
        let words: [u64; Found::WORDS] =
            core::array::from_fn(|word| frames.load(self.tail + 8 * word as u64));
        // SYNC: as after the copy in `read`: what was overwritten during the copy is not used (I5).
        fence(Ordering::Acquire);
        if self.data.header().floor.load(Ordering::Acquire) > self.tail {
            return Ok(Ahead::Lapped);
        }
        let found = Found::decode(words, self.data.capacity(), self.overflow, self.head - self.tail);
        Ok(found.map_err(|what| self.corrupt(what))?.map_or(Ahead::Other, Ahead::Piece))
    }

    #[allow(unsafe_code)]
    fn copy_piece(&self, from: usize, target: &mut [u8]) {
        let position = self.tail + (Found::OFFSET + from) as u64;
        // SAFETY: `target` is private memory of that length. It is at most as long as a piece, so shorter than the
        // capacity. The copy counts only above the `floor` that is loaded next (I5).
        unsafe { self.data.frames.read(position, target.as_mut_ptr(), target.len()) }
    }
}
