//! Ports: one directed flow on any rung, with one writer and one or more readers.
//!
//! A topic is one writer and many readers. A channel is two ports back to back. `Writer` writes a ring. `Reader`
//! reads a ring in shared memory, or a stream of one. `stream` forwards a ring to readers that cannot map it.
//! `guests` are the readers of other users. `Doorbell` wakes a sleeper. Topics, channels and acquisition call this.
//! Which users may have a port is decided elsewhere. Only how many guests each of them may have, and how long they
//! stay, is decided here, by `guests`.

mod budget;
mod doorbell;
mod end;
pub(crate) mod guests;
mod probe;
mod reader;
pub(crate) mod receive;
mod send_clock;
pub(crate) mod stream;
mod writer;

use std::sync::Arc;

use crate::segment::PairMemory;

pub(crate) use budget::Admissions;
pub(crate) use doorbell::{Doorbell, SocketDoorbell};
pub(crate) use end::{End, WriterState};
pub(crate) use guests::Guests;
pub(crate) use probe::Probe;
pub(crate) use reader::{Memory, Reader, ReaderCounters};
pub(crate) use writer::{Doorbells, Writer};

/// The memory that a ring lies in. It stays mapped as long as the ring is used.
enum Mapped<S> {
    /// A topic's.
    Topic(S),
    /// That of both rings of a channel's connection.
    Pair { _memory: Arc<PairMemory> },
}

impl<S> Mapped<S> {
    /// The segments of a topic.
    fn segments(&self) -> Option<&S> {
        match self {
            Mapped::Topic(segments) => Some(segments),
            Mapped::Pair { .. } => None,
        }
    }
}

/// When a message that was read counts as acknowledged, so that the writer need not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledging {
    /// At once, when it is read.
    AtOnce,
    /// When [`Reader::acknowledge_below`] says so.
    Apart,
}
