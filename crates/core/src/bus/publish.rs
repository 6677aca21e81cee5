//! Publishing, replacing and withdrawing this process's own records.
//!
//! Invariant: a name that leads to a record of this process leads to a whole and locked file. A socket exists only
//! while a record or dot-record of its id exists. An old file is closed (which frees its lock) only after a new file
//! has taken its name. A forked child owns none of this and removes nothing. Callers: `Bus::announce`, [`Announced`],
//! and the registry after the directory was lost.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_json::{Map, Value};

use super::Bus;
use super::directory::Directory;
use super::options::Serve;
use crate::error::{Error, Result};
use crate::reactor::{Thread, Token, Watched};
use crate::record::{Granted, GroupRecord, Record};
use crate::sys::fork::ForkGuarded;
use crate::sys::generation::generation;
use crate::sys::{leads_to, seqpacket, tmpfile};

/// How often a call is tried that may succeed the next time.
const TRIES: usize = 4;

/// One announced instance of this process.
pub(super) struct Own {
    directory: Arc<Directory>,
    /// Which other users may read the record. The same for every file of this record.
    granted: Option<Granted>,
    state: Mutex<State>,
    generation: u32,
}

struct State {
    record: Arc<Record>,
    /// The file that holds the lock. It is never given to other code. `None` once the record is withdrawn.
    file: Option<ForkGuarded>,
    /// The directory of the file.
    directory_fd: Arc<OwnedFd>,
    serve: Option<Serve>,
    server: Option<Token>,
}

impl Own {
    /// Makes the record appear. Returns the handler of its socket; the caller adds it to the bus thread.
    pub(super) fn publish(
        directory: &Arc<Directory>,
        record: Record,
        granted: Option<Granted>,
        mut serve: Option<Serve>,
    ) -> Result<(Own, Option<Box<dyn Watched>>)> {
        let mut directory_fd = directory.fd();
        let mut appeared = appear(directory, directory_fd.as_fd(), &record, granted.as_ref(), serve.as_mut());
        // The errno does not tell: a removed directory answers ENOENT, or EPERM (ext4 to O_TMPFILE).
        if appeared.is_err() && directory.is_gone() {
            directory_fd = directory.restore()?;
            appeared = appear(directory, directory_fd.as_fd(), &record, granted.as_ref(), serve.as_mut());
        }
        let (file, watched) = appeared?;
        let state = State { record: Arc::new(record), file: Some(file), directory_fd, serve, server: None };
        let own = Own {
            directory: Arc::clone(directory),
            granted,
            state: Mutex::new(state),
            generation: generation(),
        };
        Ok((own, watched))
    }

    pub(super) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.lock().record)
    }

    /// Remembers the handler of the socket. False when the record was withdrawn meanwhile.
    pub(super) fn serving(&self, token: Token) -> bool {
        let mut state = self.lock();
        let there = state.file.is_some();
        if there {
            state.server = Some(token);
        }
        there
    }

    /// Replaces the record by a changed one. The record is present at every moment.
    pub(super) fn replace(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        // Before the lock is taken: in a forked child the thread that holds the lock may not exist.
        if self.is_foreign() {
            return Err(Error::Closed { what: "announcement" });
        }
        let mut state = self.lock();
        if state.file.is_none() {
            return Err(Error::Closed { what: "announcement" });
        }
        let mut record = Record::clone(&state.record);
        change(&mut record);
        record.check_own()?;
        let (name, bytes) = (record.file_name(), record.to_bytes()?);
        let hidden = format!(".{name}");
        let directory_fd = Arc::clone(&state.directory_fd);
        // A failed attempt of this process may have left it.
        let _ = unlinkat(directory_fd.as_fd(), hidden.as_str(), UnlinkatFlags::NoRemoveDir);
        let rights = self.granted.as_ref().map(Granted::of_record);
        let made = tmpfile::create(directory_fd.as_fd(), &hidden, &bytes, rights, self.directory.link_method);
        let replaced = made.and_then(|file| {
            tmpfile::rename(directory_fd.as_fd(), &hidden, &name).inspect_err(|_| {
                let _ = unlinkat(directory_fd.as_fd(), hidden.as_str(), UnlinkatFlags::NoRemoveDir);
            })?;
            Ok(file)
        });
        match replaced {
            Ok(file) => state.file = Some(file),
            // The bus thread announces the current record again once the directory is back.
            Err(_) if self.directory.is_gone() => {}
            Err(error) => return Err(error),
        }
        state.record = Arc::new(record);
        Ok(())
    }

    /// Announces the record again if it is not in its place. Runs on the bus thread after the directory was lost or
    /// another process removed the record.
    pub(super) fn restore(&self, thread: &mut Thread<'_>) -> Result<()> {
        let mut state = self.lock();
        let state = &mut *state;
        let directory_fd = self.directory.fd();
        if state.is_in_place(&directory_fd) {
            return Ok(());
        }
        let Some(old) = state.file.as_ref() else { return Ok(()) };
        // If only the record was removed, its old socket is still there.
        let _ =
            unlinkat(directory_fd.as_fd(), state.record.socket_name().as_str(), UnlinkatFlags::NoRemoveDir);
        let (file, watched) = appear(
            &self.directory,
            directory_fd.as_fd(),
            &state.record,
            self.granted.as_ref(),
            state.serve.as_mut(),
        )?;
        if let Some(token) = state.server.take() {
            thread.remove(token);
        }
        state.server = watched.map(|watched| thread.add(watched, None));
        // The directory may have been moved instead of removed. Then the old names must go.
        unlink(&state.directory_fd, &state.record, old);
        state.file = Some(file);
        state.directory_fd = directory_fd;
        Ok(())
    }

    /// Whether other processes can find the record. Also true when it is withdrawn.
    pub(super) fn is_in_place(&self) -> bool {
        let directory_fd = self.directory.fd();
        self.lock().is_in_place(&directory_fd)
    }

    /// Removes the record and its socket. Returns the token of the socket's handler; the caller removes it from the bus
    /// thread.
    pub(super) fn withdraw(&self) -> Option<Token> {
        if self.is_foreign() {
            return None;
        }
        let mut state = self.lock();
        let file = state.file.take()?;
        unlink(&state.directory_fd, &state.record, &file);
        state.serve = None;
        state.server.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_foreign(&self) -> bool {
        self.generation != generation()
    }
}

impl State {
    fn is_in_place(&self, directory_fd: &OwnedFd) -> bool {
        let Some(file) = &self.file else { return true };
        let name = self.record.file_name();
        // If it cannot be told, it is not lost: the next look will tell.
        fstat(file.as_fd())
            .and_then(|stat| leads_to(directory_fd.as_fd(), name.as_str(), &stat))
            .unwrap_or(true)
    }
}

/// By the rule of gc: only while the name leads to this process's own file.
fn unlink(directory_fd: &OwnedFd, record: &Record, file: &ForkGuarded) {
    let name = record.file_name();
    let ours = || fstat(file.as_fd()).and_then(|stat| leads_to(directory_fd.as_fd(), name.as_str(), &stat));
    if repeated(ours) == Ok(true) {
        let _ = unlinkat(directory_fd, record.socket_name().as_str(), UnlinkatFlags::NoRemoveDir);
        // Others hear of the end by this alone, as the process lives on.
        let _ = repeated(|| unlinkat(directory_fd, name.as_str(), UnlinkatFlags::NoRemoveDir));
    }
}

/// Repeats a call a few times while it fails for a reason that may pass.
fn repeated<T>(call: impl Fn() -> nix::Result<T>) -> nix::Result<T> {
    let mut result = call();
    for _ in 1..TRIES {
        if !matches!(result, Err(Errno::EINTR | Errno::ENOMEM | Errno::EBUSY | Errno::EIO)) {
            break;
        }
        result = call();
    }
    result
}

/// Links the record. A record with a socket is linked under its dot-name first, and renamed once the socket listens.
fn appear(
    directory: &Directory,
    directory_fd: BorrowedFd<'_>,
    record: &Record,
    granted: Option<&Granted>,
    serve: Option<&mut Serve>,
) -> Result<(ForkGuarded, Option<Box<dyn Watched>>)> {
    record.check_own()?;
    let (name, bytes) = (record.file_name(), record.to_bytes()?);
    let rights = granted.map(Granted::of_record);
    let Some(serve) = serve else {
        return Ok((tmpfile::create(directory_fd, &name, &bytes, rights, directory.link_method)?, None));
    };
    let hidden = format!(".{name}");
    let file = tmpfile::create(directory_fd, &hidden, &bytes, rights, directory.link_method)?;
    let socket = record.socket_name();
    let served = seqpacket::listen_at(
        directory_fd,
        directory.path(),
        OsStr::new(&socket),
        granted.map(Granted::of_socket),
    )
    .and_then(serve)
    .and_then(|watched| tmpfile::rename(directory_fd, &hidden, &name).map(|()| watched));
    match served {
        Ok(watched) => Ok((file, Some(watched))),
        Err(error) => {
            let _ = unlinkat(directory_fd, socket.as_str(), UnlinkatFlags::NoRemoveDir);
            let _ = unlinkat(directory_fd, hidden.as_str(), UnlinkatFlags::NoRemoveDir);
            Err(error)
        }
    }
}

/// An instance that is announced on the bus while this value lives. Dropping it withdraws the record.
///
/// In a forked child it does nothing, because the record belongs to the parent.
pub struct Announced {
    own: Arc<Own>,
    bus: Bus,
}

impl Announced {
    pub(super) fn new(own: Arc<Own>, bus: Bus) -> Announced {
        Announced { own, bus }
    }

    /// The current record.
    pub fn record(&self) -> Arc<Record> {
        self.own.record()
    }

    /// Replaces the metadata. The record is present at every moment.
    pub fn update(&self, metadata: Map<String, Value>) -> Result<()> {
        self.replace(|record| record.metadata = metadata)
    }

    /// Replaces the role of the member that announces it. The record is present at every moment.
    pub fn set_group(&self, group: GroupRecord) -> Result<()> {
        self.replace(|record| record.group = Some(group))
    }

    /// Replaces the record by a changed one. Service, id and identity stay as they are.
    pub(crate) fn replace(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let changed = self.own.replace(|record| {
            let before = record.clone();
            change(record);
            (record.service, record.id, record.kind) = (before.service, before.id, before.kind);
            (record.pid, record.uid, record.schema) = (before.pid, before.uid, before.schema);
        });
        self.bus.own_changed();
        changed
    }

    /// Withdraws the record now.
    pub fn close(self) {}
}

impl Drop for Announced {
    fn drop(&mut self) {
        let server = self.own.withdraw();
        self.bus.forget(&self.own, server);
    }
}

impl std::fmt::Debug for Announced {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Announced").field("record", &self.record()).finish()
    }
}
