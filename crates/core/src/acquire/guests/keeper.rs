//! What the bus thread does for the guests that are in: hears what they send, and rings those that are owed it.
//!
//! Invariant: a turn never waits, and no guest has more than its ration of it, whatever it sends and however often.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Guests, Line, NUDGE, bits, lock};
use crate::acquire::bell::Heard;
use crate::acquire::budget::ring_interval;
use crate::reactor::{Step, Thread, Watched};
use crate::sys::clock::monotonic_ns;

/// Rings that a guest may send beyond the waits that there were: it cannot know better than it is told.
pub(super) const SURPLUS: u64 = 16;
/// The shortest time that anything is put off.
const TICK: Duration = Duration::from_millis(1);

/// The guests on the bus thread.
pub(super) struct Keeper {
    pub(super) guests: Arc<Guests>,
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

impl Guests {
    /// Does what can be done without waiting. When it wants to be called again at the latest.
    pub(super) fn turn(&self, now: Instant) -> Option<Instant> {
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
    pub(super) fn pay(&self, now: Instant) -> Option<Instant> {
        let mut desk = self.desk();
        if let Some(tick) = desk.tick
            && tick > now
        {
            return Some(tick);
        }
        // SYNC: pairs with the update in `Guests::ring`.
        let owed = self.owed.swap(0, Ordering::AcqRel);
        let ring = |place| self.seat(place).as_ref().is_some_and(Guests::ring_one);
        if bits(owed).filter(|place| ring(*place)).count() > 0 {
            self.pumps.ring();
        }
        // Also after a tick without anything to pay: what comes right now is not to be paid at once.
        let pause = TICK.max(Duration::from_nanos(ring_interval(self.admitted.bits().count_ones())));
        desk.tick = (owed != 0).then(|| now + pause);
        desk.tick
    }
}
