//! What a channel counts, in plain numbers that can be printed as JSON. All counters are totals since the beginning.

use serde::Serialize;

use crate::record::{Fallback, Rung};

/// A channel's own view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStats {
    /// The rungs that a server offers; none of an endpoint that connects.
    pub offers: Vec<Rung>,
    /// Why not those that it was to offer besides.
    pub fallbacks: Vec<Fallback>,
    /// Connections that were opened so far.
    pub opened: u64,
    /// Messages sent, over all connections that there ever were.
    pub sent: u64,
    /// Bytes of payload sent, headers of calls included.
    pub sent_bytes: u64,
    /// Messages received.
    pub received: u64,
    /// Times that a message found no room.
    pub full: u64,
    /// Doorbells rung.
    pub rings: u64,
    /// Times that this channel was woken from sleep.
    pub wakeups: u64,
    /// The connections that are open.
    pub connections: Vec<ConnectionStats>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStats {
    /// Its number.
    pub connection: u32,
    /// The peer's process, in its own pid namespace; 0 where this one cannot see it.
    pub pid: i32,
    /// The peer's user.
    pub uid: u32,
    /// How it was had.
    pub rung: Rung,
    /// Why not by a better rung.
    pub fallbacks: Vec<Fallback>,
    /// Bytes of the ring that this side writes.
    pub send_capacity: u64,
    /// Bytes of the ring that this side reads.
    pub receive_capacity: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes of payload sent.
    pub sent_bytes: u64,
    /// Bytes sent that the peer has still to read.
    pub unread: u64,
    /// Messages received.
    pub received: u64,
    /// Bytes that are still to be read.
    pub backlog: u64,
    /// Largest number of unread bytes that was seen when there was no room.
    pub high_water: u64,
    /// Times that a message found no room.
    pub full: u64,
    /// Doorbells rung.
    pub rings: u64,
}
