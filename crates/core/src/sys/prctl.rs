//! prctl: what this process lets others do to it.
//!
//! The one call that changes something is `allow_any_tracer`, and only a publisher whose owner asked
//! for it (`allow_direct`) makes it: it switches Yama's protection off for the whole process. Never
//! called by default.

#![allow(unsafe_code)]

/// Lets any process of this user copy descriptors out of this one, even under Yama scope 1. False when
/// nothing changed: the kernel has no Yama, where nothing needs allowing, or a filter forbids the call. The
/// handshake works in any case, so there is nothing to fail for.
///
/// # References
/// `PR_SET_PTRACER(2const)`, `Documentation/admin-guide/LSM/Yama.rst`.
pub(crate) fn allow_any_tracer() -> bool {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) == 0 }
}

/// Whether others of this user may look into this process: false after a change of uid without exec.
///
/// # References
/// `PR_GET_DUMPABLE(2const)`.
pub(crate) fn is_dumpable() -> bool {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test_process_is_dumpable() {
        assert!(super::is_dumpable());
    }
}
