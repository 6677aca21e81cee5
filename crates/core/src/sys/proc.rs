//! What /proc says about this process and this machine.
//!
//! Facts that cannot change while a process lives are read once, and again in a forked child. Invariant: without /proc
//! the answer is 0 or empty. That is equal to no other process's answer, so pid numbers are then not used. Called by
//! the record and by acquisition.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

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
/// References: proc_pid_stat(5), pid_namespaces(7), `/proc/sys/kernel/random/boot_id`. Errors: none, see above.
pub(crate) fn myself() -> Arc<Myself> {
    let pid = std::process::id();
    let mut cached = MYSELF.lock().unwrap_or_else(PoisonError::into_inner);
    match cached.as_ref() {
        Some(myself) if myself.pid == pid => Arc::clone(myself),
        _ => {
            let myself = Arc::new(Myself {
                pid,
                start_time: start_time(pid).unwrap_or(0),
                boot_id: boot_id(),
                pid_namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino()),
            });
            *cached = Some(Arc::clone(&myself));
            myself
        }
    }
}

/// # When process `pid` started, in clock ticks since boot
///
/// References: proc_pid_stat(5). `None` when there is no such process, or no /proc.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses. The command may contain any byte, even a parenthesis.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    text.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
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
        let myself = myself();
        assert_eq!(myself.pid, std::process::id());
        assert!(myself.start_time > 0 && myself.pid_namespace > 0);
        assert_eq!(myself.boot_id.len(), 36);
        assert_eq!(start_time(u32::MAX), None);
        assert!(descriptor_limit() > 0);
    }
}
