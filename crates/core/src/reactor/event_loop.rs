//! The loop of the bus thread: slots with what waits, deadlines in order, commands in between.
//!
//! Invariants: it blocks in `epoll_wait` without a timeout when nothing is scheduled, so that an idle bus makes no system call; a
//! slot is empty exactly while its [`Watched`] runs; a command never runs inside of another one's callback. Started by [`Owner`],
//! which a bus holds; reached through [`Handle`] from outside and through [`Thread`] from inside.

use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::handle::{Command, Handle, Visit};
use super::{Step, Thread, Token, Watched, contained, discard};
use crate::error::{Error, Result};
use crate::sys::epoll::Epoll;

const STACK: usize = 512 * 1024;
/// How long the thread's end may be held up by what is still to be handed over.
const LINGER: Duration = Duration::from_secs(1);
/// How long it waits at most before it asks again.
const LOOK: Duration = Duration::from_millis(20);
/// The number of the commands' bell; tokens begin above it.
const WAKE: u64 = 0;

/// Keeps the thread running; dropping it ends the thread and waits for that.
pub(crate) struct Owner {
    handle: Handle,
    join: Option<JoinHandle<()>>,
}

impl Owner {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Owner> {
        let handle = Handle::new()?;
        let epoll = Epoll::new()?;
        epoll.watch(handle.bell().as_fd(), WAKE)?;
        let event_loop = EventLoop {
            epoll,
            slots: HashMap::new(),
            deadlines: BTreeSet::new(),
            removed: Vec::new(),
            handle: handle.clone(),
        };
        let join = std::thread::Builder::new()
            .name("ringbell-bus".into())
            .stack_size(STACK)
            .spawn(move || run(event_loop))
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

    pub(crate) fn handle(&self) -> &Handle {
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

struct Slot {
    /// `None` while its `ready` runs.
    watched: Option<Box<dyn Watched>>,
    registered: Option<RawFd>,
    deadline: Option<Instant>,
}

pub(super) struct EventLoop {
    epoll: Epoll,
    slots: HashMap<u64, Slot>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Removed while their `ready` was running.
    removed: Vec<u64>,
    handle: Handle,
}

impl EventLoop {
    /// Adds what has no token yet.
    pub(super) fn add_new(&mut self, watched: Box<dyn Watched>, deadline: Option<Instant>) -> Token {
        let token = self.handle.token();
        self.add(token, watched, deadline);
        token
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn forget(&self, fd: BorrowedFd<'_>) {
        self.epoll.forget(fd);
    }

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

    /// Its descriptor is ready or its deadline has passed.
    fn call(&mut self, number: u64) {
        self.run(number, |watched, thread| watched.ready(thread));
    }

    /// Runs something with a watched one, and waits for what it wants then.
    fn run(&mut self, number: u64, call: impl FnOnce(&mut dyn Watched, &mut Thread<'_>) -> Step) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let Some(mut watched) = slot.watched.take() else { return };
        if let Some(deadline) = slot.deadline.take() {
            self.deadlines.remove(&(deadline, number));
        }
        let before = slot.registered;
        let step = contained(|| call(&mut *watched, &mut Thread { event_loop: self }));
        let wanted = !std::mem::take(&mut self.removed).contains(&number);
        match step {
            Some(Step::Again(deadline)) if wanted => self.settle(number, watched, deadline),
            _ => self.discard(number, watched, before),
        }
    }

    fn visit(&mut self, token: Token, visit: Visit) {
        self.run(token.0, |watched, thread| {
            let watched: &mut dyn Any = watched;
            visit(watched, thread)
        });
    }

    pub(super) fn remove(&mut self, token: Token) {
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

fn run(event_loop: EventLoop) {
    // The host's signal handlers belong on the host's threads.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    let handle = event_loop.handle.clone();
    handle.settle_here();
    contained(move || serve(event_loop));
    // What was sent until now is dropped, and with it every sender that someone waits on.
    for command in handle.close() {
        contained(move || {
            if let Command::Add(_, mut watched, _) = command {
                watched.failed(&Error::Closed { what: "bus" });
            }
        });
    }
}

fn serve(mut event_loop: EventLoop) {
    let mut ready = Vec::new();
    while obey(&mut event_loop) {
        let deadline = event_loop.deadlines.first().map(|first| first.0);
        if event_loop.epoll.wait(deadline, &mut ready).is_err() {
            break;
        }
        for number in &ready {
            match *number {
                WAKE => drop(event_loop.handle.bell().drain()),
                number => event_loop.call(number),
            }
        }
        event_loop.due();
    }
    linger(&mut event_loop);
    for (_, slot) in event_loop.slots.drain() {
        let Some(mut watched) = slot.watched else { continue };
        contained(|| watched.failed(&Error::Closed { what: "bus" }));
        discard(watched);
    }
}

/// Lets those finish that have something to hand over, and waits for nothing else.
fn linger(event_loop: &mut EventLoop) {
    let deadline = Instant::now() + LINGER;
    loop {
        let mut lingering = Vec::new();
        for (number, slot) in &mut event_loop.slots {
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
        let watched =
            lingering.iter().filter_map(|number| event_loop.slots.get(number)?.watched.as_ref()?.fd());
        let mut fds: Vec<PollFd<'_>> = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Whatever it answers, all are called, since one may be waiting for a time; a signal is blocked on this thread.
        let _ = poll(&mut fds, PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO));
        drop(fds);
        for number in lingering {
            event_loop.call(number);
        }
    }
}

/// Runs what was sent. False when the thread is to end.
fn obey(event_loop: &mut EventLoop) -> bool {
    loop {
        let commands = event_loop.handle.take();
        if commands.is_empty() {
            return true;
        }
        let mut stop = false;
        for command in commands {
            match command {
                Command::Add(token, watched, deadline) => event_loop.add(token, watched, deadline),
                Command::Remove(token, done) => {
                    event_loop.remove(token);
                    drop(done);
                }
                Command::Visit(token, visit) => event_loop.visit(token, visit),
                Command::Stop => stop = true,
            }
        }
        if stop {
            return false;
        }
    }
}
