//! The view of a table's memory, and what its header must say.
//!
//! A view is three addresses and a shape. Invariant (I1): its maker promises that the mapping outlives it. It holds
//! nothing but atomics. The crate above makes the view, after it has checked size and seals.

#[cfg(any(loom, miri))]
use alloc::boxed::Box;
use core::ptr::NonNull;

#[cfg(not(any(loom, miri)))]
use super::layout::{CELL_LEN, CELLS_OFFSET};
use super::layout::{Cell, Header, Member, TABLE_MAGIC};
use super::words::{MAX_CELLS, MAX_MEMBERS, MAX_PERMITS};
use crate::error::Error;
use crate::layout::VERSION;
use crate::sync::Ordering;
use crate::sync::mortal::AtomicU32;

/// What a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// One cell, which is held by one member alone, or by many in shared mode.
    Lock = 1,
    /// A number of permits.
    Semaphore = 2,
    /// A value of 32 bits.
    Flag = 3,
    /// Many cells, each of which is held by one member alone.
    Sharded = 4,
}

/// What the header of a table must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What the table is for.
    pub kind: Kind,
    /// Number of cells, 1 to [`MAX_CELLS`].
    pub cells: usize,
    /// Number of members, 1 to [`MAX_MEMBERS`].
    pub members: usize,
    /// Permits of a semaphore, 1 to [`MAX_PERMITS`]; otherwise 0.
    pub permits: u32,
    /// Random number that the records of all members name.
    pub nonce: [u64; 2],
}

impl Shape {
    /// Whether a table can have this shape.
    pub fn is_valid(&self) -> bool {
        let one = self.cells == 1;
        let fits = match self.kind {
            Kind::Lock | Kind::Flag => one && self.permits == 0,
            Kind::Semaphore => one && (1..=MAX_PERMITS).contains(&self.permits),
            Kind::Sharded => self.cells.is_power_of_two() && self.cells <= MAX_CELLS && self.permits == 0,
        };
        fits && (1..=MAX_MEMBERS).contains(&self.members)
    }
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub struct TableMemory {
    header: NonNull<Header>,
    cells: NonNull<Cell>,
    members: NonNull<Member>,
    shape: Shape,
}

// SAFETY: a view is addresses. All access through it is by atomics (I1).
#[allow(unsafe_code)]
unsafe impl Send for TableMemory {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for TableMemory {}

impl TableMemory {
    /// # Safety
    ///
    /// `base` points to [`table_len`](super::table_len) bytes for this shape, which is valid. They are aligned to 128
    /// and stay mapped writable for as long as this view or anything made from it is used.
    #[cfg(not(any(loom, miri)))]
    #[allow(unsafe_code)]
    pub unsafe fn from_raw(base: NonNull<u8>, shape: Shape) -> Self {
        // SAFETY: the caller promised that all of the table is mapped there.
        let (cells, members) =
            unsafe { (base.add(CELLS_OFFSET), base.add(CELLS_OFFSET + shape.cells * CELL_LEN)) };
        Self { header: base.cast(), cells: cells.cast(), members: members.cast(), shape }
    }

    /// A table on the heap that is never freed, for models and Miri.
    #[cfg(any(loom, miri))]
    pub fn leaked(shape: Shape) -> Self {
        let cells: Box<[Cell]> = (0..shape.cells).map(|_| Cell::default()).collect();
        let members: Box<[Member]> = (0..shape.members).map(|_| Member::default()).collect();
        Self {
            header: NonNull::from(Box::leak(Box::default())),
            cells: NonNull::from(Box::leak(cells)).cast(),
            members: NonNull::from(Box::leak(members)).cast(),
            shape,
        }
    }

    /// Writes the header of new memory, which is zero and which no other process has.
    pub fn begin(&self) {
        let fixed = &self.header().fixed;
        fixed.version.store(VERSION, Ordering::Relaxed);
        fixed.kind.store(self.shape.kind as u32, Ordering::Relaxed);
        fixed.cells.store(self.shape.cells as u32, Ordering::Relaxed);
        fixed.members.store(self.shape.members as u32, Ordering::Relaxed);
        fixed.permits.store(self.shape.permits, Ordering::Relaxed);
        for (word, value) in fixed.nonce.iter().zip(self.shape.nonce) {
            word.store(value, Ordering::Relaxed);
        }
        // Relaxed, because the descriptor travels through the kernel before another process sees any of it.
        fixed.magic.store(TABLE_MAGIC, Ordering::Relaxed);
    }

    /// Compares the header with what was announced.
    ///
    /// # Errors
    ///
    /// [`Error`] names what differs.
    pub fn check(&self) -> Result<(), Error> {
        let fixed = &self.header().fixed;
        if fixed.magic.load(Ordering::Relaxed) != TABLE_MAGIC {
            return Err(Error::NotRingbell);
        }
        let theirs = fixed.version.load(Ordering::Relaxed);
        if theirs != VERSION {
            return Err(Error::Version { ours: VERSION, theirs });
        }
        let read = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let same = |field, equal| if equal { Ok(()) } else { Err(Error::Mismatch { field }) };
        same("kind", read(&fixed.kind) == self.shape.kind as u32)?;
        same("number of cells", read(&fixed.cells) as usize == self.shape.cells)?;
        same("number of members", read(&fixed.members) as usize == self.shape.members)?;
        same("number of permits", read(&fixed.permits) == self.shape.permits)?;
        let nonce = fixed.nonce.iter().zip(self.shape.nonce);
        same("nonce", nonce.into_iter().all(|(word, value)| word.load(Ordering::Relaxed) == value))
    }

    /// The shape that this view was made with.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    #[allow(unsafe_code)]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the maker promised mapped memory, and it holds only atomics (I1).
        unsafe { self.header.as_ref() }
    }

    /// The cell. A number that is too large is taken modulo the number of cells.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn cell(&self, cell: usize) -> &Cell {
        // SAFETY: the index is below the number of cells that are mapped (I1).
        unsafe { self.cells.add(cell % self.shape.cells).as_ref() }
    }

    /// The member, or none for a number that is too large.
    #[inline]
    #[allow(unsafe_code)]
    pub(super) fn member(&self, member: usize) -> Option<&Member> {
        // SAFETY: the index is below the number of members that are mapped (I1).
        (member < self.shape.members).then(|| unsafe { self.members.add(member).as_ref() })
    }

    /// How many members a scan must look at.
    pub(super) fn high(&self) -> usize {
        // SYNC: pairs with the release of `join`, for a scan after the gate was taken. A member that is not seen here
        // has no request and no hold that was announced at the gate.
        (self.header().membership.high.load(Ordering::Acquire) as usize).min(self.shape.members)
    }
}
