//! eventfd: a 64-bit counter in the kernel that any epoll can wait on; here, a doorbell.
//!
//! A broadcast doorbell is rung by one and never read: each listener's own epoll holds it with
//! `EPOLLIN | EPOLLET`, so every write wakes every sleeper once. A point-to-point doorbell is read by
//! its one owner (`drain`, `wait`), in semaphore mode one ring at a time. Descriptors that come from a
//! peer enter through `from_peer`, which checks that they are eventfds and the announced ones: all
//! eventfds share one inode, so the `eventfd-id` of fdinfo (Linux 5.2) is what tells them apart.
//! Every holder can clear `O_NONBLOCK` for all of them and fill the counter, and `write` waits then. So a doorbell that
//! other processes hold is rung through `aio`, and `read` and `write` are for those that no other process has.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};
use nix::sys::time::TimeSpec;

use super::aio;
use super::fork::Entry;
use crate::{Error, Result};

/// A doorbell: rung by one process, slept on by others.
#[derive(Debug)]
pub struct EventFd {
    // Before `counter`: an entry must be gone before its number can be reused.
    guard: Option<Entry>,
    counter: Counter,
    /// Whether other processes hold it.
    shared: bool,
}

impl EventFd {
    /// Makes a doorbell whose reader takes all rings at once.
    ///
    /// # References
    /// `eventfd(2)` with `EFD_CLOEXEC | EFD_NONBLOCK`.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<EventFd> {
        EventFd::with(EfdFlags::empty())
    }

    /// Makes a doorbell whose reader takes one ring at a time (point to point).
    ///
    /// # References
    /// `eventfd(2)` `EFD_SEMAPHORE`.
    ///
    /// # Errors
    /// As [`EventFd::new`].
    pub fn semaphore() -> Result<EventFd> {
        EventFd::with(EfdFlags::EFD_SEMAPHORE)
    }

    fn with(flags: EfdFlags) -> Result<EventFd> {
        let counter =
            Counter::from_value_and_flags(0, flags | EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
                .map_err(|errno| Error::os("eventfd2", errno, "cannot make a doorbell"))?;
        Ok(EventFd { guard: None, counter, shared: false })
    }

    /// The same doorbell, but in a forked child it is none: ringing it there does nothing, and the child keeps
    /// nobody's registration alive.
    ///
    /// # References
    /// `pthread_atfork(3)`.
    pub(crate) fn guarded(mut self) -> EventFd {
        self.guard = Some(Entry::new(self.counter.as_fd()));
        self
    }

    /// The same doorbell, for other processes to hold as well: [guarded](EventFd::guarded), and rung without ever waiting.
    pub(crate) fn shared(self) -> EventFd {
        EventFd { shared: true, ..self.guarded() }
    }

    /// Takes over a descriptor that a peer gave, after checking that it is the eventfd that `id` names.
    ///
    /// # References
    /// `proc(5)` /proc/PID/fdinfo.
    ///
    /// # Errors
    /// `ERR_RINGBELL_CORRUPT_PEER` when it is something else or would block when rung; the descriptor
    /// is closed then. An operating system error when fdinfo cannot be read.
    pub fn from_peer(fd: OwnedFd, id: u64) -> Result<EventFd> {
        let info = Info::read(fd.as_fd())?;
        match info.id {
            None => return Err(corrupt("a descriptor announced as a doorbell is no eventfd".into())),
            Some(found) if found != id => {
                return Err(corrupt(format!(
                    "the doorbell that came is eventfd {found}, announced was {id}"
                )));
            }
            Some(_) => {}
        }
        if info.flags & libc::O_NONBLOCK == 0 {
            return Err(corrupt(
                "the doorbell that came would block whoever rings it (no O_NONBLOCK)".into(),
            ));
        }
        // SAFETY: fdinfo has just shown that this descriptor is an eventfd, and `fd` owns it.
        Ok(EventFd { guard: None, counter: unsafe { Counter::from_owned_fd(fd) }, shared: true })
    }

    /// Rings, and never waits. What other processes hold is rung through [`aio`], which nobody can block. Where that cannot be
    /// had, `O_NONBLOCK` is put back before `write`: only a holder that clears it between these two calls blocks this thread.
    ///
    /// # References
    /// `io_submit(2)`, `fcntl(2)` F_SETFL, `write(2)` on an eventfd.
    pub fn ring(&self) {
        if self.shared {
            if aio::signal(self.as_fd()).is_ok() {
                return;
            }
            self.unblock();
        }
        self.write();
    }

    /// Has reads and writes fail where they would wait.
    fn unblock(&self) {
        let flags = fcntl(&self.counter, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain);
        if !flags.contains(OFlag::O_NONBLOCK) {
            // F_SETFL cannot fail for a descriptor that is open.
            let _ = fcntl(&self.counter, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        }
    }

    /// A full counter (somebody filled it) would swallow every further ring: then it is read once, which makes room, and
    /// written again. libevent does the same (its commit 6074d558).
    fn write(&self) {
        if self.counter.write(1) == Err(Errno::EAGAIN) {
            let _ = self.counter.read();
            let _ = self.counter.write(1);
        }
    }

    /// Takes what was rung without waiting: 0 when nothing was, and at most 1 in semaphore mode.
    ///
    /// # References
    /// `read(2)` on an eventfd.
    pub fn drain(&self) -> u64 {
        self.counter.read().unwrap_or(0)
    }

    /// Waits until the doorbell rings, and takes what was rung.
    ///
    /// # References
    /// `ppoll(2)`.
    ///
    /// # Errors
    /// What `ppoll` answers, ENOMEM in practice.
    pub fn wait(&self) -> Result<u64> {
        loop {
            if let Some(rings) = self.wait_until(None)? {
                return Ok(rings);
            }
        }
    }

    /// Waits at most `timeout`; `None` when nothing was rung in that time.
    ///
    /// # References
    /// `ppoll(2)`.
    ///
    /// # Errors
    /// As [`EventFd::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<u64>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<u64>> {
        loop {
            let rings = self.drain();
            if rings > 0 {
                return Ok(Some(rings));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut fds, left.map(TimeSpec::from), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(Error::os("ppoll", errno, "cannot wait for a doorbell"));
                }
            }
        }
    }

    /// The kernel's number of this eventfd, by which a peer recognises it.
    ///
    /// # References
    /// `eventfd-id` in `/proc/self/fdinfo/N`, Linux 5.2.
    ///
    /// # Errors
    /// An operating system error without /proc; `ERR_RINGBELL_UNSUPPORTED_PLATFORM` before Linux 5.2.
    pub fn id(&self) -> Result<u64> {
        Info::read(self.as_fd())?.id.ok_or_else(|| Error::UnsupportedPlatform {
            what: "/proc/self/fdinfo shows no eventfd-id, which needs Linux 5.2 or newer".into(),
        })
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

/// The lines of fdinfo that matter here.
struct Info {
    id: Option<u64>,
    flags: i32,
}

impl Info {
    fn read(fd: BorrowedFd<'_>) -> Result<Info> {
        let text =
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).map_err(|error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                Error::os("read", errno, "cannot read /proc/self/fdinfo; is /proc mounted?")
            })?;
        Ok(Info::parse(&text))
    }

    fn parse(text: &str) -> Info {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        Info {
            id: value("eventfd-id:").and_then(|id| id.parse().ok()),
            flags: value("flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok()).unwrap_or(0),
        }
    }
}

fn corrupt(what: String) -> Error {
    Error::CorruptPeer { what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_add_up_and_one_drain_takes_them() {
        let bell = EventFd::new().unwrap();
        assert_eq!(bell.drain(), 0);
        bell.ring();
        bell.ring();
        assert_eq!(bell.drain(), 2);
        assert_eq!(bell.wait_timeout(Duration::from_millis(5)).unwrap(), None);
    }

    #[test]
    fn semaphore_mode_gives_one_ring_at_a_time() {
        let bell = EventFd::semaphore().unwrap();
        bell.ring();
        bell.ring();
        assert_eq!((bell.wait().unwrap(), bell.wait().unwrap(), bell.drain()), (1, 1, 0));
    }

    #[test]
    fn a_full_counter_is_revived() {
        let bell = EventFd::new().unwrap();
        bell.counter.write(u64::MAX - 1).unwrap();
        assert_eq!(bell.counter.write(1), Err(Errno::EAGAIN));
        bell.ring();
        assert_eq!(bell.drain(), 1);
    }

    /// What a holder of another process can do to it: every `write` of 1 waits.
    fn spoil(bell: &EventFd) {
        bell.counter.write(u64::MAX - 1).unwrap();
        fcntl(&bell.counter, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    }

    #[test]
    fn what_others_hold_is_rung_whatever_they_do_to_it() {
        use crate::sys::epoll::Epoll;
        let bell = EventFd::new().unwrap().shared();
        let sleeper = Epoll::new().unwrap();
        sleeper.watch_edges(bell.as_fd(), 7).unwrap();
        spoil(&bell);
        let mut ready = Vec::new();
        sleeper.wait(Some(Instant::now()), &mut ready).unwrap();
        // The first ring fills the last place of the counter, if it is rung through the kernel's own signal.
        for round in 0..300 {
            bell.ring();
            sleeper.wait(Some(Instant::now()), &mut ready).unwrap();
            assert_eq!(ready, [7], "ring {round} wakes whoever sleeps");
        }
    }

    #[test]
    fn many_threads_lose_no_ring() {
        let bell = EventFd::new().unwrap().shared();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| bell.ring()));
            }
        });
        assert_eq!(bell.drain(), 8000);
    }

    #[test]
    fn a_forked_child_rings_its_own_and_not_its_parents() {
        use nix::sys::wait::{WaitStatus, waitpid};
        use nix::unistd::{ForkResult, fork};
        let bell = EventFd::new().unwrap().shared();
        bell.ring();
        // SAFETY: the child makes an eventfd and rings it, which allocates and takes no lock of this crate, then `_exit`.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                bell.ring();
                let own = EventFd::new().map(EventFd::shared);
                let rung = own.is_ok_and(|own| {
                    own.ring();
                    own.drain() == 1
                });
                // SAFETY: ends the child without running anything of its parent's.
                unsafe { libc::_exit(i32::from(!rung)) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
                assert_eq!(bell.drain(), 1);
            }
        }
    }

    #[test]
    fn a_waiter_is_woken_by_another_thread() {
        let bell = EventFd::new().unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| bell.wait_timeout(Duration::from_secs(20)).unwrap());
            bell.ring();
            assert_eq!(waiter.join().unwrap(), Some(1));
        });
    }

    #[test]
    fn only_the_announced_eventfd_is_taken_over() {
        let (one, other) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        let id = one.id().unwrap();
        assert_ne!(id, other.id().unwrap());
        let dup = |bell: &EventFd| bell.as_fd().try_clone_to_owned().unwrap();
        EventFd::from_peer(dup(&one), id).unwrap().ring();
        assert_eq!(one.drain(), 1);
        assert!(EventFd::from_peer(dup(&other), id).is_err());
        let (pipe, _write) = nix::unistd::pipe().unwrap();
        assert!(EventFd::from_peer(pipe, id).is_err());
    }

    #[test]
    fn an_eventfd_that_blocks_is_refused() {
        let blocking = Counter::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap();
        let id = Info::read(blocking.as_fd()).unwrap().id.unwrap();
        let fd = blocking.as_fd().try_clone_to_owned().unwrap();
        assert!(EventFd::from_peer(fd, id).is_err());
    }
}
