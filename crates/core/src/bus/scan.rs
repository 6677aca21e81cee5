//! Reading the directory without trust in its content: one record, or the list of names. An unchanged file is not read
//! again.
//!
//! Invariant: a file is opened without following a symlink and without blocking, and it is checked before it is read. A
//! record counts as present only if its file is regular, belongs to a trusted user, is locked by its owner, and obeys
//! the rules of `record`. The registry and `list` call this module. It removes nothing; `gc` does that.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::directory::Directory;
use super::filter::Filter;
use crate::error::{Error, Result};
use crate::record::{MAX_RECORD, Record, RecordName};
use crate::sys::{clock, leads_to, listing, lock};

const OPEN: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
/// A file system stamps changes with a clock that ticks every 4 to 10 ms. So a file that changed within the last 20 ms
/// may change again and show the same stamp.
const TICK_NS: i128 = 20_000_000;
/// How often one name may be replaced during an inspection. After that, the inspection is put off.
const TRIES: usize = 8;

/// Tells two states of one name apart, unless both fall into one tick of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: i64,
    changed_ns: i128,
    /// Whether any later change would show in the stamp.
    settled: bool,
}

impl Stamp {
    fn of(stat: &FileStat, now: i128) -> Stamp {
        let changed_ns = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
        // A stamp in the future (the wall clock was set back) never settles. Then each look reads the file.
        Stamp { inode: stat.st_ino, size: stat.st_size, changed_ns, settled: changed_ns + TICK_NS <= now }
    }

    /// Whether `later` is certainly the same state.
    fn same(&self, later: &Stamp) -> bool {
        self.settled
            && (self.inode, self.size, self.changed_ns) == (later.inode, later.size, later.changed_ns)
    }
}

/// A name whose content is known.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    stamp: Stamp,
    /// `None`: the content broke a rule.
    pub(crate) record: Option<Arc<Record>>,
}

/// The result of inspecting a name.
#[derive(Debug)]
pub(crate) enum Inspection {
    /// A record whose owner lives.
    Alive(Known),
    /// A record-like file whose owner is dead.
    Dead,
    /// There is no file of that name.
    Absent,
    /// The file is not believed.
    Bad(Known, Error),
    /// The state cannot be read now: a call failed that says nothing of the file, or the file was replaced again and
    /// again meanwhile. It must be looked at again.
    Later(Error),
}

/// Inspects the name of one record. Reads only the lock when `known` is still its state.
pub(crate) fn inspect(
    directory: &Directory,
    fd: BorrowedFd<'_>,
    name: &str,
    known: Option<&Known>,
) -> Inspection {
    for _ in 0..TRIES {
        let (file, stat) = match Opened::open(directory, fd, name) {
            Opened::File(file, stat) => (file, stat),
            Opened::Absent => return Inspection::Absent,
            Opened::Other(stat, reason) => {
                let stamp = stat.map(|stat| Stamp::of(&stat, clock::file_stamp_ns()));
                return bad(name, stamp, reason);
            }
            Opened::Later(error) => return Inspection::Later(error),
        };
        let stamp = Stamp::of(&stat, clock::file_stamp_ns());
        match lock::is_held(&file, 0) {
            // A failed probe is no answer.
            Err(error) => return Inspection::Later(error),
            Ok(true) => {}
            Ok(false) if still_named(fd, name, &stat) => return Inspection::Dead,
            Ok(false) => continue,
        }
        if let Some(known) = known
            && known.stamp.same(&stamp)
        {
            let known = Known { stamp, record: known.record.clone() };
            return if known.record.is_some() {
                Inspection::Alive(known)
            } else {
                bad(name, Some(stamp), "as before".into())
            };
        }
        return match read(&file, stat.st_size).and_then(|bytes| Record::parse(name, stat.st_uid, &bytes)) {
            Ok(record) => Inspection::Alive(Known { stamp, record: Some(Arc::new(record)) }),
            Err(error @ (Error::Resource { .. } | Error::Os { .. })) => Inspection::Later(error),
            Err(error) => Inspection::Bad(Known { stamp, record: None }, error),
        };
    }
    Inspection::Later(Error::Record {
        file: name.to_owned(),
        reason: "it is being replaced all the time".to_owned(),
    })
}

fn bad(name: &str, stamp: Option<Stamp>, reason: String) -> Inspection {
    let stamp = stamp.unwrap_or(Stamp { inode: 0, size: 0, changed_ns: 0, settled: false });
    Inspection::Bad(Known { stamp, record: None }, Error::Record { file: name.to_owned(), reason })
}

/// Whether the name certainly still leads to the file with this stat.
pub(super) fn still_named(directory: BorrowedFd<'_>, name: &str, stat: &FileStat) -> bool {
    leads_to(directory, name, stat) == Ok(true)
}

/// Whether the name certainly still has the known state. Compares stamps only.
pub(super) fn unchanged(directory: BorrowedFd<'_>, name: &str, known: &Known) -> bool {
    known.stamp.settled
        && fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| known.stamp.same(&Stamp::of(&stat, 0)))
}

/// The result of opening a file with all checks that do not depend on its content.
pub(super) enum Opened {
    File(OwnedFd, FileStat),
    Absent,
    /// The file is not believed. With its stat, if it could be looked at.
    Other(Option<FileStat>, String),
    /// A call failed that says nothing of the file, and the file would be believed.
    Later(Error),
}

impl Opened {
    pub(super) fn open(directory: &Directory, fd: BorrowedFd<'_>, name: &str) -> Opened {
        let file = match openat(fd, name, OPEN, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Opened::Absent,
            Err(errno) => return Opened::refused(directory, fd, name, errno),
        };
        match fstat(file.as_fd()) {
            Ok(stat) => match unbelievable(directory, &stat) {
                Some(reason) => Opened::Other(Some(stat), reason),
                None => Opened::File(file, stat),
            },
            Err(errno) => Opened::Later(Error::os("fstat", errno, format!("cannot look at record {name}"))),
        }
    }

    /// What a file is that cannot be opened. The owner of a file can make every open of it fail, for example by a
    /// lease. So a failure counts only for a file that would be believed.
    fn refused(directory: &Directory, fd: BorrowedFd<'_>, name: &str, errno: Errno) -> Opened {
        let stat = match fstatat(fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::ENOENT) => return Opened::Absent,
            Err(_) => None,
        };
        if let Some(reason) = stat.and_then(|stat| unbelievable(directory, &stat)) {
            return Opened::Other(stat, reason);
        }
        match errno {
            Errno::ELOOP => Opened::Other(stat, "it is a symlink".into()),
            // What the file's rights and its kind (a socket, a device) forbid stays forbidden.
            Errno::EACCES | Errno::EPERM | Errno::ENXIO | Errno::ENODEV => {
                Opened::Other(stat, format!("it cannot be opened ({errno})"))
            }
            errno => Opened::Later(Error::os("openat", errno, format!("cannot open record {name}"))),
        }
    }
}

/// The reason not to believe a file, independent of its content.
fn unbelievable(directory: &Directory, stat: &FileStat) -> Option<String> {
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
        return Some("it is no regular file".into());
    }
    if !directory.trusts(stat.st_uid) {
        return Some(format!("it belongs to uid {}, which is not trusted", stat.st_uid));
    }
    None
}

fn read(file: &OwnedFd, size: i64) -> Result<Vec<u8>> {
    // One byte more than the size shows the end of the file. One byte more than the limit is enough to refuse the file.
    let room = usize::try_from(size).unwrap_or(0).min(MAX_RECORD) + 1;
    let mut bytes = vec![0; room];
    let mut filled = 0;
    while filled < room {
        match nix::unistd::read(file, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                if filled as i64 == size {
                    break;
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os("read", errno, "cannot read a record")),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// The state of the directory as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryStamp(Stamp);

impl DirectoryStamp {
    /// Must be taken before the names are listed.
    pub(super) fn take(directory: BorrowedFd<'_>) -> Option<DirectoryStamp> {
        let now = clock::file_stamp_ns();
        fstat(directory).ok().map(|stat| DirectoryStamp(Stamp::of(&stat, now)))
    }

    /// Whether no name was added, removed or replaced since the stamp was taken.
    pub(super) fn still(&self, directory: BorrowedFd<'_>) -> bool {
        DirectoryStamp::take(directory).is_some_and(|now| self.0.same(&now.0))
    }
}

/// All names in the directory that are UTF-8. Other names cannot belong to a bus.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<String>> {
    Ok(listing::names(directory)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Names of records, with their content at the last look.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: HashMap<String, Known>,
}

impl Cache {
    /// Every record whose owner lives, by service and id. The lock of an unchanged record is probed; its file is not
    /// read.
    pub(super) fn scan(&mut self, directory: &Directory, chosen: &Filter) -> Result<Vec<Arc<Record>>> {
        let fd = directory.fd();
        let mut listed = names(fd.as_fd())?;
        listed.retain(|name| RecordName::parse(name).is_some());
        listed.sort_unstable();
        let mut old = std::mem::take(&mut self.known);
        let mut alive = Vec::new();
        for name in listed {
            let known = old.remove(&name);
            if !RecordName::parse(&name).is_some_and(|parts| chosen.matches(parts.service)) {
                if let Some(known) = known {
                    self.known.insert(name, known);
                }
                continue;
            }
            match inspect(directory, fd.as_fd(), &name, known.as_ref()) {
                Inspection::Alive(known) => {
                    alive.extend(known.record.clone());
                    self.known.insert(name, known);
                }
                Inspection::Bad(known, _) => drop(self.known.insert(name, known)),
                Inspection::Dead | Inspection::Absent => {}
                Inspection::Later(Error::Record { .. }) => {
                    alive.extend(known.and_then(|known| known.record));
                }
                // Without an answer it must not look as if the instance was not there.
                Inspection::Later(error) => return Err(error),
            }
        }
        // Sorted by service. The file name would sort '@' after '.'.
        alive.sort_unstable_by(|one, other| (&one.service, &one.id).cmp(&(&other.service, &other.id)));
        Ok(alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_within_its_clock_tick_never_counts_as_unchanged() {
        let at =
            |changed_ns, now| Stamp { inode: 7, size: 1, changed_ns, settled: changed_ns + TICK_NS <= now };
        let (fresh, old) = (at(1_000, 1_000 + TICK_NS - 1), at(1_000, 1_000 + TICK_NS));
        assert!(!fresh.same(&old), "read within the tick of its change");
        assert!(old.same(&old) && old.same(&fresh));
        assert!(!at(2_000, 1_000).same(&old), "the wall clock was set back");
        assert!(!old.same(&Stamp { inode: 8, ..old }) && !old.same(&Stamp { size: 2, ..old }));
    }

    #[test]
    fn a_file_is_read_to_its_end_and_no_further_than_allowed() {
        for size in [0, 1, 4095, 4096, 4097, MAX_RECORD, MAX_RECORD + 1, MAX_RECORD * 3] {
            let file = tempfile::tempfile().unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![b'x'; size], 0).unwrap();
            assert_eq!(read(&OwnedFd::from(file), size as i64).unwrap().len(), size.min(MAX_RECORD + 1));
        }
    }
}
