//! pidfd: a reference to one process, which a reused pid can never redirect.
//!
//! Invariant: a pid stands for the announced process only if the record's lock is still held when it is
//! probed after `PidFd::open`. Pid and start time together are not unique. `getfd` copies a descriptor
//! that the peer announced and promised to keep open. The caller must verify the copy, because numbers are
//! reused. Results are bare errnos: the policy of the ladder decides by them. Called by acquisition, the registry and
//! `process`.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::proc::descriptor_limit;

/// How many pidfds this process has.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A process, readable (in the sense of poll) once it is dead.
#[derive(Debug)]
pub(crate) struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Opens the process that has this number now.
    ///
    /// # References
    /// `pidfd_open(2)`, Linux 5.3; glibc has a wrapper only since 2.36. Close-on-exec by itself.
    ///
    /// # Errors
    /// ESRCH if there is no such process, EINVAL for a number that is not a pid, ENOSYS, EMFILE, ENFILE.
    pub(crate) fn open(pid: u32) -> nix::Result<PidFd> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the call takes two integers and touches no memory of ours.
        let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        let fd = own(raw)?;
        COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(PidFd { fd })
    }

    /// The same for a caller that can do without it: none is opened once all pidfds take a quarter of the descriptor limit.
    ///
    /// # Errors
    /// As [`PidFd::open`], EMFILE beyond that quarter.
    pub(crate) fn open_spare(pid: u32) -> nix::Result<PidFd> {
        if COUNT.load(Ordering::Relaxed) >= descriptor_limit() / 4 {
            return Err(Errno::EMFILE);
        }
        PidFd::open(pid)
    }

    /// Copies descriptor `number` of that process into this one.
    ///
    /// # References
    /// `pidfd_getfd(2)`, Linux 5.6; needs the right to ptrace the target (`PTRACE_MODE_ATTACH_REALCREDS`).
    ///
    /// # Errors
    /// EPERM, ENOSYS, EBADF if that number is not open there, ESRCH if the process is dead, EMFILE, ENFILE.
    pub(crate) fn getfd(&self, number: RawFd) -> nix::Result<OwnedFd> {
        // SAFETY: the call takes three integers and touches no memory of ours.
        let raw =
            Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.fd.as_raw_fd(), number, 0) })?;
        own(raw)
    }

    /// Sends a signal, or with 0 only asks whether one could be sent.
    ///
    /// # References
    /// `pidfd_send_signal(2)`, Linux 5.1.
    ///
    /// # Errors
    /// ESRCH if the process was waited for, EPERM, EINVAL for a number that is no signal, ENOSYS.
    pub(crate) fn signal(&self, number: i32) -> nix::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the call takes three integers and a null pointer, which means "as kill(2) does".
        let done =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), number, none, 0) };
        Errno::result(done).map(drop)
    }

    /// Whether the process is alive. A zombie is not; a stopped process is.
    ///
    /// # References
    /// `pidfd_open(2)`: a pidfd polls readable when the process terminates.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, PollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                ready => return ready == Ok(0),
            }
        }
    }
}

impl Drop for PidFd {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn own(raw: libc::c_long) -> nix::Result<OwnedFd> {
    let raw = RawFd::try_from(raw).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us; no other code knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_is_alive_until_it_is_a_zombie() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert!(pidfd.is_alive());
        child.kill().unwrap();
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 20_000u16), Ok(1));
        assert!(!pidfd.is_alive(), "a zombie that nobody has waited for yet");
        child.wait().unwrap();
        assert!(!pidfd.is_alive());
        assert_eq!(PidFd::open(child.id()).map(drop), Err(Errno::ESRCH));
    }

    #[test]
    fn a_descriptor_of_this_process_can_be_copied() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        match PidFd::open(std::process::id()).unwrap().getfd(read.as_raw_fd()) {
            Ok(copy) => assert_eq!(
                nix::sys::stat::fstat(&copy).unwrap().st_ino,
                nix::sys::stat::fstat(&read).unwrap().st_ino
            ),
            Err(errno) => assert!([Errno::ENOSYS, Errno::EPERM].contains(&errno), "{errno}"),
        }
    }
}
