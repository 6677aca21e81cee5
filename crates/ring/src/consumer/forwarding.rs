//! Forwarding: copying the bytes of the ring, unchanged, for a subscriber that cannot map it and gets them over a
//! stream.
//!
//! The forwarding side owns the slot in the subscriber's stead. Invariant (I5): a copy counts only above the `floor`
//! that is loaded after it. Nothing is parsed here: the [`Feed`](crate::Feed) does that at the other end. The slot gets
//! the cursor and figures that the subscriber reports, so room, drops and eviction work as for any reader.
//!
//! Under a durable name the cursor must be the start of a batch, and a reported cursor need not be one. So the start is
//! found in the ring's own headers, between the last cursor and the reported one. Whatever a subscriber reports, the
//! next holder begins at a batch (I12).

use super::joining::latest;
use super::{Consumer, LAPS, Reported};
use crate::account::Report;
use crate::frame::{BATCH_OVERHEAD, Header};
use crate::layout::is_position;
use crate::read::Fault;
use crate::slot::UNKNOWN;
use crate::sync::{Ordering, fence};

/// Bytes that were copied from the ring, unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Stretch {
    /// Position of the first byte. If it is not the end of the stretch before, what lay between was overwritten, and a
    /// batch begins here.
    pub position: u64,
    /// How many bytes, a multiple of 8. 0: nothing new.
    pub length: usize,
}

/// The last report of a subscriber.
impl Consumer {
    /// Copies what was committed to `target`, as much as fits. The next call copies the same again, unless
    /// [`forwarded`](Self::forwarded) was called in between.
    ///
    /// # Errors
    ///
    /// A [`Fault`]; every later call then returns it, too.
    pub fn forward(&mut self, target: &mut [u8]) -> Result<Stretch, Fault> {
        self.check()?;
        for _ in 0..LAPS {
            let available = self.available()?;
            if available > self.data.capacity() as u64 {
                self.skip_to_floor()?;
                continue;
            }
            let length = (available as usize).min(target.len()) & !7;
            self.copy_out(&mut target[..length]);
            // SYNC: pairs with the release fence in `Producer::advance_floor`, as in `read` (I5).
            fence(Ordering::Acquire);
            let floor = self.data.header().floor.load(Ordering::Acquire);
            if floor <= self.tail {
                return Ok(Stretch { position: self.tail, length });
            }
            self.lapped(floor)?;
            self.skip_to_floor()?;
        }
        Ok(Stretch { position: self.tail, length: 0 })
    }

    /// Notes that the stretch was sent: the next one begins behind it.
    pub fn forwarded(&mut self, stretch: Stretch) {
        self.tail = stretch.position + stretch.length as u64;
    }

    /// Stores what the subscriber reports. True: the publisher waits for room, ring its doorbell.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] if the cursor is invalid: not aligned, behind the last one, or ahead of what was forwarded.
    /// Under a durable name also if a sequence goes back, if `acknowledged` is above `delivered`, or if `delivered` is
    /// above what was sent.
    pub fn report(&mut self, report: Report) -> Result<bool, Fault> {
        if !is_position(report.cursor) || report.cursor > self.tail || report.cursor < self.reported.cursor {
            return Err(self.corrupt("a subscriber reported a cursor that cannot be"));
        }
        // Without a name, only the difference of the sequences is used, for statistics.
        let end = if self.name == 0 { self.reported.cursor } else { self.validated_end(&report)? };
        self.reported = Reported { cursor: report.cursor, delivered: report.delivered };
        (self.received, self.missed) = (report.received, report.missed);
        if self.fault.is_some() {
            return Ok(false);
        }
        let slot = self.slot();
        slot.received.store(self.received, Ordering::Relaxed);
        slot.missed.store(self.missed, Ordering::Relaxed);
        slot.wakeups.store(report.wakeups, Ordering::Relaxed);
        slot.flushed.store(report.flushed, Ordering::Relaxed);
        slot.redelivered.store(report.redelivered, Ordering::Relaxed);
        slot.delivered.store(report.delivered, Ordering::Relaxed);
        slot.acknowledged.store(report.acknowledged.unwrap_or(UNKNOWN), Ordering::Relaxed);
        if self.name == 0 {
            return Ok(self.publish(report.cursor.max(self.joined)));
        }
        (self.account.sequence, self.account.position) = (report.acknowledged, end);
        Ok(self.publish(end))
    }

    /// Checks what a subscriber with a durable name reports. Returns the start of a batch: nothing below it will be
    /// wanted again. It lies neither above the reported cursor nor beyond the acknowledged sequence.
    fn validated_end(&mut self, report: &Report) -> Result<u64, Fault> {
        let (head, next) = latest(&self.data);
        let Report { delivered, acknowledged, .. } = *report;
        // What was found in the slot may be anything, and is reported again.
        let too_far = next.is_some_and(|next| delivered > next.max(self.account.redelivered_below));
        let backwards = delivered < self.reported.delivered || acknowledged < self.account.sequence;
        if too_far || backwards || acknowledged.is_some_and(|sequence| sequence > delivered) {
            return Err(self.corrupt("a subscriber reported sequences that cannot be"));
        }
        let frames = self.data.frames;
        let mut batch = self.account.position;
        while batch < report.cursor {
            // From the slot's cursor on nothing is overwritten, unless the slot was evicted. Then the result is not
            // used.
            let Some(Header::Batch { body }) = Header::decode(frames.load(batch), self.data.capacity())
            else {
                break;
            };
            let end = batch + 8 + body as u64;
            let first = if end < head {
                Some(frames.load(end + 8))
            } else if Header::is_fragment(frames.load(batch + BATCH_OVERHEAD as u64)) {
                // More pieces of that message may come.
                Some(frames.load(batch + 8))
            } else {
                // It is unknown only in the middle of a commit. Then the cursor alone decides.
                next
            };
            if end > report.cursor || first > acknowledged {
                break;
            }
            batch = end;
        }
        Ok(batch)
    }

    /// Under a durable name: the same subscriber handed out the messages before `sequence`, before it lost a stream of
    /// this publisher. They may come again, and are marked. Call it before anything is read.
    pub fn note_seen(&mut self, sequence: u64) {
        self.account.note_seen(sequence);
        self.slot().delivered.store(self.account.redelivered_below, Ordering::Relaxed);
    }

    /// Messages before this sequence are not wanted, because an earlier holder of the name acknowledged them. 0: all
    /// are wanted.
    pub fn wanted_from(&self) -> u64 {
        self.resume
    }

    /// Position of the first byte that was not forwarded. At first, it is where this subscriber begins to read.
    pub fn forwarded_to(&self) -> u64 {
        self.tail
    }

    /// Continues at the message `sequence`, which another reader of the same publisher had reached. Messages before it
    /// are passed over; messages that are gone in between were missed. Call it before anything is read.
    pub fn go_on_at(&mut self, sequence: u64) {
        self.resume = self.resume.max(sequence);
        self.next_sequence = self.next_sequence.map(|next| next.min(sequence));
    }

    /// The position of the join: from here on the publisher waits for this subscriber.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// Sequence of the first message at [`forwarded_to`](Self::forwarded_to), before anything was forwarded. `None`:
    /// the publisher committed too fast for it to be known.
    pub fn next_sequence(&self) -> Option<u64> {
        self.next_sequence
    }

    /// Stores the figures of what was read up to `position`, and the cursor if it has moved.
    pub(super) fn publish_read(&mut self, position: u64) -> bool {
        let slot = self.slot();
        slot.received.store(self.received, Ordering::Relaxed);
        slot.missed.store(self.missed, Ordering::Relaxed);
        self.publish(position.max(self.joined))
    }
}
