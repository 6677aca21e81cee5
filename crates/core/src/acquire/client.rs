//! The subscriber's side of the handshake: a state machine that never blocks.
//!
//! Invariants: nothing that came is used before `Joined` has checked it; a connection that ends before the
//! segments came is tried again until the deadline, because a full backlog (EAGAIN), a publisher that is short of
//! descriptors and one that has shed us all look alike, unless the record's lock says that it is dead. Every
//! wait has a time. Driven by `ladder`, on the bus thread: `advance` when `fd` is ready or the time has come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::{Feed, Start};

use super::bell::{Bell, Cord};
use super::joined::{Joined, topic_of};
use super::protocol::{Begin, Datagram, Fault, GUEST, Kept, LONGEST, Refusal, SHARED_MEMORY, STREAM};
use super::reach::{Reach, Reached};
use super::stream::Link;
use super::verdict::Verdict;
use crate::Error;
use crate::bus::directory::Directory;
use crate::record::Record;
use crate::segment::{self, DurableName};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError, Received};

/// How long a whole handshake may take, its repetitions included.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A guest's position would be lost with its segment.
pub(crate) const NO_DURABLE_GUESTS: &str = "a publisher of another user keeps no durable positions";

/// A handshake in flight.
pub(super) struct Client {
    reach: Reach,
    durable: Option<DurableName>,
    wanted: Wanted,
    stage: Stage,
}

/// What the publisher is asked for.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Its descriptors.
    Memory,
    /// The ring's bytes, from here on.
    Stream(Start),
}

enum Stage {
    /// Not connected; at `until` it is tried (again), with the same socket if there is one.
    Connect { socket: Option<ForkGuarded>, until: Instant },
    /// HELLO is sent.
    Segments { socket: ForkGuarded },
    /// HELLO is sent, that asks for a stream.
    Stream { socket: ForkGuarded },
    /// CLAIMED is sent.
    Doorbell { socket: ForkGuarded, joined: Joined },
    /// It has ended.
    Over,
}

/// What `advance` leads to.
pub(super) enum Progress {
    /// Wait for `fd`, at most until this time.
    Pending(Instant),
    /// Everything is there.
    Acquired(Joined, Bell),
    /// The bytes will come.
    Streams(Box<Link>),
    /// It ended in another way.
    Left(Verdict),
}

/// One step of the machine.
enum Turn {
    To(Stage),
    /// Nothing has come yet.
    Wait(Stage),
    Acquired(Joined, Bell),
    Streams(Box<Link>),
}

impl Client {
    pub(super) fn new(
        directory: Arc<Directory>,
        record: Arc<Record>,
        wanted: Wanted,
        durable: Option<DurableName>,
        now: Instant,
    ) -> Client {
        let stage = Stage::Connect { socket: None, until: now };
        Client { reach: Reach::new(directory, record, now, PATIENCE), durable, wanted, stage }
    }

    /// What to wait for. A socket that is not connected is not given: epoll calls it hung up, for ever.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.stage {
            Stage::Segments { socket } | Stage::Stream { socket } | Stage::Doorbell { socket, .. } => {
                Some(socket.as_fd())
            }
            Stage::Connect { .. } | Stage::Over => None,
        }
    }

    /// Does what can be done without waiting.
    pub(super) fn advance(&mut self, now: Instant) -> Progress {
        loop {
            let turn = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Connect { socket, until } if until <= now => self.connect(socket, now),
                Stage::Segments { socket } => self.segments(socket, now),
                Stage::Stream { socket } => self.stream(socket, now),
                Stage::Doorbell { socket, joined } => self.doorbell(socket, joined),
                stage @ (Stage::Connect { .. } | Stage::Over) => Ok(Turn::Wait(stage)),
            };
            match turn {
                Ok(Turn::To(stage)) => self.stage = stage,
                Ok(Turn::Wait(_)) if now >= self.reach.give_up() => return Progress::Left(self.reach.late()),
                Ok(Turn::Wait(stage)) => {
                    let until = match &stage {
                        Stage::Connect { until, .. } => self.reach.give_up().min(*until),
                        _ => self.reach.give_up(),
                    };
                    self.stage = stage;
                    return Progress::Pending(until);
                }
                Ok(Turn::Acquired(joined, doorbell)) => return Progress::Acquired(joined, doorbell),
                Ok(Turn::Streams(link)) => return Progress::Streams(link),
                Err(verdict) => return Progress::Left(verdict),
            }
        }
    }

    fn connect(&mut self, socket: Option<ForkGuarded>, now: Instant) -> Result<Turn, Verdict> {
        let socket = match self.reach.connect(socket, now)? {
            Reached::Connected(socket) => socket,
            Reached::Later { socket, until } => return Ok(Turn::Wait(Stage::Connect { socket, until })),
        };
        // The doorbells that a user's processes share are not taken from another one, by root neither.
        let own = self.reach.record().uid == nix::unistd::geteuid().as_raw();
        let (capabilities, start) = match self.wanted {
            Wanted::Memory => (SHARED_MEMORY | if own { 0 } else { GUEST }, 0),
            Wanted::Stream(start) => (STREAM, u32::from(start == Start::Earliest)),
        };
        let (id, pid) = (self.reach.instance()?, std::process::id());
        // In shared memory the client claims its name itself.
        let named = self.durable.as_ref().filter(|_| capabilities == STREAM);
        let name = named.map_or(0, DurableName::hash);
        let hello = Datagram::Hello { id, capabilities, pid, start, name };
        match scm::send(&socket, &hello.encode(), &[]) {
            Ok(()) if capabilities == STREAM => Ok(Turn::To(Stage::Stream { socket })),
            Ok(()) => Ok(Turn::To(Stage::Segments { socket })),
            Err(_) => self.again(now),
        }
    }

    fn stream(&mut self, socket: ForkGuarded, now: Instant) -> Result<Turn, Verdict> {
        let mut buffer = [0; LONGEST];
        let (received, datagram) = match receive(&socket, &mut buffer)? {
            Came::Nothing => return Ok(Turn::Wait(Stage::Stream { socket })),
            Came::End => return self.again(now),
            Came::Datagram(_, Datagram::Refused { refusal: Refusal::Busy, .. }) => {
                return self.again(now);
            }
            Came::Datagram(received, datagram) => (received, datagram),
        };
        let topic = topic_of(self.reach.record())?;
        let (begin, as_guest) = match datagram {
            Datagram::Stream { id, capabilities, begin }
                if id == self.reach.instance()? && capabilities & STREAM != 0 =>
            {
                (begin, capabilities & GUEST != 0)
            }
            Datagram::Refused { refusal: Refusal::NoSlot, .. } => {
                return Err(Verdict::Fail(Error::NoSlot { max: topic.max_subscribers.into() }));
            }
            Datagram::Refused { refusal: Refusal::Full, .. } => {
                return Err(Verdict::Fail(Error::NoSlot { max: topic.max_guests.into() }));
            }
            Datagram::Refused { refusal: Refusal::NameTaken, text, .. } => {
                let taken = self.durable.as_ref().map(DurableName::taken);
                return Err(Verdict::Fail(taken.unwrap_or(Error::Refused { reason: text })));
            }
            other => return Err(unexpected(other)),
        };
        if !received.fds.is_empty() {
            return Err(corrupt("descriptors came with a stream".into()));
        }
        let Begin { slot, position, joined, next_sequence, kept } = begin;
        if kept.is_some() != self.durable.is_some() {
            return Err(corrupt("a stream under another name than was asked for".into()));
        }
        let identity = segment::identity(topic)?;
        let feed = Feed::new(identity.capacity, identity.overflow, position, joined, next_sequence);
        let mut feed = feed.map_err(|fault| corrupt(format!("{fault:?}")))?;
        if let Some(Kept { wanted_from, redelivered_below, .. }) = kept {
            feed.keep(wanted_from, redelivered_below);
        }
        let link = Link::new(socket, slot as usize, identity.capacity, feed).of_guest(as_guest);
        Ok(Turn::Streams(Box::new(link.under(kept.map(|kept| kept.found)))))
    }

    fn segments(&mut self, socket: ForkGuarded, now: Instant) -> Result<Turn, Verdict> {
        let mut buffer = [0; LONGEST];
        let (received, datagram) = match receive(&socket, &mut buffer)? {
            Came::Nothing => return Ok(Turn::Wait(Stage::Segments { socket })),
            Came::End => return self.again(now),
            Came::Datagram(_, Datagram::Refused { refusal: Refusal::Busy, .. }) => {
                return self.again(now);
            }
            Came::Datagram(received, datagram) => (received, datagram),
        };
        let wanted = self.reach.instance()?;
        let topic = topic_of(self.reach.record())?;
        let as_guest = match datagram {
            Datagram::Segments { id, capabilities } if id == wanted && capabilities & SHARED_MEMORY != 0 => {
                capabilities & GUEST != 0
            }
            Datagram::Refused { refusal: Refusal::Full, .. } => {
                return Err(Verdict::Fail(Error::NoSlot { max: topic.max_guests.into() }));
            }
            other => return Err(unexpected(other)),
        };
        let joined = if as_guest {
            let Ok([data, control]) = <[OwnedFd; 2]>::try_from(received.fds) else {
                return Err(corrupt("a guest's segments came without their two descriptors".into()));
            };
            if self.durable.is_some() {
                return Err(Verdict::Fail(Error::Refused { reason: NO_DURABLE_GUESTS.into() }));
            }
            Joined::as_guest(data, control, topic).map_err(Verdict::of)?
        } else {
            let Ok([data, control, room]) = <[OwnedFd; 3]>::try_from(received.fds) else {
                return Err(corrupt("its segments came without their three descriptors".into()));
            };
            Joined::new(data, control, room, topic, self.durable.as_ref()).map_err(Verdict::of)?
        };
        let claimed = Datagram::Claimed { slot: joined.slot as u32 };
        match scm::send(&socket, &claimed.encode(), &[]) {
            Ok(()) => Ok(Turn::To(Stage::Doorbell { socket, joined })),
            Err(_) => self.again(now),
        }
    }

    fn doorbell(&mut self, socket: ForkGuarded, joined: Joined) -> Result<Turn, Verdict> {
        let mut buffer = [0; LONGEST];
        let (received, datagram) = match receive(&socket, &mut buffer)? {
            Came::Nothing => return Ok(Turn::Wait(Stage::Doorbell { socket, joined })),
            // The publisher's deadline, or its death; the slot is given back with `joined`.
            Came::End => return self.again(Instant::now()),
            Came::Datagram(received, datagram) => (received, datagram),
        };
        if datagram != (Datagram::Doorbell { slot: joined.slot as u32 }) {
            return Err(unexpected(datagram));
        }
        if joined.room.is_none() {
            return match received.fds.is_empty() {
                true => Ok(Turn::Acquired(joined, Bell::Cord(Arc::new(Cord::new(socket))))),
                false => Err(corrupt("a guest's doorbell came with a descriptor".into())),
            };
        }
        let Ok([doorbell]) = <[OwnedFd; 1]>::try_from(received.fds) else {
            return Err(corrupt("its doorbell came without its descriptor".into()));
        };
        let announced = joined.doorbell(topic_of(self.reach.record())?)?;
        let doorbell = EventFd::from_peer(doorbell, announced.id)?;
        joined.publisher_lives()?;
        // If it does not arrive, the end of the connection says the same.
        let _ = scm::send(&socket, &Datagram::Ack.encode(), &[]);
        Ok(Turn::Acquired(joined, Bell::Shared(Arc::new(doorbell))))
    }

    fn again(&mut self, now: Instant) -> Result<Turn, Verdict> {
        let until = self.reach.again(now)?;
        Ok(Turn::Wait(Stage::Connect { socket: None, until }))
    }
}

/// What lies in a socket.
pub(crate) enum Came {
    Nothing,
    End,
    Datagram(Received, Datagram),
}

pub(crate) fn receive(socket: &ForkGuarded, buffer: &mut [u8; LONGEST]) -> Result<Came, Verdict> {
    let received = match scm::receive(socket, buffer) {
        Ok(received) if received.length == 0 => return Ok(Came::End),
        Ok(received) => received,
        Err(ReceiveError::Os(Errno::EAGAIN)) => return Ok(Came::Nothing),
        Err(ReceiveError::Os(Errno::ECONNRESET | Errno::EPIPE)) => return Ok(Came::End),
        Err(ReceiveError::Os(errno)) => {
            return Err(Verdict::Fail(Error::os(
                "recvmsg",
                errno,
                "cannot receive a publisher's descriptors",
            )));
        }
        Err(ReceiveError::Truncated) => {
            return Err(corrupt("its answer is longer than any datagram of the protocol".into()));
        }
        Err(ReceiveError::DescriptorsLost) => {
            return Err(corrupt(
                "descriptors were lost on the way: too many sent, or a security module took them".into(),
            ));
        }
    };
    match Datagram::decode(&buffer[..received.length]) {
        Ok(datagram) => Ok(Came::Datagram(received, datagram)),
        Err(Fault::Version(theirs)) => Err(version(theirs)),
        Err(Fault::Garbage) => Err(corrupt("its answer is no datagram of the protocol".into())),
    }
}

/// What an answer means that is not the one wanted.
pub(crate) fn unexpected(datagram: Datagram) -> Verdict {
    let Datagram::Refused { refusal, version: theirs, text } = datagram else {
        return corrupt("its answer is out of turn, or of another instance".into());
    };
    match refusal {
        Refusal::Version => version(theirs),
        Refusal::NotPermitted => Verdict::Next { code: "ERR_RINGBELL_NO_PERMISSION".into(), reason: text },
        Refusal::NothingInCommon => Verdict::Next { code: "ERR_RINGBELL_REFUSED".into(), reason: text },
        Refusal::Busy
        | Refusal::WrongInstance
        | Refusal::Breach
        | Refusal::Full
        | Refusal::NoSlot
        | Refusal::NameTaken
        | Refusal::Other => Verdict::Fail(Error::Refused { reason: text }),
    }
}

fn version(theirs: u32) -> Verdict {
    Verdict::Fail(Error::ProtocolVersion { ours: ringbell_ring::layout::VERSION, theirs })
}

pub(crate) fn corrupt(what: String) -> Verdict {
    Verdict::Fail(Error::CorruptPeer { what })
}
