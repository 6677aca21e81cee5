//! A watch over one claim: its state now, and after each change the newest one.
//!
//! Invariant: the eventfd is readable while there is a state that was not taken, or the watch has ended. Only the newest
//! state is kept: a holder that came and went before the consumer looked is not told of, but each epoch is larger than the
//! one before.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{BYTE, ClaimState};
use crate::bus::Bus;
use crate::bus::arbiter::{Arbiter, Content, Found, Presence};
use crate::bus::watch::wait_readable;
use crate::error::{Error, Result};
use crate::reactor::{Step, Thread, Token, Watched};
use crate::sys::eventfd::EventFd;
use crate::sys::generation::Home;

/// A stream of the states of one claim.
///
/// `as_fd` becomes readable when there is a new state, for use in an event loop.
pub struct ClaimWatch {
    latest: Arc<Latest>,
    token: Token,
    arbiter: Arbiter,
    home: Home,
    _bus: Bus,
}

struct Latest {
    state: Mutex<News>,
    bell: EventFd,
}

#[derive(Default)]
struct News {
    /// `None` once it was taken.
    state: Option<ClaimState>,
    ended: Option<Error>,
}

impl ClaimWatch {
    pub(super) fn open(bus: &Bus, arbiter: Arbiter) -> Result<ClaimWatch> {
        let latest = Arc::new(Latest { state: Mutex::default(), bell: EventFd::new()? });
        let observer =
            |token| Observer { presence: arbiter.presence(token), latest: Arc::clone(&latest), told: None };
        let token = arbiter.handle().add_with(observer).token();
        Ok(ClaimWatch { latest, token, arbiter, home: Home::here(), _bus: bus.clone() })
    }

    /// The newest state, if it was not taken yet.
    ///
    /// # Errors
    /// Once the watch has ended: the bus was closed, or the claim's file cannot be used.
    pub fn try_next(&mut self) -> Result<Option<ClaimState>> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "watch" });
        }
        let mut news = self.latest.lock();
        let state = news.state.take();
        match (&state, &news.ended) {
            (None, Some(error)) => return Err(error.clone()),
            (Some(_), Some(_)) => {}
            (_, None) => drop(self.latest.bell.drain()),
        }
        Ok(state)
    }

    /// Waits for the next state. `None` when the time is over. Without a timeout there is no limit. Fails as `try_next`
    /// does.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<ClaimState>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(state) = self.try_next()? {
                return Ok(Some(state));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            wait_readable(self.as_fd(), left)?;
        }
    }
}

impl Drop for ClaimWatch {
    fn drop(&mut self) {
        self.arbiter.handle().remove(self.token);
    }
}

impl AsFd for ClaimWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.latest.bell.as_fd()
    }
}

impl std::fmt::Debug for ClaimWatch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClaimWatch").field("name", &self.arbiter.name()).finish_non_exhaustive()
    }
}

impl Latest {
    fn lock(&self) -> MutexGuard<'_, News> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, error: &Error) {
        let mut news = self.lock();
        news.ended.get_or_insert_with(|| error.clone());
        self.bell.ring();
    }
}

/// Looks at the claim, on the bus thread.
struct Observer {
    presence: Presence,
    latest: Arc<Latest>,
    told: Option<ClaimState>,
}

impl Observer {
    fn look(&mut self) -> Result<Step> {
        match self.presence.find()? {
            Found::Same => {}
            Found::Other(file) => self.presence.attend(file),
            Found::Later(next) => return Ok(Step::Again(Some(next))),
        }
        let (mut held, mut content) = self.read()?;
        if held && self.presence.watch_holder(&content) {
            // It may have died before its process was watched.
            (held, content) = self.read()?;
        }
        let state = ClaimState::of(&content, held);
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            let mut news = self.latest.lock();
            news.state = Some(state);
            // Under the lock, so that a consumer that drains the bell has seen the state.
            self.latest.bell.ring();
        }
        Ok(Step::Again(if held { self.presence.next_look() } else { self.presence.next_check() }))
    }

    fn read(&mut self) -> Result<(bool, Content)> {
        let held = self.presence.file().is_some_and(|file| file.is_held(BYTE).unwrap_or(true));
        Ok((held, self.presence.read()?))
    }
}

impl Watched for Observer {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.presence.fd()
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        self.look().unwrap_or_else(|error| {
            self.latest.end(&error);
            Step::Finished
        })
    }

    fn failed(&mut self, error: &Error) {
        self.latest.end(error);
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.latest.end(&Error::Closed { what: "watch" });
    }
}
