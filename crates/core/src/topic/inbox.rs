//! What the bus thread tells a subscriber: a queue, a flag that costs nothing to look at, and the epoll that it sleeps on.
//!
//! The subscriber looks at the flag before every batch, so news are taken up while messages flow; the bell is in the
//! epoll, so they wake it when it sleeps. The bus thread never waits for the subscriber. What nobody will take any more
//! is dropped at once: a publisher would wait for ever for a subscriber that sits in a queue.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::source::Joined;
use crate::bus::Record;
use crate::error::{Error, Result};
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;

/// News from the bus thread.
pub(super) enum Arrival {
    /// A publisher was acquired and joined, and its doorbell is watched.
    Joined(Box<Joined>),
    /// The instance with this id has died or closed: drain it, nothing will follow.
    Gone(String),
    /// A publisher could not be attached.
    Failed(Arc<Record>, Error),
    /// The bus was closed: nobody will arrive any more, and nobody's end will be heard of.
    Closed,
}

/// The queue between the bus thread and one subscriber.
pub(super) struct Inbox {
    /// `None` once the subscriber is gone.
    queue: Mutex<Option<VecDeque<Arrival>>>,
    /// True while the queue may hold something.
    news: AtomicBool,
    bell: EventFd,
    /// The bell, level-triggered, and the doorbells of all sources, edge-triggered.
    epoll: Epoll,
}

impl Inbox {
    pub(super) fn new() -> Result<Arc<Self>> {
        let (bell, epoll) = (EventFd::new()?, Epoll::new()?);
        epoll.watch(bell.as_fd(), 0)?;
        let queue = Mutex::new(Some(VecDeque::new()));
        Ok(Arc::new(Self { queue, news: AtomicBool::new(false), bell, epoll }))
    }

    /// Has a source's doorbell wake the subscriber. Before it is told of the source: not armed yet, so no ring can be
    /// missed, and what fails here can still be tried again.
    pub(super) fn watch(&self, doorbell: &EventFd) -> Result<()> {
        self.epoll.watch_edges(doorbell.as_fd(), 1)
    }

    /// Must be called before the last descriptor of the source is closed: the publisher's copies of the doorbell keep
    /// the registration alive.
    pub(super) fn forget(&self, doorbell: &EventFd) {
        self.epoll.forget(doorbell.as_fd());
    }

    /// Sleeps until something rings, or until `deadline`.
    pub(super) fn sleep(&self, deadline: Option<Instant>, ready: &mut Vec<u64>) -> Result<()> {
        self.epoll.wait(deadline, ready)
    }

    pub(super) fn put(&self, arrival: Arrival) {
        match self.queue().as_mut() {
            Some(queue) => queue.push_back(arrival),
            None => return,
        }
        self.nudge();
    }

    /// Has the subscriber look again: something that it was told of has yet to take effect.
    pub(super) fn nudge(&self) {
        // SYNC: pairs with the acquire in `has_news`.
        self.news.store(true, Ordering::Release);
        self.bell.ring();
    }

    #[inline]
    pub(super) fn has_news(&self) -> bool {
        // SYNC: pairs with the release in `nudge`; the queue itself is behind its mutex.
        self.news.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> VecDeque<Arrival> {
        // In this order a `put` in between leaves the flag and the bell set, and at worst the queue empty.
        self.bell.drain();
        // Relaxed: it publishes nothing. The mutex orders it before the queue is looked at.
        self.news.store(false, Ordering::Relaxed);
        self.queue().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The subscriber takes nothing any more: leaves whatever was joined and not taken.
    pub(super) fn close(&self) {
        let rest = self.queue().take();
        // Outside of the lock: it leaves topics, which rings.
        drop(rest);
    }

    fn queue(&self) -> MutexGuard<'_, Option<VecDeque<Arrival>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
