//! A slot that the publisher's process holds in a subscriber's stead.
//!
//! Invariant: the slot is claimed before the ring is joined, left before it is released, and both at every end of a
//! [`Seat`]. What that is made from, the [`Tap`], keeps the memory for as long as anybody streams from it, also when the
//! publisher has closed the topic and is gone. A subscriber of another user has no slot of the topic's own, but a place (`guests`).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ringbell_ring::layout::SLOTS_PER_DOORBELL;
use ringbell_ring::{Consumer, ControlMemory, Fault, Overflow, SlotView, Start};

use crate::acquire::budget::look_interval;
use crate::acquire::guests::GuestPlace;
use crate::handshake::wire::{Begin, Kept};
use crate::record::Rung;
use crate::segment::{MappedControl, MappedData, ProxySlots};
use crate::sys::eventfd::EventFd;
use crate::sys::generation::Home;
use crate::{Error, Result};

/// What a topic is streamed from.
pub(crate) struct Tap {
    pub(crate) data: Arc<MappedData>,
    pub(crate) control: Arc<MappedControl>,
    /// The control segment, where there is one.
    pub(crate) control_fd: Option<OwnedFd>,
    pub(crate) proxies: Arc<ProxySlots>,
    pub(crate) room: Arc<EventFd>,
    pub(crate) doorbells: Arc<[EventFd]>,
    pub(crate) overflow: Overflow,
    /// A subscriber was put out because it broke the protocol. Relaxed: it carries nothing.
    pub(crate) breached: AtomicBool,
}

impl Tap {
    /// The slots whose owners live.
    pub(super) fn slots(&self, head: u64) -> Vec<SlotView> {
        let alive = |slot: usize| self.proxies.is_alive(self.control_fd.as_ref(), slot);
        self.control.memory().slots(head).filter(|slot| alive(slot.index)).collect()
    }
}

/// A place in the topic for a subscriber elsewhere.
pub(crate) struct Seat {
    pub(super) tap: Arc<Tap>,
    pub(super) consumer: Consumer,
    /// Another user's: its slot is none of the topic's own, which its neighbours need.
    guest: Option<GuestPlace>,
    /// What it sends is rationed.
    rationed: bool,
    /// A durable name came.
    named: bool,
    /// Where the memory is mapped: in a forked child it is not.
    home: Home,
}

impl Seat {
    /// Claims a slot and joins the ring there. `who`: a process id and the hash of a durable name, 0 for none.
    ///
    /// # Errors
    /// `ERR_RINGBELL_NO_SLOT`, `ERR_RINGBELL_NAME_TAKEN`, `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_EVICTED` by a publisher in a
    /// hurry.
    pub(super) fn take(tap: &Arc<Tap>, who: (u32, u64), start: Start) -> Result<Seat> {
        let slot = tap.proxies.claim(&tap.control.memory(), tap.control_fd.as_ref(), who.1)?;
        Seat::join(tap, (tap.control.memory(), slot), who, start, None)
            .inspect_err(|_| tap.proxies.release(slot))
    }

    /// Joins the ring in a guest's place.
    ///
    /// # Errors
    /// `ERR_RINGBELL_EVICTED` by a publisher in a hurry.
    pub(super) fn take_place(tap: &Arc<Tap>, place: GuestPlace, pid: u32, start: Start) -> Result<Seat> {
        Seat::join(tap, (place.memory(), 0), (pid, 0), start, Some(place))
    }

    fn join(
        tap: &Arc<Tap>,
        (control, slot): (ControlMemory, usize),
        who: (u32, u64),
        start: Start,
        guest: Option<GuestPlace>,
    ) -> Result<Seat> {
        let joined = Consumer::join(tap.data.memory(), control, slot, tap.overflow, start, who);
        let consumer = joined.map_err(|fault| match fault {
            Fault::Evicted => Error::Evicted { service: String::new() },
            fault => Error::CorruptPeer { what: format!("{fault:?}") },
        })?;
        consumer.note_way(Rung::Stream.way());
        Ok(Seat {
            tap: Arc::clone(tap),
            consumer,
            rationed: guest.is_some(),
            guest,
            named: who.1 != 0,
            home: Home::here(),
        })
    }

    /// What comes from there is another user's, and rationed.
    pub(crate) fn rationed(mut self, rationed: bool) -> Seat {
        self.rationed = rationed;
        self
    }

    /// How often its reports are looked at, in nanoseconds; none if as soon as there are any.
    pub(super) fn interval(&self) -> Option<u64> {
        let alone = self.rationed.then(|| look_interval(1));
        self.guest.as_ref().map(GuestPlace::interval).or(alone)
    }

    /// Whether it is another user's that was put out.
    pub(super) fn is_lost(&self) -> bool {
        self.guest.as_ref().is_some_and(GuestPlace::is_lost)
    }

    /// Whether it is to go as soon as it was told so, and keeps nothing for as long as its connection.
    pub(super) fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// Its subscriber broke the protocol.
    pub(super) fn breach(&self, now: Instant) {
        match &self.guest {
            Some(place) => place.put_out(now),
            None => self.tap.breached.store(true, Ordering::Relaxed),
        }
    }

    /// All slots that it may know of, its own alone if it is another user's.
    pub(super) fn slots(&self, head: u64) -> Vec<SlotView> {
        let Some(place) = &self.guest else { return self.tap.slots(head) };
        place.memory().slots(head).map(|slot| SlotView { index: self.slot(), ..slot }).collect()
    }

    /// Number and doorbell by which the ring wakes it. Shared with others.
    pub(super) fn bell(&self) -> (usize, &EventFd) {
        let bells = &self.tap.doorbells;
        match &self.guest {
            Some(place) => (bells.len(), place.bell()),
            None => {
                let bell = self.slot() / SLOTS_PER_DOORBELL;
                (bell, &bells[bell])
            }
        }
    }

    /// Whether nothing will be written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.tap.data.memory().closed()
    }

    /// Index of the slot; guests' are numbered behind the topic's own.
    pub(crate) fn slot(&self) -> usize {
        match &self.guest {
            Some(place) => self.tap.control.memory().max_slots() + place.number(),
            None => self.consumer.slot_index(),
        }
    }

    /// Where the stream begins.
    pub(crate) fn begin(&self) -> Begin {
        let consumer = &self.consumer;
        let kept = || Kept {
            found: consumer.position(),
            wanted_from: consumer.wanted_from(),
            redelivered_below: consumer.redelivered_below(),
        };
        Begin {
            slot: self.slot() as u32,
            position: consumer.forwarded_to(),
            joined: consumer.joined(),
            next_sequence: consumer.next_sequence(),
            kept: self.named.then(kept),
        }
    }

    /// Gives the durable position up, if there is one.
    pub(super) fn forget(&mut self) {
        if self.consumer.forget() {
            self.tap.room.ring();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        self.consumer.leave();
        if self.guest.is_none() {
            self.tap.proxies.release(self.consumer.slot_index());
        }
        // Whether or not it waits for room: a channel's connection learns by it that nobody reads any more.
        self.tap.room.ring();
    }
}
