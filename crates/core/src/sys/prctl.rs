//! prctl: what this process permits others to do to it.
//!
//! Only `allow_any_tracer` changes something: it switches Yama's protection off for the whole process.
//! Invariant: it is never called by default. A publisher calls it only if its user asked for that
//! (`allow_direct`).

#![allow(unsafe_code)]

/// Permits any process of this user to copy descriptors out of this one, even under Yama scope 1. False: nothing
/// changed, because the kernel has no Yama (then no permission is needed), or because a filter forbids the call. That
/// is not an error, because the handshake works in any case.
///
/// # References
/// `PR_SET_PTRACER(2const)`, `Documentation/admin-guide/LSM/Yama.rst`.
pub(crate) fn allow_any_tracer() -> bool {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) == 0 }
}

/// Whether other processes of this user may inspect this one. It is false after a change of uid without exec.
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
