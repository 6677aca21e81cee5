//! The options of a server, of an endpoint that connects, and of a connection. Wrong options are refused at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::record::{Access, GroupRecord, Rung};
use crate::segment;

/// Bytes of each of a connection's rings, unless the options say otherwise.
pub(super) const CAPACITY: usize = 64 << 10;
/// The longest time that a handshake may take, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST_CONNECTIONS: u32 = 65_535;

/// How a server behaves.
///
/// ```
/// use ringbell::channel::ServerOptions;
///
/// let options = ServerOptions::default().capacity(256 << 10).max_connections(16).codec("json");
/// assert_eq!(options.max_connections, 16);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The record's kind. Set another kind for a service that does not answer calls of every client (a work queue).
    /// Default: `server`.
    pub kind: Option<String>,
    /// Size in bytes of each of a connection's two rings, unless the client asks for less: a power of two from 4 KiB
    /// to 1 GiB. A client never gets more. Default: 64 KiB.
    pub capacity: usize,
    /// The rungs that clients may use: *handshake* and *stream*. Default: both. If memory cannot be shared, only
    /// *stream* is offered.
    pub offers: Vec<Rung>,
    /// Most connections at a time, 1 to 65,535. When all are taken, new clients wait. Default: 1,024.
    pub max_connections: u32,
    /// The role of the member of a service group that serves; [`Channel::set_group`](super::Channel::set_group) changes it.
    /// Default: it is of no member.
    pub group: Option<GroupRecord>,
    /// More fields for the record, for any use.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// Id of the codec of the payloads. Clients that expect another one are refused.
    pub codec: Option<String>,
    /// Id of the payload's schema.
    pub schema: Option<String>,
    /// Which other users may connect. Default: none. [`Access::max_guests`] and [`Access::evict_after`] are for
    /// topics only: each connection of a channel has its own memory and doorbells anyway, so there are no guest slots
    /// to count.
    pub access: Option<Access>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            kind: None,
            capacity: CAPACITY,
            offers: vec![Rung::Handshake, Rung::Stream],
            max_connections: 1024,
            group: None,
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            schema: None,
            access: None,
        }
    }
}

setters!(ServerOptions {
    Text kind,
    capacity: usize,
    offers: Vec<Rung>,
    max_connections: u32,
    Some group: GroupRecord,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    Text codec,
    Text schema,
    Some access: Access,
});

impl ServerOptions {
    pub(super) fn check(&self) -> Result<()> {
        segment::check_capacity(self.capacity)?;
        if self.offers.is_empty() || self.offers.contains(&Rung::Direct) {
            return Err(Error::InvalidOption {
                option: "offers",
                value: format!("{:?}", self.offers),
                rule: "it must be handshake, stream or both, because a channel's rings are made at the handshake".into(),
            });
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.max_connections) {
            return Err(Error::InvalidOption {
                option: "maxConnections",
                value: self.max_connections.to_string(),
                rule: format!("it must be from 1 to {MOST_CONNECTIONS}"),
            });
        }
        self.access.as_ref().map_or(Ok(()), check_access)
    }
}

/// Refuses options that only a topic has, instead of ignoring them.
fn check_access(access: &Access) -> Result<()> {
    let (topics, rule) = (
        Access::default(),
        "it is an option of topics alone; a server's connections count under maxConnections",
    );
    let wrong = |option, value: String| Err(Error::InvalidOption { option, value, rule: rule.to_owned() });
    if access.max_guests != topics.max_guests {
        return wrong("access.maxGuests", access.max_guests.to_string());
    }
    if access.evict_after != topics.evict_after {
        return wrong("access.evictAfter", format!("{:?}", access.evict_after));
    }
    Ok(())
}

/// How an endpoint that connects behaves: `ChannelOptions::default().codec("json")`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// Id of the codec that is expected. Servers that announce another one are refused.
    pub codec: Option<String>,
}

setters!(ChannelOptions {
    Text codec,
});

/// What a client wants of one connection.
///
/// ```
/// use std::time::Duration;
/// use ringbell::channel::ConnectOptions;
///
/// let options = ConnectOptions::default().send_capacity(64 << 10).timeout(Duration::from_secs(5));
/// assert_eq!(options.check(), Ok(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Wanted size in bytes of the ring that the client writes. The server may give less. Default: what the server
    /// offers.
    pub send_capacity: Option<usize>,
    /// Wanted size in bytes of the ring that the server writes. Default: what the server offers.
    pub receive_capacity: Option<usize>,
    /// Uses only this rung, instead of the best one that works. *Direct* means the handshake here, because the rings
    /// are made in it.
    pub acquire: Option<Rung>,
    /// How long the handshake may take, with all its repetitions. Default: 30 s.
    pub timeout: Duration,
    /// Asks even a server of this user for the terms of another user's server: this process shares no doorbell with
    /// it, and descriptors that the server sends stay outside of this process until they are received. Default: no.
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

setters!(ConnectOptions {
    Some send_capacity: usize,
    Some receive_capacity: usize,
    Some acquire: Rung,
    timeout: Duration,
    as_guest: bool,
});

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
