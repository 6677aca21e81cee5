//! A slot that the publisher's process holds in a subscriber's stead.
//!
//! Invariant: the slot is claimed before the ring is joined, left before it is released, and both at every end of a
//! [`Seat`]. What it is made from, the [`Tap`], keeps the memory for as long as anybody streams from it, also when the
//! publisher has closed the topic and is gone.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringbell_ring::{Consumer, Fault, Overflow, SlotView, Start};

use crate::acquire::Rung;
use crate::acquire::protocol::{Begin, Kept};
use crate::segment::{MappedControl, MappedData, ProxySlots, SlotLock};
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
        let alive = |slot: usize| match &self.control_fd {
            // A probe that fails proves nothing.
            Some(fd) => SlotLock::is_held(fd, slot).unwrap_or(true),
            None => self.proxies.holds(slot),
        };
        self.control.memory().slots(head).filter(|slot| alive(slot.index)).collect()
    }
}

/// A place in the topic for a subscriber elsewhere.
pub(crate) struct Seat {
    pub(super) tap: Arc<Tap>,
    pub(super) consumer: Consumer,
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
        let joined = Consumer::join(tap.data.memory(), tap.control.memory(), slot, tap.overflow, start, who);
        match joined {
            Ok(consumer) => {
                consumer.note_way(Rung::Stream.way());
                Ok(Seat { tap: Arc::clone(tap), consumer, named: who.1 != 0, home: Home::here() })
            }
            Err(fault) => {
                tap.proxies.release(slot);
                Err(match fault {
                    Fault::Evicted => Error::Evicted { service: String::new() },
                    fault => Error::CorruptPeer { what: format!("{fault:?}") },
                })
            }
        }
    }

    /// Whether nothing will be written any more.
    pub(super) fn is_closed(&self) -> bool {
        self.tap.data.memory().closed()
    }

    /// Index of the slot.
    pub(crate) fn slot(&self) -> usize {
        self.consumer.slot_index()
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
            slot: consumer.slot_index() as u32,
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
        self.tap.proxies.release(self.consumer.slot_index());
        // Whether or not it waits for room: a channel's connection learns by it that nobody reads any more.
        self.tap.room.ring();
    }
}
