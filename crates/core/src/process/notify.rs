//! Tells the service manager that started this process how it is: systemd's notification protocol, one datagram.
//!
//! Called by programs and by the command `run`. It reads no environment: the caller knows what `NOTIFY_SOCKET` says, and
//! whether that is meant for it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::errno::Errno;

use crate::error::{Error, Result};

/// Sends `text`, such as `READY=1`, to the socket that `NOTIFY_SOCKET` names: a path, or an abstract name after an `@`.
///
/// # References
/// `sd_notify(3)`, "Notes": the protocol is stable, and may be implemented without libsystemd.
///
/// # Errors
/// `ERR_RINGBELL_SYSTEM`: there is no such socket, or nobody reads it.
pub fn notify(socket: &str, text: &str) -> Result<()> {
    send(socket, text).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
        Error::os("sendto", errno, format!("cannot notify the service manager at {socket}"))
    })
}

fn send(socket: &str, text: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A reader that is behind must not stop the one who tells.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_gets_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let reader = UnixDatagram::bind(&path).unwrap();
        notify(path.to_str().unwrap(), "READY=1\nSTATUS=3 of 3").unwrap();
        let mut text = [0; 64];
        let length = reader.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1\nSTATUS=3 of 3");

        let name = format!("ringbell-test-{}", std::process::id());
        let reader = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notify(&format!("@{name}"), "STOPPING=1").unwrap();
        let length = reader.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"STOPPING=1");
    }

    #[test]
    fn without_a_reader_it_is_an_error() {
        let error = notify("/nowhere/at/all", "READY=1").unwrap_err();
        assert_eq!((error.code(), error.syscall()), ("ERR_RINGBELL_SYSTEM", Some("sendto")));
    }
}
