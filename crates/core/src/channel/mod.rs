//! Channels: two-way, between a server and its clients, and what a Rust user holds of them.
//!
//! A [`Channel`] is an endpoint with any number of *connections*: one that serves, or one that connects. Each connection has
//! two rings, one for each direction, which are the topics' ring with one slot, and one doorbell a side, rung for messages
//! and for room alike. A Unix socket carries the handshake, descriptors sent as messages, and, by its end, the news of a
//! death. Between two users the doorbell is a pair of sockets, and descriptors stay outside until they are asked for. What a
//! message is for (a request, its reply) stands in its [`Header`]; what follows from that is up to the caller.

mod duplex;
mod endpoint;
mod fd_socket;
mod header;
mod link;
mod notice;
mod options;
mod parcel;
mod quota;
mod registrar;
mod server;
mod stats;
#[cfg(test)]
mod tests;
mod want;

pub use endpoint::{Channel, Incoming};
pub use header::{HEADER, Header, Kind};
pub use notice::{CloseReason, Drained, Notice};
pub use options::{ChannelOptions, ConnectOptions, ServerOptions};
pub use parcel::{MOST_DESCRIPTORS, MOST_PARCEL_BYTES, Parcel};
pub use stats::{ChannelStats, ConnectionStats};
