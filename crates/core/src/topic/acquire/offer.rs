//! What a publisher gives to a subscriber at the handshake: descriptors of its ring, or a stream.
//!
//! Invariants: a process of the publisher's own user, or of root, may have everything. Another user gets only a
//! guest's terms: a control segment of its own, and no doorbell that others share. A slot counts as claimed only
//! while its lock is held. When a handshake ends early, everything that was made for the client is given back. The
//! publisher makes it; `handshake` calls it, on the bus thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::Start;
use ringbell_ring::layout::SLOTS_PER_DOORBELL;

use crate::bus::Serve;
use crate::handshake::wire::{Datagram, GUEST, Refusal, SHARED_MEMORY, STREAM};
use crate::handshake::{self, Answer, PeerClass, Service, Then};
use crate::port::Guests;
use crate::port::guests::{AdmissionError, Reservation};
use crate::port::stream::{ProxyReader, StreamServer};
use crate::record::Granted;
use crate::segment::{OwnSegments, slots};
use crate::sys::duplicate;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket::Peer;
use crate::{Error, Result};

/// A guest gets no durable position, because the position would be lost with the guest's segment.
pub(crate) const NO_DURABLE_GUESTS: &str = "a publisher of another user keeps no durable positions";

/// The server of a publisher's ring. It answers on every socket that the record announces.
pub(crate) struct TopicServer {
    memory: Option<OfferedMemory>,
    streams: Option<StreamServer>,
    room: Arc<EventFd>,
    doorbells: Arc<[EventFd]>,
    slots: usize,
    /// Which other users may have the ring, and the guest slots for them.
    others: Option<(Granted, Arc<Guests>)>,
}

/// Both segments. Their descriptors stay open as long as the record is announced.
struct OfferedMemory {
    data: OwnedFd,
    control: OwnedFd,
}

/// What was sent to a subscriber, or will be sent next.
pub(crate) enum Offer {
    /// SEGMENTS. A guest has a reservation until it has connected.
    Segments { id: [u8; 16], reservation: Option<Reservation> },
    /// DOORBELL, for the slot that was claimed.
    Doorbell { slot: u32, reservation: Option<Reservation> },
    /// STREAM, with the proxy reader that reads the ring for the subscriber.
    Stream { id: [u8; 16], capabilities: u64, proxy: Box<ProxyReader> },
}

impl TopicServer {
    /// Offers the ring's memory, if it is shared, and streams, if there is a stream server.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors ran out.
    pub(crate) fn new(
        segments: Option<&OwnSegments>,
        slots: usize,
        room: Arc<EventFd>,
        doorbells: Arc<[EventFd]>,
        streams: Option<StreamServer>,
    ) -> Result<TopicServer> {
        let copied = |own: &OwnSegments| -> Result<OfferedMemory> {
            Ok(OfferedMemory { data: duplicate(&own.data_fd)?, control: duplicate(&own.control_fd)? })
        };
        let memory = segments.map(copied).transpose()?;
        Ok(TopicServer { memory, streams, room, doorbells, slots, others: None })
    }

    /// Lets in the users that `granted` permits, as guests.
    pub(crate) fn with_guests(mut self, granted: Granted, guests: Arc<Guests>) -> TopicServer {
        self.others = Some((granted, guests));
        self
    }

    /// What the bus calls with each listening socket of the record.
    pub(crate) fn serve(self) -> Serve {
        handshake::serve(self)
    }

    fn guests(&self) -> Option<&Arc<Guests>> {
        self.others.as_ref().map(|(_, guests)| guests)
    }

    fn capabilities(&self) -> u64 {
        (if self.memory.is_some() { SHARED_MEMORY } else { 0 })
            | if self.streams.is_some() { STREAM } else { 0 }
    }

    /// The offer in words, for a subscriber that wants something else.
    fn on_offer(&self) -> &'static str {
        match (self.memory.is_some(), self.streams.is_some()) {
            (true, false) => "this publisher only has shared memory to offer",
            (false, true) => "this publisher has no shared memory to offer, only a stream",
            _ => "this publisher has shared memory and a stream to offer",
        }
    }

    /// Whether the lock of this slot is held. The client that claims the slot says so; this checks it.
    fn is_claimed(&self, slot: u32) -> bool {
        let slot = slot as usize;
        let held = |memory: &OfferedMemory| slots::is_held(&memory.control, slot).unwrap_or(false);
        slot < self.slots && self.memory.as_ref().is_some_and(held)
    }

    /// Decides on which terms a subscriber shares the memory.
    fn share(
        &self,
        (uid, class): (u32, PeerClass),
        id: [u8; 16],
        as_guest: bool,
        now: Instant,
    ) -> Answer<Offer> {
        match (class, self.guests()) {
            // Root may have everything. But it may not want to share doorbells with a user that it does not trust.
            (PeerClass::Root | PeerClass::Other, Some(guests)) if as_guest => match guests.admit(uid, now) {
                Ok(reservation) => Answer::Offer(Offer::Segments { id, reservation: Some(reservation) }),
                Err(error) => refusal(error),
            },
            (PeerClass::Own | PeerClass::Root, _) => Answer::Offer(Offer::Segments { id, reservation: None }),
            _ => {
                let text = "to other users this publisher offers a guest's terms alone";
                Answer::Refuse(Refusal::NothingInCommon, text.into())
            }
        }
    }

    /// `who` is a process id and the hash of a durable name, or 0 for no name.
    fn stream(
        &self,
        (uid, class): (u32, PeerClass),
        id: [u8; 16],
        who: (u32, u64),
        start: u32,
        now: Instant,
    ) -> Answer<Offer> {
        let refuse = |refusal, text: &str| Answer::Refuse(refusal, text.to_owned());
        let start = match start {
            0 => Start::Latest,
            1 => Start::Earliest,
            _ => return refuse(Refusal::Breach, "a stream starts at the latest or at the earliest"),
        };
        let Some(streams) = &self.streams else { return refuse(Refusal::NothingInCommon, self.on_offer()) };
        let proxy = match (class, self.guests()) {
            (PeerClass::Other, _) if who.1 != 0 => return refuse(Refusal::Other, NO_DURABLE_GUESTS),
            (PeerClass::Other, None) => return refusal(AdmissionError::Full),
            (PeerClass::Other, Some(guests)) => match guests.admit_to_stream(uid, now) {
                // A failure here can go away with time.
                Ok(slot) => streams.admit_guest(slot, who.0, start).map_err(|_| AdmissionError::Busy),
                Err(error) => Err(error),
            }
            .map_err(refusal),
            _ => streams.admit(who, start).map_err(|error| match error {
                Error::NoSlot { .. } => refuse(Refusal::NoSlot, "all slots are taken"),
                Error::NameTaken { .. } => refuse(Refusal::NameTaken, "somebody holds this durable name"),
                error => refuse(Refusal::Busy, &error.to_string()),
            }),
        };
        let capabilities = STREAM | if class == PeerClass::Other { GUEST } else { 0 };
        match proxy {
            Ok(proxy) => Answer::Offer(Offer::Stream { id, capabilities, proxy: Box::new(proxy) }),
            Err(refused) => refused,
        }
    }
}

impl Service for TopicServer {
    type Offer = Offer;

    const ROLE: &'static str = "publisher";
    const TAKES_DESCRIPTORS: bool = false;

    fn granted(&self) -> Option<&Granted> {
        self.others.as_ref().map(|(granted, _)| granted)
    }

    fn open(&self, peer: &Peer, class: PeerClass, request: Datagram, now: Instant) -> Answer<Offer> {
        let Datagram::Hello { id, capabilities, pid, start, name } = request else { return Answer::HangUp };
        let client = (peer.uid, class);
        if capabilities & SHARED_MEMORY != 0 && self.memory.is_some() {
            self.share(client, id, capabilities & GUEST != 0, now)
        } else if capabilities & STREAM != 0 && self.streams.is_some() {
            self.stream(client, id, (pid, name), start, now)
        } else {
            Answer::Refuse(Refusal::NothingInCommon, self.on_offer().into())
        }
    }

    fn proceed(&self, offer: Offer, datagram: Datagram) -> Answer<Offer> {
        let (Offer::Segments { reservation, .. }, Datagram::Claimed { slot }) = (offer, datagram) else {
            return Answer::HangUp;
        };
        let claimed = if reservation.is_some() { slot == 0 } else { self.is_claimed(slot) };
        if claimed {
            Answer::Offer(Offer::Doorbell { slot, reservation })
        } else {
            Answer::Refuse(Refusal::Breach, "a slot was claimed without its lock".into())
        }
    }

    fn message<'a>(&'a self, offer: &'a Offer) -> (Datagram, Vec<BorrowedFd<'a>>, Then) {
        match offer {
            Offer::Segments { id, reservation: None } => {
                let memory =
                    self.memory.iter().flat_map(|memory| [memory.data.as_fd(), memory.control.as_fd()]);
                let fds = memory.chain([self.room.as_fd()]).collect();
                (Datagram::Segments { id: *id, capabilities: self.capabilities() }, fds, Then::Expect)
            }
            Offer::Segments { id, reservation: Some(reservation) } => {
                let data = self.memory.as_ref().map(|memory| memory.data.as_fd());
                let fds = data.into_iter().chain([reservation.control()]).collect();
                (Datagram::Segments { id: *id, capabilities: SHARED_MEMORY | GUEST }, fds, Then::Expect)
            }
            // A guest's connection is its doorbell.
            Offer::Doorbell { slot, reservation: Some(_) } => {
                (Datagram::Doorbell { slot: *slot }, Vec::new(), Then::Admit)
            }
            Offer::Doorbell { slot, reservation: None } => {
                let doorbell = self.doorbells.get(*slot as usize / SLOTS_PER_DOORBELL);
                let fds = doorbell.map(AsFd::as_fd).into_iter().collect();
                (Datagram::Doorbell { slot: *slot }, fds, Then::Close)
            }
            // From here on, the bytes in the socket belong to the stream.
            Offer::Stream { id, capabilities, proxy } => {
                let begin = proxy.begin();
                (Datagram::Stream { id: *id, capabilities: *capabilities, begin }, Vec::new(), Then::Admit)
            }
        }
    }

    fn admit(&self, socket: ForkGuarded, _peer: Peer, offer: Offer) {
        match (offer, &self.streams) {
            (Offer::Stream { proxy, .. }, Some(streams)) => {
                // If this fails, the subscriber sees the end of its connection and tries again.
                let _ = streams.adopt(socket, *proxy);
            }
            (Offer::Doorbell { reservation: Some(reservation), .. }, _) => {
                reservation.connect(socket);
            }
            _ => {}
        }
    }
}

fn refusal(error: AdmissionError) -> Answer<Offer> {
    let (refusal, text) = match error {
        AdmissionError::Full => (Refusal::Full, "all places for other users are taken".to_owned()),
        AdmissionError::Busy => (Refusal::Busy, "no place can be made at the moment".to_owned()),
        AdmissionError::Penalty(seconds) => (
            Refusal::NotPermitted,
            format!("a subscriber of this user was put out; it may come again in {seconds} s"),
        ),
    };
    Answer::Refuse(refusal, text)
}
