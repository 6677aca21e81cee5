//! States for JS: the writer and the reader of one value, and of a value for each key.
//!
//! The core decides what the value is. This module copies it to memory that JS owns, and says by numbers what the core
//! answered. JS never gets a view of memory that another process writes.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use ringbell::state::{Reading, State, StateReader};

use crate::buffer::{Table, unknown};
use crate::errors::{Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::poll_loop::Pollable;
use crate::raw::{Call, HotObject};
use crate::state_writer::WriterCell;

/// Words of a reader's scratch array: the number of the value, and bytes that are needed, and whether there are notices.
const SCRATCH: usize = 3;
/// The results of `read` and `next` that are not a length.
const NOTHING: i32 = -1;
const NEEDS: i32 = -2;

/// The writer of a state.
#[napi]
pub struct NativeState {
    cell: Rc<WriterCell<State>>,
}

impl NativeState {
    /// Wraps the core's writer.
    pub fn wrap(env: Env, state: State) -> Result<Self> {
        Ok(Self { cell: WriterCell::new(env, state)? })
    }
}

#[napi]
impl NativeState {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativeStateHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?.function(
                c"set",
                |cell: &WriterCell<State>, call: &mut Call<'_, 1>| {
                    let value = call.bytes(0)?;
                    cell.core.with(|state| Ok(state.set(value).map(drop)?))
                },
            )?;
            Ok(unknown(env, object.finish()))
        })
    }

    /// The largest value in bytes.
    #[napi(getter)]
    pub fn size(&self, env: Env) -> napi::Result<u32> {
        cold(env, || self.cell.of(|state| state.size() as u32))
    }

    /// How many readers are attached and alive.
    #[napi(getter)]
    pub fn readers(&self, env: Env) -> napi::Result<u32> {
        cold(env, || self.cell.of(|state| state.readers() as u32))
    }

    /// JSON of the counters.
    #[napi]
    pub fn stats(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.stats())
    }

    /// JSON of the record as it is announced now.
    #[napi]
    pub fn record(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.record())
    }

    /// Replaces the record's metadata by this JSON object.
    #[napi]
    pub fn update(&self, env: Env, metadata_json: String) -> napi::Result<()> {
        cold(env, || self.cell.update(&metadata_json))
    }

    /// Withdraws the state.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}

/// The reader of a state.
#[napi]
pub struct NativeStateReader {
    cell: Rc<ReaderCell>,
}

/// The state that the class and its hot functions share.
pub struct ReaderCell {
    core: Held<StateReader>,
    scratch: Table<f64>,
}

impl ReaderCell {
    #[inline]
    fn answer(&self, reading: Reading, notices: bool) -> i32 {
        self.scratch.with(|scratch| {
            scratch[2] = f64::from(u8::from(notices));
            match reading {
                Reading::Value { length, version } => {
                    scratch[0] = version.number as f64;
                    length as i32
                }
                Reading::Nothing => NOTHING,
                Reading::Needs(bytes) => {
                    scratch[1] = bytes as f64;
                    NEEDS
                }
            }
        })
    }

    #[inline]
    fn read(&self, target: &mut [u8]) -> Result<i32> {
        self.core.with(|reader| {
            let reading = reader.read_or_needs(target)?;
            Ok(self.answer(reading, reader.has_notices()))
        })
    }

    fn next(&self, target: &mut [u8]) -> Result<i32> {
        self.core.with(|reader| {
            let reading = reader.next_or_needs(target)?;
            Ok(self.answer(reading, reader.has_notices()))
        })
    }
}

impl Closable for ReaderCell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for ReaderCell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        self.core.if_open(|reader| body(reader.as_fd())).unwrap_or(Ok(()))
    }

    fn harvest(&self) -> bool {
        // If this fails, the endpoint is at worst reported once more.
        self.core.if_open(|reader| reader.harvest().unwrap_or(false)).unwrap_or(false)
    }
}

impl NativeStateReader {
    /// Wraps the core's reader.
    pub fn wrap(env: Env, reader: StateReader) -> Result<Self> {
        let cell = Rc::new(ReaderCell {
            core: Held::new("state reader", reader),
            scratch: Table::new(env, SCRATCH)?,
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
impl NativeStateReader {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativeStateReaderHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?
                .function(c"read", |cell: &ReaderCell, call: &mut Call<'_, 1>| cell.read(call.bytes_mut(0)?))?
                .function(c"next", |cell: &ReaderCell, call: &mut Call<'_, 1>| cell.next(call.bytes_mut(0)?))?
                .function(c"spin", |cell: &ReaderCell, call: &mut Call<'_, 1>| {
                    let iterations = call.number(0)?;
                    cell.core.with(|reader| Ok(reader.spin(iterations)))
                })?
                .function(c"arm", |cell: &ReaderCell, _: &mut Call<'_, 0>| {
                    cell.core.with(|reader| Ok(reader.arm()))
                })?;
            Ok(unknown(env, object.finish()))
        })
    }

    /// After `read` or `next`: the value's number, bytes that are needed, 1 if there are notices.
    #[napi(getter, ts_return_type = "Float64Array")]
    pub fn scratch(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.scratch.array())
    }

    /// The epoch of the value that was read last, as a decimal number; empty text if there was none.
    #[napi(getter)]
    pub fn epoch(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let version = self.cell.core.with(|reader| Ok(reader.version()))?;
            Ok(version.map_or_else(String::new, |version| version.epoch.to_string()))
        })
    }

    /// JSON array of the notices; empty text if there are none.
    #[napi]
    pub fn notices(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let notices = self.cell.core.with(|reader| Ok(reader.notices()?))?;
            json::state_notices(&notices)
        })
    }

    /// JSON of the counters.
    #[napi]
    pub fn stats(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|reader| json::write(&reader.stats())))
    }

    /// Leaves the state.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
