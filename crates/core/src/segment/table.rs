//! The memory of a lock, semaphore, flag or sharded mutex: one table, which every member maps for writing.
//!
//! The order protects, as in `attach`: first the kind of file, its inode, size and seals, then the mapping, then what the
//! header says. Invariants: a table has the length of its shape (M1), and is sealed against changes of that. The
//! lock that proves a member's life is on an open file of its own, which never leaves the process. `sync` calls this. It
//! never decides who may have the descriptor.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::MmapRaw;
use ringbell_ring::table::{Kind, Shape, TableMemory, table_len};

use super::attach::{inspect, nonce_words, refused};
use super::create::CONTROL_SEALS;
use super::map::page_size;
use crate::record::{MemfdRef, SyncRecord};
use crate::sys::fork::ForkGuarded;
use crate::sys::generation::Home;
use crate::sys::memfd;
use crate::sys::mmap::map_control;
use crate::{Error, Result};

const SEGMENT: &str = "sync";

/// A mapped table.
#[derive(Debug)]
pub(crate) struct MappedTable {
    map: ManuallyDrop<MmapRaw>,
    home: Home,
    base: NonNull<u8>,
    shape: Shape,
}

// SAFETY: an address of shared memory, which is only used by atomics (I1).
unsafe impl Send for MappedTable {}
// SAFETY: as above.
unsafe impl Sync for MappedTable {}

impl MappedTable {
    fn map(fd: &OwnedFd, shape: Shape) -> Result<MappedTable> {
        let map = map_control(fd, 0, table_len(shape.cells, shape.members, page_size()))?;
        let base = NonNull::new(map.as_mut_ptr())
            .ok_or_else(|| Error::os("mmap", nix::errno::Errno::EFAULT, "cannot map a segment"))?;
        Ok(MappedTable { map: ManuallyDrop::new(map), home: Home::here(), base, shape })
    }

    /// The view for `ringbell_ring`. It is valid while `self` lives, and only in the process that made it.
    pub(crate) fn memory(&self) -> TableMemory {
        // SAFETY: `table_len` bytes of this shape are mapped for reading and writing, at the start of a page (M1).
        // Every caller in this crate keeps the `Arc` of `self` beside the view.
        unsafe { TableMemory::from_raw(self.base, self.shape) }
    }

    /// Whether this process is a forked child of the one that mapped the table: there is no memory here then.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.home.is_foreign()
    }
}

impl Drop for MappedTable {
    fn drop(&mut self) {
        if !self.home.is_foreign() {
            // SAFETY: it is dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.map) }
        }
    }
}

/// What a member holds of its table.
#[derive(Debug)]
pub(crate) struct OwnTable {
    pub(crate) mapped: Arc<MappedTable>,
    /// The descriptor that is announced and handed out.
    pub(crate) fd: OwnedFd,
    /// An open file of this process alone, for the lock of the member.
    pub(crate) own: ForkGuarded,
}

impl OwnTable {
    fn new(fd: OwnedFd, mapped: MappedTable) -> Result<OwnTable> {
        let own = ForkGuarded::new(memfd::reopen(&fd)?);
        Ok(OwnTable { mapped: Arc::new(mapped), fd, own })
    }

    /// What a record says of the table.
    pub(crate) fn describe(&self) -> Result<SyncRecord> {
        let found = memfd::identity(&self.fd)
            .map_err(|errno| Error::os("fstat", errno, "cannot look at a segment"))?
            .ok_or_else(|| Error::CorruptPeer { what: "the sync segment is not shared memory".into() })?;
        let shape = self.mapped.shape;
        let [high, low] = shape.nonce.map(u128::from);
        Ok(SyncRecord {
            cells: shape.cells as u16,
            members: shape.members as u16,
            permits: shape.permits,
            nonce: format!("{:032x}", high << 64 | low),
            memory: MemfdRef { fd: self.fd.as_raw_fd(), inode: found.inode, size: found.size },
        })
    }
}

/// Makes a table of this shape, which is valid.
///
/// # Errors
/// The kernel's error.
pub(crate) fn create_table(shape: Shape) -> Result<OwnTable> {
    let length = table_len(shape.cells, shape.members, page_size());
    let fd = memfd::create(c"ringbell-sync", length as u64)?;
    let mapped = MappedTable::map(&fd, shape)?;
    memfd::add_seals(&fd, CONTROL_SEALS)?;
    mapped.memory().begin();
    OwnTable::new(fd, mapped)
}

/// Checks and maps the table that a member announced.
///
/// # Errors
/// `ERR_RINGBELL_CORRUPT_PEER` names the rule that was broken, `ERR_RINGBELL_PROTOCOL_VERSION` both versions.
pub(crate) fn attach_table(fd: OwnedFd, kind: Kind, record: &SyncRecord) -> Result<OwnTable> {
    let shape = Shape {
        kind,
        cells: record.cells.into(),
        members: record.members.into(),
        permits: record.permits,
        nonce: nonce_words(&record.nonce)?,
    };
    let length = table_len(shape.cells, shape.members, page_size());
    if !shape.is_valid() || record.memory.size != length as u64 {
        return Err(Error::CorruptPeer { what: "its record announces an impossible table".into() });
    }
    super::attach::announced(SEGMENT, fd.as_fd(), record.memory, length)?;
    inspect(SEGMENT, fd.as_fd(), length, CONTROL_SEALS)?;
    let mapped = MappedTable::map(&fd, shape)?;
    mapped.memory().check().map_err(|error| refused(SEGMENT, error))?;
    OwnTable::new(fd, mapped)
}
