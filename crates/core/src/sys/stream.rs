//! SOCK_STREAM: the Unix sockets of ordinary servers, to which any program can connect.
//!
//! Like those of the bus they are reached through the descriptor of their directory, so that a long path does not matter.
//! Called by `listen`, which decides what may be replaced.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, getsockname, getsockopt, socket, sockopt,
};

pub(crate) use super::seqpacket::listen;
use super::seqpacket::reach;

/// Makes a socket.
///
/// # References
/// `socket(2)`.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn endpoint() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}

/// Binds to `name` in the directory. An existing file is never replaced.
///
/// # References
/// `bind(2)`, `unix(7)`.
///
/// # Errors
/// EADDRINUSE when the name is taken, EACCES, ENOSPC, ENAMETOOLONG.
pub(crate) fn bind_at(
    socket: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    dir_path: &Path,
    name: &OsStr,
) -> nix::Result<()> {
    reach(dir, dir_path, name, |address| bind(socket.as_raw_fd(), address))
}

/// Binds to a name that is in no directory.
///
/// # References
/// `unix(7)`, "Abstract sockets".
///
/// # Errors
/// EADDRINUSE when the name is taken, ENAMETOOLONG.
pub(crate) fn bind_abstract(socket: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?)
}

/// Whether a process listens on the socket `name` in the directory: as [`is_answered`].
///
/// # References
/// As there.
///
/// # Errors
/// As there.
pub(crate) fn is_answered_at(dir: BorrowedFd<'_>, dir_path: &Path, name: &OsStr) -> nix::Result<bool> {
    reach(dir, dir_path, name, is_answered)
}

/// Whether a process listens at this address. It does not wait, and sends nothing.
///
/// # References
/// `connect(2)`, `unix(7)`: EAGAIN says that the backlog is full, and EPROTOTYPE that the socket has another type. Somebody is
/// behind both.
///
/// # Errors
/// ENOENT, EACCES, EMFILE.
pub(crate) fn is_answered(address: &UnixAddr) -> nix::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    loop {
        match connect(socket.as_raw_fd(), address) {
            Err(Errno::EINTR) => {}
            Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => return Ok(true),
            Err(Errno::ECONNREFUSED) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether a socket of any type listens.
///
/// # References
/// `socket(7)` SO_ACCEPTCONN.
///
/// # Errors
/// EBADF, ENOTSOCK.
pub(crate) fn listens(socket: BorrowedFd<'_>) -> nix::Result<bool> {
    getsockopt(&socket, sockopt::AcceptConn)
}

/// The address that a listening Unix socket is bound to: a path, or an abstract name after an `@`. `None` for other sockets.
///
/// # References
/// `getsockname(2)`.
///
/// # Errors
/// EBADF, ENOTSOCK.
pub(crate) fn bound_to(socket: BorrowedFd<'_>) -> nix::Result<Option<String>> {
    if !listens(socket)? {
        return Ok(None);
    }
    let Ok(address) = getsockname::<UnixAddr>(socket.as_raw_fd()) else { return Ok(None) };
    let name = address.as_abstract().map(|name| format!("@{}", String::from_utf8_lossy(name)));
    Ok(name.or_else(|| Some(address.path()?.to_str()?.to_owned())))
}

/// Keeps a descriptor from the programs that this process starts.
///
/// # References
/// `fcntl(2)` F_SETFD.
///
/// # Errors
/// EBADF.
pub(crate) fn close_on_exec(fd: impl AsFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop)
}
