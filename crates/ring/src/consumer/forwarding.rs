//! Forwarding: the bytes of the ring as they lie, for a subscriber that cannot map it and gets them by another way.
//!
//! The forwarding side owns the slot for the subscriber. What is copied counts only above the `floor` read after the
//! copy (I5), as in `read`, but nothing is parsed here: that is the [`Feed`](crate::Feed)'s work at the other end. The slot's
//! cursor and figures are those that the subscriber reports, so that room, drops and eviction are the ring's own.
//!
//! Under a durable name the cursor has to be the start of a batch, which a subscriber's need not be: it is found in the ring's own
//! headers, between the last one and what was reported. So whatever a subscriber says, the next holder begins at a batch (I12).

use super::joining::latest;
use super::{Consumer, LAPS, Reported};
use crate::account::Report;
use crate::frame::{BATCH_OVERHEAD, Header};
use crate::layout::is_position;
use crate::read::Fault;
use crate::slot::UNKNOWN;
use crate::sync::{Ordering, fence};

/// Bytes that were copied as they lie in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Stretch {
    /// Position of the first one. Anything but the end of the stretch before: what lay between was overwritten, and here a
    /// batch begins.
    pub position: u64,
    /// How many, a multiple of 8. None: nothing new.
    pub length: usize,
}

impl Consumer {
    /// Copies what was committed to `target`, as much as fits. The same again at the next call, unless
    /// [`forwarded`](Self::forwarded) says that it is on its way.
    ///
    /// # Errors
    ///
    /// A [`Fault`], from then on at every call.
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

    /// The stretch is on its way: the next one begins behind it.
    pub fn forwarded(&mut self, stretch: Stretch) {
        self.tail = stretch.position + stretch.length as u64;
    }

    /// Puts down what the subscriber reports. True: the publisher waits for room, ring its doorbell.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] when the cursor is none: not aligned, behind the last one, or ahead of what was forwarded. Under a durable
    /// name also when a sequence goes back, or one of them is beyond what it is to be found in.
    pub fn report(&mut self, report: Report) -> Result<bool, Fault> {
        if !is_position(report.cursor) || report.cursor > self.tail || report.cursor < self.reported.cursor {
            return Err(self.corrupt("a subscriber reported a cursor that cannot be"));
        }
        // Without a name nobody reads the sequences themselves, only how far they lie apart.
        let end = if self.name == 0 { self.reported.cursor } else { self.settled(&report)? };
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

    /// Checks what a subscriber with a durable name reports. Up to where nobody will want anything again: as far as it says so by
    /// both its cursor and its sequence, and the start of a batch.
    fn settled(&mut self, report: &Report) -> Result<u64, Fault> {
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
            // From the slot's cursor on nothing is overwritten, unless it was evicted; then its word is of no use any more.
            let Some(Header::Batch { body }) = Header::decode(frames.load(batch), self.data.capacity())
            else {
                break;
            };
            let end = batch + 8 + body as u64;
            let first = if end < head {
                Some(frames.load(end + 8))
            } else if Header::is_fragment(frames.load(batch + BATCH_OVERHEAD as u64)) {
                // More of that message may come.
                Some(frames.load(batch + 8))
            } else {
                // Not known in the middle of a commit alone; there the cursor will do.
                next
            };
            if end > report.cursor || first > acknowledged {
                break;
            }
            batch = end;
        }
        Ok(batch)
    }

    /// Under a durable name: the messages before `sequence` were handed out by the same subscriber, before it lost a stream of this
    /// publisher. They may come again, and are marked. Before anything is read.
    pub fn note_seen(&mut self, sequence: u64) {
        self.account.note_seen(sequence);
        self.slot().delivered.store(self.account.redelivered_below, Ordering::Relaxed);
    }

    /// Messages before this sequence are not wanted: an earlier holder of the name acknowledged them. 0: none.
    pub fn wanted_from(&self) -> u64 {
        self.resume
    }

    /// Position of the first byte that is still to be forwarded; at first, where this subscriber begins to read.
    pub fn forwarded_to(&self) -> u64 {
        self.tail
    }

    /// Goes on at the message `sequence`, which another reader of the same publisher had come to: what comes before it is passed
    /// over, what lies in between was missed. Before anything is read.
    pub fn go_on_at(&mut self, sequence: u64) {
        self.resume = self.resume.max(sequence);
        self.next_sequence = self.next_sequence.map(|next| next.min(sequence));
    }

    /// Where the publisher began to wait for this subscriber.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// Sequence of the first message at [`forwarded_to`](Self::forwarded_to), before anything was forwarded; unknown where the publisher was too busy to tell.
    pub fn next_sequence(&self) -> Option<u64> {
        self.next_sequence
    }

    /// Puts down the figures of what was read up to `position`, and the cursor if it has moved.
    pub(super) fn publish_read(&mut self, position: u64) -> bool {
        let slot = self.slot();
        slot.received.store(self.received, Ordering::Relaxed);
        slot.missed.store(self.missed, Ordering::Relaxed);
        self.publish(position.max(self.joined))
    }
}
