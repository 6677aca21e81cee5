//! The bus directory: which one, whether it may be used, and its descriptor.
//!
//! Invariant: everything in a bus is reached through the descriptor of a directory that passed [`verify`]: not a symlink,
//! owned by this user or root, writable by nobody else. The descriptor is replaced when the directory was removed and made
//! again, never while it still leads to the path. Called by all of `bus`; decides nothing about records.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};

use super::BusOptions;
use super::record::check_name;
use crate::error::{Error, Result};
use crate::sys::tmpfile::Way;

const OPEN: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const PRIVATE: Mode = Mode::S_IRWXU;
const SYSTEM: &str = "/run/ipc-bus";
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// An open, verified bus directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// With the domain.
    path: PathBuf,
    root: PathBuf,
    domain: Option<String>,
    allow_sticky: bool,
    uid: u32,
    trusted: Vec<u32>,
    pub(super) way: Option<Way>,
    fd: RwLock<Arc<OwnedFd>>,
    reopening: Mutex<()>,
}

impl Directory {
    /// Chooses, makes if need be, and verifies the directory.
    pub(super) fn open(options: &BusOptions) -> Result<Directory> {
        let root = choose(options)?;
        if let Some(domain) = &options.domain {
            check_name("domain", domain)?;
        }
        let path = options.domain.as_ref().map_or_else(|| root.clone(), |domain| root.join(domain));
        let domain = options.domain.clone();
        let fd = open_all(&root, domain.as_deref(), options.allow_sticky)?;
        Ok(Directory {
            path,
            root,
            domain,
            allow_sticky: options.allow_sticky,
            uid: nix::unistd::geteuid().as_raw(),
            trusted: options.trusted_uids.clone(),
            way: forced_way()?,
            fd: RwLock::new(Arc::new(fd)),
            reopening: Mutex::new(()),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's descriptor as it is now.
    pub(crate) fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether records and sockets of this user are believed: our own, root's, or of a user that the caller trusts.
    pub(crate) fn trusts(&self, uid: u32) -> bool {
        uid == self.uid || uid == 0 || self.trusted.contains(&uid)
    }

    /// Whether the path no longer leads to the open directory.
    pub(super) fn is_gone(&self) -> bool {
        let Ok(ours) = fstat(self.fd().as_fd()) else { return true };
        std::fs::symlink_metadata(&self.path)
            .map_or(true, |there| there.ino() != ours.st_ino || there.dev() != ours.st_dev)
    }

    /// Makes and opens the directory again if it is gone. Any number of callers may try.
    pub(super) fn restore(&self) -> Result<Arc<OwnedFd>> {
        let _one_at_a_time = self.reopening.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_gone() {
            let fresh = open_all(&self.root, self.domain.as_deref(), self.allow_sticky)?;
            *self.fd.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
        Ok(self.fd())
    }
}

/// Option, `IPC_BUS_DIR`, root's or the system's, `$XDG_RUNTIME_DIR`, and last a private one in /tmp.
fn choose(options: &BusOptions) -> Result<PathBuf> {
    let uid = nix::unistd::geteuid();
    let path = if let Some(path) = &options.path {
        path.clone()
    } else if options.system {
        PathBuf::from(SYSTEM)
    } else if let Some(path) = variable("IPC_BUS_DIR") {
        path
    } else if uid.is_root() {
        PathBuf::from(SYSTEM)
    } else if let Some(runtime) = variable("XDG_RUNTIME_DIR") {
        runtime.join("ipc-bus")
    } else {
        PathBuf::from(format!("/tmp/ipc-bus-{uid}"))
    };
    let absolute = std::path::absolute(&path).map_err(|_| Error::InvalidOption {
        option: "path",
        value: path.display().to_string(),
        rule: "the path of a directory".to_owned(),
    })?;
    // Without a trailing slash, behind which O_NOFOLLOW would follow a symlink.
    Ok(absolute.components().collect())
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn forced_way() -> Result<Option<Way>> {
    let Some(value) = variable("IPC_BUS_PUBLISH") else { return Ok(None) };
    let text = value.to_string_lossy().into_owned();
    match Way::parse(&text) {
        Some(way) => Ok(Some(way)),
        None => Err(Error::InvalidOption {
            option: "IPC_BUS_PUBLISH",
            value: text,
            rule: "proc, empty-path or rename, or unset".to_owned(),
        }),
    }
}

fn open_all(root: &Path, domain: Option<&str>, allow_sticky: bool) -> Result<OwnedFd> {
    let hint = |what: &str| format!("cannot {what} bus directory {}", root.display());
    let mut opened = open(root, OPEN, Mode::empty());
    if matches!(opened, Err(Errno::ENOENT)) {
        match mkdirat(nix::fcntl::AT_FDCWD, root, PRIVATE) {
            Ok(()) | Err(Errno::EEXIST) => opened = open(root, OPEN, Mode::empty()),
            Err(errno) => return Err(Error::os("mkdir", errno, hint("create"))),
        }
    }
    let directory = opened.map_err(|errno| refused_or(errno, root, hint("open")))?;
    verify(&directory, root, allow_sticky)?;
    let Some(domain) = domain else { return Ok(directory) };
    let path = root.join(domain);
    match mkdirat(&directory, domain, PRIVATE) {
        // EACCES and EROFS are no reason to fail when it exists.
        Ok(()) | Err(Errno::EEXIST | Errno::EACCES | Errno::EROFS) => {}
        Err(errno) => return Err(Error::os("mkdirat", errno, hint(&format!("create domain {domain} in")))),
    }
    let inner = openat(&directory, domain, OPEN, Mode::empty())
        .map_err(|errno| refused_or(errno, &path, hint(&format!("open domain {domain} in"))))?;
    verify(&inner, &path, allow_sticky)?;
    Ok(inner)
}

fn refused_or(errno: Errno, path: &Path, hint: String) -> Error {
    match errno {
        // What O_DIRECTORY and O_NOFOLLOW answer to a symlink.
        Errno::ELOOP | Errno::ENOTDIR => {
            refused(path, "it is a symlink or no directory; remove it or choose another".into())
        }
        _ => Error::os("open", errno, hint),
    }
}

fn verify(directory: &OwnedFd, path: &Path, allow_sticky: bool) -> Result<()> {
    let FileStat { st_uid: owner, st_mode: mode, .. } = fstat(directory.as_fd())
        .map_err(|errno| Error::os("fstat", errno, "cannot look at the bus directory"))?;
    let uid = nix::unistd::geteuid().as_raw();
    if owner != uid && owner != 0 {
        return Err(refused(
            path,
            format!("it belongs to uid {owner}, neither to this user ({uid}) nor to root"),
        ));
    }
    let sticky = allow_sticky && mode & STICKY != 0;
    if mode & OTHERS_WRITE != 0 && !sticky {
        let advice = if mode & STICKY != 0 { "allow sticky directories" } else { "chmod go-w it" };
        return Err(refused(
            path,
            format!("others may write to it (mode {:o}); {advice} or choose another", mode & 0o7777),
        ));
    }
    Ok(())
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
