//! Forwarding: the bytes of the ring as they lie, for a subscriber that cannot map it and gets them by another way.
//!
//! Whoever forwards owns the slot in the subscriber's stead. What is copied counts only above the `floor` read after the
//! copy (I5), as in `read`, but nothing is parsed here: that is the [`Feed`](crate::Feed)'s work at the other end. The slot's
//! cursor and figures are those that the subscriber reports, so that room, drops and eviction are the ring's own.

use super::{Consumer, Fault, LAPS, is_position};
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
    /// Messages received and not acknowledged.
    pub unacknowledged: u64,
    /// Times that it acknowledged some, where it does so apart from reading.
    pub flushed: u64,
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
    /// [`Fault::Corrupt`] when the cursor is none: not aligned, behind the last one, or ahead of what was forwarded.
    pub fn report(&mut self, report: Report) -> Result<bool, Fault> {
        if !is_position(report.cursor) || report.cursor > self.tail || report.cursor < self.reported {
            return Err(self.corrupt("a subscriber reported a cursor that cannot be"));
        }
        self.reported = report.cursor;
        (self.received, self.missed) = (report.received, report.missed);
        if self.fault.is_some() {
            return Ok(false);
        }
        let slot = self.slot();
        slot.wakeups.store(report.wakeups, Ordering::Relaxed);
        slot.flushed.store(report.flushed, Ordering::Relaxed);
        // Without a name nobody reads the sequences themselves, only how far they lie apart.
        slot.delivered.store(report.unacknowledged, Ordering::Relaxed);
        slot.acknowledged.store(0, Ordering::Relaxed);
        Ok(self.publish_read(report.cursor))
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
