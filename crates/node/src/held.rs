//! The core object behind a JS object, until it is closed. Every class and every hot function reaches it through this
//! module.
//!
//! Invariant: a close takes the core object out before it does anything else. So a second close finds nothing, and a
//! late call fails with `ERR_RINGBELL_CLOSED`. The object is borrowed only while a call of the core runs. Those calls
//! never enter JS, so two borrows can never overlap.

use std::cell::RefCell;

use crate::errors::{Failure, Result};

/// A core object, or nothing once it is closed.
pub struct Held<T> {
    what: &'static str,
    core: RefCell<Option<T>>,
}

impl<T> Held<T> {
    /// Holds `core`. `what` is its name in the error of a late call.
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

    /// Takes it out. The caller drops it, and the drop closes it.
    pub fn take(&self) -> Option<T> {
        self.core.borrow_mut().take()
    }
}
