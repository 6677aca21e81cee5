//! Acquisition: from a record to mapped segments, a slot and doorbells.
//!
//! The ladder is direct → handshake → stream, for each peer anew; which rung was taken, and why those above
//! were not, goes with the result. Invariants: all rungs refuse the same things (`joined`), a rung is left
//! only for the reasons in `verdict`, resource errors go to the caller, and nothing here blocks: both
//! sides live on the bus thread. The protocol of the handshake is in `protocol`, the publisher's side in `server`. Peers of
//! other users are guests (`guests`), with doorbells of another kind (`bell`).

mod backoff;
mod bell;
mod budget;
pub(crate) mod client;
mod direct;
mod guests;
mod joined;
mod ladder;
mod proof;
pub(crate) mod protocol;
pub(crate) mod reach;
pub(crate) mod server;
mod session;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod verdict;
pub(crate) mod visitor;

pub(crate) use backoff::Backoff;
pub(crate) use bell::{Bell, Cord};
pub(crate) use budget::Admissions;
pub(crate) use guests::Guests;
pub(crate) use ladder::{Acquirer, Attachment, Memory, Way, Wish, attach};
pub(crate) use server::Server;
pub(crate) use stream::{ANSWER, Link, Seat, Station, Tap, carries_a_stream, spin_socket};

pub use crate::record::{Fallback, Rung};
pub use crate::sys::eventfd::EventFd;
