//! inotify: the changes of the names in one directory, and what happens to single files.
//!
//! Invariant: a directory is watched for its names and for itself, never for contents. (A write to an `O_TMPFILE` file
//! would show up as a change of a name that does not exist.) A burst of changes of one name or file is reported once.
//! Called by the bus thread. An event may be out of date when it is read, so the caller must look at what the name or
//! file stands for now.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify as NixInotify, WatchDescriptor};

use crate::error::{Error, Result};

const DIRECTORY: AddWatchFlags =
    AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF).union(AddWatchFlags::IN_ONLYDIR);
const GOING: AddWatchFlags = AddWatchFlags::IN_MOVED_FROM.union(AddWatchFlags::IN_DELETE);
/// Of one file: it was written, a process that could write it has closed it, or its names changed.
const FILE: AddWatchFlags = AddWatchFlags::IN_MODIFY
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_MOVE_SELF);
const COMING: AddWatchFlags = AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_MOVED_TO);

/// What one reading of the queue brought. A removed directory does not show while a process has it, or a file of it,
/// open.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Names that came, went or were replaced. Each stands here once, in the order of their first change.
    pub(crate) names: Vec<String>,
    /// The queue was full, and some events are missing.
    pub(crate) overflowed: bool,
    /// The directory itself was removed or moved away.
    pub(crate) directory_gone: bool,
}

/// # An inotify instance that watches one directory
///
/// References: inotify(7).
#[derive(Debug)]
pub(crate) struct Inotify {
    inner: NixInotify,
}

impl Inotify {
    /// # Watches a directory for names that go and, if `coming`, names that come; non-blocking, close-on-exec
    ///
    /// References: inotify_init1(2), inotify_add_watch(2). The directory is reached through its descriptor. So another
    /// directory that took its path is not watched by mistake.
    ///
    /// Errors: [`Error::Resource`]: a user has 128 instances by default (`fs.inotify.max_user_instances`), and a
    /// limited number of watches; [`Error::Os`] (ENOENT without /proc).
    pub(crate) fn open(directory: BorrowedFd<'_>, coming: bool) -> Result<Inotify> {
        let inner = instance()?;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let mask = if coming { DIRECTORY | GOING | COMING } else { DIRECTORY | GOING };
        inner
            .add_watch(path.as_str(), mask)
            .map_err(|errno| Error::os("inotify_add_watch", errno, "cannot watch the bus directory"))?;
        Ok(Inotify { inner })
    }

    /// # Reads all that is queued, without waiting
    ///
    /// Errors: [`Error::Resource`] (ENOMEM).
    pub(crate) fn read(&self) -> Result<Changes> {
        let mut changes = Changes::default();
        let mut seen = HashSet::new();
        // Bounded: a busy directory must not keep the reader here. What is left stays readable.
        for _ in 0..1024 {
            let events = match self.inner.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(errno) => return Err(Error::os("read", errno, "cannot read inotify events")),
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    changes.overflowed = true;
                } else if event.mask.intersects(
                    AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_IGNORED,
                ) {
                    changes.directory_gone = true;
                } else if let Some(name) =
                    event.name.as_ref().and_then(|name| std::str::from_utf8(name.as_bytes()).ok())
                    && seen.insert(name.to_owned())
                {
                    changes.names.push(name.to_owned());
                }
            }
        }
        Ok(changes)
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// # An inotify instance that watches files by their descriptors
///
/// References: inotify(7). Whoever has a lock on a file and ends closes it, so its end shows as `IN_CLOSE_WRITE`. The
/// kernel reports that just *before* it frees the lock.
#[derive(Debug)]
pub(crate) struct FileInotify {
    inner: NixInotify,
}

impl FileInotify {
    /// # An instance that watches nothing yet; non-blocking, close-on-exec
    ///
    /// References: inotify_init1(2). Errors: as for [`Inotify::open`].
    pub(crate) fn open() -> Result<FileInotify> {
        Ok(FileInotify { inner: instance()? })
    }

    /// # Watches one file, or a directory for its own end
    ///
    /// References: inotify_add_watch(2). The same file gives the same number.
    ///
    /// Errors: as for [`Inotify::open`].
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, is_directory: bool) -> Result<WatchDescriptor> {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        self.inner
            .add_watch(path.as_str(), if is_directory { DIRECTORY } else { FILE })
            .map_err(|errno| Error::os("inotify_add_watch", errno, "cannot watch a file of the bus"))
    }

    /// # Stops watching a file
    ///
    /// References: inotify_rm_watch(2). The kernel may have done so before, when the file's last name went.
    pub(crate) fn forget(&self, number: WatchDescriptor) {
        let _ = self.inner.rm_watch(number);
    }

    /// # The files that something happened to, without waiting; `None`: any of them
    ///
    /// Errors: [`Error::Resource`] (ENOMEM).
    pub(crate) fn read(&self) -> Result<Option<HashSet<WatchDescriptor>>> {
        let mut touched = HashSet::new();
        let mut overflowed = false;
        // Bounded, as in `Inotify::read`.
        for _ in 0..1024 {
            match self.inner.read_events() {
                Ok(events) => {
                    for event in events {
                        overflowed |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                        touched.insert(event.wd);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(errno) => return Err(Error::os("read", errno, "cannot read inotify events")),
            }
        }
        Ok((!overflowed).then_some(touched))
    }
}

impl AsFd for FileInotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

fn instance() -> Result<NixInotify> {
    NixInotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
        .map_err(|errno| Error::os("inotify_init1", errno, "cannot watch the bus directory"))
}
