//! Claims for JS: one name that is asked for, held and lost again; and a watch over who holds a name.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::bus::{Claim, ClaimWatch, Claiming};

use crate::errors::{Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::poll_loop::Pollable;

/// The two states of a claim. Both have the same descriptor.
enum Core {
    Asked(Claiming),
    Held(Claim),
}

struct Cell {
    core: Held<Core>,
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for Cell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        let with = |core: &mut Core| match core {
            Core::Asked(claiming) => body(claiming.as_fd()),
            Core::Held(claim) => body(claim.as_fd()),
        };
        self.core.if_open(with).unwrap_or(Ok(()))
    }
}

/// A name that is asked for, or held.
#[napi]
pub struct NativeClaim {
    cell: Rc<Cell>,
}

impl NativeClaim {
    /// Wraps the core's claim.
    pub fn wrap(env: Env, claiming: Claiming) -> Result<Self> {
        let cell = Rc::new(Cell { core: Held::new("claim", Core::Asked(claiming)) });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }

    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeClaim {
    /// The epoch once it is held; 0 before; -1 if another process holds it and it was not to wait. Throws why it cannot
    /// be had, or why it is lost.
    #[napi]
    pub fn epoch(&self, env: Env) -> napi::Result<f64> {
        cold(env, || {
            self.cell.core.with(|core| {
                if let Core::Asked(claiming) = core {
                    match claiming.take()? {
                        Some(claim) => *core = Core::Held(claim),
                        None if claiming.is_refused() => return Ok(-1.0),
                        None => return Ok(0.0),
                    }
                }
                let Core::Held(claim) = core else { return Ok(0.0) };
                match claim.lost() {
                    Some(error) => Err(error.into()),
                    // It is below 2⁵³.
                    None => Ok(claim.epoch() as f64),
                }
            })
        })
    }

    /// Gives the name back, or gives up asking.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}

struct WatchCell {
    core: Held<ClaimWatch>,
}

impl Closable for WatchCell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for WatchCell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        self.core.if_open(|watch| body(watch.as_fd())).unwrap_or(Ok(()))
    }
}

/// The states of one claim.
#[napi]
pub struct NativeClaimWatch {
    cell: Rc<WatchCell>,
}

impl NativeClaimWatch {
    /// Wraps the core's watch.
    pub fn wrap(env: Env, watch: ClaimWatch) -> Result<Self> {
        let cell = Rc::new(WatchCell { core: Held::new("watch", watch) });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }

    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeClaimWatch {
    /// JSON array with the newest state, if it was not taken yet; empty text when nothing happened.
    #[napi]
    pub fn take(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            self.cell.core.with(|watch| match watch.try_next()? {
                Some(state) => json::write(&[state]),
                None => Ok(String::new()),
            })
        })
    }

    /// Stops watching.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
