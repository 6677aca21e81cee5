//! The handle of the registry, for other threads. A bus holds one.
//!
//! Invariant: every call runs on the bus thread, between its other work. After the call the registry asks again what it
//! has to wait for. A call does nothing once the thread has ended, and nothing in a forked child. A call that panics
//! ends the thread: see [`Registry`].

use std::sync::mpsc::channel;

use super::Registry;
use crate::reactor::{Handle, Resident, Step, Thread};

/// Cheap to clone. It does not keep the thread alive.
#[derive(Clone)]
pub(in crate::bus) struct RegistryHandle {
    handle: Handle,
    registry: Resident<Registry>,
}

/// Removes its sink when it is dropped. The drop returns when the thread has dropped the sink.
pub(crate) struct SinkGuard {
    registry: RegistryHandle,
    id: u64,
}

impl RegistryHandle {
    /// Adds the registry to the thread.
    pub(in crate::bus) fn add(handle: &Handle, registry: Registry) -> RegistryHandle {
        RegistryHandle { handle: handle.clone(), registry: handle.add_resident(registry) }
    }

    /// The thread that the registry lives on.
    pub(in crate::bus) fn thread(&self) -> &Handle {
        &self.handle
    }

    /// Runs `call` on the thread. False when the thread has ended.
    pub(in crate::bus) fn run(
        &self,
        call: impl FnOnce(&mut Registry, &mut Thread<'_>) + Send + 'static,
    ) -> bool {
        self.handle.visit(self.registry, |registry, thread| {
            call(registry, thread);
            Step::Again(registry.deadline())
        })
    }

    /// Runs `call` on the thread and waits for its result. `None` when the thread has ended or the caller is on the
    /// thread.
    pub(in crate::bus) fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Registry, &mut Thread<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        if self.handle.is_here() {
            return None;
        }
        let (answer, wait) = channel();
        self.run(move |registry, thread| drop(answer.send(call(registry, thread))));
        wait.recv().ok()
    }

    /// A guard for the sink with this number.
    pub(in crate::bus) fn guard(self, id: u64) -> SinkGuard {
        SinkGuard { registry: self, id }
    }
}

impl Drop for SinkGuard {
    fn drop(&mut self) {
        let id = self.id;
        let remove = move |registry: &mut Registry, thread: &mut Thread<'_>| registry.remove_sink(id, thread);
        if self.registry.handle.is_here() {
            self.registry.run(remove);
        } else {
            self.registry.ask(remove);
        }
    }
}
