//! The options of a state and of its readers. They become those of a topic's publisher and subscriber.

use std::collections::BTreeMap;

use ringbell_ring::layout::{MAX_CAPACITY, MAX_SLOTS};
use ringbell_ring::{BATCH_OVERHEAD, Start, padded};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::{Access, Overflow, Rung, StateKind, StateRecord};
use crate::segment;
use crate::topic::{PublisherOptions, SubscriberOptions};

/// How the messages of a kind of state lie in its ring.
pub(super) struct Layout {
    pub(super) kind: StateKind,
    /// Bytes of a message besides its value.
    pub(super) extra: usize,
    /// A message takes at most this part of the ring.
    pub(super) part: usize,
    /// The smallest ring that is chosen when none is asked for.
    pub(super) smallest: usize,
}

/// How a state behaves.
///
/// ```
/// use ringbell::state::StateOptions;
///
/// let options = StateOptions::default().size(64).codec("json");
/// assert_eq!((options.size, options.codec.as_deref()), (64, Some("json")));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StateOptions {
    /// The largest value in bytes; with keys, a key and its value together. Default: 16 KiB.
    pub size: usize,
    /// Size of the ring in bytes: a power of two from 4 KiB (at least a page) to 1 GiB. A value and its header may have a
    /// quarter of it; with keys an eighth, and all keys and values together half. Default: what `size` needs, and with
    /// keys 1 MiB at least.
    pub capacity: Option<usize>,
    /// How many readers can attach at a time, 1 to 1,024. Default: 64.
    pub max_readers: u16,
    /// More fields for the record, for any use.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Id of the codec of the values. Readers that expect another one are refused.
    pub codec: Option<String>,
    /// Id of the values' schema.
    pub schema: Option<String>,
    /// As [`PublisherOptions::allow_direct`].
    pub allow_direct: bool,
    /// The rungs that are offered. Default: all.
    pub offers: Vec<Rung>,
    /// Which other users may read it, as guests. Default: none.
    pub access: Option<Access>,
    /// The epoch of a claim on the name that the caller holds as long as the state. Default: the name is claimed for the
    /// state, and released with it.
    pub epoch: Option<u64>,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            size: 16 << 10,
            capacity: None,
            max_readers: 64,
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            schema: None,
            allow_direct: false,
            offers: Rung::LADDER.to_vec(),
            access: None,
            epoch: None,
        }
    }
}

setters!(StateOptions {
    size: usize,
    Some capacity: usize,
    max_readers: u16,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    Text codec,
    Text schema,
    allow_direct: bool,
    offers: Vec<Rung>,
    Some access: Access,
    Some epoch: u64,
});

impl StateOptions {
    /// The options of the publisher whose messages lie so in the ring.
    pub(super) fn publisher(self, layout: &Layout, epoch: u64) -> Result<PublisherOptions> {
        let Layout { kind, extra, part, smallest } = *layout;
        if !(1..=MAX_SLOTS).contains(&usize::from(self.max_readers)) {
            let rule = format!("it must be from 1 to {MAX_SLOTS}");
            return Err(Error::InvalidOption {
                option: "maxReaders",
                value: self.max_readers.to_string(),
                rule,
            });
        }
        let whole = |capacity: usize| capacity / part - BATCH_OVERHEAD - padded(extra);
        let most = whole(MAX_CAPACITY);
        if !(1..=most).contains(&self.size) {
            let rule = format!("it must be from 1 to {most} bytes");
            return Err(Error::InvalidOption { option: "size", value: self.size.to_string(), rule });
        }
        let needed = (part * (BATCH_OVERHEAD + padded(self.size + extra))).next_power_of_two();
        let capacity = self.capacity.unwrap_or(needed.max(smallest));
        segment::check_capacity(capacity)?;
        if capacity < needed {
            let rule = format!("a value of {} bytes needs a ring of {needed} bytes", self.size);
            return Err(Error::InvalidOption { option: "capacity", value: capacity.to_string(), rule });
        }
        let options = PublisherOptions {
            capacity,
            overflow: Overflow::DropOldest,
            max_subscribers: self.max_readers,
            metadata: self.metadata,
            endpoints: self.endpoints,
            codec: self.codec,
            schema: self.schema,
            allow_direct: self.allow_direct,
            offers: self.offers,
            access: self.access,
            state: Some(StateRecord { kind, epoch, size: self.size as u64 }),
            ..PublisherOptions::default()
        };
        Ok(options)
    }
}

/// What a reader of a state wants.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StateReaderOptions {
    /// Uses only this rung, instead of the best one that works. Default: none.
    pub acquire: Option<Rung>,
    /// Id of the codec that is expected. States that announce another one are refused.
    pub codec: Option<String>,
    /// What to do when the connection of a stream ends while its writer lives.
    pub reconnect: crate::topic::Reconnect,
}

setters!(StateReaderOptions {
    Some acquire: Rung,
    Text codec,
    reconnect: crate::topic::Reconnect,
});

impl StateReaderOptions {
    pub(super) fn subscriber(self, kind: StateKind) -> SubscriberOptions {
        SubscriberOptions {
            // A stream brings what the ring still holds, and so the value that was set last.
            from: Start::Earliest,
            acquire: self.acquire,
            codec: self.codec,
            reconnect: self.reconnect,
            state: Some(kind),
            ..SubscriberOptions::default()
        }
    }
}
