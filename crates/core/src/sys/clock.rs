//! The clocks. Time is `CLOCK_MONOTONIC` everywhere: no decision depends on a wall clock.

use nix::time::{ClockId, clock_gettime};

/// # Nanoseconds of `CLOCK_MONOTONIC`, the same in all processes of a machine (and time namespace)
///
/// References: clock_gettime(2). Errors: none; the clock exists on every Linux.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// # Microseconds of `CLOCK_BOOTTIME`: since the machine started, with the time that it was suspended
///
/// References: clock_gettime(2). Errors: none, as above.
pub(crate) fn boottime_us() -> u64 {
    nanoseconds(ClockId::CLOCK_BOOTTIME) / 1000
}

/// # Nanoseconds of `CLOCK_MONOTONIC_COARSE`: the same clock as of the kernel's last tick, 1 to 10 milliseconds ago
///
/// It costs a quarter of the exact clock. References: clock_gettime(2). Errors: none, as above.
#[inline]
pub(crate) fn recent_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC_COARSE)
}

/// # Nanoseconds of `CLOCK_REALTIME_COARSE`, the clock that file systems stamp files with
///
/// It is only compared with a file's own change time. The comparison says whether the file may change again within the
/// same tick, which would go unnoticed.
pub(crate) fn file_stamp_ns() -> i128 {
    i128::from(nanoseconds(ClockId::CLOCK_REALTIME_COARSE))
}

#[inline]
fn nanoseconds(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward() {
        let before = monotonic_ns();
        assert!(before > 0);
        assert!(monotonic_ns() >= before);
        let recent = recent_ns();
        assert!(0 < recent && recent <= monotonic_ns());
        assert!(file_stamp_ns() > 0);
        let since_start = boottime_us();
        assert!(since_start >= before / 1000 && since_start <= boottime_us());
    }
}
