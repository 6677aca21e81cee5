//! The bus thread: one small control-plane thread a bus, around an epoll of its own.
//!
//! Invariants: it blocks in `epoll_wait` without a timeout when nothing is scheduled, so that an idle bus makes no
//! system call; nothing that is added here outlives the thread; a [`Watched`] or [`Sink`](super::registry::Sink) that
//! panics is dropped, the others go on. A [`Handle`] does not keep the thread alive: the [`Owner`] inside the bus does, so
//! what lives on the thread may hold a handle. Never calls into JS, never waits for a peer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::registry::Registry;
use crate::error::{Error, Result};
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::sys::generation::generation;

const STACK: usize = 512 * 1024;
/// How long the thread's end may be held up by what is still to be handed over.
const LINGER: Duration = Duration::from_secs(1);
/// How long it waits at most before it asks again.
const LOOK: Duration = Duration::from_millis(20);
const WAKE: u64 = 0;
const FIRST_TOKEN: u64 = 1;
/// Numbers from here on belong to the registry's own descriptors.
pub(super) const REGISTRY_BASE: u64 = 1 << 62;

/// Something on the bus thread that waits for a descriptor, for a time, or for both.
pub(crate) trait Watched: Send {
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

    /// Asked when the thread is about to end, again and again: whether something is still to be handed over that somebody was
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

/// The name of a [`Watched`] on its thread. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(u64);

/// A way to reach the thread from any other thread. Cheap; does not keep it alive.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

/// What a callback on the thread may do with it.
pub(crate) struct Thread<'a> {
    core: &'a mut Core,
}

type RegistryCall = Box<dyn FnOnce(&mut Registry, &mut Thread<'_>) + Send>;

enum Command {
    Add(Token, Box<dyn Watched>, Option<Instant>),
    /// The sender is dropped once the watched one is.
    Remove(Token, Option<Sender<()>>),
    Registry(RegistryCall),
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

/// Keeps the thread running; dropping it ends the thread and waits for that.
pub(super) struct Owner {
    handle: Handle,
    join: Option<JoinHandle<()>>,
}

impl Owner {
    /// Starts the thread.
    pub(super) fn start(registry: Registry) -> Result<Owner> {
        let shared = Arc::new(Shared {
            commands: Mutex::new(Some(VecDeque::new())),
            wake: EventFd::new()?,
            next: AtomicU64::new(FIRST_TOKEN),
            thread: OnceLock::new(),
            generation: generation(),
        });
        let epoll = Epoll::new()?;
        epoll.watch(shared.wake.as_fd(), WAKE)?;
        let handle = Handle { shared };
        let core = Core {
            epoll,
            slots: HashMap::new(),
            deadlines: BTreeSet::new(),
            removed: Vec::new(),
            handle: handle.clone(),
        };
        let join = std::thread::Builder::new()
            .name("ringbell-bus".into())
            .stack_size(STACK)
            .spawn(move || run(core, registry))
            .map_err(|error| {
                let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EAGAIN));
                Error::os(
                    "clone",
                    errno,
                    "cannot start the bus thread; is the limit of threads (ulimit -u, pids.max) reached?",
                )
            })?;
        Ok(Owner { handle, join: Some(join) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let Some(join) = self.join.take() else { return };
        if self.handle.is_foreign() {
            // In a forked child there is no such thread, and joining it would wait for ever.
            std::mem::forget(join);
            return;
        }
        self.handle.send(Command::Stop);
        if !self.handle.is_here() {
            // A panic of the thread was already reported by the panic hook.
            let _ = join.join();
        }
    }
}

impl Handle {
    /// Adds something to wait for. Its `ready` is called when its descriptor is ready or at `deadline`, whichever comes first.
    /// When the thread has ended, it is told so by `failed` and dropped.
    pub(crate) fn add(&self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        let token = self.shared.token();
        if let Some(Command::Add(_, mut watched, _)) = self.send(Command::Add(token, watched, deadline)) {
            watched.failed(&Error::Closed { what: "bus" });
        }
        token
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

    /// Runs `call` on the thread. False when the thread has ended.
    pub(super) fn registry(
        &self,
        call: impl FnOnce(&mut Registry, &mut Thread<'_>) + Send + 'static,
    ) -> bool {
        self.send(Command::Registry(Box::new(call))).is_none()
    }

    /// Runs `call` on the thread and waits for its result. `None` when the thread has ended; must not be called on it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Registry, &mut Thread<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        if self.is_here() {
            return None;
        }
        let (answer, wait) = channel();
        self.registry(move |registry, thread| drop(answer.send(call(registry, thread))));
        wait.recv().ok()
    }

    /// Whether the caller runs on the bus thread.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.thread.get() == Some(&std::thread::current().id())
    }

    /// Whether this process forked away from the one that has the thread.
    fn is_foreign(&self) -> bool {
        self.shared.generation != generation()
    }

    /// Hands a command over; gives it back when the thread takes no more.
    fn send(&self, command: Command) -> Option<Command> {
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
}

impl Shared {
    fn token(&self) -> Token {
        Token(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Thread<'_> {
    /// As [`Handle::add`], at once.
    pub(crate) fn add(&mut self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        let token = self.core.handle.shared.token();
        self.core.add(token, watched, deadline);
        token
    }

    /// As [`Handle::remove`]; the one whose `ready` is running is dropped when that returns.
    pub(crate) fn remove(&mut self, token: Token) {
        self.core.remove(token);
    }

    /// Stops waiting for a descriptor whose owner gives it away and is about to finish.
    pub(crate) fn forget(&mut self, fd: impl AsFd) {
        self.core.epoll.forget(fd.as_fd());
    }

    /// A handle for other threads.
    pub(crate) fn handle(&self) -> Handle {
        self.core.handle.clone()
    }

    pub(super) fn epoll(&self) -> &Epoll {
        &self.core.epoll
    }
}

struct Slot {
    /// `None` while its `ready` runs.
    watched: Option<Box<dyn Watched>>,
    registered: Option<RawFd>,
    deadline: Option<Instant>,
}

struct Core {
    epoll: Epoll,
    slots: HashMap<u64, Slot>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Removed while their `ready` was running.
    removed: Vec<u64>,
    handle: Handle,
}

impl Core {
    fn add(&mut self, token: Token, watched: Box<dyn Watched>, deadline: Option<Instant>) {
        self.slots.insert(token.0, Slot { watched: None, registered: None, deadline: None });
        self.settle(token.0, watched, deadline);
    }

    /// Puts a watched one back and waits for what it wants now.
    fn settle(&mut self, number: u64, mut watched: Box<dyn Watched>, mut deadline: Option<Instant>) {
        let registration = watched.fd().map(|fd| (fd.as_raw_fd(), self.epoll.watch(fd, number)));
        let Some(slot) = self.slots.get_mut(&number) else { return };
        if let Some(old) = slot.deadline.take() {
            self.deadlines.remove(&(old, number));
        }
        slot.registered = None;
        match registration {
            Some((_, Err(error))) => {
                if let Some(pause) = watched.retry() {
                    let again = Instant::now() + pause;
                    deadline = Some(deadline.map_or(again, |deadline| deadline.min(again)));
                } else {
                    self.slots.remove(&number);
                    contained(|| watched.failed(&error));
                    discard(watched);
                    return;
                }
            }
            Some((raw, Ok(()))) => slot.registered = Some(raw),
            None => {}
        }
        slot.deadline = deadline;
        slot.watched = Some(watched);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, number));
        }
    }

    fn call(&mut self, number: u64) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let Some(mut watched) = slot.watched.take() else { return };
        if let Some(deadline) = slot.deadline.take() {
            self.deadlines.remove(&(deadline, number));
        }
        let before = slot.registered;
        let step = contained(|| watched.ready(&mut Thread { core: self }));
        let wanted = !std::mem::take(&mut self.removed).contains(&number);
        match step {
            Some(Step::Again(deadline)) if wanted => {
                self.settle(number, watched, deadline);
            }
            _ => self.discard(number, watched, before),
        }
    }

    fn remove(&mut self, token: Token) {
        let Some(slot) = self.slots.get_mut(&token.0) else { return };
        match slot.watched.take() {
            Some(watched) => {
                let registered = slot.registered;
                self.discard(token.0, watched, registered);
            }
            None => self.removed.push(token.0),
        }
    }

    fn discard(&mut self, number: u64, watched: Box<dyn Watched>, registered: Option<RawFd>) {
        if let Some(deadline) = self.slots.remove(&number).and_then(|slot| slot.deadline) {
            self.deadlines.remove(&(deadline, number));
        }
        contained(|| {
            if let Some(fd) = watched.fd()
                && registered.is_some()
            {
                self.epoll.forget(fd);
            }
        });
        discard(watched);
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some((deadline, number)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, number));
            if let Some(slot) = self.slots.get_mut(&number) {
                slot.deadline = None;
            }
            self.call(number);
        }
    }
}

fn run(core: Core, registry: Registry) {
    // The host's signal handlers belong on the host's threads.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    let shared = Arc::clone(&core.handle.shared);
    let _ = shared.thread.set(std::thread::current().id());
    contained(move || serve(core, registry));
    // What was sent until now is dropped, and with it every sender that someone waits on.
    let rest = shared.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
    for command in rest.into_iter().flatten() {
        contained(move || {
            if let Command::Add(_, mut watched, _) = command {
                watched.failed(&Error::Closed { what: "bus" });
            }
        });
    }
}

fn serve(mut core: Core, mut registry: Registry) {
    let mut ready = Vec::new();
    loop {
        if !obey(&mut core, &mut registry) {
            break;
        }
        let deadline =
            [core.deadlines.first().map(|first| first.0), registry.deadline()].into_iter().flatten().min();
        if core.epoll.wait(deadline, &mut ready).is_err() {
            break;
        }
        for number in &ready {
            match *number {
                WAKE => drop(core.handle.shared.wake.drain()),
                number if number >= REGISTRY_BASE => registry.ready(number, &mut Thread { core: &mut core }),
                number => core.call(number),
            }
        }
        core.due();
        if registry.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            registry.due(&mut Thread { core: &mut core });
        }
    }
    registry.stop(&mut Thread { core: &mut core });
    linger(&mut core);
    for (_, slot) in core.slots.drain() {
        let Some(mut watched) = slot.watched else { continue };
        contained(|| watched.failed(&Error::Closed { what: "bus" }));
        discard(watched);
    }
}

/// Lets those finish that have something to hand over, and waits for nothing else.
fn linger(core: &mut Core) {
    let deadline = Instant::now() + LINGER;
    loop {
        let mut lingering = Vec::new();
        for (number, slot) in &mut core.slots {
            if let Some(watched) = slot.watched.as_mut()
                && contained(|| watched.linger()) == Some(true)
            {
                lingering.push(*number);
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if lingering.is_empty() || left.is_zero() {
            return;
        }
        let watched = lingering.iter().filter_map(|number| core.slots.get(number)?.watched.as_ref()?.fd());
        let mut fds: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Whatever it answers, all are called, since one may be waiting for a time; a signal is blocked on this thread.
        let _ = poll(&mut fds, PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO));
        drop(fds);
        for number in lingering {
            core.call(number);
        }
    }
}

/// Runs what was sent. False when the thread is to end.
fn obey(core: &mut Core, registry: &mut Registry) -> bool {
    loop {
        let commands = {
            let mut queue = core.handle.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
            queue.as_mut().map(std::mem::take).unwrap_or_default()
        };
        if commands.is_empty() {
            return true;
        }
        let mut stop = false;
        for command in commands {
            match command {
                Command::Add(token, watched, deadline) => core.add(token, watched, deadline),
                Command::Remove(token, done) => {
                    core.remove(token);
                    drop(done);
                }
                Command::Registry(call) => {
                    contained(|| call(registry, &mut Thread { core }));
                }
                Command::Stop => stop = true,
            }
        }
        if stop {
            return false;
        }
    }
}

/// Runs foreign code; `None` when it panicked (the panic hook has told so).
pub(super) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Drops foreign code's value, which may panic too.
pub(super) fn discard<T>(value: T) {
    contained(move || drop(value));
}
