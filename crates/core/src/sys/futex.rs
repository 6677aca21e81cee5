//! futex: threads of several processes sleep on one word of shared memory.
//!
//! Invariant: a sleep ends when the word differs from what the sleeper saw, so a wake-up before the sleep is not lost.
//! The word lies in a file that is mapped shared, so the kernel finds it by the file. Called by `sync`. It never says why
//! a sleep ended: the caller looks again.

#![allow(unsafe_code)]

use std::time::Instant;

use nix::errno::Errno;

/// Sleeps while the word is `seen`, at most until `deadline`.
///
/// # References
/// `futex(2)` FUTEX_WAIT, with a relative time. The word is shared between processes, so not FUTEX_PRIVATE_FLAG.
///
/// # Errors
/// None: whatever ended the sleep, the caller looks again. A bad address cannot come from a live mapping.
pub(crate) fn wait(word: *const u32, seen: u32, deadline: Option<Instant>) {
    let left = match deadline {
        None => None,
        Some(deadline) => match deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Some(libc::timespec {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos() as _,
            }),
            _ => return,
        },
    };
    let time = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the kernel only reads four bytes at `word`, which the caller keeps mapped (M1), and the timeout above.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, seen, time) };
}

/// Wakes everybody who sleeps on the word. Returns how many.
///
/// # References
/// `futex(2)` FUTEX_WAKE.
///
/// # Errors
/// None, as above.
pub(crate) fn wake(word: *const u32) -> usize {
    // SAFETY: the kernel uses the address only as a key.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, i32::MAX) };
    Errno::result(woken).map_or(0, |woken| usize::try_from(woken).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[test]
    fn a_sleeper_wakes_up_by_a_ring_a_change_or_the_time() {
        static WORD: AtomicU32 = AtomicU32::new(0);
        wait(WORD.as_ptr(), 1, None);
        let begun = Instant::now();
        wait(WORD.as_ptr(), 0, Some(begun + Duration::from_millis(20)));
        assert!(begun.elapsed() >= Duration::from_millis(20));
        wait(WORD.as_ptr(), 0, Some(begun));
        let sleeper = std::thread::spawn(|| {
            while WORD.load(Ordering::Acquire) == 0 {
                wait(WORD.as_ptr(), 0, None);
            }
        });
        WORD.store(1, Ordering::Release);
        while !sleeper.is_finished() {
            wake(WORD.as_ptr());
            std::thread::yield_now();
        }
        sleeper.join().unwrap();
    }
}
