//! What a channel counts, in plain numbers that can be printed as JSON. Every counter is a total since the beginning.

use serde::Serialize;

use crate::record::{Fallback, Rung};

/// What a channel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStats {
    /// The rungs that a server offers. Empty for an endpoint that connects.
    pub offers: Vec<Rung>,
    /// Why it does not offer the other rungs that it should offer.
    pub fallbacks: Vec<Fallback>,
    /// Connections that were opened.
    pub opened: u64,
    /// Messages sent over all connections, past ones included.
    pub sent: u64,
    /// Bytes of payload sent, headers of calls included.
    pub sent_bytes: u64,
    /// Messages received.
    pub received: u64,
    /// How often a message found no room.
    pub full: u64,
    /// Doorbells rung.
    pub rings: u64,
    /// How often this channel was woken from sleep.
    pub wakeups: u64,
    /// The connections that are open now.
    pub connections: Vec<ConnectionStats>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStats {
    /// Its number.
    pub connection: u32,
    /// The peer's process id, as this process's pid namespace sees it. 0 if it cannot see the peer.
    pub pid: i32,
    /// The peer's user id.
    pub uid: u32,
    /// The rung by which it was made.
    pub rung: Rung,
    /// Why no better rung was used.
    pub fallbacks: Vec<Fallback>,
    /// Size in bytes of the ring that this side writes.
    pub send_capacity: u64,
    /// Size in bytes of the ring that this side reads.
    pub receive_capacity: u64,
    /// Messages sent.
    pub sent: u64,
    /// Bytes of payload sent.
    pub sent_bytes: u64,
    /// Bytes sent that the peer still has to read.
    pub unread: u64,
    /// Messages received.
    pub received: u64,
    /// Bytes that this side still has to read.
    pub backlog: u64,
    /// Largest number of unread bytes at a moment when there was no room.
    pub high_water: u64,
    /// How often a message found no room.
    pub full: u64,
    /// Doorbells rung.
    pub rings: u64,
}
