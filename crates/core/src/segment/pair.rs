//! The segments of a channel's connection: two rings, one for each direction, with one slot each.
//!
//! The server makes all of it, because the client may be about to die, or hostile: what it is handed is sized, sealed and
//! charged to the server before it learns a descriptor. Both control segments lie in one memfd, a page or more each. The
//! ring that the client writes is sealed like a control segment: it was mapped by the client after the seals. Each side maps
//! the ring that it reads for reading alone, the server once it has written the headers there. Each side
//! joins the ring that it reads before the other can write to it, so nothing is ever written past a missing reader.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ringbell_ring::{Config, Consumer, Identity, Overflow, Producer, Start, layout};

use super::attach::{inspect, refused};
use super::create::{CONTROL_SEALS, DATA_SEALS};
use super::map::{MappedControl, MappedData, page_size};
use crate::sys::memfd;
use crate::sys::mmap::Access;
use crate::{Error, Result};

/// A connection has one reader a ring.
const SLOTS: usize = 1;
/// The slot of that reader.
const SLOT: usize = 0;

/// How large both rings are, and by which number both sides recognise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairShape {
    /// Bytes of the ring that the client writes.
    pub(crate) client_ring: usize,
    /// Bytes of the ring that the server writes.
    pub(crate) server_ring: usize,
    /// Random, in both headers.
    pub(crate) nonce: [u64; 2],
}

/// One side's ends of both rings, with what they lie in.
pub(crate) struct Pair {
    /// The ring that this side writes.
    pub(crate) outgoing: Producer,
    /// The ring that it reads.
    pub(crate) incoming: Consumer,
    /// Must be dropped after them.
    pub(crate) memory: Arc<PairMemory>,
}

/// What both rings lie in.
pub(crate) struct PairMemory {
    _data: [MappedData; 2],
    _control: [MappedControl; 2],
}

/// The descriptors that a client needs, in the order in which they travel.
pub(crate) struct PairFds {
    pub(crate) client_data: OwnedFd,
    pub(crate) server_data: OwnedFd,
    pub(crate) control: OwnedFd,
}

impl PairShape {
    fn identities(self) -> [Identity; 2] {
        let of =
            |capacity| Identity { capacity, max_slots: SLOTS, overflow: Overflow::Block, nonce: self.nonce };
        [of(self.client_ring), of(self.server_ring)]
    }
}

fn config(identity: Identity) -> Config {
    Config { identity, evict_after: 0 }
}

fn control_len() -> usize {
    layout::control_len(SLOTS, page_size())
}

/// Makes both rings and joins the client's.
///
/// # Errors
/// What the kernel answered, resources above all.
pub(crate) fn create_pair(shape: PairShape) -> Result<(Pair, PairFds)> {
    let [client, server] = shape.identities();
    let page = page_size();
    let server_data = memfd::create(c"ringbell-server", layout::data_len(server.capacity, page) as u64)?;
    let server_map = MappedData::map(server_data.as_fd(), server.capacity, Access::WritePopulated)?;
    memfd::add_seals(&server_data, DATA_SEALS)?;
    let client_data = memfd::create(c"ringbell-client", layout::data_len(client.capacity, page) as u64)?;
    let client_map = MappedData::map(client_data.as_fd(), client.capacity, Access::WritePopulated)?;
    memfd::add_seals(&client_data, CONTROL_SEALS)?;
    let control = memfd::create(c"ringbell-control", 2 * control_len() as u64)?;
    let controls = map_controls(control.as_fd())?;
    memfd::add_seals(&control, CONTROL_SEALS)?;
    let [client_control, server_control] = &controls;
    let outgoing = Producer::create(server_map.memory(), server_control.memory(), config(server));
    // Only for the headers: from now on the client is the one producer of this ring.
    drop(Producer::create(client_map.memory(), client_control.memory(), config(client)));
    let client_map = client_map.into_read_only()?;
    let incoming = join(&client_map, client_control)?;
    let memory = Arc::new(PairMemory { _data: [client_map, server_map], _control: controls });
    Ok((Pair { outgoing, incoming, memory }, PairFds { client_data, server_data, control }))
}

/// Whether rings can be shared at all: makes the smallest, and drops them.
///
/// # Errors
/// As [`create_pair`].
pub(crate) fn try_pair() -> Result<()> {
    let smallest = page_size().max(layout::MIN_CAPACITY);
    create_pair(PairShape { client_ring: smallest, server_ring: smallest, nonce: [0; 2] }).map(drop)
}

/// Checks and maps what a server sent, and joins its ring.
///
/// # Errors
/// `ERR_RINGBELL_CORRUPT_PEER` names the rule that was broken, `ERR_RINGBELL_PROTOCOL_VERSION` both versions.
pub(crate) fn attach_pair(shape: PairShape, fds: &PairFds) -> Result<Pair> {
    let [client, server] = shape.identities();
    let page = page_size();
    let length = |identity: Identity| layout::data_len(identity.capacity, page);
    inspect("client's data", fds.client_data.as_fd(), length(client), CONTROL_SEALS)?;
    inspect("server's data", fds.server_data.as_fd(), length(server), DATA_SEALS)?;
    inspect("control", fds.control.as_fd(), 2 * control_len(), CONTROL_SEALS)?;
    let server_map = MappedData::map(fds.server_data.as_fd(), server.capacity, Access::Read)?;
    let client_map = MappedData::map(fds.client_data.as_fd(), client.capacity, Access::WritePopulated)?;
    let controls = map_controls(fds.control.as_fd())?;
    let [client_control, server_control] = &controls;
    server_map.memory().check(&server).map_err(|error| refused("server's data", error))?;
    server_control.memory().check(&server).map_err(|error| refused("server's control", error))?;
    client_control.memory().check(&client).map_err(|error| refused("client's control", error))?;
    // Writes the same header once more: what a producer relies on is its own.
    let outgoing = Producer::create(client_map.memory(), client_control.memory(), config(client));
    let incoming = join(&server_map, server_control)?;
    let memory = Arc::new(PairMemory { _data: [client_map, server_map], _control: controls });
    Ok(Pair { outgoing, incoming, memory })
}

fn map_controls(fd: BorrowedFd<'_>) -> Result<[MappedControl; 2]> {
    Ok([MappedControl::map_at(fd, 0, SLOTS)?, MappedControl::map_at(fd, control_len(), SLOTS)?])
}

fn join(data: &MappedData, control: &MappedControl) -> Result<Consumer> {
    let who = (std::process::id(), 0);
    Consumer::join(data.memory(), control.memory(), SLOT, Overflow::Block, Start::Latest, who)
        .map_err(|fault| Error::CorruptPeer { what: format!("its ring cannot be joined: {fault:?}") })
}
