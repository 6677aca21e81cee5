//! How far a reader has acknowledged, apart from what it has read. A ring and a stream use the same account.
//!
//! The account knows sequences, and one position: what lies before it need not be kept. The owner finds out where a
//! sequence lies: `Consumer` from the ring's own headers, `Feed` from marks that it made. A large message is kept
//! like any other, unless it takes more than half of the ring. Then its pieces are given back as they are read,
//! once everything before it is acknowledged. A reader that takes over in the middle of such a message has missed
//! it. The account never looks at a ring.

use crate::pieces::Partial;

/// What a subscriber reports about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The position up to which it has read.
    pub cursor: u64,
    /// Messages received.
    pub received: u64,
    /// Messages missed.
    pub missed: u64,
    /// Times that it was woken.
    pub wakeups: u64,
    /// The sequence after the last message that was handed out, by this subscriber or by an earlier holder of its
    /// durable name.
    pub delivered: u64,
    /// Sequence of the first message that is not acknowledged, if it is known.
    pub acknowledged: Option<u64>,
    /// Times that it acknowledged messages, if it does so apart from reading.
    pub flushed: u64,
    /// Messages received that an earlier holder of the name may have seen.
    pub redelivered: u64,
}

/// How far a reader has acknowledged.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    /// What lies before this position need not be kept.
    pub(crate) position: u64,
    /// Sequence of the first message that is not acknowledged, if it is known.
    pub(crate) sequence: Option<u64>,
    /// Times that messages were acknowledged.
    pub(crate) flushed: u64,
    /// Messages before this sequence may have been seen by an earlier holder of the durable name.
    pub(crate) redelivered_below: u64,
    /// How many of those messages were handed out.
    pub(crate) redelivered: u64,
}

impl Account {
    pub(crate) fn new(position: u64, sequence: Option<u64>, redelivered_below: u64) -> Self {
        Self { position, sequence, flushed: 0, redelivered_below, redelivered: 0 }
    }

    /// Up to which sequence an acknowledgement of all messages before `sequence` would count. Only messages before
    /// `delivered` were handed out, so it counts up to there at most. `None`: as much was acknowledged before.
    pub(crate) fn new_acknowledgement(&self, sequence: u64, delivered: u64) -> Option<u64> {
        let sequence = sequence.min(delivered);
        self.sequence.is_none_or(|before| sequence > before).then_some(sequence)
    }

    /// Notes that all messages before `sequence` are acknowledged. What lies before `position` is given back with
    /// them.
    pub(crate) fn acknowledge(&mut self, sequence: u64, position: u64) {
        self.set(sequence, position);
        self.flushed += 1;
    }

    /// Does the same as `acknowledge`, but counts no acknowledgement: what lies before was passed over.
    pub(crate) fn set(&mut self, sequence: u64, position: u64) {
        (self.sequence, self.position) = (Some(sequence), position);
    }

    /// Counts messages that are handed out: `count` of them, from `first` on. Returns how many of them may have
    /// been seen by an earlier holder of the name.
    pub(crate) fn hand_out(&mut self, first: u64, count: u64) -> u64 {
        let again = self.redelivered_below.saturating_sub(first).min(count);
        self.redelivered += again;
        again
    }

    /// As [`Consumer::note_seen`](crate::Consumer::note_seen).
    pub(crate) fn note_seen(&mut self, sequence: u64) {
        self.redelivered_below = self.redelivered_below.max(sequence);
    }

    /// Whether the pieces of a large message are given back as they are read. They are if the message is too large
    /// to be kept and everything before it is acknowledged.
    pub(crate) fn releases(&self, partial: &Partial, capacity: usize) -> bool {
        self.sequence == Some(partial.sequence()) && partial.total() > capacity / 2
    }

    /// Messages that were handed out (all before `delivered`) and not acknowledged.
    pub(crate) fn unacknowledged(&self, delivered: Option<u64>) -> u64 {
        match (delivered, self.sequence) {
            (Some(delivered), Some(acknowledged)) => delivered.saturating_sub(acknowledged),
            _ => 0,
        }
    }
}
