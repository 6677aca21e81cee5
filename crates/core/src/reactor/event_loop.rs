//! The loop of the bus thread: slots with the waiting objects, ordered deadlines, and commands in between.
//!
//! Invariants: the loop blocks in `epoll_wait` without a timeout when nothing is scheduled, so an idle bus makes no
//! system call. A slot is empty exactly while its [`Watched`] runs. A command never runs inside a callback. [`Owner`]
//! starts the loop, and a bus holds the [`Owner`]. Other threads reach the loop through [`Handle`], callbacks through
//! [`Thread`].

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
/// How long unfinished deliveries may delay the end of the thread.
const LINGER: Duration = Duration::from_secs(1);
/// The longest wait before the loop asks again whether a delivery is unfinished.
const LINGER_POLL: Duration = Duration::from_millis(20);
/// The number of the commands' doorbell. Tokens begin above it.
const WAKE: u64 = 0;

/// Keeps the thread running. Dropping it ends the thread and waits for the end.
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
            ended: false,
        };
        let join = std::thread::Builder::new()
            .name("ringbell-bus".into())
            .stack_size(STACK)
            .spawn(move || run(event_loop))
            .map_err(|error| {
                let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EAGAIN));
                Error::os("clone", errno, "cannot start the bus thread")
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
            // A forked child does not have this thread, so joining it would never return.
            std::mem::forget(join);
            return;
        }
        self.handle.send(Command::Stop);
        if !self.handle.is_here() {
            // The panic hook has already reported a panic of the thread.
            let _ = join.join();
        }
    }
}

struct Slot {
    /// `None` while `ready` of this object runs.
    watched: Option<Box<dyn Watched>>,
    registered: Option<RawFd>,
    deadline: Option<Instant>,
}

pub(super) struct EventLoop {
    epoll: Epoll,
    slots: HashMap<u64, Slot>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Objects that were removed while their `ready` ran.
    removed: Vec<u64>,
    handle: Handle,
    /// The thread was told to end, or has lost an essential object.
    ended: bool,
}

impl EventLoop {
    /// Adds an object that has no token yet.
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
        self.rearm(token.0, watched, deadline);
    }

    /// Puts an object back into its slot, and waits for what the object wants now.
    fn rearm(&mut self, number: u64, mut watched: Box<dyn Watched>, mut deadline: Option<Instant>) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let registration = watched.fd().map(|fd| {
            let again = slot.registered == Some(fd.as_raw_fd());
            let watch = if again { Epoll::watch_again } else { Epoll::watch };
            (fd.as_raw_fd(), watch(&self.epoll, fd, number))
        });
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

    /// Calls an object whose descriptor is ready or whose deadline has passed.
    fn call(&mut self, number: u64) {
        self.run(number, |watched, thread| watched.ready(thread));
    }

    /// Runs `call` with an object, and then waits for what the object wants.
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
            Some(Step::Again(deadline)) if wanted => self.rearm(number, watched, deadline),
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
        self.ended |= watched.is_essential();
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
    // Signal handlers of the host belong on the threads of the host.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    let handle = event_loop.handle.clone();
    handle.bind_to_current_thread();
    contained(move || serve(event_loop));
    // Commands that were sent until now are dropped. That drops every sender that a caller waits on.
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
    while run_commands(&mut event_loop) {
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

/// Runs the objects that still have something to hand over until they finish. Waits for nothing else.
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
        // Every object is called, whatever `poll` answers: one of them may wait for a time. Signals are blocked on this
        // thread.
        let _ = poll(&mut fds, PollTimeout::try_from(left.min(LINGER_POLL)).unwrap_or(PollTimeout::ZERO));
        drop(fds);
        for number in lingering {
            event_loop.call(number);
        }
    }
}

/// Runs the commands that were sent. False when the thread must end.
fn run_commands(event_loop: &mut EventLoop) -> bool {
    while !event_loop.ended {
        let commands = event_loop.handle.take();
        if commands.is_empty() {
            return true;
        }
        for command in commands {
            match command {
                Command::Add(token, watched, deadline) => event_loop.add(token, watched, deadline),
                Command::Remove(token, done) => {
                    event_loop.remove(token);
                    drop(done);
                }
                Command::Visit(token, visit) => event_loop.visit(token, visit),
                Command::Call(token) => event_loop.call(token.0),
                Command::Stop => event_loop.ended = true,
            }
        }
    }
    false
}
