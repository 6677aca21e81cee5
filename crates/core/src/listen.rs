//! Sockets of servers that ordinary programs connect to: safely bound at a path, or by an abstract name.
//!
//! Invariants of a path: the file appears with its exact mode, and only once the socket listens. One process at a time holds
//! the lock of the path, from before it looks until it has removed the socket. So of two starters one wins, and a socket is
//! replaced only if it is of this user and nobody answers it. The lock file stays, because a lock counts only if all who want
//! it look at one file. Called by servers and by the binding; the bus has sockets of its own.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::socket::UnixAddr;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, linkat, unlinkat};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::sys::fork::ForkGuarded;
use crate::sys::generation::Home;
use crate::sys::{leads_to, lock, seqpacket, stream};

/// How often the path may change while it is looked at.
const TRIES: usize = 16;
/// The longest name of a socket file. A client reaches a long path as `/proc/self/fd/N/NAME`, of at most 107 bytes.
const MAX_NAME: usize = 80;
/// The longest path that the kernel takes.
const MAX_PATH: usize = 107;
/// The socket's name until it is moved to its place.
const FRESH: &str = "s";
const OPEN_LOCK: OFlag = OFlag::O_RDWR
    .union(OFlag::O_CREAT)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);
const OPEN_DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// The file of a socket that this process listens on. Dropping it removes the file, and lets another process listen there.
#[derive(Debug)]
pub struct SocketFile {
    place: Place,
    stat: FileStat,
    home: Home,
    /// Others hold the socket, too.
    stays: bool,
    // Dropped after the file is removed.
    _lock: ForkGuarded,
}

/// Listens at a path. `mode` is that of the socket file: 0o600 for this user alone.
///
/// ```
/// use std::os::unix::net::UnixStream;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("api.sock");
/// let (listener, file) = ringbell::listen::listen(&path, 0o600)?;
/// UnixStream::connect(&path)?;
/// assert_eq!(ringbell::listen::listen(&path, 0o600).unwrap_err().errno(), Some(libc::EADDRINUSE));
/// drop((listener, file));
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `ERR_RINGBELL_SYSTEM` with EADDRINUSE if another process listens there, with EEXIST if something else than a socket is
/// there; `ERR_RINGBELL_NO_PERMISSION` if what is there belongs to another user; `ERR_RINGBELL_INVALID_OPTION`;
/// `ERR_RINGBELL_RESOURCE`.
pub fn listen(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile)> {
    if mode & !0o777 != 0 {
        let rule = "it must be from 0 to 0o777".to_owned();
        return Err(Error::InvalidOption { option: "mode", value: format!("{mode:#o}"), rule });
    }
    let place = Place::open(path)?;
    let lock = place.lock()?;
    let (socket, stat) = place.bind(Mode::from_bits_truncate(mode as _))?;
    Ok((
        UnixListener::from(socket),
        SocketFile { place, stat, home: Home::here(), stays: false, _lock: lock },
    ))
}

/// Listens by an abstract name, which is in no directory and has no mode: any process of this network namespace can connect.
/// [`client`] says who it is.
///
/// # Errors
/// `ERR_RINGBELL_SYSTEM` with EADDRINUSE if another process listens there; `ERR_RINGBELL_RESOURCE`.
pub fn listen_abstract(name: &[u8]) -> Result<UnixListener> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let failed = |syscall| {
        let shown = shown.clone();
        move |errno| match errno {
            Errno::EADDRINUSE => in_use(&format!("@{shown}")),
            errno => Error::os(syscall, errno, format!("cannot listen on @{shown}")),
        }
    };
    let socket = stream::endpoint().map_err(failed("socket"))?;
    stream::bind_abstract(socket.as_fd(), name).map_err(failed("bind"))?;
    stream::listen(socket.as_fd()).map_err(failed("listen"))?;
    Ok(UnixListener::from(socket))
}

/// Whether a process listens on the socket at this path, however long it is; an abstract name begins with a NUL. It does not wait,
/// sends nothing, and follows symlinks. A process whose backlog is full listens.
///
/// # Errors
/// `ERR_RINGBELL_RESOURCE` when descriptors or memory ran out.
pub fn answers(path: &Path) -> Result<bool> {
    let bytes = path.as_os_str().as_bytes();
    let answer = match (bytes.strip_prefix(b"\0"), path.parent(), path.file_name()) {
        (Some(name), ..) => UnixAddr::new_abstract(name).and_then(|address| stream::is_answered(&address)),
        (None, Some(parent), Some(name)) if bytes.len() > MAX_PATH => {
            open(parent, OPEN_DIRECTORY, Mode::empty())
                .and_then(|directory| stream::is_answered_at(directory.as_fd(), parent, name))
        }
        _ => UnixAddr::new(path).and_then(|address| stream::is_answered(&address)),
    };
    answer.or_else(|errno| match Error::os("connect", errno, "cannot tell whether a process listens") {
        error @ Error::Resource { .. } => Err(error),
        _ => Ok(false),
    })
}

/// The process at the other end of a connection, as the kernel knew it when it connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Client {
    /// Its number; 0 if this pid namespace does not show it.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// All its groups, the effective one first.
    pub gids: Vec<u32>,
}

/// Who connected to a Unix socket.
///
/// # Errors
/// `ERR_RINGBELL_SYSTEM` if the descriptor is no connected Unix socket.
pub fn client(socket: impl AsFd) -> Result<Client> {
    let failed = |errno| Error::os("getsockopt", errno, "cannot tell who is at the other end of a socket");
    let seqpacket::Peer { pid, uid, gids } = seqpacket::peer(socket).map_err(failed)?;
    // The kernel answers for other sockets, too, and knows nobody there.
    if uid == u32::MAX {
        return Err(failed(Errno::ENOPROTOOPT));
    }
    Ok(Client { pid, uid, gids })
}

/// The path that a Unix socket listens on, or its abstract name after an `@`. `None`: it is another kind of socket, or does not
/// listen.
///
/// # Errors
/// `ERR_RINGBELL_SYSTEM` if the descriptor is no socket.
pub fn address(socket: impl AsFd) -> Result<Option<String>> {
    stream::bound_to(socket.as_fd())
        .map_err(|errno| Error::os("getsockname", errno, "cannot tell where a socket listens"))
}

/// Keeps a descriptor that was inherited, such as a socket of the service manager, from the programs that this process starts.
///
/// # Errors
/// `ERR_RINGBELL_SYSTEM` if it is not open.
pub fn keep(inherited: impl AsFd) -> Result<()> {
    stream::close_on_exec(inherited)
        .map_err(|errno| Error::os("fcntl", errno, "an inherited descriptor is not open"))
}

impl SocketFile {
    /// Leaves the file where it is, for a socket that other processes hold as well. Another process can listen there once
    /// nobody answers.
    pub(crate) fn leave(mut self) {
        self.stays = true;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A forked child has neither the lock nor the right to remove its parent's file.
        if self.stays || self.home.is_foreign() {
            return;
        }
        let Place { directory, name, .. } = &self.place;
        if leads_to(directory, name.as_os_str(), &self.stat) == Ok(true) {
            // If it cannot be removed, the next one to listen here finds it stale.
            let _ = unlinkat(directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// A name in a directory, for a socket.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    directory_path: PathBuf,
    name: OsString,
}

impl Place {
    fn open(path: &Path) -> Result<Place> {
        let wrong = |rule: &str| {
            let value = path.display().to_string();
            Err(Error::InvalidOption { option: "path", value, rule: rule.to_owned() })
        };
        let Some(name) = path.file_name() else { return wrong("it must end with the name of a file") };
        if name.len() > MAX_NAME {
            return wrong("the name of the file must have at most 80 bytes; its directory may be deeper");
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = open(parent, OPEN_DIRECTORY, Mode::empty()).map_err(|errno| {
            Error::os("open", errno, format!("cannot open the directory of {}", path.display()))
        })?;
        Ok(Place { directory, directory_path: parent.to_owned(), name: name.to_owned() })
    }

    /// `.NAME.lock`, for example.
    fn beside(&self, ending: &str) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(ending);
        name
    }

    fn shown(&self, name: &OsStr) -> String {
        self.directory_path.join(name).display().to_string()
    }

    /// The lock of the path, or the error that another process has it.
    fn lock(&self) -> Result<ForkGuarded> {
        let name = self.beside(".lock");
        let failed = |syscall, errno| match errno {
            Errno::ELOOP | Errno::EISDIR | Errno::ENXIO => self.refused(&name, "no regular file"),
            Errno::EACCES | Errno::EPERM => self.not_allowed(&name),
            errno => Error::os(syscall, errno, format!("cannot open the lock file {}", self.shown(&name))),
        };
        for _ in 0..TRIES {
            let file = openat(&self.directory, name.as_os_str(), OPEN_LOCK, Mode::S_IRUSR | Mode::S_IWUSR)
                .map_err(|errno| failed("openat", errno))?;
            let file = ForkGuarded::new(file);
            let stat = fstat(&file).map_err(|errno| failed("fstat", errno))?;
            if kind_of(&stat) != SFlag::S_IFREG {
                return Err(self.refused(&name, "no regular file"));
            }
            if !is_own(&stat) && stat.st_uid != 0 {
                return Err(self.of_another_user(&name));
            }
            if !lock::take(&file, 0)? {
                return Err(in_use(&self.shown(&self.name)));
            }
            // It may have been removed with its directory, or by hand.
            if leads_to(&self.directory, name.as_os_str(), &stat).map_err(|errno| failed("fstatat", errno))? {
                return Ok(file);
            }
        }
        Err(self.restless(&name))
    }

    /// A socket that listens at the path. The caller holds the lock.
    fn bind(&self, mode: Mode) -> Result<(OwnedFd, FileStat)> {
        let temporary = self.beside(".new");
        let inner = self.private_directory(&temporary)?;
        let made = self.bind_in(inner.as_fd(), &temporary, mode).and_then(|(socket, stat)| {
            self.install(inner.as_fd())?;
            Ok((socket, stat))
        });
        // What cannot be removed now, the next one to listen here uses.
        let _ = unlinkat(&inner, FRESH, UnlinkatFlags::NoRemoveDir);
        let _ = unlinkat(&self.directory, temporary.as_os_str(), UnlinkatFlags::RemoveDir);
        made
    }

    /// An empty directory that only this user can enter. A process that was killed may have left it.
    fn private_directory(&self, name: &OsStr) -> Result<OwnedFd> {
        let failed = |syscall| {
            move |errno| match errno {
                Errno::ENOTDIR | Errno::ELOOP => self.refused(name, "no directory"),
                errno => Error::os(syscall, errno, format!("cannot make the directory {}", self.shown(name))),
            }
        };
        match mkdirat(&self.directory, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed("mkdirat")(errno)),
        }
        let inner = openat(&self.directory, name, OPEN_DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())
            .map_err(failed("openat"))?;
        let stat = fstat(&inner).map_err(failed("fstat"))?;
        if !is_own(&stat) {
            return Err(self.of_another_user(name));
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(self.refused(name, "no private directory"));
        }
        match unlinkat(&inner, FRESH, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(inner),
            Err(errno) => Err(failed("unlinkat")(errno)),
        }
    }

    fn bind_in(&self, inner: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<(OwnedFd, FileStat)> {
        let failed = |syscall| {
            move |errno| Error::os(syscall, errno, format!("cannot listen on {}", self.shown(&self.name)))
        };
        let socket = stream::endpoint().map_err(failed("socket"))?;
        fchmod(&socket, mode).map_err(failed("fchmod"))?;
        let path = self.directory_path.join(name);
        stream::bind_at(socket.as_fd(), inner, &path, FRESH.as_ref()).map_err(failed("bind"))?;
        // The umask has taken some bits away.
        fchmodat(inner, FRESH, mode, FchmodatFlags::FollowSymlink).map_err(failed("fchmodat"))?;
        stream::listen(socket.as_fd()).map_err(failed("listen"))?;
        let stat = fstatat(inner, FRESH, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed("fstatat"))?;
        Ok((socket, stat))
    }

    /// Moves the socket to its place, if that is free or has a socket that nobody answers.
    fn install(&self, inner: BorrowedFd<'_>) -> Result<()> {
        let name = self.name.as_os_str();
        for _ in 0..TRIES {
            let (syscall, moved) = if self.is_empty()? {
                // Unlike a rename, it replaces nothing that comes meanwhile.
                ("linkat", linkat(inner, FRESH, &self.directory, name, AtFlags::empty()))
            } else {
                ("renameat", renameat(inner, FRESH, &self.directory, name))
            };
            match moved {
                Ok(()) => return Ok(()),
                Err(Errno::EEXIST) => {}
                // The sticky bit keeps a user from the files of others.
                Err(Errno::EPERM) => return Err(self.of_another_user(name)),
                Err(Errno::EACCES) => return Err(self.not_allowed(name)),
                Err(errno) => {
                    return Err(Error::os(syscall, errno, format!("cannot listen on {}", self.shown(name))));
                }
            }
        }
        Err(self.restless(name))
    }

    /// Whether nothing is at the path. Otherwise a socket of this user is there that nobody answers.
    fn is_empty(&self) -> Result<bool> {
        let name = self.name.as_os_str();
        let failed = |syscall| {
            move |errno| Error::os(syscall, errno, format!("cannot tell who listens on {}", self.shown(name)))
        };
        let stat = match fstatat(&self.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(true),
            Err(errno) => return Err(failed("fstatat")(errno)),
        };
        if kind_of(&stat) != SFlag::S_IFSOCK {
            return Err(self.refused(name, "no socket"));
        }
        if !is_own(&stat) {
            return Err(self.of_another_user(name));
        }
        match stream::is_answered_at(self.directory.as_fd(), &self.directory_path, name) {
            Ok(true) => Err(in_use(&self.shown(name))),
            Ok(false) => Ok(false),
            Err(Errno::ENOENT) => Ok(true),
            Err(errno) => Err(failed("connect")(errno)),
        }
    }

    fn refused(&self, name: &OsStr, what: &str) -> Error {
        Error::os("bind", Errno::EEXIST, format!("{} is {what}; remove it", self.shown(name)))
    }

    fn of_another_user(&self, name: &OsStr) -> Error {
        let shown = self.shown(name);
        Error::NoPermission {
            what: format!("{shown} belongs to another user; let that user remove it, or choose another path"),
        }
    }

    /// The directory may refuse us, or the file.
    fn not_allowed(&self, name: &OsStr) -> Error {
        let (shown, directory) = (self.shown(name), self.directory_path.display());
        Error::NoPermission {
            what: format!(
                "{shown} cannot be made or opened; this user must be allowed to write to {directory} and to that file"
            ),
        }
    }

    fn restless(&self, name: &OsStr) -> Error {
        Error::os("bind", Errno::EAGAIN, format!("{} changes again and again", self.shown(name)))
    }
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn is_own(stat: &FileStat) -> bool {
    stat.st_uid == geteuid().as_raw()
}

fn in_use(address: &str) -> Error {
    Error::os(
        "bind",
        Errno::EADDRINUSE,
        format!("another process listens on {address}; end it, or choose another address"),
    )
}
