//! What /proc says about processes and this machine.
//!
//! Facts that cannot change while a process lives are read once, and again in a forked child. Invariant: without /proc
//! the answer is 0 or empty. That is equal to no other process's answer, so pid numbers are then not used. But a look
//! that failed for want of descriptors is no answer, and is not remembered. Called by the record and by acquisition.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use crate::error::{Error, Result};

/// This process, as a record describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Myself {
    pub(crate) pid: u32,
    /// Field 22 of /proc/self/stat: clock ticks since boot. 0 where unknown.
    pub(crate) start_time: u64,
    /// Empty where unknown.
    pub(crate) boot_id: String,
    /// 0 where unknown.
    pub(crate) pid_namespace: u64,
}

static MYSELF: Mutex<Option<Arc<Myself>>> = Mutex::new(None);

/// # This process
///
/// References: proc_pid_stat(5), pid_namespaces(7), `/proc/sys/kernel/random/boot_id`.
///
/// Errors: [`Error::Resource`] when descriptors or memory ran out, [`Error::Os`] when a read failed otherwise. Where there
/// is no /proc, that is no error.
pub(crate) fn myself() -> Result<Arc<Myself>> {
    let pid = std::process::id();
    let mut cached = MYSELF.lock().unwrap_or_else(PoisonError::into_inner);
    match cached.as_ref() {
        Some(myself) if myself.pid == pid => Ok(Arc::clone(myself)),
        _ => {
            let stat = stat_of(pid)?;
            let boot_id = content("/proc/sys/kernel/random/boot_id")?;
            let namespace = if_there("stat", fs::metadata("/proc/self/ns/pid"))?;
            let myself = Arc::new(Myself {
                pid,
                start_time: stat.map_or(0, |stat| stat.start_time),
                boot_id: boot_id
                    .map_or_else(String::new, |id| String::from_utf8_lossy(&id).trim().to_owned()),
                pid_namespace: namespace.map_or(0, |there| there.ino()),
            });
            *cached = Some(Arc::clone(&myself));
            Ok(myself)
        }
    }
}

fn content(path: &str) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = if_there("open", fs::File::open(path))? else { return Ok(None) };
    let mut bytes = Vec::new();
    Ok(if_there("read", file.read_to_end(&mut bytes))?.map(|_| bytes))
}

/// `None` where there is no such file, or none for this process.
fn if_there<T>(call: &'static str, result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) => match (error.kind(), error.raw_os_error()) {
            (ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied, _) | (_, None) => {
                Ok(None)
            }
            (_, Some(errno)) => Err(Error::os(call, Errno::from_raw(errno), "cannot read /proc")),
        },
    }
}

/// Whether a process still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It runs, sleeps, or is stopped.
    Alive,
    /// It has ended, and may wait for its parent.
    Dead,
}

/// What is read from the proc_pid_stat(5) of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: State,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
}

/// # The process with this number
///
/// References: proc_pid_stat(5). `None` where there is no such process, or no /proc.
///
/// Errors: as `myself`.
pub(crate) fn stat_of(pid: u32) -> Result<Option<Stat>> {
    Ok(content(&format!("/proc/{pid}/stat"))?.and_then(|stat| stat_in(&stat)))
}

fn stat_in(stat: &[u8]) -> Option<Stat> {
    // The second field is the command in parentheses. The command may contain any byte, even a parenthesis.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(stat.get(after..)?).ok()?.split_ascii_whitespace();
    let state = if matches!(fields.next()?, "Z" | "X" | "x") { State::Dead } else { State::Alive };
    Some(Stat { state, start_time: fields.nth(18)?.parse().ok()? })
}

/// # The soft limit of open descriptors
///
/// References: getrlimit(2). 1024 if the kernel does not say.
pub(crate) fn descriptor_limit() -> u64 {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(1024, |limits| limits.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let myself = myself().unwrap();
        assert_eq!(myself.pid, std::process::id());
        assert!(myself.start_time > 0 && myself.pid_namespace > 0);
        assert_eq!(myself.boot_id.len(), 36);
        assert_eq!(stat_in(b"1 (a) b) S 0"), None);
        let zombie = stat_in(b"1 (a) b) Z 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 77 0");
        assert_eq!(zombie, Some(Stat { state: State::Dead, start_time: 77 }));
        assert_eq!(stat_of(std::process::id()).unwrap().map(|stat| stat.state), Some(State::Alive));
        assert_eq!(stat_of(0).unwrap(), None);
        assert!(descriptor_limit() > 0);
    }
}
