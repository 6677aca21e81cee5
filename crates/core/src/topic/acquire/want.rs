//! What a subscriber wants of a publisher: the ring's memory with a slot in it, or the same bytes as a stream.
//!
//! Invariants: nothing that came is used before `Joined` has checked it, on every rung. A process, even root's, does
//! not take the doorbells that the processes of another user share. `handshake` calls this, on the bus thread; a
//! topic's follower asks for it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ringbell_ring::{Feed, Start};

use super::direct;
use super::joined::Joined;
use super::offer::NO_DURABLE_GUESTS;
use crate::bus::Directory;
use crate::handshake::wire::{Begin, Datagram, GUEST, Kept, Refusal, SHARED_MEMORY, STREAM};
use crate::handshake::{Acquired, Attempt, Next, Verdict, Want};
use crate::port::stream::StreamReader;
use crate::port::{Doorbell, Memory, SocketDoorbell};
use crate::record::{Record, Rung};
use crate::segment::{self, DurableName};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::{Error, Result};

/// How long an acquisition may take, with all its repetitions.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A slot in a publisher's topic, or a stream from it.
pub(crate) type Attachment = Acquired<TopicPort>;

/// The port by which a topic is read.
#[derive(Debug)]
pub(crate) enum TopicPort {
    Memory(Memory),
    Stream(Box<StreamReader>),
}

/// A ring that a subscriber wants to read.
pub(crate) struct Ring {
    /// Where to start. If the publisher streams, it joins the ring for its subscriber.
    pub(crate) start: Start,
    /// The name under which a slot is claimed.
    pub(crate) durable: Option<DurableName>,
}

/// What the handshake brings.
pub(crate) enum Parts {
    /// The segments with a slot, and the doorbell of the slot.
    Shared(Joined, EventFd),
    /// The same for a guest. Its connection is its doorbell in both directions.
    Guest(Joined),
    /// A stream: the bytes will come over the socket.
    Stream(Box<StreamGrant>),
}

/// A stream that was granted, and the position where it begins.
pub(crate) struct StreamGrant {
    slot: usize,
    capacity: usize,
    feed: Feed,
    as_guest: bool,
    kept: Option<Kept>,
}

impl Want for Ring {
    /// The segments, with a slot.
    type Partial = Joined;
    type Parts = Parts;
    type Port = TopicPort;

    const ROLE: &'static str = "publisher";
    const RUNGS: &'static [Rung] = &Rung::LADDER;

    fn check(&self, record: &Record) -> Result<()> {
        record.topic().map(drop)
    }

    fn direct(&mut self, directory: &Directory, record: &Record, forced: bool) -> Result<TopicPort, Verdict> {
        if !forced && is_other_user(record) {
            let reason =
                "the publisher is another user's: its own doorbells could be turned against this process";
            return Err(Verdict::Next { code: "OTHER_USER".into(), reason: reason.into() });
        }
        let (joined, doorbell) = direct::acquire(directory, record, self.durable.as_ref())?;
        shared(joined, doorbell)
    }

    fn request(&self, attempt: &Attempt) -> Datagram {
        let streamed = attempt.rung == Rung::Stream;
        // In shared memory, the client claims its name itself.
        let named = self.durable.as_ref().filter(|_| streamed);
        Datagram::Hello {
            id: attempt.id,
            capabilities: match streamed {
                true => STREAM,
                false => SHARED_MEMORY | if attempt.record.is_of_other_user() { GUEST } else { 0 },
            },
            pid: std::process::id(),
            start: u32::from(streamed && self.start == Start::Earliest),
            name: named.map_or(0, DurableName::hash),
        }
    }

    fn on_datagram(
        &mut self,
        attempt: &Attempt,
        partial: Option<Joined>,
        datagram: Datagram,
        fds: Vec<OwnedFd>,
    ) -> Result<Next<Joined, Parts>, Verdict> {
        match partial {
            Some(joined) => doorbell(attempt, joined, datagram, fds),
            None if attempt.rung == Rung::Stream => self.begin(attempt, datagram, &fds).map(Next::Done),
            None => {
                let joined = self.join(attempt, datagram, fds)?;
                let claimed = Datagram::Claimed { slot: joined.slot as u32 };
                Ok(Next::Send(claimed, joined))
            }
        }
    }

    fn finish(
        &mut self,
        _attempt: &Attempt,
        parts: Parts,
        socket: ForkGuarded,
    ) -> Result<TopicPort, Verdict> {
        match parts {
            Parts::Shared(joined, doorbell) => shared(joined, doorbell),
            Parts::Guest(Joined { segments, slot, .. }) => {
                let socket = Arc::new(SocketDoorbell::new(socket));
                let (room, doorbell) = (Doorbell::Socket(Arc::clone(&socket)), Doorbell::Socket(socket));
                Ok(TopicPort::Memory(Memory { segments, slot, room, doorbell }))
            }
            Parts::Stream(granted) => {
                let StreamGrant { slot, capacity, feed, as_guest, kept } = *granted;
                let stream = StreamReader::new(socket, slot, capacity, feed).of_guest(as_guest);
                Ok(TopicPort::Stream(Box::new(stream.under(kept.map(|kept| kept.found)))))
            }
        }
    }
}

impl Ring {
    /// The segments came. Checks them, maps them, and takes a slot.
    fn join(&self, attempt: &Attempt, datagram: Datagram, fds: Vec<OwnedFd>) -> Result<Joined, Verdict> {
        let topic = attempt.record.topic()?;
        let as_guest = match datagram {
            Datagram::Segments { id, capabilities }
                if id == attempt.id && capabilities & SHARED_MEMORY != 0 =>
            {
                capabilities & GUEST != 0
            }
            Datagram::Refused { refusal: Refusal::Full, .. } => {
                return Err(Verdict::Fail(Error::NoSlot { max: topic.max_guests.into() }));
            }
            other => return Err(Verdict::unexpected(other)),
        };
        if as_guest {
            let Ok([data, control]) = <[OwnedFd; 2]>::try_from(fds) else {
                return Err(Verdict::corrupt("a guest's segments came without their two descriptors"));
            };
            if self.durable.is_some() {
                return Err(Verdict::Fail(Error::Refused { reason: NO_DURABLE_GUESTS.into() }));
            }
            return Joined::as_guest(data, control, topic).map_err(Verdict::of);
        }
        let Ok([data, control, room]) = <[OwnedFd; 3]>::try_from(fds) else {
            return Err(Verdict::corrupt("its segments came without their three descriptors"));
        };
        Joined::new(data, control, room, topic, self.durable.as_ref()).map_err(Verdict::of)
    }

    /// A stream was granted. Checks where it begins.
    fn begin(&self, attempt: &Attempt, datagram: Datagram, fds: &[OwnedFd]) -> Result<Parts, Verdict> {
        let topic = attempt.record.topic()?;
        let no_slot = |max: u16| Err(Verdict::Fail(Error::NoSlot { max: max.into() }));
        let (begin, as_guest) = match datagram {
            Datagram::Stream { id, capabilities, begin }
                if id == attempt.id && capabilities & STREAM != 0 =>
            {
                (begin, capabilities & GUEST != 0)
            }
            Datagram::Refused { refusal: Refusal::NoSlot, .. } => return no_slot(topic.max_subscribers),
            Datagram::Refused { refusal: Refusal::Full, .. } => return no_slot(topic.max_guests.into()),
            Datagram::Refused { refusal: Refusal::NameTaken, text, .. } => {
                let taken = self.durable.as_ref().map(DurableName::taken);
                return Err(Verdict::Fail(taken.unwrap_or(Error::Refused { reason: text })));
            }
            other => return Err(Verdict::unexpected(other)),
        };
        if !fds.is_empty() {
            return Err(Verdict::corrupt("descriptors came with a stream"));
        }
        let Begin { slot, position, joined, next_sequence, kept } = begin;
        if kept.is_some() != self.durable.is_some() {
            return Err(Verdict::corrupt("a stream under another name than was asked for"));
        }
        let identity = segment::identity(topic)?;
        let feed = Feed::new(identity.capacity, identity.overflow, position, joined, next_sequence);
        let mut feed = feed.map_err(|fault| Verdict::corrupt(fault.to_string()))?;
        if let Some(Kept { wanted_from, redelivered_below, .. }) = kept {
            feed.keep(wanted_from, redelivered_below);
        }
        let (slot, capacity) = (slot as usize, identity.capacity);
        Ok(Parts::Stream(Box::new(StreamGrant { slot, capacity, feed, as_guest, kept })))
    }
}

/// The slot's doorbell came.
fn doorbell(
    attempt: &Attempt,
    joined: Joined,
    datagram: Datagram,
    fds: Vec<OwnedFd>,
) -> Result<Next<Joined, Parts>, Verdict> {
    if datagram != (Datagram::Doorbell { slot: joined.slot as u32 }) {
        return Err(Verdict::unexpected(datagram));
    }
    if joined.room.is_none() {
        return match fds.is_empty() {
            true => Ok(Next::Done(Parts::Guest(joined))),
            false => Err(Verdict::corrupt("a guest's doorbell came with a descriptor")),
        };
    }
    let Ok([doorbell]) = <[OwnedFd; 1]>::try_from(fds) else {
        return Err(Verdict::corrupt("its doorbell came without its descriptor"));
    };
    let announced = joined.doorbell(attempt.record.topic()?)?;
    let doorbell = EventFd::from_peer(doorbell, announced.id)?;
    joined.publisher_lives()?;
    Ok(Next::Acknowledge(Parts::Shared(joined, doorbell)))
}

/// Memory with the doorbells that the processes of one user share.
fn shared(joined: Joined, doorbell: EventFd) -> Result<TopicPort, Verdict> {
    let Joined { segments, slot, room } = joined;
    let room = Doorbell::Shared(Arc::new(room.ok_or(Verdict::Gone)?));
    Ok(TopicPort::Memory(Memory { segments, slot, room, doorbell: Doorbell::Shared(Arc::new(doorbell)) }))
}

/// Whether the publisher belongs to another user, and lets other users in as guests.
pub(crate) fn is_other_user(record: &Record) -> bool {
    record.is_of_other_user() && record.topic.as_ref().is_some_and(|topic| topic.max_guests > 0)
}
