//! Attaching to a peer's segments. Nothing that came is trusted before it was checked.
//!
//! The order protects: first the kind of file, its inode, size and seals, then the mapping, then magic, version and
//! nonce. (An unsealed file could shrink while it is mapped, which is SIGBUS.) The data segment is mapped for
//! reading only. Acquisition calls this with what it got, on any rung. It never writes to a segment.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::SealFlag;
use ringbell_ring::{Identity, layout};

use super::create::{CONTROL_SEALS, DATA_SEALS, check_capacity};
use super::map::{MappedControl, MappedData, page_size};
use crate::record::{MemfdRef, TopicMemory, TopicRecord};
use crate::sys::fork::ForkGuarded;
use crate::sys::membarrier;
use crate::sys::memfd;
use crate::sys::mmap::Access;
use crate::{Error, Result};

/// What a subscriber holds of a publisher's topic.
#[derive(Debug)]
pub struct PeerSegments {
    /// Read-only.
    pub data: Arc<MappedData>,
    /// Writable: the slots are in it.
    pub control: Arc<MappedControl>,
    /// The control segment through an open file of this process alone, for the locks. None if the control segment
    /// itself belongs to this subscriber alone: then the connection proves that each side lives.
    pub control_own: Option<ForkGuarded>,
}

/// Checks and maps the segments of the peer that announced `topic`.
///
/// # Errors
/// `ERR_RINGBELL_CORRUPT_PEER` names the rule that was broken, `ERR_RINGBELL_PROTOCOL_VERSION` both versions.
pub(crate) fn attach(data_fd: OwnedFd, control_fd: OwnedFd, topic: &TopicRecord) -> Result<PeerSegments> {
    let identity = identity(topic)?;
    let mut segments = map(data_fd, &control_fd, topic, identity, Some(memory_of(topic)?.control))?;
    // Another open file than the mapped one: a mapping keeps its open file, and so the slot's lock, as long as the
    // mapping lives.
    segments.control_own = Some(ForkGuarded::new(memfd::reopen(&control_fd)?));
    Ok(segments)
}

fn memory_of(topic: &TopicRecord) -> Result<&TopicMemory> {
    topic
        .memory
        .as_ref()
        .ok_or_else(|| Error::CorruptPeer { what: "its record announces no segments".into() })
}

/// The same for a guest's own control segment, which has one slot and is not in any record.
///
/// # Errors
/// As [`attach`].
pub(crate) fn attach_as_guest(
    data_fd: OwnedFd,
    control_fd: OwnedFd,
    topic: &TopicRecord,
) -> Result<PeerSegments> {
    let control = Identity { max_slots: 1, ..identity(topic)? };
    // The connection that it came by tells whose segment it is. Its nonce tells which topic it belongs to.
    map(data_fd, &control_fd, topic, control, None)
}

/// `control` is what the control segment's header must say. `reference` is its file, if a record announces it.
fn map(
    data_fd: OwnedFd,
    control_fd: &OwnedFd,
    topic: &TopicRecord,
    control: Identity,
    reference: Option<MemfdRef>,
) -> Result<PeerSegments> {
    let identity = identity(topic)?;
    let page = page_size();
    let data_len = layout::data_len(identity.capacity, page);
    let control_len = layout::control_len(control.max_slots, page);
    announced("data", data_fd.as_fd(), memory_of(topic)?.data, data_len)?;
    inspect("data", data_fd.as_fd(), data_len, DATA_SEALS)?;
    if let Some(reference) = reference {
        announced("control", control_fd.as_fd(), reference, control_len)?;
    }
    inspect("control", control_fd.as_fd(), control_len, CONTROL_SEALS)?;
    let data = MappedData::map(data_fd.as_fd(), identity.capacity, Access::Read)?;
    let mapped = MappedControl::map(control_fd.as_fd(), control.max_slots)?;
    data.memory().check(&identity).map_err(|error| refused("data", error))?;
    mapped.memory().check(&control).map_err(|error| refused("control", error))?;
    if data.memory().needs_barriers() {
        membarrier::check()?;
    }
    Ok(PeerSegments { data: Arc::new(data), control: Arc::new(mapped), control_own: None })
}

/// What both headers must say, according to the peer's record.
///
/// # Errors
/// `ERR_RINGBELL_CORRUPT_PEER` when the record announces something impossible.
pub(crate) fn identity(topic: &TopicRecord) -> Result<Identity> {
    let capacity = usize::try_from(topic.capacity).ok().filter(|capacity| check_capacity(*capacity).is_ok());
    let max_slots = usize::from(topic.max_subscribers);
    match (capacity, nonce_words(&topic.nonce)) {
        (Some(capacity), Ok(nonce)) if (1..=layout::MAX_SLOTS).contains(&max_slots) => {
            Ok(Identity { capacity, max_slots, overflow: topic.overflow, nonce })
        }
        _ => Err(Error::CorruptPeer {
            what: "its record announces an invalid capacity, number of slots or nonce".into(),
        }),
    }
}

/// The two words by which the headers hold a nonce of 32 hex digits.
///
/// # Errors
/// `ERR_RINGBELL_CORRUPT_PEER` when it is not such a nonce.
pub(super) fn nonce_words(nonce: &str) -> Result<[u64; 2]> {
    let digits = nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u128::from_str_radix(nonce, 16) {
        Ok(number) if digits => Ok(words(number)),
        _ => Err(Error::CorruptPeer { what: "its record has a nonce that is not 32 hex digits".into() }),
    }
}

/// The two words by which the headers hold a nonce: the upper 64 bits first.
pub(crate) fn words(nonce: u128) -> [u64; 2] {
    [(nonce >> 64) as u64, nonce as u64]
}

/// Checks that a descriptor is of the announced file, and that what was announced fits the layout.
pub(super) fn announced(segment: &str, fd: BorrowedFd<'_>, announced: MemfdRef, length: usize) -> Result<()> {
    let found = shared_memory(segment, fd)?;
    if found.inode != announced.inode {
        return wrong(
            segment,
            format!("has inode {}, but its record announces inode {}", found.inode, announced.inode),
        );
    }
    if announced.size != length as u64 {
        return wrong(
            segment,
            format!("is announced with {} bytes, its layout takes {length}", announced.size),
        );
    }
    Ok(())
}

/// Checks that a descriptor is of shared memory with that length and the right seals.
pub(super) fn inspect(segment: &str, fd: BorrowedFd<'_>, length: usize, seals: SealFlag) -> Result<()> {
    let found = shared_memory(segment, fd)?;
    if found.size != length as u64 {
        return wrong(segment, format!("has {} bytes, its layout takes {length}", found.size));
    }
    match memfd::seals(fd) {
        Ok(found) if found.contains(seals) => Ok(()),
        Ok(found) => wrong(segment, format!("lacks the seals {:?}", seals.difference(found))),
        Err(Errno::EINVAL | Errno::EBADF) => wrong(segment, "cannot be sealed".into()),
        // A failed look says nothing of the peer.
        Err(errno) => Err(Error::os("fcntl", errno, "cannot look at the seals of a segment")),
    }
}

fn shared_memory(segment: &str, fd: BorrowedFd<'_>) -> Result<memfd::Identity> {
    match memfd::identity(fd) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => wrong(segment, "is not shared memory".into()),
        Err(errno) => Err(Error::os("fstat", errno, "cannot look at a segment")),
    }
}

fn wrong<T>(segment: &str, what: String) -> Result<T> {
    Err(Error::CorruptPeer { what: format!("the {segment} segment {what}") })
}

pub(super) fn refused(segment: &str, error: ringbell_ring::Error) -> Error {
    match error {
        ringbell_ring::Error::Version { ours, theirs } => Error::ProtocolVersion { ours, theirs },
        other => Error::CorruptPeer { what: format!("{segment} segment: {other}") },
    }
}
