//! Round trips: how they are timed and summed up. One at a time where they cost microseconds; in groups of
//! 64 where they spin, because reading the clock costs a fifth of such a round trip.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::payload::Check;
use crate::{Arguments, Outcome};

/// Runs `trip` until the window is over and gives the distribution in nanoseconds a trip.
pub fn measure(
    arguments: &Arguments,
    group: u32,
    mut trip: impl FnMut(u32) -> Outcome<()>,
) -> Outcome<Value> {
    let (warm, window) = (arguments.warm()?, arguments.window()?);
    let mut sequence = 0_u32;
    let mut run = |length: Duration, samples: &mut Vec<f64>| -> Outcome<()> {
        let end = Instant::now() + length;
        loop {
            let from = Instant::now();
            for _ in 0..group {
                trip(sequence)?;
                sequence = sequence.wrapping_add(1);
            }
            let to = Instant::now();
            samples.push((to - from).as_nanos() as f64 / f64::from(group));
            if to >= end {
                return Ok(());
            }
        }
    };
    let mut samples = Vec::with_capacity(1 << 20);
    run(warm, &mut samples)?;
    samples.clear();
    run(window, &mut samples)?;
    Ok(distribution(&mut samples, group))
}

/// Percentiles of `samples` (nanoseconds), nearest rank.
pub fn distribution(samples: &mut [f64], group: u32) -> Value {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |part: f64| {
        let rank = (part * samples.len() as f64).ceil() as usize;
        samples.get(rank.clamp(1, samples.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    };
    json!({
        "samples": samples.len(), "group": group,
        "min": at(0.0), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0),
    })
}

/// A round trip that brought back something else is no result.
pub fn checked(check: &Check) -> Outcome<()> {
    if check.bad == 0 && check.lost == 0 {
        return Ok(());
    }
    Err(format!("{} messages came back damaged, {} were lost", check.bad, check.lost).into())
}
