//! What a subscriber hands out besides messages: what a turn brought, and what befell its publishers.
//!
//! Plain values; `subscriber` makes them, in the order in which things happened, and the caller reads them.

use std::sync::Arc;

use ringbell_ring::Position;

use crate::error::Error;
use crate::record::{Fallback, Record, Rung};

/// What one turn of [`Subscriber::drain`](super::Subscriber::drain) brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing new anywhere.
    Empty,
    /// A batch of messages of one source.
    Batch {
        /// Number of the source.
        source: u32,
        /// How many entries of the table are filled.
        count: usize,
        /// Bytes of the slab that are used, a multiple of 8.
        bytes: usize,
        /// First sequence of the batch that was under way when this one began; see [`Entry::CONTINUED`](super::Entry::CONTINUED).
        batch_sequence: u64,
        /// Its time, in nanoseconds of `CLOCK_MONOTONIC`.
        batch_time: u64,
    },
    /// A message that came in pieces, larger than its ring takes at once. It waits for
    /// [`Subscriber::take_large`](super::Subscriber::take_large), and nothing else comes before.
    Large {
        /// Number of the source.
        source: u32,
        /// Bytes of the message.
        bytes: usize,
        /// Its sequence.
        sequence: u64,
        /// When its first piece was committed, in nanoseconds of `CLOCK_MONOTONIC`.
        time: u64,
    },
    /// The next message needs this many bytes of slab.
    NeedSlab(usize),
    /// Something is to be told first: [`Subscriber::notices`](super::Subscriber::notices).
    Notice,
}

/// Why a source ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The publisher closed the topic, and everything was read.
    Closed,
    /// The publisher's process died; everything it had committed was read.
    Died,
    /// This subscriber was evicted, the publisher broke the protocol, or a stream was lost.
    Failed(Error),
}

/// What a subscriber is told besides messages.
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
        /// Why not by a better rung.
        fallbacks: Vec<Fallback>,
        /// What there was under the durable name, if this subscriber has one.
        position: Option<Position>,
        /// Messages before this sequence may have been delivered to an earlier holder of the name; 0 for none.
        redelivered_below: u64,
    },
    /// Nothing more of this publisher will follow.
    Ended {
        /// Number of the source.
        source: u32,
        /// Its record.
        record: Arc<Record>,
        /// Why.
        reason: EndReason,
    },
    /// Messages were overwritten before they were read, or came in pieces and were given up by their publisher, or were
    /// larger than this subscriber takes.
    Missed {
        /// Number of the source.
        source: u32,
        /// How many.
        messages: u64,
    },
    /// A stream was lost while its publisher lives, and could not be taken up again in as many tries as
    /// [`SubscriberOptions::reconnect`](super::SubscriberOptions::reconnect) allows. Nothing more is tried.
    GivenUp {
        /// The publisher's record.
        record: Arc<Record>,
        /// How often it was tried.
        tries: u32,
        /// What the last try came to.
        error: Error,
    },
    /// A publisher could not be attached. It is tried again where waiting can help.
    Failed {
        /// Its record.
        record: Arc<Record>,
        /// Why not.
        error: Error,
    },
}
