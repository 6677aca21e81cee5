//! The ladder: it tries the rungs to one peer, from the best one on, or only the rung that is forced.
//!
//! Invariants: `done` is called exactly once, on the bus thread. If the bus closes first, it is dropped instead.
//! Every rung that was passed over is remembered with the reason. A stale record is read again once. The ladder
//! never blocks: a direct acquisition is a few system calls, and the handshake is a state machine behind one
//! descriptor. Topics and channels call it. It knows nothing of what is wanted: only the [`Want`] does.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{ClientHandshake, HandshakeProgress, Want};
use super::proof;
use super::verdict::Verdict;
use crate::bus::{Bus, Directory};
use crate::reactor::{Handle, Step, Thread, Watched};
use crate::record::{Fallback, Record, Rung};
use crate::{Error, Result};

/// What was acquired from a peer.
#[derive(Debug)]
pub(crate) struct Acquired<P> {
    /// The record that was used. It is newer than the given one if that was stale.
    pub(crate) record: Arc<Record>,
    pub(crate) port: P,
    /// How it was acquired.
    pub(crate) rung: Rung,
    /// The rungs that were passed over before.
    pub(crate) fallbacks: Vec<Fallback>,
}

/// The callback for the result. It runs on the bus thread.
pub(crate) type Done<P> = Box<dyn FnOnce(Result<Acquired<P>>, &mut Thread<'_>) + Send>;

/// What an acquisition needs of a bus. It does not keep the bus alive.
#[derive(Clone)]
pub(crate) struct Acquirer {
    directory: Arc<Directory>,
    forced: Option<Rung>,
}

/// Which peer is asked, and how.
pub(crate) struct Ask {
    pub(crate) record: Arc<Record>,
    /// Only this rung is tried. If it is not set, the bus or the environment may force one.
    pub(crate) forced: Option<Rung>,
    /// How long the acquisition may take, all repetitions included.
    pub(crate) patience: Duration,
}

impl Acquirer {
    /// Takes the rung that the bus forces, if it forces one.
    pub(crate) fn new(bus: &Bus) -> Acquirer {
        Acquirer { directory: Arc::clone(bus.dir()), forced: bus.options().acquire }
    }

    /// Whether the record is still there and its owner lives. None: that cannot be told.
    pub(crate) fn is_alive(&self, record: &Record) -> Option<bool> {
        match proof::check_alive(&self.directory, record) {
            Ok(()) => Some(true),
            Err(Verdict::Gone) => Some(false),
            Err(_) => None,
        }
    }

    /// The rung that the bus or the environment forces.
    #[cfg(test)]
    pub(crate) fn forced(&self) -> Option<Rung> {
        self.forced
    }

    /// Makes the ladder for a want, without the thread that climbs it.
    pub(crate) fn ladder<W: Want>(&self, want: W, ask: Ask) -> Ladder<W> {
        let Ask { record, forced, patience } = ask;
        let forced = forced.or(self.forced);
        let mut rungs: Vec<Rung> = match forced {
            None => W::RUNGS.to_vec(),
            Some(rung) if W::RUNGS.contains(&rung) => vec![rung],
            // The forced rung is not one of this want's. It is tried only to give the reason; then the best rung
            // follows.
            Some(rung) => [rung].into_iter().chain(W::RUNGS.first().copied()).collect(),
        };
        rungs.reverse();
        let directory = Arc::clone(&self.directory);
        let client = ClientHandshake::new(Arc::clone(&directory), record, patience, Instant::now());
        Ladder {
            want,
            directory,
            client,
            rungs,
            forced: forced.is_some(),
            fallbacks: Vec::new(),
            reread: false,
        }
    }
}

/// The ladder as a state machine, without the thread that drives it.
pub(crate) struct Ladder<W: Want> {
    want: W,
    directory: Arc<Directory>,
    client: ClientHandshake<W::Partial>,
    /// The rungs that are still to be tried. The next one is the last in the list.
    rungs: Vec<Rung>,
    forced: bool,
    fallbacks: Vec<Fallback>,
    reread: bool,
}

/// The result of `Ladder::climb`.
pub(crate) enum Climb<P> {
    /// Wait for `fd`, but not longer than this time.
    Pending(Instant),
    Ended(Result<Box<Acquired<P>>>),
}

impl<W: Want> Ladder<W> {
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.client.fd()
    }

    /// Does what can be done without waiting. A connection that lives on is passed to `forget` before it is handed
    /// over.
    pub(crate) fn climb(&mut self, now: Instant, forget: &mut dyn FnMut(BorrowedFd<'_>)) -> Climb<W::Port> {
        if let Err(error) = self.admissible() {
            return Climb::Ended(Err(error));
        }
        loop {
            let Some(rung) = self.rungs.last().copied() else { return Climb::Ended(Err(self.exhausted())) };
            let verdict = match self.attempt(rung, now, forget) {
                Ok(HandshakeProgress::Pending(until)) => return Climb::Pending(until),
                Ok(HandshakeProgress::Done(port)) => return Climb::Ended(Ok(self.arrived(rung, port))),
                Err(verdict) => verdict,
            };
            let mut newer = None;
            match verdict {
                Verdict::Next { code, reason } => {
                    self.fallbacks.push(Fallback::new(rung, code, reason));
                    self.rungs.pop();
                }
                Verdict::Stale if !self.reread => {
                    self.reread = true;
                    match proof::reread(&self.directory, self.client.record()) {
                        Ok(Some(record)) => newer = Some(record),
                        Ok(None) => return Climb::Ended(Err(self.gone())),
                        Err(error) => return Climb::Ended(Err(error)),
                    }
                }
                Verdict::Stale | Verdict::Gone => return Climb::Ended(Err(self.gone())),
                Verdict::Fail(error) => return Climb::Ended(Err(error)),
            }
            self.client.restart(newer, now);
        }
    }

    fn admissible(&self) -> Result<()> {
        let record = self.client.record();
        self.want.check(record)?;
        let (ours, theirs) = (ringbell_ring::layout::VERSION, record.protocol);
        if ours == theirs { Ok(()) } else { Err(Error::ProtocolVersion { ours, theirs }) }
    }

    fn attempt(
        &mut self,
        rung: Rung,
        now: Instant,
        forget: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Result<HandshakeProgress<W::Port>, Verdict> {
        let record = self.client.record();
        if !record.offers.contains(&rung) {
            let reason = format!("the {} does not offer it", W::ROLE);
            return Err(Verdict::Next { code: "NOT_OFFERED".into(), reason });
        }
        if rung == Rung::Direct {
            return self.want.direct(&self.directory, record, self.forced).map(HandshakeProgress::Done);
        }
        self.client.advance(&mut self.want, rung, now, forget)
    }

    fn arrived(&mut self, rung: Rung, port: W::Port) -> Box<Acquired<W::Port>> {
        let fallbacks = std::mem::take(&mut self.fallbacks);
        Box::new(Acquired { record: Arc::clone(self.client.record()), port, rung, fallbacks })
    }

    fn exhausted(&self) -> Error {
        Fallback::exhausted(&self.client.record().service, &self.fallbacks)
    }

    fn gone(&self) -> Error {
        Error::PeerGone { service: self.client.record().service.clone() }
    }
}

/// A ladder on the bus thread. Removing its token cancels it.
pub(crate) struct Acquisition<W: Want> {
    ladder: Ladder<W>,
    done: Option<Done<W::Port>>,
    handle: Handle,
}

impl<W: Want> Acquisition<W> {
    /// Makes an acquisition. It must be added to the thread of this handle, and called at once.
    pub(crate) fn new(ladder: Ladder<W>, handle: Handle, done: Done<W::Port>) -> Box<Acquisition<W>> {
        Box::new(Acquisition { ladder, done: Some(done), handle })
    }
}

impl<W: Want> Watched for Acquisition<W> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.ladder.fd()
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        match self.ladder.climb(Instant::now(), &mut |socket| thread.forget(socket)) {
            Climb::Pending(until) => Step::Again(Some(until)),
            Climb::Ended(result) => {
                if let Some(done) = self.done.take() {
                    done(result.map(|acquired| *acquired), thread);
                }
                Step::Finished
            }
        }
    }

    fn failed(&mut self, error: &Error) {
        if let Some(done) = self.done.take() {
            // There is no `Thread` here to pass on, but a turn of the bus thread has one. If the bus thread has
            // ended, the error is dropped.
            let deferred = DeferredError { pending: Some((done, error.clone())) };
            self.handle.add(Box::new(deferred), Some(Instant::now()));
        }
    }
}

/// Reports, on the bus thread, that a socket could not be waited for.
struct DeferredError<P> {
    pending: Option<(Done<P>, Error)>,
}

impl<P: Send + 'static> Watched for DeferredError<P> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        if let Some((done, error)) = self.pending.take() {
            done(Err(error), thread);
        }
        Step::Finished
    }
}
