//! The inbox: how the bus thread tells an endpoint something. It has a queue, a flag that is cheap to read, and the
//! epoll that the endpoint sleeps on.
//!
//! Invariant: the endpoint reads the flag before every batch, so it takes notices while messages flow. The doorbell is
//! in the epoll, so a notice wakes a sleeping endpoint. The bus thread never waits for the endpoint. A notice that the
//! endpoint can no longer take is dropped at once. Otherwise a publisher would wait without end for a subscriber that
//! is still in a queue.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::error::Result;
use crate::sys::epoll::{BATCH, Epoll};
use crate::sys::eventfd::EventFd;

/// The number of the inbox's own doorbell in the epoll. The endpoint's descriptors have other numbers.
pub(crate) const NEWS: u64 = 0;

/// The limit of further calls after a full answer. It suffices for the most connections and doorbells that there can
/// be.
const MOST_LOOKS: usize = 4096;

/// The queue between the bus thread and one endpoint.
pub(crate) struct Inbox<A> {
    /// `None` once the endpoint is gone.
    queue: Mutex<Option<VecDeque<A>>>,
    /// True while the queue may hold something.
    news: AtomicBool,
    bell: EventFd,
    /// The epoll holds the doorbell, level-triggered, and the endpoint's descriptors, edge-triggered.
    epoll: Epoll,
}

impl<A> Inbox<A> {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let (bell, epoll) = (EventFd::new()?, Epoll::new()?);
        epoll.watch(bell.as_fd(), NEWS)?;
        let queue = Mutex::new(Some(VecDeque::new()));
        Ok(Arc::new(Self { queue, news: AtomicBool::new(false), bell, epoll }))
    }

    /// Lets a descriptor wake the endpoint, once for each time that it becomes readable. Call it before the endpoint is
    /// told of the descriptor's owner: the owner is not armed yet, so no ring can be missed, and a failure here can
    /// still be retried.
    pub(crate) fn watch(&self, fd: impl AsFd, number: u64) -> Result<()> {
        self.epoll.watch_edges(fd.as_fd(), number)
    }

    /// The same for a socket that is always read until it is empty. `writable`: the socket also wakes the endpoint when
    /// it can take data again. Changing `writable` of a watched socket cannot fail.
    pub(crate) fn watch_socket(&self, fd: impl AsFd, writable: bool, number: u64) -> Result<()> {
        self.epoll.watch_arrivals(fd.as_fd(), writable, number)
    }

    /// Call it before the descriptor is closed if another process has a copy. The copy would keep the registration
    /// alive.
    pub(crate) fn forget(&self, fd: impl AsFd) {
        self.epoll.forget(fd.as_fd());
    }

    /// Sleeps until something rings, or until `deadline`.
    pub(crate) fn sleep(&self, deadline: Option<Instant>, ready: &mut Vec<u64>) -> Result<()> {
        self.epoll.wait(deadline, ready)?;
        // Everything must be read: a descriptor that stays behind makes no new edge in the epoll around this one. The
        // endpoint would sleep although that descriptor is ready.
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

    /// Makes the endpoint look again, because a notice that it got has yet to take effect.
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
        // In this order, a `put` in between leaves the flag and the doorbell set. At worst the queue is then empty.
        self.bell.drain();
        // Relaxed, because the store publishes nothing. The mutex orders it before the check of the queue.
        self.news.store(false, Ordering::Relaxed);
        self.queue().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The endpoint takes nothing more. Leaves every topic and connection that was joined and not taken.
    pub(crate) fn close(&self) {
        let rest = self.queue().take();
        // Outside of the lock, because the drop leaves topics and connections, and that rings doorbells.
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
