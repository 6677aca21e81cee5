//! A publisher's guests: the subscribers of other users that it let in.
//!
//! Each has a control segment and a connection of its own; the connection is its doorbell, the publisher's, and its proof of life.
//! One that is streamed to never sees its segment: that stays memory of this process, where a pump reads in its stead (`stream`).
//! Invariants: the bit in `admitted` alone decides whether a guest counts, it is set before the guest can have its segment, and
//! cleared when its connection ends, when the publisher gave it up, or when it broke a rule; whatever a guest does
//! costs the publisher's thread at most a rationed `send` that never waits, and the bus thread a rationed `recv` or admission. Who was
//! put out has to wait, longer each time, before it is let in again. `admission` and `keeper` run on the bus
//! thread, as do `show_out` and `give_back`; `ring` and the rest on the publisher's.

mod admission;
mod keeper;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringbell_ring::{Admitted, ControlMemory, Identity};

use super::bell::Cord;
use super::budget::{Admissions, Budget, ring_interval};
use crate::error::Result;
use crate::reactor::Watched;
use crate::segment::GuestPlaces;
use crate::sys::clock::monotonic_ns;
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use keeper::Keeper;

pub(crate) use admission::GuestPlace;
pub(super) use admission::{Outside, Ticket};

/// Number of the nudge in the epoll; the others are places.
const NUDGE: u64 = u64::MAX;

/// All guests of one publisher.
pub(crate) struct Guests {
    places: GuestPlaces,
    admitted: Admitted,
    seats: Box<[Mutex<Option<Guest>>]>,
    /// Connections, level-triggered, and the nudge.
    epoll: Epoll,
    /// The publisher's thread has something for the bus thread.
    nudge: EventFd,
    /// The publisher's own room doorbell.
    room: Arc<EventFd>,
    /// Rung for the guests that are streamed to; the station's.
    pumps: Arc<EventFd>,
    /// The publisher is about to wait for room, or waits.
    waiting: AtomicBool,
    /// How often it has.
    waits: AtomicU64,
    /// The topic was closed: guests are dismissed, and not evicted.
    ended: AtomicBool,
    /// Guests that are to be rung later, because they have been rung too often.
    owed: AtomicU64,
    desk: Mutex<Desk>,
}

/// What the bus thread alone decides by.
#[derive(Default)]
struct Desk {
    /// Where to look for a free place first: one is used again as late as can be.
    next: usize,
    /// How many were admitted; each gets generations of its own.
    count: u64,
    penalties: HashMap<u32, Penalty>,
    /// How often each user came lately.
    admissions: Admissions,
    /// When the guests that are owed a ring get it.
    tick: Option<Instant>,
    promise: Option<Promise>,
    closed: bool,
}

struct Penalty {
    until: Instant,
    next: Duration,
}

/// A place that was made for a user, and is not free yet.
struct Promise {
    place: usize,
    uid: u32,
    until: Instant,
}

struct Guest {
    /// Of all that were ever admitted.
    number: u64,
    uid: u32,
    since: Instant,
    line: Line,
    /// Rings from it, and how many waits there had been when it came.
    heard: u64,
    waits_before: u64,
    /// For what it is rung, and for what it rings.
    rung: Budget,
    ringing: Budget,
    /// Its connection is not watched until then.
    rest: Option<Instant>,
}

/// How a guest is rung, and learns that it is to go.
enum Line {
    /// By its connection, which is there once the handshake is done.
    Cord(Option<Arc<Cord>>),
    /// By way of its pump, which gives the place back when it has told it; `leaving`: it is to.
    Pump { leaving: bool },
}

impl Line {
    fn cord(&self) -> Option<&Arc<Cord>> {
        if let Line::Cord(cord) = self { cord.as_ref() } else { None }
    }
}

impl Guests {
    /// Prepares places for so many.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn new(count: usize, identity: Identity, room: Arc<EventFd>) -> Result<Arc<Guests>> {
        let epoll = Epoll::new()?;
        let nudge = EventFd::new()?.guarded();
        epoll.watch(nudge.as_fd(), NUDGE)?;
        Ok(Arc::new(Guests {
            places: GuestPlaces::reserve(count, identity)?,
            admitted: Admitted::new(),
            seats: (0..count).map(|_| Mutex::new(None)).collect(),
            epoll,
            nudge,
            room,
            pumps: Arc::new(EventFd::new()?.guarded()),
            waiting: AtomicBool::new(false),
            waits: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            owed: AtomicU64::new(0),
            desk: Mutex::default(),
        }))
    }

    /// What the ring's producer needs. The views are valid for as long as `self`.
    pub(crate) fn for_producer(&self) -> (Box<[ControlMemory]>, Admitted) {
        (self.places.memories(), self.admitted.clone())
    }

    /// What serves the guests on the bus thread.
    pub(crate) fn keeper(self: &Arc<Guests>) -> Box<dyn Watched> {
        Box::new(Keeper { guests: Arc::clone(self) })
    }

    /// The user of the guest in a place, by the kernel's word.
    pub(crate) fn uid(&self, place: usize) -> Option<u32> {
        self.seat(place).as_ref().map(|guest| guest.uid)
    }

    // The publisher's thread.

    /// Rings the guests whose bits are set; those that were rung too often, a little later.
    pub(crate) fn ring(&self, bells: u64) {
        let (now, interval) = (monotonic_ns(), ring_interval(self.admitted.bits().count_ones()));
        let (mut owed, mut pumps) = (0, false);
        for place in bits(bells) {
            let mut seat = self.seat(place);
            let Some(guest) = seat.as_mut() else { continue };
            if matches!(guest.line, Line::Cord(None)) {
                continue;
            }
            match guest.rung.take(now, interval) {
                true => pumps |= Guests::ring_one(guest),
                false => owed |= 1 << place,
            }
        }
        if pumps {
            self.pumps.ring();
        }
        // SYNC: pairs with the swap in `Guests::pay`.
        if owed != 0 && self.owed.fetch_or(owed, Ordering::AcqRel) == 0 {
            self.nudge.ring();
        }
    }

    /// Rings a guest by its connection. True: it has a pump, and all pumps are rung together.
    fn ring_one(guest: &Guest) -> bool {
        if let Line::Cord(Some(cord)) = &guest.line {
            cord.ring();
        }
        matches!(guest.line, Line::Pump { .. })
    }

    /// The publisher is about to announce that it waits for room: whoever makes some, or goes, has it rung.
    pub(crate) fn wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        // Relaxed: the full fence of `Producer::arm`, which follows, orders it before the look at the slots, and pairs with
        // those of `Consumer::acknowledge` and `Admitted::dismiss`.
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// It does not wait after all.
    pub(crate) fn wait_no_more(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// The topic is closed, and the keeper about to go. Relaxed: what removes the keeper orders it.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The publisher has dismissed somebody: the bus thread is to show them out.
    pub(crate) fn dismissed(&self) {
        self.nudge.ring();
    }

    // The bus thread.

    /// A guest goes, and nothing of it stays; one that is streamed to goes with its pump, which hears of it by this. Its user,
    /// if it was there.
    fn show_out(&self, place: usize) -> Option<u32> {
        self.admitted.dismiss(place);
        let mut seat = self.seat(place);
        let guest = seat.as_mut()?;
        let (uid, cord) = match &mut guest.line {
            Line::Pump { leaving: true } => return None,
            Line::Pump { leaving } => {
                *leaving = true;
                (guest.uid, None)
            }
            Line::Cord(cord) => (guest.uid, cord.take()),
        };
        let streamed = matches!(guest.line, Line::Pump { .. });
        if !streamed {
            *seat = None;
        }
        drop(seat);
        // At the end of the topic it still reads what it has not, and then sees the end.
        if !self.ended.load(Ordering::Relaxed) {
            self.places.evict(place);
        }
        if streamed {
            self.pumps.ring();
        } else {
            self.places.empty(place);
        }
        if let Some(cord) = cord {
            self.epoll.forget(cord.as_fd());
            cord.hang_up();
        }
        self.ring_room();
        Some(uid)
    }

    /// A pump has done with its guest's place.
    fn give_back(&self, place: usize) {
        self.admitted.dismiss(place);
        *self.seat(place) = None;
        self.places.empty(place);
        self.ring_room();
    }

    fn ring_room(&self) {
        // Relaxed: see `wait`. Only a publisher that waits is rung, however often its guests ring.
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::Relaxed) {
            self.room.ring();
        }
    }

    fn seat(&self, place: usize) -> MutexGuard<'_, Option<Guest>> {
        lock(&self.seats[place])
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bits(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(place)
    })
}
