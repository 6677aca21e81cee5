//! A watch over services for JS: the services that appeared, changed and went, in order, as JSON.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::bus::{ServiceEvent, Watch};
use serde_json::json;

use crate::errors::{Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::poll_loop::Pollable;

struct Cell {
    core: Held<Watch>,
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for Cell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        self.core.if_open(|watch| body(watch.as_fd())).unwrap_or(Ok(()))
    }
}

/// Events of the services that match a filter, beginning with `added` for those that are there.
#[napi]
pub struct NativeWatch {
    cell: Rc<Cell>,
}

impl NativeWatch {
    /// Wraps the core's watch.
    pub fn wrap(env: Env, watch: Watch) -> Result<Self> {
        let cell = Rc::new(Cell { core: Held::new("watch", watch) });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }

    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeWatch {
    /// JSON array of `{type, record}`, and of `{type: "unreadable", error}` once when the directory cannot be read for some
    /// time; empty text when nothing happened.
    #[napi]
    pub fn take(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            self.cell.core.with(|watch| {
                let mut events = Vec::new();
                while let Some(event) = watch.try_next() {
                    let (kind, record) = match event {
                        ServiceEvent::Added(record) => ("added", record),
                        ServiceEvent::Updated(record) => ("updated", record),
                        ServiceEvent::Removed(record) => ("removed", record),
                    };
                    events.push(json!({ "type": kind, "record": &*record }));
                }
                if let Some(problem) = watch.take_unreadable() {
                    events.push(json!({ "type": "unreadable", "error": json::error(&problem) }));
                }
                if events.is_empty() { Ok(String::new()) } else { json::write(&events) }
            })
        })
    }

    /// Stops watching.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
