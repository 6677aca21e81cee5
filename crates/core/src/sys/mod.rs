//! The kernel objects, one in each file. Only this folder and the mappings of `segment` contain `unsafe` in this crate.
//!
//! Every function here is safe to call, and returns owned descriptors. Every descriptor is close-on-exec. Nothing here
//! knows what a record, a topic or a peer is.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};

use crate::{Error, Result};

pub(crate) mod aio;
pub(crate) mod clock;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod generation;
pub(crate) mod inotify;
pub(crate) mod listing;
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
pub(crate) mod stream;
pub(crate) mod timerfd;
pub(crate) mod tmpfile;

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

/// Whether a name in a directory leads to the file with this stat.
///
/// # References
/// `fstatat(2)` with AT_SYMLINK_NOFOLLOW.
///
/// # Errors
/// When that cannot be told.
pub(crate) fn leads_to(
    directory: impl AsFd,
    name: &(impl NixPath + ?Sized),
    stat: &FileStat,
) -> nix::Result<bool> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(there) => Ok(there.st_ino == stat.st_ino && there.st_dev == stat.st_dev),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
