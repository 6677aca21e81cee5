//! What a handshake about a ring gives and takes: the publisher's offer, the subscriber's want, and what lies between them.
//!
//! Invariant: all rungs refuse the same things, because whatever they bring passes through `joined`. Peers of other users are guests
//! (`guests`), with doorbells of another kind (`bell`). How two processes meet is in `handshake`; nothing here blocks.

mod bell;
mod budget;
mod direct;
mod guests;
mod joined;
mod offer;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod want;

pub(crate) use bell::{Bell, Cord};
pub(crate) use budget::Admissions;
pub(crate) use guests::Guests;
pub(crate) use offer::{NO_DURABLE_GUESTS, Server};
pub(crate) use stream::{ANSWER, Link, Seat, Station, Tap, carries_a_stream, spin_socket};
pub(crate) use want::{Attachment, Memory, PATIENCE, Ring, Way};

pub use crate::record::{Fallback, Rung};
pub use crate::sys::eventfd::EventFd;
