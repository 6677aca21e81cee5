//! The client's side of a channel's handshake: a state machine on the bus thread that never blocks.
//!
//! Invariants: nothing that came is used before it was checked; what cannot be had yet is tried again until the time has run
//! out (`acquire::reach`); the endpoint hears exactly once what became of it, unless it gave it up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::admission::{Arrival, Reception, nonce_words};
use super::ends::{Ends, Sizes, Sockets, Streamed};
use super::link::{Meeting, PeerBell, Wires};
use crate::acquire::client::{Came, corrupt, receive, unexpected};
use crate::acquire::protocol::{Connect, Connected, Datagram, LONGEST, Refusal, SHARED_MEMORY, STREAM};
use crate::acquire::reach::{Reach, Reached};
use crate::acquire::verdict::Verdict;
use crate::acquire::{Rung, StepDown};
use crate::bus::thread::{Step, Thread, Watched};
use crate::bus::{Directory, Handle, Record};
use crate::error::Error;
use crate::segment::{PairFds, PairShape, attach_pair, check_capacity};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::{scm, seqpacket};

/// What a client wants of a connection.
pub(super) struct Wish {
    pub(super) number: u32,
    /// 0: what the server has.
    pub(super) client_ring: u64,
    pub(super) server_ring: u64,
    pub(super) forced: Option<Rung>,
    pub(super) timeout: Duration,
    /// Of the bus thread, which forwards what is streamed.
    pub(super) handle: Handle,
}

/// A connection in the making.
pub(super) struct Dial {
    reach: Reach,
    wish: Wish,
    reception: Arc<Reception>,
    /// What is still to be tried, the next one last.
    rungs: Vec<Rung>,
    step_downs: Vec<StepDown>,
    stage: Stage,
    told: bool,
}

enum Stage {
    /// Not connected; at `until` it is tried (again), with the same socket if there is one.
    Connect { socket: Option<ForkGuarded>, until: Instant },
    /// CONNECT is sent.
    Answer { socket: ForkGuarded },
    /// It has ended.
    Over,
}

impl Dial {
    pub(super) fn new(
        directory: Arc<Directory>,
        record: Arc<Record>,
        wish: Wish,
        reception: Arc<Reception>,
    ) -> Dial {
        let now = Instant::now();
        let reach = Reach::new(directory, record, now, wish.timeout);
        let mut step_downs = Vec::new();
        let rungs = match wish.forced {
            None => vec![Rung::Stream, Rung::Handshake],
            Some(Rung::Direct) => {
                let reason = "a channel's rings are made at the handshake";
                step_downs.push(StepDown::new(Rung::Direct, "NOT_OFFERED", reason));
                vec![Rung::Handshake]
            }
            Some(rung) => vec![rung],
        };
        let stage = Stage::Connect { socket: None, until: now };
        Dial { reach, wish, reception, rungs, step_downs, stage, told: false }
    }

    /// Climbs down until a rung works.
    fn climb(&mut self, now: Instant) -> Result<Option<Instant>, Verdict> {
        loop {
            let Some(rung) = self.rungs.last().copied() else { return Err(Verdict::Fail(self.exhausted())) };
            let answer = if self.reach.record().offers.contains(&rung) {
                self.advance(rung, now)
            } else {
                Err(Verdict::Next {
                    code: "NOT_OFFERED".into(),
                    reason: "the server does not offer it".into(),
                })
            };
            match answer {
                Err(Verdict::Next { code, reason }) => {
                    self.step_downs.push(StepDown::new(rung, code, reason));
                    self.rungs.pop();
                    self.stage = Stage::Connect { socket: None, until: now };
                }
                answer => return answer,
            }
        }
    }

    fn exhausted(&self) -> Error {
        let reasons = self.step_downs.iter();
        let reasons = reasons.map(|StepDown { rung, code, reason }| format!("{rung}: {reason} ({code})"));
        Error::Acquire { service: self.reach.record().service.clone(), reasons: reasons.collect() }
    }

    /// Does what can be done without waiting. `None`: the connection is entered.
    fn advance(&mut self, rung: Rung, now: Instant) -> Result<Option<Instant>, Verdict> {
        let (ours, theirs) = (ringbell_ring::layout::VERSION, self.reach.record().protocol);
        if ours != theirs {
            return Err(Verdict::Fail(Error::ProtocolVersion { ours, theirs }));
        }
        loop {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Connect { socket, until } if until <= now => self.connect(rung, socket, now)?,
                Stage::Connect { socket, until } => {
                    let wake = until.min(self.reach.give_up());
                    self.stage = Stage::Connect { socket, until };
                    return self.wait(wake, now);
                }
                Stage::Answer { socket } => match self.answer(rung, &socket)? {
                    Answer::Nothing => {
                        self.stage = Stage::Answer { socket };
                        return self.wait(self.reach.give_up(), now);
                    }
                    Answer::Again => Stage::Connect { socket: None, until: self.reach.again(now)? },
                    Answer::Connected(connected, fds) => {
                        self.share(socket, connected, fds)?;
                        return Ok(None);
                    }
                    Answer::Streamed(sizes, fds) => {
                        self.stream(socket, &sizes, fds)?;
                        return Ok(None);
                    }
                },
                Stage::Over => return Ok(None),
            };
        }
    }

    fn wait(&self, until: Instant, now: Instant) -> Result<Option<Instant>, Verdict> {
        if now >= self.reach.give_up() { Err(self.reach.late()) } else { Ok(Some(until)) }
    }

    fn connect(&mut self, rung: Rung, socket: Option<ForkGuarded>, now: Instant) -> Result<Stage, Verdict> {
        let socket = match self.reach.connect(socket, now)? {
            Reached::Connected(socket) => socket,
            Reached::Later { socket, until } => return Ok(Stage::Connect { socket, until }),
        };
        let connect = Connect {
            id: self.reach.instance()?,
            capabilities: if rung == Rung::Stream { STREAM } else { SHARED_MEMORY },
            pid: std::process::id(),
            client_ring: self.wish.client_ring,
            server_ring: self.wish.server_ring,
        };
        match scm::send(&socket, &Datagram::Connect(connect).encode(), &[]) {
            Ok(()) => Ok(Stage::Answer { socket }),
            Err(_) => Ok(Stage::Connect { socket: None, until: self.reach.again(now)? }),
        }
    }

    fn answer(&self, rung: Rung, socket: &ForkGuarded) -> Result<Answer, Verdict> {
        let mut buffer = [0; LONGEST];
        match receive(socket, &mut buffer)? {
            Came::Nothing => Ok(Answer::Nothing),
            Came::End | Came::Datagram(_, Datagram::Refused { refusal: Refusal::Busy, .. }) => {
                Ok(Answer::Again)
            }
            Came::Datagram(received, Datagram::Connected(connected)) if rung != Rung::Stream => {
                Ok(Answer::Connected(connected, received.fds))
            }
            Came::Datagram(received, Datagram::Streamed { client_ring, server_ring })
                if rung == Rung::Stream =>
            {
                let sizes = Sizes { outgoing: capacity(client_ring)?, incoming: capacity(server_ring)? };
                Ok(Answer::Streamed(sizes, received.fds))
            }
            Came::Datagram(_, other) => Err(unexpected(other)),
        }
    }

    /// The connection is in shared memory.
    fn share(&mut self, socket: ForkGuarded, connected: Connected, fds: Vec<OwnedFd>) -> Result<(), Verdict> {
        let Ok([client_data, server_data, control, server_bell, client_bell]) = <[OwnedFd; 5]>::try_from(fds)
        else {
            return Err(corrupt("its rings came without their five descriptors".into()));
        };
        let shape = PairShape {
            client_ring: capacity(connected.client_ring)?,
            server_ring: capacity(connected.server_ring)?,
            nonce: nonce_words(connected.nonce),
        };
        let fds = PairFds { client_data, server_data, control };
        let ends = attach_pair(shape, &fds).map_err(Verdict::of)?.into();
        let peer_bell = PeerBell::Shared(EventFd::from_peer(server_bell, connected.server_bell)?);
        let own_bell = Arc::new(EventFd::from_peer(client_bell, connected.client_bell)?.guarded());
        acknowledge(&socket)?;
        self.enter(Rung::Handshake, ends, Wires { socket, own_bell, peer_bell })
    }

    /// The connection is over streams.
    fn stream(&mut self, socket: ForkGuarded, sizes: &Sizes, fds: Vec<OwnedFd>) -> Result<(), Verdict> {
        let Ok([incoming, outgoing]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(corrupt("its streams came without their two descriptors".into()));
        };
        let sockets = Sockets { outgoing, incoming };
        let server = self.reach.record().pid;
        let Streamed { ends, flow, room, tap } =
            Ends::streamed(sizes, sockets, server, self.wish.handle.clone())?;
        acknowledge(&socket)?;
        flow.begin()?;
        let wires = Wires { socket, own_bell: room, peer_bell: PeerBell::Pump(tap) };
        self.enter(Rung::Stream, ends, wires)
    }

    fn enter(&mut self, rung: Rung, ends: Ends, wires: Wires) -> Result<(), Verdict> {
        let peer = seqpacket::peer(&wires.socket)
            .map_err(|errno| Error::os("getsockopt", errno, "cannot see who is at the other end"))?;
        let step_downs = std::mem::take(&mut self.step_downs);
        let meeting = Meeting { peer, rung, step_downs, record: Some(self.reach.record().clone()) };
        self.reception.enter_own();
        self.reception.open(self.wish.number, meeting, ends, wires).inspect_err(|_| self.reception.left())?;
        Ok(())
    }

    fn tell(&mut self, error: Error) {
        if !std::mem::replace(&mut self.told, true) {
            self.reception.inbox().put(Arrival::Failed(self.wish.number, error));
        }
    }
}

enum Answer {
    Nothing,
    /// Not now.
    Again,
    Connected(Connected, Vec<OwnedFd>),
    Streamed(Sizes, Vec<OwnedFd>),
}

fn capacity(bytes: u64) -> Result<usize, Verdict> {
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| check_capacity(*bytes).is_ok())
        .ok_or_else(|| corrupt("it offers a ring of a size that cannot be".into()))
}

fn acknowledge(socket: &ForkGuarded) -> Result<(), Verdict> {
    scm::send(socket, &Datagram::Ack.encode(), &[]).map_err(|_| Verdict::Gone)
}

impl Watched for Dial {
    /// A socket that is not connected is not given: epoll calls it hung up, for ever.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Answer { socket } => Some(socket.as_fd()),
            Stage::Connect { .. } | Stage::Over => None,
        }
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        match self.climb(Instant::now()) {
            Ok(Some(until)) => return Step::Again(Some(until)),
            Ok(None) => {}
            Err(verdict) => {
                let error = self.error(verdict);
                self.tell(error);
            }
        }
        Step::Finished
    }

    fn failed(&mut self, error: &Error) {
        self.tell(error.clone());
    }
}

impl Dial {
    fn error(&self, verdict: Verdict) -> Error {
        match verdict {
            Verdict::Fail(error) => error,
            Verdict::Gone | Verdict::Stale => {
                Error::PeerGone { service: self.reach.record().service.clone() }
            }
            Verdict::Next { .. } => self.exhausted(),
        }
    }
}
