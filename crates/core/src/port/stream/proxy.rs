//! A slot of the ring that the publisher's process holds for a subscriber that it streams to.
//!
//! A [`ProxyReader`] claims its slot before it joins the ring. It leaves the ring before it releases the slot. It
//! does both however it ends. A [`StreamSource`] keeps the memory as long as a subscriber is streamed to, even
//! after the publisher has closed the topic and is gone. A subscriber of another user gets a guest slot, never one
//! of the topic's own slots. The handshake makes a proxy reader, and the forwarder reads through it. It never
//! parses what it forwards.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ringbell_ring::layout::SLOTS_PER_DOORBELL;
use ringbell_ring::{Consumer, ControlMemory, Fault, Overflow, SlotView, Start};

use crate::handshake::wire::{Begin, Kept};
use crate::port::Doorbells;
use crate::port::budget::look_interval;
use crate::port::guests::GuestSlot;
use crate::record::Rung;
use crate::segment::{MappedControl, MappedData, ProxySlots, Segments};
use crate::sys::duplicate;
use crate::sys::eventfd::EventFd;
use crate::sys::generation::Home;
use crate::sys::membarrier;
use crate::{Error, Result};

/// The source of a stream: the ring and what belongs to it.
pub(crate) struct StreamSource {
    pub(crate) data: Arc<MappedData>,
    pub(crate) control: Arc<MappedControl>,
    /// The control segment, if there is one.
    pub(crate) control_fd: Option<OwnedFd>,
    pub(crate) proxies: Arc<ProxySlots>,
    pub(crate) room: Arc<EventFd>,
    pub(crate) doorbells: Arc<[EventFd]>,
    pub(crate) overflow: Overflow,
    /// A subscriber of the own user broke the protocol. Relaxed: no other memory depends on it.
    pub(crate) breached: AtomicBool,
}

impl StreamSource {
    /// A source for a ring in memory that this process made. `proxies` is shared with the ring's writer.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors ran out.
    pub(crate) fn new(
        segments: &Segments,
        doorbells: &Doorbells,
        proxies: &Arc<ProxySlots>,
        overflow: Overflow,
    ) -> Result<Arc<StreamSource>> {
        Ok(Arc::new(StreamSource {
            data: segments.data().clone(),
            control: segments.control().clone(),
            control_fd: segments.own().map(|own| duplicate(&own.control_fd)).transpose()?,
            proxies: proxies.clone(),
            room: doorbells.room.clone(),
            doorbells: doorbells.readers.clone(),
            overflow,
            breached: AtomicBool::new(false),
        }))
    }

    /// Whether a subscriber of the own user broke the protocol.
    pub(crate) fn is_breached(&self) -> bool {
        self.breached.load(Ordering::Relaxed)
    }

    /// The slots whose owners live.
    pub(super) fn slots(&self, head: u64) -> Vec<SlotView> {
        let alive = |slot: usize| self.proxies.is_alive(self.control_fd.as_ref(), slot);
        self.control.memory().slots(head).filter(|slot| alive(slot.index)).collect()
    }
}

/// The reading end of a ring, on behalf of a subscriber in another process.
pub(crate) struct ProxyReader {
    pub(super) source: Arc<StreamSource>,
    pub(super) consumer: Consumer,
    /// The slot, when the subscriber belongs to another user.
    guest: Option<GuestSlot>,
    /// Whether the subscriber's reports are rationed.
    rationed: bool,
    /// Whether the subscriber has a durable name.
    named: bool,
    /// The process in which the memory is mapped. It is not mapped in a forked child.
    home: Home,
}

impl ProxyReader {
    /// Claims a slot and joins the ring there. `who`: a process id, and the hash of a durable name or 0.
    ///
    /// # Errors
    /// `ERR_RINGBELL_NO_SLOT`, `ERR_RINGBELL_NAME_TAKEN`, `ERR_RINGBELL_RESOURCE`, and `ERR_RINGBELL_EVICTED` when
    /// the publisher evicts the slot at once.
    pub(super) fn claim(source: &Arc<StreamSource>, who: (u32, u64), start: Start) -> Result<ProxyReader> {
        let slot = source.proxies.claim(&source.control.memory(), source.control_fd.as_ref(), who.1)?;
        ProxyReader::join(source, (source.control.memory(), slot), who, start, None)
            .inspect_err(|_| source.proxies.release(slot))
    }

    /// Joins the ring in a guest's slot.
    ///
    /// # Errors
    /// `ERR_RINGBELL_EVICTED` when the publisher evicts the slot at once.
    pub(super) fn claim_guest(
        source: &Arc<StreamSource>,
        slot: GuestSlot,
        pid: u32,
        start: Start,
    ) -> Result<ProxyReader> {
        ProxyReader::join(source, (slot.memory(), 0), (pid, 0), start, Some(slot))
    }

    fn join(
        source: &Arc<StreamSource>,
        (control, slot): (ControlMemory, usize),
        who: (u32, u64),
        start: Start,
        guest: Option<GuestSlot>,
    ) -> Result<ProxyReader> {
        let joined = Consumer::join(source.data.memory(), control, slot, source.overflow, start, who);
        let consumer = joined.map_err(|fault| match fault {
            Fault::Evicted => Error::Evicted { service: String::new() },
            fault => fault.into(),
        })?;
        let consumer = consumer.with_barrier(membarrier::barrier);
        consumer.note_way(Rung::Stream.code());
        // The flags of a guest's own memory are new, so they say nothing of a publisher that listens.
        if consumer.arrived() || guest.is_some() {
            source.room.ring();
        }
        Ok(ProxyReader {
            source: Arc::clone(source),
            consumer,
            rationed: guest.is_some(),
            guest,
            named: who.1 != 0,
            home: Home::here(),
        })
    }

    /// Sets whether the subscriber belongs to another user. What it sends is rationed then.
    pub(crate) fn rationed(mut self, rationed: bool) -> ProxyReader {
        self.rationed = rationed;
        self
    }

    /// Nanoseconds between two looks at its reports. None: they are looked at as soon as they come.
    pub(super) fn interval(&self) -> Option<u64> {
        let alone = self.rationed.then(|| look_interval(1));
        self.guest.as_ref().map(GuestSlot::interval).or(alone)
    }

    /// Whether it is a guest that was evicted.
    pub(super) fn is_lost(&self) -> bool {
        self.guest.as_ref().is_some_and(GuestSlot::is_lost)
    }

    /// Whether it is a guest. A guest goes as soon as it was told to, whether or not it keeps its connection.
    pub(super) fn is_guest(&self) -> bool {
        self.guest.is_some()
    }

    /// Notes that its subscriber broke the protocol.
    pub(super) fn breach(&self, now: Instant) {
        match &self.guest {
            Some(slot) => slot.ban(now),
            None => self.source.breached.store(true, Ordering::Relaxed),
        }
    }

    /// All slots that the subscriber may know of. A guest knows only its own.
    pub(super) fn slots(&self, head: u64) -> Vec<SlotView> {
        let Some(guest) = &self.guest else { return self.source.slots(head) };
        guest.memory().slots(head).map(|view| SlotView { index: self.slot(), ..view }).collect()
    }

    /// Number and eventfd of the doorbell by which the ring wakes it. Other readers share the doorbell.
    pub(super) fn bell(&self) -> (usize, &EventFd) {
        let bells = &self.source.doorbells;
        match &self.guest {
            Some(slot) => (bells.len(), slot.bell()),
            None => {
                let bell = self.slot() / SLOTS_PER_DOORBELL;
                (bell, &bells[bell])
            }
        }
    }

    /// Whether nothing more will be written.
    pub(super) fn is_closed(&self) -> bool {
        self.source.data.memory().closed()
    }

    /// Index of the slot. Guest slots are numbered behind the topic's own slots.
    pub(crate) fn slot(&self) -> usize {
        match &self.guest {
            Some(slot) => self.source.control.memory().max_slots() + slot.number(),
            None => self.consumer.slot_index(),
        }
    }

    /// Where the stream begins, and what was found under its durable name.
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

    /// Gives up the durable position, if there is one.
    pub(super) fn forget(&mut self) {
        if self.consumer.forget() {
            self.source.room.ring();
        }
    }
}

impl Drop for ProxyReader {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        self.consumer.leave();
        if self.guest.is_none() {
            self.source.proxies.release(self.consumer.slot_index());
        }
        // It rings even when the writer does not wait for room: a channel's connection learns from this ring that
        // its reader is gone.
        self.source.room.ring();
    }
}
