//! Views of the two segments, and the only functions that copy bytes into or out of memory that another process maps.
//!
//! A view is a pointer and a capacity. Invariant (I1): the maker of a view promises that the mapping outlives it. No
//! `&[u8]` and no `&T` other than an atomic ever refers to shared memory here. The crate above makes the views;
//! `Producer` and `Consumer` use them.
//!
//! Under loom and Miri the frames are an array of atomic words, and copies go word by word. So a race between reader
//! and writer is defined behaviour, and every stale value is explored. On a real machine the copies are plain: the
//! bytes come from another process, and a reader judges them only after it has loaded `floor` again (I5).

#[cfg(any(loom, miri))]
use alloc::boxed::Box;
use core::ptr::NonNull;

use crate::error::Error;
#[cfg(not(any(loom, miri)))]
use crate::layout::SLOTS_OFFSET;
use crate::layout::{CLOSED, CONTROL_MAGIC, ControlHeader, DATA_MAGIC, DataHeader, OPEN, Overflow, VERSION};
use crate::slot::{Slot, SlotState, SlotView, Vacancy};
#[cfg(any(loom, miri))]
use crate::sync::AtomicU64;
use crate::sync::Ordering;

/// What the headers of a topic's two segments must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Bytes of the frames area, a power of two.
    pub capacity: usize,
    /// Number of slots in the control segment.
    pub max_slots: usize,
    /// What the publisher does when the slowest subscriber leaves no room.
    pub overflow: Overflow,
    /// Random number that the record and both segments share.
    pub nonce: [u64; 2],
}

/// The publisher's counters, read from the data segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublisherCounters {
    /// Messages committed. A message in pieces counts with its last piece.
    pub messages: u64,
    /// Bytes of payload committed, including those of single pieces.
    pub bytes: u64,
    /// How often a message found no room.
    pub full: u64,
    /// Messages dropped under [`Overflow::DropNewest`].
    pub dropped: u64,
    /// Doorbells rung.
    pub rings: u64,
    /// Subscribers evicted or expelled.
    pub evicted: u64,
    /// Slots of dead subscribers freed.
    pub reaped: u64,
    /// Largest backlog seen when the publisher looked at the slots, in bytes.
    pub high_water: u64,
    /// Pieces of large messages committed.
    pub fragments: u64,
    /// Position of the end of the last batch, in bytes since the topic began.
    pub head: u64,
    /// Position of the oldest batch still whole.
    pub floor: u64,
    /// Whether the publisher has closed the topic.
    pub closed: bool,
}

/// The data segment: header and frames.
#[derive(Clone, Copy)]
pub struct DataMemory {
    header: NonNull<DataHeader>,
    pub(crate) frames: Frames,
}

/// The control segment: header and slots.
#[derive(Clone, Copy)]
pub struct ControlMemory {
    header: NonNull<ControlHeader>,
    slots: NonNull<Slot>,
    max_slots: usize,
}

// SAFETY: a view is an address. All access through it is by atomics, or by the copies of `Frames`. The callers of those
// copies are responsible for the races (I4 to I6 of docs/protocol.md).
#[allow(unsafe_code)]
unsafe impl Send for DataMemory {}
// SAFETY: as for `DataMemory`; the control segment holds nothing but atomics.
#[allow(unsafe_code)]
unsafe impl Send for ControlMemory {}

impl DataMemory {
    /// # Safety
    ///
    /// `header` must point to a page, and `frames` to `capacity` bytes that are mapped a second time directly behind
    /// them. `capacity` is a power of two, at least a page. Both stay mapped (writable for a [`Producer`]) for as long
    /// as this view or anything made from it is used.
    ///
    /// [`Producer`]: crate::Producer
    #[cfg(not(any(loom, miri)))]
    #[allow(unsafe_code)]
    pub unsafe fn from_raw(header: NonNull<u8>, frames: NonNull<u8>, capacity: usize) -> Self {
        Self { header: header.cast(), frames: Frames { base: frames, capacity } }
    }

    /// A data segment on the heap that is never freed, for models and Miri.
    #[cfg(any(loom, miri))]
    pub fn leaked(capacity: usize) -> Self {
        let words: Box<[AtomicU64]> = (0..capacity / 8).map(|_| AtomicU64::new(0)).collect();
        Self {
            header: NonNull::from(Box::leak(Box::default())),
            frames: Frames { words: Box::leak(words), capacity },
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn header(&self) -> &DataHeader {
        // SAFETY: the maker of this view promised a mapped header for as long as the view lives. The header holds
        // only atomics, so a shared reference to it is sound, whatever another process writes (I1).
        unsafe { self.header.as_ref() }
    }

    /// Bytes of the frames area.
    pub fn capacity(&self) -> usize {
        self.frames.capacity
    }

    /// Compares the header with what the publisher's record announced.
    ///
    /// # Errors
    ///
    /// [`Error`] names what differs.
    pub fn check(&self, expected: &Identity) -> Result<(), Error> {
        let fixed = &self.header().fixed;
        if fixed.magic.load(Ordering::Relaxed) != DATA_MAGIC {
            return Err(Error::NotRingbell);
        }
        version(fixed.version.load(Ordering::Relaxed))?;
        same("capacity", fixed.capacity.load(Ordering::Relaxed), expected.capacity as u64)?;
        same("number of slots", fixed.max_slots.load(Ordering::Relaxed).into(), expected.max_slots as u64)?;
        same(
            "overflow policy",
            fixed.overflow.load(Ordering::Relaxed).into(),
            (expected.overflow as u32).into(),
        )?;
        same("nonce", fixed.nonce[0].load(Ordering::Relaxed), expected.nonce[0])?;
        same("nonce", fixed.nonce[1].load(Ordering::Relaxed), expected.nonce[1])
    }

    pub(crate) fn initialise(&self, identity: &Identity) {
        let fixed = &self.header().fixed;
        fixed.version.store(VERSION, Ordering::Relaxed);
        fixed.overflow.store(identity.overflow as u32, Ordering::Relaxed);
        fixed.capacity.store(identity.capacity as u64, Ordering::Relaxed);
        fixed.max_slots.store(identity.max_slots as u32, Ordering::Relaxed);
        fixed.nonce[0].store(identity.nonce[0], Ordering::Relaxed);
        fixed.nonce[1].store(identity.nonce[1], Ordering::Relaxed);
        self.header().status.state.store(OPEN, Ordering::Relaxed);
        fixed.magic.store(DATA_MAGIC, Ordering::Relaxed);
    }

    /// Whether only readers that can call for a barrier may join: [`Producer::with_barriers`](crate::Producer::with_barriers).
    pub fn needs_barriers(&self) -> bool {
        self.header().fixed.barriers.load(Ordering::Relaxed) != 0
    }

    /// Whether the publisher has closed the topic in good order.
    pub fn closed(&self) -> bool {
        // SYNC: pairs with the release in `Producer::close`: a load that sees `CLOSED` also sees the last `head`.
        self.header().status.state.load(Ordering::Acquire) == CLOSED
    }

    /// The publisher's running totals. They are read one after the other, while the publisher goes on counting.
    pub fn counters(&self) -> PublisherCounters {
        let header = self.header();
        let counters = &header.counters;
        let read = |word: &crate::sync::AtomicU64| word.load(Ordering::Relaxed);
        PublisherCounters {
            messages: read(&counters.messages),
            bytes: read(&counters.bytes),
            full: read(&counters.full),
            dropped: read(&counters.dropped),
            rings: read(&counters.rings),
            evicted: read(&counters.evicted),
            reaped: read(&counters.reaped),
            high_water: read(&counters.high_water),
            fragments: read(&counters.fragments),
            head: read(&header.head.end),
            floor: read(&header.floor),
            closed: self.closed(),
        }
    }
}

impl ControlMemory {
    /// # Safety
    ///
    /// `base` must point to `control_len(max_slots, page)` bytes, mapped readable and writable for as long as this
    /// view or anything made from it is used.
    #[cfg(not(any(loom, miri)))]
    #[allow(unsafe_code)]
    pub unsafe fn from_raw(base: NonNull<u8>, max_slots: usize) -> Self {
        // SAFETY: the caller promised `control_len` bytes; the slots begin at `SLOTS_OFFSET` of them.
        let slots = unsafe { base.add(SLOTS_OFFSET) };
        Self { header: base.cast(), slots: slots.cast(), max_slots }
    }

    /// A control segment on the heap that is never freed, for models and Miri.
    #[cfg(any(loom, miri))]
    pub fn leaked(max_slots: usize) -> Self {
        let slots: Box<[Slot]> = (0..max_slots).map(|_| Slot::default()).collect();
        Self {
            header: NonNull::from(Box::leak(Box::default())),
            slots: NonNull::from(Box::leak(slots)).cast(),
            max_slots,
        }
    }

    #[allow(unsafe_code)]
    pub(crate) fn header(&self) -> &ControlHeader {
        // SAFETY: mapped for as long as the view lives; it contains only atomics (I1).
        unsafe { self.header.as_ref() }
    }

    /// `None` past the last slot.
    #[allow(unsafe_code)]
    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        // SAFETY: `index` is below the number of slots, and the maker of the view promised that all slots are mapped
        // (I1).
        (index < self.max_slots).then(|| unsafe { self.slots.add(index).as_ref() })
    }

    /// Number of slots.
    pub fn max_slots(&self) -> usize {
        self.max_slots
    }

    /// Whether the slot looks free. A hint for a process that looks for one to lock: only the lock decides.
    pub fn looks_free(&self, index: usize) -> bool {
        self.slot(index).is_some_and(|slot| slot.word().state() == SlotState::Free)
    }

    /// What a slot holds, for a process that looks for one to lock.
    pub fn vacancy(&self, index: usize) -> Option<Vacancy> {
        self.slot(index).map(Slot::vacancy)
    }

    /// The slot that holds the position of a durable name, or the record that it was lost. The position comes first.
    /// There is at most one, because a process that joins under a name holds the lock on that name.
    pub fn slot_of(&self, name_hash: u64) -> Option<usize> {
        let holding = |kind| {
            (0..self.max_slots).find(|&index| {
                self.slot(index).is_some_and(|slot| {
                    slot.name_hash.load(Ordering::Relaxed) == name_hash && slot.vacancy() == kind
                })
            })
        };
        holding(Vacancy::Kept).or_else(|| holding(Vacancy::Lost))
    }

    /// The slots in use, for statistics; backlogs count from `head`. Slots in the state joining are left out: a caller
    /// that waits for a subscriber would otherwise send messages before the subscriber's first position. Allocates
    /// nothing.
    pub fn slots(&self, head: u64) -> impl Iterator<Item = SlotView> + '_ {
        let views = (0..self.max_slots).filter_map(move |index| self.view(index, head));
        views.filter(|view| view.state != SlotState::Joining)
    }

    /// How many messages the present or last holder of the slot has received or missed, as it states.
    pub fn taken(&self, index: usize) -> Option<u64> {
        let slot = self.slot(index)?;
        let (received, missed) = (slot.received.load(Ordering::Relaxed), slot.missed.load(Ordering::Relaxed));
        Some(received.saturating_add(missed))
    }

    /// One slot, unless it is free.
    pub(crate) fn view(&self, index: usize, head: u64) -> Option<SlotView> {
        let slot = self.slot(index)?;
        let state = slot.word().state();
        (state != SlotState::Free).then(|| SlotView {
            index,
            state,
            backlog: head.saturating_sub(slot.cursor.load(Ordering::Relaxed)),
            received: slot.received.load(Ordering::Relaxed),
            missed: slot.missed.load(Ordering::Relaxed),
            wakeups: slot.wakeups.load(Ordering::Relaxed),
            name_hash: slot.name_hash.load(Ordering::Relaxed),
            pending: slot
                .delivered
                .load(Ordering::Relaxed)
                .saturating_sub(slot.acknowledged.load(Ordering::Relaxed)),
            flushed: slot.flushed.load(Ordering::Relaxed),
            redelivered: slot.redelivered.load(Ordering::Relaxed),
            pid: slot.pid.load(Ordering::Relaxed),
            way: slot.rung.load(Ordering::Relaxed),
        })
    }

    /// Writes the header of a guest's own segment, and the first generation of its slot. No two guests of one guest
    /// slot may have the same generation. The segment is still private to the caller and zeroed.
    pub fn prepare_for_guest(&self, identity: &Identity, generation: u64) {
        self.initialise(&Identity { max_slots: self.max_slots, ..*identity });
        if let Some(slot) = self.slot(0) {
            slot.begin(generation);
        }
    }

    /// Tells a guest in its own segment that the publisher goes on without it. Does nothing if the guest has left.
    pub fn evict_guest(&self) {
        if let Some(slot) = self.slot(0) {
            slot.evict();
        }
    }

    /// Compares the header with what the publisher's record announced.
    ///
    /// # Errors
    ///
    /// [`Error`] names what differs.
    pub fn check(&self, expected: &Identity) -> Result<(), Error> {
        let fixed = &self.header().fixed;
        if fixed.magic.load(Ordering::Relaxed) != CONTROL_MAGIC {
            return Err(Error::NotRingbell);
        }
        version(fixed.version.load(Ordering::Relaxed))?;
        same("number of slots", fixed.max_slots.load(Ordering::Relaxed).into(), expected.max_slots as u64)?;
        same("nonce", fixed.nonce[0].load(Ordering::Relaxed), expected.nonce[0])?;
        same("nonce", fixed.nonce[1].load(Ordering::Relaxed), expected.nonce[1])
    }

    pub(crate) fn initialise(&self, identity: &Identity) {
        let fixed = &self.header().fixed;
        fixed.version.store(VERSION, Ordering::Relaxed);
        fixed.max_slots.store(identity.max_slots as u32, Ordering::Relaxed);
        fixed.nonce[0].store(identity.nonce[0], Ordering::Relaxed);
        fixed.nonce[1].store(identity.nonce[1], Ordering::Relaxed);
        fixed.magic.store(CONTROL_MAGIC, Ordering::Relaxed);
    }
}

fn version(theirs: u32) -> Result<(), Error> {
    if theirs == VERSION { Ok(()) } else { Err(Error::Version { ours: VERSION, theirs }) }
}

fn same(field: &'static str, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::Mismatch { field }) }
}

/// The frames area, addressed by position: bytes since the topic began.
#[derive(Clone, Copy)]
pub(crate) struct Frames {
    #[cfg(not(any(loom, miri)))]
    base: NonNull<u8>,
    #[cfg(any(loom, miri))]
    words: &'static [AtomicU64],
    capacity: usize,
}

impl Frames {
    /// The offset of a position, in bytes from the start of the area.
    pub(crate) fn offset(self, position: u64) -> usize {
        position as usize & (self.capacity - 1)
    }
}

#[cfg(not(any(loom, miri)))]
#[allow(unsafe_code)]
impl Frames {
    /// Reads the aligned word at `position`.
    pub(crate) fn load(self, position: u64) -> u64 {
        let offset = self.offset(position) & !7;
        // SAFETY: `offset` is within the area and 8-byte aligned, and the area is mapped (I1). It is an atomic, because
        // another process may be writing it.
        unsafe { self.base.add(offset).cast::<crate::sync::AtomicU64>().as_ref() }.load(Ordering::Relaxed)
    }

    /// Writes the aligned word at `position`. Publisher only.
    pub(crate) fn store(self, position: u64, word: u64) {
        let offset = self.offset(position) & !7;
        // SAFETY: as in `load`; a publisher's mapping is writable (I1).
        unsafe { self.base.add(offset).cast::<crate::sync::AtomicU64>().as_ref() }
            .store(word, Ordering::Relaxed);
    }

    /// Copies `bytes` to `position`.
    ///
    /// # Safety
    ///
    /// The mapping is writable, and `bytes` are at most the capacity. No subscriber may still read what lay there:
    /// `floor` has passed it (I4).
    pub(crate) unsafe fn write(self, position: u64, bytes: &[u8]) {
        // SAFETY: the area is mapped twice in a row, so `capacity` bytes from any offset are mapped. The source is
        // the caller's own.
        unsafe {
            self.base
                .add(self.offset(position))
                .as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        }
    }

    /// The bytes at `position`, to be written in place.
    ///
    /// # Safety
    ///
    /// As for `write`, for `len` bytes. Nothing else in this process may write them while the borrow lives.
    pub(crate) unsafe fn slice_mut<'a>(self, position: u64, len: usize) -> &'a mut [u8] {
        // SAFETY: mapped twice in a row, so `len` bytes from any offset are mapped. The caller promises that the borrow
        // is exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.base.add(self.offset(position)).as_ptr(), len) }
    }

    /// Copies `len` bytes from `position` to private memory. The copy may be torn. So the caller makes an acquire
    /// fence, loads `floor`, and uses only what lies above it (I5).
    ///
    /// # Safety
    ///
    /// `to` is private memory of at least `len` bytes; `len` is at most the capacity.
    pub(crate) unsafe fn read(self, position: u64, to: *mut u8, len: usize) {
        // SAFETY: mapped twice in a row, as in `write`. The caller promises the target.
        unsafe { to.copy_from_nonoverlapping(self.base.add(self.offset(position)).as_ptr(), len) }
    }
}

#[cfg(any(loom, miri))]
#[allow(unsafe_code)]
impl Frames {
    fn word(self, position: u64) -> &'static AtomicU64 {
        &self.words[self.offset(position) / 8]
    }

    pub(crate) fn load(self, position: u64) -> u64 {
        self.word(position).load(Ordering::Relaxed)
    }

    pub(crate) fn store(self, position: u64, word: u64) {
        self.word(position).store(word, Ordering::Relaxed);
    }

    /// # Safety
    ///
    /// No condition here. The signature is that of the function for a real machine.
    pub(crate) unsafe fn write(self, position: u64, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.store(position + 8 * index as u64, u64::from_le_bytes(word));
        }
    }

    /// # Safety
    ///
    /// `to` has room for `len` bytes.
    pub(crate) unsafe fn read(self, position: u64, to: *mut u8, len: usize) {
        let mut done = 0;
        while done < len {
            let at = position + done as u64;
            let word = self.load(at).to_le_bytes();
            let word = &word[(at & 7) as usize..];
            let count = (len - done).min(word.len());
            // SAFETY: `done + count <= len`, which the caller promised to be there.
            unsafe { to.add(done).copy_from_nonoverlapping(word.as_ptr(), count) };
            done += count;
        }
    }
}
