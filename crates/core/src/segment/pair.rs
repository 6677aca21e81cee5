//! The segments of a channel's connection: two rings, one for each direction, with one slot each.
//!
//! The server makes all of them, because the client may be about to die, or hostile. They are sized, sealed and
//! charged to the server before the client gets a descriptor. Both control segments lie in one memfd, each on a
//! page or more of its own. The ring that the client writes has the seals of a control segment, because the client
//! maps it writable after the seals. Each side maps the ring that it reads for reading only; the server does so
//! after it has written the headers there. Each side joins the ring that it reads before the other side can write
//! to it, so nothing is ever written without a reader. Called by both sides of a channel's handshake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ringbell_ring::{Config, Consumer, Identity, Overflow, Producer, Start, layout};

use super::attach::{inspect, refused};
use super::create::{CONTROL_SEALS, DATA_SEALS};
use super::map::{MappedControl, MappedData, page_size};
use crate::sys::membarrier;
use crate::sys::memfd;
use crate::sys::mmap::Access;
use crate::{Error, Result};

/// Each ring of a connection has one reader.
const SLOTS: usize = 1;
/// The slot of that reader.
const SLOT: usize = 0;

/// The size of both rings, and the number by which both sides recognise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairShape {
    /// Bytes of the ring that the client writes.
    pub(crate) client_ring: usize,
    /// Bytes of the ring that the server writes.
    pub(crate) server_ring: usize,
    /// A random number that both headers hold.
    pub(crate) nonce: [u64; 2],
}

/// One side's ends of both rings, and the memory that they lie in.
pub(crate) struct Pair {
    /// The ring that this side writes.
    pub(crate) outgoing: Producer,
    /// The ring that this side reads.
    pub(crate) incoming: Consumer,
    /// It must be dropped after the two ends.
    pub(crate) memory: Arc<PairMemory>,
}

/// The memory that both rings lie in.
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

fn control_len() -> usize {
    layout::control_len(SLOTS, page_size())
}

/// Makes both rings and joins the client's.
///
/// # Errors
/// The kernel's error, mostly a resource that ran out.
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
    let barriers = membarrier::available();
    let outgoing = producer(&server_map, server_control, server, barriers);
    // This producer only writes the headers. From now on the client is the only producer of this ring.
    drop(producer(&client_map, client_control, client, barriers));
    let client_map = client_map.into_read_only()?;
    let incoming = join(&client_map, client_control)?;
    let memory = Arc::new(PairMemory { _data: [client_map, server_map], _control: controls });
    Ok((Pair { outgoing, incoming, memory }, PairFds { client_data, server_data, control }))
}

/// Checks whether rings can be shared at all. It makes the smallest pair and drops it.
///
/// # Errors
/// As [`create_pair`].
pub(crate) fn try_pair() -> Result<()> {
    let smallest = page_size().max(layout::MIN_CAPACITY);
    create_pair(PairShape { client_ring: smallest, server_ring: smallest, nonce: [0; 2] }).map(drop)
}

/// Checks and maps the rings that a server sent, and joins the server's ring.
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
    if server_map.memory().needs_barriers() {
        membarrier::check()?;
    }
    let barriers = client_map.memory().needs_barriers() && membarrier::available();
    // This writes the same header again: a producer relies only on what it has written itself.
    let outgoing = producer(&client_map, client_control, client, barriers);
    let incoming = join(&server_map, server_control)?;
    let memory = Arc::new(PairMemory { _data: [client_map, server_map], _control: controls });
    Ok(Pair { outgoing, incoming, memory })
}

fn map_controls(fd: BorrowedFd<'_>) -> Result<[MappedControl; 2]> {
    Ok([MappedControl::map_at(fd, 0, SLOTS)?, MappedControl::map_at(fd, control_len(), SLOTS)?])
}

/// `barriers`: both sides can call for barriers. The server says so for itself in the headers of both rings.
fn producer(data: &MappedData, control: &MappedControl, identity: Identity, barriers: bool) -> Producer {
    let config = Config { identity, evict_after: 0 };
    let producer = Producer::create(data.memory(), control.memory(), config);
    if barriers { producer.with_barriers() } else { producer }
}

fn join(data: &MappedData, control: &MappedControl) -> Result<Consumer> {
    let who = (std::process::id(), 0);
    Consumer::join(data.memory(), control.memory(), SLOT, Overflow::Block, Start::Latest, who)
        .map(|consumer| consumer.with_barrier(membarrier::barrier))
        .map_err(|fault| Error::CorruptPeer { what: format!("its ring cannot be joined: {fault}") })
}
