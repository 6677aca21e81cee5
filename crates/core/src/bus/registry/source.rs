//! The registry's source of changes: inotify or polling, and the directory itself, which may vanish and come back.
//!
//! Invariant: a watch always begins before the directory is looked at. A trap: the kernel reports `IN_DELETE_SELF` only
//! when no process has the directory, or anything in it, open. But every peer has it open. On the other hand, a
//! directory can only be removed when it is empty. So the registry looks for the directory when an own record vanishes.
//! While there is no record at all, it looks at most once a second.

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
/// The number of inotify in the registry's epoll. A pidfd has its pid as number, which is never 0.
pub(super) const INOTIFY: u32 = 0;
/// The shortest and the longest interval at which the directory is looked for while it may have been removed.
pub(super) const FIRST_CHECK: Duration = Duration::from_millis(1);
const LAST_CHECK: Duration = Duration::from_secs(1);
/// How long a removed own record stays away while the directory is still there. A program that removes the whole
/// directory must not find it filled again half-way.
const GRACE: Duration = Duration::from_millis(250);
/// How often inotify is tried again after it was refused.
const RETRY_INOTIFY: Duration = Duration::from_secs(10);

/// How much of the directory the registry watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Nothing,
    /// Only the directory itself, for the sake of this process's own records.
    Directory,
    /// Also the names in it.
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

    /// Watches as much as is needed now.
    pub(super) fn update_scope(&mut self, thread: &mut Thread<'_>) {
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

    /// Begins to watch the directory as it is now. Looks at its content only after that.
    pub(in crate::bus) fn attach(&mut self, thread: &mut Thread<'_>) {
        self.detach();
        if let Err(error) = self.open_inotify() {
            let retry = self.use_inotify.then(|| Instant::now() + RETRY_INOTIFY);
            self.source = Source::Polling { reason: error.to_string(), stamp: None, retry };
            self.poll_at = Some(Instant::now() + self.interval);
        }
        if self.directory.is_gone() {
            self.directory_lost(thread);
            return;
        }
        if self.has == Scope::Names {
            self.rescan(thread);
            let inotify =
                if let Source::Inotify(inotify) = &self.source { Some(Arc::clone(inotify)) } else { None };
            self.view.begin(inotify);
            if self.known.is_empty() {
                self.schedule_check();
            }
        }
        // A record was removed before the watch began, so there was no event.
        if !self.own.values().all(|own| own.is_in_place()) {
            self.record_lost();
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
            Ok(Changes { directory_gone: true, .. }) => self.directory_lost(thread),
            Ok(Changes { overflowed: true, .. }) | Err(_) => self.rescan(thread),
            Ok(changes) if self.has == Scope::Directory => {
                // Only removals are watched, so new records do not wake this process.
                if changes.names.iter().any(|name| self.own_record_missing(name)) {
                    self.record_lost();
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
            self.directory_lost(thread);
            return;
        }
        if self.has == Scope::Names && !stamp.is_some_and(|stamp| stamp.still(self.directory.fd().as_fd())) {
            self.rescan(thread);
        }
        // While only the directory is watched, no other event shows this.
        if self.grace_ends.is_none() && !self.own.values().all(|own| own.is_in_place()) {
            self.record_lost();
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
            Err(error) => {
                // It is not known whether a name is gone, so none is reported as gone.
                self.later("", error);
                return;
            }
        };
        listed.retain(|name| RecordName::parse(name).is_some());
        listed.sort_unstable();
        // A listing may miss a name that is being replaced. So every missing name is looked at as well, and first.
        // Names are never used again, so the order does not matter.
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

    /// The directory is gone. Everything in it is reported as removed.
    pub(super) fn directory_lost(&mut self, thread: &mut Thread<'_>) {
        self.forget_all(thread);
        self.detach();
        self.check_at = None;
        self.grace_ends = None;
        self.backoff = SOON;
        self.restore_at = Some(Instant::now());
    }

    /// The directory may have been removed. Looks for it at growing intervals.
    pub(super) fn schedule_check(&mut self) {
        self.check_pause = FIRST_CHECK;
        self.check_at = Some(Instant::now() + FIRST_CHECK);
    }

    /// Whether an own record is missing that was not withdrawn.
    pub(super) fn own_record_missing(&self, name: &str) -> bool {
        self.own.get(name).is_some_and(|own| !own.is_in_place())
    }

    /// An own record was removed. Either the directory is removed next, or a cleaner of /tmp removed only the record.
    pub(super) fn record_lost(&mut self) {
        self.grace_ends = Some(Instant::now() + GRACE);
        self.schedule_check();
    }

    pub(super) fn check(&mut self, thread: &mut Thread<'_>) {
        self.check_at = None;
        if self.directory.is_gone() {
            self.directory_lost(thread);
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
            // Every record is tried, so that one failure does not hold up the others.
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
