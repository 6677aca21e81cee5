//! The doctor: what this machine, this process and this bus allow, and which way of acquisition follows from that.
//!
//! Invariant: it looks and tries, and changes nothing: what it makes to try something out is gone when it returns. A check that
//! cannot be made is a warning that says so, never an error. Called by `Bus::doctor`, for people and for the CLI.

mod sockets;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;

use super::Bus;
use super::record::RecordName;
use super::scan::{Look, look, names};
use crate::acquire::Rung;
use crate::segment;
use crate::sys::eventfd::{self, EventFd};
use crate::sys::pidfd::PidFd;
use crate::sys::{aio, memfd, prctl};

/// Descriptors that a process with many peers needs at least: a subscriber has three for each publisher.
const DESCRIPTORS: u64 = 4096;
/// inotify instances that a user has by default; one more process than that polls.
const INSTANCES: u64 = 1024;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, in a lesser way.
    Warn,
    /// Something will not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What; stable, in kebab-case.
    pub check: &'static str,
    /// How bad.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty when there is nothing to do.
    pub advice: String,
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Doctor {
    /// The worst of all checks.
    pub status: Status,
    /// The rung that an acquisition from this process would most likely take.
    pub rung: Rung,
    /// Why, and why not the one above.
    pub reason: String,
    /// One by one.
    pub checks: Vec<Check>,
}

impl Bus {
    /// Looks at what this machine, this process and this bus allow.
    pub fn doctor(&self) -> Doctor {
        let (getfd, memory) = (pidfd_getfd(), memory());
        let (rung, reason) = self.expected_rung(getfd, &memory);
        let checks = vec![
            kernel(),
            proc_mounted(),
            yama(),
            seccomp(),
            dumpable(),
            pidfd(getfd),
            shared_memory(&memory),
            doorbells(),
            sockets::sockets(self.dir(), memory.as_ref().is_err_and(segment::refused)),
            inotify(),
            descriptors(),
            self.directory(),
            self.access(),
            self.leftovers(),
            self.acquisition(rung, &reason),
        ];
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        Doctor { status, rung, reason, checks }
    }

    fn expected_rung(&self, getfd: Result<(), Errno>, memory: &crate::Result<()>) -> (Rung, String) {
        if let Some(rung) = self.options().acquire {
            return (rung, "forced by the option acquire".into());
        }
        match Rung::from_env() {
            Ok(Some(rung)) => return (rung, "forced by IPC_BUS_ACQUIRE".into()),
            Err(error) => return (Rung::Handshake, error.to_string()),
            Ok(None) => {}
        }
        if let Err(error) = memory
            && segment::refused(error)
        {
            return (Rung::Stream, format!("memory cannot be shared here: {error}"));
        }
        let privileged = nix::unistd::geteuid().is_root();
        match (getfd, scope()) {
            (Err(errno), _) => (Rung::Handshake, format!("pidfd_getfd answers {errno:?}")),
            (Ok(()), Some(3)) => (Rung::Handshake, "Yama scope 3 forbids pidfd_getfd to everybody".into()),
            (Ok(()), Some(1 | 2)) if !privileged => (
                Rung::Handshake,
                "Yama allows pidfd_getfd to ancestors alone, or to publishers that set allowDirect".into(),
            ),
            (Ok(()), _) => (
                Rung::Direct,
                "pidfd_getfd works here; publishers of other users or pid namespaces are shaken hands with"
                    .into(),
            ),
        }
    }

    fn acquisition(&self, rung: Rung, reason: &str) -> Check {
        match Rung::from_env() {
            Err(error) if self.options().acquire.is_none() => {
                fail("acquisition", error.to_string(), "correct the variable: nothing is acquired before")
            }
            _ => ok("acquisition", format!("{rung}: {reason}")),
        }
    }

    fn directory(&self) -> Check {
        let (path, shown) = (self.path(), self.path().display());
        if self.dir().is_gone() {
            let advice = "it is made again at the next announcement or look-up; find out what removes it";
            return warn("directory", format!("{shown} was removed since it was opened"), advice);
        }
        match fs::symlink_metadata(path) {
            Ok(meta) => {
                ok("directory", format!("{shown}, mode {:o}, owner {}", meta.mode() & 0o7777, meta.uid()))
            }
            Err(error) => fail("directory", format!("{shown}: {error}"), "choose another with IPC_BUS_DIR"),
        }
    }

    /// Who else can come in here, and what is for them.
    fn access(&self) -> Check {
        let fd = self.dir().fd();
        let (mut all, mut open) = (0, 0);
        for name in names(fd.as_fd()).unwrap_or_default() {
            if RecordName::parse(&name).is_some()
                && let Look::Alive(known) = look(self.dir(), fd.as_fd(), &name, None)
                && let Some(record) = known.record
                && (record.topic.is_some() || record.channel.is_some())
            {
                all += 1;
                open += usize::from(record.access.is_some());
            }
        }
        let mode = nix::sys::stat::fstat(fd.as_fd()).map_or(0, |stat| stat.st_mode & 0o7777);
        let who = match self.dir().group() {
            Some(group) => format!("shared with group {group}"),
            None if mode & 0o011 != 0 => "others can enter, and announce nothing".to_owned(),
            None => "private: no other user can enter".to_owned(),
        };
        ok("access", format!("{who}; {open} of {all} topics and servers are for other users"))
    }

    fn leftovers(&self) -> Check {
        let fd = self.dir().fd();
        let listed = match names(fd.as_fd()) {
            Ok(listed) => listed,
            Err(error) => return fail("leftovers", error.to_string(), "see the directory's permissions"),
        };
        let (mut alive, mut dead, mut refused) = (0, 0, Vec::new());
        for name in listed.iter().filter(|name| RecordName::parse(name).is_some()) {
            match look(self.dir(), fd.as_fd(), name, None) {
                Look::Alive(_) => alive += 1,
                Look::Dead => dead += 1,
                Look::Bad(_, error) | Look::Later(error) => refused.push(error.to_string()),
                Look::Absent => {}
            }
        }
        let detail =
            format!("{alive} live records, {dead} of dead processes, {} not believed", refused.len());
        match (dead, refused.first()) {
            (0, None) => ok("leftovers", detail),
            (_, Some(first)) => warn(
                "leftovers",
                format!("{detail}; the first: {first}"),
                "remove by hand what does not belong here",
            ),
            (_, None) => warn("leftovers", detail, "run gc; any process that watches does it by itself"),
        }
    }
}

fn ok(check: &'static str, detail: impl Into<String>) -> Check {
    Check { check, status: Status::Ok, detail: detail.into(), advice: String::new() }
}

fn warn(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { check, status: Status::Warn, detail: detail.into(), advice: advice.into() }
}

fn fail(check: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { check, status: Status::Fail, detail: detail.into(), advice: advice.into() }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn scope() -> Option<u64> {
    number("/proc/sys/kernel/yama/ptrace_scope")
}

fn kernel() -> Check {
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

fn proc_mounted() -> Check {
    match fs::metadata("/proc/self/fd") {
        Ok(_) => ok("proc", "/proc is mounted"),
        Err(error) => fail(
            "proc",
            format!("/proc/self/fd: {error}"),
            "mount /proc: segments and doorbells are recognised through it",
        ),
    }
}

fn yama() -> Check {
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

fn seccomp() -> Check {
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

fn dumpable() -> Check {
    if prctl::is_dumpable() {
        return ok("dumpable", "others of this user may acquire directly from this process");
    }
    let advice = "it changed its user without exec, or asked for it; its topics are reached by the handshake";
    warn("dumpable", "nobody but root may acquire directly from this process", advice)
}

/// On this very process, which Yama never forbids: tells whether the calls are there.
fn pidfd_getfd() -> Result<(), Errno> {
    let bell = EventFd::new().map_err(|error| Errno::from_raw(error.errno().unwrap_or(libc::EIO)))?;
    PidFd::open(std::process::id())?.getfd(bell.as_fd().as_raw_fd()).map(drop)
}

fn pidfd(getfd: Result<(), Errno>) -> Check {
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

fn memory() -> crate::Result<()> {
    segment::create(64 << 10, 1).and_then(|own| memfd::reopen(&own.data_fd).map(drop))
}

fn shared_memory(made: &crate::Result<()>) -> Check {
    let policy = number("/proc/sys/vm/memfd_noexec").map_or("not there".into(), |policy| policy.to_string());
    let detail = |error: &crate::Error| format!("{error}; vm.memfd_noexec is {policy}");
    match made {
        Ok(()) => ok("shared-memory", format!("a sealed segment can be made; vm.memfd_noexec is {policy}")),
        // What ran out is no reason to stream.
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

fn doorbells() -> Check {
    let bell = match EventFd::new().and_then(|bell| bell.id().map(|_| bell)) {
        Ok(bell) => bell,
        Err(error) => return fail("doorbells", error.to_string(), "topics cannot be published here"),
    };
    match aio::available(bell.as_fd()) {
        Ok(()) => ok(
            "doorbells",
            format!(
                "eventfds can be made and recognised, and are rung {}; Linux AIO is there",
                eventfd::way()
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

fn inotify() -> Check {
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

fn descriptors() -> Check {
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
    use crate::bus::{Announcement, BusOptions};

    #[test]
    fn it_answers_for_everything_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let bus =
            Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() }).unwrap();
        let _announced = bus.announce(Announcement::new("clock")).unwrap();
        let before = fs::read_dir(bus.path()).unwrap().count();
        let doctor = bus.doctor();
        assert_eq!(fs::read_dir(bus.path()).unwrap().count(), before);
        let find = |name| doctor.checks.iter().find(|check| check.check == name).unwrap();
        assert_eq!(find("leftovers").status, Status::Ok);
        assert_eq!(find("sockets").status, Status::Ok, "{:?}", find("sockets"));
        assert!(find("leftovers").detail.starts_with("1 live"));
        assert_eq!(
            find("access").detail,
            "private: no other user can enter; 0 of 0 topics and servers are for other users"
        );
        assert_eq!(doctor.status, doctor.checks.iter().map(|check| check.status).max().unwrap());
        assert!(doctor.checks.iter().all(|check| check.status == Status::Ok || !check.advice.is_empty()));
        let json = serde_json::to_value(&doctor).unwrap();
        assert_eq!(json["checks"][0]["check"], "kernel");
        assert!(["ok", "warn", "fail"].contains(&json["checks"][0]["status"].as_str().unwrap()));
    }

    #[test]
    fn leftovers_and_strangers_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let bus =
            Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() }).unwrap();
        fs::write(bus.path().join("old@000102030405060708090a0b0c0d0e0f.json"), "{}").unwrap();
        let doctor = bus.doctor();
        let check = doctor.checks.iter().find(|check| check.check == "leftovers").unwrap();
        assert_eq!(
            (check.status, check.detail.as_str()),
            (Status::Warn, "0 live records, 1 of dead processes, 0 not believed")
        );
    }

    #[test]
    fn a_forced_rung_is_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("bus"));
        let bus =
            Bus::open(BusOptions { path, acquire: Some(Rung::Handshake), ..BusOptions::default() }).unwrap();
        assert_eq!(bus.doctor().rung, Rung::Handshake);
        assert_eq!(version("5.15.0-91-generic"), Some((5, 15)));
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("x"), None);
    }
}
