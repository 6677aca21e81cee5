//! Listing a directory that is open already.
//!
//! Invariant: at every moment one owner alone closes the new descriptor: the [`OwnedFd`] until `fdopendir` succeeded,
//! the [`Stream`] afterwards. Called by `bus::scan`. It says nothing about what the names mean.

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::{Error, Result};

/// The names in a directory, without `.` and `..`. Opens it once more, so that the position of `directory` stays.
///
/// # References
/// `openat(2)`, `fdopendir(3)`, `readdir(3)`.
///
/// # Errors
/// `ERR_RINGBELL_RESOURCE` when descriptors or memory ran out, `ERR_RINGBELL_SYSTEM` otherwise.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let failed = |call, errno| Error::os(call, errno, "cannot list the bus directory");
    let opened = openat(directory, ".", flags, Mode::empty()).map_err(|errno| failed("openat", errno))?;
    // SAFETY: the descriptor is open. If the call fails, it has not taken the descriptor, and `opened` closes it.
    let Some(stream) = NonNull::new(unsafe { libc::fdopendir(opened.as_raw_fd()) }) else {
        return Err(failed("fdopendir", Errno::last()));
    };
    // The stream has taken it.
    let _ = opened.into_raw_fd();
    let mut stream = Stream(stream);
    let mut names = Vec::new();
    while let Some(name) = stream.next().map_err(|errno| failed("getdents64", errno))? {
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// An open directory stream, which owns its descriptor.
struct Stream(NonNull<libc::DIR>);

impl Stream {
    /// The next name; `None` at the end.
    fn next(&mut self) -> nix::Result<Option<OsString>> {
        // `readdir` changes errno only when it fails: that alone tells a failure from the end.
        Errno::clear();
        // SAFETY: the stream is open, and `&mut self` keeps other calls away from it. An entry is valid until the next
        // call, and its name ends with a zero byte; the name is copied before this returns.
        unsafe {
            let entry = libc::readdir64(self.0.as_ptr());
            if entry.is_null() {
                return match Errno::last_raw() {
                    0 => Ok(None),
                    errno => Err(Errno::from_raw(errno)),
                };
            }
            let name = CStr::from_ptr((&raw const (*entry).d_name).cast());
            Ok(Some(OsStr::from_bytes(name.to_bytes()).to_owned()))
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream is open, and nothing uses it afterwards.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn every_name_is_listed_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected: Vec<OsString> = (0..2000).map(|number| format!("name-{number}").into()).collect();
        expected.push(OsStr::from_bytes(b"\xff").to_owned());
        expected.sort();
        for name in &expected {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let directory = std::fs::File::open(folder.path()).unwrap();
        for _ in 0..2 {
            let mut listed = names(directory.as_fd()).unwrap();
            listed.sort();
            assert!(listed == expected, "{} names", listed.len());
        }
        let file = std::fs::File::open(folder.path().join("name-0")).unwrap();
        assert_eq!(names(file.as_fd()).unwrap_err().errno(), Some(libc::ENOTDIR));
    }
}
