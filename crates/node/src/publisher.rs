//! A topic's publisher for JS: the hot calls, and the two memories that hold the windows that JS fills.
//!
//! The core decides whether there is room and what happens to a message. This module converts offsets and lengths and
//! turns memory into ArrayBuffers. Invariant: closing detaches the ArrayBuffers before it releases the mappings.

use std::cell::RefCell;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use ringbell::Headers;
use ringbell::topic::{Publisher, WindowMemory};

use crate::buffer::{External, Frames, Prepared, Table, unknown};
use crate::channel::split;
use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::options;
use crate::poll_loop::Pollable;
use crate::raw::{Call, HotObject};

/// Entries of the lengths table: the most messages in one commit.
const LENGTHS: usize = 4096;
/// Words of the scratch array: offset and kind of the open window.
const SCRATCH: usize = 2;

/// The state that the class and its hot functions share.
pub struct Cell {
    core: Held<Publisher>,
    scratch: Table<f64>,
    lengths: Table<u32>,
    headers: Table<u8>,
    frames: Range<usize>,
    views: RefCell<[Option<External>; 2]>,
}

impl Cell {
    fn send(&self, bytes: &[u8]) -> Result<u32> {
        self.core.with(|publisher| {
            if self.frames.contains(&(bytes.as_ptr() as usize)) {
                // The bytes are a view of this very ring. The source of the copy may be the place that is written.
                let copy = bytes.to_vec();
                return Ok(u32::from(publisher.send(&copy)?));
            }
            Ok(u32::from(publisher.send(bytes)?))
        })
    }

    /// Sends a message whose headers are the first bytes of the table.
    fn send_with(&self, bytes: &[u8], headers: u32) -> Result<u32> {
        let copy = self.frames.contains(&(bytes.as_ptr() as usize)).then(|| bytes.to_vec());
        let bytes = copy.as_deref().unwrap_or(bytes);
        self.headers.with(|table| {
            let headers = table.get(..headers as usize);
            let headers = headers.ok_or_else(|| Failure::argument("more headers than the table has"))?;
            let headers = Headers::from_bytes(headers);
            self.core.with(|publisher| Ok(u32::from(publisher.send_with(bytes, &headers)?)))
        })
    }

    fn send_large(&self, message: &[u8], done: u32, headers: u32) -> Result<u32> {
        if self.frames.contains(&(message.as_ptr() as usize)) {
            return Err(Failure::argument(
                "a view of this publisher's own ring is overwritten before all of it is sent; write a copy",
            ));
        }
        let (message, headers) = split(message, headers)?;
        self.core.with(|publisher| Ok(publisher.push_large_with(message, &headers, done as usize)? as u32))
    }

    fn open_window(&self, bytes: u32) -> Result<u32> {
        let Some(span) = self.core.with(|publisher| Ok(publisher.open_window(bytes as usize)?))? else {
            return Ok(0);
        };
        self.scratch.set(0, span.offset as f64);
        self.scratch.set(1, if span.memory == WindowMemory::Ring { 0.0 } else { 1.0 });
        Ok(span.length as u32)
    }

    fn commit(&self, count: u32) -> Result<()> {
        self.lengths.with(|lengths| {
            let lengths = lengths.get(..count as usize);
            let lengths = lengths.ok_or_else(|| Failure::argument("more lengths than the table has"))?;
            self.core.with(|publisher| Ok(publisher.commit_window(lengths)?))
        })
    }
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl Pollable for Cell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        self.core.if_open(|publisher| body(publisher.as_fd())).unwrap_or(Ok(()))
    }

    fn harvest(&self) -> bool {
        // If this fails, the endpoint is at worst reported once more.
        self.core.if_open(|publisher| publisher.harvest().unwrap_or(false)).unwrap_or(false)
    }
}

/// The writing side of one topic instance.
#[napi]
pub struct NativePublisher {
    cell: Rc<Cell>,
}

impl NativePublisher {
    /// Wraps the core's publisher.
    pub fn wrap(env: Env, publisher: Publisher) -> Result<Self> {
        let memory = publisher.frames_memory();
        let start = memory.frames_ptr().as_ptr() as usize;
        let cell = Rc::new(Cell {
            frames: start..start + 2 * memory.capacity(),
            core: Held::new("publisher", publisher),
            scratch: Table::new(env, SCRATCH)?,
            lengths: Table::new(env, LENGTHS)?,
            headers: Table::new(env, Headers::MOST_BYTES)?,
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
impl NativePublisher {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativePublisherHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?
                .function(c"send", |cell: &Cell, call: &mut Call<'_, 1>| cell.send(call.bytes(0)?))?
                .function(c"sendWith", |cell: &Cell, call: &mut Call<'_, 2>| {
                    cell.send_with(call.bytes(0)?, call.number(1)?)
                })?
                .function(c"sendLarge", |cell: &Cell, call: &mut Call<'_, 3>| {
                    cell.send_large(call.bytes(0)?, call.number(1)?, call.number(2)?)
                })?
                .function(c"abandonLarge", |cell: &Cell, _: &mut Call<'_, 0>| {
                    cell.core.if_open(Publisher::abandon_large);
                    Ok(())
                })?
                .function(c"openWindow", |cell: &Cell, call: &mut Call<'_, 1>| {
                    cell.open_window(call.number(0)?)
                })?
                .function(c"commit", |cell: &Cell, call: &mut Call<'_, 1>| cell.commit(call.number(0)?))?
                .function(c"abandon", |cell: &Cell, _: &mut Call<'_, 0>| {
                    cell.core.if_open(Publisher::abandon_window);
                    Ok(())
                })?
                .function(c"hasRoom", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let bytes = call.number(0)? as usize;
                    cell.core.with(|publisher| Ok(publisher.has_room(bytes)))
                })?
                .function(c"armRoom", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let bytes = call.number(0)? as usize;
                    cell.core.with(|publisher| Ok(publisher.arm_room(bytes)))
                })?
                .function(c"spinRoom", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (bytes, iterations) = (call.number(0)? as usize, call.number(1)?);
                    cell.core.with(|publisher| Ok(publisher.spin_room(bytes, iterations)))
                })?
                .function(c"sweep", |cell: &Cell, _: &mut Call<'_, 0>| {
                    cell.core.if_open(Publisher::sweep);
                    Ok(())
                })?;
            Ok(unknown(env, object.finish()))
        })
    }

    /// After `openWindow`: the window's offset, and its memory's kind.
    #[napi(getter, ts_return_type = "Float64Array")]
    pub fn scratch(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.scratch.array())
    }

    /// Before `commit`: the length of each message.
    #[napi(getter, ts_return_type = "Uint32Array")]
    pub fn lengths(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.lengths.array())
    }

    /// Before `sendWith`: the headers of the message.
    #[napi(getter, ts_return_type = "Uint8Array")]
    pub fn headers(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.headers.array())
    }

    /// 0: the ring's frames, twice in a row; 1: the private buffer of `drop-oldest`, once a window was opened.
    #[napi(ts_args_type = "kind: 0 | 1", ts_return_type = "ArrayBuffer")]
    pub fn memory(&self, env: Env, kind: u32) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let mut views = self.cell.views.borrow_mut();
            let view = views.get_mut(kind as usize);
            let view = view.ok_or_else(|| Failure::argument("the kind of memory is 0 or 1"))?;
            if view.is_none() {
                *view = Some(self.cell.core.with(|publisher| match (kind, publisher.window_buffer()) {
                    (0, _) => External::new(env, Frames(publisher.frames_memory())),
                    (_, Some(buffer)) => External::new(env, Prepared(buffer)),
                    (_, None) => Err(Failure::argument("no window was opened in the private buffer yet")),
                })?);
            }
            match view {
                Some(view) => view.value(),
                None => Err(Failure::Internal("a view that was just made is missing".to_owned())),
            }
        })
    }

    /// The largest payload of one message, in bytes.
    #[napi(getter)]
    pub fn max_message(&self, env: Env) -> napi::Result<u32> {
        cold(env, || self.cell.core.with(|publisher| Ok(publisher.max_message() as u32)))
    }

    /// How many subscribers are attached and alive.
    #[napi(getter)]
    pub fn subscribers(&self, env: Env) -> napi::Result<u32> {
        cold(env, || self.cell.core.with(|publisher| Ok(publisher.subscribers() as u32)))
    }

    /// Whether so many subscribers are attached and alive.
    #[napi]
    pub fn are_attached(&self, env: Env, count: u32) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|publisher| Ok(publisher.are_attached(count as usize))))
    }

    /// Announces that the publisher wants to hear of its subscribers. One that comes or leaves then wakes it.
    #[napi]
    pub fn listen(&self, env: Env) -> napi::Result<()> {
        cold(env, || {
            self.cell.core.with(|publisher| {
                publisher.listen();
                Ok(())
            })
        })
    }

    /// Takes that announcement back.
    #[napi]
    pub fn stop_listening(&self, env: Env) -> napi::Result<()> {
        cold(env, || {
            self.cell.core.if_open(Publisher::stop_listening);
            Ok(())
        })
    }

    /// Whether a subscriber has come or left since the announcement.
    #[napi]
    pub fn is_rung(&self, env: Env) -> napi::Result<bool> {
        cold(env, || self.cell.core.with(|publisher| Ok(publisher.is_rung())))
    }

    /// Announces it again. JSON array of what has happened to the subscribers; empty text if that is nothing.
    #[napi]
    pub fn notices(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let notices = self.cell.core.with(|publisher| Ok(publisher.notices()))?;
            let values: Vec<_> = notices.iter().filter_map(json::publisher_notice).collect();
            if values.is_empty() { Ok(String::new()) } else { json::write(&values) }
        })
    }

    /// JSON of the counters.
    #[napi]
    pub fn stats(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|publisher| json::write(&publisher.stats())))
    }

    /// JSON of the record as it is announced now.
    #[napi]
    pub fn record(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|publisher| json::write(&*publisher.record())))
    }

    /// Replaces the record's metadata by this JSON object.
    #[napi]
    pub fn update(&self, env: Env, metadata_json: String) -> napi::Result<()> {
        cold(env, || {
            let metadata = options::object("metadata", &metadata_json)?;
            self.cell.core.with(|publisher| Ok(publisher.update(metadata)?))
        })
    }

    /// Replaces the role of the member that publishes, in the record, by this JSON object.
    #[napi]
    pub fn set_group(&self, env: Env, group_json: String) -> napi::Result<()> {
        cold(env, || {
            let group = options::group(&group_json)?;
            self.cell.core.with(|publisher| Ok(publisher.set_group(group)?))
        })
    }

    /// Detaches every view and closes the topic.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || {
            for view in self.cell.views.take().into_iter().flatten() {
                view.detach();
            }
            lifecycle::close(env, &self.cell)
        })
    }
}
