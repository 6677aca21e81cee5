//! The reactor: one small control-plane thread for each bus (*the bus thread*), around an epoll of its own.
//!
//! An object that waits for a descriptor or a time is a [`Watched`], and is added through a [`Handle`]. The reactor
//! knows no concrete type of them. Invariants: no added object outlives the thread. A [`Watched`] that panics is
//! dropped, and the others go on. When an essential one is dropped, the thread ends. A `Watched` never calls into JS and
//! never waits for a peer. Notices to an endpoint on another thread go through its [`Inbox`].

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

/// An object on the bus thread that waits for a descriptor, for a time, or for both.
pub(crate) trait Watched: Any + Send {
    /// The descriptor to wait on (readable or hung up). It is asked for again after each `ready`, so it may change. But
    /// the previous descriptor must be closed by then or still be returned. No other process may hold a closed one
    /// open.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Called when the descriptor is readable or hung up, or when the deadline passed. It must not block.
    fn ready(&mut self, thread: &mut Thread<'_>) -> Step;

    /// What to do when the bus thread cannot wait on the descriptor (memory or `max_user_watches` ran out). `Some`:
    /// call `ready` after this pause and try again. `None`: call `failed`.
    fn retry(&self) -> Option<Duration> {
        None
    }

    /// Whether a promised delivery is still due. It is asked again and again when the thread is about to end. While it
    /// returns true, and for a second at most, `ready` is called as before.
    fn linger(&mut self) -> bool {
        false
    }

    /// Whether the thread is of no use without this object. Then the thread ends when the object is dropped, for any
    /// reason, and later calls fail instead of waiting for something that no longer happens.
    fn is_essential(&self) -> bool {
        false
    }

    /// The thread could not wait on the descriptor, or the thread has ended. The object is dropped next.
    fn failed(&mut self, _error: &Error) {}
}

/// What a [`Watched`] wants next.
pub(crate) enum Step {
    /// Call it again when its descriptor is ready, or at the given time.
    Again(Option<Instant>),
    /// Drop it.
    Finished,
}

/// The number of a [`Watched`] on its thread. It is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

impl Token {
    /// Of no object. Removing it does nothing.
    pub(crate) const NONE: Token = Token(0);
}

/// The token of a [`Watched`] whose type is known. Other threads can visit it ([`Handle::visit`]).
pub(crate) struct Resident<T> {
    token: Token,
    // Not `T`, because the token may go to any thread.
    of: PhantomData<fn(T)>,
}

impl<T> Resident<T> {
    pub(crate) fn token(self) -> Token {
        self.token
    }
}

impl<T> Clone for Resident<T> {
    fn clone(&self) -> Resident<T> {
        *self
    }
}

impl<T> Copy for Resident<T> {}

/// What a callback can do with the thread that it runs on.
pub(crate) struct Thread<'a> {
    event_loop: &'a mut EventLoop,
}

impl Thread<'_> {
    /// Like [`Handle::add`], at once.
    pub(crate) fn add(&mut self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        self.event_loop.add_new(watched, deadline)
    }

    /// Like [`Handle::remove`]. An object whose `ready` is running is dropped when `ready` returns.
    pub(crate) fn remove(&mut self, token: Token) {
        self.event_loop.remove(token);
    }

    /// Stops waiting on a descriptor. Its owner gives it away and is about to finish.
    pub(crate) fn forget(&mut self, fd: impl AsFd) {
        self.event_loop.forget(fd.as_fd());
    }

    /// A handle for other threads.
    pub(crate) fn handle(&self) -> Handle {
        self.event_loop.handle().clone()
    }
}

/// Runs code of a user of the reactor. `None` when it panicked; the panic hook has reported that.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Drops a value whose destructor may panic.
pub(crate) fn discard<T>(value: T) {
    contained(move || drop(value));
}
