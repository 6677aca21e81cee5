//! What the bus thread tells an endpoint: a queue, a flag that costs nothing to look at, and the epoll that it sleeps on.
//!
//! The endpoint looks at the flag before every batch, so news are taken up while messages flow; the bell is in the
//! epoll, so they wake it when it sleeps. The bus thread never waits for the endpoint. What will not be taken any
//! more is dropped at once: a publisher would wait for ever for a subscriber that sits in a queue.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::Result;
use crate::sys::epoll::{BATCH, Epoll};
use crate::sys::eventfd::EventFd;

/// Number under which the inbox's own bell is watched; the endpoint's descriptors have others.
pub(crate) const NEWS: u64 = 0;

/// Looks for more than one look brings: as many as the most connections and doorbells that there can be.
const MOST_LOOKS: usize = 4096;

/// The queue between the bus thread and one endpoint.
pub(crate) struct Inbox<A> {
    /// `None` once the endpoint is gone.
    queue: Mutex<Option<VecDeque<A>>>,
    /// True while the queue may hold something.
    news: AtomicBool,
    bell: EventFd,
    /// The bell, level-triggered, and what the endpoint waits for besides, edge-triggered.
    epoll: Epoll,
}

impl<A> Inbox<A> {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let (bell, epoll) = (EventFd::new()?, Epoll::new()?);
        epoll.watch(bell.as_fd(), NEWS)?;
        let queue = Mutex::new(Some(VecDeque::new()));
        Ok(Arc::new(Self { queue, news: AtomicBool::new(false), bell, epoll }))
    }

    /// Has a descriptor wake the endpoint, once for each time that it becomes readable. Before the endpoint is told of its
    /// owner: not armed yet, so no ring can be missed, and what fails here can still be tried again.
    pub(crate) fn watch(&self, fd: impl AsFd, number: u64) -> Result<()> {
        self.epoll.watch_edges(fd.as_fd(), number)
    }

    /// The same for a socket, which is always read until it is empty; `writable`: also when it takes something again.
    /// Changing that for one that is watched cannot fail.
    pub(crate) fn watch_socket(&self, fd: impl AsFd, writable: bool, number: u64) -> Result<()> {
        self.epoll.watch_arrivals(fd.as_fd(), writable, number)
    }

    /// Must be called before the descriptor is closed where another process has a copy of it: that would keep the
    /// registration alive.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        self.epoll.forget(fd.as_fd());
    }

    /// Sleeps until something rings, or until `deadline`.
    pub(crate) fn sleep(&self, deadline: Option<Instant>, ready: &mut Vec<u64>) -> Result<()> {
        self.epoll.wait(deadline, ready)?;
        // All of it: what stays behind makes no new edge in the epoll that this one is in, and would be slept through.
        let mut more = Vec::new();
        for _ in 0..MOST_LOOKS {
            if ready.is_empty() || !ready.len().is_multiple_of(BATCH) {
                break;
            }
            self.epoll.wait(Some(Instant::now()), &mut more)?;
            if more.is_empty() {
                break;
            }
            ready.append(&mut more);
        }
        Ok(())
    }

    pub(crate) fn put(&self, arrival: A) {
        match self.queue().as_mut() {
            Some(queue) => queue.push_back(arrival),
            None => return,
        }
        self.nudge();
    }

    /// Has the endpoint look again: something that it was told of has yet to take effect.
    pub(crate) fn nudge(&self) {
        // SYNC: pairs with the acquire in `has_news`.
        self.news.store(true, Ordering::Release);
        self.bell.ring();
    }

    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        // SYNC: pairs with the release in `nudge`; the queue itself is behind its mutex.
        self.news.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> VecDeque<A> {
        // In this order a `put` in between leaves the flag and the bell set, and at worst the queue empty.
        self.bell.drain();
        // Relaxed: it publishes nothing. The mutex orders it before the queue is looked at.
        self.news.store(false, Ordering::Relaxed);
        self.queue().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The endpoint takes nothing any more: leaves whatever was joined and not taken.
    pub(crate) fn close(&self) {
        let rest = self.queue().take();
        // Outside of the lock: it leaves topics and connections, which rings.
        drop(rest);
    }

    fn queue(&self) -> MutexGuard<'_, Option<VecDeque<A>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> AsFd for Inbox<A> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
