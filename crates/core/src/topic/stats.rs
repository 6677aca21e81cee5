//! What endpoints count, in plain numbers that can be printed as JSON. Every counter is a total since the beginning.

use crate::port::ReaderCounters;
use crate::record::{Fallback, Rung};
use ringbell_ring::{PublisherCounters, SlotState, SlotView};
use serde::Serialize;

/// Counters that the publisher keeps in the data segment, where every subscriber can read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicCounters {
    /// Messages committed. A message in pieces counts when its last piece is committed.
    pub messages: u64,
    /// Bytes of payload committed. Single pieces count at once.
    pub bytes: u64,
    /// How often a message found no room.
    pub full: u64,
    /// Messages dropped under `drop-newest`.
    pub dropped: u64,
    /// Doorbells rung.
    pub rings: u64,
    /// Subscribers evicted or expelled.
    pub evicted: u64,
    /// Slots of dead subscribers freed.
    pub reaped: u64,
    /// Largest backlog in bytes at a moment when the publisher had no room.
    pub high_water: u64,
    /// Pieces of large messages committed.
    pub fragments: u64,
    /// Bytes committed, headers included.
    pub head: u64,
    /// Bytes whose place in the ring may be overwritten.
    pub floor: u64,
    /// Whether the topic is closed.
    pub closed: bool,
}

/// What a publisher knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublisherStats {
    /// Totals.
    #[serde(flatten)]
    pub counters: TopicCounters,
    /// Size of the ring in bytes.
    pub capacity: u64,
    /// Bytes that can be written before the publisher looks at the slots again.
    pub free: u64,
    /// How often this publisher went to sleep because there was no room.
    pub waits: u64,
    /// The rungs that it offers.
    pub offers: Vec<Rung>,
    /// Why it does not offer the other rungs that it should offer.
    pub fallbacks: Vec<Fallback>,
    /// The attached subscribers that are alive, and the durable positions without a living holder.
    pub subscribers: Vec<SlotStats>,
}

/// One attached subscriber. It reports all of this itself, except `slot`, `backlog` and `uid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStats {
    /// Index of its slot.
    pub slot: usize,
    /// `joining`, `active`, `evicted`, `expelled`, or `parked`: no process reads here, and a durable position is
    /// kept.
    pub state: &'static str,
    /// Bytes that it still has to read.
    pub backlog: u64,
    /// Messages it received.
    pub received: u64,
    /// Messages it missed.
    pub missed: u64,
    /// How often it was woken.
    pub wakeups: u64,
    /// Its process id, in its own pid namespace.
    pub pid: u32,
    /// The rung by which it reads. `None` until it has reported it.
    pub rung: Option<Rung>,
    /// Whether its position is kept under a name.
    pub durable: bool,
    /// Its acknowledgements. With a durable name they are always up to date. Without a name they are updated at each
    /// acknowledgement.
    pub acks: AckStats,
    /// The user id of a guest, as the kernel reports it. Only the publisher knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// How far acknowledgements lag behind, and what was delivered more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AckStats {
    /// Messages that were read out of the ring and whose acknowledgement the publisher does not have yet.
    pub pending: u64,
    /// How often acknowledgements were told to the publisher. It is not counted when every read acknowledges and
    /// there is no durable name.
    pub flushed: u64,
    /// Messages that an earlier holder of the durable name may have seen.
    pub redelivered: u64,
}

impl std::ops::Add for AckStats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            pending: self.pending + other.pending,
            flushed: self.flushed + other.flushed,
            redelivered: self.redelivered + other.redelivered,
        }
    }
}

/// What a subscriber knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriberStats {
    /// Messages received from all publishers, past ones included.
    pub received: u64,
    /// Messages missed.
    pub missed: u64,
    /// How often it was woken from sleep.
    pub wakeups: u64,
    /// How often it rang a publisher that waited for room, and how many reports it sent over streams.
    pub rings: u64,
    /// Acknowledgements. `pending` counts only the present publishers.
    pub acks: AckStats,
    /// The publishers that it is attached to.
    pub sources: Vec<SourceStats>,
}

/// What sources have counted.
#[derive(Clone, Copy, Default)]
pub(super) struct Past {
    pub(super) received: u64,
    pub(super) missed: u64,
    pub(super) rings: u64,
    pub(super) acks: AckStats,
}

impl Past {
    /// Adds what one source has counted.
    pub(super) fn add(&mut self, counters: ReaderCounters, acks: AckStats) {
        self.received += counters.received;
        self.missed += counters.missed;
        self.rings += counters.rings;
        self.acks = self.acks + acks;
    }
}

/// One publisher that a subscriber is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStats {
    /// Number of the source, as in batches and notices.
    pub source: u32,
    /// The service.
    pub service: String,
    /// The instance.
    pub id: String,
    /// Its process id.
    pub pid: u32,
    /// How the segments were acquired.
    pub rung: Rung,
    /// Why no better rung was used.
    pub fallbacks: Vec<Fallback>,
    /// Whether it is a guest: the publisher belongs to another user. If there is a control segment, this subscriber
    /// has its own.
    pub guest: bool,
    /// Index of this subscriber's slot at the publisher.
    pub slot: usize,
    /// Messages received from it.
    pub received: u64,
    /// Messages missed.
    pub missed: u64,
    /// Bytes that this subscriber still has to read.
    pub backlog: u64,
    /// Acknowledgements.
    pub acks: AckStats,
    /// The publisher's counters. Over a stream, they are as the publisher reported them last.
    pub publisher: TopicCounters,
    /// All subscribers of that publisher, this one included, and the durable positions that it keeps.
    pub subscribers: Vec<SlotStats>,
}

impl From<PublisherCounters> for TopicCounters {
    fn from(counters: PublisherCounters) -> Self {
        let PublisherCounters {
            messages,
            bytes,
            full,
            dropped,
            rings,
            evicted,
            reaped,
            high_water,
            fragments,
            head,
            floor,
            closed,
        } = counters;
        Self {
            messages,
            bytes,
            full,
            dropped,
            rings,
            evicted,
            reaped,
            high_water,
            fragments,
            head,
            floor,
            closed,
        }
    }
}

impl SlotStats {
    /// What is shown of a slot. `None` if there is nothing to show: its owner is dead, and it keeps no position.
    pub(super) fn of(view: SlotView, alive: bool) -> Option<Self> {
        let kept = view.name_hash != 0 && matches!(view.state, SlotState::Active | SlotState::Parked);
        let mut stats = Self::from(view);
        if !alive && kept {
            // A dead owner's slot stays active until the publisher has a reason to look at it.
            stats.state = "parked";
        }
        (alive || kept).then_some(stats)
    }
}

impl From<SlotView> for SlotStats {
    fn from(view: SlotView) -> Self {
        Self {
            slot: view.index,
            state: match view.state {
                SlotState::Free => "free",
                SlotState::Joining => "joining",
                SlotState::Active => "active",
                SlotState::Evicted => "evicted",
                SlotState::Expelled => "expelled",
                SlotState::Parked => "parked",
            },
            backlog: view.backlog,
            received: view.received,
            missed: view.missed,
            wakeups: view.wakeups,
            pid: view.pid,
            durable: view.name_hash != 0,
            acks: AckStats { pending: view.pending, flushed: view.flushed, redelivered: view.redelivered },
            uid: None,
            rung: Rung::from_code(view.way),
        }
    }
}
