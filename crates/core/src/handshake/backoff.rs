//! Growing pauses with jitter. A thousand processes that were refused together then do not come back together.
//!
//! `reach` calls this between two tries, and a topic's follower between two reconnections. It never waits itself.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(64);

/// The pauses of one acquisition.
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
    random: RandomState,
    count: u64,
}

impl Backoff {
    /// The first pause is 1 ms, the longest 64 ms.
    pub(super) fn new() -> Backoff {
        Backoff::between(FIRST, LONGEST)
    }

    pub(crate) fn between(first: Duration, longest: Duration) -> Backoff {
        Backoff { next: first, longest, random: RandomState::new(), count: 0 }
    }

    /// The next pause. It doubles each time, up to the longest. The jitter is up to a quarter of it, in either
    /// direction.
    pub(crate) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.longest);
        self.count += 1;
        let chance = (self.random.hash_one(self.count) % 1024) as u32;
        full * 3 / 4 + full / 2 * chance / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let (mut one, mut other) = (Backoff::new(), Backoff::new());
        let pauses: Vec<_> = (0..20).map(|_| one.next()).collect();
        assert!(pauses[0] <= FIRST * 5 / 4 && pauses[19] >= LONGEST * 3 / 4);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST * 5 / 4 && !pause.is_zero()));
        assert_ne!(pauses, (0..20).map(|_| other.next()).collect::<Vec<_>>());
    }
}
