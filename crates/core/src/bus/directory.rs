//! The bus directory: which one it is, whether it may be used, and its descriptor.
//!
//! Invariant: everything in a bus is reached through the descriptor of a directory that passed [`Rules::verify`]. That
//! directory is not a symlink. Its owner is this user, root or a trusted user, and no other user can write to it. A
//! directory that a group shares is writable by that group only, and it is sticky, so that no member can remove or
//! replace a file of another member. The descriptor is replaced when the directory was removed and made again, but
//! never while the descriptor still leads to the path. All of `bus` calls this module. It decides nothing about
//! records.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{AccessFlags, Gid, UnlinkatFlags, faccessat, fchown, unlinkat};

use super::{BusOptions, Group};
use crate::error::{Error, Result};
use crate::record::check_name;
use crate::sys::random;
use crate::sys::tmpfile::{self, LinkMethod};

const OPEN: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const PRIVATE: Mode = Mode::S_IRWXU;
const SYSTEM: &str = "/run/ipc-bus";
const AS_GIVEN: &str = "as given";
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;
/// The mode of a directory that a group shares. New files in it belong to the group. Only its owner can remove a file.
const SHARED: u32 = 0o3770;
const WORLD_WRITES: u32 = 0o002;

/// The rules that a directory must obey.
#[derive(Debug)]
struct Rules {
    uid: u32,
    trusted: Vec<u32>,
    allow_sticky: bool,
    /// The group that shares the directory.
    group: Option<u32>,
}

/// An open, verified bus directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The path, with the domain.
    path: PathBuf,
    root: PathBuf,
    source: &'static str,
    domain: Option<String>,
    rules: Rules,
    pub(crate) link_method: Option<LinkMethod>,
    fd: RwLock<Arc<OwnedFd>>,
    reopening: Mutex<()>,
}

impl Directory {
    /// Chooses the directory, makes it if it is missing and `create` permits that, and verifies it.
    pub(super) fn open(options: &BusOptions) -> Result<Directory> {
        let (root, source) = choose(options)?;
        if let Some(domain) = &options.domain {
            check_name("domain", domain)?;
        }
        let path = options.domain.as_ref().map_or_else(|| root.clone(), |domain| root.join(domain));
        let domain = options.domain.clone();
        let rules = Rules {
            uid: nix::unistd::geteuid().as_raw(),
            trusted: options.trusted_uids.clone(),
            allow_sticky: options.allow_sticky,
            group: options.group.as_ref().map(Group::id).transpose()?,
        };
        let fd = rules
            .open_all(&root, domain.as_deref(), options.create)
            .map_err(|error| with_source(error, source))?;
        Ok(Directory {
            path,
            root,
            source,
            domain,
            rules,
            link_method: forced_link_method()?,
            fd: RwLock::new(Arc::new(fd)),
            reopening: Mutex::new(()),
        })
    }

    /// The directory's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What decided the path, as words to put after the path: `from IPC_BUS_DIR`.
    pub(crate) fn source(&self) -> &'static str {
        self.source
    }

    /// The current descriptor of the directory.
    pub(crate) fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether records and sockets of this user are believed: this process's user, root, or a user that the caller
    /// trusts.
    pub(crate) fn trusts(&self, uid: u32) -> bool {
        self.rules.trusts(uid)
    }

    /// The group that shares the directory, if there is one.
    pub(crate) fn group(&self) -> Option<u32> {
        self.rules.group
    }

    /// Whether the path certainly no longer leads to the open directory. If that cannot be told, the next look will.
    pub(crate) fn is_gone(&self) -> bool {
        let Ok(ours) = fstat(self.fd().as_fd()) else { return false };
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) => there.ino() != ours.st_ino || there.dev() != ours.st_dev,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }

    /// Makes and opens the directory again if it is gone. Several threads and processes may try at once.
    pub(super) fn restore(&self) -> Result<Arc<OwnedFd>> {
        let _one_at_a_time = self.reopening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_gone() {
            let fresh = self.rules.open_all(&self.root, self.domain.as_deref(), true)?;
            *self.fd.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
        Ok(self.fd())
    }
}

/// The path, and what decided it. In this order: the option, `IPC_BUS_DIR`, root's or the system's directory,
/// `$XDG_RUNTIME_DIR`, and last a private directory in /tmp. The first one that is set is taken, even if it cannot be
/// used: so two processes with the same environment have the same bus.
fn choose(options: &BusOptions) -> Result<(PathBuf, &'static str)> {
    let uid = nix::unistd::geteuid();
    let (path, source) = if let Some(path) = &options.path {
        if options.system {
            return Err(Error::InvalidOption {
                option: "system",
                value: "true".into(),
                rule: format!("it names {SYSTEM}, and path another directory: give one of them"),
            });
        }
        (path.clone(), AS_GIVEN)
    } else if options.system {
        (PathBuf::from(SYSTEM), "the system's")
    } else if let Some(path) = variable("IPC_BUS_DIR") {
        (path, "from IPC_BUS_DIR")
    } else if uid.is_root() {
        (PathBuf::from(SYSTEM), "the default of root")
    } else if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        (runtime.join("ipc-bus"), "from XDG_RUNTIME_DIR")
    } else {
        (PathBuf::from(format!("/tmp/ipc-bus-{uid}")), "the default without XDG_RUNTIME_DIR")
    };
    let absolute = std::path::absolute(&path).map_err(|_| Error::InvalidOption {
        option: "path",
        value: path.display().to_string(),
        rule: "it must be the path of a directory".to_owned(),
    })?;
    // Without a trailing slash: `O_NOFOLLOW` follows a symlink that has a slash behind it.
    Ok((absolute.components().collect(), source))
}

/// Adds to the error what decided the path. A path that the caller gave needs no such words.
fn with_source(error: Error, source: &str) -> Error {
    match error {
        error if source == AS_GIVEN => error,
        Error::BusDirectory { path, reason } => {
            Error::BusDirectory { path, reason: format!("{reason}; the path is {source}") }
        }
        Error::Os { syscall, errno, hint } => {
            Error::Os { syscall, errno, hint: format!("{hint}; the path is {source}") }
        }
        error => error,
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn forced_link_method() -> Result<Option<LinkMethod>> {
    let Some(value) = variable("IPC_BUS_PUBLISH") else { return Ok(None) };
    let text = value.to_string_lossy().into_owned();
    match LinkMethod::parse(&text) {
        Some(link_method) => Ok(Some(link_method)),
        None => Err(Error::InvalidOption {
            option: "IPC_BUS_PUBLISH",
            value: text,
            rule: "it must be 'proc', 'empty-path' or 'rename', or unset".to_owned(),
        }),
    }
}

impl Rules {
    fn trusts(&self, uid: u32) -> bool {
        uid == self.uid || uid == 0 || self.trusted.contains(&uid)
    }

    fn open_all(&self, root: &Path, domain: Option<&str>, create: bool) -> Result<OwnedFd> {
        let mut opened = open(root, OPEN, Mode::empty());
        if create && matches!(opened, Err(Errno::ENOENT)) {
            self.make(AT_FDCWD, root).map_err(|(call, errno)| not_made(call, errno, root))?;
            opened = open(root, OPEN, Mode::empty());
        }
        let directory = opened.map_err(|errno| self.not_opened(errno, root))?;
        self.verify(&directory, root)?;
        let Some(domain) = domain else { return Ok(directory) };
        let path = root.join(domain);
        let mut opened = openat(&directory, domain, OPEN, Mode::empty());
        if create && matches!(opened, Err(Errno::ENOENT)) {
            self.make(directory.as_fd(), Path::new(domain))
                .map_err(|(call, errno)| not_made(call, errno, &path))?;
            opened = openat(&directory, domain, OPEN, Mode::empty());
        }
        let inner = opened.map_err(|errno| self.not_opened(errno, &path))?;
        self.verify(&inner, &path)?;
        Ok(inner)
    }

    /// Makes the directory unless it is there. It appears under its name with all its rights, whatever the umask says,
    /// or not at all. Another process may be about to open it, and would refuse it without its rights.
    fn make(&self, at: BorrowedFd<'_>, path: &Path) -> std::result::Result<(), (&'static str, Errno)> {
        let number = random::hex128().map_err(|_| ("getrandom", Errno::EIO))?;
        let temporary = path.with_file_name(format!(".ipc-bus-{number}"));
        mkdirat(at, &temporary, PRIVATE).map_err(|errno| ("mkdirat", errno))?;
        let given = || {
            let made = openat(at, &temporary, OPEN, Mode::empty()).map_err(|errno| ("openat", errno))?;
            let mut mode = PRIVATE;
            if let Some(group) = self.group {
                fchown(&made, None, Some(Gid::from_raw(group))).map_err(|errno| ("fchown", errno))?;
                mode = Mode::from_bits_truncate(SHARED as _);
            }
            fchmod(&made, mode).map_err(|errno| ("fchmod", errno))?;
            match tmpfile::rename_new(at, &temporary, path) {
                Ok(()) => Ok(true),
                Err(Errno::EEXIST) => Ok(false),
                Err(errno) => Err(("renameat2", errno)),
            }
        };
        let given = given();
        if !matches!(given, Ok(true)) {
            let _ = unlinkat(at, &temporary, UnlinkatFlags::RemoveDir);
        }
        given.map(drop)
    }

    /// Why the directory could not be opened, and what to do.
    fn not_opened(&self, errno: Errno, path: &Path) -> Error {
        let shown = path.display();
        let hint = match (errno, std::fs::symlink_metadata(path)) {
            (Errno::ENOENT, _) => format!("there is no bus directory {shown}"),
            // `O_DIRECTORY` and `O_NOFOLLOW` answer these to a symlink.
            (Errno::ELOOP | Errno::ENOTDIR, Ok(_)) => {
                return refused(path, "it is a symlink or no directory; remove it or choose another".into());
            }
            (Errno::ENOTDIR, Err(_)) => {
                return refused(path, "a part of its path is no directory; choose another".into());
            }
            (Errno::EACCES, Ok(there)) if there.uid() == self.uid => format!(
                "cannot open bus directory {shown}: it is this user's own, but its mode {:03o} does not let it in; \
                 chmod 700 it",
                there.mode() & 0o7777
            ),
            (Errno::EACCES, Ok(there)) => format!(
                "cannot open bus directory {shown}: it belongs to uid {}, which does not let this user in; one that users share is opened with a group",
                there.uid()
            ),
            (Errno::EACCES, Err(_)) => {
                let above = closed_above(path).unwrap_or_else(|| parent(path)).display();
                format!("cannot open bus directory {shown}: {above} does not let this user through")
            }
            _ => format!("cannot open bus directory {shown}"),
        };
        Error::os("open", errno, hint)
    }

    fn verify(&self, directory: &OwnedFd, path: &Path) -> Result<()> {
        let FileStat { st_uid: owner, st_gid: gid, st_mode: mode, .. } = fstat(directory.as_fd())
            .map_err(|errno| Error::os("fstat", errno, "cannot look at the bus directory"))?;
        let refuse = |reason: String| Err(refused(path, reason));
        if !self.trusts(owner) {
            let uid = self.uid;
            return refuse(format!(
                "it belongs to uid {owner}, neither to this user ({uid}) nor to root, nor to one of trustedUids"
            ));
        }
        let shown = mode & 0o7777;
        if let Some(group) = self.group {
            return if gid != group {
                refuse(format!(
                    "it belongs to group {gid}, not to {group} as asked for; chgrp it or choose another"
                ))
            } else if mode & SHARED != SHARED || mode & WORLD_WRITES != 0 {
                refuse(format!(
                    "a shared directory is setgid, sticky, and writable by its group alone (chmod 3770); its mode is {shown:o}"
                ))
            } else {
                Ok(())
            };
        }
        let sticky = self.allow_sticky && mode & STICKY != 0;
        if mode & OTHERS_WRITE != 0 && !sticky {
            let advice = if mode & SHARED == SHARED && mode & WORLD_WRITES == 0 {
                "open the bus with the option group, if that group is to share it,"
            } else if mode & STICKY != 0 {
                "allow sticky directories"
            } else {
                "chmod go-w it"
            };
            return refuse(format!("others may write to it (mode {shown:o}); {advice} or choose another"));
        }
        Ok(())
    }
}

/// The directory above. A path is absolute here.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The directory above `path`, or above that one, that does not let this user through; `None` if all do.
fn closed_above(path: &Path) -> Option<&Path> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    let closed = |above: &&Path| {
        // The kernel judges by the effective user, and so must this.
        let allowed = faccessat(AT_FDCWD, *above, AccessFlags::X_OK, AtFlags::AT_EACCESS);
        allowed == Err(Errno::EACCES)
    };
    above.into_iter().rev().find(closed)
}

/// Why the directory could not be made. The kernel's answer is about one of the directories above.
fn not_made(syscall: &'static str, errno: Errno, path: &Path) -> Error {
    let above = parent(path).display();
    let reason = match errno {
        Errno::ENOENT => format!(": {above} does not exist; make that first"),
        Errno::ENOTDIR => format!(": {above} is no directory"),
        Errno::EROFS => format!(": the file system of {above} is read-only; choose another directory"),
        Errno::EACCES => {
            format!(": this user may not write to {above}; choose another directory or change its mode")
        }
        _ => String::new(),
    };
    Error::os(syscall, errno, format!("cannot create bus directory {}{reason}", path.display()))
}

fn refused(path: &Path, reason: String) -> Error {
    Error::BusDirectory { path: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn options(path: PathBuf) -> BusOptions {
        BusOptions { path: Some(path), ..BusOptions::default() }
    }

    #[test]
    fn it_is_made_private_and_verified() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let directory = Directory::open(&options(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!directory.is_gone());
        let domain = BusOptions { domain: Some("lab".into()), ..options(path.clone()) };
        assert_eq!(Directory::open(&domain).unwrap().path(), path.join("lab"));
        let wrong = BusOptions { domain: Some("../x".into()), ..options(path) };
        assert_eq!(Directory::open(&wrong).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME");
    }

    #[test]
    fn who_may_not_make_it_is_told_that_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let looking = BusOptions { create: false, ..options(path.clone()) };
        assert_eq!(Directory::open(&looking).unwrap_err().errno(), Some(Errno::ENOENT as i32));
        assert!(!path.exists(), "nothing is made");
        Directory::open(&options(path.clone())).unwrap();
        assert_eq!(Directory::open(&looking).unwrap().source(), "as given");
        let typo = BusOptions { domain: Some("typo".into()), ..looking };
        assert_eq!(Directory::open(&typo).unwrap_err().errno(), Some(Errno::ENOENT as i32));
        assert!(!path.join("typo").exists(), "nothing is made");
    }

    #[test]
    fn the_systems_bus_is_at_no_other_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let error = Directory::open(&BusOptions { system: true, ..options(path.clone()) }).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "system", .. }), "{error}");
        assert!(!path.exists(), "nothing is made of it");
    }

    #[test]
    fn symlinks_files_and_open_doors_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, folder.path().join("link")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for name in ["link", "link/", "file"] {
            let error = Directory::open(&options(folder.path().join(name))).unwrap_err();
            assert_eq!(error.code(), "ERR_RINGBELL_BUS_DIRECTORY", "{name}: {error}");
        }
        fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(Directory::open(&options(real.clone())).unwrap_err().code(), "ERR_RINGBELL_BUS_DIRECTORY");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(Directory::open(&options(real.clone())).unwrap_err().code(), "ERR_RINGBELL_BUS_DIRECTORY");
        Directory::open(&BusOptions { allow_sticky: true, ..options(real) }).unwrap();
        let orphan = folder.path().join("no/such/bus");
        assert_eq!(Directory::open(&options(orphan)).unwrap_err().errno(), Some(Errno::ENOENT as i32));
    }

    #[test]
    fn a_shared_directory_is_made_whole_and_strictly_checked() {
        let folder = tempfile::tempdir().unwrap();
        let gid = nix::unistd::getegid().as_raw();
        let shared = |path: PathBuf| BusOptions { group: Some(Group::Id(gid)), ..options(path) };
        let path = folder.path().join("bus");
        let domain = BusOptions { domain: Some("lab".into()), ..shared(path.clone()) };
        assert_eq!(Directory::open(&domain).unwrap().group(), Some(gid));
        for made in [&path, &path.join("lab")] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o7777, 0o3770);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let reason = |options: &BusOptions| match Directory::open(options).unwrap_err() {
            Error::BusDirectory { reason, .. } => reason,
            other => panic!("{other}"),
        };
        assert!(reason(&options(path.clone())).contains("option group"));
        for mode in [0o700, 0o2770, 0o1770, 0o3750, 0o3777, 0o3772] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(reason(&shared(path.clone())).contains("chmod 3770"), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o3775)).unwrap();
        Directory::open(&shared(path.clone())).unwrap();
        let other = BusOptions { group: Some(Group::Id(gid + 1)), ..options(path) };
        assert!(reason(&other).contains("chgrp"));
    }

    #[test]
    fn it_is_restored_after_removal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let directory = Directory::open(&options(path.clone())).unwrap();
        fs::remove_dir(&path).unwrap();
        assert!(directory.is_gone());
        let before = directory.fd();
        let after = directory.restore().unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        assert!(path.is_dir() && !directory.is_gone());
        assert!(Arc::ptr_eq(&after, &directory.restore().unwrap()), "nothing happens when it is there");
    }
}
