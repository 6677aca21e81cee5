//! What a read returns: messages and where they lie, a piece of a large message, or why nothing more comes.
//!
//! `Consumer`, `Feed` and the walk share these types. This file is plain data; nothing in it looks at a ring.

use core::fmt;

/// Where a message lies after [`Consumer::read`](crate::Consumer::read) or [`Consumer::lease`](crate::Consumer::lease): four words, which JS reads as a
/// `Uint32Array`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// Offset of the payload, in bytes.
    pub offset: u32,
    /// Length of the payload, in bytes. Its headers follow. How many bytes they have stands in the two bytes before
    /// the payload.
    pub length: u32,
    /// Offset of the header of the message's batch. The batch's first sequence stands 8 bytes behind it, its time
    /// 16 bytes. [`Entry::CONTINUED`]: the batch began in an earlier read, see [`Read::Messages`].
    pub batch: u32,
    /// Which message of its batch this is, from 0.
    pub index: u32,
}

impl Entry {
    /// Value of `batch` for messages whose batch began in an earlier read.
    pub const CONTINUED: u32 = u32::MAX;
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Read {
    /// Nothing new.
    Empty,
    /// The first message needs this many bytes of room.
    Needs(usize),
    /// Messages.
    Messages {
        /// How many entries of the table are filled.
        count: usize,
        /// How many bytes of the slab are used, a multiple of 8 (for a lease: how many bytes of the ring).
        bytes: usize,
        /// First sequence of the batch that was in progress when the read began.
        batch_sequence: u64,
        /// Monotonic time of that batch, in nanoseconds.
        batch_time: u64,
    },
    /// A piece of a large message comes next. Take it with [`Consumer::read_large`](crate::Consumer::read_large), or drop the message with
    /// [`Consumer::skip_large`](crate::Consumer::skip_large). If another large message was being read, the rest of it will never come.
    Large(Large),
}

/// The result of a look for the newest message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Newest {
    /// No message was ever committed.
    Nothing,
    /// The newest message was copied.
    Message {
        /// Its length in bytes.
        length: usize,
        /// Its sequence.
        sequence: u64,
        /// When it was committed, in nanoseconds of the monotonic clock.
        time: u64,
    },
    /// The newest message has this many bytes, and the caller's memory fewer.
    Needs(usize),
    /// The writer has overwritten the message during each of many copies. There is a newer one.
    Lapped,
}

/// Why nothing more comes from this publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The publisher evicted this subscriber, because it left no room for longer than the topic allows.
    Evicted,
    /// The publisher expelled this subscriber, because it found its cursor invalid.
    Expelled,
    /// The publisher broke the protocol.
    Corrupt(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evicted => "it evicted this reader",
            Self::Expelled => "it found this reader's cursor invalid",
            Self::Corrupt(what) => what,
        })
    }
}

impl core::error::Error for Fault {}

/// A large message that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Large {
    /// Its sequence.
    pub sequence: u64,
    /// When its first piece was committed, in nanoseconds of the monotonic clock.
    pub time: u64,
    /// Bytes of the message, headers included, at most [`MAX_LARGE`](crate::MAX_LARGE).
    pub total: usize,
    /// How many of them, at the end, are headers.
    pub headers: usize,
    /// Bytes of it that were read so far. 0: the message begins.
    pub done: usize,
}

/// The result of a call for the next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Piece {
    /// Nothing new.
    Nothing,
    /// Bytes were copied to the start of the caller's memory.
    Copied {
        /// How many, at least one.
        bytes: usize,
        /// Bytes of the message that are still to come. 0: the message is whole.
        left: usize,
    },
    /// The message will never be whole. Forget what was copied, and go on with [`Consumer::read`](crate::Consumer::read).
    Gone,
}
