//! The reactor: one small control-plane thread a bus (*the bus thread*), around an epoll of its own.
//!
//! Whatever waits for a descriptor or a time is a [`Watched`] and is added through a [`Handle`]. The reactor knows none of them by
//! name. Invariants: nothing that is added outlives the thread, and a [`Watched`] that panics is dropped while the others go on.
//! A `Watched` never calls into JS and never waits for a peer. What an endpoint on another thread is told goes through its
//! [`Inbox`].

mod event_loop;
mod handle;
mod inbox;
#[cfg(test)]
pub(crate) mod tests;

use std::any::Any;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::error::Error;
use event_loop::EventLoop;

pub(crate) use event_loop::Owner;
pub(crate) use handle::Handle;
pub(crate) use inbox::{Inbox, NEWS};

/// Something on the bus thread that waits for a descriptor, for a time, or for both.
pub(crate) trait Watched: Any + Send {
    /// What to wait for (readable or hung up). Asked again after each `ready`, so it may change: but the descriptor that
    /// was given before must be closed by then or still be given, and no other process may hold a closed one open.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// The descriptor is readable or hung up, or the deadline passed. Must not block.
    fn ready(&mut self, thread: &mut Thread<'_>) -> Step;

    /// What to do when its descriptor cannot be waited for (memory or `max_user_watches` ran out): call `ready` after this
    /// pause and try again; `None`: it has `failed`.
    fn retry(&self) -> Option<Duration> {
        None
    }

    /// Asked when the thread is about to end, again and again: whether something is still to be handed over that was
    /// promised. As long as it is, and for a second at most, its `ready` is called as before.
    fn linger(&mut self) -> bool {
        false
    }

    /// It could not be waited for, or the thread has ended; it is dropped next.
    fn failed(&mut self, _error: &Error) {}
}

/// What a [`Watched`] wants next.
pub(crate) enum Step {
    /// To be called again when its descriptor is ready, or at the given time.
    Again(Option<Instant>),
    /// To be dropped.
    Finished,
}

/// The number of a [`Watched`] on its thread. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

/// The token of a [`Watched`] whose type is known, so that other threads can visit it ([`Handle::visit`]).
pub(crate) struct Resident<T> {
    token: Token,
    // Not `T`: the token may go to any thread.
    of: PhantomData<fn(T)>,
}

impl<T> Clone for Resident<T> {
    fn clone(&self) -> Resident<T> {
        *self
    }
}

impl<T> Copy for Resident<T> {}

/// What a callback on the thread may do with it.
pub(crate) struct Thread<'a> {
    event_loop: &'a mut EventLoop,
}

impl Thread<'_> {
    /// As [`Handle::add`], at once.
    pub(crate) fn add(&mut self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        self.event_loop.add_new(watched, deadline)
    }

    /// As [`Handle::remove`]; the one whose `ready` is running is dropped when that returns.
    pub(crate) fn remove(&mut self, token: Token) {
        self.event_loop.remove(token);
    }

    /// Stops waiting for a descriptor whose owner gives it away and is about to finish.
    pub(crate) fn forget(&mut self, fd: impl AsFd) {
        self.event_loop.forget(fd.as_fd());
    }

    /// A handle for other threads.
    pub(crate) fn handle(&self) -> Handle {
        self.event_loop.handle().clone()
    }
}

/// Runs foreign code; `None` when it panicked (the panic hook has reported that).
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Drops foreign code's value, which may panic too.
pub(crate) fn discard<T>(value: T) {
    contained(move || drop(value));
}
