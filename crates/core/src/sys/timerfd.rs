//! timerfd: a descriptor that becomes readable at a time, so that an event loop which knows only descriptors wakes then.
//!
//! It is not read: setting it again, or unsetting it, makes it unreadable. `group::Member` calls this. It never waits.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd as Timer, TimerFlags, TimerSetTimeFlags};

use crate::error::{Error, Result};

/// # A timer of the monotonic clock, close-on-exec
///
/// References: timerfd_create(2).
#[derive(Debug)]
pub(crate) struct TimerFd {
    inner: Timer,
}

impl TimerFd {
    /// # Makes a timer that is not set
    ///
    /// Errors: [`Error::Resource`] when descriptors or memory ran out.
    pub(crate) fn new() -> Result<TimerFd> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let inner = Timer::new(ClockId::CLOCK_MONOTONIC, flags)
            .map_err(|errno| Error::os("timerfd_create", errno, "cannot make a timer"))?;
        Ok(TimerFd { inner })
    }

    /// # Readable from this time on; `None`: never
    ///
    /// Errors: none in practice.
    pub(crate) fn set(&self, at: Option<Instant>) -> Result<()> {
        // 0 would unset it.
        let left = at.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1)));
        let set = match left {
            None => self.inner.unset(),
            Some(left) => {
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.inner.set(expiration, TimerSetTimeFlags::empty())
            }
        };
        set.map_err(|errno| Error::os("timerfd_settime", errno, "cannot set a timer"))
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::epoll::Epoll;

    #[test]
    fn it_is_readable_from_its_time_on_until_it_is_set_again() {
        let (epoll, timer) = (Epoll::new().unwrap(), TimerFd::new().unwrap());
        epoll.watch(timer.as_fd(), 7).unwrap();
        let mut ready = Vec::new();
        let mut look = |until| {
            epoll.wait(until, &mut ready).unwrap();
            !ready.is_empty()
        };
        assert!(!look(Some(Instant::now())));
        timer.set(Some(Instant::now())).unwrap();
        assert!(look(None) && look(Some(Instant::now())));
        timer.set(Some(Instant::now() + Duration::from_secs(3600))).unwrap();
        assert!(!look(Some(Instant::now())));
        timer.set(Some(Instant::now() + Duration::from_millis(1))).unwrap();
        assert!(look(None));
        timer.set(None).unwrap();
        assert!(!look(Some(Instant::now())));
    }
}
