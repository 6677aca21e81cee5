//! Which process of a chain of forks this is, without a system call.
//!
//! Invariant: what was made in one generation belongs to another process in the next: its threads do not exist here, and its
//! files are not this process's to remove. exec needs nothing of this.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static HOOK: Once = Once::new();

/// # The number of forks without exec between the first caller and this process
///
/// References: pthread_atfork(3). Compared for equality only.
pub(crate) fn generation() -> u32 {
    HOOK.call_once(|| {
        // SAFETY: the hook only adds to an atomic, which is async-signal-safe.
        unsafe { libc::pthread_atfork(None, None, Some(count)) };
    });
    // Relaxed: a fork orders everything before it for the child's only thread.
    GENERATION.load(Ordering::Relaxed)
}

extern "C" fn count() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
