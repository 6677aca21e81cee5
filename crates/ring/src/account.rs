//! How far a reader has acknowledged, apart from what it has read: one account for the ring and for a stream.
//!
//! The account knows sequences, and one position: what lies before it need not be kept. Where a sequence lies is found by the owner:
//! `Consumer` finds it in the ring's own headers, `Feed` in marks that it made. A large message is kept like any other,
//! unless it takes more than half of the ring: then its pieces are given back as they are read, once everything before it is
//! acknowledged, and a reader that takes over in the middle of it has missed it.

use crate::pieces::Partial;

/// What a subscriber reports of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Up to where it has read.
    pub cursor: u64,
    /// Messages received.
    pub received: u64,
    /// Messages missed.
    pub missed: u64,
    /// Times that it was woken.
    pub wakeups: u64,
    /// Sequence after the last message that was handed out, by this subscriber or an earlier holder of its durable name.
    pub delivered: u64,
    /// Sequence of the first message that is not acknowledged, where it is known.
    pub acknowledged: Option<u64>,
    /// Times that it acknowledged some, where it does so apart from reading.
    pub flushed: u64,
    /// Messages received that an earlier holder of the name may have seen.
    pub redelivered: u64,
}

/// How far a reader has acknowledged.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    /// What lies before it need not be kept.
    pub(crate) position: u64,
    /// Sequence of the first message that is not acknowledged, where it is known.
    pub(crate) sequence: Option<u64>,
    /// Times that messages were acknowledged.
    pub(crate) flushed: u64,
    /// Messages before this sequence may have been seen by an earlier holder of the durable name.
    pub(crate) redelivered_below: u64,
    /// How many of those were handed out.
    pub(crate) redelivered: u64,
}

impl Account {
    pub(crate) fn new(position: u64, sequence: Option<u64>, redelivered_below: u64) -> Self {
        Self { position, sequence, flushed: 0, redelivered_below, redelivered: 0 }
    }

    /// All messages before `sequence` are done, as far as they were handed out, which is all before `delivered`. The sequence up
    /// to which that is so; `None`: as much was acknowledged before.
    pub(crate) fn news(&self, sequence: u64, delivered: u64) -> Option<u64> {
        let sequence = sequence.min(delivered);
        self.sequence.is_none_or(|before| sequence > before).then_some(sequence)
    }

    /// Puts down that all messages before `sequence` are done, and with them what lies before `position`.
    pub(crate) fn acknowledge(&mut self, sequence: u64, position: u64) {
        self.settle(sequence, position);
        self.flushed += 1;
    }

    /// The same without anybody having acknowledged anything: what lies before was passed over.
    pub(crate) fn settle(&mut self, sequence: u64, position: u64) {
        (self.sequence, self.position) = (Some(sequence), position);
    }

    /// So many messages from `first` on are handed out. How many of them may have been seen by an earlier holder of the name.
    pub(crate) fn hand_out(&mut self, first: u64, count: u64) -> u64 {
        let again = self.redelivered_below.saturating_sub(first).min(count);
        self.redelivered += again;
        again
    }

    /// As [`Consumer::note_seen`](crate::Consumer::note_seen).
    pub(crate) fn note_seen(&mut self, sequence: u64) {
        self.redelivered_below = self.redelivered_below.max(sequence);
    }

    /// Whether the pieces of a large message are given back as they are read: it is too large to be kept, and everything before
    /// it is acknowledged.
    pub(crate) fn releases(&self, partial: &Partial, capacity: usize) -> bool {
        self.sequence == Some(partial.sequence()) && partial.total() > capacity / 2
    }

    /// Messages handed out, which is all before `delivered`, and not acknowledged.
    pub(crate) fn unacknowledged(&self, delivered: Option<u64>) -> u64 {
        match (delivered, self.sequence) {
            (Some(delivered), Some(acknowledged)) => delivered.saturating_sub(acknowledged),
            _ => 0,
        }
    }
}
