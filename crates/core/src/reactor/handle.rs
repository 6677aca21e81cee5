//! The way to the bus thread from any other thread: a queue of commands and a bell.
//!
//! Invariant: what is sent is either run by the thread or given back to the sender; a forked child, which has the handle but not the
//! thread, gets everything back. A [`Handle`] does not keep the thread alive: the [`Owner`](super::Owner) does, so what lives on
//! the thread may hold a handle. Called by everything outside of the thread; runs nothing itself.

use std::any::Any;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Instant;

use super::{Resident, Step, Thread, Token, Watched};
use crate::error::{Error, Result};
use crate::sys::eventfd::EventFd;
use crate::sys::generation::generation;

const FIRST_TOKEN: u64 = 1;

/// A way to reach the thread from any other thread. Cheap; does not keep it alive.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

/// What runs with a [`Watched`] on the thread, and says what that one wants next.
pub(super) type Visit = Box<dyn FnOnce(&mut dyn Any, &mut Thread<'_>) -> Step + Send>;

pub(super) enum Command {
    Add(Token, Box<dyn Watched>, Option<Instant>),
    /// The sender is dropped once the watched one is.
    Remove(Token, Option<Sender<()>>),
    Visit(Token, Visit),
    Stop,
}

struct Shared {
    /// `None` once the thread takes no more commands.
    commands: Mutex<Option<VecDeque<Command>>>,
    wake: EventFd,
    next: AtomicU64,
    thread: OnceLock<ThreadId>,
    /// A forked child has the handle but not the thread.
    generation: u32,
}

impl Handle {
    /// A handle to a thread that is about to start.
    pub(super) fn new() -> Result<Handle> {
        let shared = Shared {
            commands: Mutex::new(Some(VecDeque::new())),
            wake: EventFd::new()?,
            next: AtomicU64::new(FIRST_TOKEN),
            thread: OnceLock::new(),
            generation: generation(),
        };
        Ok(Handle { shared: Arc::new(shared) })
    }

    /// Adds something to wait for. Its `ready` is called when its descriptor is ready or at `deadline`, whichever comes first.
    /// When the thread has ended, it is told so by `failed` and dropped.
    pub(crate) fn add(&self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        let token = self.token();
        if let Some(Command::Add(_, mut watched, _)) = self.send(Command::Add(token, watched, deadline)) {
            watched.failed(&Error::Closed { what: "bus" });
        }
        token
    }

    /// Adds something that is going to be visited.
    pub(crate) fn add_resident<T: Watched>(&self, watched: T) -> Resident<T> {
        Resident { token: self.add(Box::new(watched), None), of: PhantomData }
    }

    /// Runs `call` on the thread, with what was added; then that one waits for what `call` says. False when the thread has ended.
    /// Nothing happens when the resident is gone already.
    pub(crate) fn visit<T: Watched>(
        &self,
        resident: Resident<T>,
        call: impl FnOnce(&mut T, &mut Thread<'_>) -> Step + Send + 'static,
    ) -> bool {
        let visit: Visit = Box::new(|watched, thread| match watched.downcast_mut() {
            Some(watched) => call(watched, thread),
            // Cannot be: a `Resident<T>` comes from adding a `T`.
            None => Step::Finished,
        });
        self.send(Command::Visit(resident.token, visit)).is_none()
    }

    /// Removes it. Returns when the thread has dropped it; on the bus thread itself at once, and it is dropped
    /// as soon as the running callback returns. Nothing happens when it is gone already.
    pub(crate) fn remove(&self, token: Token) {
        if self.is_here() {
            self.send(Command::Remove(token, None));
            return;
        }
        let (done, wait) = channel();
        if self.send(Command::Remove(token, Some(done))).is_none() {
            // Ends when the sender is dropped: removed, or the thread has ended.
            let _ = wait.recv();
        }
    }

    /// Whether the caller runs on the bus thread.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.thread.get() == Some(&std::thread::current().id())
    }

    /// Whether this process forked away from the one that has the thread.
    pub(super) fn is_foreign(&self) -> bool {
        self.shared.generation != generation()
    }

    /// Hands a command over; gives it back when the thread takes no more.
    pub(super) fn send(&self, command: Command) -> Option<Command> {
        if self.is_foreign() {
            return Some(command);
        }
        {
            let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(queue) = commands.as_mut() else { return Some(command) };
            queue.push_back(command);
        }
        if !self.is_here() {
            self.shared.wake.ring();
        }
        None
    }

    pub(super) fn token(&self) -> Token {
        Token(self.shared.next.fetch_add(1, Ordering::Relaxed))
    }

    // The thread's end of it.

    /// The calling thread is the bus thread.
    pub(super) fn settle_here(&self) {
        let _ = self.shared.thread.set(std::thread::current().id());
    }

    /// Rings when there are commands.
    pub(super) fn bell(&self) -> &EventFd {
        &self.shared.wake
    }

    /// What was sent until now.
    pub(super) fn take(&self) -> VecDeque<Command> {
        let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What was sent until now; from here on everything is given back.
    pub(super) fn close(&self) -> VecDeque<Command> {
        let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.take().unwrap_or_default()
    }
}
