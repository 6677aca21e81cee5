//! Memory that two processes of a floor share, and the C-like ring over it: one publisher, one subscriber,
//! no discovery, no wake-up, no distrust.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;

use crate::Outcome;
use crate::oneway::Outlet;

const LINE: usize = 128;
const FRAMES: usize = 4096;

/// A mapped file: two counters on lines of their own, then the frames.
pub struct Shared {
    map: MmapRaw,
}

impl Shared {
    pub fn open(path: &Path, frames: usize) -> Outcome<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len((FRAMES + frames) as u64)?;
        let map = MmapRaw::map_raw(&file)?;
        // The first touch of a page is not what a floor measures.
        for at in (0..map.len()).step_by(4096) {
            // SAFETY: `at` is inside the mapping; both processes only read here, so no value changes.
            unsafe { map.as_mut_ptr().add(at).read_volatile() };
        }
        Ok(Self { map })
    }

    /// Counter `which` (0, 1, 2 …), each on a 128-byte line.
    pub fn counter(&self, which: usize) -> &AtomicU64 {
        assert!((which + 1) * LINE <= FRAMES);
        // SAFETY: in bounds, aligned to 128, and only ever accessed as an AtomicU64 by both processes.
        unsafe { &*self.map.as_mut_ptr().add(which * LINE).cast::<AtomicU64>() }
    }

    fn frames(&self) -> *mut u8 {
        // SAFETY: the mapping is at least FRAMES long (see `open`).
        unsafe { self.map.as_mut_ptr().add(FRAMES) }
    }
}

/// The ring: an 8-byte header and the payload, frames of one fixed size.
pub struct Ring {
    shared: Shared,
    stride: usize,
    slots: u64,
    own: u64,
    other: u64,
    /// Where the next frame lies, in bytes.
    at: usize,
}

impl Ring {
    pub fn open(path: &Path, capacity: usize, size: usize) -> Outcome<Self> {
        let stride = (8 + size).next_multiple_of(8);
        let slots = (capacity / stride) as u64;
        Ok(Self { shared: Shared::open(path, capacity)?, stride, slots, own: 0, other: 0, at: 0 })
    }

    #[inline]
    fn next(&mut self) -> usize {
        let at = self.at;
        self.own += 1;
        self.at = if at + 2 * self.stride > self.slots as usize * self.stride { 0 } else { at + self.stride };
        at
    }

    #[inline]
    fn write(&mut self, message: &[u8]) -> bool {
        if self.own - self.other == self.slots {
            self.other = self.shared.counter(1).load(Ordering::Acquire);
            if self.own - self.other == self.slots {
                return false;
            }
        }
        assert!(message.len() + 8 <= self.stride);
        let at = self.next();
        // SAFETY: `at + stride` is within the frames; the subscriber gave this frame back (counter 1, above).
        unsafe {
            let frame = self.shared.frames().add(at);
            frame.cast::<u64>().write(message.len() as u64);
            frame.add(8).copy_from_nonoverlapping(message.as_ptr(), message.len());
        }
        true
    }

    /// Subscriber: hands every frame there is to `look`, then gives them back at once. Gives how many.
    #[inline]
    pub fn drain(&mut self, mut look: impl FnMut(&[u8])) -> u64 {
        self.other = self.shared.counter(0).load(Ordering::Acquire);
        let count = (self.other - self.own).min(256);
        for _ in 0..count {
            let at = self.next();
            // SAFETY: committed (counter 0, above) and not given back before the store below; the length is
            // ours, since both processes are this program.
            let message = unsafe {
                let frame = self.shared.frames().add(at);
                std::slice::from_raw_parts(frame.add(8), frame.cast::<u64>().read() as usize)
            };
            look(message);
        }
        if count > 0 {
            self.shared.counter(1).store(self.own, Ordering::Release);
        }
        count
    }
}

impl Outlet for Ring {
    /// Copies `message` into the next frame, not visible before `commit`.
    #[inline]
    fn push(&mut self, message: &[u8]) -> Outcome<bool> {
        Ok(self.write(message))
    }

    /// Once a message or once a batch: it is what a ring costs most.
    #[inline]
    fn commit(&mut self) -> Outcome<()> {
        self.shared.counter(0).store(self.own, Ordering::Release);
        Ok(())
    }
}
