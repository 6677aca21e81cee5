//! Another process for JS: whether that very process lives, a signal for it, and a wake at its death.

use std::os::fd::BorrowedFd;
use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::process::Process;

use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::lifecycle::{self, Closable};
use crate::options;
use crate::poll_loop::Pollable;

struct Cell {
    core: Held<Process>,
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for Cell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        let with = |process: &mut Process| match process.descriptor() {
            Some(descriptor) => body(descriptor),
            None => Err(Failure::argument("a process without a pidfd cannot be watched")),
        };
        self.core.if_open(with).unwrap_or(Ok(()))
    }
}

/// One process of this machine.
#[napi]
pub struct NativeProcess {
    cell: Rc<Cell>,
}

impl NativeProcess {
    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeProcess {
    /// Opens the process that has this number now.
    #[napi(factory)]
    pub fn open(env: Env, pid: u32) -> napi::Result<Self> {
        cold(env, || wrap(env, Process::open(pid)?))
    }

    /// Opens the process that announced this record.
    #[napi(factory)]
    pub fn of(env: Env, record_json: String) -> napi::Result<Self> {
        cold(env, || wrap(env, Process::of(&*options::record(&record_json)?)?))
    }

    /// Whether it can be signalled and watched. Otherwise there is no pidfd.
    #[napi(getter)]
    pub fn has_pidfd(&self, env: Env) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|process| Ok(process.has_pidfd())))
    }

    /// Whether it is alive, and no zombie.
    #[napi]
    pub fn is_alive(&self, env: Env) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|process| Ok(process.is_alive()?)))
    }

    /// Sends it a signal. `false`: it has ended.
    #[napi]
    pub fn signal(&self, env: Env, number: i32) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|process| Ok(process.signal(number)?)))
    }

    /// Whether it announced this record.
    #[napi]
    pub fn announced(&self, env: Env, record_json: String) -> napi::Result<bool> {
        cold(env, || {
            let record = options::record(&record_json)?;
            self.cell.core.with(|process| Ok(process.announced(&record)?))
        })
    }

    /// Lets it go. Nothing happens to the process.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}

fn wrap(env: Env, process: Process) -> Result<NativeProcess> {
    let cell = Rc::new(Cell { core: Held::new("process", process) });
    lifecycle::register(env, &cell)?;
    Ok(NativeProcess { cell })
}
