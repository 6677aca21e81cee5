//! The stream: the third rung. It serves subscribers that cannot or must not share memory.
//!
//! The publisher's bus thread holds a slot for the subscriber ([`ProxyReader`]). It writes the ring's bytes,
//! unchanged, to the connection that the handshake opened ([`StreamServer`]). The subscriber walks the bytes as it
//! would walk the memory, and reports how far it has read ([`StreamReader`]). The slot's cursor is the reported
//! position, so full, dropped, missed and evicted mean the same as on the rungs above. Nothing is ever sent while
//! nothing happens.

mod counters;
mod forwarder;
mod newest;
mod proxy;
mod reader;
mod server;
mod shortage;
mod trial;
mod wire;

pub(crate) use proxy::{ProxyReader, StreamSource};
pub(crate) use reader::{ANSWER, StreamReader};
pub(crate) use server::StreamServer;
pub(crate) use trial::carries_a_stream;
