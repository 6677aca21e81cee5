//! A publisher's guests: the subscribers of other users that it let in.
//!
//! Each has a control segment and a connection of its own; the connection is its doorbell, the publisher's, and its proof of life.
//! One that is streamed to never sees its segment: that stays memory of this process, where a pump reads in its stead (`stream`).
//! Invariants: the bit in `admitted` alone decides whether a guest counts, it is set before the guest can have its segment, and
//! cleared when its connection ends, when the publisher gave it up, or when it broke a rule; whatever a guest does
//! costs the publisher's thread at most a rationed `send` that never waits, and the bus thread a rationed `recv` or admission. Who was
//! put out has to wait, longer each time, before it is let in again. `admit` and `turn` run on the bus thread, `ring` and
//! the rest on the publisher's.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringbell_ring::{Admitted, ControlMemory, Identity};

use super::bell::{Cord, Heard};
use super::budget::{Admissions, Budget, ring_interval};
use crate::bus::thread::{Step, Thread, Watched};
use crate::error::Result;
use crate::segment::GuestPlaces;
use crate::sys::clock::monotonic_ns;
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::generation::Home;

/// Number of the nudge in the epoll; the others are places.
const NUDGE: u64 = u64::MAX;
/// Rings that a guest may send beyond the waits that there were: it cannot know better than it is told.
const SURPLUS: u64 = 16;
/// The shortest time that anything is put off.
const TICK: Duration = Duration::from_millis(1);
/// For how long a user stays outside after its guest was put out: doubled each time, forgotten after the longest.
const FIRST_PENALTY: Duration = Duration::from_secs(1);
const LONGEST_PENALTY: Duration = Duration::from_secs(64);

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
    closed: bool,
}

struct Penalty {
    until: Instant,
    next: Duration,
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

/// Why a guest is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// All places are taken by users who have no more of them than this one.
    Full,
    /// Its user has to wait for so many seconds.
    Penalty(u64),
    /// Its user comes too often, no memory or descriptors are to be had at the moment, or the publisher is closing.
    Busy,
}

/// A place in the handshake. Given back when it is dropped, unless the guest has taken its seat.
pub(super) struct Ticket {
    guests: Arc<Guests>,
    place: usize,
    number: u64,
    control: OwnedFd,
    seated: bool,
}

/// The place of a guest that is streamed to. Given back when it is dropped, on the bus thread.
pub(crate) struct GuestPlace {
    guests: Arc<Guests>,
    place: usize,
    home: Home,
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
        let mut owed = 0;
        for place in bits(bells) {
            let mut seat = self.seat(place);
            let Some(guest) = seat.as_mut() else { continue };
            if matches!(guest.line, Line::Cord(None)) {
                continue;
            }
            match guest.rung.take(now, interval) {
                true => self.ring_one(guest),
                false => owed |= 1 << place,
            }
        }
        // SYNC: pairs with the swap in `pay`.
        if owed != 0 && self.owed.fetch_or(owed, Ordering::AcqRel) == 0 {
            self.nudge.ring();
        }
    }

    fn ring_one(&self, guest: &Guest) {
        match &guest.line {
            Line::Cord(cord) => {
                if let Some(cord) = cord {
                    cord.ring();
                }
            }
            Line::Pump { .. } => self.pumps.ring(),
        }
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

    /// Lets a guest of this user in, if there is a place for it. It counts from now on.
    pub(super) fn admit(self: &Arc<Guests>, uid: u32, now: Instant) -> std::result::Result<Ticket, Outside> {
        let (place, number, control) = self
            .let_in(uid, Line::Cord(None), now, |place, generation| self.places.furnish(place, generation))?;
        Ok(Ticket { guests: Arc::clone(self), place, number, control, seated: false })
    }

    /// Lets in a guest that is to be streamed to.
    pub(super) fn admit_to_stream(
        self: &Arc<Guests>,
        uid: u32,
        now: Instant,
    ) -> std::result::Result<GuestPlace, Outside> {
        let line = Line::Pump { leaving: false };
        let (place, ..) =
            self.let_in(uid, line, now, |place, generation| self.places.furnish_here(place, generation))?;
        Ok(GuestPlace { guests: Arc::clone(self), place, home: Home::here() })
    }

    fn let_in<T>(
        &self,
        uid: u32,
        line: Line,
        now: Instant,
        furnish: impl FnOnce(usize, u64) -> Result<T>,
    ) -> std::result::Result<(usize, u64, T), Outside> {
        let mut desk = self.desk();
        if desk.closed {
            return Err(Outside::Busy);
        }
        desk.penalties.retain(|_, penalty| penalty.until + LONGEST_PENALTY > now);
        if let Some(penalty) = desk.penalties.get(&uid)
            && penalty.until > now
        {
            return Err(Outside::Penalty((penalty.until - now).as_secs() + 1));
        }
        if !desk.admissions.take(uid) {
            return Err(Outside::Busy);
        }
        let place = self.free_place(&mut desk, uid)?;
        desk.count += 1;
        // Apart from what any guest can count to, or guess.
        let furnished = furnish(place, desk.count << 32).map_err(|_| Outside::Busy)?;
        let number = desk.count;
        *self.seat(place) = Some(Guest {
            number,
            uid,
            since: now,
            line,
            heard: 0,
            waits_before: self.waits.load(Ordering::Relaxed),
            rung: Budget::default(),
            ringing: Budget::default(),
            rest: None,
        });
        self.admitted.admit(place);
        Ok((place, number, furnished))
    }

    /// A place that is free, or that the youngest guest of the user with the most of them gives up to a user with at least two
    /// fewer: no user can keep all others out.
    fn free_place(&self, desk: &mut Desk, uid: u32) -> std::result::Result<usize, Outside> {
        let count = self.seats.len();
        let order = (0..count).map(|step| (desk.next + step) % count);
        let mut place = order.clone().find(|place| self.seat(*place).is_none());
        if place.is_none() {
            let mut users: HashMap<u32, (usize, usize, Instant)> = HashMap::new();
            for place in order {
                if let Some(guest) = self.seat(place).as_ref() {
                    let user = users.entry(guest.uid).or_insert((0, place, guest.since));
                    user.0 += 1;
                    if guest.since >= user.2 {
                        (user.1, user.2) = (place, guest.since);
                    }
                }
            }
            let own = users.get(&uid).map_or(0, |user| user.0);
            let (most, youngest, _) = users.into_values().max_by_key(|user| user.0).ok_or(Outside::Full)?;
            if most < own + 2 {
                return Err(Outside::Full);
            }
            self.show_out(youngest);
            // One that is streamed to goes with its pump, in a moment.
            place = self.seat(youngest).is_none().then_some(youngest);
        }
        let place = place.ok_or(Outside::Busy)?;
        desk.next = place + 1;
        Ok(place)
    }

    /// Does what can be done without waiting. When it wants to be called again at the latest.
    fn turn(&self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // Cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
        let _ = self.epoll.wait(Some(Instant::now()), &mut ready);
        for number in ready {
            match number {
                NUDGE => drop(self.nudge.drain()),
                place => self.hear(place as usize, now),
            }
        }
        for place in 0..self.seats.len() {
            let dismissed = self.seat(place).is_some() && !self.admitted.contains(place);
            if dismissed {
                self.put_out(place, now);
            }
        }
        let paid = self.pay(now);
        let rested = (0..self.seats.len()).filter_map(|place| self.rest(place, now)).min();
        [paid, rested].into_iter().flatten().min()
    }

    /// Takes what a guest has sent.
    fn hear(&self, place: usize, now: Instant) {
        let cord = self.seats.get(place).and_then(|seat| lock(seat).as_ref()?.line.cord().cloned());
        let Some(cord) = cord else { return };
        // Outside of the lock, for which the publisher's thread would have to wait.
        let heard = cord.hear();
        let Heard::Rings(count) = heard else {
            self.show_out(place);
            return;
        };
        let mut seat = self.seat(place);
        let Some(guest) = seat.as_mut() else { return };
        guest.heard += count as u64;
        let waits = self.waits.load(Ordering::Relaxed) - guest.waits_before;
        let breach = guest.heard > waits + SURPLUS;
        let guests = self.admitted.bits().count_ones();
        if count > 0 && !guest.ringing.take(monotonic_ns(), ring_interval(guests)) {
            self.epoll.forget(cord.as_fd());
            guest.rest = Some(now + TICK.max(Duration::from_nanos(ring_interval(guests))));
        }
        drop(seat);
        if breach {
            self.put_out(place, now);
        } else if count > 0 {
            self.ring_room();
        }
    }

    /// Watches a connection again that has rested long enough; until when it rests, if it does.
    fn rest(&self, place: usize, now: Instant) -> Option<Instant> {
        let mut seat = self.seat(place);
        let guest = seat.as_mut()?;
        let until = guest.rest?;
        if until > now {
            return Some(until);
        }
        let watched =
            guest.line.cord().is_none_or(|cord| self.epoll.watch(cord.as_fd(), place as u64).is_ok());
        guest.rest = (!watched).then(|| now + TICK);
        guest.rest
    }

    /// Rings the guests that are owed it, once in a tick. When the next ones get it.
    fn pay(&self, now: Instant) -> Option<Instant> {
        let mut desk = self.desk();
        if let Some(tick) = desk.tick
            && tick > now
        {
            return Some(tick);
        }
        // SYNC: pairs with the update in `ring`.
        let owed = self.owed.swap(0, Ordering::AcqRel);
        for place in bits(owed) {
            if let Some(guest) = self.seat(place).as_ref() {
                self.ring_one(guest);
            }
        }
        // Also after a tick without anything to pay: what comes right now is not to be paid at once.
        let pause = TICK.max(Duration::from_nanos(ring_interval(self.admitted.bits().count_ones())));
        desk.tick = (owed != 0).then(|| now + pause);
        desk.tick
    }

    /// A guest broke a rule, or left no room for too long: it goes, and its user waits outside.
    fn put_out(&self, place: usize, now: Instant) {
        if let Some(uid) = self.show_out(place) {
            let mut desk = self.desk();
            let penalty = desk.penalties.entry(uid).or_insert(Penalty { until: now, next: FIRST_PENALTY });
            penalty.until = now + penalty.next;
            penalty.next = (penalty.next * 2).min(LONGEST_PENALTY);
        }
    }

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

impl Ticket {
    /// The segment to hand out.
    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The guest has its segment and has said so: its connection is its doorbell from now on. False: it was put out meanwhile.
    pub(super) fn seat(mut self, socket: ForkGuarded) -> bool {
        let cord = Arc::new(Cord::new(socket));
        {
            let mut seat = self.guests.seat(self.place);
            let still =
                |guest: &&mut Guest| guest.number == self.number && self.guests.admitted.contains(self.place);
            let Some(guest) = seat.as_mut().filter(still) else { return false };
            if self.guests.epoll.watch(cord.as_fd(), self.place as u64).is_err() {
                return false;
            }
            guest.line = Line::Cord(Some(cord));
        }
        self.seated = true;
        // What was rung for it while it had no doorbell. It looks again anyway before it first sleeps, but a guest
        // that was quick may sleep already.
        self.guests.ring(1 << self.place);
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let there = self.guests.seat(self.place).as_ref().is_some_and(|guest| guest.number == self.number);
        if there && !self.seated {
            self.guests.show_out(self.place);
        }
    }
}

impl GuestPlace {
    /// The slot that the guest is to have there.
    pub(super) fn memory(&self) -> ControlMemory {
        self.guests.places.memory(self.place)
    }

    /// Counted from 0, behind all slots of the topic.
    pub(super) fn number(&self) -> usize {
        self.place
    }

    /// Rung for all guests that are streamed to.
    pub(super) fn bell(&self) -> &EventFd {
        &self.guests.pumps
    }

    /// Whether the guest is to be told that it was evicted, and then to go.
    pub(super) fn is_lost(&self) -> bool {
        let leaving = |guest: &Guest| matches!(guest.line, Line::Pump { leaving: true });
        self.guests.seat(self.place).as_ref().is_none_or(leaving)
    }

    /// The guest broke a rule.
    pub(super) fn put_out(&self, now: Instant) {
        self.guests.put_out(self.place, now);
    }

    /// How often, in nanoseconds, it may cost this process something.
    pub(super) fn interval(&self) -> u64 {
        ring_interval(self.guests.admitted.bits().count_ones())
    }
}

impl Drop for GuestPlace {
    fn drop(&mut self) {
        // In a forked child nothing lies there.
        if !self.home.is_foreign() {
            self.guests.give_back(self.place);
        }
    }
}

/// The guests on the bus thread.
struct Keeper {
    guests: Arc<Guests>,
}

impl Watched for Keeper {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.guests.epoll.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(self.guests.turn(Instant::now()))
    }

    /// Without it nobody would hear of the guests: until it can be waited for, they are looked at.
    fn retry(&self) -> Option<Duration> {
        Some(TICK * 100)
    }
}

impl Drop for Keeper {
    /// The publisher closes, or the bus: every guest sees the end of its connection, and why in its slot or in the topic.
    fn drop(&mut self) {
        self.guests.desk().closed = true;
        for place in 0..self.guests.seats.len() {
            let streamed =
                self.guests.seat(place).as_ref().is_some_and(|guest| matches!(guest.line, Line::Pump { .. }));
            if !streamed {
                self.guests.show_out(place);
            }
        }
        // Who is streamed to is told by its pump, after what is left for it.
        self.guests.pumps.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use ringbell_ring::Overflow;

    fn guests(count: usize) -> Arc<Guests> {
        let identity = Identity { capacity: 4096, max_slots: 1, overflow: Overflow::Block, nonce: [1, 2] };
        Guests::new(count, identity, Arc::new(EventFd::new().unwrap())).unwrap()
    }

    /// Seats a guest, and gives its end of the connection.
    fn seat(guests: &Arc<Guests>, uid: u32) -> Cord {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        assert!(guests.admit(uid, Instant::now()).unwrap().seat(ForkGuarded::new(ours)));
        let guest = Cord::new(ForkGuarded::new(theirs));
        guest.hear();
        guest
    }

    fn rings(guest: &Cord) -> usize {
        match guest.hear() {
            Heard::Rings(count) => count,
            Heard::End => panic!("it was put out"),
        }
    }

    #[test]
    fn whose_guest_was_put_out_waits_longer_each_time() {
        let guests = guests(2);
        let mut now = Instant::now();
        let outside = |uid, now| guests.admit(uid, now).err();
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            let ticket = guests.admit(7, now).unwrap();
            guests.put_out(ticket.place, now);
            now += Duration::from_millis(100);
            assert_eq!(outside(7, now), Some(Outside::Penalty(seconds)));
            assert_eq!(outside(8, now), None, "another user has nothing to do with it");
            now += Duration::from_secs(seconds);
        }
        now += LONGEST_PENALTY;
        let ticket = guests.admit(7, now).unwrap();
        guests.put_out(ticket.place, now);
        assert_eq!(outside(7, now), Some(Outside::Penalty(2)), "forgotten: a second, begun");
        assert_eq!(outside(7, now + FIRST_PENALTY), None);
    }

    #[test]
    fn the_user_with_the_most_gives_way_and_by_its_youngest() {
        let guests = guests(3);
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let greedy: Vec<_> = (0..3).map(|n| guests.admit(7, at(n)).unwrap()).collect();
        assert_eq!(guests.admit(7, at(4)).err(), Some(Outside::Full));
        let modest = guests.admit(8, at(5)).unwrap();
        assert_eq!(modest.place, greedy[2].place);
        assert_eq!(guests.admit(8, at(6)).err(), Some(Outside::Full), "one against two is fair");
        // Who was shown out is told so by its ticket, and takes nobody's seat with it.
        let (socket, _other) = nix::unistd::pipe().unwrap();
        let mut greedy = greedy.into_iter();
        assert!(!greedy.next_back().unwrap().seat(ForkGuarded::new(socket)));
        assert_eq!((0..3).filter(|place| guests.uid(*place) == Some(8)).count(), 1);
        drop((greedy, modest));
        assert_eq!(guests.admitted.bits(), 0);
    }

    #[test]
    fn each_guest_has_generations_of_its_own_wherever_it_sits() {
        let guests = guests(1);
        for _ in 0..3 {
            let ticket = guests.admit(7, Instant::now()).unwrap();
            assert!(guests.admitted.contains(0));
            drop(ticket);
            assert!(!guests.admitted.contains(0), "given back");
        }
        assert_eq!(guests.desk().count, 3);
    }

    #[test]
    fn who_comes_again_and_again_is_rationed() {
        let guests = guests(1);
        let now = Instant::now();
        let admitted = (0..200).filter(|_| guests.admit(7, now).is_ok()).count();
        assert!((32..200).contains(&admitted), "{admitted} at once");
        assert!(guests.admit(8, now).is_ok(), "another user is not");
    }

    /// Whatever it says about sleeping, and however often: what is beyond its ration comes later, in one.
    #[test]
    fn rings_beyond_the_ration_are_owed_and_paid_together() {
        let guests = guests(1);
        let guest = seat(&guests, 7);
        let mut sent = 0;
        let rounds = (0..100_000).take_while(|_| guests.owed.load(Ordering::Relaxed) == 0).inspect(|_| {
            guests.ring(1);
            sent += rings(&guest);
        });
        let rounds = rounds.count();
        assert!(rounds < 100_000, "nothing is ever owed");
        assert_eq!(sent, rounds - 1, "each but the last was rung at once");
        assert!(guests.nudge.drain() > 0, "the bus thread hears of it");
        for _ in 0..10 {
            guests.owed.fetch_or(1, Ordering::Relaxed);
        }
        let now = Instant::now();
        let tick = guests.pay(now).expect("there may be more");
        assert_eq!((rings(&guest), guests.owed.load(Ordering::Relaxed)), (1, 0));
        guests.owed.store(1, Ordering::Relaxed);
        assert_eq!((guests.pay(now), rings(&guest)), (Some(tick), 0), "not before the tick");
        guests.pay(tick);
        assert_eq!(rings(&guest), 1);
    }

    #[test]
    fn a_publisher_that_does_not_wait_is_never_rung_and_one_that_waits_once_for_all() {
        let guests = guests(2);
        let (one, other) = (seat(&guests, 7), seat(&guests, 8));
        let now = Instant::now();
        one.ring();
        guests.turn(now);
        assert_eq!(guests.room.drain(), 0);
        guests.wait();
        one.ring();
        other.ring();
        guests.turn(now);
        assert_eq!(guests.room.drain(), 1);
        guests.wait();
        // Not by dropping it: a child that another test starts just now holds its end for a moment, too.
        other.hang_up();
        guests.turn(now);
        assert_eq!((guests.room.drain(), guests.admitted.bits()), (1, 1), "who goes makes room, too");
    }

    #[test]
    fn more_rings_than_there_were_waits_are_a_breach() {
        let guests = guests(1);
        let guest = seat(&guests, 7);
        let mut now = Instant::now();
        for _ in 0..1000 {
            guests.wait();
            guest.ring();
            now += Duration::from_secs(1);
            guests.turn(now);
        }
        assert!(guests.admitted.contains(0), "one for each wait is what it may");
        // Some find no room in the socket, some it has to rest for.
        let rounds = (0..10 * SURPLUS).take_while(|_| {
            guest.ring();
            now += Duration::from_secs(1);
            guests.turn(now);
            guests.admitted.contains(0)
        });
        assert!((SURPLUS..9 * SURPLUS).contains(&(rounds.count() as u64)));
        assert_eq!(guest.hear(), Heard::End);
        assert!(matches!(guests.admit(7, now), Err(Outside::Penalty(_))));
    }
}
