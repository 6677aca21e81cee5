//! Whether sockets work here: handshakes and streams need one that listens in the bus directory, and a stream's datagrams are long.
//!
//! Invariant: the socket is one as any server's is, and never announced. It is on a locked dot-record from before it is bound, so
//! that no gc takes it while it is tried, and the next one does if this process dies meanwhile.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Check, fail, ok, warn};
use crate::bus::directory::Directory;
use crate::bus::new_id;
use crate::error::{Error, Result};
use crate::port::stream::carries_a_stream;
use crate::record::socket_name;
use crate::sys::{seqpacket, tmpfile};

/// `memory_refused`: here streams are all that there is.
pub(super) fn sockets(directory: &Directory, memory_refused: bool) -> Check {
    let (server, client) = match connection(directory) {
        Ok(ends) => ends,
        Err(error) => {
            let advice = "topics and servers are not reached here; the directory has to be on a file system that has sockets";
            return fail("sockets", error.to_string(), advice);
        }
    };
    match carries_a_stream(&server, &client) {
        Ok(()) => ok("sockets", "one listens in the directory, and a stream's longest datagram gets across"),
        Err(error) if memory_refused => fail(
            "sockets",
            error.to_string(),
            "memory cannot be shared here either: nothing is received; raise net.core.wmem_max",
        ),
        Err(error) => warn(
            "sockets",
            error.to_string(),
            "no stream can be had, the handshake needs none; raise net.core.wmem_max",
        ),
    }
}

/// Both ends of a connection through a socket in the directory, of which nothing is left there.
fn connection(directory: &Directory) -> Result<(OwnedFd, OwnedFd)> {
    let (place, id) = (directory.fd(), new_id()?);
    let (hidden, name) = (format!(".doctor@{id}.json"), socket_name(&id));
    let _locked = tmpfile::create(place.as_fd(), &hidden, b"{}\n", None, directory.way)?;
    let ends = connect(directory, OsStr::new(&name));
    // In this order, as everywhere: what is left after a death is named.
    let unlinked =
        [&name, &hidden].map(|name| unlinkat(place.as_fd(), name.as_str(), UnlinkatFlags::NoRemoveDir));
    let ends = ends?;
    for (errno, name) in unlinked.into_iter().map(std::result::Result::err).zip([&name, &hidden]) {
        // Somebody else may have tidied up the whole directory.
        if let Some(errno) = errno.filter(|errno| *errno != Errno::ENOENT) {
            return Err(Error::os("unlinkat", errno, format!("cannot remove {name} from the bus directory")));
        }
    }
    Ok(ends)
}

fn connect(directory: &Directory, name: &OsStr) -> Result<(OwnedFd, OwnedFd)> {
    let (place, path) = (directory.fd(), directory.path());
    let listener = seqpacket::listen_at(place.as_fd(), path, name, None)?;
    let client = seqpacket::endpoint()
        .map_err(|errno| Error::os("socket", errno, "cannot make a socket to connect with"))?;
    seqpacket::connect_at(client.as_fd(), place.as_fd(), path, name)
        .map_err(|errno| Error::os("connect", errno, "cannot connect to a socket in the bus directory"))?;
    let server = seqpacket::accept(listener.as_fd())
        .map_err(|errno| Error::os("accept4", errno, "cannot accept a connection"))?;
    Ok((server, client))
}
