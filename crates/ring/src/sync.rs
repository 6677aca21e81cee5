//! The only file that names atomics. Under `--cfg loom` they are loom's, so that the models in `tests/` explore every
//! ordering that the memory model allows; elsewhere they are the processor's. Everything else in the crate takes
//! them from here, and a check in CI keeps it so.

#[cfg(not(loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
