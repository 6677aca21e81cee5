//! The registry: the directory as a stream of events. Lives on the bus thread and nowhere else.
//!
//! Invariants: it watches first and scans afterwards, so nothing falls between. An event is the difference between what a look at a
//! name finds and what the last look found, never a translation of what inotify said: hence no duplicates, no record that
//! cannot be read yet, and none whose owner is dead. Whoever finds a dead one removes it by the rule of gc. When the directory
//! vanishes everything is `Removed`; it is made again, and this process's own records with it.
//!
//! Traps: the kernel says `IN_DELETE_SELF` only when nobody has the directory, or anything in it, open any more, which every peer
//! has. But a directory can only be removed when it is empty: so it is looked for whenever a record of ours vanishes, and, once a
//! second at most, while there is no record at all.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::death::{Deaths, PIDFD_BASE};
use super::directory::Directory;
use super::filter::Filter;
use super::gc;
use super::publish::Own;
use super::record::RecordName;
use super::scan::{DirectoryStamp, Known, Look, look, names, unchanged};
use super::thread::{REGISTRY_BASE, Thread, contained, discard};
use super::view::View;
use super::watch::ServiceEvent;
use crate::error::{Error, Result};
use crate::sys::inotify::{Changes, Inotify};

/// How soon a name is looked at again that could not be told, and how soon a lost directory is tried first.
const SOON: Duration = Duration::from_millis(20);
const LATEST: Duration = Duration::from_secs(5);
/// How soon, and how seldom, the directory is looked for while it may have been removed.
const FIRST_CHECK: Duration = Duration::from_millis(1);
const LAST_CHECK: Duration = Duration::from_secs(1);
/// How long a removed record of ours stays away while the directory is still there: whoever removes a whole directory must not
/// find it filled again half-way.
const GRACE: Duration = Duration::from_millis(250);
/// How often inotify is tried again where it was refused.
const RETRY_INOTIFY: Duration = Duration::from_secs(10);

/// Takes registry events, on the bus thread: first the present records as `Added`. Must not block.
pub(crate) trait Sink: Send {
    /// One event that the filter lets through.
    fn event(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>);
}

/// How the registry learns of changes, for doctors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Watching {
    /// `off`, `inotify` or `polling`.
    pub mode: &'static str,
    /// Why it polls.
    pub reason: Option<String>,
    /// Records known.
    pub records: usize,
    /// Processes whose death a pidfd will tell.
    pub pidfds: usize,
    /// Records whose locks are probed now and then instead.
    pub probed: usize,
    /// Names that look like records and are not believed, with the reason.
    pub ignored: usize,
}

struct Listener {
    id: u64,
    filter: Filter,
    sink: Box<dyn Sink>,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Nothing,
    /// Only whether the directory itself stays, for our own records.
    Directory,
    /// The names in it, too.
    Names,
}

enum Source {
    Off,
    Inotify(Arc<Inotify>),
    Polling { reason: String, stamp: Option<DirectoryStamp>, retry: Option<Instant> },
}

pub(super) struct Registry {
    directory: Arc<Directory>,
    view: Arc<View>,
    use_inotify: bool,
    interval: Duration,
    listeners: Vec<Listener>,
    /// By the name of the record's file.
    own: HashMap<String, Arc<Own>>,
    /// Somebody looks services up often.
    keep_view: bool,
    has: Want,
    source: Source,
    known: HashMap<String, Known>,
    deaths: Deaths,
    /// Names that could not be told.
    again: Vec<String>,
    again_at: Option<Instant>,
    poll_at: Option<Instant>,
    restore_at: Option<Instant>,
    backoff: Duration,
    /// When to look for the directory, after a record of ours vanished or while there is none.
    check_at: Option<Instant>,
    check_pause: Duration,
    /// When our own vanished records are announced again.
    grace_ends: Option<Instant>,
}

impl Registry {
    pub(super) fn new(
        directory: Arc<Directory>,
        view: Arc<View>,
        use_inotify: bool,
        interval: Duration,
    ) -> Registry {
        Registry {
            directory,
            view,
            use_inotify,
            interval,
            listeners: Vec::new(),
            own: HashMap::new(),
            keep_view: false,
            has: Want::Nothing,
            source: Source::Off,
            known: HashMap::new(),
            deaths: Deaths::default(),
            again: Vec::new(),
            again_at: None,
            poll_at: None,
            restore_at: None,
            backoff: SOON,
            check_at: None,
            check_pause: FIRST_CHECK,
            grace_ends: None,
        }
    }

    // What the bus asks for, on the thread.

    pub(super) fn add_sink(&mut self, id: u64, filter: Filter, sink: Box<dyn Sink>, thread: &mut Thread<'_>) {
        if self.has == Want::Names {
            self.settle(thread);
        }
        let mut listener = Listener { id, filter, sink };
        let present = self.view.list(|service| listener.filter.matches(service));
        let told =
            present.into_iter().all(|record| tell(&mut listener, &ServiceEvent::Added(record), thread));
        if told {
            self.listeners.push(listener);
        } else {
            discard(listener);
        }
        self.attend(thread);
    }

    pub(super) fn remove_sink(&mut self, id: u64, thread: &mut Thread<'_>) {
        if let Some(at) = self.listeners.iter().position(|listener| listener.id == id) {
            discard(self.listeners.remove(at));
            self.attend(thread);
        }
    }

    pub(super) fn add_own(&mut self, own: Arc<Own>, thread: &mut Thread<'_>) {
        let name = own.record().file_name();
        let in_place = own.is_in_place();
        self.own.insert(name, own);
        self.attend(thread);
        if !in_place {
            self.vanished();
        }
    }

    pub(super) fn remove_own(&mut self, own: &Arc<Own>, thread: &mut Thread<'_>) {
        self.own.remove(&own.record().file_name());
        self.attend(thread);
    }

    pub(super) fn keep_view(&mut self, thread: &mut Thread<'_>) {
        self.keep_view = true;
        self.attend(thread);
    }

    pub(super) fn watching(&self) -> Watching {
        let (mode, reason) = match &self.source {
            Source::Off => ("off", None),
            Source::Inotify(_) => ("inotify", None),
            Source::Polling { reason, .. } => ("polling", Some(reason.clone())),
        };
        let (pidfds, probed) = self.deaths.counts();
        let records = self.known.values().filter(|known| known.record.is_some()).count();
        Watching { mode, reason, records, pidfds, probed, ignored: self.known.len() - records }
    }

    /// Takes in every change that happened before this call.
    pub(super) fn settle(&mut self, thread: &mut Thread<'_>) {
        self.view.set_dirty(false);
        match self.source {
            Source::Off => {}
            Source::Inotify(_) => self.read_changes(thread),
            Source::Polling { .. } => self.poll(thread),
        }
    }

    /// Withdraws what is announced and tells nobody anything more.
    pub(super) fn stop(&mut self, thread: &mut Thread<'_>) {
        for (_, own) in std::mem::take(&mut self.own) {
            if let Some(token) = own.withdraw() {
                thread.remove(token);
            }
        }
        for listener in std::mem::take(&mut self.listeners) {
            discard(listener);
        }
        self.keep_view = false;
        self.attend(thread);
    }

    // What the thread's loop calls.

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.again_at, self.poll_at, self.restore_at, self.check_at, self.deaths.next_pass]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn due(&mut self, thread: &mut Thread<'_>) {
        let now = Instant::now();
        let is_due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if is_due(self.restore_at) {
            self.restore(thread);
        }
        if is_due(self.check_at) {
            self.check(thread);
        }
        if is_due(self.poll_at) {
            self.retry_inotify(thread);
            self.poll(thread);
        }
        if is_due(self.again_at) {
            self.again_at = None;
            for name in std::mem::take(&mut self.again) {
                self.examine(&name, thread);
            }
        }
        if is_due(self.deaths.next_pass) {
            let begun = Instant::now();
            for name in self.deaths.due() {
                self.examine(&name, thread);
            }
            self.deaths.passed(begun.elapsed());
        }
    }

    pub(super) fn ready(&mut self, number: u64, thread: &mut Thread<'_>) {
        if number < PIDFD_BASE {
            self.read_changes(thread);
            return;
        }
        for name in self.deaths.died(number, thread) {
            self.examine(&name, thread);
            if self.known.get(&name).is_some_and(|known| known.record.is_some()) {
                // Its process is dead and its lock is held: by a fork, or by another who has the same pid now.
                self.deaths.forget(&name, thread);
                self.deaths.probe_later(&name);
            }
        }
    }

    // The source of changes.

    fn wanted(&self) -> Want {
        if self.keep_view || !self.listeners.is_empty() {
            Want::Names
        } else if self.own.is_empty() {
            Want::Nothing
        } else {
            Want::Directory
        }
    }

    /// Watches as much as is wanted now.
    fn attend(&mut self, thread: &mut Thread<'_>) {
        let wanted = self.wanted();
        if wanted == self.has {
            return;
        }
        if wanted == Want::Nothing {
            self.detach(thread);
            self.restore_at = None;
            self.check_at = None;
            self.grace_ends = None;
        }
        if wanted != Want::Names {
            self.forget_all(thread);
        }
        self.has = wanted;
        if wanted != Want::Nothing {
            self.attach(thread);
        }
    }

    /// Begins to watch the directory as it is now, and only then looks at what is in it.
    pub(super) fn attach(&mut self, thread: &mut Thread<'_>) {
        self.detach(thread);
        if let Err(error) = self.open_inotify(thread) {
            let retry = self.use_inotify.then(|| Instant::now() + RETRY_INOTIFY);
            self.source = Source::Polling { reason: error.to_string(), stamp: None, retry };
            self.poll_at = Some(Instant::now() + self.interval);
        }
        if self.directory.is_gone() {
            self.lost(thread);
            return;
        }
        if self.has == Want::Names {
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

    fn open_inotify(&mut self, thread: &Thread<'_>) -> Result<()> {
        if !self.use_inotify {
            return Err(Error::InvalidOption {
                option: "inotify",
                value: "false".to_owned(),
                rule: "polling was asked for (option or IPC_BUS_WATCH=poll)".to_owned(),
            });
        }
        let inotify = Inotify::open(self.directory.fd().as_fd(), self.has == Want::Names)?;
        thread.epoll().watch(inotify.as_fd(), REGISTRY_BASE)?;
        self.source = Source::Inotify(Arc::new(inotify));
        self.poll_at = None;
        Ok(())
    }

    fn detach(&mut self, thread: &Thread<'_>) {
        self.view.end();
        self.poll_at = None;
        if let Source::Inotify(inotify) = std::mem::replace(&mut self.source, Source::Off) {
            thread.epoll().forget(inotify.as_fd());
        }
    }

    fn retry_inotify(&mut self, thread: &mut Thread<'_>) {
        let Source::Polling { retry: Some(retry), .. } = &mut self.source else { return };
        if *retry > Instant::now() {
            return;
        }
        *retry = Instant::now() + RETRY_INOTIFY;
        if Inotify::open(self.directory.fd().as_fd(), false).is_ok() {
            self.attach(thread);
        }
    }

    fn read_changes(&mut self, thread: &mut Thread<'_>) {
        let Source::Inotify(inotify) = &self.source else { return };
        self.view.set_busy(true);
        match inotify.read() {
            Ok(Changes { directory_gone: true, .. }) => self.lost(thread),
            Ok(Changes { overflowed: true, .. }) | Err(_) => self.rescan(thread),
            Ok(changes) if self.has == Want::Directory => {
                // Only removals are watched, so that other people's coming wakes nobody.
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

    fn poll(&mut self, thread: &mut Thread<'_>) {
        let Source::Polling { stamp, .. } = &self.source else { return };
        self.poll_at = Some(Instant::now() + self.interval);
        if self.directory.is_gone() {
            self.lost(thread);
        } else if self.has == Want::Names
            && !stamp.is_some_and(|stamp| stamp.still(self.directory.fd().as_fd()))
        {
            self.rescan(thread);
        }
    }

    /// Compares the names in the directory with those known.
    fn rescan(&mut self, thread: &mut Thread<'_>) {
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
        // used again, so nobody minds the order.
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
    fn lost(&mut self, thread: &mut Thread<'_>) {
        self.forget_all(thread);
        self.detach(thread);
        self.check_at = None;
        self.grace_ends = None;
        self.backoff = SOON;
        self.restore_at = Some(Instant::now());
    }

    /// The directory may have been removed: looks for it now and then.
    fn suspect(&mut self) {
        self.check_pause = FIRST_CHECK;
        self.check_at = Some(Instant::now() + FIRST_CHECK);
    }

    /// Whether it is a record of ours that is missing, and not withdrawn.
    fn own_vanished(&self, name: &str) -> bool {
        self.own.get(name).is_some_and(|own| !own.is_in_place())
    }

    /// Someone removed a record of ours: the directory is next, or it was an over-eager cleaner of /tmp.
    fn vanished(&mut self) {
        self.grace_ends = Some(Instant::now() + GRACE);
        self.suspect();
    }

    fn check(&mut self, thread: &mut Thread<'_>) {
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
            self.has == Want::Names && self.known.is_empty() && matches!(self.source, Source::Inotify(_));
        if empty || self.grace_ends.is_some() {
            self.check_pause = (self.check_pause * 2).min(LAST_CHECK);
            self.check_at = Some(Instant::now() + self.check_pause);
        }
    }

    fn restore(&mut self, thread: &mut Thread<'_>) {
        self.restore_at = None;
        if self.has == Want::Nothing {
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

    // Names.

    /// Looks at a name, and tells the difference.
    fn examine(&mut self, name: &str, thread: &mut Thread<'_>) {
        if self.has != Want::Names {
            return;
        }
        if name.is_empty() {
            self.rescan(thread);
            return;
        }
        if RecordName::parse(name).is_none() {
            return;
        }
        let directory = self.directory.fd();
        let mut found = look(&self.directory, directory.as_fd(), name, self.known.get(name));
        if let Look::Alive(known @ Known { record: Some(record), .. }) = &found
            && self.deaths.watch(name, record, thread)
        {
            found = look(&self.directory, directory.as_fd(), name, Some(known));
        }
        match found {
            Look::Alive(known) => self.present(name, known, thread),
            Look::Dead => {
                gc::collect(&self.directory, directory.as_fd(), name);
                self.absent(name, thread);
            }
            Look::Absent => self.absent(name, thread),
            Look::Bad(known, _) => {
                self.absent(name, thread);
                self.known.insert(name.to_owned(), known);
            }
            Look::Later(_) => self.later(name.to_owned()),
        }
    }

    fn present(&mut self, name: &str, known: Known, thread: &mut Thread<'_>) {
        let Some(record) = known.record.clone() else { return };
        let before = self.known.insert(name.to_owned(), known).and_then(|known| known.record);
        if before.as_ref() == Some(&record) {
            return;
        }
        self.view.insert(Arc::clone(&record));
        let event =
            if before.is_some() { ServiceEvent::Updated(record) } else { ServiceEvent::Added(record) };
        self.tell_all(&event, thread);
    }

    fn absent(&mut self, name: &str, thread: &mut Thread<'_>) {
        self.deaths.forget(name, thread);
        let Some(Known { record: Some(record), .. }) = self.known.remove(name) else { return };
        self.view.remove(&record);
        self.tell_all(&ServiceEvent::Removed(record), thread);
        if self.own_vanished(name) {
            self.vanished();
        } else if self.known.is_empty() {
            self.suspect();
        }
    }

    fn later(&mut self, name: String) {
        if !self.again.contains(&name) {
            self.again.push(name);
        }
        self.again_at.get_or_insert_with(|| Instant::now() + SOON);
    }

    fn forget_all(&mut self, thread: &mut Thread<'_>) {
        let mut names: Vec<String> = self.known.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            let Some(Known { record: Some(record), .. }) = self.known.remove(&name) else { continue };
            self.view.remove(&record);
            self.tell_all(&ServiceEvent::Removed(record), thread);
        }
        self.deaths.clear(thread);
        self.again.clear();
        self.again_at = None;
    }

    fn tell_all(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>) {
        let mut listeners = std::mem::take(&mut self.listeners);
        let mut at = 0;
        while at < listeners.len() {
            let chosen = listeners[at].filter.matches(&event.record().service);
            if chosen && !tell(&mut listeners[at], event, thread) {
                discard(listeners.remove(at));
            } else {
                at += 1;
            }
        }
        self.listeners = listeners;
    }
}

impl Drop for Registry {
    /// However the thread ends, nobody goes on trusting the view.
    fn drop(&mut self) {
        self.view.end();
    }
}

/// False when the sink panicked and is to be dropped.
fn tell(listener: &mut Listener, event: &ServiceEvent, thread: &mut Thread<'_>) -> bool {
    contained(|| listener.sink.event(event, thread)).is_some()
}
