//! Who is let in, and where it sits. On the bus thread.
//!
//! Invariants: no user can keep all others out, by coming often, by many guests, or by being put out again and again. A guest
//! counts from the moment in which it is admitted; a [`Ticket`] that does not become a seat gives the place back,
//! as a [`GuestPlace`] does with its pump.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringbell_ring::ControlMemory;

use super::{Desk, Guest, Guests, Line, Penalty, Promise};
use crate::acquire::bell::Cord;
use crate::acquire::budget::{Budget, look_interval};
use crate::error::Result;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::generation::Home;

/// For how long a user stays outside after its guest was put out: doubled each time, forgotten after the longest.
pub(super) const FIRST_PENALTY: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PENALTY: Duration = Duration::from_secs(64);

/// For how long a place is kept for whom it was made: longer than a client pauses between two tries.
const PROMISE: Duration = Duration::from_millis(200);

/// Why a guest is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::acquire) enum Outside {
    /// All places are taken by users who have no more of them than this one.
    Full,
    /// Its user has to wait for so many seconds.
    Penalty(u64),
    /// Its user comes too often, no memory or descriptors are to be had at the moment, or the publisher is closing.
    Busy,
}

/// A place in the handshake. Given back when it is dropped, unless the guest has taken its seat.
pub(crate) struct Ticket {
    guests: Arc<Guests>,
    pub(super) place: usize,
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
    /// Lets a guest of this user in, if there is a place for it. It counts from now on.
    pub(in crate::acquire) fn admit(
        self: &Arc<Guests>,
        uid: u32,
        now: Instant,
    ) -> std::result::Result<Ticket, Outside> {
        let (place, number, control) = self
            .let_in(uid, Line::Cord(None), now, |place, generation| self.places.furnish(place, generation))?;
        Ok(Ticket { guests: Arc::clone(self), place, number, control, seated: false })
    }

    /// Lets in a guest that is to be streamed to.
    pub(in crate::acquire) fn admit_to_stream(
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
        let place = self.free_place(&mut desk, uid, now)?;
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
    fn free_place(&self, desk: &mut Desk, uid: u32, now: Instant) -> std::result::Result<usize, Outside> {
        let count = self.seats.len();
        let order = (0..count).map(|step| (desk.next + step) % count);
        desk.promise = desk.promise.take().filter(|promise| promise.until > now);
        let promised = desk.promise.as_ref().map(|promise| (promise.place, promise.uid));
        let anothers = |place| promised.is_some_and(|(kept, whose)| kept == place && whose != uid);
        let mut place = order.clone().find(|place| self.seat(*place).is_none() && !anothers(*place));
        if place.is_none() {
            if promised.is_some_and(|(_, whose)| whose == uid) {
                return Err(Outside::Busy);
            }
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
            if promised.is_some() {
                // One at a time.
                return Err(Outside::Busy);
            }
            self.show_out(youngest);
            if self.seat(youngest).is_some() {
                // One that is streamed to goes with its pump, in a moment; whoever it was shown out for comes again by then, and
                // must find the place, however quickly others come.
                desk.promise = Some(Promise { place: youngest, uid, until: now + PROMISE });
                return Err(Outside::Busy);
            }
            place = Some(youngest);
        }
        let place = place.ok_or(Outside::Full)?;
        if promised.is_some_and(|(_, whose)| whose == uid) {
            desk.promise = None;
        }
        desk.next = place + 1;
        Ok(place)
    }

    /// A guest broke a rule, or left no room for too long: it goes, and its user waits outside.
    pub(super) fn put_out(&self, place: usize, now: Instant) {
        if let Some(uid) = self.show_out(place) {
            let mut desk = self.desk();
            let penalty = desk.penalties.entry(uid).or_insert(Penalty { until: now, next: FIRST_PENALTY });
            penalty.until = now + penalty.next;
            penalty.next = (penalty.next * 2).min(LONGEST_PENALTY);
        }
    }
}

impl Ticket {
    /// The segment to hand out.
    pub(in crate::acquire) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The guest has its segment and has said so: its connection is its doorbell from now on. False: it was put out meanwhile.
    pub(in crate::acquire) fn seat(mut self, socket: ForkGuarded) -> bool {
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
    pub(in crate::acquire) fn memory(&self) -> ControlMemory {
        self.guests.places.memory(self.place)
    }

    /// Counted from 0, behind all slots of the topic.
    pub(in crate::acquire) fn number(&self) -> usize {
        self.place
    }

    /// Rung for all guests that are streamed to.
    pub(in crate::acquire) fn bell(&self) -> &EventFd {
        &self.guests.pumps
    }

    /// Whether the guest is to be told that it was evicted, and then to go.
    pub(in crate::acquire) fn is_lost(&self) -> bool {
        let leaving = |guest: &Guest| matches!(guest.line, Line::Pump { leaving: true });
        self.guests.seat(self.place).as_ref().is_none_or(leaving)
    }

    /// The guest broke a rule.
    pub(in crate::acquire) fn put_out(&self, now: Instant) {
        self.guests.put_out(self.place, now);
    }

    /// How often, in nanoseconds, what it has sent is looked at.
    pub(in crate::acquire) fn interval(&self) -> u64 {
        look_interval(self.guests.admitted.bits().count_ones())
    }
}

impl Drop for GuestPlace {
    fn drop(&mut self) {
        // In a forked child nothing lies there.
        if self.home.is_foreign() {
            return;
        }
        // The publisher has given it up, and its pump has heard of that before the keeper.
        if !self.guests.admitted.contains(self.place) {
            self.guests.put_out(self.place, Instant::now());
        }
        self.guests.give_back(self.place);
    }
}
