//! Receiving for Rust programs: message by message or batch by batch, without waiting, with a deadline, or for good.
//!
//! Messages are copied into one slab that the subscriber reuses, so a [`Message`] borrows the subscriber and is gone
//! when the next one is received. Waiting looks at the ring for a while before it sleeps; how long is up to the caller.

use std::time::{Duration, Instant};

use ringbell_ring::{BATCH_OVERHEAD, Entry};

use super::acks::AckMode;
use super::notice::Drained;
use super::subscriber::Subscriber;
use crate::error::{Error, Result};

/// A received message. Its bytes were copied out of the ring; no other process can change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The payload.
    pub data: &'a [u8],
    /// Position in its publisher's stream; the first message has 0.
    pub sequence: u64,
    /// When its batch was committed, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Number of the publisher, as in [`Notice::Attached`](super::Notice::Attached).
    pub source: u32,
    /// Whether an earlier holder of the durable name may have seen it.
    pub redelivered: bool,
}

const SLAB: usize = 128 << 10;
const TABLE: usize = 1024;
/// Looks between two glances at the clock while spinning.
const TURNS: u32 = 256;

/// A batch that was received and not yet handed out.
pub(super) struct Received {
    slab: Vec<u8>,
    /// In place of the slab: a message that came in pieces.
    large: Option<Vec<u8>>,
    table: Vec<Entry>,
    count: usize,
    next: usize,
    /// Messages before this one are done.
    done: usize,
    source: u32,
    redelivered_below: u64,
    batch_sequence: u64,
    batch_time: u64,
    spin: Duration,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            slab: Vec::new(),
            large: None,
            table: Vec::new(),
            count: 0,
            next: 0,
            done: 0,
            source: 0,
            redelivered_below: 0,
            batch_sequence: 0,
            batch_time: 0,
            spin: Duration::from_micros(50),
        }
    }
}

impl Received {
    #[inline]
    fn message(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.table[..self.count].get(index)?;
        let bytes = self.large.as_ref().unwrap_or(&self.slab);
        let data = bytes.get(entry.offset as usize..)?.get(..entry.length as usize)?;
        let (first, time) = match entry.batch {
            Entry::CONTINUED => (self.batch_sequence, self.batch_time),
            batch => {
                let header = self.slab.get(batch as usize..)?.first_chunk::<BATCH_OVERHEAD>()?;
                (word(header, 8), word(header, 16))
            }
        };
        let sequence = first.wrapping_add(entry.index.into());
        let redelivered = sequence < self.redelivered_below;
        Some(Message { data, sequence, time, source: self.source, redelivered })
    }
}

fn word(header: &[u8; BATCH_OVERHEAD], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(word)
}

impl Subscriber {
    /// Sets how long a wait looks at the ring before it sleeps. Default: 50 µs. [`Duration::MAX`] never sleeps.
    pub fn set_spin(&mut self, spin: Duration) {
        self.received.spin = spin;
    }

    /// The next message if there is one. Notices stay queued for [`notices`](Self::notices) and are no reason to wait.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` when the bus was closed and everything was read, and in a forked child. What befalls a
    /// publisher is a [`Notice`](super::Notice).
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>> {
        self.settle();
        if self.received.next >= self.received.count && !self.fill()? {
            return Ok(None);
        }
        let index = self.received.next;
        self.received.next += 1;
        Ok(self.received.message(index))
    }

    /// The next message; waits for it, for good if need be.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Message<'_>> {
        self.wait(None)?;
        self.try_recv()?.ok_or(Error::Closed { what: "subscriber" })
    }

    /// The next message; waits for it for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>> {
        if self.wait(Instant::now().checked_add(timeout))? { self.try_recv() } else { Ok(None) }
    }

    /// Hands every message of the next batch to `each`, and says how many there were: 0, if there is nothing.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv_batch(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<usize> {
        self.settle();
        if self.received.next >= self.received.count && !self.fill()? {
            return Ok(0);
        }
        let (first, count) = (self.received.next, self.received.count);
        for index in first..count {
            if let Some(message) = self.received.message(index) {
                each(message);
            }
        }
        self.received.next = count;
        Ok(count - first)
    }

    /// Waits until there is a message, or until `deadline`. Says whether there is one.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        self.settle();
        loop {
            if self.received.next < self.received.count || self.fill()? {
                return Ok(true);
            }
            if self.spin_for(deadline) {
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            if self.arm_sources() {
                self.sleep(deadline)?;
            }
        }
    }

    /// Under [`AckMode::Batch`]: the next message is asked for, so all that were handed out are done.
    #[inline]
    fn settle(&mut self) {
        if self.pending.mode() == AckMode::Batch && self.received.done < self.received.next {
            self.settle_batch();
        }
    }

    fn settle_batch(&mut self) {
        while self.received.done < self.received.next {
            let message =
                self.received.message(self.received.done).map(|message| (message.source, message.sequence));
            self.received.done += 1;
            if let Some((source, sequence)) = message {
                let due = self.pending.done(source, sequence);
                self.tell_done(due);
                let due = self.pending.enough();
                self.tell_done(due);
            }
        }
    }

    /// Waits until `count` publishers are attached, or `timeout` has passed. Says whether they are.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn wait_attached(&mut self, count: usize, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            self.take_news()?;
            if self.publishers() >= count {
                return Ok(true);
            }
            if self.closed {
                return Err(Error::Closed { what: "bus" });
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            // Not armed: publishers have nothing to wake for here, only the bus thread has.
            self.sleep(deadline)?;
        }
    }

    fn spin_for(&self, deadline: Option<Instant>) -> bool {
        let start = Instant::now();
        loop {
            if self.pending() {
                return true;
            }
            let now = Instant::now();
            if now.duration_since(start) >= self.received.spin
                || deadline.is_some_and(|deadline| now >= deadline)
            {
                return false;
            }
            if self.spin_sources(TURNS) {
                return true;
            }
        }
    }

    /// Takes the next batch into the slab. False: there is none.
    fn fill(&mut self) -> Result<bool> {
        let mut received = std::mem::take(&mut self.received);
        if received.table.is_empty() {
            received.slab = vec![0; SLAB];
            received.table = vec![Entry::default(); TABLE];
        }
        received.count = 0;
        received.next = 0;
        received.large = None;
        received.done = 0;
        let due = self.pending.late();
        self.tell_done(due);
        let result = loop {
            match self.drain_messages(&mut received.slab, &mut received.table) {
                Ok(Drained::Batch { source, count, batch_sequence, batch_time, .. }) => {
                    received.source = source;
                    received.redelivered_below = self.redelivered_below(source);
                    received.count = count;
                    received.batch_sequence = batch_sequence;
                    received.batch_time = batch_time;
                    break Ok(true);
                }
                Ok(Drained::Large { source, bytes, sequence, time }) => {
                    received.large = self.take_large();
                    received.table[0] = Entry { length: bytes as u32, ..Entry::default() };
                    received.table[0].batch = Entry::CONTINUED;
                    received.source = source;
                    received.redelivered_below = self.redelivered_below(source);
                    received.count = 1;
                    received.batch_sequence = sequence;
                    received.batch_time = time;
                    break Ok(true);
                }
                Ok(Drained::NeedSlab(bytes)) => received.slab = vec![0; bytes.max(SLAB).next_multiple_of(8)],
                // Notices wait for whoever asks; the end of the bus does not.
                Ok(Drained::Notice) if self.closed => break Err(Error::Closed { what: "bus" }),
                Ok(Drained::Empty | Drained::Notice) => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        self.received = received;
        result
    }
}
