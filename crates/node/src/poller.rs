//! The poller as a class: it takes endpoints and reports the ids of those that are ready. `poll_loop` does the work.

use std::rc::Rc;

use napi::bindgen_prelude::{ClassInstance, Either10, Unknown};
use napi::{Env, JsValue, ValueType};
use napi_derive::napi;

use crate::channel::NativeChannel;
use crate::claim::{NativeClaim, NativeClaimWatch};
use crate::errors::{Failure, cold};
use crate::keyed::NativeKeyedReader;
use crate::poll_loop::Poller;
use crate::process::NativeProcess;
use crate::publisher::NativePublisher;
use crate::state::NativeStateReader;
use crate::subscriber::NativeSubscriber;
use crate::sync::NativeSync;
use crate::watch::NativeWatch;

type Endpoint<'a> = Either10<
    ClassInstance<'a, NativePublisher>,
    ClassInstance<'a, NativeSubscriber>,
    ClassInstance<'a, NativeWatch>,
    ClassInstance<'a, NativeChannel>,
    ClassInstance<'a, NativeStateReader>,
    ClassInstance<'a, NativeKeyedReader>,
    ClassInstance<'a, NativeClaim>,
    ClassInstance<'a, NativeClaimWatch>,
    ClassInstance<'a, NativeSync>,
    ClassInstance<'a, NativeProcess>,
>;

/// The poller as JS sees it; one per environment is enough.
#[napi]
pub struct NativePoller {
    poller: Rc<Poller>,
}

#[napi]
impl NativePoller {
    /// `on_ready(count)` is called when the first `count` words of `ready` are the ids that are ready.
    /// `on_loop` false: no loop is used (Bun, Deno); call `poll` instead.
    #[napi(
        constructor,
        ts_args_type = "onReady: (count: number) => void, ready: Uint32Array, onLoop?: boolean"
    )]
    pub fn new(
        env: Env,
        on_ready: Unknown<'_>,
        ready: Unknown<'_>,
        on_loop: Option<bool>,
    ) -> napi::Result<Self> {
        cold(env, || {
            if on_ready.get_type().ok() != Some(ValueType::Function) {
                return Err(Failure::argument("onReady must be a function"));
            }
            let poller = Poller::new(env, on_ready.raw(), ready.raw(), on_loop.unwrap_or(true))?;
            Ok(Self { poller })
        })
    }

    /// Whether the loop calls `onReady`; otherwise `poll` must be called from time to time.
    #[napi(getter)]
    pub fn supported(&self) -> bool {
        self.poller.supported()
    }

    /// Watches an endpoint. Returns its id: the lowest that is free.
    #[napi(
        ts_args_type = "endpoint: NativePublisher | NativeSubscriber | NativeWatch | NativeChannel | NativeClaim | NativeClaimWatch | NativeStateReader | NativeKeyedReader | NativeSync | NativeProcess"
    )]
    pub fn add(&self, env: Env, endpoint: Endpoint<'_>) -> napi::Result<u32> {
        cold(env, || {
            self.poller.add(match endpoint {
                Either10::A(publisher) => publisher.pollable(),
                Either10::B(subscriber) => subscriber.pollable(),
                Either10::C(watch) => watch.pollable(),
                Either10::D(channel) => channel.pollable(),
                Either10::E(reader) => reader.pollable(),
                Either10::F(reader) => reader.pollable(),
                Either10::G(claim) => claim.pollable(),
                Either10::H(watch) => watch.pollable(),
                Either10::I(sync) => sync.pollable(),
                Either10::J(process) => process.pollable(),
            })
        })
    }

    /// Stops watching the endpoint `id`.
    #[napi]
    pub fn remove(&self, env: Env, id: u32) -> napi::Result<()> {
        cold(env, || self.poller.remove(id))
    }

    /// Polls now, without the loop: writes the ready ids and returns their number.
    #[napi]
    pub fn poll(&self, env: Env) -> napi::Result<u32> {
        cold(env, || self.poller.harvest())
    }

    /// Keeps the process alive until `unref` was called as often.
    #[napi(js_name = "ref")]
    pub fn reference(&self) {
        self.poller.wait(true);
    }

    /// Undoes one `ref`.
    #[napi(js_name = "unref")]
    pub fn unreference(&self) {
        self.poller.wait(false);
    }

    /// Stops watching everything.
    #[napi]
    pub fn close(&self) {
        self.poller.close();
    }
}
