//! The doctor: what this machine, this process and this bus allow, and which rung of acquisition follows from that.
//!
//! Invariant: it looks and tries, and changes nothing. What it makes for a trial is gone when it returns. A check that
//! cannot be made is a warning that says so, never an error. `Bus::doctor` calls this module, for users and for the
//! CLI.

mod machine;
mod sockets;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use serde::Serialize;

use crate::bus::Bus;
use crate::bus::scan::{Inspection, inspect, names};
use crate::record::{RecordName, Rung};
use crate::segment;

/// The severity of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is as it should be.
    Ok,
    /// It works, with a restriction.
    Warn,
    /// It will not work.
    Fail,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// The name of the check. It is stable, in kebab-case.
    pub check: &'static str,
    /// The severity.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it. Empty when there is nothing to do.
    pub advice: String,
}

/// The results of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Doctor {
    /// The worst status of all checks.
    pub status: Status,
    /// The rung that an acquisition from this process would most likely take.
    pub rung: Rung,
    /// The reason for this rung, and the reason against the rung above it.
    pub reason: String,
    /// The results, one for each check.
    pub checks: Vec<Check>,
}

impl Bus {
    /// Checks what this machine, this process and this bus allow.
    pub fn doctor(&self) -> Doctor {
        let (getfd, memory) = (machine::pidfd_getfd(), machine::memory());
        let (rung, reason) = self.expected_rung(getfd, &memory);
        let checks = vec![
            machine::kernel(),
            machine::proc_mounted(),
            machine::yama(),
            machine::seccomp(),
            machine::dumpable(),
            machine::pidfd(getfd),
            machine::shared_memory(&memory),
            machine::doorbells(),
            machine::barriers(),
            sockets::sockets(self.dir(), memory.as_ref().is_err_and(segment::refused)),
            machine::inotify(),
            machine::descriptors(),
            self.directory(),
            self.access(),
            self.leftovers(),
            ok("acquisition", format!("{rung}: {reason}")),
        ];
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok);
        Doctor { status, rung, reason, checks }
    }

    fn expected_rung(&self, getfd: Result<(), Errno>, memory: &crate::Result<()>) -> (Rung, String) {
        if let Some(rung) = self.options().acquire {
            let by_environment = Rung::from_env() == Ok(Some(rung));
            let by = if by_environment { "IPC_BUS_ACQUIRE" } else { "the option acquire" };
            return (rung, format!("forced by {by}"));
        }
        if let Err(error) = memory
            && segment::refused(error)
        {
            return (Rung::Stream, format!("memory cannot be shared here: {error}"));
        }
        let privileged = nix::unistd::geteuid().is_root();
        match (getfd, machine::scope()) {
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

    fn directory(&self) -> Check {
        let path = self.path();
        let shown = format!("{} ({})", path.display(), self.path_source());
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

    /// Which other users can enter the directory, and what they can use in it.
    fn access(&self) -> Check {
        let fd = self.dir().fd();
        let (mut all, mut open) = (0, 0);
        for name in names(fd.as_fd()).unwrap_or_default() {
            if RecordName::parse(&name).is_some()
                && let Inspection::Alive(known) = inspect(self.dir(), fd.as_fd(), &name, None)
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
            match inspect(self.dir(), fd.as_fd(), name, None) {
                Inspection::Alive(_) => alive += 1,
                Inspection::Dead => dead += 1,
                Inspection::Bad(_, error) | Inspection::Later(error) => refused.push(error.to_string()),
                Inspection::Absent => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Announcement, BusOptions};
    use crate::harness::Place;

    #[test]
    fn it_answers_for_everything_and_changes_nothing() {
        let place = Place::new();
        let bus = place.bus();
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
        let place = Place::new();
        let bus = place.bus();
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
        let place = Place::new();
        let bus = Bus::open(BusOptions { acquire: Some(Rung::Handshake), ..place.options() }).unwrap();
        assert_eq!(bus.doctor().rung, Rung::Handshake);
    }
}
