//! The two segments as memfds. A third mapping, which is writable, plays the hostile peer that scribbles over them.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use ringbell_ring::layout::{control_len, data_len};
use ringbell_ring::{ControlMemory, DataMemory};

const PAGE: usize = 4096;

/// Both segments, as the publisher (`data`) and the subscribers (`view`, read-only) see them.
pub struct Memory {
    pub data: DataMemory,
    pub view: DataMemory,
    pub control: ControlMemory,
    owner: Area,
    reader: Area,
    words: Area,
    capacity: usize,
}

// SAFETY: as for the views: addresses of shared memory, used by atomics and by the copies of the crate.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub fn new(capacity: usize, slots: usize) -> Self {
        let data_fd = memfd(data_len(capacity, PAGE));
        let control_fd = memfd(control_len(slots, PAGE));
        let owner = Area::twice(data_fd, capacity, libc::PROT_READ | libc::PROT_WRITE);
        let reader = Area::twice(data_fd, capacity, libc::PROT_READ);
        let words = Area::once(control_fd, control_len(slots, PAGE));
        // SAFETY: closes descriptors made above; the mappings keep their files.
        unsafe {
            libc::close(data_fd);
            libc::close(control_fd);
        }
        // SAFETY: both areas are a page, the frames, and the frames again (I1). They live as long as this value, and
        // the tests keep it for as long as every producer and consumer.
        let (data, view) = unsafe {
            (
                DataMemory::from_raw(owner.start, owner.start.add(PAGE), capacity),
                DataMemory::from_raw(reader.start, reader.start.add(PAGE), capacity),
            )
        };
        // SAFETY: `control_len` bytes, mapped as long as this value lives.
        let control = unsafe { ControlMemory::from_raw(words.start, slots) };
        Self { data, view, control, owner, reader, words, capacity }
    }

    /// The word at `offset` of the data segment, as a hostile publisher could write it.
    pub fn data_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= PAGE + self.capacity);
        // SAFETY: within the mapping and aligned, an atomic.
        unsafe { self.owner.start.add(offset & !7).cast().as_ref() }
    }

    /// The word at `offset` of the control segment.
    pub fn control_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.words.length);
        // SAFETY: within the mapping and aligned, an atomic.
        unsafe { self.words.start.add(offset & !7).cast().as_ref() }
    }

    pub fn data_length(&self) -> usize {
        PAGE + self.capacity
    }

    pub fn control_length(&self) -> usize {
        self.words.length
    }

    /// Bytes of the subscribers' mapping of the frames, as a lease names them.
    pub fn leased(&self, at: usize, length: usize) -> Vec<u8> {
        assert!(at + length <= 2 * self.capacity);
        let mut bytes = vec![0; length];
        // SAFETY: within the second mapping of the frames, into private memory of that length.
        unsafe {
            bytes.as_mut_ptr().copy_from_nonoverlapping(self.reader.start.add(PAGE + at).as_ptr(), length);
        }
        bytes
    }
}

struct Area {
    start: NonNull<u8>,
    length: usize,
}

impl Area {
    fn once(fd: i32, length: usize) -> Self {
        Self { start: map(None, fd, 0, length, libc::PROT_READ | libc::PROT_WRITE), length }
    }

    fn twice(fd: i32, capacity: usize, protection: i32) -> Self {
        let length = PAGE + 2 * capacity;
        let start = map(None, -1, 0, length, libc::PROT_NONE);
        map(Some(start), fd, 0, PAGE + capacity, protection);
        // SAFETY: within the area reserved above.
        let again = unsafe { start.add(PAGE + capacity) };
        map(Some(again), fd, PAGE, capacity, protection);
        Self { start, length }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: unmaps what this value mapped.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

fn memfd(length: usize) -> i32 {
    // SAFETY: a name that ends in NUL; the descriptor is closed by the caller.
    let fd = unsafe { libc::memfd_create(c"ringbell-test".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create failed");
    // SAFETY: a descriptor that was just made.
    assert_eq!(unsafe { libc::ftruncate(fd, length as libc::off_t) }, 0, "ftruncate failed");
    fd
}

fn map(at: Option<NonNull<u8>>, fd: i32, offset: usize, length: usize, protection: i32) -> NonNull<u8> {
    let fixed = if at.is_some() { libc::MAP_FIXED } else { 0 };
    let kind = if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    let hint = at.map_or(std::ptr::null_mut(), NonNull::as_ptr);
    // SAFETY: a fresh mapping, or one over an area that the caller has reserved.
    let start =
        unsafe { libc::mmap(hint.cast(), length, protection, kind | fixed, fd, offset as libc::off_t) };
    assert_ne!(start, libc::MAP_FAILED, "mmap failed");
    NonNull::new(start.cast()).unwrap()
}
