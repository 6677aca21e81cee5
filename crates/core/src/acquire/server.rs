//! What a publisher serves: its descriptors, to processes of its own user, over the socket of its record.
//!
//! Invariants: at most 64 handshakes at once, each with a deadline; more wait in the backlog. When this process
//! is out of descriptors, a reserved one still serves one client at a time, and the listener rests instead
//! of spinning. A client that breaks the protocol costs itself its connection and nobody else anything.
//! Lives on the bus thread behind one epoll of its own; never calls into JS, never blocks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::guest::{Fate, Guest};
use super::protocol::id_bytes;
use super::session::Session;
use crate::bus::Serve;
use crate::bus::thread::{Step, Thread, Watched};
use crate::segment::{OwnSegments, SlotLock};
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket;
use crate::{Error, Result};

/// Most handshakes at once. Each may have three descriptors in flight, and a user may have RLIMIT_NOFILE of them.
pub(super) const MOST: usize = 64;
/// How long the listener rests when no descriptor was to be had.
const REST: Duration = Duration::from_millis(100);
/// After this, a client that has said nothing gives way when all places are taken.
const SILENCE: Duration = Duration::from_millis(100);

const LISTENER: u64 = 0;

/// What is handed out. Kept open as long as the record is announced.
struct Offer {
    data: OwnedFd,
    control: OwnedFd,
    room: Arc<EventFd>,
    doorbells: Arc<[EventFd]>,
    slots: usize,
    uid: u32,
}

/// A publisher's offer, to be served on whatever socket its record has.
pub(crate) struct Server {
    offer: Offer,
}

impl Server {
    /// Copies the descriptors of a topic's segments, and shares its doorbells.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors ran out.
    pub(crate) fn new(
        segments: &OwnSegments,
        room: Arc<EventFd>,
        doorbells: Arc<[EventFd]>,
    ) -> Result<Server> {
        let offer = Offer {
            data: copy(segments.data_fd.as_fd())?,
            control: copy(segments.control_fd.as_fd())?,
            room,
            doorbells,
            slots: segments.control.slots(),
            uid: nix::unistd::geteuid().as_raw(),
        };
        Ok(Server { offer })
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

/// The offer as it is made on one socket.
pub(super) struct Terms {
    offer: Arc<Offer>,
    /// The instance that the socket is named after; none when it has another kind of name.
    id: Option<[u8; 16]>,
}

impl Terms {
    /// The publisher's own user, and root, who could take everything anyway.
    pub(super) fn permits(&self, uid: u32) -> bool {
        uid == self.offer.uid || uid == 0
    }

    pub(super) fn is_instance(&self, id: [u8; 16]) -> bool {
        self.id.is_none_or(|ours| ours == id)
    }

    pub(super) fn segments(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.offer.data.as_fd(), self.offer.control.as_fd(), self.offer.room.as_fd()]
    }

    pub(super) fn doorbell(&self, index: usize) -> Option<BorrowedFd<'_>> {
        self.offer.doorbells.get(index).map(AsFd::as_fd)
    }

    /// Whether a slot's lock is held by somebody, as whoever claims it says.
    pub(super) fn is_claimed(&self, slot: u32) -> bool {
        let slot = slot as usize;
        slot < self.offer.slots && SlotLock::is_held(&self.offer.control, slot).unwrap_or(false)
    }
}

/// The instance that a listening socket is named after; none when it has another kind of name.
pub(crate) fn instance_of(listener: BorrowedFd<'_>) -> Option<[u8; 16]> {
    seqpacket::bound_name(listener).and_then(|name| id_bytes(name.strip_suffix(".sock")?))
}

/// A listening socket with the handshakes that came of it.
pub(crate) struct Listening<G: Guest> {
    epoll: Epoll,
    listener: ForkGuarded,
    accepting: bool,
    /// Until when it rests.
    rest: Option<Instant>,
    /// Given up to serve one more client when descriptors have run out, and taken back afterwards.
    reserve: Option<ForkGuarded>,
    guests: HashMap<u64, G>,
    next: u64,
    terms: G::Terms,
}

impl<G: Guest> Listening<G> {
    pub(crate) fn new(listener: OwnedFd, terms: G::Terms) -> Result<Listening<G>> {
        let epoll = Epoll::new()?;
        epoll.watch(listener.as_fd(), LISTENER)?;
        Ok(Listening {
            epoll,
            reserve: Some(ForkGuarded::new(copy(listener.as_fd())?)),
            listener: ForkGuarded::new(listener),
            accepting: true,
            rest: None,
            guests: HashMap::new(),
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
        for _ in 0..MOST {
            if self.guests.len() >= MOST {
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
            let number = self.next;
            self.next += 1;
            if self.epoll.watch(socket.as_fd(), number).is_ok() {
                self.guests.insert(number, G::new(socket, &self.terms, now));
                // The request usually is there already.
                self.advance(number, now);
            }
        }
    }

    fn advance(&mut self, number: u64, now: Instant) {
        let Some(guest) = self.guests.get_mut(&number) else { return };
        match guest.advance(&self.terms, now) {
            Fate::Open => {}
            // Closing its socket takes it out of the epoll.
            Fate::Finished => drop(self.guests.remove(&number)),
            Fate::Admitted => {
                if let Some(guest) = self.guests.remove(&number) {
                    self.epoll.forget(guest.socket());
                    guest.admit(&self.terms);
                }
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<u64> {
        self.guests.iter().filter(|(_, guest)| guest.until() <= now).map(|(number, _)| *number).collect()
    }

    /// When all places are taken, whoever has been silent for longest goes; an honest client tries again.
    fn make_way(&mut self, now: Instant) {
        if self.guests.len() < MOST {
            return;
        }
        let silent = self.guests.iter().filter_map(|(number, guest)| Some((guest.silent_since()?, *number)));
        let overdue: Vec<u64> =
            silent.filter(|(since, _)| *since + SILENCE <= now).map(|(_, number)| number).collect();
        for number in overdue {
            self.guests.remove(&number);
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
        let open = self.rest.is_none() && self.guests.len() < MOST;
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
        let full = self.guests.len() >= MOST;
        let guests = self.guests.values().map(|guest| {
            let way = guest.silent_since().filter(|_| full).map(|since| since + SILENCE);
            way.map_or(guest.until(), |way| way.min(guest.until()))
        });
        guests.chain(self.rest).min()
    }
}

impl<G: Guest> AsFd for Listening<G> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<G: Guest> Watched for Listening<G> {
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
