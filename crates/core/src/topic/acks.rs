//! When a message counts as done, and when its publisher is told.
//!
//! *Immediate*: a read makes everything done that it copied. *Batch*: a message is done when the next one is asked
//! for. Done messages are told together: after a number of messages, after a time, and before the subscriber sleeps,
//! so that no publisher waits for room that it could have. *Deferred*: a message is done when the user says so. The
//! subscriber calls this. Invariant: nothing here has a timer. `Pending` is asked while messages flow.

use std::time::{Duration, Instant};

/// What makes a message done, and when its publisher is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// A message is done as soon as it is copied out of the ring.
    #[default]
    Immediate,
    /// A message is done when the next one is asked for. The publisher is told of many messages together.
    Batch,
    /// A message is done when [`Subscriber::ack`](super::Subscriber::ack) says so.
    Deferred,
}

/// Messages of one source that are done and not told yet.
pub(super) struct Pending {
    mode: AckMode,
    most: usize,
    longest: Duration,
    source: u32,
    /// Sequence of the last one.
    sequence: u64,
    count: usize,
    since: Option<Instant>,
}

impl Pending {
    /// Done messages are told after `most` messages, or after `longest`.
    pub(super) fn new(mode: AckMode, most: usize, longest: Duration) -> Self {
        Self { mode, most, longest, source: 0, sequence: 0, count: 0, since: None }
    }

    pub(super) fn mode(&self) -> AckMode {
        self.mode
    }

    /// Counts another message as done. Answers the last one of another source, if that has to be told first.
    #[must_use]
    pub(super) fn done(&mut self, source: u32, sequence: u64) -> Option<(u32, u64)> {
        let before = if self.count > 0 && source != self.source { self.take() } else { None };
        (self.source, self.sequence) = (source, sequence);
        self.count += 1;
        before
    }

    /// The last message that is done, if there are enough of them to tell.
    #[must_use]
    pub(super) fn enough(&mut self) -> Option<(u32, u64)> {
        if self.count >= self.most { self.take() } else { None }
    }

    /// The last message that is done, if the first one has waited long enough. It looks at the clock, so do not call
    /// it for every message.
    #[must_use]
    pub(super) fn late(&mut self) -> Option<(u32, u64)> {
        if self.count == 0 {
            return None;
        }
        // The time begins at the first question, which comes at the end of the first message's batch.
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.longest { self.take() } else { None }
    }

    /// The last message that is done, if there is one.
    #[must_use]
    pub(super) fn take(&mut self) -> Option<(u32, u64)> {
        self.since = None;
        (std::mem::take(&mut self.count) > 0).then_some((self.source, self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(most: usize) -> Pending {
        Pending::new(AckMode::Batch, most, Duration::from_millis(5))
    }

    #[test]
    fn enough_is_told_in_one_go() {
        let mut pending = pending(8);
        for sequence in 0..7 {
            assert_eq!(pending.done(1, sequence), None);
            assert_eq!(pending.enough(), None);
        }
        assert_eq!(pending.done(1, 7), None);
        assert_eq!(pending.enough(), Some((1, 7)));
        assert_eq!((pending.enough(), pending.late(), pending.take()), (None, None, None));
    }

    #[test]
    fn another_source_does_not_wait_for_the_first() {
        let mut pending = pending(8);
        assert_eq!(pending.done(1, 4), None);
        assert_eq!(pending.done(2, 9), Some((1, 4)));
        assert_eq!(pending.take(), Some((2, 9)));
    }

    #[test]
    fn a_late_acknowledgement_is_reported() {
        let mut pending = pending(8);
        pending.longest = Duration::ZERO;
        assert_eq!(pending.late(), None);
        assert_eq!(pending.done(1, 0), None);
        assert_eq!(pending.late(), Some((1, 0)));
    }
}
