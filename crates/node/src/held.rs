//! The core object behind a JS object, until it is closed: every class and every hot function reaches it through here.
//!
//! Invariant: it is taken out before anything else happens to it at a close, so what closes twice finds nothing, and
//! what comes late is told `ERR_RINGBELL_CLOSED`. It is only borrowed while a call of the core runs, and those never
//! enter JS; so no borrow can meet another.

use std::cell::RefCell;

use crate::errors::{Failure, Result};

/// A core object, or nothing once it is closed.
pub struct Held<T> {
    what: &'static str,
    core: RefCell<Option<T>>,
}

impl<T> Held<T> {
    /// Holds `core`; `what` is its name in the error of those who come late.
    pub fn new(what: &'static str, core: T) -> Self {
        Self { what, core: RefCell::new(Some(core)) }
    }

    /// Runs `call` on it.
    #[inline]
    pub fn with<R>(&self, call: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        match self.core.borrow_mut().as_mut() {
            Some(core) => call(core),
            None => Err(Failure::closed(self.what)),
        }
    }

    /// Runs `call` on it if it is still there.
    pub fn if_open<R>(&self, call: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.core.borrow_mut().as_mut().map(call)
    }

    /// Takes it out; the caller drops it, and that closes it.
    pub fn take(&self) -> Option<T> {
        self.core.borrow_mut().take()
    }
}
