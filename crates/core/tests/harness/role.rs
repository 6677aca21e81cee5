//! This test program again, as another process. It plays a role, writes lines to the test, and reads lines from it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Gid, Pid, Uid};

const ROLE: &str = "RINGBELL_TEST_ROLE";
const BUS: &str = "RINGBELL_TEST_BUS";
/// Longer than any role takes. This watchdog needs no thread. It ends the children of a test that was killed.
const LONGEST: u32 = 600;

/// A running child; killed when dropped.
pub struct Role {
    pub child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Role {
    /// Starts a role of the test named `role` in the file that calls this, on the bus in `bus`. The file is a program of its own
    /// in `tests/`, or a module of one beside it.
    #[track_caller]
    pub fn start(role: &str, bus: &Path, environment: &[(&str, &str)]) -> Role {
        let file = Path::new(Location::caller().file());
        let module = file.file_stem().unwrap().display();
        let whole = file.file_stem().is_some_and(|stem| stem == "main")
            || file.parent().is_some_and(|folder| folder.ends_with("tests"));
        let test = if whole { "role".to_owned() } else { format!("{module}::role") };
        Role::of(&test, role, bus, environment)
    }

    /// Starts a role of the test of this name. That test only plays the role that [`my_role`] returns.
    pub fn of(test: &str, role: &str, bus: &Path, environment: &[(&str, &str)]) -> Role {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(BUS, bus).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Role { stdin: child.stdin.take(), child, lines }
    }

    /// Waits for the next line of the role.
    pub fn heard(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the role ended without a word").unwrap();
            // libtest prints before the first one, without a line break.
            if let Some((_, said)) = line.split_once("@@") {
                return said.to_owned();
            }
        }
    }

    /// All lines of the role, until it has ended.
    pub fn rest(&mut self) -> Vec<String> {
        let said = |line: std::io::Result<String>| Some(line.ok()?.split_once("@@")?.1.to_owned());
        self.lines.by_ref().filter_map(said).collect()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Tells the role that no more lines come, and waits for its end, which must be a success.
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

    /// Kills it. It is a zombie from now on until it is dropped.
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

/// In a role: its name, and the path of its bus.
pub fn my_role() -> Option<(String, PathBuf)> {
    let role = std::env::var(ROLE).ok()?;
    nix::unistd::alarm::set(LONGEST);
    Some((role, PathBuf::from(std::env::var_os(BUS)?)))
}

pub fn say(text: &str) {
    println!("@@{text}");
    std::io::stdout().flush().unwrap();
}

/// In a role: the next line from the test; `None` when the test has gone.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().read_line(&mut line).unwrap();
    (count > 0).then(|| line.trim().to_owned())
}

/// In a role: becomes another user, which only root can do. It may read its own files in /proc again, as after an exec.
pub fn become_user(uid: u32, groups: &[Gid]) {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
    nix::unistd::setgroups(groups).unwrap();
    nix::unistd::setresgid(gid, gid, gid).unwrap();
    nix::unistd::setresuid(uid, uid, uid).unwrap();
    nix::sys::prctl::set_dumpable(true).unwrap();
}

/// In a role: gives up root, if it has it. So the view of an ordinary user is also tested when root runs the tests.
pub fn without_root() {
    if nix::unistd::geteuid().is_root() {
        become_user(40_009, &[]);
    }
}
