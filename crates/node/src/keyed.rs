//! States with keys for JS: the writer and the reader. Values cross as bytes of their own, keys as text.
//!
//! The core keeps the tables. Nothing is decided here.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{Uint8Array, Unknown};
use napi_derive::napi;
use ringbell::state::{KeyedReader, KeyedState};

use crate::buffer::{given, unknown};
use crate::errors::{Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::poll_loop::Pollable;
use crate::raw::{Call, HotObject};
use crate::state_writer::WriterCell;

/// The writer of a state with keys.
#[napi]
pub struct NativeKeyedState {
    cell: Rc<WriterCell<KeyedState>>,
}

impl NativeKeyedState {
    /// Wraps the core's writer.
    pub fn wrap(env: Env, state: KeyedState) -> Result<Self> {
        Ok(Self { cell: WriterCell::new(env, state)? })
    }
}

#[napi]
impl NativeKeyedState {
    /// Sets the value of a key.
    #[napi]
    pub fn set(&self, env: Env, key: String, value: Uint8Array) -> napi::Result<()> {
        cold(env, || self.cell.core.with(|state| Ok(state.set(&key, &value).map(drop)?)))
    }

    /// Deletes a key. Says whether it was there.
    #[napi]
    pub fn delete(&self, env: Env, key: String) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|state| Ok(state.delete(&key)?)))
    }

    /// The value of a key, or `null`.
    #[napi(ts_return_type = "Uint8Array | null")]
    pub fn get(&self, env: Env, key: String) -> napi::Result<Option<Unknown<'static>>> {
        cold(env, || {
            let value = self.cell.core.with(|state| Ok(state.get(&key).map(<[u8]>::to_vec)))?;
            value.map(|value| Ok(unknown(env, given(env, value)?))).transpose()
        })
    }

    /// JSON array of the keys, in no order.
    #[napi]
    pub fn keys(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|state| json::write(&state.keys().collect::<Vec<_>>())))
    }

    /// How many changes there were.
    #[napi(getter)]
    pub fn version(&self, env: Env) -> napi::Result<f64> {
        cold(env, || self.cell.core.with(|state| Ok(state.version() as f64)))
    }

    /// The largest key and value together, in bytes.
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

/// The state that the reader's class and its hot functions share.
pub struct ReaderCell {
    core: Held<KeyedReader>,
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

/// The reader of a state with keys.
#[napi]
pub struct NativeKeyedReader {
    cell: Rc<ReaderCell>,
}

impl NativeKeyedReader {
    /// Wraps the core's reader.
    pub fn wrap(env: Env, reader: KeyedReader) -> Result<Self> {
        let cell = Rc::new(ReaderCell { core: Held::new("state reader", reader) });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }

    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeKeyedReader {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativeKeyedReaderHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?
                .function(c"poll", |cell: &ReaderCell, _: &mut Call<'_, 0>| {
                    cell.core.with(|reader| {
                        let changed = reader.poll()?;
                        Ok(changed || reader.has_notices())
                    })
                })?
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

    /// The value of a key, or `null`.
    #[napi(ts_return_type = "Uint8Array | null")]
    pub fn get(&self, env: Env, key: String) -> napi::Result<Option<Unknown<'static>>> {
        cold(env, || {
            let value = self.cell.core.with(|reader| Ok(reader.get(&key)?.map(<[u8]>::to_vec)))?;
            value.map(|value| Ok(unknown(env, given(env, value)?))).transpose()
        })
    }

    /// JSON array of the keys that begin with this and have a value, in order.
    #[napi]
    pub fn keys(&self, env: Env, prefix: String) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|reader| json::write(&reader.keys(&prefix)?.collect::<Vec<_>>())))
    }

    /// JSON array of the keys that have changed since the last call; empty text if there are none.
    #[napi]
    pub fn changes(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let keys = self.cell.core.with(|reader| Ok(reader.changes()?))?;
            if keys.is_empty() { Ok(String::new()) } else { json::write(&keys) }
        })
    }

    /// Whether a whole table was ever read.
    #[napi(getter)]
    pub fn whole(&self, env: Env) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|reader| Ok(reader.is_whole())))
    }

    /// The epoch of the writer that the table comes from, as a decimal number; empty text if there is none.
    #[napi(getter)]
    pub fn epoch(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let epoch = self.cell.core.with(|reader| Ok(reader.epoch()))?;
            Ok(epoch.map_or_else(String::new, |epoch| epoch.to_string()))
        })
    }

    /// JSON array of the notices; empty text if there are none.
    #[napi]
    pub fn notices(&self, env: Env) -> napi::Result<String> {
        cold(env, || json::state_notices(&self.cell.core.with(|reader| Ok(reader.notices()?))?))
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
