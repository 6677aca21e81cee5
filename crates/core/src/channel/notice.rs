//! What a channel hands out besides messages: what a turn brought, and what befell its connections.

use std::sync::Arc;

use super::header::Header;
use crate::error::Error;
use crate::record::{Fallback, Record, Rung};

/// What one turn of [`Channel::drain`](super::Channel::drain) brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing new anywhere.
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
    /// A message that is too large for the ring is arriving: [`Channel::read_large`](super::Channel::read_large), again after
    /// every wake-up until it is whole, or [`Channel::skip_large`](super::Channel::skip_large).
    Large {
        /// Number of the connection.
        connection: u32,
        /// What it is for.
        header: Header,
        /// Bytes of its data.
        bytes: usize,
    },
    /// The next message needs this many bytes of slab.
    NeedSlab(usize),
    /// Something is to be told first: [`Channel::notices`](super::Channel::notices).
    Notice,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it in good order, and everything was read.
    Closed,
    /// The peer's process died; everything that it had sent was read.
    Died,
    /// The peer broke the protocol.
    Failed(Error),
}

/// What a channel is told besides messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// Messages can be sent and will come.
    Opened {
        /// Number of the connection, unique within this channel.
        connection: u32,
        /// The peer's process, in its own pid namespace; 0 where this one cannot see it.
        pid: i32,
        /// The peer's user, by the kernel's word.
        uid: u32,
        /// The server's record; none on the server's side.
        record: Option<Arc<Record>>,
        /// How it was had.
        rung: Rung,
        /// Why not by a better rung.
        fallbacks: Vec<Fallback>,
    },
    /// Nothing more will come.
    Closed {
        /// Number of the connection.
        connection: u32,
        /// Why.
        reason: CloseReason,
        /// How many of the messages that were sent the peer has taken, by its own account: what was sent after those, it has
        /// never seen. `None`: nobody can say, because it came over a stream or its peer broke the rules.
        delivered: Option<u64>,
    },
    /// A connection that was asked for could not be had.
    Failed {
        /// The number that was given out for it.
        connection: u32,
        /// Why not.
        error: Error,
    },
    /// Descriptors have come: [`Channel::receive_fds`](super::Channel::receive_fds).
    Descriptors {
        /// Number of the connection.
        connection: u32,
    },
}
