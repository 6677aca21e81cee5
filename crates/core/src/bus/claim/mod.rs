//! Claims: a name that one process holds at a time, with an epoch that grows with each holder. The kernel decides, by a
//! lock on `<name>.claim` (`arbiter`).
//!
//! Invariants: holder and epoch stand in the file before the holder hears that it holds. A process that dies holds nothing any
//! more. A holder whose file is lost takes the new one before anybody else may, or hears that its claim is lost. A
//! process that is stopped meanwhile hears of it late; its epoch is smaller than that of the next holder, by which
//! others refuse what it still does. All waiting is on the bus thread (`contender`); callers wait for [`Shared`].

mod contender;
mod watch;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Bus;
use super::arbiter::{Arbiter, ArbiterFile, Content};
use super::watch::wait_readable;
use crate::error::{Error, Result};
use crate::reactor::Token;
use crate::record::check_name;
use crate::sys::eventfd::EventFd;
use crate::sys::generation::Home;
use contender::Contender;

pub use watch::ClaimWatch;

/// The byte of the file that the holder locks. Byte 0 belongs to the making of the file.
const BYTE: u64 = 1;

/// Who holds a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ClaimHolder {
    /// 128 random bits in hex, new for each claim.
    pub id: String,
    /// The process, as its own pid namespace numbers it.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
}

/// The state of a name, as of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClaimState {
    /// The epoch of the holder, or of the last one. 0: there was none.
    pub epoch: u64,
    /// `None`: the name is free.
    pub holder: Option<ClaimHolder>,
}

impl ClaimState {
    fn of(content: &Content, held: bool) -> ClaimState {
        let holder = content.holder.as_ref().filter(|_| held);
        let holder = holder.map(|one| ClaimHolder { id: one.instance.clone(), pid: one.pid, uid: one.uid });
        ClaimState { epoch: content.epoch, holder }
    }
}

/// A name that this process holds while this value lives.
///
/// `as_fd` becomes readable when the claim is lost, for use in an event loop. A forked child does not hold what its
/// parent holds.
///
/// ```
/// use ringbell::bus::{Bus, BusOptions};
/// # let folder = tempfile::tempdir().unwrap();
/// let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
/// let claim = bus.claim("primary", None)?;
/// assert!(bus.try_claim("primary")?.is_none());
/// let epoch = claim.epoch();
/// claim.release();
/// assert!(bus.claim("primary", None)?.epoch() > epoch);
/// # Ok::<(), ringbell::Error>(())
/// ```
pub struct Claim {
    attempt: Claiming,
    epoch: u64,
}

/// A claim that is asked for. Dropping it gives up.
///
/// `as_fd` becomes readable when there is an answer, for use in an event loop.
pub struct Claiming {
    name: String,
    shared: Arc<Shared>,
    token: Token,
    arbiter: Arbiter,
    home: Home,
    bus: Bus,
}

/// The claims of a bus: who holds them.
#[derive(Clone, Debug)]
pub struct Claims {
    bus: Bus,
}

impl Bus {
    /// Claims the name, as soon as no other process holds it. Fails with `ERR_RINGBELL_TIMEOUT` when the time is over.
    /// Without a timeout there is no limit. The order of those who wait is not promised.
    ///
    /// The first claim of a name since the machine started, and the first one after the bus directory was lost, takes a
    /// tenth of a second, in which a process that held it before would take it again.
    pub fn claim(&self, name: &str, timeout: Option<Duration>) -> Result<Claim> {
        let mut claiming = self.claiming(name, true)?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(claim) = claiming.take()? {
                return Ok(claim);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                let milliseconds = timeout.map_or(0, |timeout| timeout.as_millis() as u64);
                return Err(Error::Timeout { what: format!("claim '{name}'"), milliseconds });
            }
            wait_readable(claiming.as_fd(), left)?;
        }
    }

    /// Claims the name if no process holds it. It never waits for a holder.
    pub fn try_claim(&self, name: &str) -> Result<Option<Claim>> {
        let mut claiming = self.claiming(name, false)?;
        loop {
            if let Some(claim) = claiming.take()? {
                return Ok(Some(claim));
            }
            if claiming.is_refused() {
                return Ok(None);
            }
            wait_readable(claiming.as_fd(), None)?;
        }
    }

    /// Asks for the name, for an event loop. `wait`: until it is free; otherwise it may be refused
    /// ([`Claiming::is_refused`]).
    pub fn claiming(&self, name: &str, wait: bool) -> Result<Claiming> {
        check_name("claim name", name)?;
        let arbiter = self.arbiter(file_name(name))?;
        let shared = Arc::new(Shared::new()?);
        let told = Arc::clone(&shared);
        let resident = arbiter
            .handle()
            .add_with(|token| Contender::new(name.to_owned(), arbiter.presence(token), told, wait));
        let (token, home, bus) = (resident.token(), Home::here(), self.clone());
        Ok(Claiming { name: name.to_owned(), shared, token, arbiter, home, bus })
    }

    /// Who holds which claim.
    pub fn claims(&self) -> Claims {
        Claims { bus: self.clone() }
    }
}

impl Claims {
    /// The state of this name now.
    pub fn query(&self, name: &str) -> Result<ClaimState> {
        check_name("claim name", name)?;
        self.bus.check_open()?;
        if self.bus.dir().is_gone() {
            self.bus.dir().restore()?;
        }
        match ArbiterFile::open_to_read(self.bus.dir(), &file_name(name))? {
            None => Ok(ClaimState::default()),
            Some(file) => {
                let held = file.is_held(BYTE)?;
                Ok(ClaimState::of(&file.read()?, held))
            }
        }
    }

    /// Follows this name: its state now, and then each change.
    pub fn watch(&self, name: &str) -> Result<ClaimWatch> {
        check_name("claim name", name)?;
        ClaimWatch::open(&self.bus, self.bus.arbiter(file_name(name))?)
    }
}

impl Claiming {
    /// The claim, once it is this process's. It comes once.
    ///
    /// # Errors
    /// When it cannot be had: the bus was closed, or the name's file cannot be used.
    pub fn take(&mut self) -> Result<Option<Claim>> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "claim" });
        }
        let epoch = {
            let mut state = self.shared.lock();
            match &*state {
                State::Held(epoch) => {
                    let epoch = *epoch;
                    *state = State::Taken;
                    self.shared.bell.drain();
                    epoch
                }
                State::Ended(error) => return Err(error.clone()),
                State::Waiting | State::Refused | State::Taken => return Ok(None),
            }
        };
        let (name, shared, arbiter) = (self.name.clone(), Arc::clone(&self.shared), self.arbiter.clone());
        let token = std::mem::replace(&mut self.token, Token::NONE);
        let attempt = Claiming { name, shared, token, arbiter, home: self.home, bus: self.bus.clone() };
        Ok(Some(Claim { attempt, epoch }))
    }

    /// Whether another process holds the name, and this one was not to wait.
    pub fn is_refused(&self) -> bool {
        matches!(*self.shared.lock(), State::Refused)
    }

    /// What is asked for.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Claim {
    /// The name.
    pub fn name(&self) -> &str {
        &self.attempt.name
    }

    /// The number of this holder: larger than that of every earlier one, and at most 2⁵³ − 1.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Why the claim is lost; `None` while it is held.
    pub fn lost(&self) -> Option<Error> {
        if self.attempt.home.is_foreign() {
            return Some(Error::Closed { what: "claim" });
        }
        match &*self.attempt.shared.lock() {
            State::Ended(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Whether the claim is lost.
    pub fn is_lost(&self) -> bool {
        self.lost().is_some()
    }

    /// Waits until the claim is lost, and returns why. `None` when the time is over.
    pub fn wait_lost(&self, timeout: Option<Duration>) -> Result<Option<Error>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(error) = self.lost() {
                return Ok(Some(error));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            wait_readable(self.as_fd(), left)?;
        }
    }

    /// Gives the name back now. When it returns, another process can have it.
    pub fn release(self) {}
}

impl Drop for Claiming {
    fn drop(&mut self) {
        // Gives the byte back, and returns when that is done. In a forked child it does nothing. One whose claim was taken has
        // nothing to give.
        if self.token != Token::NONE {
            self.arbiter.handle().remove(self.token);
        }
    }
}

impl AsFd for Claiming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.attempt.as_fd()
    }
}

impl std::fmt::Debug for Claiming {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Claiming").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Claim")
            .field("name", &self.name())
            .field("epoch", &self.epoch)
            .field("lost", &self.lost())
            .finish()
    }
}

/// What the bus thread tells the caller. The doorbell rings when the state changes.
struct Shared {
    state: Mutex<State>,
    bell: EventFd,
}

enum State {
    Waiting,
    /// Somebody else holds it, and this process was not to wait.
    Refused,
    /// It is held. The caller does not know yet.
    Held(u64),
    /// The caller has it.
    Taken,
    /// It cannot be had, or it is lost.
    Ended(Error),
}

impl Shared {
    fn new() -> Result<Shared> {
        Ok(Shared { state: Mutex::new(State::Waiting), bell: EventFd::new()? })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It rings under the lock, so that a caller that drains the bell has seen the state.
    fn set(&self, state: State) {
        let mut current = self.lock();
        *current = state;
        self.bell.ring();
    }

    /// The first reason counts.
    fn end(&self, error: Error) {
        let mut current = self.lock();
        if !matches!(*current, State::Ended(_) | State::Refused) {
            *current = State::Ended(error);
            self.bell.ring();
        }
    }
}

fn file_name(name: &str) -> String {
    format!("{name}.claim")
}
