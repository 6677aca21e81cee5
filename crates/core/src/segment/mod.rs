//! Shared memory: the two segments of a topic, the pair of a channel's connection, and a control segment for each
//! guest.
//!
//! `create` makes segments that are sealed, sized and exactly as announced. `attach` checks a peer's segments
//! against its record; after that they can neither shrink nor be replaced. `slots` is the only slot table. Called
//! by acquisition, publishers and subscribers. This folder never trusts a peer. It never decides which process may
//! have a descriptor, and never interprets frames (`ringbell_ring` does).

mod attach;
mod buffer;
mod create;
mod guests;
mod local;
mod map;
mod name;
mod pair;
mod proxy_slots;
pub(crate) mod slots;
mod table;

pub(crate) use attach::PeerSegments;
pub(crate) use attach::{attach, attach_as_guest, identity, words};
pub use buffer::PrivateBuffer;
pub(crate) use create::{OwnSegments, check_capacity, check_capacity_of, create};
pub(crate) use guests::GuestSegments;
pub(crate) use local::{Segments, refused};
pub(crate) use map::MappedControl;
pub use map::MappedData;
#[cfg(test)]
pub(crate) use map::page_size;
pub(crate) use name::{DurableName, fnv1a};
pub(crate) use pair::{Pair, PairFds, PairMemory, PairShape, attach_pair, create_pair, try_pair};
pub(crate) use proxy_slots::ProxySlots;
pub(crate) use table::{MappedTable, OwnTable, attach_table, create_table};

pub(crate) use crate::sys::fork::ForkGuarded;

#[cfg(test)]
mod tests;
