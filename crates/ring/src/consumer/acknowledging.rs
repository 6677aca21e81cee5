//! Acknowledging less than was read: the slot's cursor then lags behind what was handed out.
//!
//! The account itself is in `account`; here is how the ring finds the position of a sequence, and how it is published. The cursor
//! is only ever the start of a batch, which leaves the publisher as much room as a position within it would, and from which the
//! next holder of a durable name can read on. The sequence is stored before the cursor, so a subscriber that dies in between leaves
//! a cursor that is too low, never one that is too high (I12).

use super::{Consumer, Position};
use crate::frame::Header;
use crate::slot::UNKNOWN;
use crate::sync::Ordering;
use crate::wake;

/// The large messages that were passed over last, from one sequence up to, and not with, the other one: nobody will acknowledge
/// them, so they go with what comes before.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    from: u64,
    to: u64,
}

impl Consumer {
    /// A piece of the large message before `next` was passed over.
    pub(super) fn pass_over(&mut self, next: u64) {
        let from = match self.passed {
            Some(Passed { from, to }) if to.wrapping_add(1) >= next => from,
            _ => next.saturating_sub(1),
        };
        self.passed = Some(Passed { from, to: next });
    }

    /// Publishes that all messages before `sequence` are done, as far as they were read. True: the publisher waits for room,
    /// ring its doorbell. Nothing happens when as much was acknowledged before. Instead of
    /// [`acknowledge`](Self::acknowledge), not beside it.
    pub fn acknowledge_below(&mut self, sequence: u64) -> bool {
        let Some(next) = self.delivered().filter(|_| self.fault.is_none()) else { return false };
        let sequence = match self.passed {
            Some(Passed { from, to }) if from <= sequence && sequence < to => to,
            _ => sequence,
        };
        let Some(sequence) = self.account.news(sequence, next) else { return self.give_back_pieces() };
        let batch = self.batch_of(sequence, next);
        self.account.acknowledge(sequence, batch);
        let slot = self.slot();
        slot.received.store(self.received, Ordering::Relaxed);
        slot.missed.store(self.missed, Ordering::Relaxed);
        slot.flushed.store(self.account.flushed, Ordering::Relaxed);
        slot.delivered.store(next.max(self.account.redelivered_below), Ordering::Relaxed);
        slot.acknowledged.store(sequence, Ordering::Relaxed);
        let ring = self.publish(batch);
        self.give_back_pieces() || ring
    }

    /// After pieces of a large message were read or passed over, in the place of [`acknowledge`](Self::acknowledge): gives back
    /// those of one that is too large to be kept, or that nobody wants, unless something before it is still to be
    /// acknowledged. True: ring the publisher's doorbell.
    pub fn give_back(&mut self) -> bool {
        self.fault.is_none() && self.give_back_pieces()
    }

    /// Of a message that is being read and too large to be kept, or that was passed over.
    fn give_back_pieces(&mut self) -> bool {
        match self.partial {
            None => self.give_back_passed(),
            Some(partial)
                if self.account.releases(&partial, self.data.capacity()) && self.tail > self.joined =>
            {
                self.account.position = self.tail;
                self.publish(self.tail)
            }
            _ => false,
        }
    }

    #[inline]
    fn give_back_passed(&mut self) -> bool {
        match self.passed {
            Some(Passed { from, to }) if self.next_sequence == Some(to) && self.current.remaining == 0 => {
                let all_before = match self.account.sequence {
                    Some(sequence) => from <= sequence,
                    None => self.received == 0,
                };
                if !all_before || self.tail <= self.joined {
                    return false;
                }
                self.account.settle(to, self.tail);
                let slot = self.slot();
                slot.missed.store(self.missed, Ordering::Relaxed);
                slot.delivered.store(to.max(self.account.redelivered_below), Ordering::Relaxed);
                slot.acknowledged.store(to, Ordering::Relaxed);
                self.publish(self.tail)
            }
            _ => false,
        }
    }

    pub(super) fn publish(&mut self, cursor: u64) -> bool {
        if cursor == self.published {
            return false;
        }
        // SYNC: pairs with the acquires in `Producer::slowest`: all reads below are done (I4), and in `Consumer::resume`: who
        // sees this cursor sees the sequence stored above, or a later one (I12).
        self.slot().cursor.store(cursor, Ordering::Release);
        self.published = cursor;
        wake::take_waiting(&self.control)
    }

    /// Start of the batch that the message `sequence` is in, or will be in; at most where was read to. Headers between the
    /// cursor and there were read before; should they hold something else by now, less is acknowledged.
    fn batch_of(&self, sequence: u64, next: u64) -> u64 {
        if self.current.remaining == 0 && self.partial.is_none() && sequence == next {
            return self.tail.max(self.joined);
        }
        let frames = self.data.frames;
        let mut batch = self.account.position;
        while batch < self.tail {
            let Some(Header::Batch { body }) = Header::decode(frames.load(batch), self.data.capacity())
            else {
                break;
            };
            // All pieces of a large message have its sequence.
            if frames.load(batch + 8) >= sequence {
                break;
            }
            let end = batch + 8 + body as u64;
            // What follows the last whole batch was perhaps not read, perhaps not even written.
            let first_after = if end < self.tail { frames.load(end + 8) } else { next };
            if end > self.tail || first_after > sequence {
                break;
            }
            batch = end;
        }
        batch
    }

    /// Before messages are handed out under a durable name: the next holder is to know that they may come again.
    pub(super) fn note_delivered(&mut self, count: u64) {
        let Some(next) = self.next_sequence else { return };
        let first = next.saturating_sub(count);
        if next > self.account.redelivered_below {
            self.slot().delivered.store(next, Ordering::Relaxed);
        }
        if self.account.sequence.is_none() {
            // Only now it is known which was the first.
            self.slot().acknowledged.store(first, Ordering::Relaxed);
            self.account.sequence = Some(first);
        }
        if self.account.hand_out(first, count) > 0 {
            self.slot().redelivered.store(self.account.redelivered, Ordering::Relaxed);
        }
    }

    /// Sequence after the last message that was read as a whole, where it is known.
    pub fn delivered(&self) -> Option<u64> {
        match self.partial {
            Some(partial) => Some(partial.sequence()),
            None => self.next_sequence,
        }
    }

    /// Messages read and not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.account.unacknowledged(self.delivered())
    }

    /// Times that [`acknowledge_below`](Self::acknowledge_below) published something.
    pub fn flushed(&self) -> u64 {
        self.account.flushed
    }

    /// What there was under the durable name; [`Position::New`] without one.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Messages before this sequence may have been seen by an earlier holder of the name. 0: none.
    pub fn redelivered_below(&self) -> u64 {
        self.account.redelivered_below
    }

    /// How many of those were read.
    pub fn redelivered(&self) -> u64 {
        self.account.redelivered
    }
}

/// A sequence as it stands in a slot.
pub(super) fn known(sequence: u64) -> Option<u64> {
    (sequence != UNKNOWN).then_some(sequence)
}
