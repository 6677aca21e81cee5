//! The atomics of this crate. No other file names them: `scripts/check-layers.mjs` keeps it so.
//!
//! Under `--cfg loom` they are loom's, so that the models in `tests/` explore every ordering that the memory model
//! allows. Otherwise they are the processor's.

#[cfg(not(loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence};
#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Keeps the compiler from moving memory accesses past it. It is free: the processor may still do so. It is a full fence
/// as soon as another thread calls for a barrier of all processors (membarrier(2)).
#[cfg(not(loom))]
pub(crate) fn light_fence() {
    compiler_fence(Ordering::SeqCst);
}

/// loom knows no barrier of another thread. `tests/barrier_model.rs` has a model that does.
#[cfg(loom)]
pub(crate) fn light_fence() {
    fence(Ordering::SeqCst);
}
