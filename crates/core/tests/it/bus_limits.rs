//! Kernel limits: inotify refused, its queue overflowing, descriptors running out; and nothing left behind afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::harness::*;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use ringbell::bus::{Announcement, Filter};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// Answers a system call with an errno, in all threads that this one starts.
fn refuse(call: i64, errno: i32) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    match role.as_str() {
        "no-inotify" => refuse(nix::libc::SYS_inotify_init1, nix::libc::EMFILE),
        "no-pidfd" => refuse(nix::libc::SYS_pidfd_open, nix::libc::ENOSYS),
        _ => {}
    }
    if role == "rounds" {
        return rounds_role(&path);
    }
    let bus = open(&path);
    if role == "announce" {
        let _announced = bus.announce(Announcement::new("mortal")).unwrap();
        say("announced");
        listen();
        return;
    }
    let mut watch = bus.watch(Filter::All).unwrap();
    if role == "starved" {
        assert_eq!(next(&mut watch).0, "added");
        let limits = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let free = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
        setrlimit(Resource::RLIMIT_NOFILE, free, limits.1).unwrap();
        say("starving");
        listen();
        let code = bus.announce(Announcement::new("mine")).unwrap_err().code();
        say(&format!("{code} {}", watch.next(None).unwrap_err().code()));
        listen();
        setrlimit(Resource::RLIMIT_NOFILE, limits.0, limits.1).unwrap();
    }
    if role == "stopped" {
        assert_eq!(next(&mut watch).0, "added");
        say("ready");
        listen();
        let mut view = std::collections::BTreeSet::new();
        until("the view is the directory again", || {
            while let Some(event) = watch.try_next() {
                match describe(&event) {
                    ("removed", name) => {
                        assert!(view.remove(&name) || name == "first", "{name} removed twice")
                    }
                    ("added", name) => assert!(view.insert(name), "added twice"),
                    other => panic!("{other:?}"),
                }
            }
            view.len() == 1
        });
        say(&format!("{view:?} {}", bus.list().unwrap().len()));
        return;
    }
    if role != "starved" {
        say(bus.watching().mode);
    }
    loop {
        let (word, service) = next(&mut watch);
        say(&format!("{word} {service}"));
    }
}

fn follows_all_the_same(role: &str, mode: &str) {
    let place = Place::new();
    let mut watcher = Role::start(role, &place.path, &[]);
    assert_eq!(watcher.heard(), mode);
    let bus = place.bus();
    let announced = bus.announce(Announcement::new("steady")).unwrap();
    assert_eq!(watcher.heard(), "added steady");
    announced.update([("x".to_owned(), 1.into())].into_iter().collect()).unwrap();
    assert_eq!(watcher.heard(), "updated steady");
    drop(announced);
    assert_eq!(watcher.heard(), "removed steady");
    let mut mortal = Role::start("announce", &place.path, &[]);
    mortal.heard();
    assert_eq!(watcher.heard(), "added mortal");
    mortal.kill();
    assert_eq!(watcher.heard(), "removed mortal");
    assert!(place.names().is_empty());
}

#[test]
fn where_inotify_is_refused_it_polls() {
    follows_all_the_same("no-inotify", "polling");
}

#[test]
fn where_there_is_no_pidfd_it_probes() {
    follows_all_the_same("no-pidfd", "inotify");
}

#[test]
fn an_overflowed_queue_is_made_good_by_a_scan() {
    let place = Place::new();
    let bus = place.bus();
    let first = bus.announce(Announcement::new("first")).unwrap();
    let mut watcher = Role::start("stopped", &place.path, &[]);
    watcher.heard();
    watcher.signal(Signal::SIGSTOP);
    // Each file is two events, and 16,384 fit.
    for number in 0..9_000 {
        let path = place.path.join(format!("noise-{number}"));
        fs::write(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
    }
    let _second = bus.announce(Announcement::new("second")).unwrap();
    drop(first);
    watcher.signal(Signal::SIGCONT);
    watcher.tell("go");
    assert_eq!(watcher.heard(), "{\"second\"} 1");
}

/// Uses the bus again and again. In a process of its own, because descriptors and threads are counted.
fn rounds_role(path: &Path) {
    let use_it = |polling: bool| {
        let bus = if polling { polling_at(path) } else { open(path) };
        let other = open(path);
        let mut watch = bus.watch(Filter::All).unwrap();
        let announced = other.announce(Announcement::new("leak")).unwrap();
        assert_eq!(next(&mut watch).0, "added");
        announced.update([("x".to_owned(), 1.into())].into_iter().collect()).unwrap();
        assert_eq!(next(&mut watch).0, "updated");
        assert!(bus.find("leak").unwrap().is_some());
        if polling {
            drop((bus, other));
            drop((watch, announced));
        } else {
            drop(announced);
            assert_eq!(next(&mut watch).0, "removed");
        }
    };
    // What a process opens once is open afterwards.
    (0..2).for_each(|round| use_it(round % 2 == 0));
    let before = resources();
    (0..40).for_each(|round| use_it(round % 2 == 0));
    // A thread that was joined may still be listed for a moment.
    until("no growth", || resources() <= before);
    say("done");
}

#[test]
fn nothing_leaks() {
    let place = Place::new();
    assert_eq!(Role::start("rounds", &place.path, &[]).heard(), "done");
    assert!(place.names().is_empty());
}

#[test]
fn descriptor_exhaustion_is_a_typed_error_and_loses_nothing() {
    let place = Place::new();
    let bus = place.bus();
    let steady = bus.announce(Announcement::new("steady")).unwrap();
    let mut starved = Role::start("starved", &place.path, &[]);
    assert_eq!(starved.heard(), "starving");
    steady.update([("x".to_owned(), 1.into())].into_iter().collect()).unwrap();
    let _late = bus.announce(Announcement::new("late")).unwrap();
    starved.tell("look");
    assert_eq!(starved.heard(), "ERR_RINGBELL_RESOURCE ERR_RINGBELL_RESOURCE");
    starved.tell("eat");
    let mut both = [starved.heard(), starved.heard()];
    both.sort();
    assert_eq!(both, ["added late", "updated steady"]);
}
