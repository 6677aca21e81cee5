//! The asking side of one handshake: connect, ask, take the answers. A state machine that never blocks.
//!
//! Invariants: nothing that came is used before a [`Want`] has checked it; a connection that ends before everything came is begun
//! anew until the time has run out, because a full backlog, a peer that is short of descriptors and one that has shed this client
//! all look alike (see `reach`). What is asked for is the business of the [`Want`]. Driven by `ladder`, on the bus thread:
//! `advance` when `fd` is ready or the time has come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::reach::{Reach, Reached};
use super::verdict::Verdict;
use super::wire::{Datagram, Fault, LONGEST, Refusal};
use crate::bus::Directory;
use crate::record::{Record, Rung};
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::{Error, Result};

/// What is wanted of a peer: the memory of a ring, of a pair of rings, or the same as a stream. An implementor says what is asked,
/// checks what comes, and makes a port of it.
pub(crate) trait Want: Send + 'static {
    /// What has come, between two answers.
    type Partial: Send;
    /// Everything that had to come.
    type Parts;
    /// What is made of that, and the connection.
    type Port: Send + 'static;

    /// What the peer is called in a reason: `publisher`, `server`.
    const ROLE: &'static str;
    /// The rungs on which it can be had, the best first.
    const RUNGS: &'static [Rung];

    /// Whether the record announces it at all.
    fn check(&self, record: &Record) -> Result<()>;

    /// Takes it without the peer's help.
    fn direct(
        &mut self,
        _directory: &Directory,
        _record: &Record,
        _forced: bool,
    ) -> Result<Self::Port, Verdict> {
        let reason = "its memory is made at the handshake".into();
        Err(Verdict::Next { code: "NOT_OFFERED".into(), reason })
    }

    /// The first datagram to the peer.
    fn request(&self, attempt: &Attempt) -> Datagram;

    /// Takes an answer other than "try again"; `partial`: what the last one led to.
    fn hear(
        &mut self,
        attempt: &Attempt,
        partial: Option<Self::Partial>,
        datagram: Datagram,
        fds: Vec<OwnedFd>,
    ) -> Result<Next<Self::Partial, Self::Parts>, Verdict>;

    /// Everything has come; the connection is the port's to keep or to close.
    fn finish(
        &mut self,
        attempt: &Attempt,
        parts: Self::Parts,
        socket: ForkGuarded,
    ) -> Result<Self::Port, Verdict>;
}

/// One try: on which rung, and whose record led to it.
pub(crate) struct Attempt {
    pub(crate) rung: Rung,
    pub(crate) record: Arc<Record>,
    /// The instance, as datagrams name it.
    pub(crate) id: [u8; 16],
}

/// How it goes on after an answer.
pub(crate) enum Next<P, T> {
    /// Send this, and expect another answer.
    Send(Datagram, P),
    /// Everything has come, and nothing is to be said.
    Done(T),
    /// Everything has come. The peer is told; if it is not, the end of the connection says the same.
    Acknowledge(T),
    /// Everything has come, and counts once the peer is told. A peer that has not waited for that is asked anew.
    Confirm(T),
}

/// A handshake in flight.
pub(super) struct ClientHandshake<P> {
    reach: Reach,
    stage: Stage<P>,
}

enum Stage<P> {
    /// Not connected; at `until` it is tried (again), with the same socket if there is one.
    Connect { socket: Option<ForkGuarded>, until: Instant },
    /// Something was said; an answer is to come.
    Asked { socket: ForkGuarded, partial: Option<P> },
    /// It has ended.
    Over,
}

/// What `advance` leads to.
pub(super) enum Progress<T> {
    /// Wait for `fd`, at most until this time.
    Pending(Instant),
    /// Everything is there.
    Done(T),
    /// It ended in another way.
    Left(Verdict),
}

/// One step of the machine.
enum Turn<T> {
    /// Go on.
    On,
    /// Nothing has come yet.
    Wait(Instant),
    Done(T),
}

impl<P> ClientHandshake<P> {
    pub(super) fn new(
        directory: Arc<Directory>,
        record: Arc<Record>,
        patience: Duration,
        now: Instant,
    ) -> ClientHandshake<P> {
        let stage = Stage::Connect { socket: None, until: now };
        ClientHandshake { reach: Reach::new(directory, record, now, patience), stage }
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        self.reach.record()
    }

    /// Begins anew, with a newer record if there is one. The time goes on.
    pub(super) fn restart(&mut self, record: Option<Arc<Record>>, now: Instant) {
        self.reach.follow(record);
        self.stage = Stage::Connect { socket: None, until: now };
    }

    /// What to wait for. A socket that is not connected is not given: epoll calls it hung up, for ever.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Asked { socket, .. } => Some(socket.as_fd()),
            Stage::Connect { .. } | Stage::Over => None,
        }
    }

    /// Does what can be done without waiting. `forget` is told of a connection that lives on, before it is handed over.
    pub(super) fn advance<W: Want<Partial = P>>(
        &mut self,
        want: &mut W,
        rung: Rung,
        now: Instant,
        forget: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Progress<W::Port> {
        loop {
            match self.turn(want, rung, now, forget) {
                Ok(Turn::On) => {}
                Ok(Turn::Wait(_)) if now >= self.reach.give_up() => return Progress::Left(self.reach.late()),
                Ok(Turn::Wait(until)) => return Progress::Pending(until.min(self.reach.give_up())),
                Ok(Turn::Done(port)) => return Progress::Done(port),
                Err(verdict) => return Progress::Left(verdict),
            }
        }
    }

    fn turn<W: Want<Partial = P>>(
        &mut self,
        want: &mut W,
        rung: Rung,
        now: Instant,
        forget: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Result<Turn<W::Port>, Verdict> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connect { socket, until } if until <= now => self.connect(want, rung, socket, now),
            Stage::Connect { socket, until } => {
                self.stage = Stage::Connect { socket, until };
                Ok(Turn::Wait(until))
            }
            Stage::Asked { socket, partial } => self.answer(want, rung, (socket, partial), now, forget),
            Stage::Over => Ok(Turn::Wait(self.reach.give_up())),
        }
    }

    fn connect<W: Want<Partial = P>>(
        &mut self,
        want: &W,
        rung: Rung,
        socket: Option<ForkGuarded>,
        now: Instant,
    ) -> Result<Turn<W::Port>, Verdict> {
        let socket = match self.reach.connect(socket, now)? {
            Reached::Connected(socket) => socket,
            Reached::Later { socket, until } => {
                self.stage = Stage::Connect { socket, until };
                return Ok(Turn::On);
            }
        };
        let request = want.request(&self.attempt(rung)?);
        self.say(socket, &request, None, now)
    }

    fn answer<W: Want<Partial = P>>(
        &mut self,
        want: &mut W,
        rung: Rung,
        (socket, partial): (ForkGuarded, Option<P>),
        now: Instant,
        forget: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Result<Turn<W::Port>, Verdict> {
        let (datagram, fds) = match receive(&socket)? {
            Received::Nothing => {
                self.stage = Stage::Asked { socket, partial };
                return Ok(Turn::Wait(self.reach.give_up()));
            }
            // What was made of earlier answers is given back with `partial`.
            Received::End | Received::Datagram(Datagram::Refused { refusal: Refusal::Busy, .. }, _) => {
                return self.again(now);
            }
            Received::Datagram(datagram, fds) => (datagram, fds),
        };
        let attempt = self.attempt(rung)?;
        let acknowledge = || scm::send(&socket, &Datagram::Ack.encode(), &[]).is_ok();
        let parts = match want.hear(&attempt, partial, datagram, fds)? {
            Next::Send(datagram, partial) => return self.say(socket, &datagram, Some(partial), now),
            Next::Done(parts) => parts,
            Next::Acknowledge(parts) => {
                acknowledge();
                parts
            }
            Next::Confirm(parts) if acknowledge() => parts,
            Next::Confirm(_) => return self.again(now),
        };
        forget(socket.as_fd());
        want.finish(&attempt, parts, socket).map(Turn::Done)
    }

    fn say<T>(
        &mut self,
        socket: ForkGuarded,
        datagram: &Datagram,
        partial: Option<P>,
        now: Instant,
    ) -> Result<Turn<T>, Verdict> {
        match scm::send(&socket, &datagram.encode(), &[]) {
            Ok(()) => {
                self.stage = Stage::Asked { socket, partial };
                Ok(Turn::On)
            }
            Err(_) => self.again(now),
        }
    }

    fn again<T>(&mut self, now: Instant) -> Result<Turn<T>, Verdict> {
        self.stage = Stage::Connect { socket: None, until: self.reach.again(now)? };
        Ok(Turn::On)
    }

    fn attempt(&self, rung: Rung) -> Result<Attempt, Verdict> {
        Ok(Attempt { rung, record: Arc::clone(self.reach.record()), id: self.reach.instance()? })
    }
}

/// What lies in a socket.
enum Received {
    Nothing,
    End,
    Datagram(Datagram, Vec<OwnedFd>),
}

fn receive(socket: &ForkGuarded) -> Result<Received, Verdict> {
    let mut buffer = [0; LONGEST];
    let received = match scm::receive(socket, &mut buffer) {
        Ok(received) if received.length == 0 => return Ok(Received::End),
        Ok(received) => received,
        Err(ReceiveError::Os(Errno::EAGAIN)) => return Ok(Received::Nothing),
        Err(ReceiveError::Os(Errno::ECONNRESET | Errno::EPIPE)) => return Ok(Received::End),
        Err(ReceiveError::Os(errno)) => {
            return Err(Verdict::Fail(Error::os("recvmsg", errno, "cannot receive a peer's descriptors")));
        }
        Err(ReceiveError::Truncated) => {
            return Err(Verdict::corrupt("its answer is longer than any datagram of the protocol"));
        }
        Err(ReceiveError::DescriptorsLost) => {
            return Err(Verdict::corrupt(
                "descriptors were lost on the way: too many sent, or a security module took them",
            ));
        }
    };
    match Datagram::decode(&buffer[..received.length]) {
        Ok(datagram) => Ok(Received::Datagram(datagram, received.fds)),
        Err(Fault::Version(theirs)) => Err(Verdict::version(theirs)),
        Err(Fault::Garbage) => Err(Verdict::corrupt("its answer is no datagram of the protocol")),
    }
}
