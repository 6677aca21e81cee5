//! Hearing of subscribers: waiting for them, and telling who came, stalls and went.
//!
//! Invariant: a publisher announces that it listens before it looks, so it looks again after each change. Subscribers
//! that come and leave ring its room doorbell. A death rings nothing, and a stall depends on the clock, so both are
//! found by a sweep. A publisher that does not listen pays nothing for any of this.

use std::time::{Duration, Instant};

use super::audience::Look;
use super::{Publisher, PublisherNotice};
use crate::error::Result;
use crate::sys::clock::monotonic_ns;

/// The longest sleep of a publisher that listens. Then it sweeps.
const LISTEN: Duration = Duration::from_millis(250);
/// A subscriber that has been in the way for so long counts as stalled.
const STALL: Duration = Duration::from_secs(1);

impl Publisher {
    /// What has happened to the subscribers since the last call, in the order of their slots. The first call reports
    /// all that are attached. It makes no system call.
    ///
    /// From the first call on, this publisher listens: a subscriber that attaches or leaves makes `as_fd` readable. The
    /// death of a subscriber does not, and a stall does not. So call [`sweep`](Self::sweep) and this from time to time,
    /// every 250 ms for instance. [`wait_notices`](Self::wait_notices) does all of it. A subscriber that came and left
    /// between two calls is not reported.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{PublisherNotice, PublisherOptions, SubscriberEnd, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// assert!(publisher.notices().is_empty());
    ///
    /// let subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// let patience = Some(Duration::from_secs(30));
    /// assert!(publisher.wait_attached(1, patience)?);
    /// let notices = publisher.wait_notices(patience)?;
    /// assert!(matches!(&notices[..], [PublisherNotice::Attached { .. }]));
    ///
    /// drop(subscriber);
    /// let notices = publisher.wait_notices(patience)?;
    /// assert!(matches!(&notices[..], [PublisherNotice::Ended { reason: SubscriberEnd::Closed, .. }]));
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    pub fn notices(&mut self) -> Vec<PublisherNotice> {
        let mut notices = Vec::new();
        if !self.is_foreign() {
            self.writer.listen();
            let stall = |after: Duration| STALL.min(after / 2);
            let look = Look {
                all: std::mem::take(&mut self.swept),
                now: monotonic_ns(),
                patience: stall(self.evict_after),
                guest_patience: stall(self.guests_evict_after),
            };
            self.audience.look(&mut self.writer, look, &mut notices);
        }
        notices
    }

    /// Whether a subscriber has come or left since this publisher last announced that it listens. True means: look now.
    /// It is always true while the publisher does not listen.
    pub fn is_rung(&self) -> bool {
        !self.is_foreign() && !self.writer.is_listening()
    }

    /// Announces that this publisher listens, as [`notices`](Self::notices) does, without taking any notices.
    pub fn listen(&mut self) {
        if !self.is_foreign() {
            self.writer.listen();
        }
    }

    /// Stops listening. What happens until the next look is reported then.
    pub fn stop_listening(&mut self) {
        if !self.is_foreign() {
            self.writer.stop_listening();
        }
    }

    /// Waits until there are notices, or until `timeout` has passed. A death or a stall is noticed within 250 ms.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn wait_notices(&mut self, timeout: Option<Duration>) -> Result<Vec<PublisherNotice>> {
        let mut found = Vec::new();
        self.listen_until(timeout, |publisher| {
            found = publisher.notices();
            !found.is_empty()
        })?;
        Ok(found)
    }

    /// Waits until `count` subscribers are attached, or until `timeout` has passed. Says whether they are attached.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn wait_attached(&mut self, count: usize, timeout: Option<Duration>) -> Result<bool> {
        self.listen_until(timeout, |publisher| {
            publisher.listen();
            publisher.are_attached(count)
        })
    }

    /// Whether `count` subscribers are attached and alive. It asks the kernel only if as many slots are in use.
    pub fn are_attached(&self, count: usize) -> bool {
        !self.is_foreign() && self.writer.are_read_by(count)
    }

    /// Looks until `done` says so, after each change and each sweep. False: the time is up.
    fn listen_until(
        &mut self,
        timeout: Option<Duration>,
        mut done: impl FnMut(&mut Publisher) -> bool,
    ) -> Result<bool> {
        self.ensure_home()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut ready = Vec::new();
        let mut sweep = Instant::now();
        loop {
            let now = Instant::now();
            if now >= sweep {
                self.sweep();
                sweep = now + LISTEN;
            }
            if done(self) {
                return Ok(true);
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(false);
            }
            self.epoll.wait(Some(deadline.map_or(sweep, |deadline| deadline.min(sweep))), &mut ready)?;
        }
    }
}
