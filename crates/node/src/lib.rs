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

use errors::cold;
use napi::Env;
use napi_derive::napi;

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

/// The version of this binding.
#[napi]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
