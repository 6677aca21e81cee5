//! The two mappings. An `Arc` keeps each one alive as long as there is a view of it.
//!
//! Invariant (M1): a mapping has the length that the layout gives for its capacity or slots. The length was checked
//! before the mapping was made. The file is sealed against shrinking, or there is no file. So every view is inside
//! mapped memory until the `Arc` is dropped. Views are addresses without a lifetime: `memory` is only for this
//! crate, and the caller keeps the `Arc` beside what it made of the view. Called by the rest of `segment` and by
//! ports. It never returns a reference into a segment.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use memmap2::MmapRaw;
use ringbell_ring::{ControlMemory, DataMemory, layout};

use crate::sys::generation::Home;
use crate::sys::mmap::{Access, Mirror, anonymous_control, map_control};
use crate::{Error, Result};

/// The data segment: a header page, then the frames twice in a row.
#[derive(Debug)]
pub struct MappedData {
    mirror: Mirror,
    header: usize,
    capacity: usize,
}

impl MappedData {
    /// Maps a data segment whose size has been checked.
    pub(super) fn map(fd: BorrowedFd<'_>, capacity: usize, access: Access) -> Result<MappedData> {
        let page = page_size();
        let header = layout::data_len(capacity, page) - capacity;
        let mirror = Mirror::map(fd, header, capacity, access)?;
        Ok(MappedData { mirror, header, capacity })
    }

    /// Memory of this process alone, with the same layout.
    pub(super) fn anonymous(capacity: usize) -> Result<MappedData> {
        let header = layout::data_len(capacity, page_size()) - capacity;
        Ok(MappedData { mirror: Mirror::anonymous(header, capacity)?, header, capacity })
    }

    /// Gives up the right to write. This is for a ring whose headers were written here, but which another process
    /// writes. No view of it may be written to afterwards.
    pub(super) fn into_read_only(self) -> Result<MappedData> {
        self.mirror.make_read_only()?;
        Ok(self)
    }

    /// The address of the header page.
    pub fn header_ptr(&self) -> NonNull<u8> {
        self.mirror.base()
    }

    /// The address of the frames. `2 * capacity()` bytes are mapped there; the second half is the same memory as
    /// the first.
    pub fn frames_ptr(&self) -> NonNull<u8> {
        // SAFETY: the mapping begins with `header` bytes, and the frames follow (M1).
        unsafe { self.mirror.base().add(self.header) }
    }

    /// Bytes of the frames area, counted once.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The view for `ringbell_ring`. It is valid while `self` lives.
    pub(crate) fn memory(&self) -> DataMemory {
        // SAFETY: header, frames and their second mapping are as `from_raw` demands (M1). Every caller in this
        // crate keeps the `Arc` of `self` beside the view.
        unsafe { DataMemory::from_raw(self.header_ptr(), self.frames_ptr(), self.capacity) }
    }
}

/// The control segment: a header and the slots.
#[derive(Debug)]
pub struct MappedControl {
    /// It is not dropped in a forked child: it is not mapped there, and other memory may be at its address.
    map: ManuallyDrop<MmapRaw>,
    home: Home,
    base: NonNull<u8>,
    slots: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread. `base` is the address of `map`, and the memory there
// is accessed through atomics alone.
unsafe impl Send for MappedControl {}
// SAFETY: as above.
unsafe impl Sync for MappedControl {}

impl MappedControl {
    /// Maps a control segment whose size has been checked.
    pub(super) fn map(fd: BorrowedFd<'_>, slots: usize) -> Result<MappedControl> {
        MappedControl::map_at(fd, 0, slots)
    }

    /// Maps one of several control segments that lie in one file, each on pages of its own.
    pub(super) fn map_at(fd: BorrowedFd<'_>, offset: usize, slots: usize) -> Result<MappedControl> {
        MappedControl::of(map_control(fd, offset, layout::control_len(slots, page_size()))?, slots)
    }

    /// Memory of this process alone, with the same layout.
    pub(super) fn anonymous(slots: usize) -> Result<MappedControl> {
        MappedControl::of(anonymous_control(layout::control_len(slots, page_size()))?, slots)
    }

    fn of(map: MmapRaw, slots: usize) -> Result<MappedControl> {
        let base = NonNull::new(map.as_mut_ptr())
            .ok_or_else(|| Error::os("mmap", nix::errno::Errno::EFAULT, "cannot map a segment"))?;
        Ok(MappedControl { map: ManuallyDrop::new(map), home: Home::here(), base, slots })
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The view for `ringbell_ring`. It is valid while `self` lives.
    pub(crate) fn memory(&self) -> ControlMemory {
        // SAFETY: `control_len(slots)` bytes are mapped for reading and writing (M1). Every caller in this crate
        // keeps the `Arc` of `self` beside the view.
        unsafe { ControlMemory::from_raw(self.base, self.slots) }
    }
}

impl Drop for MappedControl {
    fn drop(&mut self) {
        if !self.home.is_foreign() {
            // SAFETY: it is dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.map) }
        }
    }
}

/// The machine's page size; 4 KiB if the kernel does not tell.
pub(crate) fn page_size() -> usize {
    let answer = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    answer.ok().flatten().and_then(|size| usize::try_from(size).ok()).unwrap_or(4096)
}
