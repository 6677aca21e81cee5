//! The stream: the third rung, where memory cannot be shared or nobody wants it to be.
//!
//! The publisher's bus thread holds a slot in the subscriber's stead and writes the bytes of the ring, as they lie, to the
//! connection that the handshake opened ([`Station`]); the subscriber walks them as it would walk the memory, and reports how
//! far it has come ([`Link`]). The slot's cursor is what was reported, so that full, dropped, missed and evicted mean
//! what they mean on the rungs above. Nothing is sent while nothing happens.

mod counters;
mod link;
mod pump;
mod seat;
mod station;
mod trial;
mod wire;

pub(crate) use link::{ANSWER, Link, spin_socket};
pub(crate) use seat::{Seat, Tap};
pub(crate) use station::Station;
pub(crate) use trial::carries_a_stream;
