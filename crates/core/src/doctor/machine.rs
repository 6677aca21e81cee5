//! What the machine and this process allow, independent of any bus: the kernel's calls, and the limits that are reached
//! first.
//!
//! Invariant: a call is tried, not guessed at, and the objects made for the trial are gone afterwards. `Bus::doctor`
//! calls one function for each check.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};

use super::{Check, fail, ok, warn};
use crate::segment;
use crate::sys::eventfd::{self, EventFd};
use crate::sys::pidfd::PidFd;
use crate::sys::{aio, membarrier, memfd, prctl};

/// The descriptors that a process with many peers needs at least. A subscriber has three for each publisher.
const DESCRIPTORS: u64 = 4096;
/// The inotify instances that a user has by default. A process beyond that number polls.
const INSTANCES: u64 = 1024;

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

pub(super) fn scope() -> Option<u64> {
    number("/proc/sys/kernel/yama/ptrace_scope")
}

pub(super) fn kernel() -> Check {
    let Ok(name) = nix::sys::utsname::uname() else {
        return warn("kernel", "uname does not answer", "allow uname");
    };
    let release = name.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(version) if version >= (5, 6) => ok("kernel", release),
        Some(version) if version >= (5, 4) => {
            warn("kernel", release, "pidfd_getfd is Linux 5.6; the handshake serves instead")
        }
        Some(_) => fail("kernel", release, "Linux 5.4 is the oldest that is supported"),
        None => warn("kernel", release, "its version could not be read"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn proc_mounted() -> Check {
    match fs::metadata("/proc/self/fd") {
        Ok(_) => ok("proc", "/proc is mounted"),
        Err(error) => fail(
            "proc",
            format!("/proc/self/fd: {error}"),
            "mount /proc: segments and doorbells are recognised through it",
        ),
    }
}

pub(super) fn yama() -> Check {
    match scope() {
        None => ok("yama", "not there"),
        Some(0) => ok("yama", "scope 0"),
        Some(scope) => warn(
            "yama",
            format!("scope {scope}"),
            "direct acquisition is for descendants only; a publisher may set allowDirect, and the handshake needs nothing",
        ),
    }
}

pub(super) fn seccomp() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim) {
        Some("0") => ok("seccomp", "no filter"),
        Some(mode) => ok(
            "seccomp",
            format!("mode {mode}: a filter is at work; what it forbids shows in the other checks"),
        ),
        None => warn("seccomp", "cannot be told", "mount /proc"),
    }
}

pub(super) fn dumpable() -> Check {
    if prctl::is_dumpable() {
        return ok("dumpable", "others of this user may acquire directly from this process");
    }
    let advice = "it changed its user without exec, or asked for it; its topics are reached by the handshake";
    warn("dumpable", "nobody but root may acquire directly from this process", advice)
}

/// Tries the call on this process, which Yama never forbids. So the result shows whether the kernel has the calls.
pub(super) fn pidfd_getfd() -> Result<(), Errno> {
    let bell = EventFd::new().map_err(|error| Errno::from_raw(error.errno().unwrap_or(libc::EIO)))?;
    PidFd::open(std::process::id())?.getfd(bell.as_fd().as_raw_fd()).map(drop)
}

pub(super) fn pidfd(getfd: Result<(), Errno>) -> Check {
    match getfd {
        Ok(()) => ok("pidfd-getfd", "works"),
        Err(errno @ (Errno::ENOSYS | Errno::EPERM | Errno::EACCES)) => warn(
            "pidfd-getfd",
            format!("{errno:?}: an old kernel, or a filter such as Docker's"),
            "none needed: the handshake serves",
        ),
        Err(errno) => fail("pidfd-getfd", format!("{errno:?}"), "see the limit of open files (ulimit -n)"),
    }
}

pub(super) fn memory() -> crate::Result<()> {
    segment::create(64 << 10, 1).and_then(|own| memfd::reopen(&own.data_fd).map(drop))
}

pub(super) fn shared_memory(made: &crate::Result<()>) -> Check {
    let policy = number("/proc/sys/vm/memfd_noexec").map_or("not there".into(), |policy| policy.to_string());
    let detail = |error: &crate::Error| format!("{error}; vm.memfd_noexec is {policy}");
    match made {
        Ok(()) => ok("shared-memory", format!("a sealed segment can be made; vm.memfd_noexec is {policy}")),
        // A resource that ran out is no reason to use a stream.
        Err(error) if !segment::refused(error) => {
            fail("shared-memory", detail(error), "topics cannot be published here")
        }
        Err(error) => warn(
            "shared-memory",
            detail(error),
            "topics are streamed from here, at a copy through the kernel for each message; allow memfd_create",
        ),
    }
}

pub(super) fn doorbells() -> Check {
    let bell = match EventFd::new().and_then(|bell| bell.id().map(|_| bell)) {
        Ok(bell) => bell,
        Err(error) => return fail("doorbells", error.to_string(), "topics cannot be published here"),
    };
    match aio::available(bell.as_fd()) {
        Ok(()) => ok(
            "doorbells",
            format!(
                "eventfds can be made and recognised, and are rung {}; Linux AIO is there",
                eventfd::describe_ringing()
            ),
        ),
        Err((call, errno)) => warn(
            "doorbells",
            format!(
                "eventfds are rung by write, which a quick hostile process of this user can block: there is no Linux AIO ({call}: \
                 {errno:?})"
            ),
            "allow io_setup, io_submit and io_getevents, or raise fs.aio-max-nr if it was EAGAIN",
        ),
    }
}

pub(super) fn barriers() -> Check {
    if membarrier::available() {
        return ok(
            "barriers",
            "membarrier works: a publisher whose subscribers are awake sends without a fence",
        );
    }
    let advice = "allow membarrier: without it each send costs more, and a publisher that relies on it streams to this process";
    warn("barriers", "membarrier is refused, or the kernel is older than Linux 4.16", advice)
}

pub(super) fn inotify() -> Check {
    let limit = |name: &str| number(&format!("/proc/sys/fs/inotify/{name}"));
    let (instances, watches) =
        (limit("max_user_instances").unwrap_or(0), limit("max_user_watches").unwrap_or(0));
    let detail = format!("{instances} instances and {watches} watches a user");
    match Inotify::init(InitFlags::IN_CLOEXEC) {
        Err(errno) => warn(
            "inotify",
            format!("{errno:?}; {detail}"),
            "this process polls; raise fs.inotify.max_user_instances",
        ),
        Ok(_) if instances < INSTANCES => warn(
            "inotify",
            detail,
            "more processes of this user than instances poll; raise fs.inotify.max_user_instances",
        ),
        Ok(_) => ok("inotify", detail),
    }
}

pub(super) fn descriptors() -> Check {
    let used = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => {
            let detail = format!("{used} in use, limit {soft}, at most {hard}");
            if soft.saturating_sub(used as u64) < 64 {
                fail("descriptors", detail, "raise ulimit -n: hardly any are left")
            } else if soft < DESCRIPTORS {
                warn(
                    "descriptors",
                    detail,
                    "raise ulimit -n for a thousand peers: a subscriber needs three for each publisher",
                )
            } else {
                ok("descriptors", detail)
            }
        }
        Err(errno) => warn("descriptors", format!("{errno:?}"), "allow getrlimit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_read_for_its_version() {
        assert_eq!(version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("x"), None);
    }
}
