//! Private memory that a batch is prepared in, where preparing it in the ring would give up messages too early.
//!
//! JS holds a view of it and may write at any time, so it is never looked at through a reference: `copy_to` copies out.

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

    /// Where it begins; valid for as long as this buffer lives.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies as many bytes as `target` takes, from the start.
    pub(crate) fn copy_to(&self, target: &mut [u8]) {
        let len = target.len().min(self.len());
        // SAFETY: `len` bytes are mapped; a raw copy, because JS on the same thread may hold a view (and on no other
        // thread: an ArrayBuffer belongs to one environment). `target` is a reference, so it cannot overlap.
        unsafe { target.as_mut_ptr().copy_from_nonoverlapping(self.map.as_mut_ptr(), len) }
    }
}
