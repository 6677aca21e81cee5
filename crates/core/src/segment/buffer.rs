//! Private memory in which a batch is prepared, when preparing it in the ring would give up messages too early.
//!
//! JS holds a view of this memory and may write at any time. So it is never accessed through a reference: `copy_to`
//! copies out of it. Publishers call this.

#![allow(unsafe_code)]

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;

use crate::error::{Error, Result};

/// Zeroed private memory of a fixed size.
#[derive(Debug)]
pub struct PrivateBuffer {
    map: MmapRaw,
}

impl PrivateBuffer {
    /// Maps `len` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Resource`] when memory ran out.
    pub fn new(len: usize) -> Result<Self> {
        let map = MmapOptions::new().len(len).map_anon().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::ENOMEM));
            Error::os("mmap", errno, "cannot map a batch's buffer")
        })?;
        Ok(Self { map: map.into() })
    }

    /// The address where it begins. It is valid as long as this buffer lives.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes from the start, as many as `target` takes.
    pub(crate) fn copy_to(&self, target: &mut [u8]) {
        let len = target.len().min(self.len());
        // SAFETY: `len` bytes are mapped. It is a raw copy, because JS on the same thread may hold a view. JS on
        // another thread cannot: an ArrayBuffer belongs to one environment. `target` is a reference, so it cannot
        // overlap.
        unsafe { target.as_mut_ptr().copy_from_nonoverlapping(self.map.as_mut_ptr(), len) }
    }
}
