//! The handle of the bus thread, for other threads: a queue of commands and a doorbell.
//!
//! Invariant: the thread runs a command, or the sender gets it back. A forked child has the handle but not the thread,
//! so it gets every command back. A [`Handle`] does not keep the thread alive; the [`Owner`](super::Owner) does. So an
//! object on the thread may hold a handle. All code outside of the thread calls this module. It runs nothing itself.

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

/// Reaches the thread from any other thread. Cheap to clone. It does not keep the thread alive.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

/// A function that runs with a [`Watched`] on the thread, and returns what that object wants next.
pub(super) type Visit = Box<dyn FnOnce(&mut dyn Any, &mut Thread<'_>) -> Step + Send>;

pub(super) enum Command {
    Add(Token, Box<dyn Watched>, Option<Instant>),
    /// The sender is dropped after the watched object.
    Remove(Token, Option<Sender<()>>),
    Visit(Token, Visit),
    /// Calls `ready`.
    Call(Token),
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
    /// A handle of a thread that is about to start.
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

    /// Adds an object that waits. Its `ready` is called when its descriptor is ready or at `deadline`, whichever comes
    /// first. When the thread has ended, the object's `failed` is called and the object is dropped.
    pub(crate) fn add(&self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        let token = self.token();
        if let Some(Command::Add(_, mut watched, _)) = self.send(Command::Add(token, watched, deadline)) {
            watched.failed(&Error::Closed { what: "bus" });
        }
        token
    }

    /// Adds an object that is made with its own token, and calls its `ready` as soon as possible.
    pub(crate) fn add_with<T: Watched>(&self, make: impl FnOnce(Token) -> T) -> Resident<T> {
        let token = self.token();
        let command = Command::Add(token, Box::new(make(token)), Some(Instant::now()));
        if let Some(Command::Add(_, mut watched, _)) = self.send(command) {
            watched.failed(&Error::Closed { what: "bus" });
        }
        Resident { token, of: PhantomData }
    }

    /// Calls `ready` of an object soon, whatever it waits for. Nothing happens when it is gone.
    pub(crate) fn call(&self, token: Token) {
        self.send(Command::Call(token));
    }

    /// Adds an object that other threads visit later.
    pub(crate) fn add_resident<T: Watched>(&self, watched: T) -> Resident<T> {
        Resident { token: self.add(Box::new(watched), None), of: PhantomData }
    }

    /// Runs `call` on the thread with the object that was added. Then the object waits for what `call` returns. False
    /// when the thread has ended. Nothing happens when the resident is already gone.
    pub(crate) fn visit<T: Watched>(
        &self,
        resident: Resident<T>,
        call: impl FnOnce(&mut T, &mut Thread<'_>) -> Step + Send + 'static,
    ) -> bool {
        let visit: Visit = Box::new(|watched, thread| match watched.downcast_mut() {
            Some(watched) => call(watched, thread),
            // Cannot happen: a `Resident<T>` comes from adding a `T`.
            None => Step::Finished,
        });
        self.send(Command::Visit(resident.token, visit)).is_none()
    }

    /// Removes the object. Returns when the thread has dropped the object. On the bus thread it returns at once, and
    /// the object is dropped when the running callback returns. Nothing happens when the object is already gone.
    pub(crate) fn remove(&self, token: Token) {
        if self.is_here() {
            self.send(Command::Remove(token, None));
            return;
        }
        let (done, wait) = channel();
        if self.send(Command::Remove(token, Some(done))).is_none() {
            // This ends when the sender is dropped: the object was removed, or the thread has ended.
            let _ = wait.recv();
        }
    }

    /// Removes the object soon, without waiting.
    pub(crate) fn remove_soon(&self, token: Token) {
        self.send(Command::Remove(token, None));
    }

    /// Whether the caller runs on the bus thread.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.thread.get() == Some(&std::thread::current().id())
    }

    /// Whether this process was forked from the process that has the thread.
    pub(super) fn is_foreign(&self) -> bool {
        self.shared.generation != generation()
    }

    /// Sends a command. Returns it when the thread takes no more commands.
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

    // What the thread itself calls.

    /// Marks the calling thread as the bus thread.
    pub(super) fn bind_to_current_thread(&self) {
        let _ = self.shared.thread.set(std::thread::current().id());
    }

    /// The doorbell, which rings when there are commands.
    pub(super) fn bell(&self) -> &EventFd {
        &self.shared.wake
    }

    /// The commands that were sent until now.
    pub(super) fn take(&self) -> VecDeque<Command> {
        let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The commands that were sent until now. Every later command is given back to its sender.
    pub(super) fn close(&self) -> VecDeque<Command> {
        let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.take().unwrap_or_default()
    }
}
