//! The options of a publisher and of a subscriber. Wrong options are refused at once, before anything is made.

use std::collections::BTreeMap;
use std::time::Duration;

use ringbell_ring::layout::MAX_SLOTS;
use ringbell_ring::{MAX_LARGE, Start};
use serde_json::{Map, Value};

use super::acks::AckMode;
use crate::bus::Filter;
use crate::error::{Error, Result};
use crate::record::{Access, GroupRecord, Overflow, Rung, StateKind, StateRecord};
use crate::segment::{self, DurableName};

/// How a topic behaves.
///
/// ```
/// use ringbell::bus::Overflow;
/// use ringbell::topic::PublisherOptions;
///
/// let options = PublisherOptions::default().capacity(64 << 10).overflow(Overflow::DropOldest).codec("json");
/// assert_eq!((options.capacity, options.codec.as_deref()), (65536, Some("json")));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublisherOptions {
    /// Size of the ring in bytes: a power of two from 4 KiB (at least a page) to 1 GiB. Default: 1 MiB.
    pub capacity: usize,
    /// What happens when the slowest subscriber leaves no room. Default: [`Overflow::Block`].
    pub overflow: Overflow,
    /// How many subscribers can attach at a time, 1 to 1,024. Default: 64.
    pub max_subscribers: u16,
    /// A subscriber that leaves no room for longer than this is evicted. Default: never.
    pub evict_after: Option<Duration>,
    /// Reads the clock for every message of [`send`](crate::topic::Publisher::send). By default, a publisher that sends
    /// more than 1,024 messages within a tick of the kernel (4 ms on most systems) reads it for every eighth of them, and
    /// the others have that time. Batches and large messages always have their exact time. Default: no.
    pub exact_time: bool,
    /// The role of the member of a service group that publishes; [`Publisher::set_group`](super::Publisher::set_group)
    /// changes it. Default: it is of no member.
    pub group: Option<GroupRecord>,
    /// More fields for the record, for any use.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Id of the codec of the payloads. Subscribers that expect another one are refused.
    pub codec: Option<String>,
    /// Id of the payload's schema.
    pub schema: Option<String>,
    /// Lets every process of this user trace this one, so that *direct* works under Yama's scope 1. Default: no,
    /// because it switches that protection off for the whole process.
    pub allow_direct: bool,
    /// The rungs that are offered. Default: all. If memory cannot be shared, only *stream* is offered.
    pub offers: Vec<Rung>,
    /// Which other users may subscribe, as guests. Default: none.
    pub access: Option<Access>,
    /// Announces a state in place of a topic.
    pub(crate) state: Option<StateRecord>,
}

impl Default for PublisherOptions {
    fn default() -> Self {
        Self {
            capacity: 1 << 20,
            overflow: Overflow::Block,
            max_subscribers: 64,
            evict_after: None,
            exact_time: false,
            group: None,
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            schema: None,
            allow_direct: false,
            offers: Rung::LADDER.to_vec(),
            access: None,
            state: None,
        }
    }
}

setters!(PublisherOptions {
    capacity: usize,
    overflow: Overflow,
    max_subscribers: u16,
    Some evict_after: Duration,
    exact_time: bool,
    Some group: GroupRecord,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    Text codec,
    Text schema,
    allow_direct: bool,
    offers: Vec<Rung>,
    Some access: Access,
});

impl PublisherOptions {
    pub(super) fn check(&self) -> Result<()> {
        segment::check_capacity(self.capacity)?;
        if !(1..=MAX_SLOTS).contains(&usize::from(self.max_subscribers)) {
            return Err(wrong("maxSubscribers", self.max_subscribers, format!("from 1 to {MAX_SLOTS}")));
        }
        if let Some(after) = self.evict_after
            && (after.is_zero() || self.overflow != Overflow::Block)
        {
            let rule =
                "it must be longer than zero, and overflow must be block: other topics are never stalled"
                    .to_owned();
            return Err(wrong("evictAfter", format!("{after:?}"), rule));
        }
        if self.offers.is_empty() {
            return Err(wrong(
                "offers",
                "[]",
                "it must be at least one of direct, handshake and stream".to_owned(),
            ));
        }
        let for_guests = |rung: &Rung| *rung != Rung::Direct;
        if self.access.is_some() && !self.offers.iter().any(for_guests) {
            let rule =
                "it must have the handshake or the stream if there is access: guests come by no other way"
                    .to_owned();
            return Err(wrong("offers", format!("{:?}", self.offers), rule));
        }
        Ok(())
    }
}

/// Which publishers a subscriber reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Every publisher of the topic.
    #[default]
    All,
    /// Of a service group, the primary: what it has sent to its end, and then what the next one sends. The subscriber is
    /// attached to every member, so that it misses nothing when another one becomes primary.
    Primary,
}

/// What a subscriber wants.
///
/// ```
/// use ringbell::topic::{AckMode, Start, SubscriberOptions};
///
/// let options = SubscriberOptions::default().from(Start::Earliest).ack(AckMode::Batch).durable("billing");
/// assert_eq!(options.durable.as_deref(), Some("billing"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SubscriberOptions {
    /// Where to start with each publisher. Default: [`Start::Latest`].
    pub from: Start,
    /// Which publishers are read. Default: [`Route::All`].
    pub route: Route,
    /// Uses only this rung, instead of the best one that works. Default: none.
    pub acquire: Option<Rung>,
    /// Id of the codec that is expected. Publishers that announce another one are refused.
    pub codec: Option<String>,
    /// Id of the schema that is expected. Publishers that announce another one, or none, are refused.
    pub schema: Option<String>,
    /// Size in bytes of the largest message in pieces that is taken, up to 1 GiB. Larger ones are counted as missed.
    /// The limit is there because a publisher's announcement is enough to reserve that much memory here. Messages
    /// that the ring takes at once are not limited. Default: 64 MiB.
    pub max_message: usize,
    /// When messages count as done. Any mode but [`AckMode::Immediate`] needs a `block` topic; other topics are
    /// refused.
    pub ack: AckMode,
    /// Under [`AckMode::Batch`], this many messages are acknowledged together, 8 to 256. Default: 32.
    pub ack_batch: u16,
    /// Under [`AckMode::Batch`], the longest time that a done message waits for its acknowledgement, 1 to 50 ms. The
    /// time is looked at when the caller asks for messages. Default: 5 ms.
    pub ack_interval: Duration,
    /// Keeps this subscriber's position at each publisher under this name, as long as that publisher lives. A
    /// subscriber that comes back under the name goes on behind the last acknowledged message, whatever `from` says.
    /// A name has one holder at a time. It needs a `block` topic. Default: none.
    pub durable: Option<String>,
    /// Reads only the publisher whose instance has this id. Default: every one.
    pub instance: Option<String>,
    /// What to do when the connection of a stream ends while its publisher lives.
    pub reconnect: Reconnect,
    /// Reads states in place of topics: those with keys, or those without.
    pub(crate) state: Option<StateKind>,
}

impl Default for SubscriberOptions {
    fn default() -> Self {
        Self {
            from: Start::Latest,
            route: Route::All,
            acquire: None,
            codec: None,
            schema: None,
            max_message: 64 << 20,
            ack: AckMode::Immediate,
            ack_batch: 32,
            ack_interval: Duration::from_millis(5),
            durable: None,
            instance: None,
            reconnect: Reconnect::default(),
            state: None,
        }
    }
}

setters!(SubscriberOptions {
    from: Start,
    route: Route,
    Some acquire: Rung,
    Text codec,
    Text schema,
    max_message: usize,
    ack: AckMode,
    ack_batch: u16,
    ack_interval: Duration,
    Text durable,
    Text instance,
    reconnect: Reconnect,
});

/// How a lost stream is connected again. The pauses between the tries double, and each varies by up to a quarter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How many tries there are before the stream is given up. 0 means no limit. Default: 5.
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
    /// Whether there is another try after this many.
    pub(super) fn more(&self, tries: u32) -> bool {
        self.tries == 0 || tries < self.tries
    }
}

impl SubscriberOptions {
    pub(super) fn check(&self) -> Result<()> {
        if !(1..=MAX_LARGE).contains(&self.max_message) {
            return Err(wrong(
                "maxMessage",
                self.max_message,
                format!("it must be from 1 to {MAX_LARGE} bytes"),
            ));
        }
        if !(8..=256).contains(&self.ack_batch) {
            return Err(wrong("ackBatch", self.ack_batch, "it must be from 8 to 256".to_owned()));
        }
        if !(Duration::from_millis(1)..=Duration::from_millis(50)).contains(&self.ack_interval) {
            return Err(wrong(
                "ackInterval",
                format!("{:?}", self.ack_interval),
                "it must be from 1 to 50 ms".to_owned(),
            ));
        }
        self.durable_name()?;
        let Reconnect { first, longest, .. } = self.reconnect;
        if first.is_zero() || longest < first {
            let rule =
                "it must be a first pause longer than zero, and a longest that is not shorter".to_owned();
            return Err(wrong("reconnect", format!("{first:?} to {longest:?}"), rule));
        }
        Ok(())
    }

    /// Whether the primary of a group is followed. That is a group of one name.
    pub(super) fn following(&self, filter: &Filter) -> Result<bool> {
        match (self.route, filter) {
            (Route::All, _) => Ok(false),
            (Route::Primary, Filter::Exact(_)) => Ok(true),
            (Route::Primary, _) => Err(wrong(
                "route",
                "primary",
                "it must be all for a pattern: each name has a primary of its own".into(),
            )),
        }
    }

    pub(super) fn durable_name(&self) -> Result<Option<DurableName>> {
        self.durable.as_deref().map(DurableName::parse).transpose()
    }

    /// Why a topic with this policy cannot be joined; `None` if it can.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_may_be_evicted_after_any_time_but_zero() {
        let after =
            |time| PublisherOptions { evict_after: Some(time), ..PublisherOptions::default() }.check();
        assert_eq!(after(Duration::from_nanos(1)), Ok(()));
        assert_eq!(after(Duration::MAX), Ok(()));
        assert_eq!(after(Duration::ZERO).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    }
}
