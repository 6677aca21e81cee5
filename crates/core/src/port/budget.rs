//! How often a guest may cost its publisher something: a ring, a look at what it has sent, an admission.
//!
//! The publisher rings a guest that says that it sleeps, whether or not it does. So what a guest can ask for is
//! rationed. A budget allows a burst, then one in each interval. All guests of a topic share a rate, so the
//! interval grows with their number. `guests`, forwarders and a server's connection quota call this. It never
//! waits, and never limits processes of one's own user.

use std::collections::HashMap;

use crate::sys::clock::monotonic_ns;

/// Nanoseconds between two rings of one guest, when it is the only guest.
const RINGS: u64 = 100_000;
/// Nanoseconds between two looks at the reports of a guest that is streamed to. Each look takes many reports.
const LOOKS: u64 = 250_000;
/// Nanoseconds between two admissions of one user. Each admission makes segments and maps them.
const ADMISSIONS: u64 = 10_000_000;
/// How many may come at once, after a quiet time.
const BURST: u64 = 32;

/// The budget of one guest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// The time at which all that was allowed so far is paid for, in nanoseconds of the monotonic clock.
    paid: u64,
}

impl Budget {
    /// Whether one more is allowed now, at a rate of one in each interval. If it is, it is taken from the budget.
    pub(crate) fn take(&mut self, now: u64, interval: u64) -> bool {
        let paid = self.paid.max(now);
        let allowed = paid - now <= interval * BURST;
        if allowed {
            self.paid = paid + interval;
        }
        allowed
    }
}

impl Budget {
    /// Whether nothing is owed. The budget is then as good as a new one.
    pub(crate) fn is_paid(&self, now: u64) -> bool {
        self.paid <= now
    }
}

/// How often each of the other users came lately.
#[derive(Debug, Default)]
pub(crate) struct Admissions(HashMap<u32, Budget>);

impl Admissions {
    /// Whether one more guest of this user may come now. If so, it is counted.
    pub(crate) fn take(&mut self, uid: u32) -> bool {
        let now = monotonic_ns();
        self.0.retain(|_, budget| !budget.is_paid(now));
        self.0.entry(uid).or_default().take(now, ADMISSIONS)
    }
}

/// How long a guest waits for its next ring when the burst is used up, in nanoseconds, with this number of guests.
pub(crate) fn ring_interval(guests: u32) -> u64 {
    RINGS * u64::from(guests.max(1))
}

/// The same interval for a look at a guest's reports.
pub(crate) fn look_interval(guests: u32) -> u64 {
    LOOKS * u64::from(guests.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_rate_that_all_share() {
        for guests in [1, 64] {
            let (mut budget, second) = (Budget::default(), 1_000_000_000u64);
            let taken = (0..second)
                .step_by(1000)
                .filter(|now| budget.take(second + now, ring_interval(guests)))
                .count();
            let rate = 10_000 / guests as usize;
            assert!((rate..=rate + 34).contains(&taken), "{taken} in a second, with {guests} guests");
            assert!(!budget.is_paid(second) && budget.is_paid(second * 60));
            assert!(
                (0..BURST).all(|_| budget.take(second * 60, ring_interval(guests))),
                "quiet times are made up for"
            );
        }
    }
}
