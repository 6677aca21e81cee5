//! What endpoints hand out besides messages: what one call of a subscriber brought, what happened to its publishers,
//! and what happened to the subscribers of a publisher.
//!
//! Plain values. `subscriber` and `publisher` make them, in the order in which things happened, and the caller reads
//! them. Nothing is decided here.

use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::Position;
use serde::Serialize;

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
        /// Size of its payload in bytes.
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

/// A subscriber that is attached to a publisher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AttachedSubscriber {
    /// Its number, unique within this publisher.
    pub number: u64,
    /// Index of its slot. Another subscriber may have the slot after it.
    pub slot: usize,
    /// Its process id, in its own pid namespace. It states this itself.
    pub pid: u32,
    /// The user id of a guest, as the kernel reports it. `None`: it is no guest, so it belongs to this user or to
    /// root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The rung by which it reads. It states this itself. `None` if it did not.
    pub rung: Option<Rung>,
    /// Whether its position is kept under a name.
    pub durable: bool,
}

/// How a subscriber ended, as far as its publisher can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriberEnd {
    /// It was closed.
    Closed,
    /// Its process died.
    Died,
    /// The publisher went on without it.
    Evicted(Eviction),
    /// It was closed or died. Over a stream both look the same. So they do if others had its slot before the publisher
    /// looked.
    Unknown,
}

/// Why a publisher went on without a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Eviction {
    /// It left no room for longer than `evict_after`.
    Stalled,
    /// It broke a rule of the protocol.
    BrokeRules,
    /// It was a guest, and a user with fewer guests needed its place.
    Displaced,
}

/// What a publisher reports of its subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublisherNotice {
    /// A subscriber has attached. It gets all messages from now on.
    Attached {
        /// The subscriber.
        subscriber: AttachedSubscriber,
    },
    /// A subscriber has been in the way of a message for half of the time after which it is evicted, and for a second
    /// at most. It is reported once for each stall, and not if the eviction comes before the next look.
    Stalled {
        /// The subscriber.
        subscriber: AttachedSubscriber,
        /// For how long it has been in the way.
        stalled_for: Duration,
    },
    /// The publisher went on without a subscriber. That it ended is reported next.
    Evicted {
        /// The subscriber.
        subscriber: AttachedSubscriber,
        /// Why.
        reason: Eviction,
    },
    /// A subscriber is gone.
    Ended {
        /// The subscriber.
        subscriber: AttachedSubscriber,
        /// How it ended.
        reason: SubscriberEnd,
    },
}
