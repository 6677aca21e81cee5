//! Looking before sleeping, announcing the sleep, and waking.
//!
//! Invariant: a subscriber sleeps only after every source was armed and had nothing to do. Event loops call `spin`,
//! `arm` and `harvest`; `recv` and its variants call the rest. Only `sleep` may wait.

use std::time::Instant;

use super::Subscriber;
use crate::error::{Error, Result};
use crate::topic::source::Source;

impl Subscriber {
    /// Looks for something to do, about `turns` times. It executes pause instructions between two looks. Says whether
    /// it found something.
    pub fn spin(&self, turns: u32) -> bool {
        !self.notices.is_empty() || self.spin_sources(turns)
    }

    /// Whether there may be messages, or news of publishers.
    pub(super) fn pending(&self) -> bool {
        self.home.is_foreign() || self.inbox.has_news() || self.sources.iter().any(Source::pending)
    }

    pub(super) fn spin_sources(&self, turns: u32) -> bool {
        if self.home.is_foreign() || self.inbox.has_news() {
            return true;
        }
        match self.sources.as_slice() {
            [only] => only.spin(turns),
            sources => {
                for _ in 0..turns / (sources.len().max(1) as u32) {
                    if sources.iter().any(Source::pending) {
                        return true;
                    }
                    std::hint::spin_loop();
                }
                self.inbox.has_news()
            }
        }
    }

    /// Announces to every publisher that this subscriber is about to sleep. True means that there is nothing to do:
    /// sleep on `as_fd`, and call [`harvest`](Self::harvest) when it is readable. False means: there may be something.
    pub fn arm(&mut self) -> bool {
        self.arm_sources() && self.notices.is_empty()
    }

    /// As `arm`, but queued notices do not keep it from sleeping.
    pub(super) fn arm_sources(&mut self) -> bool {
        if self.home.is_foreign() {
            return false;
        }
        // Acknowledgements that are due go out first: a publisher must not wait for room because its subscriber
        // sleeps.
        let due = self.pending.take();
        self.acknowledge_due(due);
        let mut quiet = !self.closed;
        for source in &mut self.sources {
            // Every source is armed, even if an earlier one has something to do: the caller may sleep after its next
            // call.
            quiet &= source.arm(&self.inbox);
        }
        quiet && !self.inbox.has_news()
    }

    /// Takes the event that woke the sleeper on `as_fd`, so that it can sleep again, and counts the wake-up. False
    /// means that there was none.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child. An error of `epoll_wait`, which does not occur in practice.
    pub fn harvest(&mut self) -> Result<bool> {
        self.sleep(Some(Instant::now()))?;
        Ok(!self.ready.is_empty())
    }

    fn note_wakeup(&mut self) {
        self.wakeups += 1;
        for source in &mut self.sources {
            source.reader_mut().note_wakeup();
        }
    }

    /// Sleeps until something happens, or until `deadline`.
    pub(super) fn sleep(&mut self, deadline: Option<Instant>) -> Result<()> {
        if self.home.is_foreign() {
            // The parent uses the same epoll. If the child took an event, the parent would sleep through it.
            return Err(Error::Closed { what: "subscriber" });
        }
        self.inbox.sleep(deadline, &mut self.ready)?;
        if !self.ready.is_empty() {
            self.note_wakeup();
        }
        Ok(())
    }
}
