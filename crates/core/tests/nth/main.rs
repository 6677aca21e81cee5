//! The n-th system call of each kind fails, with each error that it may have, for n = 1, 2, … until a run meets no failure
//! any more. Whatever fails: success or an error with a code, no panic, no hang, and nothing is left behind.
//!
//! `cargo test` takes a sample. `npm run soak` sets `RINGBELL_NTH` and takes all. `RINGBELL_NTH_ONLY` picks runs by a part of
//! their name, such as `topic-direct openat=EMFILE`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../harness/mod.rs"]
mod harness;
mod scenarios;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::*;
use nix::errno::Errno;
use oldsys::nth::{self, Failure};
use oldsys::table::{KINDS, Kind};
use scenarios::{SCENARIOS, Stage, Unsuccessful};

const ONWARDS: &str = "RINGBELL_NTH_ONWARDS";
const ANSWER: &str = "RINGBELL_NTH_ANSWER";
/// Only a hang takes so long.
const HANG: Duration = Duration::from_secs(180);
/// A sample takes one series of so many. It must not divide the number of a scenario's series: each scenario must begin at
/// another place of the table.
const STRIDE: usize = 29;
/// The sample has at least so many kinds of calls.
const KINDS_IN_SAMPLE: usize = 35;
/// Series that found something once.
const ALWAYS: &[&str] = &[
    "look fcntl=ENOLCK",
    "watch-inotify fcntl=ENOMEM",
    "topic-direct fcntl=ENOMEM",
    "topic-stream openat=EMFILE+",
    "look fstat=ENOMEM",
];
/// How many runs there are at once. They wait more than they compute.
const AT_ONCE: usize = 4;

/// Runs a scenario: with the failure first, then without any, in the same process.
#[test]
fn role() {
    let Some((name, path)) = my_role() else { return };
    let (_, scenario) = SCENARIOS.iter().find(|(known, _)| *known == name).unwrap();
    let onwards = std::env::var_os(ONWARDS).is_some();
    let before = held();
    nth::begin();
    let failing = scenario(&Stage { path: &path, onwards });
    nth::end();
    gone(&before);
    match failing {
        Ok(()) => say("success"),
        Err(Unsuccessful::Typed(error)) => say(&format!("{} {error}", error.code())),
        Err(Unsuccessful::Wrong(what)) if std::env::var_os(ANSWER).is_some() => {
            say(&format!("misled: {what}"))
        }
        Err(Unsuccessful::Wrong(what)) => panic!("{what}"),
    }
    let clean = scenario(&Stage { path: &path, onwards: false });
    // What /proc says of a process is asked once. A lie stays.
    if let Err(error) = clean
        && std::env::var_os(ANSWER).is_none()
    {
        panic!("the failure is over, but not its consequences: {error:?}");
    }
    gone(&before);
    open(&path).gc().unwrap();
    let left: Vec<String> = names(&path).into_iter().filter(|name| !name.ends_with(".claim")).collect();
    assert_eq!(left, Vec::<String>::new(), "left behind");
}

/// Descriptors and threads.
type Held = (Vec<String>, usize);

fn held() -> Held {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    // Looking takes a descriptor, which has no target any more. The queue of `sys::aio` keeps /dev/null for good.
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let mut targets: Vec<String> = targets.map(|target| target.display().to_string()).collect();
    targets.retain(|target| target != "/dev/null" && !target.starts_with("/proc/"));
    targets.sort_unstable();
    (targets, fs::read_dir("/proc/self/task").unwrap().count())
}

/// Waits until no more is held than before. A thread that was joined may still be listed for a moment.
fn gone(before: &Held) {
    for _ in 0..2000 {
        if held() == *before {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("left behind: {:?} instead of {before:?}", held());
}

/// What is tried with one kind of call and one error, until a run meets no failure.
struct Series {
    scenario: &'static str,
    kind: &'static Kind,
    errno: i32,
    onwards: bool,
}

impl Series {
    fn name(&self) -> String {
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

    /// Whether it takes the whole patience of a handshake until the library says that it was too slow.
    fn takes_long(&self) -> bool {
        let calls = ["connect", "accept4", "sendmsg", "recvmsg", "getsockopt", "memfd_create"];
        self.onwards && calls.contains(&self.kind.short())
    }

    /// Runs it for one `n`. The first part says whether a call failed, the second what was wrong.
    fn run(&self, nth: u32) -> (bool, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let output = File::create(&said).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
        command.env("RINGBELL_TEST_ROLE", self.scenario).env("RINGBELL_TEST_BUS", folder.path().join("bus"));
        command.env("RUST_BACKTRACE", "0");
        if self.onwards {
            command.env(ONWARDS, "1");
        }
        if self.is_answer() {
            command.env(ANSWER, "1");
        }
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let failure = Failure { kind: self.kind, errno: self.errno, nth, onwards: self.onwards };
        let outcome = nth::run(command, failure, HANG).unwrap();
        let text = String::from_utf8_lossy(&fs::read(&said).unwrap()).into_owned();
        let wrong = match outcome.status {
            None => Some("it hangs".to_owned()),
            Some(status) if !status.success() => Some(format!("{status}: {text}")),
            Some(_)
                if !["@@success", "@@ERR_RINGBELL_", "@@misled"].iter().any(|word| text.contains(word)) =>
            {
                Some(text)
            }
            Some(_) => None,
        };
        (outcome.calls >= nth, wrong)
    }
}

/// Errors that mean "not now" to a program that asks again. If they came for ever, it would ask for ever.
fn comes_for_ever(errno: i32) -> bool {
    !matches!(
        Errno::from_raw(errno),
        Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOENT | Errno::ECONNABORTED
    )
}

/// All that can be tried.
fn all() -> Vec<Series> {
    let mut series = Vec::new();
    for (scenario, _) in SCENARIOS {
        for (kind, errnos) in KINDS {
            for errno in *errnos {
                series.push(Series { scenario, kind, errno: *errno, onwards: false });
                if comes_for_ever(*errno) {
                    series.push(Series { scenario, kind, errno: *errno, onwards: true });
                }
            }
        }
    }
    series
}

/// Runs every series for the `n`s that `next` gives, and says what was wrong.
fn hunt(series: &[Series], next: impl Fn(u32) -> u32 + Sync) -> (usize, Vec<String>) {
    let (at, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(series) = series.get(at.fetch_add(1, Ordering::Relaxed)) {
                    let mut nth = 1;
                    loop {
                        let (failed, problem) = series.run(nth);
                        runs.fetch_add(1, Ordering::Relaxed);
                        if let Some(problem) = problem {
                            let line = format!("{} nth={nth}: {problem}", series.name());
                            eprintln!("{line}");
                            wrong.lock().unwrap().push(line);
                        }
                        if !failed {
                            break;
                        }
                        nth = next(nth);
                    }
                }
            });
        }
    });
    (runs.into_inner(), wrong.into_inner().unwrap())
}

#[test]
fn whatever_fails_is_survived_or_named() {
    if let Err(error) = nth::supported() {
        let line = format!(
            "\n*** NOT TESTED, because the kernel refuses to supervise system calls ({error}): nth ***\n"
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let only = std::env::var("RINGBELL_NTH_ONLY").ok();
    let chosen = |series: &Series| only.as_ref().is_none_or(|only| series.name().contains(only.as_str()));
    let whole = only.is_some() || std::env::var_os("RINGBELL_NTH").is_some();
    let mut series: Vec<Series> = all().into_iter().filter(chosen).collect();
    if !whole {
        let mut number = 0;
        series.retain(|series| {
            number += 1;
            ALWAYS.contains(&series.name().as_str()) || (number % STRIDE == 0 && !series.takes_long())
        });
    }
    assert!(!series.is_empty(), "no series has {only:?} in its name");
    let kinds: BTreeSet<&str> = series.iter().map(|series| series.kind.short()).collect();
    assert!(whole || kinds.len() >= KINDS_IN_SAMPLE, "the sample has too few kinds: {kinds:?}");
    let (runs, wrong) = hunt(&series, |nth| if whole { nth + 1 } else { nth + nth / 4 + 1 });
    println!("{runs} runs of {} series of {} kinds, {} wrong", series.len(), kinds.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A series has more than one run if a call failed. A scenario does not make every kind of call.
    assert!(only.is_some() || runs > series.len(), "no call has failed");
}
