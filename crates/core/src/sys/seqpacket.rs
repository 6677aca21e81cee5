//! SOCK_SEQPACKET: Unix sockets whose datagrams stay whole and whose ends know of each other.
//!
//! Socket files live in the bus directory and are always reached through the directory's descriptor
//! (`/proc/self/fd/<dir>/<name>`), so that neither a long path nor a replaced directory matters; without
//! /proc the absolute path serves where it is short enough. Every socket is non-blocking. A full backlog
//! answers `connect` with EAGAIN and no poll helps: callers retry with a jittered backoff.

#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockname, getsockopt,
    listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

/// 1,000 processes may connect at once; `net.core.somaxconn` has been 4096 since Linux 5.4.
const BACKLOG: i32 = 4096;

/// `SO_PASSRIGHTS`, Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Who is at the other end, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    /// 0 for a process in a pid namespace that this one does not see.
    pub(crate) pid: i32,
}

/// Binds and listens on `name` in the directory; mode 0600, never replacing what is there.
///
/// # References
/// `unix(7)`; the mode of a socket file is that of the socket at `bind`, less the umask.
///
/// # Errors
/// EADDRINUSE when the name is taken, EACCES, ENOSPC, ENAMETOOLONG, EMFILE, ENFILE.
pub(crate) fn listen_at(dir: BorrowedFd<'_>, dir_path: &Path, name: &OsStr) -> nix::Result<OwnedFd> {
    let socket = endpoint()?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    refuse_rights(socket.as_fd());
    reach(dir, dir_path, name, |address| bind(socket.as_raw_fd(), address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// Makes a socket to connect with.
///
/// # References
/// `socket(2)`.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn endpoint() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// Connects to `name` in the directory, without waiting.
///
/// # References
/// `connect(2)`, `unix(7)`: a Unix socket never answers EINPROGRESS.
///
/// # Errors
/// EAGAIN when the backlog is full (try the same socket again later), ECONNREFUSED when nobody
/// listens any more, ENOENT, EACCES.
pub(crate) fn connect_at(
    socket: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    dir_path: &Path,
    name: &OsStr,
) -> nix::Result<()> {
    reach(dir, dir_path, name, |address| {
        loop {
            match connect(socket.as_raw_fd(), address) {
                Err(Errno::EINTR) => {}
                Err(Errno::EISCONN) => return Ok(()),
                other => return other,
            }
        }
    })
}

/// Takes one connection from the backlog.
///
/// # References
/// `accept4(2)`.
///
/// # Errors
/// EAGAIN when there is none, EMFILE, ENFILE, ECONNABORTED.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    loop {
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Err(Errno::EINTR) => {}
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
            other => return other.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }),
        }
    }
}

/// Who connected, by the kernel's word at the time of `connect`.
///
/// # References
/// `unix(7)` SO_PEERCRED.
///
/// # Errors
/// ENOTCONN.
pub(crate) fn peer(socket: impl AsFd) -> nix::Result<Peer> {
    let credentials = getsockopt(&socket, PeerCredentials)?;
    Ok(Peer { uid: credentials.uid(), pid: credentials.pid() })
}

/// The file name that a listening socket is bound to.
///
/// # References
/// `getsockname(2)`.
pub(crate) fn bound_name(listener: BorrowedFd<'_>) -> Option<String> {
    let address: UnixAddr = getsockname(listener.as_raw_fd()).ok()?;
    Some(address.path()?.file_name()?.to_str()?.to_owned())
}

/// Makes whoever sends descriptors to this socket fail with EPERM; a no-op before Linux 6.16, where
/// `scm::receive_plain` alone keeps them out.
///
/// # References
/// `SO_PASSRIGHTS` in `unix(7)`; accepted sockets inherit it.
pub(crate) fn refuse_rights(socket: BorrowedFd<'_>) {
    pass_rights(socket, 0);
}

/// Takes that back, for a socket on which descriptors are expected.
///
/// # References
/// As [`refuse_rights`].
pub(crate) fn allow_rights(socket: BorrowedFd<'_>) {
    pass_rights(socket, 1);
}

fn pass_rights(socket: BorrowedFd<'_>, whether: libc::c_int) {
    // SAFETY: the option value is an int that outlives the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const whether).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

fn reach<T>(
    dir: BorrowedFd<'_>,
    dir_path: &Path,
    name: &OsStr,
    act: impl Fn(&UnixAddr) -> nix::Result<T>,
) -> nix::Result<T> {
    let mut through = OsString::from(format!("/proc/self/fd/{}/", dir.as_raw_fd()));
    through.push(name);
    match UnixAddr::new(through.as_bytes()).and_then(|address| act(&address)) {
        Err(Errno::ENOENT | Errno::ENOTDIR)
            if nix::unistd::faccessat(
                dir,
                "/proc/self/fd",
                nix::unistd::AccessFlags::F_OK,
                AtFlags::empty(),
            )
            .is_err() =>
        {
            UnixAddr::new(&dir_path.join(name)).and_then(|address| act(&address))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scm;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn a_directory_deeper_than_a_socket_path_still_works() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let dir = open(&deep);
        let listener = listen_at(dir.as_fd(), &deep, "x.sock".as_ref()).unwrap();
        assert_eq!(std::fs::metadata(deep.join("x.sock")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(accept(listener.as_fd()).unwrap_err(), Errno::EAGAIN);
        let client = endpoint().unwrap();
        connect_at(client.as_fd(), dir.as_fd(), &deep, "x.sock".as_ref()).unwrap();
        let server = accept(listener.as_fd()).unwrap();
        assert_eq!(peer(&server).unwrap().pid, std::process::id() as i32);
        scm::send(&client, b"hi", &[]).unwrap();
        assert_eq!(scm::receive_plain(&server, &mut [0; 8]), Ok(2));
    }

    #[test]
    fn a_name_that_is_taken_is_not_replaced() {
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        let _first = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref()).unwrap();
        let second = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref());
        assert_eq!(second.map(drop), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn a_dead_listener_refuses() {
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        drop(listen_at(dir.as_fd(), top.path(), "x.sock".as_ref()).unwrap());
        let client = endpoint().unwrap();
        let connected = connect_at(client.as_fd(), dir.as_fd(), top.path(), "x.sock".as_ref());
        assert_eq!(connected, Err(Errno::ECONNREFUSED));
    }
}
