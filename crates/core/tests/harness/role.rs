//! This very test binary again, as another process: it plays a role, says lines, and is told lines.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Gid, Pid, Uid};

const ROLE: &str = "RINGBELL_TEST_ROLE";
const BUS: &str = "RINGBELL_TEST_BUS";
/// No role is played for so long. A watchdog that needs no thread, for the children of a test that was killed.
const LONGEST: u32 = 600;

/// A running child; killed when dropped.
pub struct Role {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Role {
    /// Starts a role of the test named `role` at the root of this binary, on the bus in `bus`.
    pub fn start(role: &str, bus: &Path, environment: &[(&str, &str)]) -> Role {
        Role::of("role", role, bus, environment)
    }

    /// Starts a role of any test, which does nothing but play what [`my_role`] tells it.
    pub fn of(test: &str, role: &str, bus: &Path, environment: &[(&str, &str)]) -> Role {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(BUS, bus).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Role { stdin: child.stdin.take(), child, lines }
    }

    /// Waits for a line that the role said.
    pub fn heard(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the role ended without a word").unwrap();
            // libtest prints before the first one, without a line break.
            if let Some((_, said)) = line.split_once("@@") {
                return said.to_owned();
            }
        }
    }

    /// Everything that the role said, until it ended.
    pub fn rest(&mut self) -> Vec<String> {
        let said = |line: std::io::Result<String>| Some(line.ok()?.split_once("@@")?.1.to_owned());
        self.lines.by_ref().filter_map(said).collect()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Tells it that no more is to come, and waits for its end, which must be a good one.
    pub fn succeed(mut self) {
        self.stdin.take();
        self.rest();
        assert!(self.child.wait().unwrap().success(), "the role failed");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Stops it, and returns when all of its threads have stopped.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let status = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it; it is a zombie from here until it is dropped.
    pub fn kill_unreaped(&mut self) {
        self.child.kill().unwrap();
        waitid(Id::Pid(self.pid()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a role: which one, and on which bus.
pub fn my_role() -> Option<(String, PathBuf)> {
    let role = std::env::var(ROLE).ok()?;
    nix::unistd::alarm::set(LONGEST);
    Some((role, PathBuf::from(std::env::var_os(BUS)?)))
}

pub fn say(text: &str) {
    println!("@@{text}");
    std::io::stdout().flush().unwrap();
}

/// In a role: the next line from the test; `None` when it is gone.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().read_line(&mut line).unwrap();
    (count > 0).then(|| line.trim().to_owned())
}

/// In a role: becomes another user, as only root can. Of /proc it may see again what is its own, as after an exec.
pub fn become_user(uid: u32, groups: &[Gid]) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
    nix::unistd::setgroups(groups).unwrap();
    nix::unistd::setresgid(gid, gid, gid).unwrap();
    nix::unistd::setresuid(uid, uid, uid).unwrap();
    nix::sys::prctl::set_dumpable(true).unwrap();
}

/// In a role: is not root from here on. So that what a user without rights sees is tested whoever runs the tests.
pub fn without_root() {
    if nix::unistd::geteuid().is_root() {
        become_user(40_009, &[]);
    }
}
