//! The generation: which process of a chain of forks this is, without a system call.
//!
//! Invariant: what was made in one generation belongs to another process in the next generation. Its threads do not
//! exist in the child, and the child must not remove its files. Every endpoint asks this before it acts. exec needs
//! none of it.

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

/// The process that something was made in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Home(u32);

impl Home {
    /// # This process
    ///
    /// References: as for [`generation`].
    pub(crate) fn here() -> Home {
        Home(generation())
    }

    /// # Whether this process is a forked child of that one, so that its shared mappings are missing
    ///
    /// One relaxed load, because this is asked at every message.
    #[inline]
    pub(crate) fn is_foreign(self) -> bool {
        // Relaxed: as in `generation`. `here` has set the hook.
        self.0 != GENERATION.load(Ordering::Relaxed)
    }
}

extern "C" fn count() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
