//! A listening socket for JS, which accepts nothing: Node accepts on duplicates of it.

use std::net::IpAddr;
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::process::Listener;

use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::lifecycle::{self, Closable};
use crate::raw::descriptor;

struct Cell {
    core: Held<Listener>,
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

/// A socket that listens.
#[napi]
pub struct NativeListener {
    cell: Rc<Cell>,
}

#[napi]
impl NativeListener {
    /// Listens on a TCP port of an IP address.
    #[napi(factory)]
    pub fn tcp(env: Env, address: String, port: u32) -> napi::Result<Self> {
        cold(env, || {
            let wrong = || Failure::argument(format!("{address}:{port} is no address to listen on"));
            let ip: IpAddr = address.parse().map_err(|_| wrong())?;
            wrap(env, Listener::tcp(ip, u16::try_from(port).map_err(|_| wrong())?)?)
        })
    }

    /// Listens on a Unix socket, whose file has this mode.
    #[napi(factory)]
    pub fn unix(env: Env, path: String, mode: u32) -> napi::Result<Self> {
        cold(env, || wrap(env, Listener::unix(Path::new(&path), mode)?))
    }

    /// A duplicate of a socket that listens.
    #[napi(factory)]
    pub fn copy_of(env: Env, fd: i32) -> napi::Result<Self> {
        cold(env, || wrap(env, Listener::copy_of(descriptor(fd)?)?))
    }

    /// Its TCP port, or 0.
    #[napi(getter)]
    pub fn port(&self, env: Env) -> napi::Result<u32> {
        cold(env, || self.cell.core.with(|listener| Ok(listener.port().unwrap_or(0).into())))
    }

    /// A descriptor of the same socket, which belongs to the caller.
    #[napi]
    pub fn duplicate(&self, env: Env) -> napi::Result<i32> {
        cold(env, || self.cell.core.with(|listener| Ok(listener.duplicate()?.into_raw_fd())))
    }

    /// Lets it go.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}

fn wrap(env: Env, listener: Listener) -> Result<NativeListener> {
    let cell = Rc::new(Cell { core: Held::new("listener", listener) });
    lifecycle::register(env, &cell)?;
    Ok(NativeListener { cell })
}
