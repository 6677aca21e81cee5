//! What can be asked of a publisher and of a subscriber, and which wishes are refused at once.

use std::collections::BTreeMap;
use std::time::Duration;

use ringbell_ring::layout::MAX_SLOTS;
use ringbell_ring::{MAX_LARGE, Start};
use serde_json::{Map, Value};

use super::acks::AckMode;
use crate::error::{Error, Result};
use crate::record::{Access, Overflow, Rung};
use crate::segment::{self, DurableName};

/// How a topic behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublisherOptions {
    /// Bytes of the ring: a power of two from 4 KiB (at least a page) to 1 GiB. Default: 1 MiB.
    pub capacity: usize,
    /// What happens when the slowest subscriber leaves no room. Default: [`Overflow::Block`].
    pub overflow: Overflow,
    /// How many subscribers can attach at a time, 1 to 1,024. Default: 64.
    pub max_subscribers: u16,
    /// A subscriber that leaves no room for longer is evicted. Default: never.
    pub evict_after: Option<Duration>,
    /// What the record shall say besides.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Id of the codec that the payloads are in; subscribers that expect another one are refused.
    pub codec: Option<String>,
    /// Id of the payload's schema.
    pub schema: Option<String>,
    /// Lets any process of this user trace this one, so that *direct* works under Yama's scope 1. Off by default: it
    /// switches that protection off for the whole process.
    pub allow_direct: bool,
    /// The rungs that are offered. Default: all. Where memory cannot be shared, the stream alone is.
    pub offers: Vec<Rung>,
    /// Which other users may subscribe, as guests. Default: none.
    pub access: Option<Access>,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            overflow: Overflow::Block,
            max_subscribers: 64,
            evict_after: None,
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            schema: None,
            allow_direct: false,
            offers: Rung::LADDER.to_vec(),
            access: None,
        }
    }
}

impl PublisherOptions {
    pub(super) fn check(&self) -> Result<()> {
        segment::check_capacity(self.capacity)?;
        if !(1..=MAX_SLOTS).contains(&usize::from(self.max_subscribers)) {
            return Err(wrong("maxSubscribers", self.max_subscribers, format!("from 1 to {MAX_SLOTS}")));
        }
        if let Some(after) = self.evict_after
            && (after < Duration::from_millis(1) || self.overflow != Overflow::Block)
        {
            let rule =
                "at least 1 ms, and only where overflow is block: nobody stalls another topic".to_owned();
            return Err(wrong("evictAfter", format!("{after:?}"), rule));
        }
        if self.offers.is_empty() {
            return Err(wrong("offers", "[]", "at least one of direct, handshake and stream".to_owned()));
        }
        let for_guests = |rung: &Rung| *rung != Rung::Direct;
        if self.access.is_some() && !self.offers.iter().any(for_guests) {
            let rule =
                "with access the handshake or the stream among them: guests come by no other way".to_owned();
            return Err(wrong("offers", format!("{:?}", self.offers), rule));
        }
        Ok(())
    }
}

/// What a subscriber wants.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriberOptions {
    /// Where to start with each publisher. Default: [`Start::Latest`].
    pub from: Start,
    /// Takes this rung only, instead of the best that works.
    pub acquire: Option<Rung>,
    /// Id of the codec that is expected; publishers that announce another one are refused.
    pub codec: Option<String>,
    /// Largest message in pieces that is taken, up to 1 GiB, because a publisher's word is enough to have as much memory
    /// reserved for it; larger ones are missed. What a ring takes at once is not limited. Default: 64 MiB.
    pub max_message: usize,
    /// When messages count as done. Anything but [`AckMode::Immediate`] is for `block` topics; others are refused.
    pub ack: AckMode,
    /// Under [`AckMode::Batch`], so many messages are acknowledged at once, 8 to 256. Default: 32.
    pub ack_batch: u16,
    /// Under [`AckMode::Batch`], what is done waits no longer, 1 to 50 ms. Looked at while messages are asked for. Default: 5 ms.
    pub ack_interval: Duration,
    /// Keeps this subscriber's place at each publisher under a name, as long as that publisher lives: who comes back under
    /// it goes on behind the last acknowledged message, whatever `from` says. One holder at a time; `block` topics only.
    pub durable: Option<String>,
    /// What to do when the connection of a stream ends while its publisher lives.
    pub reconnect: Reconnect,
}

impl Default for SubscriberOptions {
    fn default() -> Self {
        Self {
            from: Start::Latest,
            acquire: None,
            codec: None,
            max_message: 64 << 20,
            ack: AckMode::Immediate,
            ack_batch: 32,
            ack_interval: Duration::from_millis(5),
            durable: None,
            reconnect: Reconnect::default(),
        }
    }
}

/// How a lost stream is taken up again: after pauses that double, each up to a quarter off either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How often it is tried before it is given up; 0: for ever. Default: 5.
    pub tries: u32,
    /// The pause before the first try. Default: 1 s.
    pub first: Duration,
    /// The longest pause. Default: 30 s.
    pub longest: Duration,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { tries: 5, first: Duration::from_secs(1), longest: Duration::from_secs(30) }
    }
}

impl Reconnect {
    /// Whether it is tried once more after so many tries.
    pub(super) fn more(&self, tries: u32) -> bool {
        self.tries == 0 || tries < self.tries
    }
}

impl SubscriberOptions {
    pub(super) fn check(&self) -> Result<()> {
        if !(1..=MAX_LARGE).contains(&self.max_message) {
            return Err(wrong("maxMessage", self.max_message, format!("from 1 to {MAX_LARGE} bytes")));
        }
        if !(8..=256).contains(&self.ack_batch) {
            return Err(wrong("ackBatch", self.ack_batch, "from 8 to 256".to_owned()));
        }
        if !(Duration::from_millis(1)..=Duration::from_millis(50)).contains(&self.ack_interval) {
            return Err(wrong(
                "ackInterval",
                format!("{:?}", self.ack_interval),
                "from 1 to 50 ms".to_owned(),
            ));
        }
        self.durable_name()?;
        let Reconnect { first, longest, .. } = self.reconnect;
        if first.is_zero() || longest < first {
            let rule = "a first pause longer than zero, and a longest that is not shorter".to_owned();
            return Err(wrong("reconnect", format!("{first:?} to {longest:?}"), rule));
        }
        Ok(())
    }

    pub(super) fn durable_name(&self) -> Result<Option<DurableName>> {
        self.durable.as_deref().map(DurableName::parse).transpose()
    }

    /// Why a topic of this kind cannot be joined, if it cannot.
    pub(super) fn refuses(&self, overflow: Overflow) -> Option<&'static str> {
        match (overflow, self.ack, &self.durable) {
            (Overflow::Block, ..) | (_, AckMode::Immediate, None) => None,
            (_, _, Some(_)) => Some("a durable position is kept on block topics only"),
            _ => Some("acknowledgements hold back block topics only; use ack: 'immediate'"),
        }
    }
}

fn wrong(option: &'static str, value: impl ToString, rule: String) -> Error {
    Error::InvalidOption { option, value: value.to_string(), rule }
}
