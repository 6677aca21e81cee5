//! What a publisher serves: its descriptors, or a stream, to processes of its own user and to whom it let in, over the socket
//! of its record.
//!
//! Invariants: at most 64 handshakes at once, each with a deadline; more wait in the backlog. When this process
//! is out of descriptors, a reserved one still serves one client at a time, and the listener rests instead
//! of spinning. A client that breaks the protocol costs itself its connection and nobody else anything; another user can
//! take but a share of the handshakes.
//! Lives on the bus thread behind one epoll of its own; never calls into JS, never blocks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::Start;

use super::guests::{Guests, Outside};
use super::protocol::{SHARED_MEMORY, STREAM, id_bytes};
use super::session::Session;
use super::stream::{Seat, Station};
use super::visitor::{Fate, Visitor};
use crate::bus::Serve;
use crate::reactor::{Step, Thread, Watched};
use crate::record::Granted;
use crate::segment::{OwnSegments, SlotLock};
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket::{self, Peer};
use crate::{Error, Result};

/// Most handshakes at once. Each may have three descriptors in flight, or five for a channel, and a user may have RLIMIT_NOFILE of them.
pub(super) const MOST: usize = 64;
/// Most handshakes at once of one user other than one's own and root.
const SHARE: usize = 16;
/// How long the listener rests when no descriptor was to be had, or a tenth of it when too many came that had no share left.
const REST: Duration = Duration::from_millis(100);

const LISTENER: u64 = 0;

/// What is handed out. Kept open as long as the record is announced.
struct Offer {
    memory: Option<Memory>,
    station: Option<Station>,
    room: Arc<EventFd>,
    doorbells: Arc<[EventFd]>,
    slots: usize,
    uid: u32,
    /// Who else may have it, and where they sit.
    others: Option<(Granted, Arc<Guests>)>,
}

/// Both segments.
struct Memory {
    data: OwnedFd,
    control: OwnedFd,
}

/// A publisher's offer, to be served on whatever socket its record has.
pub(crate) struct Server {
    offer: Offer,
}

impl Server {
    /// Offers the topic's memory, if peers can have it, and to stream it from the station, if there is one.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors ran out.
    pub(crate) fn new(
        segments: Option<&OwnSegments>,
        slots: usize,
        room: Arc<EventFd>,
        doorbells: Arc<[EventFd]>,
        station: Option<Station>,
    ) -> Result<Server> {
        let copied = |own: &OwnSegments| {
            Ok(Memory { data: copy(own.data_fd.as_fd())?, control: copy(own.control_fd.as_fd())? })
        };
        let memory = segments.map(copied).transpose()?;
        let uid = nix::unistd::geteuid().as_raw();
        Ok(Server { offer: Offer { memory, station, room, doorbells, slots, uid, others: None } })
    }

    /// Lets in whom `granted` permits, as guests.
    pub(crate) fn with_guests(mut self, granted: Granted, guests: Arc<Guests>) -> Server {
        self.offer.others = Some((granted, guests));
        self
    }

    /// What the bus calls with each listening socket of the record.
    pub(crate) fn serve(self) -> Serve {
        let offer = Arc::new(self.offer);
        Box::new(move |listener| {
            let terms = Terms { offer: Arc::clone(&offer), id: instance_of(listener.as_fd()) };
            Ok(Box::new(Listening::<Session>::new(listener, terms)?) as Box<dyn Watched>)
        })
    }
}

/// What a peer is to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its own user.
    Own,
    /// Could take everything anyway.
    Root,
    /// Another user that is let in.
    Guest,
    /// Another user.
    Stranger,
}

/// The offer as it is made on one socket.
pub(super) struct Terms {
    offer: Arc<Offer>,
    /// The instance that the socket is named after; none when it has another kind of name.
    id: Option<[u8; 16]>,
}

impl Terms {
    /// What a peer is to this publisher, by the kernel's word.
    pub(super) fn standing(&self, peer: &Peer) -> Standing {
        match &self.offer.others {
            _ if peer.uid == self.offer.uid => Standing::Own,
            _ if peer.uid == 0 => Standing::Root,
            Some((granted, _)) if granted.permits(peer) => Standing::Guest,
            _ => Standing::Stranger,
        }
    }

    /// Where guests sit, if any are let in.
    pub(super) fn guests(&self) -> Option<&Arc<Guests>> {
        self.offer.others.as_ref().map(|(_, guests)| guests)
    }

    /// What a guest maps, if there is memory to share.
    pub(super) fn data(&self) -> Option<BorrowedFd<'_>> {
        self.offer.memory.as_ref().map(|memory| memory.data.as_fd())
    }

    pub(super) fn is_instance(&self, id: [u8; 16]) -> bool {
        self.id.is_none_or(|ours| ours == id)
    }

    pub(super) fn has_memory(&self) -> bool {
        self.offer.memory.is_some()
    }

    pub(super) fn streams(&self) -> bool {
        self.offer.station.is_some()
    }

    pub(super) fn capabilities(&self) -> u64 {
        (if self.has_memory() { SHARED_MEMORY } else { 0 }) | if self.streams() { STREAM } else { 0 }
    }

    /// In words, for who wants something else.
    pub(super) fn on_offer(&self) -> &'static str {
        match (self.has_memory(), self.streams()) {
            (true, false) => "this publisher only has shared memory to offer",
            (false, true) => "this publisher has no shared memory to offer, only a stream",
            _ => "this publisher has shared memory and a stream to offer",
        }
    }

    /// A slot for a subscriber that is streamed to: a process id, and the hash of a durable name, 0 for none.
    pub(super) fn admit(&self, who: (u32, u64), start: Start) -> Result<Seat> {
        match &self.offer.station {
            Some(station) => station.admit(who, start),
            None => Err(Error::Refused { reason: self.on_offer().into() }),
        }
    }

    /// A place for a subscriber of another user that is streamed to.
    pub(super) fn admit_guest(
        &self,
        (uid, pid): (u32, u32),
        start: Start,
        now: Instant,
    ) -> std::result::Result<Seat, Outside> {
        let (Some(guests), Some(station)) = (self.guests(), &self.offer.station) else {
            return Err(Outside::Full);
        };
        let place = guests.admit_to_stream(uid, now)?;
        // What fails here may work the next time.
        station.admit_guest(place, pid, start).map_err(|_| Outside::Busy)
    }

    /// Streams to the subscriber that has the seat, from now on.
    pub(super) fn stream(&self, socket: ForkGuarded, seat: Seat) {
        if let Some(station) = &self.offer.station {
            // Where it fails the client sees its connection end, and comes again.
            let _ = station.adopt(socket, seat);
        }
    }

    pub(super) fn segments(&self) -> Vec<BorrowedFd<'_>> {
        let memory =
            self.offer.memory.iter().flat_map(|memory| [memory.data.as_fd(), memory.control.as_fd()]);
        memory.chain([self.offer.room.as_fd()]).collect()
    }

    pub(super) fn doorbell(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.offer.doorbells.get(index).map(AsFd::as_fd)
    }

    /// Whether a slot's lock is held by somebody, as whoever claims it says.
    pub(super) fn is_claimed(&self, slot: u32) -> bool {
        let slot = slot as usize;
        let held = |memory: &Memory| SlotLock::is_held(&memory.control, slot).unwrap_or(false);
        slot < self.offer.slots && self.offer.memory.as_ref().is_some_and(held)
    }
}

/// The instance that a listening socket is named after; none when it has another kind of name.
pub(crate) fn instance_of(listener: BorrowedFd<'_>) -> Option<[u8; 16]> {
    seqpacket::bound_name(listener).and_then(|name| id_bytes(name.strip_suffix(".sock")?))
}

/// A listening socket with the handshakes that came of it.
pub(crate) struct Listening<V: Visitor> {
    epoll: Epoll,
    listener: ForkGuarded,
    accepting: bool,
    /// Until when it rests.
    rest: Option<Instant>,
    /// Given up to serve one more client when descriptors have run out, and taken back afterwards.
    reserve: Option<ForkGuarded>,
    visitors: HashMap<u64, V>,
    next: u64,
    terms: V::Terms,
}

impl<V: Visitor> Listening<V> {
    pub(crate) fn new(listener: OwnedFd, terms: V::Terms) -> Result<Listening<V>> {
        let epoll = Epoll::new()?;
        epoll.watch(listener.as_fd(), LISTENER)?;
        Ok(Listening {
            epoll,
            reserve: Some(ForkGuarded::new(copy(listener.as_fd())?)),
            listener: ForkGuarded::new(listener),
            accepting: true,
            rest: None,
            visitors: HashMap::new(),
            next: LISTENER + 1,
            terms,
        })
    }

    /// Does what can be done without waiting. The time at which it wants to be called again at the latest.
    pub(super) fn turn(&mut self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // Cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
        let _ = self.epoll.wait(Some(now), &mut ready);
        for number in ready {
            if number == LISTENER { self.accept(now) } else { self.advance(number, now) }
        }
        for number in self.due(now) {
            self.advance(number, now);
        }
        self.make_way(now);
        self.mind_the_door(now);
        self.deadline()
    }

    fn accept(&mut self, now: Instant) {
        // Bounded by its own count too: whoever comes and goes faster than this turns is left for the next turn.
        let mut turned_away = 0;
        for _ in 0..MOST {
            if self.visitors.len() >= MOST {
                return;
            }
            if turned_away >= MOST / 2 {
                self.rest = Some(now + REST / 10);
                return;
            }
            let socket = match seqpacket::accept(self.listener.as_fd()) {
                Ok(socket) => socket,
                Err(Errno::EAGAIN) => return,
                Err(Errno::ECONNABORTED) => continue,
                // Room for one: the reserve.
                Err(Errno::EMFILE | Errno::ENFILE) if self.reserve.take().is_some() => continue,
                // EPERM among them: that is a filter's answer, and it stays the same for as long as it is asked.
                Err(_) => {
                    self.rest = Some(now + REST);
                    return;
                }
            };
            let Ok(peer) = seqpacket::peer(&socket) else { continue };
            if self.has_its_share(peer.uid) {
                // Closed unheard: an honest one tries again.
                turned_away += 1;
                continue;
            }
            let number = self.next;
            self.next += 1;
            if self.epoll.watch(socket.as_fd(), number).is_ok() {
                self.visitors.insert(number, V::new(socket, peer, &self.terms, now));
                // The request usually is there already.
                self.advance(number, now);
            }
        }
    }

    /// Whether a user has as many handshakes under way as it may.
    fn has_its_share(&self, uid: u32) -> bool {
        let free = uid == 0 || uid == nix::unistd::geteuid().as_raw();
        !free && self.visitors.values().filter(|visitor| visitor.uid() == uid).count() >= SHARE
    }

    fn advance(&mut self, number: u64, now: Instant) {
        let Some(visitor) = self.visitors.get_mut(&number) else { return };
        match visitor.advance(&self.terms, now) {
            Fate::Open => {}
            // Closing its socket takes it out of the epoll.
            Fate::Finished => drop(self.visitors.remove(&number)),
            Fate::Admitted => {
                if let Some(visitor) = self.visitors.remove(&number) {
                    self.epoll.forget(visitor.socket());
                    visitor.admit(&self.terms);
                }
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<u64> {
        self.visitors
            .iter()
            .filter(|(_, visitor)| visitor.until() <= now)
            .map(|(number, _)| *number)
            .collect()
    }

    /// When all places are taken, whoever has kept the others waiting for too long goes; an honest client tries again.
    fn make_way(&mut self, now: Instant) {
        if self.visitors.len() < MOST {
            return;
        }
        let keeps = |visitor: &V| visitor.gives_way().is_none_or(|when| when > now);
        let late = self.visitors.iter().filter(|(_, visitor)| !keeps(visitor));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            // Its word may have come just now.
            self.advance(number, now);
            if self.visitors.get(&number).is_some_and(|visitor| !keeps(visitor)) {
                self.visitors.remove(&number);
            }
        }
    }

    /// Opens the listener when there is a place and a descriptor, and closes it when not: a listener that is
    /// ready and not accepted from would wake the thread for ever.
    fn mind_the_door(&mut self, now: Instant) {
        if self.rest.is_some_and(|until| until <= now) {
            self.rest = None;
        }
        if self.reserve.is_none() {
            self.reserve = copy(self.listener.as_fd()).ok().map(ForkGuarded::new);
        }
        let open = self.rest.is_none() && self.visitors.len() < MOST;
        if open && !self.accepting {
            self.accepting = self.epoll.watch(self.listener.as_fd(), LISTENER).is_ok();
            if !self.accepting {
                self.rest = Some(now + REST);
            }
        } else if !open && self.accepting {
            self.epoll.forget(self.listener.as_fd());
            self.accepting = false;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let full = self.visitors.len() >= MOST;
        let visitors = self.visitors.values().map(|visitor| {
            let way = visitor.gives_way().filter(|_| full);
            way.map_or(visitor.until(), |way| way.min(visitor.until()))
        });
        visitors.chain(self.rest).min()
    }
}

impl<V: Visitor> AsFd for Listening<V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<V: Visitor> Watched for Listening<V> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(self.turn(Instant::now()))
    }

    /// Without it nobody could attach by the handshake any more: until it can be waited for, it is looked at.
    fn retry(&self) -> Option<Duration> {
        Some(REST)
    }
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE));
        Error::os("fcntl", errno, "cannot copy a descriptor that is to be handed out")
    })
}
