//! Unix sockets of ordinary servers for JS: safely bound, and listening until their server has closed. Node takes the
//! descriptor and closes it; the file is removed here.

use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

use napi::Env;
use napi_derive::napi;
use ringbell::listen::{self, SocketFile};

use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::lifecycle::{self, Closable};

struct Listening {
    /// Until JS takes it.
    socket: Option<UnixListener>,
    /// Removed at the end. An abstract name has none.
    _file: Option<SocketFile>,
}

struct Cell {
    core: Held<Listening>,
}

impl Closable for Cell {
    fn close(&self) {
        drop(self.core.take());
    }
}

/// A Unix socket that listens.
#[napi]
pub struct NativeUnixServer {
    cell: Rc<Cell>,
}

#[napi]
impl NativeUnixServer {
    /// Listens at a path, with this mode.
    #[napi(factory)]
    pub fn open(env: Env, path: String, mode: u32) -> napi::Result<Self> {
        cold(env, || {
            let (socket, file) = listen::listen(Path::new(&path), mode)?;
            wrap(env, Listening { socket: Some(socket), _file: Some(file) })
        })
    }

    /// Listens by an abstract name.
    #[napi(factory)]
    pub fn open_abstract(env: Env, name: String) -> napi::Result<Self> {
        cold(env, || {
            let socket = listen::listen_abstract(name.as_bytes())?;
            wrap(env, Listening { socket: Some(socket), _file: None })
        })
    }

    /// The descriptor, once. The caller closes it.
    #[napi]
    pub fn take(&self, env: Env) -> napi::Result<i32> {
        cold(env, || {
            self.cell.core.with(|listening| {
                let socket = listening.socket.take();
                socket.map(IntoRawFd::into_raw_fd).ok_or(Failure::closed("socket"))
            })
        })
    }

    /// Removes the file.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}

fn wrap(env: Env, listening: Listening) -> Result<NativeUnixServer> {
    let cell = Rc::new(Cell { core: Held::new("socket", listening) });
    lifecycle::register(env, &cell)?;
    Ok(NativeUnixServer { cell })
}
