//! How a rung ends without success, and what that means for the ladder.
//!
//! Invariant: only [`Verdict::Next`] leads from a rung to the next one, and it has a reason. A resource that ran
//! out, or a peer that breaks a rule, ends the acquisition. Everything that acquires makes verdicts; `ladder` alone
//! acts on them.

use nix::errno::Errno;

use super::wire::{Datagram, Refusal};
use crate::Error;

/// Why a rung did not succeed.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// This rung does not work; the next one may.
    Next { code: String, reason: String },
    /// The record is out of date: the process has something else. Read it again, once.
    Stale,
    /// The publisher is dead.
    Gone,
    /// No other rung would help: a resource ran out, the peer broke a rule, or all slots are taken.
    Fail(Error),
}

impl Verdict {
    /// A rung that does not work because of the kernel's answer.
    pub(crate) fn closed(errno: Errno, reason: impl Into<String>) -> Verdict {
        Verdict::Next { code: format!("{errno:?}"), reason: reason.into() }
    }

    /// The verdict for an error in using what came. If this process may not map the memory, or not that much of it,
    /// or may not call for barriers, a stream may still work.
    pub(crate) fn of(error: Error) -> Verdict {
        match error.syscall() {
            Some("mmap" | "madvise" | "membarrier") => Verdict::next(&error),
            _ => Verdict::Fail(error),
        }
    }

    /// A rung that does not work because of an error.
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

    /// The verdict for an answer that was not the expected one.
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
