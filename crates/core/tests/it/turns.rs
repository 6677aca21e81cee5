//! Holders that stand still, parents of forked children that are killed, and a lost directory: for everything that is taken in
//! turns besides locks, whose tests are in `sync`.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Place, Role, listen, lose, my_role, open, say, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork};
use ringbell::bus::Bus;
use ringbell::state::{StateNotice, StateOptions, StateReaderOptions};
use ringbell::sync::{AtomicFlag, Lock, Semaphore, ShardedMutex};
use ringbell::topic::EndReason;

const SOON: Duration = Duration::from_millis(50);

struct Things {
    lock: Lock,
    shared: Lock,
    semaphore: Semaphore,
    mutex: ShardedMutex,
    flag: AtomicFlag,
}

impl Things {
    fn open(bus: &Bus) -> Things {
        Things {
            lock: bus.lock("lock").unwrap(),
            shared: bus.lock("shared").unwrap(),
            semaphore: bus.semaphore("semaphore", 2).unwrap(),
            mutex: bus.sharded_mutex("mutex", 4).unwrap(),
            flag: bus.flag("flag").unwrap(),
        }
    }

    /// Nothing of it can be had.
    fn are_held(&self) {
        assert!(self.lock.try_lock().unwrap().is_none());
        assert!(self.shared.try_lock().unwrap().is_none());
        assert!(self.shared.try_lock_shared().unwrap().is_some());
        assert!(self.semaphore.try_acquire(1).unwrap().is_none());
        assert!(self.mutex.try_lock(b"key").unwrap().is_none());
        assert!(self.flag.get().unwrap());
    }
}

/// Holds everything there is. `fork`: it has a child that lives on.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    let things = Things::open(&bus);
    let _alone = (things.lock.lock().unwrap(), things.mutex.lock(b"key").unwrap());
    let _counted = (things.shared.lock_shared().unwrap(), things.semaphore.acquire(2).unwrap());
    things.flag.set().unwrap();
    let mut state = bus.state("state", StateOptions::default()).unwrap();
    state.set(b"value").unwrap();
    if role == "fork" {
        // SAFETY: the child sleeps and ends, and does nothing else.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // An alarm is not inherited.
                nix::unistd::alarm::set(600);
                loop {
                    nix::unistd::pause();
                }
            }
            ForkResult::Parent { child } => say(&child.to_string()),
        }
    } else {
        say("held");
    }
    listen();
}

#[test]
fn holders_that_stand_still_keep_what_they_hold() {
    let place = Place::new();
    let bus = place.bus();
    let things = Things::open(&bus);
    let mut holder = Role::start("hold", &place.path, &[]);
    assert_eq!(holder.heard(), "held");
    holder.stop();
    things.are_held();
    let waits: [(&str, &dyn Fn() -> Option<ringbell::Error>); 5] = [
        ("lock", &|| things.lock.lock_timeout(SOON).err()),
        ("shared", &|| things.shared.lock_timeout(SOON).err()),
        ("semaphore", &|| things.semaphore.acquire_timeout(1, SOON).err()),
        ("keys", &|| things.mutex.with_keys(["other", "key"], Some(SOON)).err()),
        ("flag", &|| things.flag.wait_for(false, Some(SOON)).err()),
    ];
    for (what, wait) in waits {
        let begun = Instant::now();
        let error = wait().unwrap_or_else(|| panic!("{what} was stolen"));
        assert!(error.code() == "ERR_RINGBELL_TIMEOUT" && begun.elapsed() >= SOON, "{what}: {error}");
    }
    assert_eq!(bus.state("state", StateOptions::default()).unwrap_err().code(), "ERR_RINGBELL_REFUSED");
    let mut reader = bus.watch_state("state", StateReaderOptions::default()).unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(reader.latest().unwrap().unwrap().data, b"value");
    holder.signal(Signal::SIGCONT);
    things.are_held();
    holder.succeed();
    assert!(!things.lock.lock_timeout(PATIENCE).unwrap().abandoned(), "it gave it back");
    drop(things.semaphore.acquire_timeout(2, PATIENCE).unwrap());
}

/// However little time a caller has: the dead hold nothing. Nobody else waits here, who would find them.
#[test]
fn a_dead_holder_is_found_in_no_time() {
    let place = Place::new();
    let bus = place.bus();
    let things = Things::open(&bus);
    let mut holder = Role::start("hold", &place.path, &[]);
    assert_eq!(holder.heard(), "held");
    things.are_held();
    holder.kill();
    let none = Duration::ZERO;
    assert!(things.lock.lock_timeout(none).unwrap().abandoned());
    assert!(things.mutex.with_keys(["other", "key"], Some(none)).unwrap().abandoned());
    // Another table each, so that nobody has looked yet.
    drop((things.shared.lock_timeout(none).unwrap(), things.semaphore.acquire_timeout(2, none).unwrap()));
}

/// What a process holds is its own: a forked child that outlives it keeps nothing of that.
#[test]
fn a_child_of_a_killed_holder_holds_nothing() {
    let place = Place::new();
    let bus = place.bus();
    let things = Things::open(&bus);
    let mut reader = bus.watch_state("state", StateReaderOptions::default()).unwrap();
    let mut parent = Role::start("fork", &place.path, &[]);
    let child = Pid::from_raw(parent.heard().parse().unwrap());
    things.are_held();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    std::thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| things.lock.lock_timeout(PATIENCE).unwrap().abandoned()),
            scope.spawn(|| things.mutex.lock_timeout(b"key", PATIENCE).unwrap().abandoned()),
            scope.spawn(|| !things.shared.lock_timeout(PATIENCE).unwrap().abandoned()),
            scope.spawn(|| !things.semaphore.acquire_timeout(2, PATIENCE).unwrap().abandoned()),
        ];
        until("all wait", || !things.lock.query().unwrap().1.is_empty());
        parent.kill();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
    });
    until("the writer has ended", || {
        let ended =
            |notice: &StateNotice| matches!(notice, StateNotice::Ended { reason: EndReason::Died, .. });
        reader.notices().unwrap().iter().any(ended)
    });
    drop(bus.state("state", StateOptions::default()).unwrap());
    assert_eq!(kill(child, None), Ok(()), "the child lived all the time");
    kill(child, Signal::SIGKILL).unwrap();
}

#[test]
fn one_that_comes_after_the_directory_was_lost_finds_the_same() {
    let place = Place::new();
    let mut holder = Role::start("hold", &place.path, &[]);
    assert_eq!(holder.heard(), "held");
    let bus = place.bus();
    let things = Things::open(&bus);
    for _ in 0..2 {
        lose(&place.path);
        let newcomer = place.bus();
        let others = Things::open(&newcomer);
        others.are_held();
        others.flag.clear().unwrap();
        assert!(!things.flag.get().unwrap());
        things.flag.set().unwrap();
    }
    things.are_held();
    let waiting = std::thread::spawn({
        let semaphore = things.semaphore.clone();
        move || semaphore.acquire_timeout(2, PATIENCE).map(drop)
    });
    holder.kill();
    waiting.join().unwrap().unwrap();
    assert!(things.mutex.lock_timeout(b"key", PATIENCE).unwrap().abandoned());
}
