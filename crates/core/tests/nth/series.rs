//! One series: what is tried with one scenario, one kind of call and one error, for n = 1, 2, … until a run meets no failure
//! any more; and how the end of a run is judged. `main` hunts with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use oldsys::nth::{self, Failure};
use oldsys::table::{KINDS, Kind};

use crate::partner::Partner;
use crate::scenarios::SCENARIOS;

pub const ONWARDS: &str = "RINGBELL_NTH_ONWARDS";
pub const ANSWER: &str = "RINGBELL_NTH_ANSWER";
/// Only a hang takes so long.
const HANG: Duration = Duration::from_secs(180);

/// What runs under the supervisor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This test program, in the role of a scenario of `scenarios`.
    Here,
    /// A scenario of `__test__/fixtures/nth.mjs`, which goes on to the next n by itself.
    Node,
    /// The command line `ringbell`, with these arguments.
    Line(&'static [&'static str]),
}

/// What the command line is asked for. The partner is the other side.
const LINES: &[(&str, &[&str])] = &[
    ("cli-ls", &["ls", "--json"]),
    ("cli-inspect", &["inspect", "nth-topic"]),
    ("cli-stats", &["stats", "nth-topic"]),
    ("cli-call", &["call", "nth-server", "hello"]),
    ("cli-pub", &["pub", "nth-out", "hello", "--wait-subscriber"]),
    ("cli-sub", &["sub", "nth-topic", "--count", "3", "--timeout", "30s"]),
    ("cli-watch", &["watch", "--count", "2", "--timeout", "30s"]),
    ("cli-gc", &["gc"]),
    ("cli-doctor", &["doctor"]),
];

const NODE: &[&str] = &[
    "node-topic-direct",
    "node-topic-handshake",
    "node-topic-stream",
    "node-channel-handshake",
    "node-channel-stream",
    "node-queue",
    "node-watch-inotify",
    "node-watch-polling",
];

/// Calls that V8 and libuv make at any moment, and cannot do without. The scenarios in Rust have them.
const NODES_OWN: &[&str] = &["munmap", "madvise"];

pub struct Series {
    pub scenario: &'static str,
    pub program: Program,
    pub kind: &'static Kind,
    errno: i32,
    onwards: bool,
}

/// What came of one run.
pub struct Run {
    /// Which call was to fail: in Node, the last one of many.
    pub nth: u32,
    /// Which one is next, if this one failed.
    pub next: Option<u32>,
    /// How often the scenario met the failure of a call.
    pub rounds: usize,
    pub problem: Option<String>,
}

impl Series {
    pub fn name(&self) -> String {
        let errno = Errno::from_raw(self.errno);
        let onwards = if self.onwards { "+" } else { "" };
        format!("{} {}={errno:?}{onwards}", self.scenario, self.kind.short())
    }

    /// Whether the error says something of the file that was asked for. Then a wrong answer is not ours.
    fn is_answer(&self) -> bool {
        let looks = ["openat", "fstat", "readlinkat", "getdents64"].contains(&self.kind.short());
        looks
            && matches!(
                Errno::from_raw(self.errno),
                Errno::ENOENT | Errno::EACCES | Errno::EPERM | Errno::EOPNOTSUPP
            )
    }

    /// Whether it takes the whole patience of a handshake or a stream until the library says that it was too slow.
    pub fn takes_long(&self) -> bool {
        let calls = ["connect", "accept4", "sendmsg", "recvmsg", "getsockopt", "memfd_create"];
        self.onwards && calls.contains(&self.kind.short())
    }

    /// Whether the other side is another process, which must not suffer.
    fn has_partner(&self) -> bool {
        self.scenario.starts_with("pair") || matches!(self.program, Program::Line(_))
    }

    fn command(&self, bus: &Path) -> Command {
        let flag = |on: bool| if on { "1" } else { "0" };
        let mut command = match self.program {
            Program::Here => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
                command.env("RINGBELL_TEST_ROLE", self.scenario).env("RINGBELL_TEST_BUS", bus);
                for (name, on) in [(ONWARDS, self.onwards), (ANSWER, self.is_answer())] {
                    command.envs(on.then_some((name, "1")));
                }
                command
            }
            Program::Node => {
                let arguments = [self.scenario.as_ref(), bus.as_os_str()];
                let mut command = node("nth.mjs", arguments);
                command.args([flag(self.onwards), flag(self.is_answer())]);
                command
            }
            Program::Line(arguments) => {
                let mut command = node("nth-cli.mjs", arguments.iter().map(OsStr::new));
                command.env("IPC_BUS_DIR", bus).env("NO_COLOR", "1");
                command
            }
        };
        command.env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs it from the n-th call on. `sparse`: only some of the calls are tried.
    pub fn run(&self, nth: u32, sparse: bool) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let (bus, said, complained) =
            (folder.path().join("bus"), folder.path().join("said"), folder.path().join("complained"));
        let partner = self.has_partner().then(|| Partner::start(&bus));
        let mut command = self.command(&bus);
        command.stdin(Stdio::null()).stdout(File::create(&said).unwrap());
        command.stderr(File::create(&complained).unwrap());
        let failure = Failure { kind: self.kind, errno: self.errno, nth, onwards: self.onwards, sparse };
        let outcome = nth::run(command, failure, HANG).unwrap();
        let read = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let (said, complained) = (read(&said), read(&complained));
        let problem = match outcome.status {
            None => Some("it hangs".to_owned()),
            Some(status) => self.judge(status, &said, &complained),
        };
        let left = partner.and_then(|partner| partner.end(&said).err());
        let problem = problem.or(left).map(|problem| format!("{problem}\n{said}{complained}"));
        let rounds = said.lines().filter(|line| line.contains("@@")).count().max(1);
        let next = (outcome.calls >= outcome.nth).then(|| failure.after(outcome.nth));
        Run { nth: outcome.nth, next, rounds, problem }
    }

    /// What was wrong with the end of the program.
    fn judge(&self, status: ExitStatus, said: &str, complained: &str) -> Option<String> {
        if let Program::Line(_) = self.program {
            return self.judge_line(status, said, complained);
        }
        let words = ["@@success", "@@ERR_RINGBELL_", "@@ABORT_ERR", "@@misled"];
        if !status.success() || !words.iter().any(|word| said.contains(word)) {
            return Some(status.to_string());
        }
        None
    }

    /// The command line ends with a documented code, and says in a sentence or two what failed. `doctor` marks what it found
    /// in its table. That something did not come in time is an answer only if it cannot come.
    fn judge_line(&self, status: ExitStatus, said: &str, complained: &str) -> Option<String> {
        if complained.contains("\n    at ") || complained.contains("panicked") {
            return Some(format!("{status}, with a stack"));
        }
        let told = said.contains('✗') || (1..=3).contains(&complained.trim().lines().count());
        match status.code() {
            Some(0) => None,
            Some(1) if told => None,
            Some(3) if told && (self.onwards || self.is_answer()) => None,
            _ => Some(status.to_string()),
        }
    }
}

/// Node with a fixture of the JavaScript tests.
fn node<A: AsRef<OsStr>>(fixture: &str, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new("node");
    command.arg(root().join("__test__/fixtures").join(fixture)).args(arguments);
    // Its own files are read before the mark, and without io_uring.
    command.env("UV_USE_IO_URING", "0").env_remove("NODE_OPTIONS");
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Why the scenarios in Node cannot be run.
pub fn without_node() -> Option<&'static str> {
    let built = root().join("dist/cli/program.js").exists();
    let runs = || Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok();
    match (built, built && runs()) {
        (false, _) => Some("dist is not built (npm run build)"),
        (true, false) => Some("there is no node"),
        (true, true) => None,
    }
}

/// Errors that mean "not now" to a program that asks again. If they came for ever, it would ask for ever.
fn comes_for_ever(errno: i32) -> bool {
    !matches!(Errno::from_raw(errno), Errno::EINTR | Errno::EAGAIN | Errno::ENOENT | Errno::ECONNABORTED)
}

/// All that can be tried.
pub fn all() -> Vec<Series> {
    let here = SCENARIOS.iter().map(|(name, _)| (*name, Program::Here));
    let node = NODE.iter().map(|name| (*name, Program::Node));
    let lines = LINES.iter().map(|(name, arguments)| (*name, Program::Line(arguments)));
    let mut series = Vec::new();
    for (scenario, program) in here.chain(node).chain(lines) {
        for (kind, errnos) in KINDS {
            if program != Program::Here && NODES_OWN.contains(&kind.short()) {
                continue;
            }
            for errno in *errnos {
                series.push(Series { scenario, program, kind, errno: *errno, onwards: false });
                if comes_for_ever(*errno) {
                    series.push(Series { scenario, program, kind, errno: *errno, onwards: true });
                }
            }
        }
    }
    series
}
