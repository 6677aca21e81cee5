//! How a rung ends when it does not succeed, and what that means for the ladder.
//!
//! Invariant: a rung is left for the next one only by [`Verdict::Next`], with a reason; what ran out, and a peer that breaks a rule,
//! ends the acquisition. Made by everything that acquires; judged by `ladder` alone.

use nix::errno::Errno;

use super::wire::{Datagram, Refusal};
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

impl Verdict {
    /// The peer has broken a rule.
    pub(crate) fn corrupt(what: impl Into<String>) -> Verdict {
        Verdict::Fail(Error::CorruptPeer { what: what.into() })
    }

    /// The peer speaks another version.
    pub(super) fn version(theirs: u32) -> Verdict {
        Verdict::Fail(Error::ProtocolVersion { ours: ringbell_ring::layout::VERSION, theirs })
    }

    /// What an answer means that is not the one wanted.
    pub(crate) fn unexpected(datagram: Datagram) -> Verdict {
        let Datagram::Refused { refusal, version: theirs, text } = datagram else {
            return Verdict::corrupt("its answer is out of turn, or of another instance");
        };
        match refusal {
            Refusal::Version => Verdict::version(theirs),
            Refusal::NotPermitted => {
                Verdict::Next { code: "ERR_RINGBELL_NO_PERMISSION".into(), reason: text }
            }
            Refusal::NothingInCommon => Verdict::Next { code: "ERR_RINGBELL_REFUSED".into(), reason: text },
            Refusal::Busy
            | Refusal::WrongInstance
            | Refusal::Breach
            | Refusal::Full
            | Refusal::NoSlot
            | Refusal::NameTaken
            | Refusal::Other => Verdict::Fail(Error::Refused { reason: text }),
        }
    }
}

impl From<Error> for Verdict {
    fn from(error: Error) -> Verdict {
        Verdict::Fail(error)
    }
}
