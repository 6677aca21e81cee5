//! epoll: one descriptor that waits for many.
//!
//! A descriptor is watched for reading, and a socket that was full also for writing. The number that is given with a
//! descriptor comes back with its readiness. Called by the bus thread and by endpoints. Invariant: it never closes what
//! it watches. Code that closes a descriptor must delete it here first, because a registration lives as long as the
//! open file, not as long as the number.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll as NixEpoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::error::{Error, Result};

const INTEREST: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP);
/// Most events that one wait brings.
pub(crate) const BATCH: usize = 64;

/// # An epoll instance
///
/// References: epoll_create1(2), epoll_ctl(2), epoll_wait(2).
#[derive(Debug)]
pub(crate) struct Epoll {
    inner: NixEpoll,
}

impl Epoll {
    /// # Creates an instance, close-on-exec
    ///
    /// Errors: [`Error::Resource`] when descriptors ran out.
    pub(crate) fn new() -> Result<Epoll> {
        let inner = NixEpoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| Error::os("epoll_create1", errno, "cannot wait for events"))?;
        Ok(Epoll { inner })
    }

    /// # Watches `fd`; `data` comes back when it is readable or hung up
    ///
    /// It also works if the descriptor is watched already, or if its number was watched for a file that is closed now.
    ///
    /// Errors: [`Error::Resource`] when `fs.epoll.max_user_watches` or memory ran out.
    pub(crate) fn watch(&self, fd: BorrowedFd<'_>, data: u64) -> Result<()> {
        self.register(fd, INTEREST, data)
    }

    /// # As [`Epoll::watch`], for a descriptor that is most likely watched already: one system call then instead of two
    ///
    /// Errors: as [`Epoll::watch`].
    pub(crate) fn watch_again(&self, fd: BorrowedFd<'_>, data: u64) -> Result<()> {
        match self.inner.modify(fd, &mut EpollEvent::new(INTEREST, data)) {
            Ok(()) => Ok(()),
            // The number belongs to another file now, which is not watched. Any other error is reported by this call.
            Err(_) => self.watch(fd, data),
        }
    }

    fn register(&self, fd: BorrowedFd<'_>, interest: EpollFlags, data: u64) -> Result<()> {
        let mut result = self.inner.add(fd, EpollEvent::new(interest, data));
        if result == Err(Errno::EEXIST) {
            result = self.inner.modify(fd, &mut EpollEvent::new(interest, data));
        }
        result.map_err(|errno| Error::os("epoll_ctl", errno, "cannot wait for a descriptor"))
    }

    /// # Watches a broadcast doorbell: one readiness for each ring, although no process reads it
    ///
    /// References: epoll(7) on `EPOLLET`.
    ///
    /// Errors: as [`Epoll::watch`].
    pub(crate) fn watch_edges(&self, fd: BorrowedFd<'_>, data: u64) -> Result<()> {
        self.register(fd, EpollFlags::EPOLLIN | EpollFlags::EPOLLET, data)
    }

    /// # Watches a socket that was full: as [`Epoll::watch`], and also for being writable
    ///
    /// Errors: as [`Epoll::watch`].
    pub(crate) fn watch_writable(&self, fd: BorrowedFd<'_>, data: u64) -> Result<()> {
        self.register(fd, INTEREST.union(EpollFlags::EPOLLOUT), data)
    }

    /// # Watches a socket only for being writable, and for its end
    ///
    /// Errors: as [`Epoll::watch`].
    pub(crate) fn watch_room(&self, fd: BorrowedFd<'_>, data: u64) -> Result<()> {
        self.register(fd, EpollFlags::EPOLLOUT, data)
    }

    /// # Watches a socket that is always read until it is empty: one readiness for each datagram, and one at the end
    ///
    /// References: epoll(7) on `EPOLLET`. With `writable`, also when it can take more again.
    ///
    /// Errors: as [`Epoll::watch`].
    pub(crate) fn watch_arrivals(&self, fd: BorrowedFd<'_>, writable: bool, data: u64) -> Result<()> {
        let writable = if writable { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        self.register(fd, INTEREST.union(EpollFlags::EPOLLET).union(writable), data)
    }

    /// # Stops watching `fd`; it is not an error if it was not watched
    pub(crate) fn forget(&self, fd: BorrowedFd<'_>) {
        // ENOENT is the only possible error for an open descriptor, and then it was not watched anyway.
        let _ = self.inner.delete(fd);
    }

    /// # Waits, and puts the `data` of what is ready into `ready`
    ///
    /// With a deadline it waits at most until then (rounded up to a millisecond), without one until something happens.
    /// A signal ends the wait with nothing ready.
    ///
    /// Errors: none in practice; EINVAL and EFAULT would be faults of this file.
    pub(crate) fn wait(&self, deadline: Option<Instant>, ready: &mut Vec<u64>) -> Result<()> {
        ready.clear();
        let mut events = [EpollEvent::empty(); BATCH];
        match self.inner.wait(&mut events, timeout(deadline)) {
            Ok(count) => ready.extend(events.iter().take(count).map(EpollEvent::data)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::os("epoll_wait", errno, "cannot wait for events")),
        }
        Ok(())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.0.as_fd()
    }
}

fn timeout(deadline: Option<Instant>) -> EpollTimeout {
    let Some(deadline) = deadline else { return EpollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let milliseconds = left.saturating_add(Duration::from_micros(999)).as_millis();
    EpollTimeout::try_from(i32::try_from(milliseconds).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::eventfd::EventFd;

    #[test]
    fn watching_again_keeps_or_begins_the_watch() {
        let (epoll, bell) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        let mut ready = Vec::new();
        bell.ring();
        for number in [1, 2] {
            // First it is not watched. Then it is watched with other data.
            epoll.watch_again(bell.as_fd(), number).unwrap();
            epoll.wait(Some(Instant::now()), &mut ready).unwrap();
            assert_eq!(ready, [number]);
        }
        epoll.forget(bell.as_fd());
        let file = tempfile::tempfile().unwrap();
        assert!(epoll.watch_again(file.as_fd(), 3).is_err(), "no epoll takes a regular file");
        epoll.wait(Some(Instant::now()), &mut ready).unwrap();
        assert!(ready.is_empty());
    }
}
