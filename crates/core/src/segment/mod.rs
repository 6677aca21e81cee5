//! Segments: the two memfds of a topic, made by the publisher and attached to by subscribers; and those of its guests.
//!
//! Invariants: what `create` gives is sealed, sized and exactly as announced; what `attach` gives was
//! checked against the record and can neither shrink nor be replaced. A slot belongs to whoever holds the
//! write lock on its byte. Who may have the descriptors is decided in `acquire`; what the words in them
//! mean, in `ringbell_ring`. Nothing here trusts a peer.

mod attach;
mod buffer;
mod create;
mod guests;
mod local;
mod map;
mod name;
mod pair;
mod proxy;
mod slot;

pub(crate) use attach::PeerSegments;
pub(crate) use attach::{attach, attach_as_guest, identity, nonce_words};
pub use buffer::PrivateBuffer;
pub(crate) use create::{OwnSegments, check_capacity, check_capacity_of, create};
pub(crate) use guests::GuestPlaces;
pub(crate) use local::{Segments, refused};
pub(crate) use map::MappedControl;
pub use map::MappedData;
#[cfg(test)]
pub(crate) use map::page_size;
pub(crate) use name::DurableName;
pub(crate) use pair::{Pair, PairFds, PairMemory, PairShape, attach_pair, create_pair, try_pair};
pub(crate) use proxy::ProxySlots;
pub(crate) use slot::SlotLock;

pub(crate) use crate::sys::fork::ForkGuarded;

#[cfg(test)]
mod tests;
