//! SOCK_SEQPACKET: Unix sockets that keep datagrams whole, and whose ends notice each other's death.
//!
//! Socket files lie in the bus directory. They are always reached through the directory's descriptor
//! (`/proc/self/fd/<dir>/<name>`), so that neither a long path nor a replaced directory matters. Without /proc the
//! absolute path is used, if it is short enough. Invariant: every socket is non-blocking. If the backlog is full,
//! `connect` answers EAGAIN, and poll does not help: callers try again with a jittered backoff. Called by the
//! handshake, by streams, doorbells and channels. It never decides which peer may connect.

#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{self, PeerCredentials, SndBuf};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockname, getsockopt,
    setsockopt, shutdown, socket, socketpair,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::{Gid, fchownat};

use super::tmpfile::Rights;
use crate::{Error, Result};

/// With this backlog, 1,000 processes may connect at once. `net.core.somaxconn` has been 4096 since Linux 5.4, and
/// the kernel takes the smaller of the two. nix refuses more than the C library's `SOMAXCONN`, which is 128 in
/// musl.
const BACKLOG: libc::c_int = 4096;

/// `SO_PASSRIGHTS`, Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

/// `SO_PEERGROUPS`, Linux 4.13.
const SO_PEERGROUPS: libc::c_int = 59;

/// The process at the other end, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    /// 0 for a process in a pid namespace that this process does not see.
    pub(crate) pid: i32,
    /// All groups of the process, the effective one first.
    pub(crate) gids: Vec<u32>,
}

/// Binds to `name` in the directory, and listens. The mode is 0600 unless there are `rights`. An existing file is
/// never replaced.
///
/// # References
/// `unix(7)`, `listen(2)`; the mode of a socket file is that of the socket at `bind`, without the bits of the
/// umask.
///
/// # Errors
/// The error names the call that failed: `bind` with EADDRINUSE when the name is taken, EACCES, ENOSPC,
/// ENAMETOOLONG; `fchownat` with EPERM when the group is not one of this process's; `openat` and `fchmodat`;
/// `socket` with EMFILE, ENFILE.
pub(crate) fn listen_at(
    dir: BorrowedFd<'_>,
    dir_path: &Path,
    name: &OsStr,
    rights: Option<Rights>,
) -> Result<OwnedFd> {
    let failed = |syscall| {
        move |errno| Error::os(syscall, errno, format!("cannot listen on the socket {}", name.display()))
    };
    let socket = endpoint().map_err(failed("socket"))?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed("fchmod"))?;
    refuse_rights(socket.as_fd());
    reach(dir, dir_path, name, |address| bind(socket.as_raw_fd(), address)).map_err(failed("bind"))?;
    if let Some(rights) = rights {
        // This happens before it listens, so that no process is connected yet.
        apply_rights(dir, name, rights).map_err(|(syscall, errno)| failed(syscall)(errno))?;
    }
    listen(socket.as_fd()).map_err(failed("listen"))?;
    Ok(socket)
}

/// Listens on a bound socket of any type, with a backlog for a crowd.
///
/// # References
/// `listen(2)`.
///
/// # Errors
/// EADDRINUSE, ENOMEM.
pub(crate) fn listen(socket: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: listen takes a descriptor and a number. It reads and writes no memory of ours.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) }).map(drop)
}

/// Gives a socket file its group and mode. It uses a descriptor of the file itself, because the name may lead to
/// another file by then. An error names the call that failed.
fn apply_rights(dir: BorrowedFd<'_>, name: &OsStr, rights: Rights) -> Result<(), (&'static str, Errno)> {
    let file = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| ("openat", errno))?;
    if rights.group.is_some() {
        fchownat(&file, "", None, rights.group, AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| ("fchownat", errno))?;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let changed = match fchmodat(AT_FDCWD, path.as_str(), rights.mode, FchmodatFlags::FollowSymlink) {
        // Without /proc it uses the name. The name is ours as long as the directory is private or sticky.
        Err(Errno::ENOENT | Errno::ENOTDIR) => fchmodat(dir, name, rights.mode, FchmodatFlags::FollowSymlink),
        result => result,
    };
    changed.map_err(|errno| ("fchmodat", errno))
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

/// Makes two ends that are connected with each other. Neither end accepts descriptors, if the kernel can refuse
/// them.
///
/// # References
/// `socketpair(2)`.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub(crate) fn pair() -> nix::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    refuse_rights(one.as_fd());
    refuse_rights(other.as_fd());
    Ok((one, other))
}

/// Whether a descriptor from a peer is a socket of this kind.
///
/// # References
/// `getsockopt(2)` SO_TYPE; `getsockname(2)`, which tells the family.
pub(crate) fn is_one(fd: impl AsFd) -> bool {
    getsockopt(&fd, sockopt::SockType) == Ok(SockType::SeqPacket)
        && getsockname::<UnixAddr>(fd.as_fd().as_raw_fd()).is_ok()
}

/// Connects to `name` in the directory, without waiting.
///
/// # References
/// `connect(2)`, `unix(7)`: a Unix socket never answers EINPROGRESS.
///
/// # Errors
/// EAGAIN when the backlog is full (try the same socket again later), ECONNREFUSED when no process listens any
/// more, ENOENT, EACCES.
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
            // SAFETY: the kernel has just made this descriptor for us. No other code knows its number.
            other => return other.map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }),
        }
    }
}

/// The process that connected, as the kernel knew it at the time of `connect`.
///
/// # References
/// `unix(7)` SO_PEERCRED, SO_PEERGROUPS.
///
/// # Errors
/// ENOTCONN.
pub(crate) fn peer(socket: impl AsFd) -> nix::Result<Peer> {
    let credentials = getsockopt(&socket, PeerCredentials)?;
    let mut gids = vec![credentials.gid()];
    gids.extend(groups(socket.as_fd())?);
    Ok(Peer { uid: credentials.uid(), pid: credentials.pid(), gids })
}

fn groups(socket: BorrowedFd<'_>) -> nix::Result<Vec<u32>> {
    let mut groups = vec![0u32; 32];
    loop {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes of group numbers to a vector of that size.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<Gid>();
        match Errno::result(result) {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // The length is now the one that is needed. NGROUPS_MAX is 65536.
            Err(Errno::ERANGE) if count > groups.len() => groups.resize(count, 0),
            Err(Errno::ENODATA) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
    }
}

/// Makes the send buffer as small as the kernel allows, so that little data waits for a peer that does not read.
///
/// # References
/// `socket(7)` SO_SNDBUF.
pub(crate) fn keep_small(socket: impl AsFd) {
    // If this fails, the buffer only stays as large as it is.
    let _ = setsockopt(&socket, SndBuf, &1);
}

/// Whether the other end is still there.
///
/// # References
/// `poll(2)` POLLHUP, which poll reports unasked.
pub(crate) fn is_connected(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
    // An error proves nothing.
    poll(&mut fds, PollTimeout::ZERO) != Ok(1)
}

/// Ends the connection for every holder of this end. The peer sees the end at once, even while another thread still
/// has a descriptor of this socket.
///
/// # References
/// `shutdown(2)`.
pub(crate) fn hang_up(socket: impl AsFd) {
    // ENOTCONN: the peer has ended it first.
    let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
}

/// Says that nothing more will be sent. What the peer sends is still received.
///
/// # References
/// `shutdown(2)` SHUT_WR.
pub(crate) fn end_sending(socket: impl AsFd) {
    // ENOTCONN: the peer has ended it first.
    let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Write);
}

/// Whether the other end is closed. There may still be something to receive.
///
/// # References
/// `poll(2)` POLLHUP, which poll reports unasked.
pub(crate) fn has_ended(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Whether a datagram that is not empty waits to be received.
///
/// # References
/// `unix(7)` SIOCINQ, which is FIONREAD.
pub(crate) fn has_unread(socket: impl AsFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, to memory that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    result == 0 && bytes > 0
}

/// The file name that a listening socket is bound to.
///
/// # References
/// `getsockname(2)`.
pub(crate) fn bound_name(listener: BorrowedFd<'_>) -> Option<String> {
    let address: UnixAddr = getsockname(listener.as_raw_fd()).ok()?;
    Some(address.path()?.file_name()?.to_str()?.to_owned())
}

/// Makes a process that sends descriptors to this socket fail with EPERM. It does nothing before Linux 6.16; there
/// only `scm::receive_plain` keeps descriptors out.
///
/// # References
/// `SO_PASSRIGHTS` in `unix(7)`. An accepted socket has what its listener had when the client connected.
pub(crate) fn refuse_rights(socket: impl AsFd) {
    pass_rights(socket.as_fd(), 0);
}

/// Allows descriptors again, for a socket on which they are expected.
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

/// Lets more bytes be on their way: as many as `net.core.wmem_max` allows an unprivileged process.
///
/// # References
/// `socket(7)` SO_SNDBUF; the kernel takes the smaller of the two values, and doubles it.
pub(crate) fn widen(socket: impl AsFd, bytes: usize) {
    // The kernel reduces the value and never refuses it. The earlier size would do, too.
    let _ = setsockopt(&socket, SndBuf, &bytes);
}

/// Whether there is something to receive, or the connection has ended.
///
/// # References
/// `poll(2)`.
pub(crate) fn is_readable(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

/// Whether it has room for a small datagram. It is also true when the connection has ended.
///
/// # References
/// `poll(2)`; a Unix socket is writable while less than a quarter of SO_SNDBUF is on its way.
pub(crate) fn is_writable(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
}

/// Calls `act` with the address of `name` in the directory: through its descriptor, or by its path where /proc is missing.
pub(super) fn reach<T>(
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
        let listener = listen_at(dir.as_fd(), &deep, "x.sock".as_ref(), None).unwrap();
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
        let _first = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref(), None).unwrap();
        let second = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref(), None);
        let error = second.unwrap_err();
        assert_eq!((error.syscall(), error.errno()), (Some("bind"), Some(libc::EADDRINUSE)));
    }

    #[test]
    fn a_crowd_connects_before_the_first_accept() {
        let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let expected = limit.trim().parse::<usize>().unwrap().min(200);
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        let _listener = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref(), None).unwrap();
        let connected: Vec<_> = (0..expected)
            .map(|_| {
                let client = endpoint().unwrap();
                connect_at(client.as_fd(), dir.as_fd(), top.path(), "x.sock".as_ref()).map(|()| client)
            })
            .collect();
        assert_eq!(connected.iter().filter(|client| client.is_ok()).count(), expected);
    }

    #[test]
    fn a_socket_gets_exactly_the_rights_that_it_is_given() {
        use std::os::unix::fs::MetadataExt;
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        let rights = Rights { mode: Mode::from_bits_truncate(0o666), group: Some(nix::unistd::getgid()) };
        let _listener = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref(), Some(rights)).unwrap();
        let found = std::fs::symlink_metadata(top.path().join("x.sock")).unwrap();
        assert_eq!((found.mode() & 0o777, found.gid()), (0o666, nix::unistd::getgid().as_raw()));
        let client = endpoint().unwrap();
        connect_at(client.as_fd(), dir.as_fd(), top.path(), "x.sock".as_ref()).unwrap();
        let mine = peer(&client).unwrap();
        let mut groups: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        groups.insert(0, nix::unistd::getegid().as_raw());
        assert_eq!((mine.uid, mine.gids), (nix::unistd::geteuid().as_raw(), groups));
    }

    #[test]
    fn the_call_that_could_not_open_a_socket_up_is_named() {
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        let rights = Rights { mode: Mode::from_bits_truncate(0o666), group: None };
        let result = apply_rights(dir.as_fd(), "none".as_ref(), rights);
        assert_eq!(result, Err(("openat", Errno::ENOENT)));
    }

    #[test]
    fn both_holders_of_an_end_are_hung_up() {
        let (one, other) = nix::sys::socket::socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let second = one.try_clone().unwrap();
        assert!(is_connected(&one) && is_connected(&other));
        hang_up(&one);
        assert!(!is_connected(&second) && !is_connected(&other));
    }

    #[test]
    fn the_end_is_seen_by_the_peer_after_all_earlier_data() {
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        let listener = listen_at(dir.as_fd(), top.path(), "x.sock".as_ref(), None).unwrap();
        let client = endpoint().unwrap();
        connect_at(client.as_fd(), dir.as_fd(), top.path(), "x.sock".as_ref()).unwrap();
        let server = accept(listener.as_fd()).unwrap();
        let other = server.try_clone().unwrap();
        assert!(is_connected(&client) && !is_readable(&client));
        scm::send(&server, b"last", &[]).unwrap();
        assert!(is_connected(&client) && is_readable(&client));
        hang_up(&server);
        assert!(!is_connected(&client));
        assert_eq!(scm::receive_plain(&client, &mut [0; 8]), Ok(4));
        assert_eq!(scm::receive_plain(&client, &mut [0; 8]), Ok(0));
        assert!(is_readable(&client));
        drop(other);
    }

    #[test]
    fn a_socket_pair_is_recognised_and_drained_after_its_end() {
        let (one, other) = pair().unwrap();
        assert!(is_one(&one) && is_one(&other));
        assert!(!has_unread(&other));
        scm::send(&one, b"x", &[]).unwrap();
        assert!(has_unread(&other));
        // What was sent before the end is received after it, also by the process that ended the connection.
        hang_up(&other);
        assert_eq!(scm::receive_plain(&other, &mut [0; 8]), Ok(1));
        let flags = SockFlag::SOCK_CLOEXEC;
        let (stream, _other) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(!is_one(&stream) && !is_one(&tcp) && !is_one(&file));
    }

    #[test]
    fn a_dead_listener_refuses() {
        let top = tempfile::tempdir().unwrap();
        let dir = open(top.path());
        drop(listen_at(dir.as_fd(), top.path(), "x.sock".as_ref(), None).unwrap());
        let client = endpoint().unwrap();
        let connected = connect_at(client.as_fd(), dir.as_fd(), top.path(), "x.sock".as_ref());
        assert_eq!(connected, Err(Errno::ECONNREFUSED));
    }
}
