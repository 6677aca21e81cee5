//! A channel for JS: the hot calls, and the events of its connections as JSON.
//!
//! Invariant: every message begins with the core's header of 16 bytes. JS reads it from the slab when it receives, and
//! passes its parts as numbers when it sends. The headers of a message lie behind its data, in both directions. Descriptors cross as numbers. A received descriptor belongs to the
//! caller, which closes it. A sent descriptor still belongs to the caller.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{Uint8Array, Unknown};
use napi_derive::napi;
use ringbell::Headers;
use ringbell::channel::{Channel, ConnectOptions, Drained, Header};
use ringbell::topic::Entry;

use crate::buffer::{Table, unknown};
use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::options;
use crate::poll_loop::Pollable;
use crate::raw::{Call, HotObject, descriptor};

/// The most messages that one drain returns.
const ENTRIES: usize = 1024;
/// Words of the scratch array: connection and bytes; for a large message also kind, id and aux.
const SCRATCH: usize = 5;
/// The results of `drain` that are not a count.
const NEEDS_SLAB: i32 = -1;
const NOTICE: i32 = -2;
const LARGE: i32 = -3;
/// The result of `drainLarge` when the message will never be complete.
const GONE: i32 = -1;

/// A message to send.
struct Outgoing<'a> {
    connection: u32,
    header: Header,
    data: &'a [u8],
    headers: Headers<'a>,
}

impl<'a> Outgoing<'a> {
    /// From the first five arguments: the connection; the kind, its flags and the length of the headers; the id; `aux`; the
    /// data and the headers behind it.
    fn of<const N: usize>(call: &mut Call<'a, N>) -> Result<Self> {
        let (connection, kind) = (call.number(0)?, call.number(1)?);
        let header =
            Header { kind: kind as u8, flags: (kind >> 8) as u8, id: call.whole(2)?, aux: call.number(3)? };
        let (data, headers) = split(call.bytes(4)?, kind >> 16)?;
        Ok(Self { connection, header, data, headers })
    }
}

/// Takes the headers off the end of the bytes.
pub fn split(bytes: &[u8], headers: u32) -> Result<(&[u8], Headers<'_>)> {
    let length = bytes.len().checked_sub(headers as usize);
    let length = length.ok_or_else(|| Failure::argument("there are fewer bytes than headers"))?;
    let (data, headers) = bytes.split_at(length);
    Ok((data, Headers::from_bytes(headers)))
}

/// The state that the class and its hot functions share.
pub struct Cell {
    core: Held<Channel>,
    /// The options of every connection that it makes.
    connecting: ConnectOptions,
    scratch: Table<f64>,
    table: Table<Entry>,
}

impl Cell {
    fn send(&self, call: &mut Call<'_, 5>) -> Result<u32> {
        let Outgoing { connection, header, data, headers } = Outgoing::of(call)?;
        self.core.with(|channel| Ok(u32::from(channel.send_with(connection, header, data, &headers)?)))
    }

    fn send_large(&self, call: &mut Call<'_, 6>) -> Result<u32> {
        let Outgoing { connection, header, data, headers } = Outgoing::of(call)?;
        let done = call.number(5)? as usize;
        self.core
            .with(|channel| Ok(channel.send_large_with(connection, header, data, &headers, done)? as u32))
    }

    fn drain_large(&self, connection: u32, target: &mut [u8]) -> Result<i32> {
        let there = self.core.with(|channel| Ok(channel.read_large(connection, target)?))?;
        Ok(there.map_or(GONE, |bytes| bytes as i32))
    }

    fn drain(&self, slab: &mut [u8], fill: u32, iterations: u32) -> Result<i32> {
        let fill = fill as usize;
        if fill > slab.len() {
            return Err(Failure::argument("fill lies behind the slab's end"));
        }
        let drained = self.table.with(|table| {
            self.core.with(|channel| {
                // It looks before it spins: the ring takes a look in vain as a sign that messages come one by one.
                match channel.drain(slab, fill, table)? {
                    Drained::Empty if iterations > 0 && channel.spin(iterations) => {
                        Ok(channel.drain(slab, fill, table)?)
                    }
                    drained => Ok(drained),
                }
            })
        })?;
        match drained {
            Drained::Empty => Ok(0),
            Drained::Batch { connection, count, bytes } => {
                self.scratch.set(0, f64::from(connection));
                self.scratch.set(1, bytes as f64);
                Ok(count as i32)
            }
            Drained::Large { connection, header, bytes, headers } => {
                let kind =
                    f64::from(header.kind) + 256.0 * f64::from(header.flags) + 65536.0 * headers as f64;
                let words =
                    [f64::from(connection), bytes as f64, kind, header.id as f64, f64::from(header.aux)];
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
        self.core.if_open(|channel| body(channel.as_fd())).unwrap_or(Ok(()))
    }

    fn harvest(&self) -> bool {
        // If this fails, the endpoint is at worst reported once more.
        self.core.if_open(|channel| channel.harvest().unwrap_or(false)).unwrap_or(false)
    }
}

/// Received descriptors, and the data that came with them.
#[napi(object)]
pub struct NativeParcel {
    /// The data.
    pub data: Uint8Array,
    /// The numbers of the descriptors, which belong to the caller now.
    pub fds: Vec<i32>,
}

/// An endpoint with two-way connections: that of a server, or one that connects to servers.
#[napi]
pub struct NativeChannel {
    cell: Rc<Cell>,
}

impl NativeChannel {
    /// Wraps the core's channel, which connects with these options.
    pub fn wrap(env: Env, channel: Channel, connecting: ConnectOptions) -> Result<Self> {
        let cell = Rc::new(Cell {
            core: Held::new("channel", channel),
            connecting,
            scratch: Table::new(env, SCRATCH)?,
            table: Table::new(env, ENTRIES)?,
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
impl NativeChannel {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativeChannelHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?
                .function(c"send", |cell: &Cell, call: &mut Call<'_, 5>| cell.send(call))?
                .function(c"drain", |cell: &Cell, call: &mut Call<'_, 3>| {
                    let (fill, iterations) = (call.number(1)?, call.number(2)?);
                    cell.drain(call.bytes_mut(0)?, fill, iterations)
                })?
                .function(c"sendLarge", |cell: &Cell, call: &mut Call<'_, 6>| cell.send_large(call))?
                .function(c"abandonLarge", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let connection = call.number(0)?;
                    cell.core.with(|channel| Ok(channel.abandon_large(connection)?))
                })?
                .function(c"drainLarge", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let connection = call.number(0)?;
                    cell.drain_large(connection, call.bytes_mut(1)?)
                })?
                .function(c"skipLarge", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let connection = call.number(0)?;
                    cell.core.with(|channel| Ok(channel.skip_large(connection)?))
                })?
                .function(c"arm", |cell: &Cell, _: &mut Call<'_, 0>| {
                    cell.core.with(|channel| Ok(channel.arm()))
                })?
                .function(c"hasRoom", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (connection, bytes) = (call.number(0)?, call.number(1)? as usize);
                    cell.core.with(|channel| Ok(channel.has_room(connection, bytes)))
                })?
                .function(c"armRoom", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (connection, bytes) = (call.number(0)?, call.number(1)? as usize);
                    cell.core.with(|channel| Ok(channel.arm_room(connection, bytes)))
                })?;
            Ok(unknown(env, object.finish()))
        })
    }

    /// After `drain`: the connection, and the bytes of the slab that were used (or are needed). For a large message
    /// that arrives: the connection, the bytes of its data, its kind with its flags and the length of its headers, its
    /// id and its `aux`.
    #[napi(getter, ts_return_type = "Float64Array")]
    pub fn scratch(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.scratch.array())
    }

    /// After `drain`: four words per message: offset, length, offset of its batch's header, index in that batch.
    #[napi(getter, ts_return_type = "Uint32Array")]
    pub fn table(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.table.array())
    }

    /// Begins to connect to the server of this record. Returns the number of the future connection.
    #[napi]
    pub fn connect(&self, env: Env, record_json: String) -> napi::Result<u32> {
        cold(env, || {
            let record = options::record(&record_json)?;
            self.cell.core.with(|channel| Ok(channel.connect(&record, &self.cell.connecting)?))
        })
    }

    /// Ends a connection in good order.
    #[napi]
    pub fn disconnect(&self, connection: u32) {
        self.cell.core.if_open(|channel| channel.disconnect(connection));
    }

    /// The largest data of one message to this connection, in bytes.
    #[napi]
    pub fn max_message(&self, env: Env, connection: u32) -> napi::Result<u32> {
        cold(env, || self.cell.core.with(|channel| Ok(channel.max_message(connection)? as u32)))
    }

    /// Sends descriptors, which stay open here. `false`: there is no room now.
    #[napi]
    pub fn send_fds(&self, env: Env, connection: u32, data: Uint8Array, fds: Vec<i32>) -> napi::Result<bool> {
        cold(env, || {
            let fds = fds.into_iter().map(descriptor).collect::<Result<Vec<_>>>()?;
            self.cell.core.with(|channel| Ok(channel.send_fds(connection, &data, &fds)?))
        })
    }

    /// The oldest received descriptors. The caller must close them.
    #[napi]
    pub fn receive_fds(&self, env: Env, connection: u32) -> napi::Result<Option<NativeParcel>> {
        cold(env, || {
            let parcel = self.cell.core.with(|channel| Ok(channel.receive_fds(connection)?))?;
            Ok(parcel.map(|parcel| NativeParcel {
                data: parcel.data.into(),
                fds: parcel.fds.into_iter().map(IntoRawFd::into_raw_fd).collect(),
            }))
        })
    }

    /// Accepts no new clients any more.
    #[napi]
    pub fn withdraw(&self) {
        self.cell.core.if_open(Channel::withdraw);
    }

    /// JSON array of the notices; empty text if there are none.
    #[napi]
    pub fn notices(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let notices = self.cell.core.with(|channel| Ok(channel.notices()))?;
            let values: Vec<_> = notices.iter().filter_map(json::connection_notice).collect();
            if values.is_empty() { Ok(String::new()) } else { json::write(&values) }
        })
    }

    /// JSON of the counters.
    #[napi]
    pub fn stats(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|channel| json::write(&channel.stats())))
    }

    /// JSON of the record as it is announced now; empty text if there is none.
    #[napi]
    pub fn record(&self, env: Env) -> napi::Result<String> {
        cold(env, || {
            let record = self.cell.core.with(|channel| Ok(channel.record()))?;
            record.map_or(Ok(String::new()), |record| json::write(&*record))
        })
    }

    /// Replaces the record's metadata by this JSON object.
    #[napi]
    pub fn update(&self, env: Env, metadata_json: String) -> napi::Result<()> {
        cold(env, || {
            let metadata = options::object("metadata", &metadata_json)?;
            self.cell.core.with(|channel| Ok(channel.update(metadata)?))
        })
    }

    /// Replaces the role of the member that serves, in the record, by this JSON object.
    #[napi]
    pub fn set_group(&self, env: Env, group_json: String) -> napi::Result<()> {
        cold(env, || {
            let group = options::group(&group_json)?;
            self.cell.core.with(|channel| Ok(channel.set_group(group)?))
        })
    }

    /// Closes every connection.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
