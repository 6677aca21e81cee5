//! Putting together what comes in pieces: one message per source at a time, in memory of its own.
//!
//! A publisher's word decides how much memory is reserved, so a message above the subscriber's limit is passed over. Called by the
//! subscriber when a read has found a large message. Never waits for the rest of one.

use ringbell_ring::{Fault, Large, Piece};

use super::source::Source;

/// Most bytes that are copied in one look, so that the other sources and the caller get their turn.
const LOOK: usize = 1 << 20;

/// What became of a look for pieces.
pub(super) enum Gathered {
    /// The message is there.
    Whole(Vec<u8>),
    /// More of it will come.
    Part,
    /// It will never be whole, or is too large. It was counted as missed.
    Gone,
}

impl Source {
    /// Takes what there is of the large message that [`read`](Self::read) or [`lease`](Self::lease) found.
    pub(super) fn gather(&mut self, large: Large, limit: usize) -> Result<Gathered, Fault> {
        if large.total > limit {
            self.reader_mut().skip_large();
            return Ok(Gathered::Gone);
        }
        let mut message = std::mem::take(&mut self.gathered);
        if message.len() != large.total || large.done == 0 {
            message = vec![0; large.total];
        }
        let mut done = large.done;
        while done < large.total && done - large.done < LOOK {
            match self.read_large(&mut message[done..])? {
                Piece::Copied { bytes, .. } => done += bytes,
                Piece::Nothing => break,
                Piece::Gone => return Ok(Gathered::Gone),
            }
        }
        if done == large.total {
            return Ok(Gathered::Whole(message));
        }
        self.gathered = message;
        Ok(Gathered::Part)
    }
}
