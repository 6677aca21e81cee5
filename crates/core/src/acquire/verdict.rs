//! How a rung ends when it does not succeed, and what that means for the ladder.

use nix::errno::Errno;

use crate::Error;

/// Why a rung was left.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Not this way; the next rung may work.
    Next { code: String, reason: String },
    /// The record no longer says what the process has: read it again, once.
    Stale,
    /// The publisher is dead.
    Gone,
    /// No rung would change it: a resource ran out, the peer broke a rule, all slots are taken.
    Fail(Error),
}

impl Verdict {
    /// A rung that the kernel's answer closes.
    pub(crate) fn closed(errno: Errno, reason: impl Into<String>) -> Verdict {
        Verdict::Next { code: format!("{errno:?}"), reason: reason.into() }
    }

    /// What became of an attempt to use what came: this process may not map it, or not so much, but can still be streamed to.
    pub(crate) fn of(error: Error) -> Verdict {
        match error.syscall() {
            Some("mmap" | "madvise") => Verdict::next(&error),
            _ => Verdict::Fail(error),
        }
    }

    /// A rung that an error closes.
    pub(crate) fn next(error: &Error) -> Verdict {
        Verdict::Next { code: error.code().into(), reason: error.to_string() }
    }
}

impl From<Error> for Verdict {
    fn from(error: Error) -> Verdict {
        Verdict::Fail(error)
    }
}
