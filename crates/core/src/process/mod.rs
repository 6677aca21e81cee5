//! Another process of this machine, as one that supervises it holds it: is that very process alive, a signal for it, and
//! the moment of its death. And this process towards the service manager that started it, and its listening sockets, which
//! others may hold as well.
//!
//! Invariant: with a pidfd nothing here can ever be about another process that got the same pid. Without one (before
//! Linux 5.3, or where a filter denies the calls) `is_alive` goes by the start time, and signals are refused: a parent
//! has another way that is safe for its own children until it has waited for them. This module starts no process, and
//! waits for none: reaping is its parent's.

mod listener;
mod notify;

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

pub use listener::Listener;
pub use notify::notify;

use crate::error::{Error, Result};
use crate::record::Record;
use crate::sys::pidfd::PidFd;
use crate::sys::proc::{self, State};

/// One process.
///
/// ```
/// use std::process::Command;
/// use ringbell::process::Process;
///
/// let mut child = Command::new("sleep").arg("60").spawn()?;
/// let process = Process::open(child.id())?;
/// assert!(process.is_alive()?);
/// # if !process.has_pidfd() { child.kill()?; child.wait()?; return Ok(()) }
/// assert!(process.signal(libc::SIGKILL)?);
/// child.wait()?;
/// assert!(!process.is_alive()?);
/// assert!(!process.signal(libc::SIGKILL)?, "another process may have its pid now, and gets no signal");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Process {
    pid: u32,
    start_time: u64,
    pidfd: Option<PidFd>,
}

impl Process {
    /// Opens the process that has this number now. Call it for a child before you wait for that.
    ///
    /// # Errors
    /// `ERR_RINGBELL_PEER_GONE` if there is none, `ERR_RINGBELL_RESOURCE` if descriptors ran out.
    pub fn open(pid: u32) -> Result<Process> {
        let pidfd = match PidFd::open(pid) {
            Ok(pidfd) => takes_signals(&pidfd)?.then_some(pidfd),
            Err(Errno::ENOSYS | Errno::EPERM) => None,
            Err(Errno::ESRCH | Errno::EINVAL) => return Err(gone(pid)),
            Err(errno) => return Err(Error::os("pidfd_open", errno, "cannot watch a process")),
        };
        let stat = proc::stat_of(pid)?;
        if pidfd.is_none() && stat.is_none() {
            return Err(gone(pid));
        }
        Ok(Process { pid, start_time: stat.map_or(0, |stat| stat.start_time), pidfd })
    }

    /// Opens the process that announced this record: that very one.
    ///
    /// # Errors
    /// As `open`; `ERR_RINGBELL_PEER_GONE` also if another process has the pid now, or the record comes from another pid
    /// namespace, so that its pid means nothing here.
    pub fn of(record: &Record) -> Result<Process> {
        let process = Process::open(record.pid)?;
        // The start time was read after the pidfd was opened. If the process lives now, it was its own.
        if process.announced(record)? && process.is_alive()? { Ok(process) } else { Err(gone(record.pid)) }
    }

    /// Its number, in this process's pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether signals and deaths go through a pidfd. `false`: `signal` is refused, and there is no descriptor.
    pub fn has_pidfd(&self) -> bool {
        self.pidfd.is_some()
    }

    /// Whether this very process is alive. A zombie is not; a stopped process is.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` if there is no pidfd, and /proc cannot be read for want of descriptors.
    pub fn is_alive(&self) -> Result<bool> {
        match &self.pidfd {
            Some(pidfd) => Ok(pidfd.is_alive()),
            None => Ok(proc::stat_of(self.pid)?
                .is_some_and(|stat| stat.start_time == self.start_time && stat.state != State::Dead)),
        }
    }

    /// Sends a signal to this very process. `false`: it has ended.
    ///
    /// # References
    /// `pidfd_send_signal(2)`, Linux 5.1.
    ///
    /// # Errors
    /// `ERR_RINGBELL_UNSUPPORTED_PLATFORM` without a pidfd, `ERR_RINGBELL_NO_PERMISSION`, `ERR_RINGBELL_SYSTEM` for a number
    /// that is no signal.
    pub fn signal(&self, number: i32) -> Result<bool> {
        let Some(pidfd) = &self.pidfd else {
            return Err(Error::UnsupportedPlatform {
                what: "a signal for this very process needs pidfd_open and pidfd_send_signal (Linux 5.3), and a \
                       filter that permits them"
                    .to_owned(),
            });
        };
        // A zombie takes signals, too.
        if !pidfd.is_alive() {
            return Ok(false);
        }
        match pidfd.signal(number) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(Errno::EPERM) => Err(Error::NoPermission {
                what: format!("to signal process {}, which has another user", self.pid),
            }),
            Err(errno) => Err(Error::os("pidfd_send_signal", errno, "cannot send the signal")),
        }
    }

    /// Whether this very process announced the record: the same number and start time in the same boot and pid namespace.
    ///
    /// # Errors
    /// What reading /proc about this process fails with.
    pub fn announced(&self, record: &Record) -> Result<bool> {
        let myself = proc::myself()?;
        Ok(record.pid == self.pid
            && record.start_time == self.start_time
            && self.start_time != 0
            && !myself.boot_id.is_empty()
            && record.boot_id == myself.boot_id
            && myself.pid_namespace != 0
            && record.pid_namespace == myself.pid_namespace)
    }

    /// The descriptor that becomes readable at its death, if there is one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}

/// Whether signals go through a pidfd here. An older filter may know one call and not the other.
fn takes_signals(pidfd: &PidFd) -> Result<bool> {
    match pidfd.signal(0) {
        Err(Errno::ENOSYS) => Ok(false),
        // Either a filter denies the call, or the process has another user. A process may always signal itself.
        Err(Errno::EPERM) => match PidFd::open(std::process::id()) {
            Ok(own) => Ok(own.signal(0).is_ok()),
            Err(errno) => Err(Error::os("pidfd_open", errno, "cannot watch a process")),
        },
        _ => Ok(true),
    }
}

fn gone(pid: u32) -> Error {
    Error::PeerGone { service: format!("process {pid}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn waiting() -> Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_process_is_known_until_it_is_a_zombie() {
        let mut child = waiting();
        let process = Process::open(child.id()).unwrap();
        assert_eq!(process.pid(), child.id());
        assert!(process.is_alive().unwrap());
        child.kill().unwrap();
        let descriptor = process.descriptor().unwrap();
        let mut fds = [nix::poll::PollFd::new(descriptor, nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 20_000u16), Ok(1));
        assert!(!process.is_alive().unwrap(), "a zombie");
        assert!(!process.signal(libc::SIGTERM).unwrap(), "a zombie");
        child.wait().unwrap();
        assert!(!process.is_alive().unwrap());
        assert_eq!(Process::open(child.id()).unwrap_err().code(), "ERR_RINGBELL_PEER_GONE");
    }

    #[test]
    fn without_a_pidfd_the_start_time_tells_and_signals_are_refused() {
        let mut child = waiting();
        let opened = Process::open(child.id()).unwrap();
        let process = Process { pidfd: None, ..opened };
        assert!(process.is_alive().unwrap());
        assert_eq!(process.signal(libc::SIGTERM).unwrap_err().code(), "ERR_RINGBELL_UNSUPPORTED_PLATFORM");
        let another = Process { pid: child.id(), start_time: process.start_time + 1, pidfd: None };
        assert!(!another.is_alive().unwrap(), "another process has the number");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive().unwrap());
    }

    #[test]
    fn a_signal_that_is_none_is_refused() {
        let process = Process::open(std::process::id()).unwrap();
        assert_eq!(process.signal(1_000).unwrap_err().code(), "ERR_RINGBELL_SYSTEM");
    }
}
