//! One pass over batches and the messages in them. Only this file gives meaning to the bytes of a ring.
//!
//! The caller hands in words one by one, from a private copy or from the ring itself. The pass looks at each word
//! once. What the pass learns is kept only if the caller takes it over, so a pass over a torn copy leaves no trace.
//! Called by `Consumer` and `Feed`. A walk never reads memory itself.

use crate::frame::{BATCH_FIELDS, BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD, padded};
use crate::read::{Entry, Read};

/// The batch that the next message belongs to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Current {
    pub(crate) sequence: u64,
    pub(crate) time: u64,
    pub(crate) index: u32,
    /// Bytes of it that were not read yet.
    pub(crate) remaining: usize,
}

/// One pass over batches and messages. It is the same for a private copy and for the ring itself.
pub(crate) struct Walk {
    pub(crate) current: Current,
    /// Offset of the current batch's header, in the form that the table needs.
    batch: u32,
    /// The batch that was in progress when the pass began.
    began: Current,
    pub(crate) count: usize,
    pub(crate) next_sequence: Option<u64>,
    pub(crate) missed: u64,
    /// Messages before this sequence are passed over: they were acknowledged by an earlier holder of the name.
    resume: u64,
}

pub(crate) enum Step {
    Taken(usize),
    /// More bytes are needed.
    Short,
    /// A batch that is a piece of a large message. The pass ends before it.
    Piece,
    Wrong(&'static str),
}

impl Walk {
    pub(crate) fn new(current: Current, next_sequence: Option<u64>, resume: u64) -> Self {
        Self { current, batch: Entry::CONTINUED, began: current, count: 0, next_sequence, missed: 0, resume }
    }

    /// Takes one frame: a batch's header, or a message. `word` reads the word at that many bytes into the frame.
    /// `present` bytes of it can be looked at. `committed` bytes were committed. `at` is the frame's offset for the
    /// table.
    #[inline]
    pub(crate) fn step(
        &mut self,
        word: impl Fn(u64) -> u64,
        present: usize,
        committed: usize,
        at: usize,
        table: &mut [Entry],
        capacity: usize,
    ) -> Step {
        if self.current.remaining == 0 {
            // The kind of a batch stands in the frame after its header.
            if present < BATCH_OVERHEAD + MESSAGE_OVERHEAD {
                return Step::Short;
            }
            if Header::is_fragment(word(BATCH_OVERHEAD as u64)) {
                return Step::Piece;
            }
            let Some(Header::Batch { body }) = Header::decode(word(0), capacity) else {
                return Step::Wrong("a batch was expected");
            };
            if body == BATCH_FIELDS {
                return Step::Wrong("a batch is empty");
            }
            if 8 + body > committed {
                return Step::Wrong("a batch reaches beyond head");
            }
            let sequence = word(8);
            let expected = self.next_sequence.unwrap_or(sequence);
            let missed = sequence.wrapping_sub(expected);
            if missed > i64::MAX as u64 {
                return Step::Wrong("a sequence went backwards");
            }
            let unwanted = self.resume.saturating_sub(expected).min(missed);
            self.missed = self.missed.saturating_add(missed - unwanted);
            self.next_sequence = Some(sequence);
            self.batch = at as u32;
            self.current = Current { sequence, time: word(16), index: 0, remaining: body - BATCH_FIELDS };
            return Step::Taken(BATCH_OVERHEAD);
        }
        let Some(Header::Message { length, headers }) = Header::decode(word(0), capacity) else {
            return Step::Wrong("a message was expected");
        };
        let frame = padded(length);
        if frame > self.current.remaining {
            return Step::Wrong("a message reaches beyond its batch");
        }
        if frame > present {
            return Step::Short;
        }
        if self.current.sequence.wrapping_add(self.current.index.into()) >= self.resume {
            let Some(entry) = table.get_mut(self.count) else { return Step::Short };
            *entry = Entry {
                offset: (at + MESSAGE_OVERHEAD) as u32,
                length: (length - usize::from(headers)) as u32,
                batch: self.batch,
                index: self.current.index,
            };
            self.count += 1;
        }
        self.current.index = self.current.index.wrapping_add(1);
        self.current.remaining -= frame;
        self.next_sequence = self.next_sequence.map(|sequence| sequence.wrapping_add(1));
        Step::Taken(frame)
    }

    pub(crate) fn result(&self, bytes: usize) -> Read {
        Read::Messages {
            count: self.count,
            bytes,
            batch_sequence: self.began.sequence,
            batch_time: self.began.time,
        }
    }
}

/// The word at `at` in private memory. Behind the end it is 0, which is not a valid header.
#[inline]
pub(crate) fn private_word(slab: &[u8], at: usize) -> u64 {
    match slab.get(at..).and_then(<[u8]>::first_chunk) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}
