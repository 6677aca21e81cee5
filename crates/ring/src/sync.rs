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

/// loom knows no barrier of another thread. `tests/it/barrier_model.rs` has a model that does.
#[cfg(loom)]
pub(crate) fn light_fence() {
    fence(Ordering::SeqCst);
}

/// The atomics of `table`. In a model, a thread that uses them can be told to die before its n-th access. That is how
/// a process dies between two steps: what it stored stays, and nothing follows. Or it is told to stand still there.
pub(crate) mod mortal {
    #[cfg(not(loom))]
    pub(crate) use super::{AtomicU32, AtomicU64};
    #[cfg(loom)]
    pub use deadly::{AtomicU32, AtomicU64, Died, lives, stands_still};

    #[cfg(loom)]
    mod deadly {
        extern crate std;
        use std::boxed::Box;
        use std::cell::Cell;
        use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

        use loom::sync::atomic::Ordering;

        enum Fate {
            Dies,
            /// This happens meanwhile.
            StandsStill(Box<dyn FnOnce()>),
        }

        loom::thread_local! {
            /// How many accesses the thread still has, and what follows.
            static LIFE: Cell<Option<(usize, Fate)>> = Cell::new(None);
        }

        /// The thread has died.
        #[derive(Debug, PartialEq, Eq)]
        pub struct Died;

        /// Runs `call` until it ends, or until it has made so many accesses.
        pub fn lives<T>(accesses: usize, call: impl FnOnce() -> T) -> Result<T, Died> {
            LIFE.with(|life| life.set(Some((accesses, Fate::Dies))));
            let result = catch_unwind(AssertUnwindSafe(call));
            LIFE.with(|life| life.set(None));
            result.map_err(|payload| match payload.downcast::<Died>() {
                Ok(_) => Died,
                Err(other) => resume_unwind(other),
            })
        }

        /// Runs `call`. After so many accesses, `meanwhile` runs first: what another thread does while this one stands still.
        /// False: `call` ended before.
        ///
        /// loom tries every interleaving that it believes to matter. It remembers one access to each word. So it overlooks
        /// a thread that reads a word, and then writes it, between two reads of another one.
        pub fn stands_still(
            accesses: usize,
            meanwhile: impl FnOnce() + 'static,
            call: impl FnOnce(),
        ) -> bool {
            LIFE.with(|life| life.set(Some((accesses, Fate::StandsStill(Box::new(meanwhile))))));
            call();
            LIFE.with(|life| life.take().is_none())
        }

        fn step() {
            match LIFE.with(|life| life.take()) {
                // Without the panic hook: this is no fault.
                Some((0, Fate::Dies)) => resume_unwind(Box::new(Died)),
                Some((0, Fate::StandsStill(meanwhile))) => meanwhile(),
                Some((left, fate)) => LIFE.with(|life| life.set(Some((left - 1, fate)))),
                None => {}
            }
        }

        macro_rules! mortal {
            ($name:ident, $type:ty) => {
                #[derive(Debug, Default)]
                pub struct $name(loom::sync::atomic::$name);

                // Not every type uses every operation.
                #[allow(dead_code)]
                impl $name {
                    pub fn load(&self, order: Ordering) -> $type {
                        step();
                        self.0.load(order)
                    }
                    pub fn store(&self, value: $type, order: Ordering) {
                        step();
                        self.0.store(value, order);
                    }
                    pub fn swap(&self, value: $type, order: Ordering) -> $type {
                        step();
                        self.0.swap(value, order)
                    }
                    pub fn fetch_add(&self, value: $type, order: Ordering) -> $type {
                        step();
                        self.0.fetch_add(value, order)
                    }
                    pub fn fetch_max(&self, value: $type, order: Ordering) -> $type {
                        step();
                        self.0.fetch_max(value, order)
                    }
                    pub fn fetch_or(&self, value: $type, order: Ordering) -> $type {
                        step();
                        self.0.fetch_or(value, order)
                    }
                    pub fn fetch_and(&self, value: $type, order: Ordering) -> $type {
                        step();
                        self.0.fetch_and(value, order)
                    }
                    pub fn compare_exchange(
                        &self,
                        current: $type,
                        new: $type,
                        success: Ordering,
                        failure: Ordering,
                    ) -> Result<$type, $type> {
                        step();
                        self.0.compare_exchange(current, new, success, failure)
                    }
                }
            };
        }
        mortal!(AtomicU32, u32);
        mortal!(AtomicU64, u64);
    }
}
