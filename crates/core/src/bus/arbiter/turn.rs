//! A turn: waits on the bus thread until a byte is this process's, and hands it over.
//!
//! Invariant: `taken` is called exactly once: with the byte, or with the reason why it cannot be had. Nothing blocks the
//! thread. Dropping the object (by its token) gives up waiting, and `taken` is dropped uncalled.

use std::os::fd::BorrowedFd;

use super::Arbiter;
use super::file::Hold;
use super::presence::{Attempt, Presence};
use crate::error::{Error, Result};
use crate::reactor::{Resident, Step, Thread, Watched};

/// What to do with the byte, on the bus thread. It must not block.
pub(crate) type Taken = Box<dyn FnOnce(Result<Hold>) + Send>;

pub(crate) struct Turn {
    presence: Option<Presence>,
    byte: u64,
    taken: Option<Taken>,
}

impl Turn {
    /// Begins to wait. The byte must not be 0.
    pub(crate) fn wait(arbiter: &Arbiter, byte: u64, taken: Taken) -> Resident<Turn> {
        arbiter.handle().add_with(|token| Turn {
            presence: Some(arbiter.presence(token)),
            byte,
            taken: Some(taken),
        })
    }
}

impl Watched for Turn {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.presence.as_ref()?.fd()
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        let Some(presence) = self.presence.as_mut() else { return Step::Finished };
        let result = match presence.try_take(self.byte) {
            Ok(Attempt::Held(next)) => return Step::Again(next),
            Ok(Attempt::NotYet(next)) => return Step::Again(Some(next)),
            Ok(Attempt::Taken) => {
                let hold = self.presence.take().and_then(|presence| presence.into_hold(self.byte));
                hold.ok_or(Error::Closed { what: "bus" })
            }
            Err(error) => Err(error),
        };
        if let Some(taken) = self.taken.take() {
            taken(result);
        }
        Step::Finished
    }

    fn failed(&mut self, error: &Error) {
        if let Some(taken) = self.taken.take() {
            taken(Err(error.clone()));
        }
    }
}
