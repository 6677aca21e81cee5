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
use super::mailbox::Mailbox;
use crate::acquire::client::{Came, corrupt, receive, unexpected};
use crate::acquire::protocol::{
    Connect, Connected, Datagram, GUEST, LONGEST, Refusal, SHARED_MEMORY, STREAM,
};
use crate::acquire::reach::{Reach, Reached};
use crate::acquire::verdict::Verdict;
use crate::acquire::{Bell, Cord};
use crate::bus::Directory;
use crate::error::Error;
use crate::reactor::{Handle, Step, Thread, Watched};
use crate::record::{Fallback, Record, Rung};
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
    pub(super) as_guest: bool,
    /// Of the bus thread, which forwards what is streamed.
    pub(super) handle: Handle,
}

/// A connection in the making.
pub(super) struct Dial {
    reach: Reach,
    wish: Wish,
    /// Asks for a guest's terms, and insists on them.
    as_guest: bool,
    reception: Arc<Reception>,
    /// What is still to be tried, the next one last.
    rungs: Vec<Rung>,
    fallbacks: Vec<Fallback>,
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
        // The doorbells that a user's processes share are not taken from another one, by root neither.
        let as_guest = wish.as_guest || record.uid != nix::unistd::geteuid().as_raw();
        let reach = Reach::new(directory, record, now, wish.timeout);
        let mut fallbacks = Vec::new();
        let rungs = match wish.forced {
            None => vec![Rung::Stream, Rung::Handshake],
            Some(Rung::Direct) => {
                let reason = "a channel's rings are made at the handshake";
                fallbacks.push(Fallback::new(Rung::Direct, "NOT_OFFERED", reason));
                vec![Rung::Handshake]
            }
            Some(rung) => vec![rung],
        };
        let stage = Stage::Connect { socket: None, until: now };
        Dial { reach, wish, as_guest, reception, rungs, fallbacks, stage, told: false }
    }

    /// Climbs down until a rung works.
    fn climb(&mut self, now: Instant) -> Result<Option<Instant>, Verdict> {
        loop {
            let Some(rung) = self.rungs.last().copied() else { return Err(Verdict::Fail(self.exhausted())) };
            let answer = if self.reach.record().offers.contains(&rung) {
                self.advance(rung, now)
            } else {
                let reason = "the server does not offer it".into();
                Err(Verdict::Next { code: "NOT_OFFERED".into(), reason })
            };
            match answer {
                Err(Verdict::Next { code, reason }) => {
                    self.fallbacks.push(Fallback::new(rung, code, reason));
                    self.rungs.pop();
                    self.stage = Stage::Connect { socket: None, until: now };
                }
                answer => return answer,
            }
        }
    }

    fn exhausted(&self) -> Error {
        Fallback::exhausted(&self.reach.record().service, &self.fallbacks)
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
                    Answer::Connected(connected, fds) => match self.share(socket, &connected, fds)? {
                        true => return Ok(None),
                        false => Stage::Connect { socket: None, until: self.reach.again(now)? },
                    },
                    Answer::Streamed(sizes, fds) => match self.stream(socket, &sizes, fds)? {
                        true => return Ok(None),
                        false => Stage::Connect { socket: None, until: self.reach.again(now)? },
                    },
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
        let way = if rung == Rung::Stream { STREAM } else { SHARED_MEMORY };
        let connect = Connect {
            id: self.reach.instance()?,
            capabilities: way | if self.as_guest { GUEST } else { 0 },
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
                Ok(Answer::Streamed(self.sizes(client_ring, server_ring)?, received.fds))
            }
            Came::Datagram(_, other) => Err(unexpected(other)),
        }
    }

    /// This process pays for what it maps or makes: not more than was announced, or asked for.
    fn sizes(&self, client_ring: u64, server_ring: u64) -> Result<Sizes, Verdict> {
        let announced = self.reach.record().channel.as_ref().map_or(0, |channel| channel.capacity);
        let capacity = |bytes: u64, wanted: u64| {
            usize::try_from(bytes)
                .ok()
                .filter(|bytes| check_capacity(*bytes).is_ok())
                .filter(|_| bytes <= announced && (wanted == 0 || wanted > announced || bytes <= wanted))
                .ok_or_else(|| corrupt("it offers a ring of a size that cannot be".into()))
        };
        Ok(Sizes {
            outgoing: capacity(client_ring, self.wish.client_ring)?,
            incoming: capacity(server_ring, self.wish.server_ring)?,
        })
    }

    /// The connection is in shared memory. False: it took too long, and has to be begun anew.
    fn share(
        &mut self,
        socket: ForkGuarded,
        connected: &Connected,
        mut fds: Vec<OwnedFd>,
    ) -> Result<bool, Verdict> {
        if (connected.capabilities & GUEST != 0) != self.as_guest {
            return Err(corrupt("it answers on other terms than those that it was asked for".into()));
        }
        let bells = fds.split_off(fds.len().min(3));
        let Ok([client_data, server_data, control]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(corrupt("its rings came without their three descriptors".into()));
        };
        let Sizes { outgoing, incoming } = self.sizes(connected.client_ring, connected.server_ring)?;
        let nonce = nonce_words(connected.nonce);
        let shape = PairShape { client_ring: outgoing, server_ring: incoming, nonce };
        let fds = PairFds { client_data, server_data, control };
        let ends = attach_pair(shape, &fds).map_err(Verdict::of)?.into();
        let (own_bell, peer_bell) = self.bells(connected, bells)?;
        if !acknowledge(&socket) {
            return Ok(false);
        }
        self.enter(Rung::Handshake, socket, ends, own_bell, PeerBell::Peer(peer_bell)).map(|()| true)
    }

    /// The same over streams.
    fn stream(&mut self, socket: ForkGuarded, sizes: &Sizes, fds: Vec<OwnedFd>) -> Result<bool, Verdict> {
        let Ok([incoming, outgoing]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(corrupt("its streams came without their two descriptors".into()));
        };
        if !seqpacket::is_one(&incoming) || !seqpacket::is_one(&outgoing) {
            return Err(corrupt("what it gave as streams are no sockets of the kind".into()));
        }
        let sockets = Sockets { outgoing, incoming };
        let record = self.reach.record();
        let server = (record.pid, record.uid != nix::unistd::geteuid().as_raw());
        let Streamed { ends, flow, room, tap } =
            Ends::streamed(sizes, sockets, server, self.wish.handle.clone())?;
        if !acknowledge(&socket) {
            return Ok(false);
        }
        self.enter(Rung::Stream, socket, ends, Bell::Shared(room), PeerBell::Pump(tap))?;
        // Where it fails the connection ends, because its seat is given back. In this order: a flow whose ring nobody closes
        // never ends.
        let _ = flow.begin();
        Ok(true)
    }

    fn enter(
        &mut self,
        rung: Rung,
        socket: ForkGuarded,
        ends: Ends,
        own_bell: Bell,
        peer_bell: PeerBell,
    ) -> Result<(), Verdict> {
        let peer = seqpacket::peer(&socket)
            .map_err(|errno| Error::os("getsockopt", errno, "cannot see who is at the other end"))?;
        let fallbacks = std::mem::take(&mut self.fallbacks);
        let record = Some(self.reach.record().clone());
        let meeting = Meeting { peer, rung, fallbacks, record, _place: None };
        let wires = Wires { mailbox: Mailbox::new(socket, !self.as_guest), own_bell, peer_bell };
        self.reception.open(self.wish.number, meeting, ends, wires)?;
        Ok(())
    }

    /// The doorbells that came: this side's own, and the server's.
    fn bells(&self, connected: &Connected, fds: Vec<OwnedFd>) -> Result<(Bell, Bell), Verdict> {
        if self.as_guest {
            let Ok([end]) = <[OwnedFd; 1]>::try_from(fds) else {
                return Err(corrupt("its rings came without the doorbell of both sides".into()));
            };
            let cord = Arc::new(Cord::from_peer(end)?);
            return Ok((Bell::Cord(Arc::clone(&cord)), Bell::Cord(cord)));
        }
        let Ok([server_bell, client_bell]) = <[OwnedFd; 2]>::try_from(fds) else {
            return Err(corrupt("its rings came without their two doorbells".into()));
        };
        let own_bell = EventFd::from_peer(client_bell, connected.client_bell)?.guarded();
        let peer_bell = EventFd::from_peer(server_bell, connected.server_bell)?;
        Ok((Bell::Shared(Arc::new(own_bell)), Bell::Shared(Arc::new(peer_bell))))
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

/// False: a server with others at its door has not waited for it.
fn acknowledge(socket: &ForkGuarded) -> bool {
    scm::send(socket, &Datagram::Ack.encode(), &[]).is_ok()
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
