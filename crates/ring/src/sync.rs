//! The atomics of this crate. No other file names them: `scripts/check-layers.mjs` keeps it so.
//!
//! Under `--cfg loom` they are loom's, so that the models in `tests/` explore every ordering that the memory model
//! allows. Otherwise they are the processor's.

#[cfg(not(loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
