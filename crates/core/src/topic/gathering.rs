//! Assembles messages that come in pieces: one message for each source at a time, in memory of its own.
//!
//! Invariant: a message above the subscriber's limit is passed over, because the publisher's announcement decides how
//! much memory is reserved. The subscriber calls this when a read has found a large message. It never waits for the
//! rest of a message.

use ringbell_ring::{Fault, Large, Piece};

use super::source::Source;

/// Most bytes that are copied in one call, so that the other sources and the caller get their turn.
const MAX_GATHER: usize = 1 << 20;

/// What a call found.
pub(super) enum Gathered {
    /// The message is complete.
    Whole(Vec<u8>),
    /// More of it will come.
    Part,
    /// The message will never be complete, or it is too large. It was counted as missed.
    Gone,
}

impl Source {
    /// Takes the pieces that have come of the large message that [`read`](Self::read) or [`lease`](Self::lease)
    /// found.
    pub(super) fn gather(&mut self, large: Large, limit: usize) -> Result<Gathered, Fault> {
        // Headers are not part of what the subscriber's user has limited. They have at most 64 KiB.
        if large.total.saturating_sub(large.headers) > limit {
            self.reader_mut().skip_large();
            return Ok(Gathered::Gone);
        }
        let mut message = std::mem::take(&mut self.gathered);
        if message.len() != large.total || large.done == 0 {
            message = vec![0; large.total];
        }
        let mut done = large.done;
        while done < large.total && done - large.done < MAX_GATHER {
            match self.reader_mut().read_large(&mut message[done..])? {
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
