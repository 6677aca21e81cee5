//! The registry: the directory as a stream of events. It lives on the bus thread only. Other threads reach it by its
//! [`RegistryHandle`].
//!
//! Invariants: it watches first and scans afterwards, so it misses no change. An event is the difference between two
//! looks at a name. It is never a translation of an inotify event. So there is no duplicate, no record that cannot be
//! read yet, and no record whose owner is dead. The record of a dead owner is removed by the rule of gc. When the
//! directory vanishes, every record is reported as `Removed`. Then the registry makes the directory again and announces
//! this process's own records in it. A registry that panics ends the bus thread.

mod handle;
mod source;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::death::Deaths;
use super::directory::Directory;
use super::event::{ServiceEvent, Sink};
use super::filter::Filter;
use super::gc;
use super::publish::Own;
use super::scan::{Inspection, Known, inspect};
use super::view::View;
use crate::error::{Error, Result};
use crate::reactor::{Step, Thread, Token, Watched, contained, discard};
use crate::record::RecordName;
use crate::sys::epoll::Epoll;
use source::{FIRST_CHECK, INOTIFY, Scope, Source};

pub(super) use handle::RegistryHandle;
pub(crate) use handle::SinkGuard;

/// When to look again at a name whose state could not be read. Also the first retry after the directory was lost.
const SOON: Duration = Duration::from_millis(20);
/// The longest pause before such a look. The pauses double.
const LATER: Duration = Duration::from_secs(1);
/// With a pause of this length, a failure is no accident any more, and is told.
const LASTING: Duration = Duration::from_millis(160);
/// When to try again after the bus thread could not wait for the registry's descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// How the registry learns of changes; for the doctor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Watching {
    /// `off`, `inotify` or `polling`.
    pub mode: &'static str,
    /// The reason for polling.
    pub reason: Option<String>,
    /// How many records are known.
    pub records: usize,
    /// How many processes have a pidfd that reports their death.
    pub pidfds: usize,
    /// How many records have no pidfd, so that their locks are probed from time to time.
    pub probed: usize,
    /// How many names look like records but are not believed.
    pub ignored: usize,
}

struct Listener {
    id: u64,
    filter: Filter,
    sink: Box<dyn Sink>,
    /// Whether it knows that something it chose cannot be read.
    told: bool,
}

pub(super) struct Registry {
    directory: Arc<Directory>,
    view: Arc<View>,
    use_inotify: bool,
    interval: Duration,
    /// What the registry waits for: inotify, and a pidfd for each announcing process. The bus thread waits for this
    /// epoll.
    epoll: Epoll,
    /// The last answer of the epoll. It is kept to reuse its memory.
    ready: Vec<u64>,
    listeners: Vec<Listener>,
    /// This process's own records, by file name.
    own: HashMap<String, Arc<Own>>,
    /// This process looks services up often.
    keep_view: bool,
    has: Scope,
    source: Source,
    known: HashMap<String, Known>,
    deaths: Deaths,
    /// Names whose state could not be read, with the reason. The empty name stands for the whole directory.
    again: Vec<(String, Error)>,
    again_at: Option<Instant>,
    again_pause: Duration,
    poll_at: Option<Instant>,
    restore_at: Option<Instant>,
    backoff: Duration,
    /// When to look for the directory, after an own record vanished or while there is no record at all.
    check_at: Option<Instant>,
    check_pause: Duration,
    /// When this process's own vanished records are announced again.
    grace_ends: Option<Instant>,
}

impl Registry {
    pub(super) fn new(
        directory: Arc<Directory>,
        view: Arc<View>,
        use_inotify: bool,
        interval: Duration,
    ) -> Result<Registry> {
        Ok(Registry {
            directory,
            view,
            use_inotify,
            interval,
            epoll: Epoll::new()?,
            ready: Vec::new(),
            listeners: Vec::new(),
            own: HashMap::new(),
            keep_view: false,
            has: Scope::Nothing,
            source: Source::Off,
            known: HashMap::new(),
            deaths: Deaths::default(),
            again: Vec::new(),
            again_at: None,
            again_pause: SOON,
            poll_at: None,
            restore_at: None,
            backoff: SOON,
            check_at: None,
            check_pause: FIRST_CHECK,
            grace_ends: None,
        })
    }

    // What the bus asks for, on the bus thread.

    pub(super) fn add_sink(&mut self, id: u64, filter: Filter, sink: Box<dyn Sink>, thread: &mut Thread<'_>) {
        if self.has == Scope::Names {
            // What cannot be read now is looked at again, and reported then.
            let _ = self.catch_up(&filter, thread);
        }
        let mut listener = Listener { id, filter, sink, told: false };
        let present = self.view.list(&listener.filter);
        let notified = present
            .into_iter()
            .all(|record| notify_sink(&mut listener, &ServiceEvent::Added(record), thread));
        if notified {
            self.listeners.push(listener);
        } else {
            discard(listener);
        }
        self.update_scope(thread);
    }

    pub(super) fn remove_sink(&mut self, id: u64, thread: &mut Thread<'_>) {
        if let Some(at) = self.listeners.iter().position(|listener| listener.id == id) {
            discard(self.listeners.remove(at));
            self.update_scope(thread);
        }
    }

    pub(super) fn add_own(&mut self, own: Arc<Own>, thread: &mut Thread<'_>) {
        let name = own.record().file_name();
        let in_place = own.is_in_place();
        self.own.insert(name, own);
        self.update_scope(thread);
        if !in_place {
            self.record_lost();
        }
    }

    pub(super) fn remove_own(&mut self, own: &Arc<Own>, thread: &mut Thread<'_>) {
        self.own.remove(&own.record().file_name());
        self.update_scope(thread);
    }

    pub(super) fn keep_view(&mut self, thread: &mut Thread<'_>) {
        self.keep_view = true;
        self.update_scope(thread);
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
    ///
    /// # Errors
    /// When the directory, or the record of a chosen service, cannot be read now. The view shows what was known before.
    pub(super) fn catch_up(&mut self, chosen: &Filter, thread: &mut Thread<'_>) -> Result<()> {
        self.view.set_dirty(false);
        match self.source {
            Source::Off => {}
            Source::Inotify(_) => self.read_changes(thread),
            Source::Polling { .. } => self.poll(thread),
        }
        self.look_again(thread);
        match unread(&self.again, chosen).find(|error| !matches!(error, Error::Record { .. })) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Looks at the names whose state could not be read.
    fn look_again(&mut self, thread: &mut Thread<'_>) {
        for (name, _) in std::mem::take(&mut self.again) {
            self.examine(&name, thread);
        }
        if self.again.is_empty() {
            self.all_read();
            return;
        }
        let lasting = self.again_pause >= LASTING;
        let again = &self.again;
        self.listeners.retain_mut(|listener| {
            let error = unread(again, &listener.filter).next();
            match error {
                Some(error) if lasting && !listener.told => {
                    listener.told = true;
                    contained(|| listener.sink.unreadable(error)).is_some()
                }
                Some(_) => true,
                None => {
                    listener.told = false;
                    true
                }
            }
        });
    }

    /// Nothing is left that could not be read.
    fn all_read(&mut self) {
        self.again.clear();
        (self.again_at, self.again_pause) = (None, SOON);
        self.listeners.iter_mut().for_each(|listener| listener.told = false);
    }

    /// Withdraws what is announced. Listeners get no further event.
    pub(super) fn stop(&mut self, thread: &mut Thread<'_>) {
        for token in self.withdraw() {
            thread.remove(token);
        }
        self.update_scope(thread);
    }

    /// Withdraws all records. Returns the tokens of their sockets' handlers.
    fn withdraw(&mut self) -> Vec<Token> {
        let own = std::mem::take(&mut self.own);
        let servers = own.into_values().filter_map(|own| own.withdraw()).collect();
        for listener in std::mem::take(&mut self.listeners) {
            discard(listener);
        }
        self.keep_view = false;
        servers
    }

    // Deadlines and deaths.

    fn deadline(&self) -> Option<Instant> {
        [self.again_at, self.poll_at, self.restore_at, self.check_at, self.deaths.next_pass]
            .into_iter()
            .flatten()
            .min()
    }

    fn due(&mut self, thread: &mut Thread<'_>) {
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
            // Only this look takes the time of the next one from now. The looks that users of the view ask for must not
            // put it off, however often they come.
            self.again_at = None;
            self.again_pause = (self.again_pause * 2).min(LATER);
            self.look_again(thread);
        }
        if is_due(self.deaths.next_pass) {
            let begun = Instant::now();
            for name in self.deaths.due() {
                self.examine(&name, thread);
            }
            self.deaths.passed(begun.elapsed());
        }
    }

    /// The process of this pid is dead.
    fn died(&mut self, pid: u32, thread: &mut Thread<'_>) {
        for name in self.deaths.died(pid, &self.epoll) {
            self.examine(&name, thread);
            if self.known.get(&name).is_some_and(|known| known.record.is_some()) {
                // The process is dead and the lock is held, by a fork or by another process that has the same pid now.
                self.deaths.forget(&name, &self.epoll);
                self.deaths.probe_later(&name);
            }
        }
    }

    // Names.

    /// Looks at a name and reports the difference.
    fn examine(&mut self, name: &str, thread: &mut Thread<'_>) {
        if self.has != Scope::Names {
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
        let mut found = inspect(&self.directory, directory.as_fd(), name, self.known.get(name));
        if let Inspection::Alive(known @ Known { record: Some(record), .. }) = &found
            && self.deaths.watch(name, record, &self.epoll)
        {
            found = inspect(&self.directory, directory.as_fd(), name, Some(known));
        }
        match found {
            Inspection::Alive(known) => self.present(name, known, thread),
            Inspection::Dead => {
                gc::collect(&self.directory, directory.as_fd(), name);
                self.absent(name, thread);
            }
            Inspection::Absent => self.absent(name, thread),
            Inspection::Bad(known, _) => {
                self.absent(name, thread);
                self.known.insert(name.to_owned(), known);
            }
            Inspection::Later(error) => self.later(name, error),
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
        self.notify_sinks(&event, thread);
    }

    fn absent(&mut self, name: &str, thread: &mut Thread<'_>) {
        self.deaths.forget(name, &self.epoll);
        let Some(Known { record: Some(record), .. }) = self.known.remove(name) else { return };
        self.view.remove(&record);
        self.notify_sinks(&ServiceEvent::Removed(record), thread);
        if self.own_record_missing(name) {
            self.record_lost();
        } else if self.known.is_empty() {
            self.schedule_check();
        }
    }

    /// Looks at the name again after a pause. Until then, a call that uses the view asks for an earlier look.
    fn later(&mut self, name: &str, error: Error) {
        if !self.again.iter().any(|(known, _)| known == name) {
            self.again.push((name.to_owned(), error));
        }
        self.again_at.get_or_insert_with(|| Instant::now() + self.again_pause);
        self.view.set_dirty(true);
    }

    fn forget_all(&mut self, thread: &mut Thread<'_>) {
        let mut names: Vec<String> = self.known.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            let Some(Known { record: Some(record), .. }) = self.known.remove(&name) else { continue };
            self.view.remove(&record);
            self.notify_sinks(&ServiceEvent::Removed(record), thread);
        }
        self.deaths.clear(&self.epoll);
        self.all_read();
    }

    fn notify_sinks(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>) {
        let mut listeners = std::mem::take(&mut self.listeners);
        let mut at = 0;
        while at < listeners.len() {
            let chosen = listeners[at].filter.matches(&event.record().service);
            if chosen && !notify_sink(&mut listeners[at], event, thread) {
                discard(listeners.remove(at));
            } else {
                at += 1;
            }
        }
        self.listeners = listeners;
    }
}

impl Watched for Registry {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        let mut ready = std::mem::take(&mut self.ready);
        // `Epoll::wait` cannot fail here. If it does, the registry must not go on without its source of changes.
        if self.epoll.wait(Some(Instant::now()), &mut ready).is_err() {
            return Step::Finished;
        }
        for number in ready.drain(..) {
            match u32::try_from(number) {
                Ok(INOTIFY) => self.read_changes(thread),
                Ok(pid) => self.died(pid, thread),
                Err(_) => {}
            }
        }
        self.ready = ready;
        self.due(thread);
        Step::Again(self.deadline())
    }

    /// Only the registry withdraws this process's records and informs the listeners, so it must stay.
    fn retry(&self) -> Option<Duration> {
        Some(RETRY)
    }

    /// Only the registry restores records, finds services and reports that a peer has died.
    fn is_essential(&self) -> bool {
        true
    }
}

impl Drop for Registry {
    /// Removes the records, because nothing restores them any more, tells every listener that nothing more will come, and
    /// ends the view, because it is not updated any more.
    fn drop(&mut self) {
        self.withdraw();
        self.view.end();
    }
}

/// Why something chosen cannot be read. The empty name stands for the whole directory, which concerns everyone.
fn unread<'a>(again: &'a [(String, Error)], chosen: &Filter) -> impl Iterator<Item = &'a Error> {
    let concerns = |name: &str| RecordName::parse(name).is_none_or(|parts| chosen.matches(parts.service));
    again.iter().filter(move |(name, _)| concerns(name)).map(|(_, error)| error)
}

/// Gives one event to a sink. False when the sink panicked and must be dropped.
fn notify_sink(listener: &mut Listener, event: &ServiceEvent, thread: &mut Thread<'_>) -> bool {
    contained(|| listener.sink.event(event, thread)).is_some()
}
