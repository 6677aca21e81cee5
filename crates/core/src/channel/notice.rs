//! What a channel hands out besides messages: what one call brought, and what happened to its connections.

use std::sync::Arc;

use super::header::Header;
use crate::error::Error;
use crate::record::{Fallback, Record, Rung};

/// What one call of [`Channel::drain`](super::Channel::drain) brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// There is nothing new on any connection.
    Empty,
    /// Messages of one connection.
    Batch {
        /// Number of the connection.
        connection: u32,
        /// How many entries of the table are filled.
        count: usize,
        /// Bytes of the slab that are used, a multiple of 8.
        bytes: usize,
    },
    /// A message that is too large for the ring is arriving. Call
    /// [`Channel::read_large`](super::Channel::read_large), and again after every wake-up until the message is
    /// complete, or call [`Channel::skip_large`](super::Channel::skip_large).
    Large {
        /// Number of the connection.
        connection: u32,
        /// What the message is for.
        header: Header,
        /// Size of its data in bytes.
        bytes: usize,
        /// Size of its headers in bytes. They come behind the data.
        headers: usize,
    },
    /// The next message needs a slab with this many bytes.
    NeedSlab(usize),
    /// There are notices, and they come first: call [`Channel::notices`](super::Channel::notices).
    Notice,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it in good order, and everything was read.
    Closed,
    /// The peer's process died, and everything that it had sent was read.
    Died,
    /// The peer broke the protocol.
    Failed(Error),
}

/// What a channel reports besides messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// The connection is open: messages can be sent, and will come.
    Opened {
        /// Number of the connection, unique within this channel.
        connection: u32,
        /// The peer's process id, as this process's pid namespace sees it. 0 if it cannot see the peer.
        pid: i32,
        /// The peer's user id, as the kernel reports it.
        uid: u32,
        /// The server's record. `None` on the server's side.
        record: Option<Arc<Record>>,
        /// The rung by which the connection was made.
        rung: Rung,
        /// Why no better rung was used.
        fallbacks: Vec<Fallback>,
    },
    /// The connection has ended. Nothing more will come.
    Closed {
        /// Number of the connection.
        connection: u32,
        /// Why it ended.
        reason: CloseReason,
        /// How many of the sent messages the peer has taken, as the peer's own cursor says. The peer has never seen
        /// the messages after those. `None` if it is unknown: the connection was a stream, or the peer broke the
        /// rules.
        delivered: Option<u64>,
    },
    /// A connection that was asked for could not be made.
    Failed {
        /// The number that [`Channel::connect`](super::Channel::connect) returned for it.
        connection: u32,
        /// Why it could not be made.
        error: Error,
    },
    /// Descriptors have come: call [`Channel::receive_fds`](super::Channel::receive_fds).
    Descriptors {
        /// Number of the connection.
        connection: u32,
    },
}
