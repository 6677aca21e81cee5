//! The follower: a subscriber's part on the bus thread. It learns of publishers, acquires and joins them, and reports
//! to the [`Inbox`].
//!
//! Invariant: an instance is joined at most once, however often its record vanishes and comes back. A missing record
//! does not prove that the publisher is dead; only a free lock in the control segment proves it (for a guest, the end
//! of its connection). While the lock is held, the source stays, and is probed from time to time until the record is
//! back. (Removing a bus directory removes all its records.) Everything that waits for a publisher on the bus thread
//! is kept here, and ends with the subscriber. It must never block.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ringbell_ring::Start;

use super::options::{Route, SubscriberOptions};
use super::source::JoinedPublisher;
use crate::bus::{Bus, ServiceEvent, Sink};
use crate::error::{Error, Result};
use crate::handshake::{Acquirer, Acquisition, Ask, Backoff, Done};
use crate::port::Probe;
use crate::reactor::{Inbox, Step, Thread, Watched};
use crate::record::{GroupRecord, Record, STATE_KIND, StateKind, TOPIC_KIND};
use crate::segment::DurableName;
use crate::topic::acquire::{Attachment, NO_DURABLE_GUESTS, PATIENCE, Ring, TopicPort, is_other_user};

/// Reports from the bus thread.
pub(super) enum PublisherEvent {
    /// A publisher was acquired and joined, and its doorbell is watched.
    Joined(Box<JoinedPublisher>),
    /// The member with this id has this role now. Only told to a subscriber that follows the primary.
    Role(String, Option<GroupRecord>),
    /// The instance with this id has died or closed. What it left can be drained; nothing follows.
    Gone(String),
    /// The instance with this id lives, but its stream is lost.
    Lost(String),
    /// A lost stream could not be connected again in this many tries. The error is that of the last try.
    GivenUp(Arc<Record>, u32, Error),
    /// A publisher could not be attached.
    Failed(Arc<Record>, Error),
    /// The bus directory cannot be read, so publishers may be missing.
    Unreadable(Error),
    /// The bus was closed. No publisher will arrive any more, and no publisher's end will be reported.
    Closed,
}

/// How often the lock of a publisher without a record is probed.
const UNLISTED: Duration = Duration::from_millis(200);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);
/// A process that dies closes its sockets a little before its locks are free. For this long, the end of a stream
/// proves nothing.
const DYING: Duration = Duration::from_millis(300);
const DYING_LOOK: Duration = Duration::from_millis(20);

/// Follows the publishers of one subscription.
pub(super) struct Follower {
    shared: Arc<Shared>,
}

struct Shared {
    acquirer: Acquirer,
    /// The name under which slots are claimed.
    durable: Option<DurableName>,
    inbox: Arc<Inbox<PublisherEvent>>,
    options: SubscriberOptions,
    known: Mutex<HashMap<String, Known>>,
    /// The latest term that was seen in a record.
    newest: Mutex<u64>,
}

/// An instance that is listed in the bus directory, or joined, or both.
struct Known {
    record: Arc<Record>,
    listed: bool,
    /// Where to start to read it.
    start: Start,
    /// There once the instance is joined. It tells whether the publisher lives.
    probe: Option<Probe>,
}

/// What came before an attempt to attach.
enum Attempt {
    First,
    /// Another attempt, and a pause of this length.
    Retry(Duration),
    /// The loss of a stream.
    Reconnect(Reconnecting),
}

struct Reconnecting {
    tries: u32,
    backoff: Backoff,
    /// Sequence of the first message that the lost stream had not brought.
    resume: Option<u64>,
}

impl Follower {
    pub(super) fn new(
        acquirer: Acquirer,
        durable: Option<DurableName>,
        inbox: Arc<Inbox<PublisherEvent>>,
        options: SubscriberOptions,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                acquirer,
                durable,
                inbox,
                options,
                known: Mutex::default(),
                newest: Mutex::default(),
            }),
        }
    }

    /// The subscriber uses this to report streams that broke off.
    pub(super) fn severed(&self) -> Severed {
        Severed { shared: Arc::downgrade(&self.shared) }
    }
}

impl Drop for Follower {
    /// The subscriber or the bus has gone. A caller that waits for messages must learn of it, because it would wait
    /// without end.
    fn drop(&mut self) {
        self.shared.inbox.put(PublisherEvent::Closed);
    }
}

impl Sink for Follower {
    fn event(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>) {
        match event {
            ServiceEvent::Added(record) => self.shared.clone().added(record, thread),
            ServiceEvent::Removed(record) => self.shared.clone().removed(record, thread),
            ServiceEvent::Updated(record) => self.shared.updated(record),
        }
    }

    fn unreadable(&mut self, error: &Error) {
        self.shared.inbox.put(PublisherEvent::Unreadable(error.clone()));
    }
}

/// A publisher announces another codec or schema than this subscriber expects.
fn other(record: &Record, what: &str, theirs: &str, ours: &str) -> Error {
    let Record { service, pid, .. } = record;
    let reason = format!(
        "'{service}' of process {pid} has the {what} {theirs}, but this side expects {ours}; give both the same {what}"
    );
    Error::Refused { reason }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn added(self: Arc<Self>, record: &Arc<Record>, thread: &mut Thread<'_>) {
        let kind = if self.options.state.is_some() { STATE_KIND } else { TOPIC_KIND };
        if record.kind != kind || record.topic.is_none() {
            return;
        }
        if self.options.instance.as_ref().is_some_and(|instance| *instance != record.id) {
            return;
        }
        if let Some(known) = self.known().get_mut(&record.id) {
            known.listed = true;
            return;
        }
        if let Some(error) = self
            .other_codec(record)
            .or_else(|| self.other_schema(record))
            .or_else(|| self.other_state(record))
            .or_else(|| self.other_overflow(record))
            .or_else(|| self.durable_guest(record))
            .or_else(|| self.no_member(record))
        {
            self.inbox.put(PublisherEvent::Failed(record.clone(), error));
            return;
        }
        let start = self.first_start(record);
        let known = Known { record: record.clone(), listed: true, start, probe: None };
        self.known().insert(record.id.clone(), known);
        self.attach(record.clone(), Attempt::First, thread);
    }

    /// Apart from its role, a subscriber needs nothing of a record that can change after it is attached.
    fn updated(&self, record: &Arc<Record>) {
        if self.options.route != Route::Primary {
            return;
        }
        self.note_term(record);
        let mut known = self.known();
        let Some(known) = known.get_mut(&record.id) else { return };
        let before = std::mem::replace(&mut known.record, record.clone());
        if before.group != record.group {
            self.inbox.put(PublisherEvent::Role(record.id.clone(), record.group));
        }
    }

    /// Answers the latest term that was seen before this record.
    fn note_term(&self, record: &Record) -> u64 {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *newest;
        *newest = before.max(record.group.and_then(GroupRecord::term).unwrap_or(0));
        before
    }

    /// A member that has not been primary has sent nothing, and one that is primary later than all that were seen has sent
    /// nothing that this subscriber has passed over. So everything that they send is read, however late they are joined.
    fn first_start(&self, record: &Record) -> Start {
        let Some(group) = record.group.filter(|_| self.options.route == Route::Primary) else {
            return self.options.from;
        };
        let before = self.note_term(record);
        let follows = before > 0 && group.term().is_some_and(|epoch| epoch > before);
        if group == GroupRecord::NEW || follows { Start::Earliest } else { self.options.from }
    }

    fn no_member(&self, record: &Record) -> Option<Error> {
        let refused = || {
            let Record { service, pid, .. } = record;
            let reason = format!(
                "'{service}' of process {pid} is of no member of a group, and this subscriber follows the primary"
            );
            Error::Refused { reason }
        };
        (self.options.route == Route::Primary && record.group.is_none()).then(refused)
    }

    fn other_codec(&self, record: &Record) -> Option<Error> {
        let expected = self.options.codec.as_ref()?;
        let announced = record.codec.as_deref().unwrap_or("bytes");
        (announced != expected).then(|| other(record, "codec", announced, expected))
    }

    fn other_schema(&self, record: &Record) -> Option<Error> {
        let expected = self.options.schema.as_ref()?;
        let announced = record.payload_schema.as_deref();
        (announced != Some(expected.as_str()))
            .then(|| other(record, "schema id", announced.unwrap_or("(none)"), expected))
    }

    fn other_state(&self, record: &Record) -> Option<Error> {
        let expected = self.options.state?;
        let reason = match (record.state?.kind, expected) {
            (StateKind::Keyed, StateKind::Value) => "has keys, and this reader wants one value",
            (StateKind::Value, StateKind::Keyed) => "has one value, and this reader wants keys",
            _ => return None,
        };
        Some(Error::Refused { reason: format!("the state '{}' {reason}", record.service) })
    }

    fn other_overflow(&self, record: &Record) -> Option<Error> {
        let why = self.options.refuses(record.topic.as_ref()?.overflow)?;
        Some(Error::Refused { reason: format!("'{}' is no block topic: {why}", record.service) })
    }

    fn durable_guest(&self, record: &Record) -> Option<Error> {
        let refused = || Error::Refused { reason: NO_DURABLE_GUESTS.into() };
        (self.options.durable.is_some() && is_other_user(record)).then(refused)
    }

    fn attach(self: Arc<Self>, record: Arc<Record>, before: Attempt, thread: &mut Thread<'_>) {
        let shared = Arc::downgrade(&self);
        let attempt = record.clone();
        let ring = Ring { start: self.start(&record, &before), durable: self.durable.clone() };
        let ask = Ask { record, forced: self.options.acquire, patience: PATIENCE };
        let done: Done<TopicPort> = Box::new(move |result: Result<Attachment>, thread: &mut Thread<'_>| {
            if let Some(shared) = shared.upgrade() {
                shared.attached(attempt, result, before, thread);
            }
        });
        let acquisition = Acquisition::new(self.acquirer.ladder(ring, ask), thread.handle(), done);
        thread.add(acquisition, Some(Instant::now()));
    }

    /// A lost stream is continued where it broke off, as far as the ring still holds those messages.
    fn start(&self, record: &Record, before: &Attempt) -> Start {
        match before {
            Attempt::Reconnect(Reconnecting { resume: Some(_), .. }) => Start::Earliest,
            _ => self.known().get(&record.id).map_or(self.options.from, |known| known.start),
        }
    }

    fn attached(
        self: Arc<Self>,
        record: Arc<Record>,
        result: Result<Attachment>,
        before: Attempt,
        thread: &mut Thread<'_>,
    ) {
        let start = self.start(&record, &before);
        let resume = if let Attempt::Reconnect(lost) = &before { lost.resume } else { None };
        let joined = result
            .and_then(|attachment| JoinedPublisher::join(attachment, &self.options, start, resume))
            .and_then(|joined| {
                let probe = joined.probe()?;
                joined.watch(&self.inbox)?;
                Ok((joined, probe))
            });
        let error = match joined {
            Ok((joined, probe)) => return self.joined(&record, joined, probe, thread),
            Err(error) => error,
        };
        if let Attempt::Reconnect(lost) = before {
            return self.reconnect(record, lost, error, thread);
        }
        let listed = self.known().get(&record.id).is_some_and(|known| known.listed);
        let first = matches!(before, Attempt::First);
        if listed && worth_a_retry(&error) {
            let pause = match before {
                Attempt::Retry(pause) => (pause * 2).min(LAST_RETRY),
                _ => FIRST_RETRY,
            };
            self.clone().later(record.clone(), pause, Attempt::Retry(pause), thread);
        } else {
            self.known().remove(&record.id);
        }
        // It is no failure when a publisher dies while it is acquired: it is simply not there.
        if first && !matches!(error, Error::PeerGone { .. }) {
            self.inbox.put(PublisherEvent::Failed(record, error));
        }
    }

    fn joined(
        self: Arc<Self>,
        record: &Record,
        joined: JoinedPublisher,
        probe: Probe,
        thread: &mut Thread<'_>,
    ) {
        let mut known = self.known();
        let Some(known) = known.get_mut(&record.id) else {
            joined.unwatch(&self.inbox);
            return;
        };
        known.probe = Some(probe);
        let listed = known.listed;
        self.inbox.put(PublisherEvent::Joined(Box::new(joined)));
        if known.record.group != record.group {
            // It has changed meanwhile.
            self.inbox.put(PublisherEvent::Role(record.id.clone(), known.record.group));
        }
        if !listed {
            thread.add(
                Box::new(Unlisted { shared: Arc::downgrade(&self), id: record.id.clone() }),
                Some(Instant::now()),
            );
        }
    }

    /// Tries once more after a pause, as often as the options say. `error` is the error of the last try.
    fn reconnect(
        self: Arc<Self>,
        record: Arc<Record>,
        mut lost: Reconnecting,
        error: Error,
        thread: &mut Thread<'_>,
    ) {
        if matches!(error, Error::PeerGone { .. }) {
            self.known().remove(&record.id);
        } else if self.options.reconnect.more(lost.tries) {
            let pause = lost.backoff.next();
            lost.tries += 1;
            self.later(record, pause, Attempt::Reconnect(lost), thread);
        } else {
            // Forgotten, so that it is attached again if its record is listed again.
            self.known().remove(&record.id);
            self.inbox.put(PublisherEvent::GivenUp(record, lost.tries, error));
        }
    }

    fn later(
        self: Arc<Self>,
        record: Arc<Record>,
        pause: Duration,
        before: Attempt,
        thread: &mut Thread<'_>,
    ) {
        let retry = Retry { shared: Arc::downgrade(&self), record, before: Some(before) };
        thread.add(Box::new(retry), Some(Instant::now() + pause));
    }

    fn removed(self: Arc<Self>, record: &Arc<Record>, thread: &mut Thread<'_>) {
        let mut known = self.known();
        let Some(entry) = known.get_mut(&record.id) else { return };
        entry.listed = false;
        match &entry.probe {
            Some(probe) if probe.writer_lives() => {
                drop(known);
                let unlisted = Unlisted { shared: Arc::downgrade(&self), id: record.id.clone() };
                thread.add(Box::new(unlisted), Some(Instant::now() + UNLISTED));
            }
            Some(_) => {
                known.remove(&record.id);
                self.inbox.put(PublisherEvent::Gone(record.id.clone()));
            }
            // It is still being attached. When that is done, it is seen that the record is no longer listed.
            None => {}
        }
    }
}

/// Whether the error can go away with time. An eviction can: it happens in the middle of joining, and joining can be
/// tried again from the start.
fn worth_a_retry(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSlot { .. }
            | Error::NameTaken { .. }
            | Error::Timeout { .. }
            | Error::Resource { .. }
            | Error::Os { .. }
            | Error::Evicted { .. }
            | Error::Acquire { .. }
            | Error::Refused { .. }
            | Error::Disconnected { .. }
    )
}

/// Tries to attach again after a pause, if the instance is still listed.
struct Retry {
    shared: Weak<Shared>,
    record: Arc<Record>,
    before: Option<Attempt>,
}

impl Watched for Retry {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        let Some(shared) = self.shared.upgrade() else { return Step::Finished };
        let mut known = shared.known();
        match known.get(&self.record.id) {
            Some(entry) if entry.listed => {
                drop(known);
                if let Some(before) = self.before.take() {
                    shared.attach(self.record.clone(), before, thread);
                }
            }
            Some(_) => drop(known.remove(&self.record.id)),
            None => {}
        }
        Step::Finished
    }
}

/// How a subscriber reports streams that broke off to the bus thread.
pub(super) struct Severed {
    shared: Weak<Shared>,
}

impl Severed {
    /// Makes the bus thread find out whether the instance lives, and connect the stream again if so. `resume` is the
    /// sequence of the first message that has not come, if that is known.
    pub(super) fn ask(&self, bus: &Bus, id: &str, resume: Option<u64>) {
        // Without a bus thread there are no reports any more.
        let Ok(handle) = bus.handle() else { return };
        let shared = self.shared.clone();
        let now = Instant::now();
        let inquiry = Inquiry { shared, id: id.to_owned(), resume, until: now + DYING };
        handle.add(Box::new(inquiry), Some(now));
    }
}

/// Finds out what happened to the publisher of a stream that broke off.
struct Inquiry {
    shared: Weak<Shared>,
    id: String,
    resume: Option<u64>,
    until: Instant,
}

impl Watched for Inquiry {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        let Some(shared) = self.shared.upgrade() else { return Step::Finished };
        let mut known = shared.known();
        // The instance is gone in the meantime. That was reported when it was removed.
        let Some(entry) = known.get_mut(&self.id) else { return Step::Finished };
        let record = entry.record.clone();
        if shared.acquirer.is_alive(&record) == Some(false) {
            known.remove(&self.id);
            shared.inbox.put(PublisherEvent::Gone(self.id.clone()));
            return Step::Finished;
        }
        let now = Instant::now();
        if now < self.until {
            return Step::Again(Some(now + DYING_LOOK));
        }
        entry.probe = None;
        drop(known);
        shared.inbox.put(PublisherEvent::Lost(self.id.clone()));
        let policy = shared.options.reconnect;
        let backoff = Backoff::between(policy.first, policy.longest);
        let lost = Reconnecting { tries: 0, backoff, resume: self.resume };
        let error = Error::Disconnected { service: record.service.clone() };
        shared.clone().reconnect(record, lost, error, thread);
        Step::Finished
    }
}

/// Watches a joined publisher whose record is gone, until the record is back or the publisher is gone, too.
struct Unlisted {
    shared: Weak<Shared>,
    id: String,
}

impl Watched for Unlisted {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        let Some(shared) = self.shared.upgrade() else { return Step::Finished };
        let mut known = shared.known();
        match known.get(&self.id) {
            Some(entry) if !entry.listed => {
                if entry.probe.as_ref().is_some_and(Probe::writer_lives) {
                    return Step::Again(Some(Instant::now() + UNLISTED));
                }
                if let Some(entry) = known.remove(&self.id) {
                    shared.inbox.put(PublisherEvent::Gone(entry.record.id.clone()));
                }
                Step::Finished
            }
            _ => Step::Finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_errors_are_retried() {
        let service = || "ticks".to_owned();
        let os = Error::os("pidfd_getfd", nix::errno::Errno::EIO, "cannot acquire");
        for error in [Error::Evicted { service: service() }, Error::NoSlot { max: 1 }, os] {
            assert!(worth_a_retry(&error), "{error}");
        }
        for error in [
            Error::CorruptPeer { what: String::new() },
            Error::PeerGone { service: service() },
            Error::ProtocolVersion { ours: 1, theirs: 2 },
        ] {
            assert!(!worth_a_retry(&error), "{error}");
        }
    }
}
