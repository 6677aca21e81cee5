//! The control segments of guests, at fixed addresses. Each one is a memfd with one slot, or, for a guest that is
//! streamed to, memory of this process.
//!
//! A guest gets memory that no process had before and no other guest gets later. So what it has mapped, or has
//! given to other processes, never reaches another guest. The ring's producer has all addresses from the start; a
//! slot without a guest is all zeroes. Called by `port::guests`. It never decides which guest is admitted.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use ringbell_ring::{ControlMemory, Identity, layout};

use super::create::CONTROL_SEALS;
use super::map::{MappedControl, page_size};
use crate::Result;
use crate::sys::memfd;
use crate::sys::mmap::Pieces;

/// The guest slots of a topic.
#[derive(Debug)]
pub(crate) struct GuestSegments {
    pieces: Pieces,
    count: usize,
    identity: Identity,
}

impl GuestSegments {
    /// Reserves the addresses. There is no guest yet.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when memory ran out.
    pub(crate) fn reserve(count: usize, identity: Identity) -> Result<GuestSegments> {
        let pieces = Pieces::reserve(count, layout::control_len(1, page_size()))?;
        Ok(GuestSegments { pieces, count, identity })
    }

    /// The views for `ringbell_ring`. They are valid while `self` lives.
    pub(crate) fn memories(&self) -> Box<[ControlMemory]> {
        (0..self.count).map(|guest_slot| self.memory(guest_slot)).collect()
    }

    /// The view of one guest slot. It is valid while `self` lives.
    pub(crate) fn memory(&self, guest_slot: usize) -> ControlMemory {
        // SAFETY: `control_len(1)` bytes are mapped there for reading and writing as long as `self` lives (M1).
        // Every caller in this crate keeps `self` beside the views.
        unsafe { ControlMemory::from_raw(self.pieces.address(guest_slot), 1) }
    }

    /// Makes a segment for a guest, and returns the descriptor that is handed out. Its slot's generations begin
    /// with `generation`.
    ///
    /// # Errors
    /// The kernel's error. The guest slot is then unchanged.
    pub(crate) fn create(&self, guest_slot: usize, generation: u64) -> Result<OwnedFd> {
        let fd = memfd::create(c"ringbell-guest", layout::control_len(1, page_size()) as u64)?;
        // The header is written before the segment is put into its slot, where the publisher may look at any time.
        MappedControl::map(fd.as_fd(), 1)?.memory().prepare_for_guest(&self.identity, generation);
        memfd::add_seals(&fd, CONTROL_SEALS)?;
        self.pieces.place(guest_slot, fd.as_fd())?;
        Ok(fd)
    }

    /// Makes a segment that stays in this process.
    ///
    /// # Errors
    /// The kernel's error. The guest slot is then unchanged.
    pub(crate) fn create_local(&self, guest_slot: usize, generation: u64) -> Result<()> {
        // An earlier `clear` may have failed. If the publisher looks in the meantime, it sees a free slot.
        self.pieces.clear(guest_slot)?;
        self.memory(guest_slot).prepare_for_guest(&self.identity, generation);
        Ok(())
    }

    /// Tells the guest in a slot that it was evicted. This is written into its own segment.
    pub(crate) fn evict(&self, guest_slot: usize) {
        self.memory(guest_slot).evict_guest();
    }

    /// Takes the guest's segment out of its slot.
    pub(crate) fn empty(&self, guest_slot: usize) {
        // If this fails, the old segment stays until the next guest's segment replaces it. It counts for nothing.
        let _ = self.pieces.clear(guest_slot);
    }
}
