//! Waiting for Rust callers of both kinds of readers: look, spin for a while, then sleep.
//!
//! It never holds a lock, and looks again after every announcement that it will sleep.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::port::receive::{SPIN_ITERATIONS, SpinResult, spin_until};
use crate::topic::Subscriber;

/// A reader that is waited for.
pub(super) trait Waiting {
    fn subscriber(&mut self) -> &mut Subscriber;
    /// Takes what has come. Says whether that is what the caller waits for.
    fn look(&mut self) -> Result<bool>;
}

/// Waits until a look finds something, or until `timeout` has passed. Says whether it found something.
pub(super) fn wait(reader: &mut impl Waiting, spin: Duration, timeout: Option<Duration>) -> Result<bool> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
    loop {
        if reader.look()? {
            return Ok(true);
        }
        if reader.subscriber().is_over() {
            return Err(Error::Closed { what: "bus" });
        }
        let subscriber = reader.subscriber();
        match spin_until(spin, deadline, || Ok(subscriber.spin(SPIN_ITERATIONS)))? {
            SpinResult::Found => {}
            SpinResult::Late => return Ok(false),
            SpinResult::Enough if late() => return Ok(false),
            SpinResult::Enough => reader.subscriber().sleep_if_quiet(deadline)?,
        }
    }
}
