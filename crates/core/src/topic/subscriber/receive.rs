//! Receiving for Rust programs: message by message or batch by batch; without waiting, with a deadline, or without a
//! limit.
//!
//! Users of [`Subscriber`] call this; the binding drains by itself. Invariant: a [`Message`] borrows the subscriber,
//! so it is gone when the next one is received. A wait looks at the ring for a while before it sleeps; the caller
//! sets how long. It must never lose a notice: notices stay queued until they are asked for.

use std::time::{Duration, Instant};

use ringbell_ring::{BATCH_OVERHEAD, Entry};

use super::Subscriber;
use crate::error::{Error, Result};
use crate::headers::Headers;
use crate::port::receive::{Batch, SPIN_ITERATIONS, SpinResult, data_and_headers, spin_until};
use crate::topic::acks::AckMode;
use crate::topic::notice::Drained;

/// A received message. Its bytes were copied out of the ring, so no other process can change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The payload.
    pub data: &'a [u8],
    /// Position in its publisher's sequence of messages. The first message has 0.
    pub sequence: u64,
    /// When its batch was committed, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Number of the source, as in [`Notice::Attached`](crate::topic::Notice::Attached).
    pub source: u32,
    /// Whether an earlier holder of the durable name may have seen it.
    pub redelivered: bool,
    headers: &'a [u8],
}

impl<'a> Message<'a> {
    /// The headers that its publisher has sent with it.
    pub fn headers(&self) -> Headers<'a> {
        Headers::from_bytes(self.headers)
    }
}

/// What was received and not yet handed out.
pub(super) struct ReceiveBuffer {
    batch: Batch,
    /// A message that came in pieces. It replaces the batch's slab.
    large: Option<Vec<u8>>,
    /// Messages before this index are done.
    done: usize,
    source: u32,
    redelivered_below: u64,
    batch_sequence: u64,
    batch_time: u64,
    spin: Duration,
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self {
            batch: Batch::default(),
            large: None,
            done: 0,
            source: 0,
            redelivered_below: 0,
            batch_sequence: 0,
            batch_time: 0,
            spin: Duration::from_micros(50),
        }
    }
}

impl ReceiveBuffer {
    #[inline]
    fn message(&self, index: usize) -> Option<Message<'_>> {
        let entry = self.batch.entry(index)?;
        let (data, headers) = match &self.large {
            None => data_and_headers(self.batch.slab(), entry)?,
            Some(whole) => whole.split_at_checked(entry.length as usize)?,
        };
        let (first, time) = match entry.batch {
            Entry::CONTINUED => (self.batch_sequence, self.batch_time),
            batch => {
                let header = self.batch.slab().get(batch as usize..)?.first_chunk::<BATCH_OVERHEAD>()?;
                (word(header, 8), word(header, 16))
            }
        };
        let sequence = first.wrapping_add(entry.index.into());
        let redelivered = sequence < self.redelivered_below;
        Some(Message { data, sequence, time, source: self.source, redelivered, headers })
    }
}

fn word(header: &[u8; BATCH_OVERHEAD], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(word)
}

impl Subscriber {
    /// Sets how long a wait looks at the ring before it sleeps. The default is 50 µs. With [`Duration::MAX`] it never
    /// sleeps.
    pub fn set_spin(&mut self, spin: Duration) {
        self.received.spin = spin;
    }

    /// The next message, if there is one. Notices stay queued for [`notices`](Self::notices); they do not end a wait.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` when the bus was closed and everything was read, and in a forked child. What happens to
    /// a publisher is a [`Notice`](crate::topic::Notice), not an error.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<'_>>> {
        self.finish_handed_out();
        if !self.received.batch.has_next() && !self.fill()? {
            return Ok(None);
        }
        let index = self.received.batch.next();
        self.received.batch.advance_to(index + 1);
        Ok(self.received.message(index))
    }

    /// The next message. Waits for it without a limit.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv(&mut self) -> Result<Message<'_>> {
        self.wait(None)?;
        self.try_recv()?.ok_or(Error::Closed { what: "subscriber" })
    }

    /// The next message. Waits for it for at most `timeout`; `None` when none came in time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    /// assert_eq!(subscriber.recv_timeout(Duration::from_millis(1))?, None);
    ///
    /// publisher.send(b"tick 1")?;
    /// if let Some(message) = subscriber.recv_timeout(Duration::from_secs(30))? {
    ///     assert_eq!(message.data, b"tick 1");
    /// }
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message<'_>>> {
        if self.wait(Instant::now().checked_add(timeout))? { self.try_recv() } else { Ok(None) }
    }

    /// Hands every message of the next batch to `each`. Answers how many there were: 0 if there is nothing. Does not
    /// wait.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn recv_batch(&mut self, mut each: impl FnMut(Message<'_>)) -> Result<usize> {
        self.finish_handed_out();
        if !self.received.batch.has_next() && !self.fill()? {
            return Ok(0);
        }
        let (first, count) = (self.received.batch.next(), self.received.batch.count());
        for index in first..count {
            if let Some(message) = self.received.message(index) {
                each(message);
            }
        }
        self.received.batch.advance_to(count);
        Ok(count - first)
    }

    /// Waits until there is a message, or until `deadline`. Says whether there is a message.
    ///
    /// # Errors
    ///
    /// As [`try_recv`](Self::try_recv).
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<bool> {
        self.finish_handed_out();
        loop {
            if self.received.batch.has_next() || self.fill()? {
                return Ok(true);
            }
            if self.pending() {
                continue;
            }
            match spin_until(self.received.spin, deadline, || Ok(self.spin_sources(SPIN_ITERATIONS)))? {
                SpinResult::Found => {}
                SpinResult::Late => return Ok(false),
                SpinResult::Enough if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Ok(false);
                }
                SpinResult::Enough => {
                    if self.arm_sources() {
                        self.sleep(deadline)?;
                    }
                }
            }
        }
    }

    /// Under [`AckMode::Batch`], asking for the next message means that all messages that were handed out are done.
    #[inline]
    fn finish_handed_out(&mut self) {
        if self.pending.mode() == AckMode::Batch && self.received.done < self.received.batch.next() {
            self.acknowledge_handed_out();
        }
    }

    fn acknowledge_handed_out(&mut self) {
        while self.received.done < self.received.batch.next() {
            let message =
                self.received.message(self.received.done).map(|message| (message.source, message.sequence));
            self.received.done += 1;
            if let Some((source, sequence)) = message {
                let due = self.pending.done(source, sequence);
                self.acknowledge_due(due);
                let due = self.pending.enough();
                self.acknowledge_due(due);
            }
        }
    }

    /// Waits until `count` publishers are attached, or until `timeout` has passed. Says whether they are attached.
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
            // Not armed: publishers have no reason to ring here. Only the bus thread has one.
            self.sleep(deadline)?;
        }
    }

    /// Takes the next batch into the slab. False means that there is none.
    fn fill(&mut self) -> Result<bool> {
        let mut buffers = self.received.batch.begin();
        (self.received.large, self.received.done) = (None, 0);
        let due = self.pending.late();
        self.acknowledge_due(due);
        let drained = loop {
            match self.drain_messages(&mut buffers.slab, &mut buffers.table) {
                Ok(Drained::NeedSlab(bytes)) => buffers.grow(bytes),
                other => break other,
            }
        };
        let (source, count, sequence, time) = match drained {
            Ok(Drained::Batch { source, count, batch_sequence, batch_time, .. }) => {
                (source, count, batch_sequence, batch_time)
            }
            Ok(Drained::Large { source, bytes, sequence, time }) => {
                self.received.large = self.take_large();
                let whole = Entry { length: bytes as u32, batch: Entry::CONTINUED, ..Entry::default() };
                buffers.table[0] = whole;
                (source, 1, sequence, time)
            }
            other => {
                self.received.batch.end(buffers, 0);
                return match other {
                    // Notices wait until they are asked for. The end of the bus does not wait.
                    Ok(Drained::Notice) if self.closed => Err(Error::Closed { what: "bus" }),
                    Ok(_) => Ok(false),
                    Err(error) => Err(error),
                };
            }
        };
        self.received.batch.end(buffers, count);
        self.received.source = source;
        self.received.redelivered_below = self.redelivered_below(source);
        (self.received.batch_sequence, self.received.batch_time) = (sequence, time);
        Ok(true)
    }
}
