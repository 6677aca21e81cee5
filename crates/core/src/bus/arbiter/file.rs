//! One opened file of the arbiter: its locks, its content, and whether it still counts.
//!
//! Invariants: nothing of the file is trusted. It is opened without following a symlink and without blocking, it must
//! be a regular file of a trusted user, at most [`SIZE`] bytes of it are read, and a content that breaks a rule counts as
//! none. Only the holder writes, under its lock, and always [`SIZE`] bytes in place, so a full disk cannot refuse it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::uio::{pread, pwrite};
use nix::unistd::Gid;
use serde::{Deserialize, Serialize};

use super::GRACE;
use crate::bus::directory::Directory;
use crate::error::{Error, Result};
use crate::sys::fork::ForkGuarded;
use crate::sys::tmpfile::{self, Rights};
use crate::sys::{clock, leads_to, lock, proc};

const OPEN: OFlag = OFlag::O_RDWR.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
/// The content, padded with spaces. Longer than any content.
const SIZE: usize = 512;
/// How often the file may be removed, or made by somebody else, while it is opened.
const TRIES: usize = 16;
/// The largest epoch that is believed, so that every epoch is an exact number in JavaScript.
const MAX_EPOCH: u64 = (1 << 53) - 2;

/// What the file says, if it can be believed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Content {
    schema: u32,
    /// The boot of the machine in which this was written.
    boot_id: String,
    /// When the file was made, in microseconds of `CLOCK_BOOTTIME`. 0 once it had a holder.
    made: u64,
    /// The epoch of the last holder. 0: there was none.
    pub(crate) epoch: u64,
    /// The last holder. The lock says whether it still holds.
    pub(crate) holder: Option<Holder>,
}

/// The process that holds a byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Holder {
    /// 128 random bits, new for each time that somebody holds.
    pub(crate) instance: String,
    pub(crate) pid: u32,
    pub(crate) start_time: u64,
    pub(crate) pid_namespace: u64,
    pub(crate) uid: u32,
}

impl Content {
    fn fresh() -> Result<Content> {
        let boot_id = proc::myself()?.boot_id.clone();
        Ok(Content { schema: 1, boot_id, made: clock::boottime_us(), ..Content::default() })
    }

    /// What a new holder writes. Its epoch is larger than `last`, and larger than that of any holder since the machine
    /// started, even if the file was lost meanwhile: more than one holder in a microsecond is not possible.
    pub(crate) fn held_by(instance: &str, last: u64) -> Result<Content> {
        Content::with_epoch(instance, clock::boottime_us().max(last + 1))
    }

    /// The same for a holder that has its epoch already.
    pub(crate) fn with_epoch(instance: &str, epoch: u64) -> Result<Content> {
        let myself = proc::myself()?;
        let holder = Holder {
            instance: instance.to_owned(),
            pid: myself.pid,
            start_time: myself.start_time,
            pid_namespace: myself.pid_namespace,
            uid: nix::unistd::geteuid().as_raw(),
        };
        let boot_id = myself.boot_id.clone();
        Ok(Content { schema: 1, boot_id, made: 0, epoch, holder: Some(holder) })
    }

    /// Of bytes that anybody may have written.
    fn parse(bytes: &[u8]) -> Content {
        let parsed: Option<Content> = serde_json::from_slice(bytes).ok();
        parsed.filter(|content| content.schema == 1 && content.epoch <= MAX_EPOCH).unwrap_or_default()
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|error| Error::Record { file: "a claim".to_owned(), reason: error.to_string() })?;
        bytes.resize(SIZE - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// How long nobody new may be let in.
    pub(crate) fn grace_left(&self) -> Option<Duration> {
        self.until_aged(GRACE)
    }

    /// How long until the file is this old. `None`: it is, or its age does not matter.
    pub(crate) fn until_aged(&self, age: Duration) -> Option<Duration> {
        let now = clock::boottime_us();
        let same_boot = proc::myself().is_ok_and(|myself| myself.boot_id == self.boot_id);
        // A file from the future is none of ours: its time came from another time namespace, or by mistake.
        if self.made == 0 || !same_boot || self.made > now {
            return None;
        }
        age.checked_sub(Duration::from_micros(now - self.made)).filter(|left| !left.is_zero())
    }

    /// The holder's pid, if it means the same process here as in the process that wrote it.
    pub(crate) fn pid_here(&self) -> Option<u32> {
        let (holder, myself) = (self.holder.as_ref()?, proc::myself().ok()?);
        let same = !myself.boot_id.is_empty()
            && myself.pid_namespace != 0
            && self.boot_id == myself.boot_id
            && holder.pid_namespace == myself.pid_namespace;
        same.then_some(holder.pid)
    }
}

/// The file, opened.
#[derive(Debug)]
pub(crate) struct ArbiterFile {
    file: ForkGuarded,
    stat: FileStat,
    directory: Arc<Directory>,
    name: String,
}

impl ArbiterFile {
    /// Opens the file, and makes it (and the directory) if it is missing.
    pub(crate) fn open(directory: &Arc<Directory>, name: &str) -> Result<ArbiterFile> {
        let mut last =
            Error::os("openat", Errno::ENOENT, format!("{name} in the bus directory comes and goes"));
        for _ in 0..TRIES {
            if directory.is_gone() {
                directory.restore()?;
            }
            match ArbiterFile::open_existing(directory, name) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            match make(directory, name) {
                Ok(file) => return ArbiterFile::checked(file, directory, name),
                Err(Error::Os { errno: Errno::EEXIST, .. }) => {}
                Err(error) if directory.is_gone() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Opens the file if there is one.
    pub(crate) fn open_existing(directory: &Arc<Directory>, name: &str) -> Result<Option<ArbiterFile>> {
        ArbiterFile::open_for(OPEN, directory, name)
    }

    /// Opens the file only to look at it, if there is one. It cannot be locked.
    pub(crate) fn open_to_read(directory: &Arc<Directory>, name: &str) -> Result<Option<ArbiterFile>> {
        ArbiterFile::open_for(READ, directory, name)
    }

    fn open_for(flags: OFlag, directory: &Arc<Directory>, name: &str) -> Result<Option<ArbiterFile>> {
        match openat(directory.fd().as_fd(), name, flags, Mode::empty()) {
            Ok(file) => ArbiterFile::checked(ForkGuarded::new(file), directory, name).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP) => Err(refused(directory, name, "is a symlink; remove it")),
            Err(Errno::EISDIR | Errno::ENXIO | Errno::ENODEV) => {
                Err(refused(directory, name, "is no regular file; remove it"))
            }
            Err(Errno::EACCES | Errno::EPERM) => Err(Error::NoPermission {
                what: format!(
                    "{name} in {} belongs to another user, who made it first; users that share claims share the \
                     directory with a group (option group)",
                    directory.path().display()
                ),
            }),
            Err(errno) => Err(Error::os("openat", errno, format!("cannot open {name} in the bus directory"))),
        }
    }

    fn checked(file: ForkGuarded, directory: &Arc<Directory>, name: &str) -> Result<ArbiterFile> {
        let stat = fstat(file.as_fd()).map_err(|errno| {
            Error::os("fstat", errno, format!("cannot look at {name} in the bus directory"))
        })?;
        if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
            return Err(refused(directory, name, "is no regular file; remove it"));
        }
        if !directory.trusts(stat.st_uid) {
            let reason = format!(
                "belongs to uid {}, which is not trusted; add it to trustedUids, or let its owner remove it",
                stat.st_uid
            );
            return Err(refused(directory, name, &reason));
        }
        Ok(ArbiterFile { file, stat, directory: Arc::clone(directory), name: name.to_owned() })
    }

    /// Whether the name still leads to this file, in the directory that the bus's path leads to. If that cannot be
    /// told, the next look will.
    pub(crate) fn is_current(&self) -> bool {
        let directory_fd = self.directory.fd();
        leads_to(directory_fd.as_fd(), self.name.as_str(), &self.stat).unwrap_or(true)
            && !self.directory.is_gone()
    }

    /// Takes a byte, unless another open file has it. It must not be 0.
    pub(crate) fn try_take(&self, byte: u64) -> Result<bool> {
        lock::take(&self.file, byte)
    }

    /// Whether another open file has the byte.
    pub(crate) fn is_held(&self, byte: u64) -> Result<bool> {
        lock::is_held(&self.file, byte)
    }

    pub(crate) fn release(&self, byte: u64) {
        // In a forked child the descriptor is another one, and the lock stays the parent's.
        let _ = lock::release(&self.file, byte);
    }

    /// What the file says.
    pub(crate) fn read(&self) -> Result<Content> {
        let mut bytes = [0; SIZE];
        loop {
            match pread(self.file.as_fd(), &mut bytes, 0) {
                Ok(count) => return Ok(Content::parse(&bytes[..count])),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os("pread", errno, format!("cannot read {}", self.name))),
            }
        }
    }

    /// Writes the content. The caller holds the byte.
    pub(crate) fn write(&self, content: &Content) -> Result<()> {
        let bytes = content.to_bytes()?;
        tmpfile::fits_file_size_limit(bytes.len())?;
        let mut done = 0;
        while done < bytes.len() {
            match pwrite(self.file.as_fd(), &bytes[done..], done as i64) {
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os("pwrite", errno, format!("cannot write {}", self.name))),
            }
        }
        Ok(())
    }

    /// Takes the byte together with others that share it. Who has it alone has it together with others from then on. False:
    /// another open file has it alone.
    pub(crate) fn share(&self, byte: u64) -> Result<bool> {
        lock::share(&self.file, byte)
    }

    pub(super) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A byte that this process holds. Dropping it gives it back, and tells all who wait.
#[derive(Debug)]
pub(crate) struct Hold {
    file: ArbiterFile,
    byte: u64,
}

impl Hold {
    /// Of a byte that was taken.
    pub(super) fn new(file: ArbiterFile, byte: u64) -> Hold {
        Hold { file, byte }
    }

    pub(crate) fn file(&self) -> &ArbiterFile {
        &self.file
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // First the lock and then the file: what wakes the others is the closing, and they must find the byte free.
        self.file.release(self.byte);
    }
}

/// Makes the file appear, unless it is there. The lock on byte 0, which it has when it appears, is given back.
fn make(directory: &Directory, name: &str) -> Result<ForkGuarded> {
    let rights = match directory.group() {
        Some(gid) => Rights { mode: Mode::from_bits_truncate(0o660), group: Some(Gid::from_raw(gid)) },
        // A process that may read a file can hold its locks up.
        None => Rights { mode: Mode::from_bits_truncate(0o600), group: None },
    };
    let bytes = Content::fresh()?.to_bytes()?;
    let file = tmpfile::create(directory.fd().as_fd(), name, &bytes, Some(rights), directory.link_method)?;
    lock::release(&file, 0)?;
    Ok(file)
}

fn refused(directory: &Directory, name: &str, reason: &str) -> Error {
    Error::BusDirectory {
        path: directory.path().display().to_string(),
        reason: format!("{name} in it {reason}"),
    }
}
