//! The control segments of guests: one memfd of one slot for each, at fixed addresses; for a guest that is streamed to, memory of
//! this process.
//!
//! A guest gets memory that nobody had before and nobody gets after it: what it has mapped, or has given to others, reaches no other
//! guest. The ring's producer has all addresses from the start; a slot without a guest is zeroes. Called by `port::guests`. Never
//! decides who is admitted.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use ringbell_ring::{ControlMemory, Identity, layout};

use super::create::CONTROL_SEALS;
use super::map::{MappedControl, page_size};
use crate::Result;
use crate::sys::memfd;
use crate::sys::mmap::Pieces;

/// The places of a topic's guests.
#[derive(Debug)]
pub(crate) struct GuestSegments {
    pieces: Pieces,
    count: usize,
    identity: Identity,
}

impl GuestSegments {
    /// Reserves them; nobody is there yet.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when memory ran out.
    pub(crate) fn reserve(count: usize, identity: Identity) -> Result<GuestSegments> {
        let pieces = Pieces::reserve(count, layout::control_len(1, page_size()))?;
        Ok(GuestSegments { pieces, count, identity })
    }

    /// The views for `ringbell_ring`, valid while `self` lives.
    pub(crate) fn memories(&self) -> Box<[ControlMemory]> {
        (0..self.count).map(|place| self.memory(place)).collect()
    }

    /// The slot in a place, valid while `self` lives.
    pub(crate) fn memory(&self, place: usize) -> ControlMemory {
        // SAFETY: `control_len(1)` bytes are mapped there for reading and writing for as long as `self` lives (M1); every
        // caller in this crate keeps `self` beside the views.
        unsafe { ControlMemory::from_raw(self.pieces.address(place), 1) }
    }

    /// Makes a segment for a guest, and gives what is to be handed out. Its slot's generations begin with `generation`.
    ///
    /// # Errors
    /// What the kernel answered; then the place is as it was.
    pub(crate) fn furnish(&self, place: usize, generation: u64) -> Result<OwnedFd> {
        let fd = memfd::create(c"ringbell-guest", layout::control_len(1, page_size()) as u64)?;
        // Written before it lies in its place, where the publisher may look at any time.
        MappedControl::map(fd.as_fd(), 1)?.memory().prepare_for_guest(&self.identity, generation);
        memfd::add_seals(&fd, CONTROL_SEALS)?;
        self.pieces.place(place, fd.as_fd())?;
        Ok(fd)
    }

    /// Makes a segment that stays here.
    ///
    /// # Errors
    /// What the kernel answered; then the place is as it was.
    pub(crate) fn furnish_here(&self, place: usize, generation: u64) -> Result<()> {
        // A clearing may have failed before. A look at it meanwhile sees a slot that is free.
        self.pieces.clear(place)?;
        self.memory(place).prepare_for_guest(&self.identity, generation);
        Ok(())
    }

    /// Tells the guest in a place, in its own segment, that it was evicted.
    pub(crate) fn evict(&self, place: usize) {
        self.memory(place).evict_guest();
    }

    /// Takes the guest's segment out of its place.
    pub(crate) fn empty(&self, place: usize) {
        // Should it fail, the old segment stays until the next guest's takes its place; it counts for nothing.
        let _ = self.pieces.clear(place);
    }
}
