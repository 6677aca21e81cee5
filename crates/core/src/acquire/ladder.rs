//! The ladder: direct, then the handshake, then the stream, for one peer; automatic, or one rung by force.
//!
//! Invariant: `done` is called exactly once, on the bus thread, unless the bus closes first; then it is dropped.
//! Every rung that was left is remembered with its reason. A stale record is read again once. Never
//! blocks: `direct` is a handful of system calls, the handshake a state machine behind one descriptor.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::Start;

use super::bell::Bell;
use super::client::{Client, Progress, Wanted};
use super::direct;
use super::joined::{Joined, topic_of};
use super::proof;
use super::stream::Link;
use super::verdict::Verdict;
use crate::bus::{Bus, Directory};
use crate::reactor::{Handle, Step, Thread, Token, Watched};
use crate::record::{Fallback, Record, Rung};
use crate::segment::{DurableName, PeerSegments};
use crate::{Error, Result};

/// A place in a publisher's topic.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// The record that was used; newer than the one given if that was stale.
    pub(crate) record: Arc<Record>,
    /// What it is read through.
    pub(crate) way: Way,
    /// How it was acquired.
    pub(crate) rung: Rung,
    /// What was tried before.
    pub(crate) fallbacks: Vec<Fallback>,
}

/// What a topic is read through.
#[derive(Debug)]
pub(crate) enum Way {
    Memory(Memory),
    Stream(Box<Link>),
}

/// The memory of a topic, and a slot in it.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Both segments, checked and mapped.
    pub(crate) segments: PeerSegments,
    /// Locked through `segments.control_own`, where there is one.
    pub(crate) slot: usize,
    /// To be rung when there is room and the publisher waits for it.
    pub(crate) room: Bell,
    /// The slot's doorbell.
    pub(crate) doorbell: Bell,
}

/// Called with the result, on the bus thread.
pub(crate) type Done = Box<dyn FnOnce(Result<Attachment>, &mut Thread<'_>) + Send>;

/// What an acquisition needs of a bus, without keeping the bus alive.
#[derive(Clone)]
pub(crate) struct Acquirer {
    directory: Arc<Directory>,
    forced: Option<Rung>,
    durable: Option<DurableName>,
}

impl Acquirer {
    /// Takes the bus's own wish for a rung, or that of `IPC_BUS_ACQUIRE`.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` when the variable holds no rung.
    pub(crate) fn new(bus: &Bus) -> Result<Acquirer> {
        let forced = match bus.options().acquire {
            Some(rung) => Some(rung),
            None => Rung::from_env()?,
        };
        Ok(Acquirer { directory: Arc::clone(bus.dir()), forced, durable: None })
    }

    /// Claims slots under a durable name.
    pub(crate) fn under(mut self, durable: Option<DurableName>) -> Acquirer {
        self.durable = durable;
        self
    }

    /// Where records are.
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Whether the record is still there and its owner lives; none where that cannot be told.
    pub(crate) fn is_alive(&self, record: &Record) -> Option<bool> {
        match proof::check(&self.directory, record) {
            Ok(()) => Some(true),
            Err(Verdict::Gone) => Some(false),
            Err(_) => None,
        }
    }

    /// The rung that the bus or the environment forces.
    pub(crate) fn forced(&self) -> Option<Rung> {
        self.forced
    }
}

/// What a subscriber wants of an acquisition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// This rung and no other.
    pub(crate) forced: Option<Rung>,
    /// Where to start; a publisher that streams joins the ring for its subscriber.
    pub(crate) start: Start,
}

/// Begins to attach to a topic's publisher. The result may be cancelled by removing the token.
pub(crate) fn attach(
    acquirer: &Acquirer,
    record: Arc<Record>,
    wish: Wish,
    thread: &mut Thread<'_>,
    done: Done,
) -> Token {
    let wish = Wish { forced: wish.forced.or(acquirer.forced), ..wish };
    let mut ladder = Ladder::new(acquirer.directory.clone(), record, wish);
    ladder.durable = acquirer.durable.clone();
    let acquisition = Acquisition { ladder, done: Some(done), handle: thread.handle() };
    thread.add(Box::new(acquisition), Some(Instant::now()))
}

/// The ladder as a state machine, without the thread that drives it.
pub(super) struct Ladder {
    directory: Arc<Directory>,
    record: Arc<Record>,
    start: Start,
    /// What is still to be tried, the next one last.
    rungs: Vec<Rung>,
    forced: bool,
    fallbacks: Vec<Fallback>,
    reread: bool,
    durable: Option<DurableName>,
    client: Option<Client>,
}

/// What `Ladder::climb` leads to.
pub(super) enum Climb {
    /// Wait for `fd`, at most until this time.
    Pending(Instant),
    Ended(Result<Box<Attachment>>),
}

impl Ladder {
    pub(super) fn new(directory: Arc<Directory>, record: Arc<Record>, wish: Wish) -> Ladder {
        let Wish { forced, start } = wish;
        let rungs =
            forced.map_or_else(|| vec![Rung::Stream, Rung::Handshake, Rung::Direct], |rung| vec![rung]);
        Ladder {
            directory,
            record,
            start,
            rungs,
            forced: forced.is_some(),
            fallbacks: Vec::new(),
            reread: false,
            durable: None,
            client: None,
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref()?.fd()
    }

    pub(super) fn climb(&mut self, now: Instant) -> Climb {
        if let Err(error) = self.admissible() {
            return Climb::Ended(Err(error));
        }
        loop {
            let Some(rung) = self.rungs.last().copied() else { return Climb::Ended(Err(self.exhausted())) };
            let verdict = match self.attempt(rung, now) {
                Progress::Pending(until) => return Climb::Pending(until),
                Progress::Acquired(joined, doorbell) => return self.acquired(rung, joined, doorbell),
                Progress::Streams(link) => return Climb::Ended(Ok(self.arrived(rung, Way::Stream(link)))),
                Progress::Left(verdict) => verdict,
            };
            self.client = None;
            match verdict {
                Verdict::Next { code, reason } => {
                    self.fallbacks.push(Fallback::new(rung, code, reason));
                    self.rungs.pop();
                }
                Verdict::Stale if !self.reread => {
                    self.reread = true;
                    match proof::reread(&self.directory, &self.record) {
                        Ok(Some(record)) => self.record = record,
                        Ok(None) => return Climb::Ended(Err(self.gone())),
                        Err(error) => return Climb::Ended(Err(error)),
                    }
                }
                Verdict::Stale | Verdict::Gone => return Climb::Ended(Err(self.gone())),
                Verdict::Fail(error) => return Climb::Ended(Err(error)),
            }
        }
    }

    /// Whether it is another user's that lets others in as guests.
    fn is_anothers(&self) -> bool {
        let guests = self.record.topic.as_ref().map_or(0, |topic| topic.max_guests);
        guests > 0 && self.record.uid != nix::unistd::geteuid().as_raw()
    }

    fn admissible(&self) -> Result<()> {
        topic_of(&self.record)?;
        let (ours, theirs) = (ringbell_ring::layout::VERSION, self.record.protocol);
        if ours == theirs { Ok(()) } else { Err(Error::ProtocolVersion { ours, theirs }) }
    }

    fn attempt(&mut self, rung: Rung, now: Instant) -> Progress {
        if !self.record.offers.contains(&rung) {
            let reason = "the publisher does not offer it".into();
            return Progress::Left(Verdict::Next { code: "NOT_OFFERED".into(), reason });
        }
        if rung == Rung::Direct && !self.forced && self.is_anothers() {
            let reason =
                "the publisher is another user's: its own doorbells could be turned against this process";
            return Progress::Left(Verdict::Next { code: "OTHER_USER".into(), reason: reason.into() });
        }
        let wanted = match rung {
            Rung::Direct => {
                return match direct::acquire(&self.directory, &self.record, self.durable.as_ref()) {
                    Ok((joined, doorbell)) => Progress::Acquired(joined, doorbell),
                    Err(verdict) => Progress::Left(verdict),
                };
            }
            Rung::Handshake => Wanted::Memory,
            Rung::Stream => Wanted::Stream(self.start),
        };
        let (directory, record) = (&self.directory, &self.record);
        let durable = &self.durable;
        let client = || Client::new(Arc::clone(directory), Arc::clone(record), wanted, durable.clone(), now);
        self.client.get_or_insert_with(client).advance(now)
    }

    fn acquired(&mut self, rung: Rung, joined: Joined, doorbell: Bell) -> Climb {
        let Joined { segments, slot, room } = joined;
        let room = match (room, &doorbell) {
            (Some(room), _) => Bell::Shared(Arc::new(room)),
            (None, Bell::Cord(cord)) => Bell::Cord(Arc::clone(cord)),
            (None, Bell::Shared(_)) => return Climb::Ended(Err(self.gone())),
        };
        Climb::Ended(Ok(self.arrived(rung, Way::Memory(Memory { segments, slot, room, doorbell }))))
    }

    fn arrived(&mut self, rung: Rung, way: Way) -> Box<Attachment> {
        let fallbacks = std::mem::take(&mut self.fallbacks);
        self.client = None;
        Box::new(Attachment { record: Arc::clone(&self.record), way, rung, fallbacks })
    }

    fn exhausted(&self) -> Error {
        Fallback::exhausted(&self.record.service, &self.fallbacks)
    }

    fn gone(&self) -> Error {
        Error::PeerGone { service: self.record.service.clone() }
    }
}

/// A ladder on the bus thread.
struct Acquisition {
    ladder: Ladder,
    done: Option<Done>,
    handle: Handle,
}

impl Watched for Acquisition {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ladder.fd()
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        match self.ladder.climb(Instant::now()) {
            Climb::Pending(until) => Step::Again(Some(until)),
            Climb::Ended(result) => {
                // The socket of a stream lives on, and is the subscriber's to wait for.
                if let Ok(attachment) = &result
                    && let Way::Stream(link) = &attachment.way
                {
                    thread.forget(&**link);
                }
                if let Some(done) = self.done.take() {
                    done(result.map(|attachment| *attachment), thread);
                }
                Step::Finished
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        if let Some(done) = self.done.take() {
            // Here is no `Thread` to give; a turn of the thread's has one. When the thread has ended, `Told` is dropped.
            let told = Told { told: Some((done, error.clone())) };
            self.handle.add(Box::new(told), Some(Instant::now()));
        }
    }
}

/// Tells on the bus thread that a socket could not be waited for.
struct Told {
    told: Option<(Done, Error)>,
}

impl Watched for Told {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        if let Some((done, error)) = self.told.take() {
            done(Err(error), thread);
        }
        Step::Finished
    }
}
