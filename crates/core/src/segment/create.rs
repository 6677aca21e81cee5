//! Making the segments of a topic, on the publisher's side.
//!
//! Invariant: the order is size, map, populate, then seal. After the seals no process can make a writable mapping
//! of the data segment again, not even the publisher. The descriptors in here are handed to peers. The lock that
//! proves the publisher's life is on an open file of its own, which never leaves the process. Called when a
//! publisher is made.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::SealFlag;
use ringbell_ring::layout;

use super::map::{MappedControl, MappedData, page_size};
use crate::sys::fork::ForkGuarded;
use crate::sys::mmap::Access;
use crate::sys::{lock, memfd};
use crate::{Error, Result};

/// The seals of a data segment. Not even its owner can map it writable again, or change its size.
pub(super) const DATA_SEALS: SealFlag = SealFlag::F_SEAL_SHRINK
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_FUTURE_WRITE)
    .union(SealFlag::F_SEAL_SEAL);

/// The seals of a control segment. Subscribers write to it, but no process can change its size.
pub(super) const CONTROL_SEALS: SealFlag =
    SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// What a publisher holds of its topic.
#[derive(Debug)]
pub struct OwnSegments {
    /// Writable, populated, not inherited by a fork.
    pub data: Arc<MappedData>,
    /// The descriptor that is announced and handed out. It stays open as long as the record is locked.
    pub data_fd: OwnedFd,
    /// Writable.
    pub control: Arc<MappedControl>,
    /// The descriptor that is announced and handed out. It stays open as long as the record is locked.
    pub control_fd: OwnedFd,
    /// The control segment through an open file of the publisher alone, with the lock that proves its life.
    pub control_own: ForkGuarded,
}

/// Makes, maps and seals both segments and takes the publisher's lock. Their headers are still zero:
/// `ringbell_ring::Producer::create` writes them.
///
/// # Errors
/// `ERR_RINGBELL_INVALID_OPTION` for a capacity or a number of slots that breaks the rule, otherwise the kernel's
/// error.
pub(crate) fn create(capacity: usize, max_subscribers: usize) -> Result<OwnSegments> {
    check_capacity(capacity)?;
    if !(1..=layout::MAX_SLOTS).contains(&max_subscribers) {
        return Err(Error::InvalidOption {
            option: "maxSubscribers",
            value: max_subscribers.to_string(),
            rule: format!("it must be from 1 to {}", layout::MAX_SLOTS),
        });
    }
    let page = page_size();
    let data_fd = memfd::create(c"ringbell-data", layout::data_len(capacity, page) as u64)?;
    let data = MappedData::map(data_fd.as_fd(), capacity, Access::WritePopulated)?;
    memfd::add_seals(&data_fd, DATA_SEALS)?;

    let control_fd = memfd::create(c"ringbell-control", layout::control_len(max_subscribers, page) as u64)?;
    let control = MappedControl::map(control_fd.as_fd(), max_subscribers)?;
    memfd::add_seals(&control_fd, CONTROL_SEALS)?;

    let control_own = ForkGuarded::new(memfd::reopen(&control_fd)?);
    if !lock::take(&control_own, layout::PUBLISHER_LOCK_BYTE)? {
        return Err(Error::CorruptPeer {
            what: "another process holds the lock of a control segment that was just made".into(),
        });
    }
    Ok(OwnSegments { data: Arc::new(data), data_fd, control: Arc::new(control), control_fd, control_own })
}

/// Checks a capacity. It is a power of two, in whole pages, from 4 KiB to 1 GiB. It is never rounded for the
/// caller.
///
/// # Errors
/// `ERR_RINGBELL_INVALID_OPTION` with the value and the rule.
pub(crate) fn check_capacity(capacity: usize) -> Result<()> {
    check_capacity_of("capacity", capacity)
}

/// The same where another option than `capacity` says it.
///
/// # Errors
/// `ERR_RINGBELL_INVALID_OPTION` with the value and the rule.
pub(crate) fn check_capacity_of(option: &'static str, capacity: usize) -> Result<()> {
    let smallest = page_size().max(layout::MIN_CAPACITY);
    if capacity.is_power_of_two() && (smallest..=layout::MAX_CAPACITY).contains(&capacity) {
        return Ok(());
    }
    Err(Error::InvalidOption {
        option,
        value: capacity.to_string(),
        rule: format!(
            "it must be bytes, a power of two from {smallest} (4 KiB, at least a page) to {} (1 GiB)",
            layout::MAX_CAPACITY
        ),
    })
}
