//! The offset of every word in both segments. A change here also changes [`VERSION`] and `docs/protocol.md`.
//!
//! Invariant: words that different processes write never share a 128-byte line. Most x86-64 processors prefetch two
//! adjacent 64-byte lines together, and some arm64 processors have lines of 128 bytes. The assertions at the end
//! check the offsets. Used by all of this crate; this file has no behaviour.

#[cfg(not(loom))]
use crate::slot::Slot;
use crate::sync::{AtomicU32, AtomicU64};

/// First eight bytes of a data segment: `RINGBELL` in ASCII.
pub const DATA_MAGIC: u64 = u64::from_le_bytes(*b"RINGBELL");
/// First eight bytes of a control segment: `RINGCTRL` in ASCII.
pub const CONTROL_MAGIC: u64 = u64::from_le_bytes(*b"RINGCTRL");
/// Version of layout and protocol. A peer with another version is refused.
pub const VERSION: u32 = 3;
/// Smallest capacity of the frames area, in bytes.
pub const MIN_CAPACITY: usize = 4 << 10;
/// Largest capacity of the frames area, in bytes.
pub const MAX_CAPACITY: usize = 1 << 30;
/// Most slots that a control segment can have.
pub const MAX_SLOTS: usize = 1024;
/// How many slots share a doorbell. 1,024 slots then have 64 doorbells, one for each bit of the sleepers' word.
pub const SLOTS_PER_DOORBELL: usize = 16;
/// The byte of the control segment whose write lock proves that the publisher is alive.
pub const PUBLISHER_LOCK_BYTE: u64 = 0;
/// Where the first slot begins in the control segment.
pub const SLOTS_OFFSET: usize = 512;
/// Bytes of a slot.
pub const SLOT_LEN: usize = 128;
/// Value of `state` in the data segment while the publisher may still commit.
pub const OPEN: u32 = 0;
/// Value of `state` in the data segment once the publisher has closed the topic in good order.
pub const CLOSED: u32 = 1;

/// Positions at or above this are not believed. No publisher lives long enough to write so many bytes. Below it, no sum
/// of a position and a length overflows.
pub(crate) const END_OF_TIME: u64 = 1 << 62;

/// What happens when the slowest subscriber leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Overflow {
    /// The message is not accepted; nothing that was accepted is lost.
    Block = 0,
    /// The oldest messages are overwritten. A subscriber that had not read them learns how many it missed.
    DropOldest = 1,
    /// The message is dropped for everybody and counted.
    DropNewest = 2,
}

/// Header of the data segment, written by the publisher alone.
#[derive(Default)]
#[repr(C)]
pub(crate) struct DataHeader {
    pub(crate) fixed: Line<DataFixed>,
    pub(crate) head: Line<Head>,
    /// Start of the oldest batch that is still whole.
    pub(crate) floor: Line<AtomicU64>,
    pub(crate) status: Line<Status>,
    pub(crate) counters: Line<Counters>,
}

/// Words that the publisher seldom writes.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Status {
    /// [`OPEN`] or [`CLOSED`].
    pub(crate) state: AtomicU32,
    /// 1 while the publisher commits without a full fence. A reader then calls for a barrier before it sleeps (I9).
    pub(crate) unfenced: AtomicU32,
}

/// `head`, between two copies of the sequence that belongs to it. If a reader finds both copies equal, they belong to the
/// `head` between them (I7). So a joiner knows which message it will get first. If it is lapped before that message, it
/// knows how many it missed. `last` leads a reader that wants only the newest batch straight to it.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Head {
    /// End of the last committed batch.
    pub(crate) end: AtomicU64,
    /// Sequence of the message that begins after that batch, stored before `end`.
    pub(crate) before: AtomicU64,
    /// The same, stored after `end`.
    pub(crate) after: AtomicU64,
    /// Where the last committed batch begins, stored after `end`. So it is at most as new as `end` (I14).
    pub(crate) last: AtomicU64,
}

/// Written once, before another process can map the segment.
#[derive(Default)]
#[repr(C)]
pub(crate) struct DataFixed {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    pub(crate) overflow: AtomicU32,
    pub(crate) capacity: AtomicU64,
    pub(crate) max_slots: AtomicU32,
    /// 1 if the publisher may commit without a full fence, so that only readers that can call for a barrier may join.
    pub(crate) barriers: AtomicU32,
    pub(crate) nonce: [AtomicU64; 2],
}

/// The publisher's running totals, for tools that inspect the topic.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) full: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) rings: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) reaped: AtomicU64,
    pub(crate) high_water: AtomicU64,
    pub(crate) fragments: AtomicU64,
}

/// Header of the control segment. The slots follow at [`SLOTS_OFFSET`].
#[derive(Default)]
#[repr(C)]
pub(crate) struct ControlHeader {
    pub(crate) fixed: Line<ControlFixed>,
    /// One bit for each doorbell. A set bit means that a subscriber of that doorbell may be asleep.
    pub(crate) sleepers: Line<AtomicU64>,
    /// 1 while the publisher waits for room.
    pub(crate) publisher_waiting: Line<AtomicU32>,
    /// 1 while the publisher wants to hear of subscribers that come and leave.
    pub(crate) publisher_listening: Line<AtomicU32>,
}

/// Written once by the publisher, before another process can map the segment.
#[derive(Default)]
#[repr(C)]
pub(crate) struct ControlFixed {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    pub(crate) max_slots: AtomicU32,
    pub(crate) nonce: [AtomicU64; 2],
}

/// A value on lines of its own.
#[derive(Default)]
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

impl<T> core::ops::Deref for Line<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Length of a data segment: one page of header, then the frames.
///
/// `page` is the machine's page size; peers share a machine, so they agree on it.
pub const fn data_len(capacity: usize, page: usize) -> usize {
    page + capacity
}

/// Length of a control segment with `slots` slots, rounded up to whole pages.
pub const fn control_len(slots: usize, page: usize) -> usize {
    (SLOTS_OFFSET + slots * SLOT_LEN).next_multiple_of(page)
}

/// Number of doorbells that a topic with `slots` slots has.
pub const fn doorbells(slots: usize) -> usize {
    slots.div_ceil(SLOTS_PER_DOORBELL)
}

/// The byte of the control segment whose write lock proves that the owner of `slot` is alive.
pub const fn slot_lock_byte(slot: usize) -> u64 {
    (SLOTS_OFFSET + slot * SLOT_LEN) as u64
}

/// The byte for a durable name, by its hash. It lies behind the end of the control segment. The process with the write
/// lock on it is the only holder of that name.
pub const fn name_lock_byte(name_hash: u64) -> u64 {
    1 << 62 | name_hash >> 2
}

// loom's atomics are larger than the processor's, and its models share no memory with other processes.
#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(offset_of!(DataHeader, head) == 128);
    assert!(offset_of!(DataHeader, floor) == 256);
    assert!(offset_of!(DataHeader, status) == 384);
    assert!(offset_of!(DataHeader, counters) == 512);
    assert!(size_of::<DataHeader>() == 640);
    assert!(offset_of!(ControlHeader, sleepers) == 128);
    assert!(offset_of!(ControlHeader, publisher_waiting) == 256);
    assert!(offset_of!(ControlHeader, publisher_listening) == 384);
    assert!(size_of::<ControlHeader>() == SLOTS_OFFSET);
    assert!(size_of::<Slot>() == SLOT_LEN);
};

/// Whether a peer's word can be a position in the stream of frames.
pub(crate) fn is_position(word: u64) -> bool {
    word.is_multiple_of(8) && word < END_OF_TIME
}
