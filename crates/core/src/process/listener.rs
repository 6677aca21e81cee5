//! A listening socket that outlives the process that opened it, because others hold it as well.
//!
//! Invariant: it accepts nothing. The process that accepts does so on a duplicate, which is the same socket: connections that nobody has accepted
//! stay in its queue as long as any process holds it. Members of a group hand it to each other (src/group of the npm package).

use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::listen;
use crate::sys::stream;

/// A socket that listens.
///
/// ```
/// use std::net::TcpStream;
/// use ringbell::process::Listener;
///
/// let listener = Listener::tcp("127.0.0.1".parse().unwrap(), 0)?;
/// let successor = Listener::copy_of(&listener)?;
/// drop(listener);
/// assert!(TcpStream::connect(("127.0.0.1", successor.port().unwrap())).is_ok(), "it waits in the queue");
/// # Ok::<(), ringbell::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    port: Option<u16>,
}

impl Listener {
    /// Listens on a TCP port; 0 is any that is free.
    ///
    /// # Errors
    /// `ERR_RINGBELL_SYSTEM`: the address is taken (EADDRINUSE), or is none of this machine. `ERR_RINGBELL_RESOURCE`.
    pub fn tcp(address: IpAddr, port: u16) -> Result<Listener> {
        let failed =
            |error| failed("bind", &error, format!("cannot listen on the TCP port {port} of {address}"));
        let socket = TcpListener::bind((address, port)).map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        Ok(Listener { socket: socket.into(), port: Some(port) })
    }

    /// Listens on a Unix socket, as [`listen::listen`] does. The file stays when this process ends, because others may hold the socket;
    /// the next one to listen there replaces it once nobody does.
    ///
    /// # Errors
    /// As [`listen::listen`].
    pub fn unix(path: &Path, mode: u32) -> Result<Listener> {
        let (socket, file) = listen::listen(path, mode)?;
        file.leave();
        Ok(Listener { socket: socket.into(), port: None })
    }

    /// A duplicate of a socket that listens, for instance of one that another process has sent.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION`: it does not listen. `ERR_RINGBELL_RESOURCE`.
    pub fn copy_of(socket: impl AsFd) -> Result<Listener> {
        if stream::listens(socket.as_fd()) != Ok(true) {
            return Err(Error::InvalidOption {
                option: "fd",
                value: format!("{:?}", socket.as_fd()),
                rule: "must be a socket that listens".to_owned(),
            });
        }
        let socket = duplicate_of(socket.as_fd())?;
        let port =
            TcpListener::from(duplicate_of(socket.as_fd())?).local_addr().ok().map(|address| address.port());
        Ok(Listener { socket, port })
    }

    /// Its TCP port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The same socket, for one who accepts.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub fn duplicate(&self) -> Result<OwnedFd> {
        duplicate_of(self.socket.as_fd())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn duplicate_of(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    socket
        .try_clone_to_owned()
        .map_err(|error| failed("fcntl", &error, "cannot duplicate a socket".to_owned()))
}

fn failed(syscall: &'static str, error: &std::io::Error, hint: String) -> Error {
    Error::os(syscall, error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw), hint)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_was_not_accepted_is_not_lost_with_the_process_that_listened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::unix(&path, 0o600).unwrap();
        let successor = Listener::copy_of(&listener).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(UnixListener::from(successor.duplicate().unwrap()).accept().is_ok());
        assert_eq!(successor.port(), None);
        let taken = Listener::unix(&path, 0o600).unwrap_err();
        assert_eq!((taken.code(), taken.errno()), ("ERR_RINGBELL_SYSTEM", Some(libc::EADDRINUSE)));
        drop(successor);
        assert!(path.exists());
        Listener::unix(&path, 0o600).unwrap();
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(Listener::copy_of(&one).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    }
}
