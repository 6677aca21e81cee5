//! What the classes of both writers of states have in common: the core's writer until it is closed, and what it says of itself.
//!
//! `state` and `keyed` use it. Nothing is decided here.

use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use napi::Env;
use ringbell::state::StateWriter;

use crate::errors::Result;
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::options;

/// The state that a writer's class and its hot functions share.
pub struct WriterCell<S> {
    pub core: Held<S>,
}

impl<S> Closable for WriterCell<S> {
    fn close(&self) {
        drop(self.core.take());
    }
}

impl<S: DerefMut<Target = StateWriter> + 'static> WriterCell<S> {
    /// Wraps the core's writer.
    pub fn new(env: Env, state: S) -> Result<Rc<Self>> {
        let cell = Rc::new(WriterCell { core: Held::new("state", state) });
        lifecycle::register(env, &cell)?;
        Ok(cell)
    }

    /// Asks the writer.
    pub fn of<R>(&self, ask: impl FnOnce(&StateWriter) -> R) -> Result<R> {
        self.core.with(|state| Ok(ask(state.deref())))
    }

    /// JSON of the counters.
    pub fn stats(&self) -> Result<String> {
        json::write(&self.of(StateWriter::stats)?)
    }

    /// JSON of the record as it is announced now.
    pub fn record(&self) -> Result<String> {
        json::write(&*self.of(StateWriter::record)?)
    }

    /// Replaces the record's metadata by this JSON object.
    pub fn update(&self, metadata_json: &str) -> Result<()> {
        let metadata = options::object("metadata", metadata_json)?;
        self.core.with(|state| Ok(state.update(metadata)?))
    }
}
