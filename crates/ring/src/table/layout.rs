//! The offset of every word of a table. A change here also changes `VERSION` and `docs/protocol.md`.
//!
//! A table is a header, then a line for each cell, then 512 bytes for each member. Words that different processes write
//! at a high rate never share a 128-byte line. Used by the rest of `table`; this file has no behaviour.

use super::words::REQUESTS;
use crate::layout::Line;
use crate::sync::mortal::{AtomicU32, AtomicU64};

/// First eight bytes of a table: `RINGSYNC` in ASCII.
pub const TABLE_MAGIC: u64 = u64::from_le_bytes(*b"RINGSYNC");
/// Where the first cell begins.
pub(super) const CELLS_OFFSET: usize = 512;
/// Bytes of a cell.
pub(super) const CELL_LEN: usize = 128;
/// Bytes of a member.
pub(super) const MEMBER_LEN: usize = 512;

#[derive(Default)]
#[repr(C)]
pub(super) struct Header {
    pub(super) fixed: Line<Fixed>,
    /// The next ticket. Only the order of requests depends on it.
    pub(super) tickets: Line<AtomicU64>,
    pub(super) membership: Line<Membership>,
    pub(super) _reserved: Line<AtomicU64>,
}

/// Written once, before another process can map the memory.
#[derive(Default)]
#[repr(C)]
pub(super) struct Fixed {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) kind: AtomicU32,
    pub(super) cells: AtomicU32,
    pub(super) members: AtomicU32,
    pub(super) permits: AtomicU32,
    pub(super) _reserved: AtomicU32,
    pub(super) nonce: [AtomicU64; 2],
}

#[derive(Default)]
#[repr(C)]
pub(super) struct Membership {
    /// One more than the highest number that a member ever had. A scan ends there.
    pub(super) high: AtomicU32,
    /// How often a member came. Who watches for deaths looks for new members when it changes.
    pub(super) joins: AtomicU32,
}

#[derive(Default)]
#[repr(C, align(128))]
pub(super) struct Cell {
    pub(super) gate: AtomicU64,
    /// The value of a flag.
    pub(super) value: AtomicU32,
}

/// A member: the process with the write lock on the first of these bytes.
#[derive(Default)]
#[repr(C)]
pub(super) struct Member {
    pub(super) own: Line<Own>,
    /// Counted up when something has happened for the member. Its threads sleep on it (a futex).
    pub(super) bell: Line<AtomicU32>,
    pub(super) requests: [Place; REQUESTS],
}

/// Written by the member, or by the process that cleans up after it.
#[derive(Default)]
#[repr(C)]
pub(super) struct Own {
    /// Generation in the upper 56 bits, then 1 while a process has the place, else 0.
    pub(super) word: AtomicU64,
    /// Permits, or shared holds, that the member has.
    pub(super) held: AtomicU64,
    pub(super) pid_namespace: AtomicU64,
    pub(super) pid: AtomicU32,
    /// One bit for each place of `requests` that is worth a look.
    pub(super) asking: AtomicU32,
}

/// A place for a request.
#[derive(Default)]
#[repr(C)]
pub(super) struct Place {
    pub(super) word: AtomicU64,
    /// Stored before the word.
    pub(super) ticket: AtomicU64,
    /// How often its owner woke up and found the cell taken.
    pub(super) lost: AtomicU64,
    pub(super) _reserved: AtomicU64,
}

/// Length of a table, rounded up to whole pages.
pub const fn table_len(cells: usize, members: usize, page: usize) -> usize {
    (CELLS_OFFSET + cells * CELL_LEN + members * MEMBER_LEN).next_multiple_of(page)
}

/// The byte of the table whose write lock proves that the member is alive.
pub const fn member_lock_byte(cells: usize, member: usize) -> u64 {
    (CELLS_OFFSET + cells * CELL_LEN + member * MEMBER_LEN) as u64
}

// loom's atomics are larger than the processor's.
#[cfg(not(loom))]
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Header>() == CELLS_OFFSET);
    assert!(offset_of!(Header, tickets) == 128);
    assert!(offset_of!(Header, membership) == 256);
    assert!(size_of::<Cell>() == CELL_LEN);
    assert!(size_of::<Member>() == MEMBER_LEN);
    assert!(offset_of!(Member, bell) == 128);
    assert!(offset_of!(Member, requests) == 256);
    assert!(size_of::<Place>() == 32);
};
