//! What the bus thread does for admitted guests: it takes what they send, and rings the guests that are owed a
//! ring.
//!
//! The bus thread drives it through [`Watched`]. A poll never waits. No guest gets more than its ration of a poll,
//! whatever it sends and however often.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{GuestTransport, Guests, NUDGE, Parting, bits, lock};
use crate::port::budget::ring_interval;
use crate::port::doorbell::DrainedRings;
use crate::reactor::{Step, Thread, Watched};
use crate::sys::clock::monotonic_ns;

/// How many more rings a guest may send than there were waits. A ring may come a little late.
pub(super) const SURPLUS: u64 = 16;
/// The shortest time by which anything is put off.
const TICK: Duration = Duration::from_millis(1);

/// Serves the guests on the bus thread.
pub(super) struct Keeper {
    pub(super) guests: Arc<Guests>,
}

impl Watched for Keeper {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.guests.epoll.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(self.guests.poll(Instant::now()))
    }

    /// If the epoll cannot be waited for, the guests would never be noticed. Until it can be, they are looked at
    /// from time to time.
    fn retry(&self) -> Option<Duration> {
        Some(TICK * 100)
    }
}

impl Drop for Keeper {
    /// The publisher or the bus closes. Every guest sees the end of its connection, and finds the reason in its
    /// slot or in the topic.
    fn drop(&mut self) {
        self.guests.admission().closed = true;
        for slot in 0..self.guests.guests.len() {
            let streamed = self
                .guests
                .guest_in(slot)
                .as_ref()
                .is_some_and(|guest| matches!(guest.transport, GuestTransport::Forwarder { .. }));
            if !streamed {
                self.guests.evict(slot, Parting::Unknown);
            }
        }
        // The forwarder of a guest that is streamed to tells it, after it has sent what is left.
        self.guests.forwarders.ring();
    }
}

impl Guests {
    /// Does what can be done without waiting. Returns the latest time for the next call.
    pub(super) fn poll(&self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // Cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
        let _ = self.epoll.wait(Some(Instant::now()), &mut ready);
        for number in ready {
            match number {
                NUDGE => drop(self.nudge.drain()),
                slot => self.take_rings(slot as usize, now),
            }
        }
        for slot in 0..self.guests.len() {
            let dismissed = self.guest_in(slot).is_some() && !self.admitted.contains(slot);
            if dismissed {
                self.ban(slot, now);
            }
        }
        let paid = self.pay(now);
        let paused = (0..self.guests.len()).filter_map(|slot| self.watch_again(slot, now)).min();
        [paid, paused].into_iter().flatten().min()
    }

    /// Takes what a guest has sent.
    fn take_rings(&self, slot: usize, now: Instant) {
        let socket =
            self.guests.get(slot).and_then(|entry| lock(entry).as_ref()?.transport.socket().cloned());
        let Some(socket) = socket else { return };
        // This is outside of the lock, because the publisher's thread would have to wait for the lock.
        let DrainedRings::Rings(count) = socket.drain() else {
            self.evict(slot, self.end_of(slot));
            return;
        };
        let mut entry = self.guest_in(slot);
        let Some(guest) = entry.as_mut() else { return };
        guest.rings_received += count as u64;
        let waits = self.waits.load(Ordering::Relaxed) - guest.waits_before;
        let breach = guest.rings_received > waits + SURPLUS;
        let guests = self.admitted.bits().count_ones();
        if count > 0 && !guest.ringing.take(monotonic_ns(), ring_interval(guests)) {
            self.epoll.forget(socket.as_fd());
            guest.paused_until = Some(now + TICK.max(Duration::from_nanos(ring_interval(guests))));
        }
        drop(entry);
        if breach {
            self.ban(slot, now);
        } else if count > 0 {
            self.ring_room();
        }
    }

    /// How a guest whose connection has ended left. It is the guest that writes the slot, so this may be wrong.
    fn end_of(&self, slot: usize) -> Parting {
        if self.segments.memory(slot).looks_free(0) { Parting::Closed } else { Parting::Died }
    }

    /// Watches a connection again when its pause is over. Returns until when it is paused, if it is.
    fn watch_again(&self, slot: usize, now: Instant) -> Option<Instant> {
        let mut entry = self.guest_in(slot);
        let guest = entry.as_mut()?;
        let until = guest.paused_until?;
        if until > now {
            return Some(until);
        }
        let watched = guest
            .transport
            .socket()
            .is_none_or(|socket| self.epoll.watch(socket.as_fd(), slot as u64).is_ok());
        guest.paused_until = (!watched).then(|| now + TICK);
        guest.paused_until
    }

    /// Rings the guests that are owed a ring, once in a tick. Returns when the next guests get theirs.
    pub(super) fn pay(&self, now: Instant) -> Option<Instant> {
        let mut admission = self.admission();
        if let Some(tick) = admission.tick
            && tick > now
        {
            return Some(tick);
        }
        // SYNC: pairs with the update in `Guests::ring`.
        let owed = self.owed.swap(0, Ordering::AcqRel);
        let ring = |slot| self.guest_in(slot).as_ref().is_some_and(Guests::ring_one);
        if bits(owed).filter(|slot| ring(*slot)).count() > 0 {
            self.forwarders.ring();
        }
        // There is a pause also after a tick with nothing to pay. A ring that is owed from now on is not paid at
        // once.
        let pause = TICK.max(Duration::from_nanos(ring_interval(self.admitted.bits().count_ones())));
        admission.tick = (owed != 0).then(|| now + pause);
        admission.tick
    }
}
