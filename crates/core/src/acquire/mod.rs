//! What a handshake about a ring gives and takes: the publisher's offer, the subscriber's want, and what lies between them.
//!
//! Invariant: all rungs refuse the same things, because whatever they bring passes through `joined`. Peers of other users are guests,
//! with doorbells of another kind (`port`). How two processes meet is in `handshake`; nothing here blocks.

mod direct;
mod joined;
mod offer;
#[cfg(test)]
pub(crate) mod tests;
mod want;

pub(crate) use offer::{NO_DURABLE_GUESTS, Server};
pub(crate) use want::{Attachment, PATIENCE, Ring, Way};

pub use crate::record::{Fallback, Rung};
pub use crate::sys::eventfd::EventFd;
