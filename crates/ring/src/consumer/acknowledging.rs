//! Acknowledging less than was read. The slot's cursor is then behind what was handed out.
//!
//! The account itself is in `account`. This file finds the position of a sequence in the ring, and publishes it.
//! The cursor is always the start of a batch. That leaves the publisher as much room as a position inside the batch
//! would, and the next holder of a durable name can read on from there. The sequence is stored before the cursor.
//! If a subscriber dies in between, its cursor is too low, never too high (I12).

use super::{Consumer, Position};
use crate::frame::Header;
use crate::slot::UNKNOWN;
use crate::sync::Ordering;
use crate::wake;

/// The large messages that were passed over last: from the first sequence up to, but not including, the second.
/// They will never be acknowledged, so they are given back with what comes before them.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    from: u64,
    to: u64,
}

impl Consumer {
    /// Notes that a piece of the large message before `next` was passed over.
    pub(super) fn pass_over(&mut self, next: u64) {
        let from = match self.passed {
            Some(Passed { from, to }) if to.wrapping_add(1) >= next => from,
            _ => next.saturating_sub(1),
        };
        self.passed = Some(Passed { from, to: next });
    }

    /// Publishes that all messages before `sequence` that were read are acknowledged. True: the publisher waits for
    /// room, so the caller must ring its doorbell. Nothing happens if as much was acknowledged before. It takes the
    /// place of [`acknowledge`](Self::acknowledge); a caller must not use both.
    pub fn acknowledge_below(&mut self, sequence: u64) -> bool {
        let Some(next) = self.delivered().filter(|_| self.fault.is_none()) else { return false };
        let sequence = match self.passed {
            Some(Passed { from, to }) if from <= sequence && sequence < to => to,
            _ => sequence,
        };
        let Some(sequence) = self.account.new_acknowledgement(sequence, next) else {
            return self.give_back_pieces();
        };
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

    /// For use after pieces of a large message were read or passed over, in the place of
    /// [`acknowledge`](Self::acknowledge). It gives back the pieces of a message that is too large to be kept, or
    /// that is not wanted. It does not while something before the message is still to be acknowledged. True: the
    /// caller must ring the publisher's doorbell.
    pub fn give_back(&mut self) -> bool {
        self.fault.is_none() && self.give_back_pieces()
    }

    /// Gives back the pieces of a message that is being read and is too large to be kept, or that was passed over.
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
                self.account.set(to, self.tail);
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
        // SYNC: pairs with the acquires in `Producer::slowest`: all reads below are done (I4). Also pairs with
        // those in `Consumer::resume`: a process that sees this cursor sees the sequence stored above, or a later
        // one (I12).
        self.slot().cursor.store(cursor, Ordering::Release);
        self.published = cursor;
        wake::take_waiting(&self.control)
    }

    /// The start of the batch that the message `sequence` is in or will be in, but not behind what was read. The
    /// headers between the cursor and there were read before. If they hold something else by now, less is
    /// acknowledged.
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
            // All pieces of a large message carry its sequence.
            if frames.load(batch + 8) >= sequence {
                break;
            }
            let end = batch + 8 + body as u64;
            // What follows the last whole batch may not have been read, and may not even have been written.
            let first_after = if end < self.tail { frames.load(end + 8) } else { next };
            if end > self.tail || first_after > sequence {
                break;
            }
            batch = end;
        }
        batch
    }

    /// Called before messages are handed out under a durable name. It tells the next holder of the name that they
    /// may come again.
    pub(super) fn note_delivered(&mut self, count: u64) {
        let Some(next) = self.next_sequence else { return };
        let first = next.saturating_sub(count);
        if next > self.account.redelivered_below {
            self.slot().delivered.store(next, Ordering::Relaxed);
        }
        if self.account.sequence.is_none() {
            // The sequence of the first message is known only now.
            self.slot().acknowledged.store(first, Ordering::Relaxed);
            self.account.sequence = Some(first);
        }
        if self.account.hand_out(first, count) > 0 {
            self.slot().redelivered.store(self.account.redelivered, Ordering::Relaxed);
        }
    }

    /// The sequence after the last message that was read as a whole, if it is known.
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

    /// The position that was found under the durable name; [`Position::New`] without a name.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Messages before this sequence may have been seen by an earlier holder of the name. 0: there are none.
    pub fn redelivered_below(&self) -> u64 {
        self.account.redelivered_below
    }

    /// How many of those messages were read.
    pub fn redelivered(&self) -> u64 {
        self.account.redelivered
    }
}

/// A sequence as a slot holds it.
pub(super) fn known(sequence: u64) -> Option<u64> {
    (sequence != UNKNOWN).then_some(sequence)
}
