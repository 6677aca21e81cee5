//! Death: a process that watches hears of it at once; what it left is removed by anyone, and nothing that lives is.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::*;
use nix::sys::signal::Signal;
use ringbell::bus::{Announcement, Bus, Filter};

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "announce" => {
            let _announced = bus.announce(Announcement::new("mortal")).unwrap();
            say("announced");
            listen();
        }
        // Announces, and leaves a forked child behind that outlives it.
        "fork" => {
            let announced = bus.announce(Announcement::new("mortal")).unwrap();
            // SAFETY: the child makes no call but sleep and _exit.
            #[allow(unsafe_code)]
            let child = unsafe { libc_fork() };
            if child == 0 {
                std::thread::sleep(Duration::from_secs(30));
                std::process::abort();
            }
            say(&child.to_string());
            listen();
            drop(announced);
        }
        // Uses what it inherited, as a child that must not.
        "fork-use" => {
            let announced = bus.announce(Announcement::new("mortal")).unwrap();
            let mut watch = bus.watch(Filter::All).unwrap();
            watch.next(Some(PATIENCE)).unwrap().unwrap();
            // SAFETY: the bus thread holds no lock that the child takes: the watch is quiet.
            #[allow(unsafe_code)]
            let child = unsafe { libc_fork() };
            if child == 0 {
                let codes = [
                    bus.find("mortal").unwrap_err().code(),
                    bus.announce(Announcement::new("x")).unwrap_err().code(),
                    announced.update(Default::default()).unwrap_err().code(),
                ];
                drop((announced, watch, bus));
                std::process::exit(if codes == ["ERR_RINGBELL_CLOSED"; 3] { 0 } else { 1 });
            }
            let status = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).unwrap();
            let exited = matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0));
            let there = path.join(announced.record().file_name()).exists();
            say(&format!("{exited} {there}"));
        }
        "churn" => {
            say("going");
            loop {
                let announced: Vec<_> =
                    (0..3).map(|_| bus.announce(Announcement::new("churn")).unwrap()).collect();
                announced[0].update(Default::default()).unwrap();
                drop(announced);
            }
        }
        _ => unreachable!(),
    }
}

#[allow(unsafe_code)]
unsafe fn libc_fork() -> i32 {
    // SAFETY: the caller's, as fork(2) asks.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Parent { child } => child.as_raw(),
        nix::unistd::ForkResult::Child => 0,
    }
}

fn watched_death(bus: &Bus, place: &Place, kill: impl FnOnce(&mut Role)) {
    let mut watch = bus.watch(Filter::All).unwrap();
    let mut owner = Role::start("announce", &place.path, &[]);
    owner.heard();
    assert_eq!(next(&mut watch), ("added", "mortal".into()));
    kill(&mut owner);
    assert_eq!(next(&mut watch), ("removed", "mortal".into()));
    assert!(place.names().is_empty(), "the watcher cleans up");
    assert_eq!(bus.find("mortal").unwrap(), None);
}

#[test]
fn a_watcher_hears_of_a_kill_and_cleans_up() {
    let place = Place::new();
    watched_death(&place.bus(), &place, Role::kill);
    watched_death(&place.polling(), &place, Role::kill);
}

#[test]
fn a_zombie_is_dead() {
    let place = Place::new();
    // Killed, and not waited for until the role is dropped.
    watched_death(&place.bus(), &place, |owner| owner.signal(Signal::SIGKILL));
}

#[test]
fn a_stopped_process_is_alive() {
    let place = Place::new();
    let bus = place.bus();
    let owner = {
        let mut owner = Role::start("announce", &place.path, &[]);
        owner.heard();
        owner
    };
    owner.signal(Signal::SIGSTOP);
    let mut watch = bus.watch(Filter::All).unwrap();
    assert_eq!(next(&mut watch), ("added", "mortal".into()));
    assert_eq!(bus.gc().unwrap().alive, 1);
    assert_eq!(watch.next(Some(Duration::from_millis(50))).unwrap(), None);
    owner.signal(Signal::SIGKILL);
    assert_eq!(next(&mut watch), ("removed", "mortal".into()));
}

#[test]
fn the_dead_are_never_reported_as_present() {
    let place = Place::new();
    let mut owner = Role::start("announce", &place.path, &[]);
    owner.heard();
    owner.kill();
    assert_eq!(place.names().len(), 1);
    assert!(place.bus().list().unwrap().is_empty());
    let bus = place.bus();
    let mut watch = bus.watch(Filter::All).unwrap();
    assert_eq!(watch.next(Some(Duration::from_millis(50))).unwrap(), None);
    until("the record is gone", || place.names().is_empty());
}

#[test]
fn a_record_dies_with_its_process_and_not_with_a_forked_child() {
    let place = Place::new();
    let bus = place.bus();
    let mut watch = bus.watch(Filter::All).unwrap();
    let mut owner = Role::start("fork", &place.path, &[]);
    let child: i32 = owner.heard().parse().unwrap();
    assert_eq!(next(&mut watch), ("added", "mortal".into()));
    owner.signal(Signal::SIGKILL);
    assert_eq!(next(&mut watch), ("removed", "mortal".into()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
}

#[test]
fn a_forked_child_gets_an_error_and_removes_nothing() {
    let place = Place::new();
    let mut parent = Role::start("fork-use", &place.path, &[]);
    assert_eq!(parent.heard(), "true true");
}

#[test]
fn without_a_usable_pid_the_lock_alone_tells() {
    let place = Place::new();
    let bus = place.bus();
    // A record as from another pid namespace: our own pid, somebody else's process, a lock that is held here.
    let sample = bus.announce(Announcement::new("far")).unwrap();
    let mut record = serde_json::to_value(&*sample.record()).unwrap();
    drop(sample);
    record["pidNamespace"] = 1.into();
    let path = place.path.join(format!("far@{}.json", record["id"].as_str().unwrap()));
    let staged = place.folder.path().join("staged");
    fs::write(&staged, serde_json::to_vec(&record).unwrap()).unwrap();
    let owner = fs::OpenOptions::new().read(true).write(true).open(&staged).unwrap();
    lock(&owner);
    fs::rename(&staged, &path).unwrap();
    let mut watch = bus.watch(Filter::All).unwrap();
    assert_eq!(next(&mut watch), ("added", "far".into()));
    assert_eq!((bus.watching().pidfds, bus.watching().probed), (0, 1));
    drop(owner);
    assert_eq!(next(&mut watch), ("removed", "far".into()));
    assert!(!path.exists());
}

fn lock(file: &fs::File) {
    let range =
        nix::libc::flock { l_type: nix::libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
}

#[test]
fn any_number_of_gcs_lose_no_living_record() {
    let place = Place::new();
    let bus = place.bus();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let bus = place.bus();
                while !done.load(Ordering::Relaxed) {
                    bus.gc().unwrap();
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut churn = Role::start("churn", &place.path, &[]);
                churn.heard();
                churn.kill();
            }
        });
        for round in 0..150 {
            let announced = bus.announce(Announcement::new("living")).unwrap();
            let path = place.path.join(announced.record().file_name());
            for _ in 0..5 {
                announced.update([("round".to_owned(), round.into())].into_iter().collect()).unwrap();
                assert!(path.exists(), "a living record is lost");
            }
            drop(announced);
            assert!(!path.exists());
        }
        done.store(true, Ordering::Relaxed);
    });
    bus.gc().unwrap();
    assert!(place.names().is_empty());
}
