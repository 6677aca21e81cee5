//! The bus for JS: it finds and announces services, and makes the objects of every other class. Each method calls the
//! core.

use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::bus::{Bus, Filter};
use ringbell::channel::{ChannelOptions, ConnectOptions};

use crate::announced::NativeAnnounced;
use crate::channel::NativeChannel;
use crate::claim::{NativeClaim, NativeClaimWatch};
use crate::errors::cold;
use crate::held::Held;
use crate::json;
use crate::keyed::{NativeKeyedReader, NativeKeyedState};
use crate::lifecycle::{self, Closable};
use crate::options;
use crate::publisher::NativePublisher;
use crate::state::{NativeState, NativeStateReader};
use crate::subscriber::NativeSubscriber;
use crate::sync::NativeSync;
use crate::watch::NativeWatch;

struct Cell {
    core: Held<Bus>,
}

impl Closable for Cell {
    fn close(&self) {
        if let Some(bus) = self.core.take() {
            bus.close();
        }
    }
}

/// A directory that processes share.
#[napi]
pub struct NativeBus {
    cell: Rc<Cell>,
}

#[napi]
impl NativeBus {
    /// Opens the bus that the options, the environment or the defaults name, and creates it if need be.
    #[napi(factory)]
    pub fn open(env: Env, options_json: String) -> napi::Result<Self> {
        cold(env, || {
            let bus = Bus::open(options::bus(&options_json)?)?;
            let cell = Rc::new(Cell { core: Held::new("bus", bus) });
            lifecycle::register(env, &cell)?;
            Ok(Self { cell })
        })
    }

    /// The directory.
    #[napi(getter)]
    pub fn path(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|bus| Ok(bus.path().to_string_lossy().into_owned())))
    }

    /// What decided the path, in words.
    #[napi(getter)]
    pub fn path_source(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|bus| Ok(bus.path_source().to_owned())))
    }

    /// JSON array of every record that is accepted.
    #[napi]
    pub fn list(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|bus| json::write(&bus.list()?)))
    }

    /// Removes what dead processes left. Returns the numbers of files as JSON.
    #[napi]
    pub fn gc(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|bus| json::write(&bus.gc()?)))
    }

    /// JSON of what this machine, this process and this bus allow.
    #[napi]
    pub fn doctor(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|bus| json::write(&bus.doctor())))
    }

    /// Watches the services that match a name or pattern.
    #[napi]
    pub fn watch(&self, env: Env, filter: String) -> napi::Result<NativeWatch> {
        cold(env, || {
            let watch = self.cell.core.with(|bus| Ok(bus.watch(Filter::parse(&filter)?)?))?;
            NativeWatch::wrap(env, watch)
        })
    }

    /// Announces a general record.
    #[napi]
    pub fn announce(&self, env: Env, service: String, options_json: String) -> napi::Result<NativeAnnounced> {
        cold(env, || {
            let announcement = options::announcement(service, &options_json)?;
            let announced = self.cell.core.with(|bus| Ok(bus.announce(announcement)?))?;
            NativeAnnounced::wrap(env, announced)
        })
    }

    /// Announces a topic and becomes its publisher.
    #[napi]
    pub fn publisher(
        &self,
        env: Env,
        service: String,
        options_json: String,
    ) -> napi::Result<NativePublisher> {
        cold(env, || {
            let options = options::publisher(&options_json)?;
            let publisher = self.cell.core.with(|bus| Ok(bus.publisher(&service, options)?))?;
            NativePublisher::wrap(env, publisher)
        })
    }

    /// Subscribes to every topic that matches a name or pattern.
    #[napi]
    pub fn subscriber(
        &self,
        env: Env,
        pattern: String,
        options_json: String,
    ) -> napi::Result<NativeSubscriber> {
        cold(env, || {
            let options = options::subscriber(&options_json)?;
            let subscriber = self.cell.core.with(|bus| Ok(bus.subscriber(&pattern, options)?))?;
            NativeSubscriber::wrap(env, subscriber)
        })
    }

    /// Announces a state and becomes its writer.
    #[napi]
    pub fn state(&self, env: Env, name: String, options_json: String) -> napi::Result<NativeState> {
        cold(env, || {
            let options = options::state(&options_json)?;
            let state = self.cell.core.with(|bus| Ok(bus.state(&name, options)?))?;
            NativeState::wrap(env, state)
        })
    }

    /// Reads the state of a name.
    #[napi]
    pub fn watch_state(
        &self,
        env: Env,
        name: String,
        options_json: String,
    ) -> napi::Result<NativeStateReader> {
        cold(env, || {
            let options = options::state_reader(&options_json)?;
            let reader = self.cell.core.with(|bus| Ok(bus.watch_state(&name, options)?))?;
            NativeStateReader::wrap(env, reader)
        })
    }

    /// Announces a state with keys and becomes its writer.
    #[napi]
    pub fn keyed_state(
        &self,
        env: Env,
        name: String,
        options_json: String,
    ) -> napi::Result<NativeKeyedState> {
        cold(env, || {
            let options = options::state(&options_json)?;
            let state = self.cell.core.with(|bus| Ok(bus.keyed_state(&name, options)?))?;
            NativeKeyedState::wrap(env, state)
        })
    }

    /// Reads the state with keys of a name.
    #[napi]
    pub fn watch_keyed_state(
        &self,
        env: Env,
        name: String,
        options_json: String,
    ) -> napi::Result<NativeKeyedReader> {
        cold(env, || {
            let options = options::state_reader(&options_json)?;
            let reader = self.cell.core.with(|bus| Ok(bus.watch_keyed_state(&name, options)?))?;
            NativeKeyedReader::wrap(env, reader)
        })
    }

    /// Announces a server by a record of this kind. Clients connect to it.
    #[napi]
    pub fn serve(
        &self,
        env: Env,
        service: String,
        kind: String,
        options_json: String,
    ) -> napi::Result<NativeChannel> {
        cold(env, || {
            let options = options::server(kind, &options_json)?;
            let channel = self.cell.core.with(|bus| Ok(bus.serve(&service, options)?))?;
            NativeChannel::wrap(env, channel, ConnectOptions::default())
        })
    }

    /// Makes an endpoint that connects to servers, each time with these options.
    #[napi]
    pub fn channel(&self, env: Env, options_json: String) -> napi::Result<NativeChannel> {
        cold(env, || {
            let connecting = options::connection(&options_json)?;
            let channel = self.cell.core.with(|bus| Ok(bus.channel(ChannelOptions::default())?))?;
            NativeChannel::wrap(env, channel, connecting)
        })
    }

    /// Asks for a name that one process holds at a time. `wait`: until it is free.
    #[napi]
    pub fn claim(&self, env: Env, name: String, wait: bool) -> napi::Result<NativeClaim> {
        cold(env, || {
            let claiming = self.cell.core.with(|bus| Ok(bus.claiming(&name, wait)?))?;
            NativeClaim::wrap(env, claiming)
        })
    }

    /// JSON of who holds a name.
    #[napi]
    pub fn claim_state(&self, env: Env, name: String) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|bus| json::write(&bus.claims().query(&name)?)))
    }

    /// Watches who holds a name.
    #[napi]
    pub fn watch_claim(&self, env: Env, name: String) -> napi::Result<NativeClaimWatch> {
        cold(env, || {
            let watch = self.cell.core.with(|bus| Ok(bus.claims().watch(&name)?))?;
            NativeClaimWatch::wrap(env, watch)
        })
    }

    /// Makes what opens locks, semaphores, flags and sharded mutexes.
    #[napi]
    pub fn sync(&self, env: Env) -> napi::Result<NativeSync> {
        cold(env, || {
            let bus = self.cell.core.with(|bus| Ok(bus.clone()))?;
            NativeSync::new(env, bus)
        })
    }

    /// Closes the bus, and what the core closes together with it.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
