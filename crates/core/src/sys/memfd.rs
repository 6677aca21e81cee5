//! memfd: anonymous shared memory. Seals can fix its size for good.
//!
//! Invariant: a memfd that `create` returns has exactly the size asked for. One that is handed to a peer has
//! the seals of its kind. Only seals protect it: a holder of a read-only descriptor can
//! re-open it for writing. Callers: `segment`, and `doctor` to try it out.
//! Never maps anything and never decides which seals a segment needs.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fstat};

use crate::{Error, Result};

/// `MFD_NOEXEC_SEAL`, Linux 6.3; older kernels answer EINVAL.
const NOEXEC_SEAL: MFdFlags = MFdFlags::from_bits_retain(0x8);

/// The facts by which a memfd is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) inode: u64,
    pub(crate) size: u64,
}

/// Creates a sealable, close-on-exec memfd of `size` zeroed bytes.
///
/// # References
/// `memfd_create(2)`, `ftruncate(2)`, `vm.memfd_noexec` in `sysctl/vm`.
///
/// # Errors
/// ENOSYS if a filter forbids it, EMFILE and ENFILE, ENOMEM, and EFBIG if `RLIMIT_FSIZE` is
/// smaller than `size` (checked first, because the kernel answers with a fatal SIGXFSZ).
pub(crate) fn create(name: &CStr, size: u64) -> Result<OwnedFd> {
    let plain = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, plain | NOEXEC_SEAL) {
        Err(Errno::EINVAL) => memfd_create(name, plain),
        other => other,
    }
    .map_err(|errno| Error::os("memfd_create", errno, create_hint(errno)))?;
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_FSIZE)
        && soft < size
    {
        let hint = format!("a segment of {size} bytes cannot be made while RLIMIT_FSIZE is {soft} bytes");
        return Err(Error::os("ftruncate", Errno::EFBIG, hint));
    }
    let length = i64::try_from(size).map_err(|_| too_large(size))?;
    nix::unistd::ftruncate(&fd, length)
        .map_err(|errno| Error::os("ftruncate", errno, format!("cannot make a segment of {size} bytes")))?;
    Ok(fd)
}

/// Adds seals; they can never be taken away.
///
/// # References
/// `fcntl(2)` F_ADD_SEALS; `F_SEAL_FUTURE_WRITE` is Linux 5.1.
///
/// # Errors
/// EPERM if `F_SEAL_SEAL` is set already, EINVAL if the kernel does not know a seal.
pub(crate) fn add_seals(fd: impl AsFd, seals: SealFlag) -> Result<()> {
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals)).map(drop).map_err(|errno| match errno {
        Errno::EINVAL => {
            Error::UnsupportedPlatform { what: "F_SEAL_FUTURE_WRITE needs Linux 5.1 or newer".into() }
        }
        errno => Error::os("fcntl", errno, "cannot seal a segment (F_ADD_SEALS)"),
    })
}

/// Reads the seals of a file.
///
/// # References
/// `fcntl(2)` F_GET_SEALS. Files on tmpfs report `F_SEAL_SEAL` alone.
///
/// # Errors
/// EINVAL if the file cannot have seals; EBADF for an `O_PATH` descriptor.
pub(crate) fn seals(fd: impl AsFd) -> nix::Result<SealFlag> {
    fcntl(fd, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain)
}

/// Reads the facts by which a memfd is recognised. `None`: it is not a regular file.
///
/// # References
/// `fstat(2)`. All memfds share one device, so the inode number is enough.
///
/// # Errors
/// EBADF.
pub(crate) fn identity(fd: impl AsFd) -> nix::Result<Option<Identity>> {
    let stat = fstat(fd)?;
    let regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    Ok(regular.then_some(Identity { inode: stat.st_ino, size: u64::try_from(stat.st_size).unwrap_or(0) }))
}

/// Opens a memfd again. The result is an open file of this process alone, for OFD locks that no peer shares.
///
/// # References
/// `proc(5)` /proc/PID/fd; `fcntl(2)`, open file description locks and leases.
///
/// # Errors
/// ENOENT without /proc, EMFILE and ENFILE, EACCES where a security module forbids it. `ERR_RINGBELL_CORRUPT_PEER`
/// when its maker holds a lease on it: without `O_NONBLOCK` the call would wait until the maker gives the lease up,
/// 45 s by default.
pub(crate) fn reopen(fd: impl AsFd) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let opened = loop {
        match open(path.as_str(), flags, Mode::empty()) {
            Err(Errno::EINTR) => {}
            opened => break opened,
        }
    };
    opened.map_err(|errno| match errno {
        Errno::EAGAIN => Error::CorruptPeer { what: "another process holds a lease on its segment".into() },
        errno => {
            Error::os("open", errno, "cannot open a segment again through /proc/self/fd; is /proc mounted?")
        }
    })
}

/// Opens the file behind a descriptor of another process. Unlike `pidfd_getfd` it is not subject to Yama, and works before
/// Linux 5.6. The caller checks what came, and that the process is the one that it means.
///
/// # References
/// `proc(5)` /proc/PID/fd: PTRACE_MODE_READ_FSCREDS.
///
/// # Errors
/// EACCES and EPERM for another user's process, ENOENT without that process or descriptor.
pub(crate) fn open_of(pid: u32, number: i32) -> nix::Result<OwnedFd> {
    let path = format!("/proc/{pid}/fd/{number}");
    open(path.as_str(), OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC, Mode::empty())
}

fn create_hint(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSYS | Errno::EPERM | Errno::EACCES => {
            "this process may not create memfds; allow memfd_create in its seccomp profile, and see vm.memfd_noexec"
        }
        _ => "cannot create shared memory",
    }
}

fn too_large(size: u64) -> Error {
    Error::os("ftruncate", Errno::EFBIG, format!("{size} bytes are more than a file can hold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `asm-generic/fcntl.h`; libc does not have it.
    const F_SETSIG: libc::c_int = 10;

    #[test]
    fn one_that_is_leased_is_refused_without_waiting() {
        let made = create(c"ringbell-test", 8192).unwrap();
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        let kept: OwnedFd = std::fs::File::open(path).unwrap().into();
        // A lease on reading is only given while no process has the file open for writing.
        drop(made);
        // SAFETY: both calls take numbers. The kernel then sends the holder SIGURG, which is ignored by default,
        // instead of SIGIO.
        let leased = unsafe {
            libc::fcntl(kept.as_raw_fd(), F_SETSIG, libc::SIGURG);
            libc::fcntl(kept.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK)
        };
        assert_eq!(leased, 0);
        assert_eq!(reopen(&kept).unwrap_err().code(), "ERR_RINGBELL_CORRUPT_PEER");
    }

    #[test]
    fn a_new_memfd_has_its_size_and_takes_seals_once() {
        let fd = create(c"ringbell-test", 8192).unwrap();
        assert_eq!(identity(&fd).unwrap().unwrap().size, 8192);
        add_seals(&fd, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL).unwrap();
        assert!(seals(&fd).unwrap().contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL));
        assert!(add_seals(&fd, SealFlag::F_SEAL_GROW).is_err());
        assert_eq!(nix::unistd::ftruncate(&fd, 0), Err(Errno::EPERM));
    }

    #[test]
    fn a_second_description_is_the_same_file() {
        let fd = create(c"ringbell-test", 4096).unwrap();
        let own = reopen(&fd).unwrap();
        assert_eq!(identity(&fd).unwrap(), identity(&own).unwrap());
    }

    #[test]
    fn a_pipe_has_no_identity_and_no_seals() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        assert_eq!(identity(&read).unwrap(), None);
        assert!(seals(&read).is_err());
    }
}
