//! Channels: two-way messages between a server and its clients, and what a Rust user holds of them.
//!
//! A [`Channel`] is an endpoint with any number of *connections*. It serves, or it connects. Each connection has two
//! rings, one for each direction; they are topic rings with one slot. Each side has one doorbell, for messages and
//! for room. A Unix socket carries the handshake and the descriptors that are sent as messages, and its end reports a
//! death. Between two users the doorbell is a pair of sockets, and descriptors stay in the socket until they are
//! asked for. A [`Header`] says what a message is for (a request, its reply). The caller decides what follows from
//! that.

mod connection;
mod duplex;
mod endpoint;
mod fd_socket;
mod header;
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

pub use endpoint::{Channel, Incoming, Reply};
pub use header::{HEADER, Header, Kind};
pub use notice::{CloseReason, Drained, Notice};
pub use options::{ChannelOptions, ConnectOptions, ServerOptions};
pub use parcel::{MOST_DESCRIPTORS, MOST_PARCEL_BYTES, Parcel};
pub use stats::{ChannelStats, ConnectionStats};
