//! Which guests are let in, and into which slot. This runs on the bus thread.
//!
//! No user can keep all others out: not by coming often, not by having many guests, and not by breaking rules again
//! and again. A guest counts from the moment when it is admitted. The publisher's side of the handshake calls this.
//! A [`Reservation`] that is dropped before its guest has connected gives the slot back. A [`GuestSlot`] gives it
//! back when its forwarder is dropped.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringbell_ring::ControlMemory;

use super::{AdmissionState, Guest, GuestTransport, Guests, HeldSlot, Parting, Penalty};
use crate::error::Result;
use crate::port::budget::{Budget, look_interval};
use crate::port::doorbell::SocketDoorbell;
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::generation::Home;

/// For how long a user is banned. The time doubles with each ban, and is forgotten after the longest one.
pub(super) const FIRST_PENALTY: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PENALTY: Duration = Duration::from_secs(64);

/// For how long a slot is held for a user. It is longer than a client's pause between two tries.
const HOLD: Duration = Duration::from_millis(200);

/// Why a guest is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmissionError {
    /// All slots are taken, and no user has more of them than the user of this guest.
    Full,
    /// Its user has to wait for this number of seconds.
    Penalty(u64),
    /// Its user comes too often, or memory or descriptors have run out at the moment, or the publisher is closing.
    Busy,
}

/// The slot of a guest whose handshake is not done. Dropping it gives the slot back, unless the guest has
/// connected.
pub(crate) struct Reservation {
    guests: Arc<Guests>,
    pub(super) slot: usize,
    number: u64,
    control: OwnedFd,
    connected: bool,
}

/// The slot of a guest that is streamed to. Dropping it gives the slot back. It is dropped on the bus thread.
pub(crate) struct GuestSlot {
    guests: Arc<Guests>,
    slot: usize,
    home: Home,
}

impl Guests {
    /// Lets a guest of this user in, if there is a slot for it. The guest counts from then on.
    pub(crate) fn admit(
        self: &Arc<Guests>,
        uid: u32,
        now: Instant,
    ) -> std::result::Result<Reservation, AdmissionError> {
        let (slot, number, control) =
            self.admit_into_slot(uid, GuestTransport::Socket(None), now, |slot, generation| {
                self.segments.create(slot, generation)
            })?;
        Ok(Reservation { guests: Arc::clone(self), slot, number, control, connected: false })
    }

    /// Lets in a guest that will be streamed to.
    pub(crate) fn admit_to_stream(
        self: &Arc<Guests>,
        uid: u32,
        now: Instant,
    ) -> std::result::Result<GuestSlot, AdmissionError> {
        let transport = GuestTransport::Forwarder { leaving: false };
        let (slot, ..) = self.admit_into_slot(uid, transport, now, |slot, generation| {
            self.segments.create_local(slot, generation)
        })?;
        Ok(GuestSlot { guests: Arc::clone(self), slot, home: Home::here() })
    }

    fn admit_into_slot<T>(
        &self,
        uid: u32,
        transport: GuestTransport,
        now: Instant,
        create: impl FnOnce(usize, u64) -> Result<T>,
    ) -> std::result::Result<(usize, u64, T), AdmissionError> {
        let mut admission = self.admission();
        if admission.closed {
            return Err(AdmissionError::Busy);
        }
        admission.penalties.retain(|_, penalty| penalty.until + LONGEST_PENALTY > now);
        if let Some(penalty) = admission.penalties.get(&uid)
            && penalty.until > now
        {
            return Err(AdmissionError::Penalty((penalty.until - now).as_secs() + 1));
        }
        if !admission.admissions.take(uid) {
            return Err(AdmissionError::Busy);
        }
        let slot = self.free_slot(&mut admission, uid, now)?;
        admission.count += 1;
        // The generations start far from any number that a guest can count to or guess.
        let created = create(slot, admission.count << 32).map_err(|_| AdmissionError::Busy)?;
        let number = admission.count;
        *self.guest_in(slot) = Some(Guest {
            number,
            uid,
            since: now,
            transport,
            rings_received: 0,
            waits_before: self.waits.load(Ordering::Relaxed),
            rung: Budget::default(),
            ringing: Budget::default(),
            paused_until: None,
        });
        self.admitted.admit(slot);
        Ok((slot, number, created))
    }

    /// Finds a free slot. If there is none, the user with the most guests gives up the slot of its youngest one to
    /// a user that has at least two fewer. So no user can keep all others out.
    fn free_slot(
        &self,
        admission: &mut AdmissionState,
        uid: u32,
        now: Instant,
    ) -> std::result::Result<usize, AdmissionError> {
        let count = self.guests.len();
        let order = (0..count).map(|step| (admission.next + step) % count);
        admission.held = admission.held.take().filter(|held| held.until > now);
        let held = admission.held.as_ref().map(|held| (held.slot, held.uid));
        let held_for_other = |slot| held.is_some_and(|(kept, whose)| kept == slot && whose != uid);
        let mut slot = order.clone().find(|slot| self.guest_in(*slot).is_none() && !held_for_other(*slot));
        if slot.is_none() {
            if held.is_some_and(|(_, whose)| whose == uid) {
                return Err(AdmissionError::Busy);
            }
            let mut users: HashMap<u32, (usize, usize, Instant)> = HashMap::new();
            for slot in order {
                if let Some(guest) = self.guest_in(slot).as_ref() {
                    let user = users.entry(guest.uid).or_insert((0, slot, guest.since));
                    user.0 += 1;
                    if guest.since >= user.2 {
                        (user.1, user.2) = (slot, guest.since);
                    }
                }
            }
            let own = users.get(&uid).map_or(0, |user| user.0);
            let (most, youngest, _) =
                users.into_values().max_by_key(|user| user.0).ok_or(AdmissionError::Full)?;
            if most < own + 2 {
                return Err(AdmissionError::Full);
            }
            if held.is_some() {
                // Only one slot is held at a time.
                return Err(AdmissionError::Busy);
            }
            self.evict(youngest, Parting::Displaced);
            if self.guest_in(youngest).is_some() {
                // A guest that is streamed to goes a moment later, together with its forwarder. The user that it
                // was evicted for comes again by then. It must find the slot, however quickly other users come.
                admission.held = Some(HeldSlot { slot: youngest, uid, until: now + HOLD });
                return Err(AdmissionError::Busy);
            }
            slot = Some(youngest);
        }
        let slot = slot.ok_or(AdmissionError::Full)?;
        if held.is_some_and(|(_, whose)| whose == uid) {
            admission.held = None;
        }
        admission.next = slot + 1;
        Ok(slot)
    }

    /// A guest broke a rule, or left no room for too long. It is evicted, and its user is banned for a while.
    pub(super) fn ban(&self, slot: usize, now: Instant) {
        if let Some(uid) = self.evict(slot, Parting::Banned) {
            let mut admission = self.admission();
            let penalty =
                admission.penalties.entry(uid).or_insert(Penalty { until: now, next: FIRST_PENALTY });
            penalty.until = now + penalty.next;
            penalty.next = (penalty.next * 2).min(LONGEST_PENALTY);
        }
    }
}

impl Reservation {
    /// The segment that the guest is given.
    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The guest has its segment and has said so. Its connection is its doorbell from now on. False: it was evicted
    /// meanwhile.
    pub(crate) fn connect(mut self, socket: ForkGuarded) -> bool {
        let socket = Arc::new(SocketDoorbell::new(socket));
        {
            let mut entry = self.guests.guest_in(self.slot);
            let still =
                |guest: &&mut Guest| guest.number == self.number && self.guests.admitted.contains(self.slot);
            let Some(guest) = entry.as_mut().filter(still) else { return false };
            if self.guests.epoll.watch(socket.as_fd(), self.slot as u64).is_err() {
                return false;
            }
            guest.transport = GuestTransport::Socket(Some(socket));
        }
        self.connected = true;
        // Rings that were meant for it while it had no doorbell. A guest looks again before it first sleeps, but a
        // quick guest may sleep already.
        self.guests.ring(1 << self.slot);
        // From now on the guest can ring for itself, but the publisher must first ask it to.
        self.guests.ring_room();
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let there = self.guests.guest_in(self.slot).as_ref().is_some_and(|guest| guest.number == self.number);
        if there && !self.connected {
            self.guests.evict(self.slot, Parting::Unknown);
        }
    }
}

impl GuestSlot {
    /// The control memory that holds the guest's slot.
    pub(crate) fn memory(&self) -> ControlMemory {
        self.guests.segments.memory(self.slot)
    }

    /// The slot's number. It is counted from 0, behind all slots of the topic itself.
    pub(crate) fn number(&self) -> usize {
        self.slot
    }

    /// The doorbell that is rung for all guests that are streamed to.
    pub(crate) fn bell(&self) -> &EventFd {
        &self.guests.forwarders
    }

    /// Whether the guest is to be told that it was evicted, and then to go.
    pub(crate) fn is_lost(&self) -> bool {
        let leaving = |guest: &Guest| matches!(guest.transport, GuestTransport::Forwarder { leaving: true });
        self.guests.guest_in(self.slot).as_ref().is_none_or(leaving)
    }

    /// The guest broke a rule.
    pub(crate) fn ban(&self, now: Instant) {
        self.guests.ban(self.slot, now);
    }

    /// Nanoseconds between two looks at what the guest has sent.
    pub(crate) fn interval(&self) -> u64 {
        look_interval(self.guests.admitted.bits().count_ones())
    }
}

impl Drop for GuestSlot {
    fn drop(&mut self) {
        // In a forked child nothing is mapped there.
        if self.home.is_foreign() {
            return;
        }
        // The publisher has given the guest up, and the forwarder learnt of that before the keeper did.
        if !self.guests.admitted.contains(self.slot) {
            self.guests.ban(self.slot, Instant::now());
        }
        self.guests.give_back(self.slot);
    }
}
