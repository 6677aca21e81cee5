//! An announced instance, until it is closed. Each method calls the core; records cross as JSON text.

use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::bus::Announced;

use crate::errors::{Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::options;

struct Cell {
    core: Held<Announced>,
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

/// A general record; closing withdraws it.
#[napi]
pub struct NativeAnnounced {
    cell: Rc<Cell>,
}

impl NativeAnnounced {
    /// Wraps the core's announcement.
    pub fn wrap(env: Env, announced: Announced) -> Result<Self> {
        let cell = Rc::new(Cell { core: Held::new("announcement", announced) });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }
}

#[napi]
impl NativeAnnounced {
    /// JSON of the record as it is announced now.
    #[napi]
    pub fn record(&self, env: Env) -> napi::Result<String> {
        cold(env, || self.cell.core.with(|announced| json::write(&*announced.record())))
    }

    /// Replaces the record's metadata by this JSON object. The record is never missing in between.
    #[napi]
    pub fn update(&self, env: Env, metadata_json: String) -> napi::Result<()> {
        cold(env, || {
            let metadata = options::object("metadata", &metadata_json)?;
            self.cell.core.with(|announced| {
                announced.update(metadata)?;
                Ok(())
            })
        })
    }

    /// Withdraws the record.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
