//! The stream: the third rung, where memory cannot be shared or is not meant to be.
//!
//! The publisher's bus thread holds a slot for the subscriber ([`ProxyReader`]) and writes the bytes of the ring, as they lie, to the
//! connection that the handshake opened ([`StreamServer`]). The subscriber walks them as it would walk the memory, and reports how
//! far it has come ([`StreamReader`]). The slot's cursor is what was reported, so that full, dropped, missed and evicted mean what
//! they mean on the rungs above. Never sends anything while nothing happens.

mod counters;
mod forwarder;
mod proxy;
mod reader;
mod server;
mod trial;
mod wire;

pub(crate) use proxy::{ProxyReader, StreamSource};
pub(crate) use reader::{ANSWER, StreamReader};
pub(crate) use server::StreamServer;
pub(crate) use trial::carries_a_stream;
