//! Files that appear in a directory whole and locked, or not at all.
//!
//! Invariant: from the first moment that a name leads to the file, it has its full content and its owner's write lock
//! on byte 0. There are three methods, tried in this order: `O_TMPFILE` linked through /proc/self/fd; `O_TMPFILE`
//! linked with `AT_EMPTY_PATH` (no /proc); a temporary name moved with `RENAME_NOREPLACE` (no `O_TMPFILE`: overlayfs
//! before 6.3). Never `O_EXCL` with `O_TMPFILE`, because such a file cannot be linked. Always the same directory
//! descriptor, because two mounts of one file system give EXDEV. Called by `bus::publish`.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, UnlinkatFlags, fchown, linkat, unlinkat, write};

use super::fork::ForkGuarded;
use super::{lock, random};
use crate::error::{Error, Result};

/// How a file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkMethod {
    /// `O_TMPFILE`, then `linkat` through /proc/self/fd.
    Proc,
    /// `O_TMPFILE`, then `linkat` with `AT_EMPTY_PATH`. Before Linux 6.10 this needs CAP_DAC_READ_SEARCH.
    EmptyPath,
    /// A temporary name, then `renameat2` with `RENAME_NOREPLACE`.
    Rename,
}

impl LinkMethod {
    /// The words of `IPC_BUS_PUBLISH`, which forces a method.
    pub(crate) fn parse(text: &str) -> Option<LinkMethod> {
        match text {
            "proc" => Some(LinkMethod::Proc),
            "empty-path" => Some(LinkMethod::EmptyPath),
            "rename" => Some(LinkMethod::Rename),
            _ => None,
        }
    }
}

/// The exact rights of a file, whatever the umask and the directory say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) mode: Mode,
    /// None: the group that the kernel gives it.
    pub(crate) group: Option<Gid>,
}

/// The names of temporary files begin like this. A file that no process has locked may be removed.
pub(crate) const TEMPORARY: &str = ".tmp-";

const MODE: Mode = Mode::from_bits_truncate(0o644);
/// How often to try with a temporary name: a gc may remove it between its creation and its lock. More often is no
/// accident.
const ATTEMPTS: usize = 16;

/// # Makes a file of these bytes appear as `name`, write-locked, and returns the descriptor that holds the lock
///
/// References: open(2) O_TMPFILE, linkat(2), renameat2(2). With `forced`, only that method is tried.
///
/// Without `rights` all users may read it, except what the umask forbids.
///
/// Errors: [`Error::Os`] with EEXIST if the name is taken (it is never replaced), with EPERM if the group is not one of
/// this process's. [`Error::Resource`] if the disk, its inodes, the quota or descriptors ran out. After an error
/// nothing is left behind.
pub(crate) fn create(
    directory: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
    rights: Option<Rights>,
    forced: Option<LinkMethod>,
) -> Result<ForkGuarded> {
    fits_file_size_limit(bytes.len())?;
    let new = New { directory, name, bytes, rights };
    if forced != Some(LinkMethod::Rename) {
        match new.unnamed(forced) {
            Err(Error::Os { errno, syscall, .. })
                if forced.is_none() && errno != Errno::EEXIST && syscall != "fchown" => {}
            result => return result,
        }
    }
    new.renamed()
}

/// # Moves `from` to `to` in one directory, and replaces an existing file in the same step
///
/// References: rename(2). Errors: [`Error::Os`] (ENOENT if `from` is gone).
pub(crate) fn rename(directory: BorrowedFd<'_>, from: &str, to: &str) -> Result<()> {
    nix::fcntl::renameat(directory, from, directory, to)
        .map_err(|errno| Error::os("renameat", errno, format!("cannot publish {to}")))
}

/// The file that must appear.
struct New<'a> {
    directory: BorrowedFd<'a>,
    name: &'a str,
    bytes: &'a [u8],
    rights: Option<Rights>,
}

impl New<'_> {
    fn unnamed(&self, forced: Option<LinkMethod>) -> Result<ForkGuarded> {
        let New { directory, name, .. } = *self;
        let file = openat(directory, ".", OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, MODE)
            .map_err(|errno| {
                Error::os("openat", errno, format!("cannot create {name} in the bus directory (O_TMPFILE)"))
            })?;
        // Register at once: a child that is forked while the file is written must not inherit its lock.
        let file = ForkGuarded::new(file);
        self.fill(&file)?;
        let by_path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut result = Err(Errno::ENOENT);
        if forced != Some(LinkMethod::EmptyPath) {
            result = linkat(AT_FDCWD, by_path.as_str(), directory, name, AtFlags::AT_SYMLINK_FOLLOW);
        }
        if forced != Some(LinkMethod::Proc) && matches!(result, Err(errno) if errno != Errno::EEXIST) {
            result = linkat(file.as_fd(), "", directory, name, AtFlags::AT_EMPTY_PATH);
        }
        result.map_err(|errno| Error::os("linkat", errno, format!("cannot publish {name}")))?;
        Ok(file)
    }

    fn renamed(&self) -> Result<ForkGuarded> {
        let New { directory, name, .. } = *self;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut last = Errno::ENOENT;
        for _ in 0..ATTEMPTS {
            let temporary = format!("{TEMPORARY}{}", random::hex128()?);
            let file = openat(directory, temporary.as_str(), flags, MODE).map_err(|errno| {
                Error::os("openat", errno, format!("cannot create {name} in the bus directory"))
            })?;
            let file = ForkGuarded::new(file);
            let result = self.fill(&file).and_then(|()| {
                rename_new(directory, &temporary, name)
                    .map_err(|errno| Error::os("renameat2", errno, format!("cannot publish {name}")))
            });
            match result {
                Ok(()) => return Ok(file),
                // A gc took the temporary file for an orphan before it was locked.
                Err(Error::Os { errno: Errno::ENOENT, .. }) => last = Errno::ENOENT,
                Err(error) => {
                    let _ = unlinkat(directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
                    return Err(error);
                }
            }
        }
        Err(Error::os(
            "renameat2",
            last,
            format!("cannot publish {name}; does the bus directory still exist?"),
        ))
    }

    fn fill(&self, file: &ForkGuarded) -> Result<()> {
        let New { name, bytes, .. } = *self;
        if !lock::take(file, 0)? {
            return Err(Error::Record {
                file: name.to_owned(),
                reason: "another process locked the new file".to_owned(),
            });
        }
        if let Some(Rights { mode, group }) = self.rights {
            // The group first, so that the mode never opens the file to another group.
            if group.is_some() {
                fchown(file.as_fd(), None, group).map_err(|errno| {
                    Error::os(
                        "fchown",
                        errno,
                        format!("cannot give {name} to group {group:?}; is this user a member of it?"),
                    )
                })?;
            }
            fchmod(file.as_fd(), mode)
                .map_err(|errno| Error::os("fchmod", errno, format!("cannot set the mode of {name}")))?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // A full tmpfs first makes a short write, and only then gives ENOSPC.
            match write(file.as_fd(), rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os("write", errno, format!("cannot write {name}"))),
            }
        }
        Ok(())
    }
}

/// Without this check the kernel answers with SIGXFSZ, which kills.
pub(crate) fn fits_file_size_limit(size: usize) -> Result<()> {
    let limit = getrlimit(Resource::RLIMIT_FSIZE).map_or(u64::MAX, |limits| limits.0);
    if size as u64 > limit {
        return Err(Error::os("write", Errno::EFBIG, format!("cannot write {size} bytes")));
    }
    Ok(())
}

/// # Moves `from` to `to`, unless `to` exists
///
/// References: renameat2(2) RENAME_NOREPLACE. Errors: EEXIST, ENOENT, EINVAL if the file system cannot do it.
pub(crate) fn rename_new(
    directory: BorrowedFd<'_>,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
) -> nix::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let (from, to) = (text(from.as_ref())?, text(to.as_ref())?);
    let fd = directory.as_raw_fd();
    // By number: musl has no wrapper. SAFETY: both are NUL-terminated strings that outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_renameat2, fd, from.as_ptr(), fd, to.as_ptr(), libc::RENAME_NOREPLACE)
    };
    Errno::result(result).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn every_way_makes_a_whole_locked_file_and_replaces_none() {
        for method in [None, Some(LinkMethod::Proc), Some(LinkMethod::EmptyPath), Some(LinkMethod::Rename)] {
            let folder = tempfile::tempdir().unwrap();
            let directory = File::open(folder.path()).unwrap();
            let bytes = vec![b'x'; 40_000];
            let owner = match create(directory.as_fd(), "name", &bytes, None, method) {
                // This needs privileges before 6.10.
                Err(Error::Os { errno: Errno::ENOENT, .. }) if method == Some(LinkMethod::EmptyPath) => {
                    continue;
                }
                result => result.unwrap(),
            };
            assert_eq!(fs::read(folder.path().join("name")).unwrap(), bytes);
            let reader = File::open(folder.path().join("name")).unwrap();
            assert!(lock::is_held(&reader, 0).unwrap());
            let again = create(directory.as_fd(), "name", b"other", None, method).unwrap_err();
            assert_eq!(again.errno(), Some(Errno::EEXIST as i32), "{again}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing left behind");
            drop(owner);
            assert!(!lock::is_held(&reader, 0).unwrap());
        }
    }

    #[test]
    fn rights_are_exact_whatever_the_way() {
        use std::os::unix::fs::MetadataExt;
        for method in [LinkMethod::Proc, LinkMethod::Rename] {
            let folder = tempfile::tempdir().unwrap();
            let directory = File::open(folder.path()).unwrap();
            for mode in [0o640, 0o666] {
                let name = format!("{mode:o}");
                let rights =
                    Rights { mode: Mode::from_bits_truncate(mode), group: Some(nix::unistd::getgid()) };
                create(directory.as_fd(), &name, b"x", Some(rights), Some(method)).unwrap();
                let found = fs::metadata(folder.path().join(name)).unwrap();
                assert_eq!((found.mode() & 0o7777, found.gid()), (mode, nix::unistd::getgid().as_raw()));
            }
        }
    }

    #[test]
    fn a_removed_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let directory = File::open(folder.path()).unwrap();
        fs::remove_dir(folder.path()).unwrap();
        for method in [None, Some(LinkMethod::Proc), Some(LinkMethod::Rename)] {
            let errno = create(directory.as_fd(), "name", b"x", None, method).unwrap_err().errno();
            // ext4 answers EPERM to O_TMPFILE there.
            assert!(matches!(errno.map(Errno::from_raw), Some(Errno::ENOENT | Errno::EPERM)), "{errno:?}");
        }
    }
}
