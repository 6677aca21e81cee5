//! membarrier: a full memory fence on every processor that runs a certain process, called for by another one.
//!
//! A ring's writer registers its process, and then commits without a fence while its readers are awake. A reader calls
//! for the barrier before it sleeps. Invariant: a writer leaves its fences out only after [`available`] said yes in its
//! process, and a reader joins such a writer only after [`check`]. Called by `port` and `segment`.

#![allow(unsafe_code)]

use std::time::Duration;

use nix::errno::Errno;

use crate::{Error, Result};

/// Whether this process takes part: others can call for its barrier, and it can call for theirs. It registers the
/// process, which costs a system call of less than a microsecond when it is registered already. A forked child must ask
/// again.
///
/// # References
/// `membarrier(2)`: MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, Linux 4.16.
pub(crate) fn available() -> bool {
    call(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED).is_ok() && check().is_ok()
}

/// Checks that this process can call for a barrier.
///
/// # Errors
/// The kernel's error, mostly because a seccomp filter refuses the call.
pub(crate) fn check() -> Result<()> {
    call(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED).map_err(|errno| {
        let what = "this process may not call for a memory barrier, which the other side relies on";
        Error::os("membarrier", errno, what)
    })
}

/// Every processor that runs a thread of a registered process executes a full fence before this returns.
///
/// False: the kernel refused, although it did not when the ring was joined. A filter was installed since. The caller then
/// looks again instead of sleeping, so this pauses for a millisecond: such a reader polls, and does not spin.
///
/// # References
/// `membarrier(2)`: MEMBARRIER_CMD_GLOBAL_EXPEDITED, Linux 4.16.
pub(crate) fn barrier() -> bool {
    let done = call(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED).is_ok();
    if !done {
        std::thread::sleep(Duration::from_millis(1));
    }
    done
}

fn call(command: libc::c_int) -> nix::Result<()> {
    // SAFETY: the call takes integers only, and touches no memory of ours.
    Errno::result(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the kernel refuses, the oldsys tables of `npm test` show that everything works with fences.
    #[test]
    fn what_is_available_can_be_called_for() {
        let available = available();
        assert_eq!(available, check().is_ok());
        assert_eq!(available, barrier());
    }
}
