//! gc: removes what dead processes left. Any number of processes may call it at once, at any time.
//!
//! Invariant: a name is removed only if its file has no owner's lock and the name still leads to that very file. A file
//! that replaced it is another file, and its owner lives. The lock is probed and never taken, so the read lock of
//! another process does not hinder a gc. A socket is removed before its record. So a gc that dies half-way leaves a
//! record that names the rest. Called by `Bus::gc` and by the registry.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::Serialize;

use super::directory::Directory;
use super::scan::{Opened, names, still_named};
use crate::error::Result;
use crate::record::{RecordName, socket_name, valid_id};
use crate::sys::tmpfile::TEMPORARY;
use crate::sys::{lock, seqpacket};

const TRIES: usize = 8;

/// What a gc did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GcReport {
    /// Records of living instances, and those whose state could not be read. They were left alone.
    pub alive: usize,
    /// Records removed.
    pub records: usize,
    /// Sockets removed, with or without a record.
    pub sockets: usize,
    /// Unfinished files removed.
    pub temporaries: usize,
    /// Names like those of records whose file belongs to another user or is not a regular file. They were left alone.
    pub foreign: usize,
}

/// What gc did with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Alive,
    /// True: its socket was removed, too.
    Removed(bool),
    Absent,
    Foreign,
}

/// Removes everything in the directory whose owner is dead.
pub(super) fn sweep(directory: &Directory) -> Result<GcReport> {
    let fd = directory.fd();
    let fd = fd.as_fd();
    let mut report = GcReport::default();
    let listed = names(fd)?;
    for name in &listed {
        let temporary = name.starts_with(TEMPORARY);
        let hidden = name.strip_prefix('.').and_then(RecordName::parse).is_some();
        if !temporary && !hidden && RecordName::parse(name).is_none() {
            continue;
        }
        match collect(directory, fd, name) {
            Verdict::Alive if temporary || hidden => {}
            Verdict::Alive => report.alive += 1,
            Verdict::Removed(socket) => {
                report.sockets += usize::from(socket);
                *(if temporary || hidden { &mut report.temporaries } else { &mut report.records }) += 1;
            }
            Verdict::Absent => {}
            Verdict::Foreign => report.foreign += 1,
        }
    }
    report.sockets += orphaned_sockets(directory, fd, &listed)?;
    Ok(report)
}

/// Applies the rule to one record, dot-record or temporary file.
pub(super) fn collect(directory: &Directory, fd: BorrowedFd<'_>, name: &str) -> Verdict {
    for _ in 0..TRIES {
        let (file, stat) = match Opened::open(directory, fd, name) {
            Opened::File(file, stat) => (file, stat),
            Opened::Absent => return Verdict::Absent,
            Opened::Other(..) => return Verdict::Foreign,
            Opened::Later(_) => return Verdict::Alive,
        };
        match lock::is_held(&file, 0) {
            Ok(false) => {}
            // A failed probe is no answer.
            Ok(true) | Err(_) => return Verdict::Alive,
        }
        // The lock of this file is free. Another process may have replaced the file: it renames first and closes the
        // old file afterwards.
        if !still_named(fd, name, &stat) {
            continue;
        }
        let socket = id_of(name)
            .is_some_and(|id| !finished_and_alive(directory, fd, name) && unlink_socket(directory, fd, id));
        return match unlinkat(fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Verdict::Removed(socket),
            Err(Errno::ENOENT) => Verdict::Absent,
            Err(_) => Verdict::Foreign,
        };
    }
    Verdict::Alive
}

fn id_of(name: &str) -> Option<&str> {
    RecordName::parse(name.strip_prefix('.').unwrap_or(name)).map(|parts| parts.id)
}

/// Whether `name` is a dot-record whose finished record has a living owner. Then the socket is in use.
fn finished_and_alive(directory: &Directory, fd: BorrowedFd<'_>, name: &str) -> bool {
    let Some(finished) = name.strip_prefix('.') else { return false };
    match Opened::open(directory, fd, finished) {
        Opened::File(file, _) => lock::is_held(&file, 0).unwrap_or(true),
        Opened::Absent => false,
        Opened::Other(..) | Opened::Later(_) => true,
    }
}

fn unlink_socket(directory: &Directory, fd: BorrowedFd<'_>, id: &str) -> bool {
    let name = socket_name(id);
    let ours = fstatat(fd, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFSOCK
            && directory.trusts(stat.st_uid)
    });
    ours && unlinkat(fd, name.as_str(), UnlinkatFlags::NoRemoveDir).is_ok()
}

/// Removes sockets without a record. They remain when a user removed the record by hand and the owner died afterwards.
///
/// A listing may miss a name that is renamed meanwhile, so one listing proves nothing. But an owner links its
/// dot-record before it binds, and renames it only after it listens. The proof is a second listing, begun after the
/// socket was seen. If it has no record of that id either, and *after that* no process listens, there is no owner. One
/// case is left: an owner whose record was removed by hand announces itself again under the same id. So the names of
/// this id are looked up once more, right before the socket is removed.
fn orphaned_sockets(directory: &Directory, fd: BorrowedFd<'_>, listed: &[String]) -> Result<usize> {
    let orphans = |listed: &[String]| {
        let ids: HashSet<String> = listed.iter().filter_map(|name| id_of(name)).map(str::to_owned).collect();
        let sockets = listed.iter().filter_map(|name| name.strip_suffix(".sock"));
        sockets
            .filter(|id| valid_id(id) && !ids.contains(*id))
            .map(str::to_owned)
            .collect::<HashSet<String>>()
    };
    let first = orphans(listed);
    if first.is_empty() {
        return Ok(0);
    }
    let second = orphans(&names(fd)?);
    let dead = |id: &&String| {
        seqpacket::endpoint().is_ok_and(|socket| {
            let name = socket_name(id);
            seqpacket::connect_at(socket.as_fd(), fd, directory.path(), OsStr::new(&name))
                == Err(Errno::ECONNREFUSED)
        })
    };
    let dead: Vec<&String> = first.intersection(&second).filter(dead).collect();
    if dead.is_empty() {
        return Ok(0);
    }
    let last = orphans(&names(fd)?);
    Ok(dead.into_iter().filter(|id| last.contains(*id) && unlink_socket(directory, fd, id)).count())
}
