//! eventfd: a 64-bit counter in the kernel that any epoll can wait for. Here it is a doorbell.
//!
//! A broadcast doorbell is rung by one process and never read. Each listener's own epoll holds it with `EPOLLIN |
//! EPOLLET`, so every write wakes every sleeper once. A point-to-point doorbell is read by its only owner (`drain`,
//! `wait`), in semaphore mode one ring at a time. A descriptor from a peer comes in through `from_peer`, which
//! checks that it is an eventfd and the announced one. All eventfds share one inode, so only the `eventfd-id` of
//! fdinfo (Linux 5.2) tells them apart.
//!
//! Every holder can clear `O_NONBLOCK` for all holders and fill the counter. `write` would wait then. So a doorbell
//! that other processes hold is looked at before each `write`. A doorbell that was tampered with is rung through
//! `aio` from then on; after `use_aio` all of them are. Invariant: a doorbell that other processes hold is never read
//! in a way that can wait, because any holder can empty it. Called by `port::Doorbell`, the reactor and users of the crate.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};
use nix::sys::time::TimeSpec;

use super::aio;
use super::fork::Entry;
use crate::{Error, Result};

/// Whether `aio` rings all shared doorbells of this process. [`TAMPERED`]: whether any of them was found tampered with.
/// Relaxed, both here and for each doorbell's `tampered`: no other memory depends on them. A ring that misses a change
/// is done in the way that was right just before.
static AIO: AtomicBool = AtomicBool::new(false);
static TAMPERED: AtomicBool = AtomicBool::new(false);

/// From now on this process rings the doorbells that other processes hold through `aio`. That cannot be undone, and
/// the process then dies late.
pub(crate) fn use_aio() {
    AIO.store(true, Ordering::Relaxed);
}

/// Tells in words how this process rings the doorbells that other processes hold.
pub(crate) fn describe_ringing() -> &'static str {
    match (AIO.load(Ordering::Relaxed), TAMPERED.load(Ordering::Relaxed)) {
        (true, _) => "by io_submit (safe doorbells)",
        (false, false) => "by write",
        (false, true) => "by write, and by io_submit since another process has tampered with them",
    }
}

/// A doorbell: one process rings it, and others sleep on it.
#[derive(Debug)]
pub struct EventFd {
    // It stands before `counter`: an entry must be gone before its number can be reused.
    guard: Option<Entry>,
    counter: Counter,
    /// Whether other processes hold it.
    shared: bool,
    /// Whether it was once found in a state in which `write` would have waited.
    tampered: AtomicBool,
}

impl EventFd {
    /// Makes a doorbell. Its reader takes all rings at once.
    ///
    /// # References
    /// `eventfd(2)` with `EFD_CLOEXEC | EFD_NONBLOCK`.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<EventFd> {
        EventFd::with(EfdFlags::empty())
    }

    /// Makes a doorbell for point-to-point use. Its reader takes one ring at a time.
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
        Ok(EventFd::from_counter(counter))
    }

    fn from_counter(counter: Counter) -> EventFd {
        EventFd { guard: None, counter, shared: false, tampered: AtomicBool::new(false) }
    }

    /// The same doorbell, but without effect in a forked child: ringing it there does nothing, and the child keeps
    /// no epoll registration alive.
    ///
    /// # References
    /// `pthread_atfork(3)`.
    pub(crate) fn guarded(mut self) -> EventFd {
        self.guard = Some(Entry::new(self.counter.as_fd()));
        self
    }

    /// The same doorbell, for other processes to hold as well. It is [guarded](EventFd::guarded), and looked at
    /// before it is rung.
    pub(crate) fn shared(self) -> EventFd {
        EventFd { shared: true, ..self.guarded() }
    }

    /// Takes over a descriptor from a peer, after a check that it is the eventfd with this `id`. An eventfd that
    /// was tampered with is not refused: the peer may not be the process that did it, and [`ring`](EventFd::ring)
    /// checks for it.
    ///
    /// # References
    /// `proc(5)` /proc/PID/fdinfo.
    ///
    /// # Errors
    /// `ERR_RINGBELL_CORRUPT_PEER` when it is something else. The descriptor is closed then. An operating system
    /// error when fdinfo cannot be read.
    pub fn from_peer(fd: OwnedFd, id: u64) -> Result<EventFd> {
        match number_of(fd.as_fd())? {
            None => Err(corrupt("a descriptor announced as a doorbell is not an eventfd".into())),
            Some(found) if found != id => {
                Err(corrupt(format!("the doorbell is eventfd {found}, but eventfd {id} was announced")))
            }
            Some(_) => {
                // SAFETY: fdinfo has just shown that this descriptor is an eventfd, and `fd` owns it.
                let counter = unsafe { Counter::from_owned_fd(fd) };
                Ok(EventFd { shared: true, ..EventFd::from_counter(counter) })
            }
        }
    }

    /// Rings. Nothing that another process did to the eventfd before can block this thread: if `write` would wait,
    /// the ring goes through `aio`, now and from then on. A holder can block it only if it clears `O_NONBLOCK` of
    /// a full counter between the look and the `write`. After `use_aio` even that does not block it. If `aio`
    /// does not work, `O_NONBLOCK` is set again and room is made in a full counter instead.
    ///
    /// # References
    /// `fcntl(2)` F_GETFL and F_SETFL, `write(2)` on an eventfd, `io_submit(2)`, `preadv2(2)`.
    pub fn ring(&self) {
        if !self.shared {
            return self.write();
        }
        let trusted = !AIO.load(Ordering::Relaxed) && !self.tampered.load(Ordering::Relaxed);
        if trusted && self.write_unless_tampered() {
            return;
        }
        if aio::signal(self.as_fd()).is_err() {
            self.unblock();
            self.write();
        }
    }

    /// Writes, unless the eventfd was tampered with. Returns whether it was fit for `write`. Only a hostile process
    /// fills the counter: rings alone would take centuries.
    fn write_unless_tampered(&self) -> bool {
        let fit = self.flags().contains(OFlag::O_NONBLOCK) && self.counter.write(1) != Err(Errno::EAGAIN);
        if !fit {
            self.tampered.store(true, Ordering::Relaxed);
            TAMPERED.store(true, Ordering::Relaxed);
        }
        fit
    }

    fn flags(&self) -> OFlag {
        // F_GETFL cannot fail for an open descriptor.
        fcntl(&self.counter, FcntlArg::F_GETFL).map_or(OFlag::empty(), OFlag::from_bits_retain)
    }

    /// Makes reads and writes fail where they would wait.
    fn unblock(&self) {
        let flags = self.flags();
        if !flags.contains(OFlag::O_NONBLOCK) {
            // F_SETFL cannot fail for an open descriptor.
            let _ = fcntl(&self.counter, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK));
        }
    }

    /// Writes one ring. A full counter, which another process filled, would swallow every further ring. Then the
    /// counter is read once, which makes room, and written again. libevent does the same (its commit 6074d558).
    fn write(&self) {
        if self.counter.write(1) == Err(Errno::EAGAIN) {
            self.make_room();
            let _ = self.counter.write(1);
        }
    }

    /// Reads the counter, if that can be done without waiting. Another process may empty it at the same time, and may
    /// have cleared `O_NONBLOCK`, so the read itself has to say that it does not wait.
    ///
    /// # References
    /// `preadv2(2)` RWF_NOWAIT. An eventfd knows it since Linux 5.8. Before, it answers EOPNOTSUPP, the counter stays
    /// full, and a ring wakes no process.
    fn make_room(&self) {
        let mut count = [0u8; 8];
        let part = libc::iovec { iov_base: count.as_mut_ptr().cast(), iov_len: count.len() };
        // Position -1, in two halves: the eventfd has none.
        let (fd, none) = (self.counter.as_fd().as_raw_fd(), -1 as libc::c_long);
        // SAFETY: the kernel reads one iovec, and writes at most the 8 bytes that it names. Both outlive the call. The
        // result does not matter: where there was no room before and is none now, the next write fails.
        unsafe {
            libc::syscall(
                libc::SYS_preadv2,
                fd,
                &raw const part,
                1 as libc::c_long,
                none,
                none,
                libc::RWF_NOWAIT,
            );
        }
    }

    /// Takes the rings that have come, without waiting. Returns 0 if there were none, and at most 1 in semaphore
    /// mode.
    ///
    /// # References
    /// `read(2)` on an eventfd.
    pub fn drain(&self) -> u64 {
        self.counter.read().unwrap_or(0)
    }

    /// Waits until the doorbell rings, and takes the rings.
    ///
    /// # References
    /// `ppoll(2)`.
    ///
    /// # Errors
    /// The errors of `ppoll`; in practice ENOMEM.
    pub fn wait(&self) -> Result<u64> {
        loop {
            if let Some(rings) = self.wait_until(None)? {
                return Ok(rings);
            }
        }
    }

    /// Waits at most `timeout`. `None`: no ring came in that time.
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
        number_of(self.as_fd())?.ok_or_else(|| Error::UnsupportedPlatform {
            what: "/proc/self/fdinfo shows no eventfd-id, which needs Linux 5.2 or newer".into(),
        })
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }
}

/// The `eventfd-id` line of fdinfo. `None`: there is no such line.
fn number_of(fd: BorrowedFd<'_>) -> Result<Option<u64>> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        Error::os("read", errno, "cannot read /proc/self/fdinfo; is /proc mounted?")
    })?;
    let id = text.lines().find_map(|line| line.strip_prefix("eventfd-id:"));
    Ok(id.and_then(|id| id.trim().parse().ok()))
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

    /// What a holder in another process can do to a doorbell. Every `write` of 1 then fails. It waits instead if
    /// `clears` is set, which clears the flag as well.
    fn spoil(bell: &EventFd, clears: bool) {
        bell.counter.write(u64::MAX - 1).unwrap();
        if clears {
            fcntl(&bell.counter, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        }
    }

    #[test]
    fn a_shared_doorbell_rings_whatever_its_other_holders_do() {
        use crate::sys::epoll::Epoll;
        for clears in [true, false] {
            let bell = EventFd::new().unwrap().shared();
            let sleeper = Epoll::new().unwrap();
            sleeper.watch_edges(bell.as_fd(), 7).unwrap();
            spoil(&bell, clears);
            let mut ready = Vec::new();
            sleeper.wait(Some(Instant::now()), &mut ready).unwrap();
            // These are more rings than the queue has room for. The first one fills the last place of the counter.
            for round in 0..300 {
                bell.ring();
                sleeper.wait(Some(Instant::now()), &mut ready).unwrap();
                assert_eq!(ready, [7], "ring {round} wakes the sleeper");
            }
            assert!(bell.tampered.load(Ordering::Relaxed));
        }
        assert!(describe_ringing().contains("by io_submit"), "the doctor says so");
    }

    #[test]
    fn room_is_made_without_waiting() {
        let bell = EventFd::new().unwrap().shared();
        spoil(&bell, true);
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            bell.make_room();
            // Now the counter is empty, as if another holder had just read it.
            bell.make_room();
            done.send(bell.counter.write(1)).unwrap();
        });
        assert_eq!(wait.recv_timeout(Duration::from_secs(20)), Ok(Ok(8)));
    }

    #[test]
    fn many_threads_lose_no_ring() {
        for by_aio in [false, true] {
            let bell = EventFd::new().unwrap().shared();
            bell.tampered.store(by_aio, Ordering::Relaxed);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..1000).for_each(|_| bell.ring()));
                }
            });
            assert_eq!(bell.drain(), 8000);
            assert_eq!(bell.tampered.load(Ordering::Relaxed), by_aio);
        }
    }

    /// Whether `act` returns true in a forked child. `act` may allocate, but takes no lock of this crate that the
    /// parent may hold.
    fn in_a_child(act: impl FnOnce() -> bool) -> bool {
        use nix::sys::wait::{WaitStatus, waitpid};
        use nix::unistd::{ForkResult, fork};
        // SAFETY: `act` keeps the rule above. Then comes `_exit`, which runs no code of the parent.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let yes = act();
                // SAFETY: ends the child without running any code of its parent.
                unsafe { libc::_exit(i32::from(!yes)) }
            }
            ForkResult::Parent { child } => waitpid(child, None) == Ok(WaitStatus::Exited(child, 0)),
        }
    }

    #[test]
    fn a_forked_child_rings_its_own_and_not_its_parents() {
        let bell = EventFd::new().unwrap().shared();
        aio::signal(bell.as_fd()).unwrap();
        assert!(in_a_child(|| {
            bell.ring();
            // The child finds /dev/null in the place of its parent's eventfd. That is no reason to make a queue.
            let quiet = !bell.tampered.load(Ordering::Relaxed);
            let own = EventFd::new().map(EventFd::shared);
            quiet && own.is_ok_and(|own| aio::signal(own.as_fd()).is_ok() && own.drain() == 1)
        }));
        assert_eq!(bell.drain(), 1);
    }

    #[test]
    fn an_aio_context_that_failed_once_is_requested_again() {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let bell = EventFd::new().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limit = |soft| setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok();
        assert!(in_a_child(|| {
            limit(0)
                && aio::signal(bell.as_fd()) == Err(Errno::EMFILE)
                && limit(soft)
                && aio::signal(bell.as_fd()).is_ok()
        }));
        assert_eq!(bell.drain(), 1);
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
    fn an_eventfd_that_blocks_is_taken_over_and_rung() {
        let blocking = EventFd::new().unwrap();
        spoil(&blocking, true);
        let fd = blocking.as_fd().try_clone_to_owned().unwrap();
        EventFd::from_peer(fd, blocking.id().unwrap()).unwrap().ring();
        assert_eq!(blocking.drain(), u64::MAX);
    }
}
