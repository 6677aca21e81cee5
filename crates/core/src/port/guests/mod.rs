//! A publisher's guests: the subscribers of other users that it let in.
//!
//! Each guest has a control segment and a connection of its own. The connection is the guest's doorbell, the
//! publisher's doorbell, and the proof of life. A guest that is streamed to never sees its segment: it stays memory
//! of this process, and a forwarder reads on the guest's behalf. Only the bit in `admitted` decides whether a guest
//! counts. The bit is set before the guest can have its segment. It is cleared when the connection ends, when the
//! publisher gives the guest up, or when the guest breaks a rule. A guest never costs the publisher's thread more
//! than a rationed `send`, nor the bus thread more than a rationed `recv` or admission. Neither thread ever waits
//! for it. A banned user has to wait, longer each time. `admission`, `keeper`, `evict` and `give_back` run on the
//! bus thread, everything else on the publisher's.

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

use super::budget::{Admissions, Budget, ring_interval};
use super::doorbell::SocketDoorbell;
use crate::error::Result;
use crate::reactor::Watched;
use crate::segment::GuestSegments;
use crate::sys::clock::monotonic_ns;
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use keeper::Keeper;

pub(crate) use admission::GuestSlot;
pub(crate) use admission::{AdmissionError, Reservation};

/// Number of the nudge in the epoll. All other numbers are those of slots.
const NUDGE: u64 = u64::MAX;

/// All guests of one publisher.
pub(crate) struct Guests {
    segments: GuestSegments,
    admitted: Admitted,
    guests: Box<[Mutex<Option<Guest>>]>,
    /// Holds the connections (level-triggered) and the nudge.
    epoll: Epoll,
    /// Rung when the publisher's thread has something for the bus thread.
    nudge: EventFd,
    /// The publisher's own room doorbell.
    room: Arc<EventFd>,
    /// Rung for the guests that are streamed to. It wakes the stream server.
    forwarders: Arc<EventFd>,
    /// The publisher waits for room, or is about to.
    waiting: AtomicBool,
    /// The publisher wants to hear of guests that come and leave, or is about to.
    listening: AtomicBool,
    /// How often the publisher has asked its guests to ring it.
    waits: AtomicU64,
    /// How the last guest of each slot left.
    partings: Box<[Mutex<Option<Parted>>]>,
    /// The topic was closed: guests are then dismissed, not evicted.
    ended: AtomicBool,
    /// Guests that are rung later, because they have been rung too often.
    owed: AtomicU64,
    admission: Mutex<AdmissionState>,
}

/// What only the bus thread uses to decide.
#[derive(Default)]
struct AdmissionState {
    /// Where the search for a free slot begins. A slot is used again as late as possible.
    next: usize,
    /// How many guests were admitted. Each one gets generations of its own.
    count: u64,
    penalties: HashMap<u32, Penalty>,
    /// How often each user came lately.
    admissions: Admissions,
    /// When the guests that are owed a ring get it.
    tick: Option<Instant>,
    held: Option<HeldSlot>,
    closed: bool,
}

/// The number of a guest, and how it left.
type Parted = (u64, Parting);

/// How a guest left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It gave its slot back, and closed its connection.
    Closed,
    /// Its connection ended before it gave its slot back.
    Died,
    /// Its stream ended.
    Unknown,
    /// It was banned.
    Banned,
    /// A user with fewer guests got its slot.
    Displaced,
}

struct Penalty {
    until: Instant,
    next: Duration,
}

/// A slot that is kept for a user until it is free.
struct HeldSlot {
    slot: usize,
    uid: u32,
    until: Instant,
}

struct Guest {
    /// The guest's number among all that were ever admitted.
    number: u64,
    uid: u32,
    since: Instant,
    transport: GuestTransport,
    /// How many rings it has sent, and how many waits there had been when it was admitted.
    rings_received: u64,
    waits_before: u64,
    /// The budgets for rings to it, and for rings from it.
    rung: Budget,
    ringing: Budget,
    /// Its connection is not watched before this time.
    paused_until: Option<Instant>,
}

/// How a guest is rung, and how it learns that it has to go.
enum GuestTransport {
    /// By its connection, which is set once the handshake is done.
    Socket(Option<Arc<SocketDoorbell>>),
    /// By its forwarder, which gives the slot back after it has told the guest. `leaving`: the guest has to go.
    Forwarder { leaving: bool },
}

impl GuestTransport {
    fn socket(&self) -> Option<&Arc<SocketDoorbell>> {
        if let GuestTransport::Socket(socket) = self { socket.as_ref() } else { None }
    }
}

impl Guests {
    /// Prepares slots for `count` guests.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn new(count: usize, identity: Identity, room: Arc<EventFd>) -> Result<Arc<Guests>> {
        let epoll = Epoll::new()?;
        let nudge = EventFd::new()?.guarded();
        epoll.watch(nudge.as_fd(), NUDGE)?;
        Ok(Arc::new(Guests {
            segments: GuestSegments::reserve(count, identity)?,
            admitted: Admitted::new(),
            guests: (0..count).map(|_| Mutex::new(None)).collect(),
            epoll,
            nudge,
            room,
            forwarders: Arc::new(EventFd::new()?.guarded()),
            waiting: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            waits: AtomicU64::new(0),
            partings: (0..count).map(|_| Mutex::new(None)).collect(),
            ended: AtomicBool::new(false),
            owed: AtomicU64::new(0),
            admission: Mutex::default(),
        }))
    }

    /// What the ring's producer needs. The views are valid as long as `self` is.
    pub(crate) fn for_producer(&self) -> (Box<[ControlMemory]>, Admitted) {
        (self.segments.memories(), self.admitted.clone())
    }

    /// The object that serves the guests on the bus thread.
    pub(crate) fn keeper(self: &Arc<Guests>) -> Box<dyn Watched> {
        Box::new(Keeper { guests: Arc::clone(self) })
    }

    /// The user of the guest in a slot, as the kernel reports it.
    pub(crate) fn uid(&self, slot: usize) -> Option<u32> {
        self.identity(slot).map(|(_, uid)| uid)
    }

    /// The number of the guest in a slot among all that were ever admitted, and its user.
    pub(crate) fn identity(&self, slot: usize) -> Option<(u64, u32)> {
        lock(self.guests.get(slot)?).as_ref().map(|guest| (guest.number, guest.uid))
    }

    /// How the guest of this number left its slot. `None`: it has not left, or the slot has had another guest since.
    pub(crate) fn parting(&self, slot: usize, number: u64) -> Option<Parting> {
        let parting = (*lock(self.partings.get(slot)?))?;
        (parting.0 == number).then_some(parting.1)
    }

    // Below: the publisher's thread.

    /// Rings the guests whose bits are set. A guest that was rung too often is rung a little later.
    pub(crate) fn ring(&self, bells: u64) {
        let (now, interval) = (monotonic_ns(), ring_interval(self.admitted.bits().count_ones()));
        let (mut owed, mut forwarders) = (0, false);
        for slot in bits(bells) {
            let mut entry = self.guest_in(slot);
            let Some(guest) = entry.as_mut() else { continue };
            if matches!(guest.transport, GuestTransport::Socket(None)) {
                continue;
            }
            match guest.rung.take(now, interval) {
                true => forwarders |= Guests::ring_one(guest),
                false => owed |= 1 << slot,
            }
        }
        if forwarders {
            self.forwarders.ring();
        }
        // SYNC: pairs with the swap in `Guests::pay`.
        if owed != 0 && self.owed.fetch_or(owed, Ordering::AcqRel) == 0 {
            self.nudge.ring();
        }
    }

    /// Rings a guest by its connection. True: it has a forwarder instead, and all forwarders are rung together.
    fn ring_one(guest: &Guest) -> bool {
        if let GuestTransport::Socket(Some(socket)) = &guest.transport {
            socket.ring();
        }
        matches!(guest.transport, GuestTransport::Forwarder { .. })
    }

    /// The publisher is about to announce that it waits for room. A guest that makes room, or goes, will ring it.
    pub(crate) fn announce_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        // SYNC: Relaxed. The full fence of `Producer::arm` follows. It orders this store before the look at the
        // slots, and pairs with the fences of `take_waiting`, which a reader runs after it has stored its cursor, and
        // of `Admitted::dismiss`.
        self.waiting.store(true, Ordering::Relaxed);
    }

    /// The publisher does not wait after all.
    pub(crate) fn cancel_wait(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// The publisher is about to announce whether it wants to hear of its guests. As `announce_wait`: the full fence of
    /// `Producer::listen` follows.
    pub(crate) fn set_listening(&self, listening: bool) {
        if listening {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        self.listening.store(listening, Ordering::Relaxed);
    }

    /// Whether no guest has rung, come or left since the publisher last announced that it listens.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    /// The topic is closed, and the keeper is about to be removed. Relaxed: the removal of the keeper orders it.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The publisher has dismissed a guest. The bus thread now has to evict it.
    #[cold]
    pub(crate) fn dismissed(&self) {
        self.nudge.ring();
    }

    // Below: the bus thread.

    /// Evicts a guest, so that nothing of it stays. A guest that is streamed to goes with its forwarder, which is
    /// rung. Returns the guest's user, if there was a guest.
    fn evict(&self, slot: usize, parting: Parting) -> Option<u32> {
        self.part(slot, parting);
        self.admitted.dismiss(slot);
        let mut entry = self.guest_in(slot);
        let guest = entry.as_mut()?;
        let (uid, socket) = match &mut guest.transport {
            GuestTransport::Forwarder { leaving: true } => return None,
            GuestTransport::Forwarder { leaving } => {
                *leaving = true;
                (guest.uid, None)
            }
            GuestTransport::Socket(socket) => (guest.uid, socket.take()),
        };
        let streamed = matches!(guest.transport, GuestTransport::Forwarder { .. });
        if !streamed {
            *entry = None;
        }
        drop(entry);
        // At the end of the topic the guest still reads what it has not read, and then sees the end.
        if !self.ended.load(Ordering::Relaxed) {
            self.segments.evict(slot);
        }
        if streamed {
            self.forwarders.ring();
        } else {
            self.segments.empty(slot);
        }
        if let Some(socket) = socket {
            self.epoll.forget(socket.as_fd());
            socket.shutdown();
        }
        self.ring_room();
        Some(uid)
    }

    /// Notes how the guest in a slot leaves, before the publisher can see that it has left. The first reason counts.
    fn part(&self, slot: usize, parting: Parting) {
        let Some((number, _)) = self.identity(slot) else { return };
        let mut noted = lock(&self.partings[slot]);
        if noted.is_none_or(|(before, _)| before != number) {
            *noted = Some((number, parting));
        }
    }

    /// A forwarder no longer needs its guest's slot.
    fn give_back(&self, slot: usize) {
        self.part(slot, Parting::Unknown);
        self.admitted.dismiss(slot);
        *self.guest_in(slot) = None;
        self.segments.empty(slot);
        self.ring_room();
    }

    fn ring_room(&self) {
        // Relaxed: see `announce_wait`. The publisher is rung only if it asked for it, however often its guests ring.
        let take = |asked: &AtomicBool| asked.load(Ordering::Relaxed) && asked.swap(false, Ordering::Relaxed);
        if take(&self.waiting) | take(&self.listening) {
            self.room.ring();
        }
    }

    fn guest_in(&self, slot: usize) -> MutexGuard<'_, Option<Guest>> {
        lock(&self.guests[slot])
    }

    fn admission(&self) -> MutexGuard<'_, AdmissionState> {
        lock(&self.admission)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bits(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(slot)
    })
}
