//! A contender: the object of the bus thread that waits for a claim and then holds it.
//!
//! Invariants: it tells its caller that it holds only after holder and epoch stand in the file. While it holds, it looks
//! after each piece of news whether its file is still the one that counts. If not, it keeps the old lock until it has
//! the new one. It never takes a claim back that had another holder meanwhile, and never one that it cannot take now: then
//! the claim is lost.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Instant;

use super::{BYTE, Shared, State};
use crate::bus::arbiter::{ArbiterFile, Attempt, Content, Found, Presence};
use crate::error::{Error, Result};
use crate::reactor::{Step, Thread, Watched};
use crate::sys::random;

pub(super) struct Contender {
    name: String,
    presence: Presence,
    shared: Arc<Shared>,
    /// Whether to wait for another holder.
    patient: bool,
    /// What this process wrote, while it holds.
    holding: Option<Content>,
}

impl Contender {
    pub(super) fn new(name: String, presence: Presence, shared: Arc<Shared>, patient: bool) -> Contender {
        Contender { name, presence, shared, patient, holding: None }
    }

    fn contend(&mut self) -> Result<Step> {
        match self.presence.try_take(BYTE)? {
            Attempt::NotYet(next) => Ok(Step::Again(Some(next))),
            Attempt::Held(next) if self.patient => Ok(Step::Again(next)),
            Attempt::Held(_) => {
                self.shared.set(State::Refused);
                Ok(Step::Finished)
            }
            Attempt::Taken => {
                // Nobody else writes now.
                self.presence.read()?;
                let content = Content::held_by(&random::hex128()?, self.presence.last_epoch())?;
                if let Some(file) = self.presence.file() {
                    file.write(&content)?;
                }
                let epoch = content.epoch;
                self.holding = Some(content);
                self.shared.set(State::Held(epoch));
                Ok(Step::Again(self.presence.next_check()))
            }
        }
    }

    /// Makes sure that the file of the claim is the one that counts.
    fn keep(&mut self) -> Result<Step> {
        match self.presence.find()? {
            Found::Same => Ok(Step::Again(self.presence.next_check())),
            Found::Later(next) => Ok(Step::Again(Some(next))),
            Found::Other(file) => {
                self.retake(&file)?;
                self.presence.attend(file);
                // It may have been lost again meanwhile.
                Ok(Step::Again(Some(Instant::now())))
            }
        }
    }

    /// Takes the file that replaced the lost one, without the grace that others must let pass.
    fn retake(&self, file: &ArbiterFile) -> Result<()> {
        let lost = |how: &str| Error::ClaimLost {
            name: self.name.clone(),
            reason: format!("its file was lost with the bus directory, and another process {how}"),
        };
        let Some(holding) = &self.holding else { return Ok(()) };
        if !file.try_take(BYTE)? {
            return Err(lost("was quicker to take the new one"));
        }
        let written = file.read().and_then(|content| {
            if content.epoch > holding.epoch {
                return Err(lost("held the claim since"));
            }
            file.write(holding)
        });
        written.inspect_err(|_| file.release(BYTE))
    }

    fn give_back(&mut self) {
        if let Some(mut content) = self.holding.take()
            && let Some(file) = self.presence.file()
        {
            // So that nobody takes this process for the holder before the next one has written its name. If it cannot be
            // written, the lock still tells.
            content.holder = None;
            let _ = file.write(&content);
            self.presence.let_go(BYTE);
        }
    }
}

impl Watched for Contender {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.presence.fd()
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        let held = self.holding.is_some();
        let step = if held { self.keep() } else { self.contend() };
        step.unwrap_or_else(|error| {
            self.shared.end(match error {
                error @ Error::ClaimLost { .. } => error,
                error if held => Error::ClaimLost { name: self.name.clone(), reason: error.to_string() },
                error => error,
            });
            Step::Finished
        })
    }

    fn failed(&mut self, error: &Error) {
        self.shared.end(error.clone());
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.give_back();
        self.shared.end(Error::Closed { what: "claim" });
    }
}
