//! Nobody who holds something or waits for something makes a system call while nothing happens: locks, semaphores, flags,
//! sharded mutexes, claims, states and states with keys, each in two processes that are at rest.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{PATIENCE, Place, Role, listen, my_role, open, say, until};
use nix::unistd::Pid;
use ringbell::bus::Bus;
use ringbell::state::{StateOptions, StateReaderOptions};
use ringbell::sync::{Mode, Outcome, Requests};

/// How long nobody may stir.
const QUIET: Duration = Duration::from_secs(5);

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "holder" => hold(&bus),
        "waiter" => wait(&bus),
        other => panic!("no role {other}"),
    }
}

/// Holds everything there is.
fn hold(bus: &Bus) {
    let (lock, shared) = (bus.lock("lock").unwrap(), bus.lock("shared").unwrap());
    let semaphore = bus.semaphore("semaphore", 2).unwrap();
    let mutex = bus.sharded_mutex("mutex", 4).unwrap();
    let _flag = bus.flag("flag").unwrap();
    let _held = (lock.lock().unwrap(), shared.lock_shared().unwrap(), semaphore.acquire(2).unwrap());
    let _shard = mutex.lock(b"key").unwrap();
    let _claim = bus.claim("claim", Some(PATIENCE)).unwrap();
    let mut state = bus.state("state", StateOptions::default()).unwrap();
    state.set(b"value").unwrap();
    let mut keyed = bus.keyed_state("keyed", StateOptions::default()).unwrap();
    keyed.set("key", b"value").unwrap();
    say("ready");
    listen();
}

/// Waits for everything that the other one holds, by threads that block and by requests.
fn wait(bus: &Bus) {
    let forever = || -> std::thread::Builder { std::thread::Builder::new().name("waits".into()) };
    let (lock, shared) = (bus.lock("lock").unwrap(), bus.lock("shared").unwrap());
    let semaphore = bus.semaphore("semaphore", 2).unwrap();
    let mutex = bus.sharded_mutex("mutex", 4).unwrap();
    let flag = bus.flag("flag").unwrap();
    let requests = Requests::new().unwrap();
    for outcome in [
        requests.lock(&lock, Mode::Shared),
        requests.acquire(&semaphore, 1),
        requests.wait_for(&flag, true),
        requests.with_keys(&mutex, ["key"]),
    ] {
        assert!(matches!(outcome.unwrap(), Outcome::Later(_)));
    }
    let _claiming = bus.claiming("claim", true).unwrap();
    let mut watch = bus.claims().watch("claim").unwrap();
    assert!(watch.next(Some(PATIENCE)).unwrap().is_some());
    let mut state = bus.watch_state("state", StateReaderOptions::default()).unwrap();
    assert!(state.wait(Some(PATIENCE)).unwrap());
    let mut keyed = bus.watch_keyed_state("keyed", StateReaderOptions::default()).unwrap();
    assert!(keyed.wait(Some(PATIENCE)).unwrap());
    assert_eq!(keyed.changes().unwrap(), ["key"]);
    forever().spawn(move || lock.lock().map(drop)).unwrap();
    forever().spawn(move || shared.lock().map(drop)).unwrap();
    forever().spawn(move || semaphore.acquire(1).map(drop)).unwrap();
    forever().spawn(move || mutex.lock(b"key").map(drop)).unwrap();
    forever().spawn(move || flag.wait_for(true, None)).unwrap();
    forever().spawn(move || watch.next(None)).unwrap();
    forever().spawn(move || state.wait(None)).unwrap();
    forever().spawn(move || keyed.wait(None)).unwrap();
    say("ready");
    listen();
}

/// How often each thread of a process was switched to. A thread that makes a system call is awake, and a thread that sleeps
/// must be switched to before it is.
fn switches(pid: Pid) -> BTreeMap<String, String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let counts = threads.map(|thread| {
        let path = thread.unwrap().path();
        // The thread may have just ended: then it has no counts, and nobody is at rest yet.
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let counts: String = status.lines().filter(|line| line.contains("ctxt_switches")).collect();
        (path.display().to_string(), counts)
    });
    counts.collect()
}

#[test]
fn holders_and_waiters_make_no_system_call() {
    let place = Place::watched(120);
    let mut roles = ["holder", "waiter"].map(|role| {
        let mut role = Role::start(role, &place.path, &[]);
        assert_eq!(role.heard(), "ready");
        role
    });
    let all = || roles.each_ref().map(|role| switches(role.pid()));
    // What has just happened is followed by a second of looks.
    let mut before = all();
    until("five quiet seconds", || {
        std::thread::sleep(QUIET);
        let after = all();
        let quiet = after == before;
        before = after;
        quiet
    });
    // The threads of the tests of this program and of the bus, one for the requests of each name, and those that block.
    assert!(before[1].len() >= 2 + 4 + 8, "{before:?}");
    assert!(before.iter().flatten().all(|(_, counts)| !counts.is_empty()));
    for role in &mut roles {
        role.tell("enough");
    }
}
