//! What a topic's handshake is about: the publisher's offer, the subscriber's want, and the ring that comes of them.
//!
//! Invariant: all rungs refuse the same things, because what they bring passes through `joined`. Peers of other users are guests,
//! with doorbells of another kind (`port`). How two processes meet is in `handshake`; nothing here blocks.

mod direct;
mod joined;
mod offer;
#[cfg(test)]
pub(crate) mod tests;
mod want;

pub(super) use offer::{NO_DURABLE_GUESTS, Server};
pub(super) use want::{Attachment, PATIENCE, Ring, Way};
