//! Open-file-description locks: the kernel's proof that a process is alive.
//!
//! Invariants: a write lock belongs to the open file, not to the process. It goes when the last descriptor of that open
//! file goes, whatever killed its owner. A probe asks whether a *read* lock would be refused. Any process that may read
//! a file can take a read lock, and such a lock must never look like an owner. Never a POSIX lock, never flock.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::error::{Error, Result};

/// # Takes the write lock on one byte. False when another open file has it
///
/// References: fcntl(2), F_OFD_SETLK. `fd` must be open for writing.
///
/// Errors: [`Error::Os`] or [`Error::Resource`] (ENOLCK).
pub(crate) fn take(fd: impl AsFd, byte: u64) -> Result<bool> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, byte))) {
        Ok(_) => Ok(true),
        // POSIX also allows EACCES, but Linux means something else by it: a security module forbids the lock.
        Err(Errno::EAGAIN) => Ok(false),
        Err(errno) => Err(Error::os("fcntl", errno, "cannot lock (F_OFD_SETLK)")),
    }
}

/// # Takes a read lock on one byte. False when another open file has the write lock
///
/// Any number of open files may have it at once. References and errors: as for [`take`].
pub(crate) fn share(fd: impl AsFd, byte: u64) -> Result<bool> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, byte))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(Error::os("fcntl", errno, "cannot lock (F_OFD_SETLK)")),
    }
}

/// # Gives the lock on one byte back
///
/// References: fcntl(2), F_OFD_SETLK with F_UNLCK. A lock that this open file does not hold stays as it is.
///
/// Errors: [`Error::Os`] when the file cannot be locked at all.
pub(crate) fn release(fd: impl AsFd, byte: u64) -> Result<()> {
    match fcntl(fd, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, byte))) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::os("fcntl", errno, "cannot give a lock back (F_OFD_SETLK)")),
    }
}

/// # Whether another open file holds the write lock on one byte
///
/// References: fcntl(2), F_OFD_GETLK. Works with a descriptor open for reading only; takes nothing.
/// Through the holder's own open file the answer is always false.
///
/// Errors: [`Error::Os`] when the file cannot be locked at all.
pub(crate) fn is_held(fd: impl AsFd, byte: u64) -> Result<bool> {
    let mut probe = range(libc::F_RDLCK, byte);
    fcntl(fd, FcntlArg::F_OFD_GETLK(&mut probe))
        .map_err(|errno| Error::os("fcntl", errno, "cannot probe a lock (F_OFD_GETLK)"))?;
    Ok(i32::from(probe.l_type) == libc::F_WRLCK)
}

fn range(kind: libc::c_int, byte: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as libc::off_t,
        l_len: 1,
        // OFD locks are refused unless this is zero.
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    #[test]
    fn only_a_write_lock_of_another_open_file_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let owner = OpenOptions::new().read(true).write(true).open(file.path()).unwrap();
        let reader = File::open(file.path()).unwrap();
        assert!(!is_held(&reader, 0).unwrap());
        assert!(take(&owner, 0).unwrap());
        assert!(is_held(&reader, 0).unwrap());
        assert!(!is_held(&reader, 1).unwrap(), "each byte has a lock of its own");
        assert!(!is_held(&owner, 0).unwrap(), "one's own lock does not conflict");
        let second = OpenOptions::new().read(true).write(true).open(file.path()).unwrap();
        assert!(!take(&second, 0).unwrap());
        release(&second, 0).unwrap();
        assert!(is_held(&reader, 0).unwrap(), "nobody releases another one's");
        release(&owner, 0).unwrap();
        assert!(!is_held(&reader, 0).unwrap() && take(&owner, 0).unwrap());
        drop(owner);
        assert!(!is_held(&reader, 0).unwrap(), "closing releases");
        fcntl(&reader, FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, 0))).unwrap();
        assert!(!is_held(&second, 0).unwrap(), "a stranger's read lock is no owner");
    }
}
