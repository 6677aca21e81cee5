//! The deaths of announcing processes: a pidfd for each process, and a slow pass over the locks of the records that
//! cannot have one.
//!
//! Invariant: a pidfd only says when to look. The record's lock alone says whether its owner is dead. A pid is used
//! only if the record comes from this boot and this pid namespace. None is opened here once the pidfds of the process take a
//! quarter of the descriptor limit. The registry calls this module: a pidfd is in the registry's epoll, under its pid as number.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::record::Record;
use crate::sys::epoll::Epoll;
use crate::sys::pidfd::PidFd;
use crate::sys::proc;

/// How often locks are probed where a pidfd cannot report a death.
const PASS: Duration = Duration::from_secs(1);
/// A pass over very many locks happens less often. So the passes take at most a hundredth of the time.
const SHARE: u32 = 100;

struct Watched {
    pidfd: PidFd,
    names: HashSet<String>,
}

/// The pidfd of each watched process with its records, and the records without a pidfd.
#[derive(Default)]
pub(super) struct Deaths {
    processes: HashMap<u32, Watched>,
    pids: HashMap<String, u32>,
    /// Records without a pidfd. Their locks are probed from time to time.
    probed: HashSet<String>,
    /// When the next pass is due. `None` while there is nothing to probe.
    pub(super) next_pass: Option<Instant>,
}

impl Deaths {
    /// Begins to watch a record that was just found alive. True: the caller must probe its lock again. The process may
    /// have died after the first probe and before its pidfd was opened, and another process may have its pid now.
    pub(super) fn watch(&mut self, name: &str, record: &Record, epoll: &Epoll) -> bool {
        if self.probed.contains(name) || self.pids.get(name) == Some(&record.pid) {
            return false;
        }
        self.forget(name, epoll);
        // If it cannot be told which process this is, the lock is probed from time to time.
        if let Ok(myself) = proc::myself()
            && same_pids(record, &myself)
        {
            if record.pid == myself.pid {
                // If this process dies, no part of it is left that could act on the news.
                return false;
            }
            let before = self.processes.contains_key(&record.pid);
            if before || self.watch_process(record.pid, epoll) {
                self.pids.insert(name.to_owned(), record.pid);
                if let Some(watched) = self.processes.get_mut(&record.pid) {
                    watched.names.insert(name.to_owned());
                }
                return !before;
            }
        }
        self.probe_later(name);
        true
    }

    /// Leaves a record to the slow pass.
    pub(super) fn probe_later(&mut self, name: &str) {
        self.probed.insert(name.to_owned());
        self.next_pass.get_or_insert_with(|| Instant::now() + PASS);
    }

    fn watch_process(&mut self, pid: u32, epoll: &Epoll) -> bool {
        // Any errno leads to the same result: no such call, not allowed, no descriptors, or the process is gone. In the
        // last case the lock shows it.
        let Ok(pidfd) = PidFd::open_spare(pid) else { return false };
        if epoll.watch(pidfd.as_fd(), u64::from(pid)).is_err() {
            return false;
        }
        self.processes.insert(pid, Watched { pidfd, names: HashSet::new() });
        true
    }

    /// The pidfd of this process is readable. Returns its records. They are no longer watched.
    pub(super) fn died(&mut self, pid: u32, epoll: &Epoll) -> Vec<String> {
        let Some(watched) = self.processes.remove(&pid) else { return Vec::new() };
        epoll.forget(watched.pidfd.as_fd());
        let mut names: Vec<String> = watched.names.into_iter().collect();
        names.sort_unstable();
        for name in &names {
            self.pids.remove(name);
        }
        names
    }

    /// The records whose locks are to be probed now.
    pub(super) fn due(&mut self) -> Vec<String> {
        self.probed.iter().cloned().collect()
    }

    /// Reports how long a pass over the locks took.
    pub(super) fn passed(&mut self, took: Duration) {
        let pause = PASS.max(took.saturating_mul(SHARE));
        self.next_pass = (!self.probed.is_empty()).then(|| Instant::now() + pause);
    }

    /// Stops watching a record that is gone.
    pub(super) fn forget(&mut self, name: &str, epoll: &Epoll) {
        self.probed.remove(name);
        if self.probed.is_empty() {
            self.next_pass = None;
        }
        let Some(pid) = self.pids.remove(name) else { return };
        if let Some(watched) = self.processes.get_mut(&pid) {
            watched.names.remove(name);
            if watched.names.is_empty() {
                epoll.forget(watched.pidfd.as_fd());
                self.processes.remove(&pid);
            }
        }
    }

    /// Stops watching everything.
    pub(super) fn clear(&mut self, epoll: &Epoll) {
        for (_, watched) in self.processes.drain() {
            epoll.forget(watched.pidfd.as_fd());
        }
        *self = Deaths::default();
    }

    /// How many processes are watched, and how many records are only probed.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.processes.len(), self.probed.len())
    }
}

/// Whether the record's pid means the same process here as in the process that wrote it.
fn same_pids(record: &Record, myself: &proc::Myself) -> bool {
    !myself.boot_id.is_empty()
        && myself.pid_namespace != 0
        && record.boot_id == myself.boot_id
        && record.pid_namespace == myself.pid_namespace
}
