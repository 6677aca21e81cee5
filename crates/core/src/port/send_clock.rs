//! The time of messages that are sent one by one. Reading the exact clock takes a good part of such a send, so a writer
//! that sends very many does not read it for each of them.
//!
//! Invariant: a time is never later than now, and at most one tick of the kernel earlier (1 to 10 ms, 4 on most systems).
//! It is exact for the first [`DENSE`] messages of each tick, and then for every eighth. Used by `Writer`.

use crate::sys::clock::{monotonic_ns, recent_ns};

/// Messages of a tick that all get their exact time. It takes more than 100,000 messages a second to exceed it.
const DENSE: u32 = 1024;
/// After that, the clock is read for one message of so many.
const SPARSE: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct SendClock {
    /// Every message gets its exact time.
    pub(super) exact: bool,
    /// The kernel's tick, and how many messages were sent in it.
    tick: u64,
    sent: u32,
    /// The exact time when it was last read.
    read: u64,
}

impl SendClock {
    /// The time of the next message.
    #[inline]
    pub(super) fn now(&mut self) -> u64 {
        if self.exact { monotonic_ns() } else { self.at(recent_ns(), monotonic_ns) }
    }

    #[inline]
    fn at(&mut self, tick: u64, exact: impl FnOnce() -> u64) -> u64 {
        if tick != self.tick {
            (self.tick, self.sent) = (tick, 0);
        }
        if self.sent < DENSE || self.sent.is_multiple_of(SPARSE) {
            self.read = exact();
        }
        self.sent = self.sent.saturating_add(1);
        self.read.max(tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_messages_get_their_exact_time_and_many_that_of_a_neighbour() {
        let mut clock = SendClock::default();
        for tick in [1_000_000, 5_000_000] {
            for number in 0..u64::from(DENSE) + 100 {
                let time = clock.at(tick, || tick + number);
                let exact = if number < u64::from(DENSE) { number } else { number / 8 * 8 };
                assert_eq!(time, tick + exact);
            }
        }
    }

    /// A pause within a tick, and then a new tick: the time is not older than the tick.
    #[test]
    fn no_time_is_older_than_the_tick() {
        let mut clock = SendClock::default();
        for _ in 0..DENSE + 1 {
            clock.at(1_000_000, || 1_000_001);
        }
        assert_eq!(clock.at(1_000_000, || panic!("it is not read for this one")), 1_000_001);
        assert_eq!(clock.at(2_000_000, || 2_000_500), 2_000_500);
    }

    #[test]
    fn the_exact_clock_is_never_earlier_than_the_tick() {
        let tick = recent_ns();
        assert!(0 < tick && tick <= monotonic_ns());
        let mut exact = SendClock { exact: true, ..SendClock::default() };
        let before = monotonic_ns();
        assert!((0..3000).all(|_| exact.now() >= before));
    }
}
