//! The kernel objects, one in each file. Only this folder and the mappings of `segment` contain `unsafe` in this crate.
//!
//! Every function here is safe to call, and returns owned descriptors. Every descriptor is close-on-exec. Nothing here
//! knows what a record, a topic or a peer is.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::{Error, Result};

pub(crate) mod aio;
pub(crate) mod clock;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fork;
pub(crate) mod generation;
pub(crate) mod inotify;
pub(crate) mod lock;
pub(crate) mod membarrier;
pub(crate) mod memfd;
pub(crate) mod mmap;
pub(crate) mod pidfd;
pub(crate) mod prctl;
pub(crate) mod proc;
pub(crate) mod random;
pub(crate) mod scm;
pub(crate) mod seqpacket;
pub(crate) mod tmpfile;

/// Opens a directory once more, to list it.
///
/// # References
/// `openat(2)`, `fdopendir(3)`.
///
/// # Errors
/// `ERR_RINGBELL_RESOURCE` when descriptors or memory ran out, `ERR_RINGBELL_SYSTEM` otherwise.
pub(crate) fn list(directory: BorrowedFd<'_>) -> Result<Dir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let failed = |call| move |errno| Error::os(call, errno, "cannot list the bus directory");
    let opened = openat(directory, ".", flags, Mode::empty()).map_err(failed("openat"))?;
    let number = opened.as_raw_fd();
    Dir::from_fd(opened).map_err(|errno| {
        // SAFETY: after an error nix has given the descriptor up without closing it, so this code alone knows its number.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        failed("fdopendir")(errno)
    })
}

/// Makes another descriptor of this process for the same open file.
///
/// # References
/// `fcntl(2)` F_DUPFD_CLOEXEC.
///
/// # Errors
/// `ERR_RINGBELL_RESOURCE` when descriptors ran out.
pub(crate) fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE));
        Error::os("fcntl", errno, "cannot copy a descriptor")
    })
}
