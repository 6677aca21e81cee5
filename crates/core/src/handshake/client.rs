//! The client's side of one handshake: it connects, asks, and takes the answers. It is a state machine that never
//! blocks.
//!
//! Invariants: nothing that came is used before a [`Want`] has checked it. A connection that ends before everything
//! came is begun again, until the time has run out: a full backlog, a peer that is short of descriptors, and a peer
//! that has dropped this client cannot be told apart (see `reach`). Only the [`Want`] knows what is asked for.
//! `ladder` drives it on the bus thread: it calls `advance` when `fd` is ready or the time has come.

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

/// What a client wants of a peer: the memory of a ring, of a pair of rings, or the same as a stream. An implementor
/// says what is asked, checks what comes, and makes a port of it.
pub(crate) trait Want: Send + 'static {
    /// What has come so far, between two answers.
    type Partial: Send;
    /// Everything that has to come.
    type Parts;
    /// The port that is made of the parts and of the connection.
    type Port: Send + 'static;

    /// What the peer is called in an error: `publisher`, `server`.
    const ROLE: &'static str;
    /// The rungs on which the port can be acquired, the best one first.
    const RUNGS: &'static [Rung];

    /// Checks that the record announces what is wanted.
    fn check(&self, record: &Record) -> Result<()>;

    /// Acquires it without the peer's help.
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

    /// Takes an answer, unless it is "try again". `partial`: the result of the answer before it.
    fn on_datagram(
        &mut self,
        attempt: &Attempt,
        partial: Option<Self::Partial>,
        datagram: Datagram,
        fds: Vec<OwnedFd>,
    ) -> Result<Next<Self::Partial, Self::Parts>, Verdict>;

    /// Makes the port when everything has come. The port may keep the connection, or close it.
    fn finish(
        &mut self,
        attempt: &Attempt,
        parts: Self::Parts,
        socket: ForkGuarded,
    ) -> Result<Self::Port, Verdict>;
}

/// One try: on which rung, and with which record.
pub(crate) struct Attempt {
    pub(crate) rung: Rung,
    pub(crate) record: Arc<Record>,
    /// The id of the instance, as datagrams carry it.
    pub(crate) id: [u8; 16],
}

/// What follows an answer.
pub(crate) enum Next<P, T> {
    /// Send this, and wait for another answer.
    Send(Datagram, P),
    /// Everything has come, and the peer is told nothing.
    Done(T),
    /// Everything has come. The peer is told so. If that fails, the end of the connection tells it the same.
    Acknowledge(T),
    /// Everything has come, but it counts only after the peer was told. If the peer did not wait for that, it is
    /// asked again.
    Confirm(T),
}

/// A handshake in flight.
pub(super) struct ClientHandshake<P> {
    reach: Reach,
    stage: Stage<P>,
}

enum Stage<P> {
    /// Not connected. At `until` it tries (again), with the same socket if there is one.
    Connect { socket: Option<ForkGuarded>, until: Instant },
    /// A datagram was sent, and an answer is expected.
    Asked { socket: ForkGuarded, partial: Option<P> },
    /// The handshake has ended.
    Over,
}

/// How far a handshake is.
pub(super) enum HandshakeProgress<T> {
    /// Wait for `fd`, but not longer than this time.
    Pending(Instant),
    /// Everything has come.
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

    /// Begins again, with a newer record if there is one. The deadline stays the same.
    pub(super) fn restart(&mut self, record: Option<Arc<Record>>, now: Instant) {
        self.reach.follow(record);
        self.stage = Stage::Connect { socket: None, until: now };
    }

    /// The descriptor to wait for. A socket that is not connected is not returned: epoll would report a hang-up
    /// without end.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Asked { socket, .. } => Some(socket.as_fd()),
            Stage::Connect { .. } | Stage::Over => None,
        }
    }

    /// Does what can be done without waiting. A connection that lives on is passed to `forget` before it is handed
    /// over.
    pub(super) fn advance<W: Want<Partial = P>>(
        &mut self,
        want: &mut W,
        rung: Rung,
        now: Instant,
        forget: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Result<HandshakeProgress<W::Port>, Verdict> {
        loop {
            match self.poll(want, rung, now, forget)? {
                None => {}
                Some(HandshakeProgress::Pending(_)) if now >= self.reach.give_up() => {
                    return Err(self.reach.late());
                }
                Some(HandshakeProgress::Pending(until)) => {
                    return Ok(HandshakeProgress::Pending(until.min(self.reach.give_up())));
                }
                Some(done) => return Ok(done),
            }
        }
    }

    /// One step of the machine. `None`: go on at once.
    fn poll<W: Want<Partial = P>>(
        &mut self,
        want: &mut W,
        rung: Rung,
        now: Instant,
        forget: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> Result<Option<HandshakeProgress<W::Port>>, Verdict> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connect { socket, until } if until <= now => self.connect(want, rung, socket, now),
            Stage::Connect { socket, until } => {
                self.stage = Stage::Connect { socket, until };
                Ok(Some(HandshakeProgress::Pending(until)))
            }
            Stage::Asked { socket, partial } => self.answer(want, rung, (socket, partial), now, forget),
            Stage::Over => Ok(Some(HandshakeProgress::Pending(self.reach.give_up()))),
        }
    }

    fn connect<W: Want<Partial = P>>(
        &mut self,
        want: &W,
        rung: Rung,
        socket: Option<ForkGuarded>,
        now: Instant,
    ) -> Result<Option<HandshakeProgress<W::Port>>, Verdict> {
        let socket = match self.reach.connect(socket, now)? {
            Reached::Connected(socket) => socket,
            Reached::Later { socket, until } => {
                self.stage = Stage::Connect { socket, until };
                return Ok(None);
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
    ) -> Result<Option<HandshakeProgress<W::Port>>, Verdict> {
        let (datagram, fds) = match receive(&socket)? {
            Reply::Nothing => {
                self.stage = Stage::Asked { socket, partial };
                return Ok(Some(HandshakeProgress::Pending(self.reach.give_up())));
            }
            // Dropping `partial` gives back what was made of earlier answers.
            Reply::End | Reply::Datagram(Datagram::Refused { refusal: Refusal::Busy, .. }, _) => {
                return self.again(now);
            }
            Reply::Datagram(datagram, fds) => (datagram, fds),
        };
        let attempt = self.attempt(rung)?;
        let acknowledge = || scm::send(&socket, &Datagram::Ack.encode(), &[]).is_ok();
        let parts = match want.on_datagram(&attempt, partial, datagram, fds)? {
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
        want.finish(&attempt, parts, socket).map(HandshakeProgress::Done).map(Some)
    }

    fn say<T>(
        &mut self,
        socket: ForkGuarded,
        datagram: &Datagram,
        partial: Option<P>,
        now: Instant,
    ) -> Result<Option<HandshakeProgress<T>>, Verdict> {
        match scm::send(&socket, &datagram.encode(), &[]) {
            Ok(()) => {
                self.stage = Stage::Asked { socket, partial };
                Ok(None)
            }
            Err(_) => self.again(now),
        }
    }

    fn again<T>(&mut self, now: Instant) -> Result<Option<HandshakeProgress<T>>, Verdict> {
        self.stage = Stage::Connect { socket: None, until: self.reach.again(now)? };
        Ok(None)
    }

    fn attempt(&self, rung: Rung) -> Result<Attempt, Verdict> {
        Ok(Attempt { rung, record: Arc::clone(self.reach.record()), id: self.reach.instance()? })
    }
}

/// What was found in a socket.
enum Reply {
    Nothing,
    End,
    Datagram(Datagram, Vec<OwnedFd>),
}

fn receive(socket: &ForkGuarded) -> Result<Reply, Verdict> {
    let mut buffer = [0; LONGEST];
    let received = match scm::receive(socket, &mut buffer) {
        Ok(received) if received.length == 0 => return Ok(Reply::End),
        Ok(received) => received,
        Err(ReceiveError::Os(Errno::EAGAIN)) => return Ok(Reply::Nothing),
        Err(ReceiveError::Os(Errno::ECONNRESET | Errno::EPIPE)) => return Ok(Reply::End),
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
        Ok(datagram) => Ok(Reply::Datagram(datagram, received.fds)),
        Err(Fault::Version(theirs)) => Err(Verdict::version(theirs)),
        Err(Fault::Garbage) => Err(Verdict::corrupt("its answer is not a datagram of the protocol")),
    }
}
