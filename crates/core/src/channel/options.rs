//! What can be asked of a channel, and which wishes are refused at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::{Access, Rung};
use crate::segment;

/// Bytes of a connection's rings unless somebody wants it otherwise.
pub(super) const CAPACITY: usize = 64 << 10;
/// Longest that a handshake is waited for unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_CONNECTIONS: u32 = 65_535;

/// How a server behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The record's kind, where what is served is not for everybody's calls (a work queue). Default: `server`.
    pub kind: Option<String>,
    /// Bytes of each of a connection's two rings where the client does not ask for less: a power of two from 4 KiB to
    /// 1 GiB, and the most that a client gets. Default: 64 KiB.
    pub capacity: usize,
    /// The rungs that clients may use, *handshake* and *stream*. Default: both; where no memory can be shared, *stream* alone.
    pub offers: Vec<Rung>,
    /// Connections at a time, 1 to 65,535. Who comes when all are taken waits. Default: 1,024.
    pub max_connections: u32,
    /// What the record shall say besides.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Id of the codec that the payloads are in; clients that expect another one are refused.
    pub codec: Option<String>,
    /// Id of the payload's schema.
    pub schema: Option<String>,
    /// Which other users may connect. Default: none. Each connection has memory and doorbells of its own anyway, so there are no
    /// guests' places to be counted: [`Access::max_guests`] and [`Access::evict_after`] are a topic's alone.
    pub access: Option<Access>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            kind: None,
            capacity: CAPACITY,
            offers: vec![Rung::Handshake, Rung::Stream],
            max_connections: 1024,
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            schema: None,
            access: None,
        }
    }
}

impl ServerOptions {
    pub(super) fn check(&self) -> Result<()> {
        segment::check_capacity(self.capacity)?;
        if self.offers.is_empty() || self.offers.contains(&Rung::Direct) {
            return Err(Error::InvalidOption {
                option: "offers",
                value: format!("{:?}", self.offers),
                rule: "handshake, stream or both: a channel's rings are made at the handshake".into(),
            });
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.max_connections) {
            return Err(Error::InvalidOption {
                option: "maxConnections",
                value: self.max_connections.to_string(),
                rule: format!("from 1 to {MOST_CONNECTIONS}"),
            });
        }
        self.access.as_ref().map_or(Ok(()), check_access)
    }
}

/// What a topic alone has is not ignored in silence.
fn check_access(access: &Access) -> Result<()> {
    let (topics, rule) =
        (Access::default(), "a topic's alone; a server's connections count under maxConnections");
    let wrong = |option, value: String| Err(Error::InvalidOption { option, value, rule: rule.to_owned() });
    if access.max_guests != topics.max_guests {
        return wrong("access.maxGuests", access.max_guests.to_string());
    }
    if access.evict_after != topics.evict_after {
        return wrong("access.evictAfter", format!("{:?}", access.evict_after));
    }
    Ok(())
}

/// How an endpoint that connects behaves.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// Id of the codec that is expected; servers that announce another one are refused.
    pub codec: Option<String>,
}

/// What a client wants of one connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Bytes wanted of the ring that the client writes. The server may give less. Default: what the server has.
    pub send_capacity: Option<usize>,
    /// Bytes wanted of the ring that the server writes. Default: what the server has.
    pub receive_capacity: Option<usize>,
    /// Takes this rung only, instead of the best that works. *Direct* is the handshake here: the rings are made in it.
    pub acquire: Option<Rung>,
    /// How long the handshake may take, its repetitions included. Default: 30 s.
    pub timeout: Duration,
    /// Asks a server of this user, too, for the terms that are asked of another user's: no doorbell is shared with it, and
    /// descriptors that it sends stay outside of this process until they are received. Default: no.
    pub as_guest: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            send_capacity: None,
            receive_capacity: None,
            acquire: None,
            timeout: PATIENCE,
            as_guest: false,
        }
    }
}

impl ConnectOptions {
    /// Whether they are refused whatever server they are meant for. `Channel::connect` checks them, too.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` with the option, its value and the rule.
    pub fn check(&self) -> Result<()> {
        let capacities = [("sendCapacity", self.send_capacity), ("receiveCapacity", self.receive_capacity)];
        for (option, capacity) in capacities {
            capacity.map_or(Ok(()), |bytes| segment::check_capacity_of(option, bytes))?;
        }
        Ok(())
    }
}
