//! Reading messages that come in pieces from the ring, straight into the caller's memory.
//!
//! A piece is a batch of its own, and `tail` stays at its start until all of it was read: the cursor moves from piece to
//! piece, so a message can be larger than the ring. What the pieces mean is decided in `pieces`.

use super::Consumer;
use crate::pieces::{PieceHeader, Pieces};
use crate::read::{Fault, Large, Piece};
use crate::sync::{Ordering, fence};

/// The batch at `tail`, if it is a piece.
enum NextBatch {
    Piece(PieceHeader),
    Other,
    /// It was overwritten.
    Lapped,
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
        let found = match self.next_batch()? {
            NextBatch::Piece(found) => Some(found),
            NextBatch::Lapped => {
                self.skip_to_floor()?;
                return Ok(Piece::Gone);
            }
            NextBatch::Other => None,
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
            let found = match self.next_batch()? {
                NextBatch::Piece(found) => found,
                NextBatch::Other => {
                    self.give_up_partial();
                    return Ok(None);
                }
                NextBatch::Lapped => {
                    self.skip_to_floor()?;
                    return Ok(None);
                }
            };
            let large = self.pieces().accept(found);
            if let Some(large) = large.map_err(|what| self.corrupt(what))? {
                return Ok(Some(large));
            }
            self.tail += found.batch;
            if let Some(next) = self.next_sequence {
                self.pass_over(next);
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
    fn next_batch(&mut self) -> Result<NextBatch, Fault> {
        let frames = self.data.frames;
        let words: [u64; PieceHeader::WORDS] =
            core::array::from_fn(|word| frames.load(self.tail + 8 * word as u64));
        // SYNC: as after the copy in `read`: what was overwritten during the copy is not used (I5).
        fence(Ordering::Acquire);
        if self.data.header().floor.load(Ordering::Acquire) > self.tail {
            return Ok(NextBatch::Lapped);
        }
        let found = PieceHeader::decode(words, self.data.capacity(), self.overflow, self.head - self.tail);
        Ok(found.map_err(|what| self.corrupt(what))?.map_or(NextBatch::Other, NextBatch::Piece))
    }

    #[allow(unsafe_code)]
    fn copy_piece(&self, from: usize, target: &mut [u8]) {
        let position = self.tail + (PieceHeader::OFFSET + from) as u64;
        // SAFETY: `target` is private memory of that length. It is at most as long as a piece, so shorter than the
        // capacity. The copy counts only above the `floor` that is loaded next (I5).
        unsafe { self.data.frames.read(position, target.as_mut_ptr(), target.len()) }
    }
}
