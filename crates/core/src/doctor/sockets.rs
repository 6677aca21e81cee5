//! Whether sockets work here. Handshakes and streams need a socket that listens in the bus directory, and the datagrams
//! of a stream are long.
//!
//! Invariant: the socket is like that of any server, but it is never announced. It has a locked dot-record from before
//! it is bound. So no gc removes it during the trial, and the next gc removes it if this process dies meanwhile.

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

/// `memory_refused`: streams are the only rung here.
pub(super) fn sockets(directory: &Directory, memory_refused: bool) -> Check {
    let (server, client) = match connection(directory) {
        Ok(ends) => ends,
        Err(error) if error.errno() == Some(Errno::EACCES as i32) => {
            let advice = "none needed to subscribe and to call; who announces something needs to write here";
            return warn("sockets", format!("not tried in another user's directory: {error}"), advice);
        }
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

/// Both ends of a connection through a socket in the directory. The socket's names are removed again.
fn connection(directory: &Directory) -> Result<(OwnedFd, OwnedFd)> {
    let (directory_fd, id) = (directory.fd(), new_id()?);
    let (hidden, name) = (format!(".doctor@{id}.json"), socket_name(&id));
    let _locked = tmpfile::create(directory_fd.as_fd(), &hidden, b"{}\n", None, directory.link_method)?;
    let ends = connect(directory, OsStr::new(&name));
    // In this order, as everywhere: after a death the record that is left names the socket.
    let unlinked = [&name, &hidden]
        .map(|name| unlinkat(directory_fd.as_fd(), name.as_str(), UnlinkatFlags::NoRemoveDir));
    let ends = ends?;
    for (errno, name) in unlinked.into_iter().map(std::result::Result::err).zip([&name, &hidden]) {
        // Another process may have removed everything in the directory.
        if let Some(errno) = errno.filter(|errno| *errno != Errno::ENOENT) {
            return Err(Error::os("unlinkat", errno, format!("cannot remove {name} from the bus directory")));
        }
    }
    Ok(ends)
}

fn connect(directory: &Directory, name: &OsStr) -> Result<(OwnedFd, OwnedFd)> {
    let (directory_fd, path) = (directory.fd(), directory.path());
    let listener = seqpacket::listen_at(directory_fd.as_fd(), path, name, None)?;
    let client = seqpacket::endpoint()
        .map_err(|errno| Error::os("socket", errno, "cannot make a socket to connect with"))?;
    seqpacket::connect_at(client.as_fd(), directory_fd.as_fd(), path, name)
        .map_err(|errno| Error::os("connect", errno, "cannot connect to a socket in the bus directory"))?;
    let server = seqpacket::accept(listener.as_fd())
        .map_err(|errno| Error::os("accept4", errno, "cannot accept a connection"))?;
    Ok((server, client))
}
