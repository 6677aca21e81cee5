//! Growing pauses with jitter, so that a thousand processes that were turned away together do not come back together.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(64);

/// The pauses of one acquisition.
pub(super) struct Backoff {
    next: Duration,
    random: RandomState,
    count: u64,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST, random: RandomState::new(), count: 0 }
    }

    /// The next pause: doubled each time up to 64 ms, half of it certain and half of it by chance.
    pub(super) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(LONGEST);
        self.count += 1;
        let half = full / 2;
        let chance = (self.random.hash_one(self.count) % 1024) as u32;
        half + half * chance / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let (mut one, mut other) = (Backoff::new(), Backoff::new());
        let pauses: Vec<_> = (0..20).map(|_| one.next()).collect();
        assert!(pauses[0] < Duration::from_millis(1) && pauses[19] >= LONGEST / 2);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST && !pause.is_zero()));
        assert_ne!(pauses, (0..20).map(|_| other.next()).collect::<Vec<_>>());
    }
}
