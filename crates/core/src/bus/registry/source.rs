//! The registry's source of changes: inotify or polling, and the directory itself, which may vanish and come back.
//!
//! Invariant: a watch is always begun before the directory is looked at. A trap: the kernel says `IN_DELETE_SELF` only when no
//! process has the directory, or anything in it, open any more, and every peer has. But a directory can only be removed when it is
//! empty. So it is looked for when a record of ours vanishes, and, once a second at most, while there is no record at all.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Registry, SOON};
use crate::bus::scan::{DirectoryStamp, names, unchanged};
use crate::error::{Error, Result};
use crate::reactor::Thread;
use crate::record::RecordName;
use crate::sys::inotify::{Changes, Inotify};

const LATEST: Duration = Duration::from_secs(5);
/// The number of inotify in the registry's epoll; a pidfd has its pid, which is never 0.
pub(super) const INOTIFY: u32 = 0;
/// How soon, and how seldom, the directory is looked for while it may have been removed.
pub(super) const FIRST_CHECK: Duration = Duration::from_millis(1);
const LAST_CHECK: Duration = Duration::from_secs(1);
/// How long a removed record of ours stays away while the directory is still there: a program that removes a whole directory must
/// not find it filled again half-way.
const GRACE: Duration = Duration::from_millis(250);
/// How often inotify is tried again where it was refused.
const RETRY_INOTIFY: Duration = Duration::from_secs(10);

/// How much of the directory is to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Nothing,
    /// Only whether the directory itself stays, for our own records.
    Directory,
    /// The names in it, too.
    Names,
}

pub(super) enum Source {
    Off,
    Inotify(Arc<Inotify>),
    Polling { reason: String, stamp: Option<DirectoryStamp>, retry: Option<Instant> },
}

impl Registry {
    pub(super) fn wanted(&self) -> Scope {
        if self.keep_view || !self.listeners.is_empty() {
            Scope::Names
        } else if self.own.is_empty() {
            Scope::Nothing
        } else {
            Scope::Directory
        }
    }

    /// Watches as much as is wanted now.
    pub(super) fn attend(&mut self, thread: &mut Thread<'_>) {
        let wanted = self.wanted();
        if wanted == self.has {
            return;
        }
        if wanted == Scope::Nothing {
            self.detach();
            self.restore_at = None;
            self.check_at = None;
            self.grace_ends = None;
        }
        if wanted != Scope::Names {
            self.forget_all(thread);
        }
        self.has = wanted;
        if wanted != Scope::Nothing {
            self.attach(thread);
        }
    }

    /// Begins to watch the directory as it is now, and only then looks at what is in it.
    pub(in crate::bus) fn attach(&mut self, thread: &mut Thread<'_>) {
        self.detach();
        if let Err(error) = self.open_inotify() {
            let retry = self.use_inotify.then(|| Instant::now() + RETRY_INOTIFY);
            self.source = Source::Polling { reason: error.to_string(), stamp: None, retry };
            self.poll_at = Some(Instant::now() + self.interval);
        }
        if self.directory.is_gone() {
            self.lost(thread);
            return;
        }
        if self.has == Scope::Names {
            self.rescan(thread);
            let inotify =
                if let Source::Inotify(inotify) = &self.source { Some(Arc::clone(inotify)) } else { None };
            self.view.begin(inotify);
            if self.known.is_empty() {
                self.suspect();
            }
        }
        // Removed before the watch began, and so without an event.
        if !self.own.values().all(|own| own.is_in_place()) {
            self.vanished();
        }
    }

    pub(super) fn open_inotify(&mut self) -> Result<()> {
        if !self.use_inotify {
            return Err(Error::InvalidOption {
                option: "inotify",
                value: "false".to_owned(),
                rule: "polling was asked for (option or IPC_BUS_WATCH=poll)".to_owned(),
            });
        }
        let inotify = Inotify::open(self.directory.fd().as_fd(), self.has == Scope::Names)?;
        self.epoll.watch(inotify.as_fd(), u64::from(INOTIFY))?;
        self.source = Source::Inotify(Arc::new(inotify));
        self.poll_at = None;
        Ok(())
    }

    pub(super) fn detach(&mut self) {
        self.view.end();
        self.poll_at = None;
        if let Source::Inotify(inotify) = std::mem::replace(&mut self.source, Source::Off) {
            self.epoll.forget(inotify.as_fd());
        }
    }

    pub(super) fn retry_inotify(&mut self, thread: &mut Thread<'_>) {
        let Source::Polling { retry: Some(retry), .. } = &mut self.source else { return };
        if *retry > Instant::now() {
            return;
        }
        *retry = Instant::now() + RETRY_INOTIFY;
        if Inotify::open(self.directory.fd().as_fd(), false).is_ok() {
            self.attach(thread);
        }
    }

    pub(super) fn read_changes(&mut self, thread: &mut Thread<'_>) {
        let Source::Inotify(inotify) = &self.source else { return };
        self.view.set_busy(true);
        match inotify.read() {
            Ok(Changes { directory_gone: true, .. }) => self.lost(thread),
            Ok(Changes { overflowed: true, .. }) | Err(_) => self.rescan(thread),
            Ok(changes) if self.has == Scope::Directory => {
                // Only removals are watched, so that this process is not woken by new records.
                if changes.names.iter().any(|name| self.own_vanished(name)) {
                    self.vanished();
                }
            }
            Ok(changes) => {
                for name in changes.names {
                    self.examine(&name, thread);
                }
            }
        }
        self.view.set_busy(false);
    }

    pub(super) fn poll(&mut self, thread: &mut Thread<'_>) {
        let Source::Polling { stamp, .. } = &self.source else { return };
        self.poll_at = Some(Instant::now() + self.interval);
        if self.directory.is_gone() {
            self.lost(thread);
            return;
        }
        if self.has == Scope::Names && !stamp.is_some_and(|stamp| stamp.still(self.directory.fd().as_fd())) {
            self.rescan(thread);
        }
        // Nothing else tells while only the directory is watched.
        if self.grace_ends.is_none() && !self.own.values().all(|own| own.is_in_place()) {
            self.vanished();
        }
    }

    /// Compares the names in the directory with those known.
    pub(super) fn rescan(&mut self, thread: &mut Thread<'_>) {
        let directory = self.directory.fd();
        if let Source::Polling { stamp, .. } = &mut self.source {
            *stamp = DirectoryStamp::take(directory.as_fd());
        }
        let mut listed = match names(directory.as_fd()) {
            Ok(listed) => listed,
            Err(_) => {
                // Descriptors ran out. Nothing is known to have gone, so nothing is said to have.
                self.later(String::new());
                return;
            }
        };
        listed.retain(|name| RecordName::parse(name).is_some());
        listed.sort_unstable();
        // A listing may miss what is being replaced, so what is missing is looked at as well, and first: names are never
        // used again, so the order does not matter.
        let mut missing: Vec<String> =
            self.known.keys().filter(|name| listed.binary_search(name).is_err()).cloned().collect();
        missing.sort_unstable();
        for name in missing.iter().chain(&listed) {
            let known = self.known.get(name);
            if !known.is_some_and(|known| unchanged(directory.as_fd(), name, known)) {
                self.examine(name, thread);
            }
        }
    }

    // The directory itself.

    /// The directory is not there any more, and nothing in it counts.
    pub(super) fn lost(&mut self, thread: &mut Thread<'_>) {
        self.forget_all(thread);
        self.detach();
        self.check_at = None;
        self.grace_ends = None;
        self.backoff = SOON;
        self.restore_at = Some(Instant::now());
    }

    /// The directory may have been removed: looks for it now and then.
    pub(super) fn suspect(&mut self) {
        self.check_pause = FIRST_CHECK;
        self.check_at = Some(Instant::now() + FIRST_CHECK);
    }

    /// Whether it is a record of ours that is missing, and not withdrawn.
    pub(super) fn own_vanished(&self, name: &str) -> bool {
        self.own.get(name).is_some_and(|own| !own.is_in_place())
    }

    /// A record of ours was removed: the directory is next, or it was an over-eager cleaner of /tmp.
    pub(super) fn vanished(&mut self) {
        self.grace_ends = Some(Instant::now() + GRACE);
        self.suspect();
    }

    pub(super) fn check(&mut self, thread: &mut Thread<'_>) {
        self.check_at = None;
        if self.directory.is_gone() {
            self.lost(thread);
            return;
        }
        if self.grace_ends.is_some_and(|end| end <= Instant::now()) {
            self.grace_ends = None;
            self.restore(thread);
        }
        let empty =
            self.has == Scope::Names && self.known.is_empty() && matches!(self.source, Source::Inotify(_));
        if empty || self.grace_ends.is_some() {
            self.check_pause = (self.check_pause * 2).min(LAST_CHECK);
            self.check_at = Some(Instant::now() + self.check_pause);
        }
    }

    pub(super) fn restore(&mut self, thread: &mut Thread<'_>) {
        self.restore_at = None;
        if self.has == Scope::Nothing {
            return;
        }
        let restored = self.directory.restore().and_then(|_| {
            // All of them are tried, so that one that fails does not hold up the others.
            let mut result = Ok(());
            for own in self.own.values() {
                result = own.restore(thread).and(result);
            }
            result
        });
        if matches!(self.source, Source::Off) && !self.directory.is_gone() {
            self.attach(thread);
        }
        if restored.is_err() || matches!(self.source, Source::Off) {
            self.restore_at = Some(Instant::now() + self.backoff);
            self.backoff = (self.backoff * 2).min(LATEST);
        }
    }
}
