//! What a subscriber hands out besides messages: what one call brought, and what happened to its publishers.
//!
//! Plain values. `subscriber` makes them, in the order in which things happened, and the caller reads them. Nothing
//! is decided here.

use std::sync::Arc;

use ringbell_ring::Position;

use crate::error::Error;
use crate::port::End;
use crate::record::{Fallback, Record, Rung};

/// What one call of [`Subscriber::drain`](super::Subscriber::drain) brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// There is nothing new from any source.
    Empty,
    /// A batch of messages of one source.
    Batch {
        /// Number of the source.
        source: u32,
        /// How many entries of the table are filled.
        count: usize,
        /// Bytes of the slab that are used, a multiple of 8.
        bytes: usize,
        /// First sequence of the batch that was already begun when this one was read; see
        /// [`Entry::CONTINUED`](super::Entry::CONTINUED).
        batch_sequence: u64,
        /// The time of that batch, in nanoseconds of `CLOCK_MONOTONIC`.
        batch_time: u64,
    },
    /// A message that came in pieces, because it is larger than its ring takes at once. It waits for
    /// [`Subscriber::take_large`](super::Subscriber::take_large). Until then nothing else comes.
    Large {
        /// Number of the source.
        source: u32,
        /// Size of the message in bytes.
        bytes: usize,
        /// Its sequence number.
        sequence: u64,
        /// When its first piece was committed, in nanoseconds of `CLOCK_MONOTONIC`.
        time: u64,
    },
    /// The next message needs a slab with this many bytes.
    NeedSlab(usize),
    /// There are notices, and they come first: call [`Subscriber::notices`](super::Subscriber::notices).
    Notice,
}

/// Why a source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The publisher closed the topic, and everything was read.
    Closed,
    /// The publisher's process died, and everything that it had committed was read.
    Died,
    /// This subscriber was evicted, the publisher broke the protocol, or a stream was lost.
    Failed(Error),
}

impl EndReason {
    /// The reason by which the end of this publisher's flow is reported. `None`: it is not known yet whether the
    /// publisher lives.
    pub(super) fn of(end: End, record: &Record) -> Option<EndReason> {
        Some(match end {
            End::Closed => EndReason::Closed,
            End::Died => EndReason::Died,
            End::Disconnected => EndReason::Failed(Error::Disconnected { service: record.service.clone() }),
            End::Unreadable => EndReason::Failed(End::unreadable()),
            End::Severed => return None,
        })
    }
}

/// What a subscriber reports besides messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// Messages of this publisher will follow.
    Attached {
        /// Number of the source, unique within this subscriber.
        source: u32,
        /// Its record.
        record: Arc<Record>,
        /// How its segments were acquired.
        rung: Rung,
        /// Why no better rung was used.
        fallbacks: Vec<Fallback>,
        /// The position that was kept under the durable name. `None` if this subscriber has no name.
        position: Option<Position>,
        /// Messages before this sequence may have been delivered to an earlier holder of the name. 0 means none.
        redelivered_below: u64,
    },
    /// Nothing more of this publisher will follow.
    Ended {
        /// Number of the source.
        source: u32,
        /// Its record.
        record: Arc<Record>,
        /// Why it ended.
        reason: EndReason,
    },
    /// Messages of this publisher are lost for this subscriber. They were overwritten before they were read, or they
    /// came in pieces and their publisher gave them up, or they were larger than this subscriber takes.
    Missed {
        /// Number of the source.
        source: u32,
        /// How many messages.
        messages: u64,
    },
    /// A stream was lost although its publisher lives, and it could not be connected again in the tries that
    /// [`SubscriberOptions::reconnect`](super::SubscriberOptions::reconnect) allows. There are no more tries.
    GivenUp {
        /// The publisher's record.
        record: Arc<Record>,
        /// How many tries there were.
        tries: u32,
        /// The error of the last try.
        error: Error,
    },
    /// A publisher could not be attached. If time can help, it is tried again.
    Failed {
        /// Its record.
        record: Arc<Record>,
        /// Why it could not be attached.
        error: Error,
    },
    /// The bus directory cannot be read, so publishers may be missing. It is tried again, and this notice comes once
    /// until all of it can be read.
    Unreadable {
        /// Why it cannot be read.
        error: Error,
    },
}
