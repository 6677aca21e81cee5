//! What the bus thread tells a subscriber: a queue, a flag that costs nothing to look at, and a bell.
//!
//! The subscriber looks at the flag before every batch, so news are taken up while messages flow; the bell is in its
//! epoll, so they wake it when it sleeps. The bus thread never waits for the subscriber.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::source::Joined;
use crate::bus::Record;
use crate::error::{Error, Result};
use crate::sys::eventfd::EventFd;

/// News from the bus thread.
pub(super) enum Arrival {
    /// A publisher was acquired and joined.
    Joined(Box<Joined>),
    /// The instance with this id has died or closed: drain it, nothing will follow.
    Gone(String),
    /// A publisher could not be attached.
    Failed(Arc<Record>, Error),
}

/// The queue between the bus thread and one subscriber.
pub(super) struct Inbox {
    queue: Mutex<VecDeque<Arrival>>,
    /// True while the queue may hold something.
    news: AtomicBool,
    bell: EventFd,
}

impl Inbox {
    pub(super) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self { queue: Mutex::default(), news: AtomicBool::new(false), bell: EventFd::new()? }))
    }

    pub(super) fn put(&self, arrival: Arrival) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(arrival);
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
        // SYNC: pairs with the release in `put`; the queue itself is behind its mutex.
        self.news.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> VecDeque<Arrival> {
        // In this order a `put` in between leaves the flag and the bell set, and at worst the queue empty.
        self.bell.drain();
        self.news.store(false, Ordering::Release);
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
