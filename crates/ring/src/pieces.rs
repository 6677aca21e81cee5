//! A large message in pieces: what a piece says about itself, and how far a reader has come with the message.
//!
//! Invariant: if a message's sequence is not followed to its end, it was missed. The publisher gave it up, it was
//! overwritten as history, or the reader skipped it. But a message that had begun before this reader joined was not
//! missed. Called by `Consumer` and `Feed`, with header words that are read once. Every word is hostile until
//! `PieceHeader::decode` has passed it.

use crate::frame::{BATCH_OVERHEAD, FRAGMENT_FIELDS, FRAGMENT_OVERHEAD, Header, MAX_LARGE, MESSAGE_OVERHEAD};
use crate::layout::Overflow;
use crate::read::Large;

/// A large message that was begun.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    pub(crate) large: Large,
    /// Offset of the piece at `tail` in the message.
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

/// A piece, as the headers of its batch describe it.
#[derive(Clone, Copy)]
pub(crate) struct PieceHeader {
    sequence: u64,
    time: u64,
    total: usize,
    /// How many of the total are headers.
    headers: usize,
    offset: usize,
    /// Bytes of the piece.
    length: usize,
    /// Bytes of the batch.
    pub(crate) batch: u64,
}

impl PieceHeader {
    /// The number of words in its headers.
    pub(crate) const WORDS: usize = 6;
    /// Offset of the piece itself in its batch.
    pub(crate) const OFFSET: usize = BATCH_OVERHEAD + FRAGMENT_OVERHEAD;

    /// Sequence of the message that this is a piece of.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Decodes the headers. `available` bytes can be read, headers included. `None`: it is not a piece.
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
            return Err("a fragment on a topic that may drop messages");
        }
        let Some(Header::Fragment { body, headers }) = Header::decode(fragment, capacity) else {
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
        if u64::from(headers) > total {
            return Err("the headers of a message are longer than it is");
        }
        Ok(Some(Self {
            sequence,
            time,
            total: total as usize,
            headers: headers.into(),
            offset: offset as usize,
            length,
            batch: (BATCH_OVERHEAD + inside) as u64,
        }))
    }
}

/// What a reader knows of sequences, and of the large message that it is reading.
pub(crate) struct Pieces<'a> {
    pub(crate) partial: &'a mut Option<Partial>,
    pub(crate) next_sequence: &'a mut Option<u64>,
    pub(crate) missed: &'a mut u64,
    /// Messages before this sequence are passed over.
    pub(crate) resume: u64,
}

impl Pieces<'_> {
    /// The message that this piece belongs to. `None`: no message that is to be read here, so the piece is passed
    /// over.
    pub(crate) fn accept(&mut self, found: PieceHeader) -> Result<Option<Large>, &'static str> {
        match *self.partial {
            Some(Partial { large, .. }) if found.sequence == large.sequence => {
                self.fits(found)?;
                return Ok(Some(large));
            }
            _ => self.give_up(),
        }
        // If the sequence is already used up, the message was skipped, or had begun before the join.
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
        let PieceHeader { sequence, time, total, headers, .. } = found;
        let large = Large { sequence, time, total, headers, done: 0 };
        if begins {
            *self.partial = Some(Partial { large, at: 0 });
        }
        Ok(begins.then_some(large))
    }

    /// Which part of the piece is copied to `room` bytes: where it begins, and how long it is. `None`: the message
    /// is not continued.
    pub(crate) fn next(
        &self,
        found: PieceHeader,
        room: usize,
    ) -> Result<Option<(usize, usize)>, &'static str> {
        match *self.partial {
            Some(Partial { large, at }) if found.sequence == large.sequence => {
                self.fits(found)?;
                let from = large.done - at;
                Ok(Some((from, room.min(found.length - from))))
            }
            _ => Ok(None),
        }
    }

    /// Notes that `bytes` bytes of the piece were copied. Returns whether that was all of the piece, and how much
    /// of the message is still to come.
    pub(crate) fn copied(&mut self, found: PieceHeader, bytes: usize) -> (bool, usize) {
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

    /// Gives up the message that was being read. It will not become whole.
    pub(crate) fn give_up(&mut self) {
        if self.partial.take().is_some() {
            *self.missed = self.missed.saturating_add(1);
        }
    }

    /// Checks that this piece begins where the last one ended.
    fn fits(&self, found: PieceHeader) -> Result<(), &'static str> {
        match *self.partial {
            Some(Partial { large, at })
                if found.total == large.total
                    && found.headers == large.headers
                    && found.offset == at
                    && large.done - at < found.length =>
            {
                Ok(())
            }
            _ => Err("the pieces of a message don't fit together"),
        }
    }
}
