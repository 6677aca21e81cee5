//! The two sides of a topic's handshake: the publisher's offer and the subscriber's want, and the ring that comes of
//! them.
//!
//! Invariant: all rungs refuse the same things, because everything that they bring passes through `joined`. Peers of
//! other users are guests, with doorbells of another kind (`port`). `handshake` calls this folder, on the bus thread,
//! and says how two processes meet. Nothing here may block.

mod direct;
mod joined;
mod offer;
#[cfg(test)]
mod tests;
mod want;

pub(super) use offer::{NO_DURABLE_GUESTS, TopicServer};
pub(super) use want::{Attachment, PATIENCE, Ring, TopicPort, is_other_user};
