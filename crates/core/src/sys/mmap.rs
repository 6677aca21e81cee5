//! mmap: memory that several processes share.
//!
//! A `Mirror` maps a header and then the same frames twice in a row, so that a frame that crosses the end
//! of the ring is contiguous. Invariants: a mapping is never left half made. It is unmapped on drop and only
//! then. A forked child does not inherit it (MADV_DONTFORK), and a drop in the child unmaps nothing, because other
//! memory may lie there by then. It hands out addresses, never references.
//! Called by `segment`, which has checked size and seals before: an unsealed file could shrink while it is mapped.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::mman::{
    MRemapFlags, MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, mprotect, mremap, munmap,
};

use super::generation::Home;
use crate::{Error, Result};

/// `MADV_POPULATE_WRITE`, Linux 5.14: unlike MAP_POPULATE it reports when memory runs out, and is faster.
const MADV_POPULATE_WRITE: libc::c_int = 23;

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Writable, with every page in place. So a lack of memory is an error here, and not a SIGBUS later.
    WritePopulated,
}

/// `header | frames | frames`. The last two are the same memory.
#[derive(Debug)]
pub(crate) struct Mirror {
    base: NonNull<c_void>,
    length: usize,
    home: Home,
}

// SAFETY: a mapping belongs to the process and not to a thread; this type only holds its address.
unsafe impl Send for Mirror {}
// SAFETY: as above; every access goes through ringbell-ring's views (I1).
unsafe impl Sync for Mirror {}

impl Mirror {
    /// Maps `header + frames` bytes of the file, and the `frames` part once more directly behind. Both are
    /// multiples of the page size.
    ///
    /// # References
    /// `mmap(2)` MAP_FIXED over a reservation, `madvise(2)` MADV_DONTFORK, MADV_POPULATE_WRITE.
    ///
    /// # Errors
    /// ENOMEM for address space, `vm.max_map_count` or memory, EPERM for writing what is sealed.
    pub(crate) fn map(fd: BorrowedFd<'_>, header: usize, frames: usize, access: Access) -> Result<Mirror> {
        let mirror = Mirror::reserve(header, frames)?;
        mirror.place(fd, 0, header + frames, 0, access)?;
        mirror.place(fd, header + frames, frames, header, access)?;
        mirror.keep_from_children()?;
        if access == Access::WritePopulated {
            mirror.populate(fd, header, frames)?;
        }
        Ok(mirror)
    }

    /// The same without a file, for machines without memfd: writable memory of this process alone.
    ///
    /// # References
    /// `mmap(2)` MAP_SHARED | MAP_ANONYMOUS; `mremap(2)`: an old size of 0 maps a shared mapping once more.
    ///
    /// # Errors
    /// ENOMEM for address space, `vm.max_map_count` or memory.
    pub(crate) fn anonymous(header: usize, frames: usize) -> Result<Mirror> {
        let mirror = Mirror::reserve(header, frames)?;
        let once = NonZeroUsize::new(header + frames).ok_or_else(|| failed("mmap", Errno::EINVAL))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the first part of the reservation, which no other code knows of.
        unsafe {
            mmap_anonymous(
                mirror.base.addr().into(),
                once,
                protection,
                MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
            )
        }
        .map_err(|errno| failed("mmap", errno))?;
        // SAFETY: from the frames just mapped to the rest of the reservation, which is as long.
        unsafe {
            mremap(
                mirror.base.byte_add(header),
                0,
                frames,
                MRemapFlags::MREMAP_MAYMOVE | MRemapFlags::MREMAP_FIXED,
                Some(mirror.base.byte_add(header + frames)),
            )
        }
        .map_err(|errno| failed("mremap", errno))?;
        mirror.keep_from_children()?;
        // SAFETY: exactly this mapping; populating changes no contents. Before Linux 5.14 a page comes when it is
        // touched.
        let populated = unsafe { libc::madvise(mirror.base.as_ptr(), mirror.length, MADV_POPULATE_WRITE) };
        match Errno::result(populated) {
            Ok(_) | Err(Errno::EINVAL) => Ok(mirror),
            Err(Errno::EFAULT) => Err(failed("madvise", Errno::ENOMEM)),
            Err(errno) => Err(failed("madvise", errno)),
        }
    }

    /// Reserves address space for all of it. Nothing in it can be accessed yet.
    fn reserve(header: usize, frames: usize) -> Result<Mirror> {
        let length = frames.checked_mul(2).and_then(|both| both.checked_add(header));
        let length = length.and_then(NonZeroUsize::new).ok_or_else(|| failed("mmap", Errno::EINVAL))?;
        // SAFETY: a new anonymous reservation, at an address that the kernel chooses.
        let base = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_NONE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }
        .map_err(|errno| failed("mmap", errno))?;
        // From here on a failure unmaps everything.
        Ok(Mirror { base, length: length.get(), home: Home::here() })
    }

    fn keep_from_children(&self) -> Result<()> {
        // SAFETY: exactly the mapping made in `reserve`.
        unsafe { madvise(self.base, self.length, MmapAdvise::MADV_DONTFORK) }
            .map_err(|errno| failed("madvise", errno))
    }

    /// Takes away the right to write. The pages stay in place, so none must be faulted in again.
    ///
    /// # References
    /// `mprotect(2)`.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn make_read_only(&self) -> Result<()> {
        // SAFETY: exactly this mapping; the owner makes sure that no code writes there any more.
        unsafe { mprotect(self.base, self.length, ProtFlags::PROT_READ) }
            .map_err(|errno| failed("mprotect", errno))
    }

    /// Address of the header.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }

    fn place(
        &self,
        fd: BorrowedFd<'_>,
        at: usize,
        length: usize,
        offset: usize,
        access: Access,
    ) -> Result<()> {
        let protection = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::WritePopulated => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        self.place_with(fd, at, length, offset, protection, MapFlags::MAP_SHARED)
    }

    fn place_with(
        &self,
        fd: BorrowedFd<'_>,
        at: usize,
        length: usize,
        offset: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<()> {
        let address = self.base.addr().checked_add(at);
        let length = NonZeroUsize::new(length).ok_or_else(|| failed("mmap", Errno::EINVAL))?;
        let offset = libc::off_t::try_from(offset).map_err(|_| failed("mmap", Errno::EINVAL))?;
        // SAFETY: [at, at + length) is inside the reservation, which no other code knows of. So MAP_FIXED
        // replaces only pages of ours.
        unsafe { mmap(address, length, protection, flags | MapFlags::MAP_FIXED, fd, offset) }
            .map(drop)
            .map_err(|errno| failed("mmap", errno))
    }

    fn populate(&self, fd: BorrowedFd<'_>, header: usize, frames: usize) -> Result<()> {
        // SAFETY: exactly this mapping; populating changes no contents.
        let result = unsafe { libc::madvise(self.base.as_ptr(), self.length, MADV_POPULATE_WRITE) };
        match Errno::result(result) {
            Ok(_) => Ok(()),
            // A kernel before 5.14: map once more, this time with MAP_POPULATE, which reports nothing.
            Err(Errno::EINVAL) => {
                let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
                let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
                self.place_with(fd, 0, header + frames, 0, protection, flags)?;
                self.place_with(fd, header + frames, frames, header, protection, flags)?;
                // The earlier advice was lost with the first pages.
                self.keep_from_children()
            }
            // The kernel had no page (memory cgroup, hardware): it answers EFAULT or EHWPOISON.
            Err(Errno::EFAULT) => Err(failed("madvise", Errno::ENOMEM)),
            Err(errno) => Err(failed("madvise", errno)),
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        // SAFETY: exactly the mapping made in `map`. Every holder of a view also holds the `Arc` of its owner (I1).
        let _ = unsafe { munmap(self.base, self.length) };
    }
}

/// Maps `length` bytes of a small file once, for reading and writing. `offset` is a multiple of the page size.
///
/// # References
/// `mmap(2)`, `madvise(2)` MADV_DONTFORK; `memmap2::MmapRaw`.
///
/// # Errors
/// ENOMEM, EACCES for a descriptor that is not open for writing, EPERM for a sealed file.
pub(crate) fn map_control(fd: impl AsFd, offset: usize, length: usize) -> Result<MmapRaw> {
    let io =
        |error: std::io::Error| failed("mmap", Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)));
    let map =
        MmapOptions::new().offset(offset as u64).len(length).map_raw(fd.as_fd().as_raw_fd()).map_err(io)?;
    map.advise(memmap2::Advice::DontFork).map_err(io)?;
    Ok(map)
}

/// Pieces of one length at fixed addresses. Each piece is either private zeroes or a small file, and can be exchanged.
/// It is readable and writable all the time: a reader sees either the old or the new memory during an exchange.
#[derive(Debug)]
pub(crate) struct Pieces {
    base: NonNull<c_void>,
    piece: NonZeroUsize,
    count: usize,
    home: Home,
}

// SAFETY: a mapping belongs to the process and not to a thread; this type only holds its address.
unsafe impl Send for Pieces {}
// SAFETY: as above; the memory there is accessed through atomics alone (I1).
unsafe impl Sync for Pieces {}

impl Pieces {
    /// Reserves `count` pieces of `piece` bytes, all of them zeroes. `piece` is a multiple of the page size.
    ///
    /// # References
    /// `mmap(2)`, `madvise(2)` MADV_DONTFORK.
    ///
    /// # Errors
    /// ENOMEM.
    pub(crate) fn reserve(count: usize, piece: usize) -> Result<Pieces> {
        let piece = NonZeroUsize::new(piece).ok_or_else(|| failed("mmap", Errno::EINVAL))?;
        let length = piece.get().checked_mul(count).and_then(NonZeroUsize::new);
        let length = length.ok_or_else(|| failed("mmap", Errno::EINVAL))?;
        // SAFETY: new anonymous memory, at an address that the kernel chooses.
        let base = unsafe { mmap_anonymous(None, length, READ_WRITE, MapFlags::MAP_PRIVATE) }
            .map_err(|errno| failed("mmap", errno))?;
        let pieces = Pieces { base, piece, count, home: Home::here() };
        pieces.keep_from_children(base, length.get())?;
        Ok(pieces)
    }

    /// The address of a piece. It is valid for as long as `self` lives.
    pub(crate) fn address(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.count);
        // SAFETY: inside the mapping, which is `count` pieces long.
        unsafe { self.base.cast::<u8>().add(index * self.piece.get()) }
    }

    /// Maps a file of the pieces' length at the address of a piece (I13).
    ///
    /// # References
    /// `mmap(2)` MAP_FIXED: for other threads the exchange is one step.
    ///
    /// # Errors
    /// ENOMEM for `vm.max_map_count`.
    pub(crate) fn place(&self, index: usize, fd: BorrowedFd<'_>) -> Result<()> {
        let address = self.address(index);
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: exactly one piece of ours. Code that has its address reads and writes atomics there, before and
        // after.
        let placed = unsafe { mmap(Some(address.addr()), self.piece, READ_WRITE, flags, fd, 0) }
            .map_err(|errno| failed("mmap", errno))?;
        self.keep_from_children(placed, self.piece.get())
    }

    /// Maps zeroes at the address of a piece (I13).
    ///
    /// # References
    /// `mmap(2)` MAP_FIXED, as above.
    ///
    /// # Errors
    /// ENOMEM; then the piece is unchanged.
    pub(crate) fn clear(&self, index: usize) -> Result<()> {
        let address = self.address(index);
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
        // SAFETY: as in `place`.
        let cleared = unsafe { mmap_anonymous(Some(address.addr()), self.piece, READ_WRITE, flags) }
            .map_err(|errno| failed("mmap", errno))?;
        self.keep_from_children(cleared, self.piece.get())
    }

    fn keep_from_children(&self, at: NonNull<c_void>, length: usize) -> Result<()> {
        // SAFETY: pages of this mapping; their contents stay.
        unsafe { madvise(at, length, MmapAdvise::MADV_DONTFORK) }.map_err(|errno| failed("madvise", errno))
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        // SAFETY: exactly the mapping made in `reserve`. Every holder of a view also holds its owner (I1).
        let _ = unsafe { munmap(self.base, self.piece.get() * self.count) };
    }
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// Memory of this process alone, instead of a small file.
///
/// # References
/// As for [`map_control`]; `mmap(2)` MAP_ANONYMOUS.
///
/// # Errors
/// ENOMEM.
pub(crate) fn anonymous_control(length: usize) -> Result<MmapRaw> {
    let io =
        |error: std::io::Error| failed("mmap", Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOMEM)));
    let map = MmapRaw::from(MmapOptions::new().len(length).map_anon().map_err(io)?);
    map.advise(memmap2::Advice::DontFork).map_err(io)?;
    Ok(map)
}

fn failed(syscall: &'static str, errno: Errno) -> Error {
    Error::os(syscall, errno, "cannot map a segment")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memfd;

    #[test]
    fn the_second_half_is_the_first() {
        let fd = memfd::create(c"ringbell-test", 4096 * 3).unwrap();
        let writer = Mirror::map(fd.as_fd(), 4096, 8192, Access::WritePopulated).unwrap();
        let reader = Mirror::map(fd.as_fd(), 4096, 8192, Access::Read).unwrap();
        // SAFETY: offsets inside the two mappings; no other code has them.
        unsafe {
            writer.base().add(4096 + 8191).write_volatile(7);
            writer.base().add(4096 + 8192 + 1).write_volatile(9);
            assert_eq!(reader.base().add(4096 + 8192 + 8191).read_volatile(), 7);
            assert_eq!(reader.base().add(4096 + 1).read_volatile(), 9);
        }
    }

    #[test]
    fn without_a_file_the_second_half_is_the_first_too() {
        let mirror = Mirror::anonymous(4096, 8192).unwrap();
        // SAFETY: offsets inside the mapping; no other code has it.
        unsafe {
            mirror.base().write_volatile(5);
            mirror.base().add(4096 + 8191).write_volatile(7);
            mirror.base().add(4096 + 8192 + 1).write_volatile(9);
            assert_eq!(mirror.base().add(4096 + 8192 + 8191).read_volatile(), 7);
            assert_eq!(mirror.base().add(4096 + 1).read_volatile(), 9);
            assert_eq!(mirror.base().read_volatile(), 5, "the header is there once");
        }
    }

    #[test]
    fn every_mapping_is_unmapped() {
        let fd = memfd::create(c"ringbell-unmap", 8192).unwrap();
        let count = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("ringbell-unmap").count();
        let mirror = Mirror::map(fd.as_fd(), 4096, 4096, Access::Read).unwrap();
        assert_eq!(count(), 2);
        drop(mirror);
        assert_eq!(count(), 0);
    }

    #[test]
    fn the_right_to_write_can_be_given_up() {
        let fd = memfd::create(c"ringbell-given-up", 4096 * 3).unwrap();
        let rights = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let ours = maps.lines().filter(|line| line.contains("ringbell-given-up"));
            ours.map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mirror = Mirror::map(fd.as_fd(), 4096, 8192, Access::WritePopulated).unwrap();
        assert_eq!(rights(), ["rw-s", "rw-s"]);
        // SAFETY: an offset inside of the mapping; no other code has it.
        unsafe { mirror.base().add(4096).write_volatile(7) };
        mirror.make_read_only().unwrap();
        assert_eq!(rights(), ["r--s", "r--s"]);
        // SAFETY: as above, in the second half.
        assert_eq!(unsafe { mirror.base().add(4096 + 8192).read_volatile() }, 7);
    }

    #[test]
    fn pieces_are_exchanged_in_place_and_one_by_one() {
        let count = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("ringbell-piece").count();
        let pieces = Pieces::reserve(3, 4096).unwrap();
        let fd = memfd::create(c"ringbell-piece", 4096).unwrap();
        // SAFETY: addresses inside the mapping; no other code has them.
        let read = |index| unsafe { pieces.address(index).read_volatile() };
        assert_eq!((read(0), read(1), read(2)), (0, 0, 0));
        pieces.place(1, fd.as_fd()).unwrap();
        // SAFETY: as above.
        unsafe { pieces.address(1).write_volatile(7) };
        let mut byte = [0];
        nix::sys::uio::pread(&fd, &mut byte, 0).unwrap();
        assert_eq!((byte, read(0), read(1), read(2), count()), ([7], 0, 7, 0, 1));
        pieces.clear(1).unwrap();
        assert_eq!((read(1), count()), (0, 0));
        pieces.place(2, fd.as_fd()).unwrap();
        assert_eq!((read(1), read(2)), (0, 7), "another place, the same file");
        drop(pieces);
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_writable_mapping_of_sealed_memory_fails_without_a_leak() {
        let fd = memfd::create(c"ringbell-seal", 8192).unwrap();
        memfd::add_seals(&fd, nix::fcntl::SealFlag::F_SEAL_WRITE).unwrap();
        assert!(Mirror::map(fd.as_fd(), 4096, 4096, Access::WritePopulated).is_err());
        assert!(!std::fs::read_to_string("/proc/self/maps").unwrap().contains("ringbell-seal"));
        assert!(map_control(&fd, 0, 8192).is_err());
    }
}
