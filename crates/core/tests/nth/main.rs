//! The n-th system call of each kind fails, with each error that it may have, for n = 1, 2, … until a run meets no failure
//! any more: in Rust, in Node and on the command line, in one process and in one of two. Whatever fails: success or an error
//! with a code, no panic, no hang, nothing is left behind, and the other process goes on.
//!
//! `cargo test` takes a sample. `npm run soak` sets `RINGBELL_NTH` to a number of seconds and takes all, as far as that time
//! allows (all 9,000 series take hours on two cores).
//! `RINGBELL_NTH_ONLY` picks runs by a part of their name, such as `topic-direct openat=EMFILE`.
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
use std::time::{Duration, Instant};

use harness::*;
use oldsys::nth;
use scenarios::{SCENARIOS, Stage, Unsuccessful};
use series::{ANSWER, ONWARDS, Program, Series};

/// A sample takes one series of so many. It must not divide the number of a scenario's series: each scenario must begin at
/// another place of the table.
const STRIDE: usize = 47;
/// The same for what runs in Node, which takes much longer to start.
const NODE_STRIDE: usize = 307;
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
/// One run that takes ten seconds, nearly all of it waiting: the kernel has no memory for datagrams any more.
const SHORTAGE: (&str, u32) = ("channel-stream sendmsg=ENOBUFS+", 4);
/// How far apart two series are that are tried one after the other.
const SCATTER: usize = 211;
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
    // The files that arbitrate stay.
    let left: Vec<String> =
        names(&path).into_iter().filter(|name| !name.ends_with(".claim") && name != ".sync").collect();
    assert_eq!(left, others, "left behind");
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

/// What a hunt has found.
#[derive(Default)]
struct Found {
    series: AtomicUsize,
    runs: AtomicUsize,
    wrong: Mutex<Vec<String>>,
    /// Scenarios, with the kinds of calls that they do not make.
    never: Mutex<BTreeSet<(&'static str, &'static str)>>,
}

/// Runs every series until the time is over, the `whole` ones for each `n`. The series are far apart in the table, so that a
/// short hunt has some of each scenario.
fn hunt(series: &[Series], whole: bool, end: Option<Instant>) -> Found {
    let (at, found) = (AtomicUsize::new(0), Found::default());
    let numbers: Vec<usize> = (0..SCATTER).flat_map(|first| (first..series.len()).step_by(SCATTER)).collect();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let in_time = || end.is_none_or(|end| Instant::now() < end);
                while let Some(number) = numbers.get(at.fetch_add(1, Ordering::Relaxed)).filter(|_| in_time())
                {
                    pursue(&series[*number], whole, &found);
                }
            });
        }
    });
    found
}

fn pursue(series: &Series, whole: bool, found: &Found) {
    let made = (series.scenario, series.kind.short());
    found.series.fetch_add(1, Ordering::Relaxed);
    if found.never.lock().unwrap().contains(&made) {
        return;
    }
    let alone = (!whole && series.name() == SHORTAGE.0).then_some(SHORTAGE.1);
    let mut next = alone.or(Some(1));
    while let Some(nth) = next {
        let run = series.run(nth, !whole || series.takes_long());
        found.runs.fetch_add(run.rounds, Ordering::Relaxed);
        if run.nth == 1 && run.next.is_none() {
            found.never.lock().unwrap().insert(made);
        }
        if let Some(problem) = run.problem {
            let line = format!("{} nth={}: {problem}", series.name(), run.nth);
            eprintln!("{line}");
            found.wrong.lock().unwrap().push(line);
        }
        next = run.next.filter(|_| alone.is_none());
    }
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
    let seconds =
        std::env::var("RINGBELL_NTH").ok().map(|seconds| seconds.parse().expect("RINGBELL_NTH: seconds"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let whole = only.is_some() || end.is_some();
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
            let name = series.name();
            ALWAYS.contains(&name.as_str())
                || name == SHORTAGE.0
                || (number % stride == 0 && !series.takes_long())
        });
        // It waits while the others run.
        series.sort_by_key(|series| series.name() != SHORTAGE.0);
    }
    assert!(!series.is_empty(), "no series has {only:?} in its name");
    let kinds: BTreeSet<&str> = series.iter().map(|series| series.kind.short()).collect();
    assert!(whole || kinds.len() >= KINDS_IN_SAMPLE, "the sample has too few kinds: {kinds:?}");
    let found = hunt(&series, whole, end);
    let (tried, runs, wrong) =
        (found.series.into_inner(), found.runs.into_inner(), found.wrong.into_inner().unwrap());
    let (all, kinds) = (series.len(), kinds.len());
    println!("{runs} runs of {tried} of {all} series of {kinds} kinds, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A series has more than one run if a call failed. A scenario does not make every kind of call.
    assert!(only.is_some() || runs > tried, "no call has failed");
}
