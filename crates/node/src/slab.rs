//! Slabs: private memory that messages are copied into. Each is one external ArrayBuffer, and it is used again and
//! again.
//!
//! V8's finalizer returns a slab to its pool. So a stream of batches uses warm pages instead of fresh ones (5 instead
//! of 1.6 GB/s). Invariant: memory outlives its arrays. A slab owns an `Arc` of its pool, and unmaps itself when the
//! pool has enough. The pool never decides when to shrink: the caller that knows of a quiet time calls `trim`.
#![allow(unsafe_code)] // the reason: mmap, and memory handed to V8

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::Unknown;
use napi::{Env, sys};
use napi_derive::napi;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::buffer::{self, Memory, account};
use crate::errors::{Failure, Result, cold};

const SMALLEST: usize = 64 << 10;
const LARGEST: usize = 4 << 20;
const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;
/// The most memory that a pool keeps between two `trim`s by default.
const KEEP: usize = 64 << 20;

/// A mapping of its own, unmapped on drop.
struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: private memory that belongs to the owner of the mapping. Nothing in it is bound to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(length: usize) -> Result<Self> {
        let length = NonZeroUsize::new(length).ok_or_else(|| Failure::argument("a slab of no bytes"))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
        // SAFETY: a fresh anonymous mapping at an address that the kernel chooses touches no existing memory.
        let start =
            unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) };
        let start = start.map_err(|errno| Failure::system("mmap", errno))?;
        Ok(Self { start: start.cast(), length })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, whose only owner is being dropped. After a failure it stays
        // mapped.
        let _ = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}

#[derive(Default)]
struct Shelves {
    free: [Vec<Mapping>; CLASSES],
    free_bytes: usize,
    out_bytes: usize,
    made: u64,
    reused: u64,
}

struct Pool {
    shelves: Mutex<Shelves>,
    keep: usize,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size class for `bytes`, and its size. `None` for a size above all classes.
    fn class(bytes: usize) -> Option<(usize, usize)> {
        let size = bytes.max(SMALLEST).checked_next_power_of_two().filter(|size| *size <= LARGEST)?;
        Some(((size / SMALLEST).ilog2() as usize, size))
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Result<Slab> {
        let class = Self::class(bytes);
        let size = match class {
            Some((_, size)) => size,
            None => bytes
                .checked_next_multiple_of(SMALLEST)
                .ok_or_else(|| Failure::argument("a slab too large"))?,
        };
        let mut shelves = self.lock();
        let found = class.and_then(|(class, _)| shelves.free[class].pop());
        if found.is_some() {
            shelves.free_bytes -= size;
            shelves.reused += 1;
        } else {
            shelves.made += 1;
        }
        shelves.out_bytes += size;
        drop(shelves);
        let mapping = match found {
            Some(mapping) => mapping,
            None => Mapping::new(size).inspect_err(|_| self.lock().out_bytes -= size)?,
        };
        Ok(Slab { mapping: Some(mapping), size, pool: self.clone() })
    }

    fn give(&self, mapping: Mapping) {
        let size = mapping.length.get();
        let mut shelves = self.lock();
        shelves.out_bytes -= size;
        if let Some((class, _)) = Self::class(size).filter(|(_, exact)| *exact == size)
            && shelves.free_bytes + size <= self.keep
        {
            shelves.free_bytes += size;
            shelves.free[class].push(mapping);
            return;
        }
        drop(shelves);
        drop(mapping);
    }

    fn trim(&self, keep: usize) {
        let mut dropped = Vec::new();
        let mut shelves = self.lock();
        for class in (0..CLASSES).rev() {
            while shelves.free_bytes > keep {
                let Some(mapping) = shelves.free[class].pop() else { break };
                shelves.free_bytes -= mapping.length.get();
                dropped.push(mapping);
            }
        }
    }
}

/// Memory on loan from a pool. The drop returns it.
struct Slab {
    mapping: Option<Mapping>,
    size: usize,
    pool: Arc<Pool>,
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let Some(mapping) = self.mapping.take() {
            self.pool.give(mapping);
        }
    }
}

/// A slab, and the environment whose garbage collector counts it.
struct Accounted {
    slab: Slab,
    start: NonNull<u8>,
    env: Env,
}

// SAFETY: a slab's mapping does not move and lives as long as the slab. Rust keeps no reference to it.
unsafe impl Memory for Accounted {
    fn memory(&self) -> (NonNull<u8>, usize) {
        (self.start, self.slab.size)
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        account(self.env, -(self.slab.size as i64));
    }
}

/// A pool of slabs; one per environment is enough.
#[napi]
pub struct NativeSlabPool {
    pool: Arc<Pool>,
    external: bool,
}

#[napi]
impl NativeSlabPool {
    /// `keep_bytes`: how much unused memory the pool keeps at most (64 MiB by default).
    #[napi(constructor)]
    pub fn new(env: Env, keep_bytes: Option<u32>) -> napi::Result<Self> {
        cold(env, || {
            let keep = keep_bytes.map_or(KEEP, |bytes| bytes as usize);
            let pool = Arc::new(Pool { shelves: Mutex::default(), keep });
            let external = buffer::external(env, accounted(env, pool.take(SMALLEST)?)?)?.is_ok();
            Ok(Self { pool, external })
        })
    }

    /// Whether slabs are external. Otherwise `take` returns ordinary arrays, and nothing is pooled.
    #[napi(getter)]
    pub fn external(&self) -> bool {
        self.external
    }

    /// A `Uint8Array` of at least `min_bytes`. It still holds the bytes of its last use.
    #[napi(ts_return_type = "Uint8Array")]
    pub fn take(&self, env: Env, min_bytes: u32) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let bytes = (min_bytes as usize).max(1);
            if self.external {
                let slab = accounted(env, self.pool.take(bytes)?)?;
                let length = slab.slab.size;
                if let Ok(buffer) = buffer::external(env, slab)? {
                    let array = buffer::typed(env, sys::TypedarrayType::uint8_array, length, buffer)?;
                    return Ok(buffer::unknown(env, array));
                }
            }
            let length = Pool::class(bytes).map_or(bytes, |(_, size)| size);
            let (buffer, _) = buffer::own(env, length)?;
            let array = buffer::typed(env, sys::TypedarrayType::uint8_array, length, buffer)?;
            Ok(buffer::unknown(env, array))
        })
    }

    /// Gives unused memory back to the system, except for `keep_bytes` (4 MiB by default).
    #[napi]
    pub fn trim(&self, keep_bytes: Option<u32>) {
        self.pool.trim(keep_bytes.map_or(LARGEST, |bytes| bytes as usize));
    }

    /// JSON: unused bytes, bytes in use, slabs made, slabs used again.
    #[napi]
    pub fn stats(&self) -> String {
        let shelves = self.pool.lock();
        serde_json::json!({
            "external": self.external,
            "freeBytes": shelves.free_bytes,
            "usedBytes": shelves.out_bytes,
            "made": shelves.made,
            "reused": shelves.reused,
        })
        .to_string()
    }
}

fn accounted(env: Env, slab: Slab) -> Result<Accounted> {
    let start = slab.mapping.as_ref().map(|mapping| mapping.start);
    let start = start.ok_or_else(|| Failure::Internal("a slab without memory".to_owned()))?;
    account(env, slab.size as i64);
    Ok(Accounted { slab, start, env })
}
