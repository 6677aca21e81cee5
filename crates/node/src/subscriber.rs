//! A topic's subscriber for JS: the hot calls, and views of the publishers' rings for leases.
//!
//! Invariant: `drain` copies into a slab that JS owns. JS gets a view of memory that another process writes only for a
//! lease, which the core permits or refuses. Closing detaches those views before it releases the mappings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use ringbell::topic::{Drained, Entry, Notice, Subscriber};

use crate::buffer::{External, Frames, Table, given, unknown};
use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::poll_loop::Pollable;
use crate::raw::{Call, HotObject};

/// The most messages that one drain returns.
const ENTRIES: usize = 1024;
/// Words of the scratch array: source, bytes, and first sequence and time of the batch that is being drained.
const SCRATCH: usize = 4;
/// The results of `drain` and `lease` that are not a count.
const NEEDS_SLAB: i32 = -1;
const NOTICE: i32 = -2;
const LARGE: i32 = -3;

/// The state that the class and its hot functions share.
pub struct Cell {
    core: Held<Subscriber>,
    scratch: Table<f64>,
    table: Table<Entry>,
    views: RefCell<HashMap<u32, External>>,
}

impl Cell {
    fn drain(&self, slab: &mut [u8], fill: u32, iterations: u32) -> Result<i32> {
        let fill = fill as usize;
        if fill > slab.len() {
            return Err(Failure::argument("fill lies behind the slab's end"));
        }
        self.take(iterations, |subscriber, table| Ok(subscriber.drain(slab, fill, table)?))
    }

    fn lease(&self, iterations: u32) -> Result<i32> {
        self.take(iterations, |subscriber, table| Ok(subscriber.lease_batch(table)?))
    }

    /// Takes what is there, or what comes within so many pause instructions. It looks before it spins: the ring takes a
    /// look in vain as a sign that messages come one by one.
    fn take(
        &self,
        iterations: u32,
        mut look: impl FnMut(&mut Subscriber, &mut [Entry]) -> Result<Drained>,
    ) -> Result<i32> {
        let drained = self.table.with(|table| {
            self.core.with(|subscriber| match look(subscriber, table)? {
                Drained::Empty if iterations > 0 && subscriber.spin(iterations) => look(subscriber, table),
                drained => Ok(drained),
            })
        })?;
        self.answer(drained)
    }

    fn answer(&self, drained: Drained) -> Result<i32> {
        match drained {
            Drained::Empty => Ok(0),
            Drained::Batch { source, count, bytes, batch_sequence, batch_time } => {
                let words = [f64::from(source), bytes as f64, batch_sequence as f64, batch_time as f64];
                self.scratch.with(|scratch| scratch.copy_from_slice(&words));
                Ok(count as i32)
            }
            Drained::Large { source, bytes, sequence, time } => {
                let entry = Entry { length: bytes as u32, batch: Entry::CONTINUED, ..Entry::default() };
                self.table.set(0, entry);
                let words = [f64::from(source), bytes as f64, sequence as f64, time as f64];
                self.scratch.with(|scratch| scratch.copy_from_slice(&words));
                Ok(LARGE)
            }
            Drained::NeedSlab(bytes) => {
                self.scratch.set(0, bytes as f64);
                Ok(NEEDS_SLAB)
            }
            Drained::Notice => Ok(NOTICE),
        }
    }
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for Cell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        self.core.if_open(|subscriber| body(subscriber.as_fd())).unwrap_or(Ok(()))
    }

    fn harvest(&self) -> bool {
        // If this fails, the endpoint is at worst reported once more.
        self.core.if_open(|subscriber| subscriber.harvest().unwrap_or(false)).unwrap_or(false)
    }
}

/// The reading side of the topics that match a name or pattern.
#[napi]
pub struct NativeSubscriber {
    cell: Rc<Cell>,
}

impl NativeSubscriber {
    /// Wraps the core's subscriber.
    pub fn wrap(env: Env, subscriber: Subscriber) -> Result<Self> {
        let cell = Rc::new(Cell {
            core: Held::new("subscriber", subscriber),
            scratch: Table::new(env, SCRATCH)?,
            table: Table::new(env, ENTRIES)?,
            views: RefCell::default(),
        });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }

    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeSubscriber {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativeSubscriberHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?
                .function(c"drain", |cell: &Cell, call: &mut Call<'_, 3>| {
                    let (fill, iterations) = (call.number(1)?, call.number(2)?);
                    cell.drain(call.bytes_mut(0)?, fill, iterations)
                })?
                .function(c"arm", |cell: &Cell, _: &mut Call<'_, 0>| {
                    cell.core.with(|subscriber| Ok(subscriber.arm()))
                })?
                .function(c"lease", |cell: &Cell, call: &mut Call<'_, 1>| cell.lease(call.number(0)?))?
                .function(c"release", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let source = call.number(0)?;
                    cell.core.if_open(|subscriber| subscriber.release(source));
                    Ok(())
                })?
                .function(c"ack", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (source, sequence) = (call.number(0)?, call.whole(1)?);
                    cell.core.with(|subscriber| Ok(subscriber.ack(source, sequence)?))
                })?;
            Ok(unknown(env, object.finish()))
        })
    }

    /// After `drain` or `lease`: source, bytes used, and first sequence and time (ns) of the batch that had begun before.
    #[napi(getter, ts_return_type = "Float64Array")]
    pub fn scratch(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.scratch.array())
    }

    /// After `drain` or `lease`: four words per message: offset, length, offset of its batch's header, index in it.
    #[napi(getter, ts_return_type = "Uint32Array")]
    pub fn table(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.table.array())
    }

    /// The message in pieces that `drain` or `lease` reported, once. It has memory of its own.
    #[napi(ts_return_type = "Uint8Array")]
    pub fn take_large(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let message = self.cell.core.with(|subscriber| Ok(subscriber.take_large()))?;
            let message =
                message.ok_or_else(|| Failure::argument("there is no message that came in pieces"))?;
            Ok(unknown(env, given(env, message)?))
        })
    }

    /// The frames of a source, twice in a row. Leased messages lie in these read-only pages. Writing there ends the process.
    #[napi(ts_return_type = "ArrayBuffer")]
    pub fn source_memory(&self, env: Env, source: u32) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            if let Some(view) = self.cell.views.borrow().get(&source) {
                return view.value();
            }
            let memory = self.cell.core.with(|subscriber| Ok(subscriber.source_memory(source)))?;
            let memory = memory.ok_or_else(|| Failure::argument(format!("there is no source {source}")))?;
            let view = External::new(env, Frames(memory))?;
            let value = view.value();
            self.cell.views.borrow_mut().insert(source, view);
            value
        })
    }

    /// JSON array of the notices; empty text if there are none.
    #[napi]
    pub fn notices(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let notices = self.cell.core.with(|subscriber| Ok(subscriber.notices()))?;
            for notice in &notices {
                if let Notice::Ended { source, .. } = notice {
                    // The views of the ring keep the mapping alive as long as JS has them.
                    self.cell.views.borrow_mut().remove(source);
                }
            }
            let values: Vec<_> = notices.iter().flat_map(json::notice).collect();
            if values.is_empty() { Ok(String::new()) } else { json::write(&values) }
        })
    }

    /// JSON of the counters.
    #[napi]
    pub fn stats(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|subscriber| json::write(&subscriber.stats())))
    }

    /// Like `close`, and gives durable positions up.
    #[napi]
    pub fn forget(&self, env: Env) -> napi::Result<()> {
        cold(env, || {
            self.cell.views.take().into_values().for_each(External::detach);
            if let Some(subscriber) = self.cell.core.take() {
                subscriber.forget();
            }
            lifecycle::close(env, &self.cell)
        })
    }

    /// Detaches every view and leaves every topic.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || {
            for view in self.cell.views.take().into_values() {
                view.detach();
            }
            lifecycle::close(env, &self.cell)
        })
    }
}
