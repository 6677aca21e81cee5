//! What a subscriber has on the bus thread: it hears of publishers, acquires and joins them, and tells the [`Inbox`].
//!
//! Invariant: an instance is joined at most once, however often its record vanishes and comes back. That a record is
//! gone is no proof that its publisher is: the lock in the control segment is (a guest's connection), and while that is held the source
//! stays, probed now and then until the record is back (a bus directory that was removed takes all records with it).
//! The `Follower` alone keeps all of it: what waits on the bus thread for a publisher ends when the subscriber has gone.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::options::SubscriberOptions;
use super::source::{Joined, Probe};
use crate::acquire::client::NO_DURABLE_GUESTS;
use crate::acquire::{self, Acquirer, Attachment};
use crate::bus::thread::{Step, Thread, Watched};
use crate::bus::{Record, ServiceEvent, Sink};
use crate::error::{Error, Result};
use crate::inbox::Inbox;

/// News from the bus thread.
pub(super) enum Arrival {
    /// A publisher was acquired and joined, and its doorbell is watched.
    Joined(Box<Joined>),
    /// The instance with this id has died or closed: drain it, nothing will follow.
    Gone(String),
    /// A publisher could not be attached.
    Failed(Arc<Record>, Error),
    /// The bus was closed: nobody will arrive any more, and nobody's end will be heard of.
    Closed,
}

/// Number under which every source's doorbell is watched: which one rang does not matter.
const DOORBELL: u64 = 1;
/// How often the lock of a publisher without a record is probed.
const UNLISTED: Duration = Duration::from_millis(200);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Follows the publishers of one subscription.
pub(super) struct Follower {
    shared: Arc<Shared>,
}

struct Shared {
    acquirer: Acquirer,
    inbox: Arc<Inbox<Arrival>>,
    options: SubscriberOptions,
    known: Mutex<HashMap<String, Known>>,
}

/// An instance that is listed, or joined, or both.
struct Known {
    record: Arc<Record>,
    listed: bool,
    /// There once it is joined: its publisher's lock can be probed through it.
    probe: Option<Probe>,
}

impl Follower {
    pub(super) fn new(acquirer: Acquirer, inbox: Arc<Inbox<Arrival>>, options: SubscriberOptions) -> Self {
        Self { shared: Arc::new(Shared { acquirer, inbox, options, known: Mutex::default() }) }
    }
}

impl Drop for Follower {
    /// The subscriber has gone, or the bus: then whoever waits for messages is not to wait for ever.
    fn drop(&mut self) {
        self.shared.inbox.put(Arrival::Closed);
    }
}

impl Sink for Follower {
    fn event(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>) {
        match event {
            ServiceEvent::Added(record) => self.shared.clone().added(record, thread),
            ServiceEvent::Removed(record) => self.shared.clone().removed(record, thread),
            // What an attached subscriber needs of a record never changes.
            ServiceEvent::Updated(_) => {}
        }
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn added(self: Arc<Self>, record: &Arc<Record>, thread: &mut Thread<'_>) {
        if record.kind != "topic" || record.topic.is_none() {
            return;
        }
        if let Some(known) = self.known().get_mut(&record.id) {
            known.listed = true;
            return;
        }
        if let Some(error) = self
            .other_codec(record)
            .or_else(|| self.other_overflow(record))
            .or_else(|| self.durable_guest(record))
        {
            self.inbox.put(Arrival::Failed(record.clone(), error));
            return;
        }
        self.known().insert(record.id.clone(), Known { record: record.clone(), listed: true, probe: None });
        self.attach(record.clone(), None, thread);
    }

    fn other_codec(&self, record: &Record) -> Option<Error> {
        let expected = self.options.codec.as_ref()?;
        let announced = record.codec.as_deref().unwrap_or("bytes");
        (announced != expected).then(|| Error::Refused {
            reason: format!(
                "'{}' sends codec '{announced}', this subscriber expects '{expected}'",
                record.service
            ),
        })
    }

    fn other_overflow(&self, record: &Record) -> Option<Error> {
        let why = self.options.refuses(record.topic.as_ref()?.overflow)?;
        Some(Error::Refused { reason: format!("'{}' is no block topic: {why}", record.service) })
    }

    fn durable_guest(&self, record: &Record) -> Option<Error> {
        let guests = record.topic.as_ref()?.max_guests > 0;
        let guest = guests && record.uid != nix::unistd::geteuid().as_raw();
        let refused = || Error::Refused { reason: NO_DURABLE_GUESTS.into() };
        (guest && self.options.durable.is_some()).then(refused)
    }

    /// `retried`: how long the last pause was, if this is not the first try.
    fn attach(self: Arc<Self>, record: Arc<Record>, retried: Option<Duration>, thread: &mut Thread<'_>) {
        let shared = Arc::downgrade(&self);
        let attempt = record.clone();
        let done = Box::new(move |result: Result<Attachment>, thread: &mut Thread<'_>| {
            if let Some(shared) = shared.upgrade() {
                shared.attached(attempt, result, retried, thread);
            }
        });
        acquire::attach(&self.acquirer, record, self.options.acquire, thread, done);
    }

    fn attached(
        self: Arc<Self>,
        record: Arc<Record>,
        result: Result<Attachment>,
        retried: Option<Duration>,
        thread: &mut Thread<'_>,
    ) {
        let joined =
            result.and_then(|attachment| Joined::join(attachment, &self.options)).and_then(|joined| {
                let probe = joined.probe()?;
                self.inbox.watch(&joined.doorbell, DOORBELL)?;
                Ok((joined, probe))
            });
        match joined {
            Ok((joined, probe)) => {
                let mut known = self.known();
                let Some(known) = known.get_mut(&record.id) else {
                    self.inbox.forget(&joined.doorbell);
                    return;
                };
                known.probe = Some(probe);
                let listed = known.listed;
                self.inbox.put(Arrival::Joined(Box::new(joined)));
                if !listed {
                    thread.add(
                        Box::new(Unlisted { shared: Arc::downgrade(&self), id: record.id.clone() }),
                        Some(Instant::now()),
                    );
                }
            }
            Err(error) => {
                let listed = self.known().get(&record.id).is_some_and(|known| known.listed);
                if listed && worth_a_retry(&error) {
                    let pause = retried.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY));
                    let retry = Retry { shared: Arc::downgrade(&self), record: record.clone(), pause };
                    thread.add(Box::new(retry), Some(Instant::now() + pause));
                } else {
                    self.known().remove(&record.id);
                }
                // A publisher that died under our hands is no failure: it is just not there.
                if retried.is_none() && !matches!(error, Error::PeerGone { .. }) {
                    self.inbox.put(Arrival::Failed(record, error));
                }
            }
        }
    }

    fn removed(self: Arc<Self>, record: &Arc<Record>, thread: &mut Thread<'_>) {
        let mut known = self.known();
        let Some(entry) = known.get_mut(&record.id) else { return };
        entry.listed = false;
        match &entry.probe {
            Some(probe) if probe.publisher_lives() => {
                drop(known);
                let unlisted = Unlisted { shared: Arc::downgrade(&self), id: record.id.clone() };
                thread.add(Box::new(unlisted), Some(Instant::now() + UNLISTED));
            }
            Some(_) => {
                known.remove(&record.id);
                self.inbox.put(Arrival::Gone(record.id.clone()));
            }
            // Still being attached: whoever finishes that sees that it is no longer listed.
            None => {}
        }
    }
}

/// Whether time alone can mend it. Evicted: midway through joining, which can be tried again from the start.
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
    )
}

/// Tries to attach again after a pause, if the instance is still listed.
struct Retry {
    shared: Weak<Shared>,
    record: Arc<Record>,
    pause: Duration,
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
                shared.attach(self.record.clone(), Some(self.pause), thread);
            }
            Some(_) => drop(known.remove(&self.record.id)),
            None => {}
        }
        Step::Finished
    }
}

/// Watches over a joined publisher whose record is gone, until the record is back or the publisher is gone too.
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
                if entry.probe.as_ref().is_some_and(Probe::publisher_lives) {
                    return Step::Again(Some(Instant::now() + UNLISTED));
                }
                if let Some(entry) = known.remove(&self.id) {
                    shared.inbox.put(Arrival::Gone(entry.record.id.clone()));
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
    fn what_may_pass_is_tried_again_and_what_is_wrong_is_not() {
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
