//! What endpoints count, in plain numbers that can be printed as JSON. All counters are totals since the beginning.

use crate::record::{Fallback, Rung};
use ringbell_ring::{PublisherCounters, SlotState, SlotView};
use serde::Serialize;

/// Counters that the publisher keeps in the data segment, where every subscriber can read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicCounters {
    /// Messages committed. One that is sent in pieces counts with its last.
    pub messages: u64,
    /// Bytes of payload committed, those of single pieces among them.
    pub bytes: u64,
    /// Times that a message found no room.
    pub full: u64,
    /// Messages dropped under `drop-newest`.
    pub dropped: u64,
    /// Doorbells rung.
    pub rings: u64,
    /// Subscribers evicted or expelled.
    pub evicted: u64,
    /// Slots of dead subscribers freed.
    pub reaped: u64,
    /// Largest backlog in bytes that was seen when the publisher was short of room.
    pub high_water: u64,
    /// Pieces of large messages committed.
    pub fragments: u64,
    /// Bytes committed, headers included.
    pub head: u64,
    /// Bytes given up to be overwritten.
    pub floor: u64,
    /// Whether the topic is closed.
    pub closed: bool,
}

/// A publisher's own view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublisherStats {
    /// Totals.
    #[serde(flatten)]
    pub counters: TopicCounters,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Bytes that can be written before the slots are looked at again.
    pub free: u64,
    /// Times that this publisher went to sleep for want of room.
    pub waits: u64,
    /// The rungs that it offers.
    pub offers: Vec<Rung>,
    /// Why not those that it was to offer besides.
    pub fallbacks: Vec<Fallback>,
    /// The attached subscribers that are alive, and the durable positions that are kept for those who are not.
    pub subscribers: Vec<SlotStats>,
}

/// One attached subscriber. All but `slot` and `backlog` is by its own account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStats {
    /// Index of its slot.
    pub slot: usize,
    /// `joining`, `active`, `evicted`, `expelled`, or `parked`: nobody reads, and a durable position is kept.
    pub state: &'static str,
    /// Bytes that it has still to read.
    pub backlog: u64,
    /// Messages it received.
    pub received: u64,
    /// Messages it missed.
    pub missed: u64,
    /// Times it was woken.
    pub wakeups: u64,
    /// Its process, in its own pid namespace.
    pub pid: u32,
    /// By which rung it reads; none until it has said so.
    pub rung: Option<Rung>,
    /// Whether its position is kept under a name.
    pub durable: bool,
    /// What it has to acknowledge. Kept up to date by those with a durable name, at each acknowledgement by others.
    pub acks: AckStats,
    /// Of a guest: its user, by the kernel's word. Only the publisher knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// How far acknowledgements lag behind, and what was delivered more than once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AckStats {
    /// Messages taken out of the ring whose acknowledgement was not told to the publisher.
    pub pending: u64,
    /// Times that acknowledgements were told to the publisher. Not counted where every read acknowledges and no name is kept.
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

/// A subscriber's own view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriberStats {
    /// Messages received, from all publishers there ever were.
    pub received: u64,
    /// Messages missed.
    pub missed: u64,
    /// Times that it was woken from sleep.
    pub wakeups: u64,
    /// Times that it rang a publisher that waited for room, and reports sent over streams.
    pub rings: u64,
    /// Acknowledgements; what is pending, of the publishers that there are now.
    pub acks: AckStats,
    /// The publishers that it is attached to.
    pub sources: Vec<SourceStats>,
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
    /// Its process.
    pub pid: u32,
    /// How the segments were acquired.
    pub rung: Rung,
    /// Why not by a better rung.
    pub fallbacks: Vec<Fallback>,
    /// As a guest: the publisher is another user's, and the control segment, if there is one, this subscriber's own.
    pub guest: bool,
    /// Index of the slot there.
    pub slot: usize,
    /// Messages received from it.
    pub received: u64,
    /// Messages missed.
    pub missed: u64,
    /// Bytes that are still to be read.
    pub backlog: u64,
    /// Acknowledgements.
    pub acks: AckStats,
    /// The publisher's counters; over a stream, as it told them last.
    pub publisher: TopicCounters,
    /// All subscribers of that publisher, this one among them, and the positions that it keeps.
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
    /// What a slot shows, if it is to be shown: its owner is alive, or a position is kept there.
    pub(super) fn of(view: SlotView, alive: bool) -> Option<Self> {
        let kept = view.name_hash != 0 && matches!(view.state, SlotState::Active | SlotState::Parked);
        let mut stats = Self::from(view);
        if !alive && kept {
            // A dead owner's slot is active until the publisher has had a reason to look.
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
            rung: Rung::of_way(view.way),
        }
    }
}
