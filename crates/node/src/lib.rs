//! ringbell for Node: it turns Rust values into JS values and makes no decisions.
//!
//! Classes and cold calls go through napi-rs. The few hot calls are plain functions of the raw layer (`raw`). Records,
//! statistics and notices cross as JSON text. Invariant: each environment (the main thread, each worker) is
//! independent. What it opened is closed at its end (`lifecycle`), and two environments share nothing.

mod announced;
mod buffer;
mod bus;
mod channel;
mod claim;
mod errors;
mod held;
mod json;
mod keyed;
mod lifecycle;
mod listener;
mod options;
mod poll_loop;
mod poller;
mod process;
mod publisher;
mod raw;
mod state;
mod state_writer;
mod subscriber;
mod sync;
mod unix_server;
mod uv;
mod watch;

use std::path::Path;

use errors::cold;
use napi::Env;
use napi_derive::napi;
use raw::descriptor;
use ringbell::listen;

/// Every code that an error of the binding can have.
#[napi]
pub fn error_codes() -> Vec<String> {
    ringbell::CODES.iter().copied().chain([errors::INTERNAL]).map(str::to_owned).collect()
}

/// Throws `ERR_RINGBELL_INVALID_NAME` unless this may name a service.
#[napi]
pub fn check_name(env: Env, name: String) -> napi::Result<()> {
    cold(env, || Ok(ringbell::bus::check_name("service name", &name)?))
}

/// The version of the shared memory's layout.
#[napi]
pub fn layout_version() -> u32 {
    ringbell_ring::layout::VERSION
}

/// Sends a text to the notification socket of a service manager.
#[napi]
pub fn notify(env: Env, socket: String, text: String) -> napi::Result<()> {
    cold(env, || Ok(ringbell::process::notify(&socket, &text)?))
}

/// JSON of the process at the other end of a Unix socket.
#[napi]
pub fn socket_client(env: Env, fd: i32) -> napi::Result<String> {
    cold(env, || json::write(&listen::client(descriptor(fd)?)?))
}

/// The path that a Unix socket listens on, or its abstract name after an `@`; empty for other sockets.
#[napi]
pub fn socket_address(env: Env, fd: i32) -> napi::Result<String> {
    cold(env, || Ok(listen::address(descriptor(fd)?)?.unwrap_or_default()))
}

/// Whether a process listens on the Unix socket at this path. An abstract name begins with a NUL.
#[napi]
pub fn socket_answers(env: Env, path: String) -> napi::Result<bool> {
    cold(env, || Ok(listen::answers(Path::new(&path))?))
}

/// Keeps an inherited descriptor from child processes.
#[napi]
pub fn keep_descriptor(env: Env, fd: i32) -> napi::Result<()> {
    cold(env, || Ok(listen::keep(descriptor(fd)?)?))
}

/// The version of this binding.
#[napi]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
