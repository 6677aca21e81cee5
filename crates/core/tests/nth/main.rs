//! The n-th system call of each kind fails, with each error that it may have, for n = 1, 2, … until a run meets no failure
//! any more: in Rust, in Node and on the command line, in one process and in one of two. Whatever fails: success or an error
//! with a code, no panic, no hang, nothing is left behind, and the other process goes on.
//!
//! `cargo test` takes a sample. `npm run soak` sets `RINGBELL_NTH` and takes all. `RINGBELL_NTH_ONLY` picks runs by a part of
//! their name, such as `topic-direct openat=EMFILE`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../harness/mod.rs"]
mod harness;
mod partner;
mod scenarios;
mod series;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::*;
use oldsys::nth;
use scenarios::{SCENARIOS, Stage, Unsuccessful};
use series::{ANSWER, ONWARDS, Program, Series};

/// A sample takes one series of so many. It must not divide the number of a scenario's series: each scenario must begin at
/// another place of the table.
const STRIDE: usize = 37;
/// The same for what runs in Node, which takes much longer to start.
const NODE_STRIDE: usize = 149;
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
    // The records of a partner.
    let others = if path.exists() { names(&path) } else { Vec::new() };
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
    assert_eq!(names(&path), others, "left behind");
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

/// Runs every series, the whole ones for each `n`, and says what was wrong.
fn hunt(series: &[Series], whole: bool) -> (usize, Vec<String>) {
    let (at, runs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(series) = series.get(at.fetch_add(1, Ordering::Relaxed)) {
                    let mut next = Some(1);
                    while let Some(nth) = next {
                        let run = series.run(nth, !whole || series.takes_long());
                        runs.fetch_add(run.rounds, Ordering::Relaxed);
                        if let Some(problem) = run.problem {
                            let line = format!("{} nth={}: {problem}", series.name(), run.nth);
                            eprintln!("{line}");
                            wrong.lock().unwrap().push(line);
                        }
                        next = run.next;
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
    let mut series: Vec<Series> = series::all().into_iter().filter(chosen).collect();
    if let Some(reason) = series::without_node() {
        let line = format!("\n*** NOT TESTED, because {reason}: nth in Node and on the command line ***\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        series.retain(|series| series.program == Program::Here);
    }
    if !whole {
        let mut number = 0;
        series.retain(|series| {
            number += 1;
            let stride = if series.program == Program::Here { STRIDE } else { NODE_STRIDE };
            ALWAYS.contains(&series.name().as_str()) || (number % stride == 0 && !series.takes_long())
        });
    }
    assert!(!series.is_empty(), "no series has {only:?} in its name");
    let kinds: BTreeSet<&str> = series.iter().map(|series| series.kind.short()).collect();
    assert!(whole || kinds.len() >= KINDS_IN_SAMPLE, "the sample has too few kinds: {kinds:?}");
    let (runs, wrong) = hunt(&series, whole);
    println!("{runs} runs of {} series of {} kinds, {} wrong", series.len(), kinds.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A series has more than one run if a call failed. A scenario does not make every kind of call.
    assert!(only.is_some() || runs > series.len(), "no call has failed");
}
