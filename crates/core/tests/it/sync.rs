//! Locks and semaphores between processes that are killed, stopped, forked, of another user, and whose bus directory is lost.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    PATIENCE, Place, Role, become_user, listen, lose, my_role, open, resources, say, until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid};
use ringbell::acquire::Rung;
use ringbell::bus::{Announcement, Bus, BusOptions, Group, Record};
use ringbell::sync::{Mode, Outcome, Requests};

/// How long a worker waits for its turn. Nothing that dies may make it wait so long.
const TURN: Duration = Duration::from_secs(60);
const WORKERS: usize = 4;
const PERMITS: u32 = 3;

/// Words that all workers of a test share, beside what is tested.
struct Board {
    map: memmap2::MmapRaw,
    _file: File,
}

impl Board {
    fn open(folder: &Path) -> Board {
        let path = folder.join("board");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(4096).unwrap();
        Board { map: memmap2::MmapOptions::new().len(4096).map_raw(&file).unwrap(), _file: file }
    }

    /// 0: the pid that is inside. From 8 on: for each worker its pid, a count of changes, and its permits.
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < 512);
        // SAFETY: within the mapping and aligned; all access is atomic.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(index) }
    }

    fn uses(&self) -> Vec<u64> {
        (0..WORKERS).map(|worker| self.word(8 + worker).load(Ordering::SeqCst)).collect()
    }
}

/// A zombie is dead.
fn lives(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with(['Z', 'X']))
}

fn with_permits(pid: u64, change: u64, permits: u32) -> u64 {
    pid << 32 | (change & 0xff_ffff) << 8 | u64::from(permits)
}

/// How many of these permits were used by processes that lived. A process that is being killed has no lock any more while
/// it still looks alive. So a process counts once its word has changed since: then it went on.
fn used_by_living(board: &Board, seen: &[u64]) -> u64 {
    let mut used = 0;
    for (worker, word) in seen.iter().enumerate() {
        let own = word >> 32 == u64::from(std::process::id());
        let changed = || board.word(8 + worker).load(Ordering::SeqCst) != *word;
        until("a worker goes on or is dead", || own || changed() || !lives(word >> 32));
        if own || (changed() && board.word(8 + worker).load(Ordering::SeqCst) >> 32 == word >> 32) {
            used += word & 0xff;
        }
    }
    used
}

fn work(bus: &Bus, path: &Path, worker: usize) {
    let board = Board::open(path.parent().unwrap());
    let (lock, semaphore) = (bus.lock("work").unwrap(), bus.semaphore("work", PERMITS).unwrap());
    let pid = u64::from(std::process::id());
    let mut change = 0;
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string().replace('\n', " "))));
    say("ready");
    for turn in 0u64.. {
        if turn % 5 == 4 {
            let guard = lock.lock_shared_timeout(TURN).unwrap();
            let inside = board.word(0).load(Ordering::SeqCst);
            until("the one inside is dead", || inside == 0 || !lives(inside));
            drop(guard);
        } else {
            let guard = lock.lock_timeout(TURN).unwrap();
            let before = board.word(0).swap(pid, Ordering::SeqCst);
            until("the one inside is dead", || before == 0 || !lives(before));
            assert!(before == 0 || guard.abandoned(), "{before} died inside, and nobody says so");
            let left = board.word(0).swap(0, Ordering::SeqCst);
            assert_eq!(left, pid, "somebody came in meanwhile");
            drop(guard);
        }
        let count = (turn % 2) as u32 + 1;
        let permits = semaphore.acquire_timeout(count, TURN).unwrap();
        change += 1;
        board.word(8 + worker).store(with_permits(pid, change, count), Ordering::SeqCst);
        let seen = board.uses();
        if seen == board.uses() {
            // All of this was so at one moment.
            let total: u64 = seen.iter().map(|word| word & 0xff).sum();
            let used = if total > PERMITS.into() { used_by_living(&board, &seen) } else { total };
            assert!(used <= PERMITS.into(), "{used} permits are used");
        }
        change += 1;
        board.word(8 + worker).store(with_permits(pid, change, 0), Ordering::SeqCst);
        drop(permits);
    }
}

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let (what, detail) = role.split_once(' ').unwrap_or((&role, ""));
    match what {
        "work" => work(&open(&path), &path, detail.parse().unwrap()),
        "hold" => {
            let bus = open(&path);
            let lock = bus.lock("a").unwrap();
            let guard = lock.lock_timeout(TURN).unwrap();
            say(if guard.abandoned() { "abandoned" } else { "held" });
            while listen().is_some() {}
        }
        "fork" => fork_role(&path),
        "member" => {
            let bus = open(&path);
            let lock = bus.lock("a").unwrap();
            let _beside = bus.announce(Announcement::new("beside")).unwrap();
            say("open");
            let is_cut_off = || lock.try_lock().is_err_and(|error| error.code() == "ERR_RINGBELL_REFUSED");
            assert_eq!(listen().as_deref(), Some("hear"));
            until("it hears that it was cut off", is_cut_off);
            say("cut off");
            assert_eq!(listen().as_deref(), Some("open again"));
            let again = bus.lock("a").unwrap();
            say(if again.try_lock().unwrap().is_some() { "free" } else { "held" });
            assert!(is_cut_off(), "it is for ever");
        }
        "rest" => {
            let buses: Vec<Bus> = (0..12).map(|_| open(&path)).collect();
            let locks: Vec<_> = buses.iter().map(|bus| bus.lock("a").unwrap()).collect();
            let held = locks[0].lock().unwrap();
            let before = resources().0;
            locks[1].lock_timeout(Duration::from_millis(1)).unwrap_err();
            locks[1].lock_shared_timeout(Duration::from_millis(1)).unwrap_err();
            say("waited");
            until("nobody is watched any more", || resources().0 <= before);
            // And again.
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| locks[1].lock_timeout(PATIENCE).map(drop));
                until("the others are watched", || resources().0 > before + 10);
                drop(held);
                waits.join().unwrap().unwrap();
            });
            say("watched");
        }
        "stranger" => {
            let gid: u32 = detail.parse().unwrap();
            become_user(40_009, &[Gid::from_raw(gid)]);
            let options =
                BusOptions { path: Some(path), group: Some(Group::Id(gid)), ..BusOptions::default() };
            let error = Bus::open(options).unwrap().lock("a").unwrap_err();
            say(&format!("{} {error}", error.code()));
        }
        other => panic!("no role {other}"),
    }
}

/// Kills a worker, which must not have failed before: it says so before it writes anything else.
fn end(role: &mut Role) {
    role.child.kill().unwrap();
    role.child.wait().unwrap();
    assert_eq!(role.rest(), [""; 0], "a worker has failed");
}

/// `RINGBELL_KILLS` says how many.
#[test]
fn workers_killed_at_random_leave_nothing_behind() {
    let kills = std::env::var("RINGBELL_KILLS").map_or(150, |kills| kills.parse::<u64>().unwrap());
    let place = Place::watched(120 + kills);
    let start = |worker: usize| {
        let mut role = Role::start(&format!("work {worker}"), &place.path, &[]);
        assert_eq!(role.heard(), "ready");
        role
    };
    let mut workers: Vec<Role> = (0..WORKERS).map(start).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let worker = (random >> 33) as usize % WORKERS;
        // By SIGKILL, wherever it is: a new one took milliseconds to come, so the others are at work.
        let mut role = workers.remove(worker);
        end(&mut role);
        workers.insert(worker, start(worker));
    }
    for role in &mut workers {
        end(role);
    }
    // The table died with the last one: nothing is left of it.
    let bus = place.bus();
    let (lock, semaphore) = (bus.lock("work").unwrap(), bus.semaphore("work", PERMITS).unwrap());
    drop((lock.try_lock().unwrap().unwrap(), semaphore.try_acquire(PERMITS).unwrap().unwrap()));
    drop((lock, semaphore));
    bus.gc().unwrap();
    assert_eq!(place.names(), [".sync"]);
}

#[test]
fn the_next_one_learns_that_the_holder_died() {
    let place = Place::new();
    let bus = place.bus();
    let (lock, semaphore) = (bus.lock("a").unwrap(), bus.semaphore("a", 1).unwrap());
    let mut holder = Role::start("hold", &place.path, &[]);
    assert_eq!(holder.heard(), "held");
    let waiting = std::thread::spawn({
        let lock = lock.clone();
        move || lock.lock_timeout(PATIENCE).unwrap().abandoned()
    });
    until("it waits", || lock.query().unwrap().1.len() == 1);
    assert_eq!(lock.query().unwrap().0[0].pid, holder.child.id());
    holder.child.kill().unwrap();
    assert!(waiting.join().unwrap(), "it was not told");
    assert!(!lock.lock().unwrap().abandoned(), "it is told once");
    assert!(!lock.lock_shared().unwrap().abandoned());
    // Somebody who does not wait finds a dead holder, too.
    let mut holder = Role::start("hold", &place.path, &[]);
    assert_eq!(holder.heard(), "held");
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    // Those that share it are told, too, until somebody had it alone.
    let both = [lock.try_lock_shared().unwrap().unwrap(), lock.lock_shared().unwrap()];
    assert!(both.iter().all(|guard| guard.abandoned()));
    drop(both);
    assert!(lock.try_lock().unwrap().unwrap().abandoned());
    assert!(!lock.lock_shared().unwrap().abandoned());
    assert!(semaphore.try_acquire(1).unwrap().is_some());
}

#[test]
fn a_holder_that_stands_still_keeps_what_it_holds() {
    let place = Place::new();
    let bus = place.bus();
    let mut holder = Role::start("hold", &place.path, &[]);
    assert_eq!(holder.heard(), "held");
    let pid = Pid::from_raw(holder.child.id() as i32);
    kill(pid, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    // The memory comes without its help: by pidfd_getfd or /proc.
    let lock = bus.lock("a").unwrap();
    let error = lock.lock_timeout(Duration::from_millis(50)).unwrap_err();
    assert!(error.code() == "ERR_RINGBELL_TIMEOUT" && begun.elapsed() >= Duration::from_millis(50));
    assert!(lock.try_lock().unwrap().is_none());
    kill(pid, Signal::SIGCONT).unwrap();
    holder.tell("go on");
    drop(holder);
    assert!(lock.lock_timeout(PATIENCE).unwrap().abandoned());
}

#[test]
fn the_directory_is_lost_under_a_holder_and_waiters() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let (first, second) = (one.lock("a").unwrap(), other.lock("a").unwrap());
    let guard = first.lock().unwrap();
    let waiting = std::thread::spawn(move || second.lock_timeout(PATIENCE).map(drop));
    until("it waits", || first.query().unwrap().1.len() == 1);
    lose(&place.path);
    // A newcomer finds the old members again, and not a lock of its own.
    let third = place.bus().lock("a").unwrap();
    assert!(third.try_lock().unwrap().is_none(), "two holders");
    let mut role = Role::start("hold", &place.path, &[]);
    until("it waits, too", || first.query().unwrap().1.len() == 2);
    drop(guard);
    waiting.join().unwrap().unwrap();
    assert_eq!(role.heard(), "held");
    assert!(third.try_lock().unwrap().is_none());
}

/// The tables that records on the bus tell of.
fn tables(bus: &Bus) -> HashSet<String> {
    let nonce = |record: Arc<Record>| record.sync.as_ref().map(|sync| sync.nonce.clone());
    bus.find_all("lock.a").unwrap().into_iter().filter_map(nonce).collect()
}

#[test]
fn a_member_that_stood_still_while_the_directory_was_made_again_is_cut_off() {
    let place = Place::watched(120);
    let mut old = Role::start("member", &place.path, &[]);
    assert_eq!(old.heard(), "open");
    old.stop();
    lose(&place.path);
    let bus = place.bus();
    let lock = bus.lock("a").unwrap();
    let guard = lock.lock().unwrap();
    let table = tables(&bus);
    old.signal(Signal::SIGCONT);
    old.tell("hear");
    assert_eq!(old.heard(), "cut off");
    // Its other record comes back each time that its registry announces again what is missing. The first time, that round may
    // have begun before.
    let beside = || place.names().into_iter().find(|name| name.starts_with("beside@"));
    for _ in 0..2 {
        until("its other record is there", || beside().is_some());
        std::fs::remove_file(place.path.join(beside().unwrap())).unwrap();
    }
    until("its other record is there", || beside().is_some());
    assert_eq!(tables(&bus), table, "the old table is announced beside the new one");
    for _ in 0..3 {
        assert!(place.bus().lock("a").unwrap().try_lock().unwrap().is_none(), "two holders");
    }
    drop(guard);
    drop(lock);
    // Nothing of it holds up those who open the name.
    let lock = bus.lock("a").unwrap();
    let _guard = lock.try_lock().unwrap().unwrap();
    old.tell("open again");
    assert_eq!(old.heard(), "held");
    old.succeed();
}

#[test]
fn a_member_whose_record_was_removed_is_not_passed_by() {
    let place = Place::new();
    let lock = place.bus().lock("a").unwrap();
    let guard = lock.lock().unwrap();
    for name in place.names().iter().filter(|name| name.starts_with("lock.a@")) {
        std::fs::remove_file(place.path.join(name)).unwrap();
    }
    let newcomer = place.bus().lock("a").unwrap();
    assert!(newcomer.try_lock().unwrap().is_none(), "two holders");
    drop(guard);
    assert!(newcomer.try_lock().unwrap().is_some());
}

/// In a process of its own, because a forked child also has what other tests opened.
fn fork_role(path: &Path) {
    use nix::sys::wait::{WaitStatus, waitpid};
    let (bus, other) = (open(path), open(path));
    let lock = bus.lock("a").unwrap();
    let guard = lock.lock().unwrap();
    // More than the member has places for.
    let requests = Requests::new().unwrap();
    for _ in 0..20 {
        assert!(matches!(requests.lock(&lock, Mode::Exclusive).unwrap(), Outcome::Later(_)));
    }
    // SAFETY: the child drops what it inherited and asks for an error, neither of which touches what other threads
    // may have locked, and then ends.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            drop(requests);
            drop(guard);
            let closed = lock.lock().is_err() && lock.try_lock().is_err() && lock.query().is_err();
            // SAFETY: ends the child without running anything of the parent's.
            unsafe { nix::libc::_exit(i32::from(!closed)) };
        }
        nix::unistd::ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
        }
    }
    let rival = other.lock("a").unwrap();
    assert!(rival.try_lock().unwrap().is_none(), "the child gave it back");
    drop(requests);
    drop(guard);
    assert!(rival.try_lock().unwrap().is_some());
    say("fine");
}

#[test]
fn a_forked_child_has_no_part_in_it() {
    let place = Place::new();
    assert_eq!(Role::start("fork", &place.path, &[]).heard(), "fine");
}

#[test]
fn after_the_last_wait_no_other_member_is_watched() {
    let place = Place::watched(120);
    let mut role = Role::start("rest", &place.path, &[]);
    assert_eq!(role.heard(), "waited");
    assert_eq!(role.heard(), "watched");
    role.succeed();
}

#[test]
fn every_rung_that_shares_memory_leads_to_the_same_lock() {
    let place = Place::new();
    let lock = place.bus().lock("a").unwrap();
    let guard = lock.lock().unwrap();
    let forced = |rung| Bus::open(BusOptions { acquire: Some(rung), ..place.options() }).unwrap();
    for rung in [Rung::Handshake, Rung::Direct, Rung::Stream] {
        let member = forced(rung).lock("a").unwrap();
        assert!(member.try_lock().unwrap().is_none(), "{rung}");
    }
    drop(guard);
    assert!(forced(Rung::Handshake).lock("a").unwrap().try_lock().unwrap().is_some());
}

#[test]
fn another_user_is_refused_and_told_why() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let gid = 40_123;
    let place = Place::new();
    std::os::unix::fs::chown(place.folder.path(), None, Some(gid)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.folder.path(), mode).unwrap();
    let bus = Bus::open(BusOptions { group: Some(Group::Id(gid)), ..place.options() }).unwrap();
    let lock = bus.lock("a").unwrap();
    let mut stranger = Role::start(&format!("stranger {gid}"), &place.path, &[]);
    let said = stranger.heard();
    assert!(said.starts_with("ERR_RINGBELL_NO_PERMISSION ") && said.contains("one user"), "{said}");
    drop(lock);
}

#[test]
fn a_closed_bus_ends_waits_and_keeps_newcomers_away_from_what_is_held() {
    let place = Place::new();
    let bus = place.bus();
    let lock = bus.lock("a").unwrap();
    let held = bus.lock("b").unwrap();
    let _guard = held.lock().unwrap();
    let rival = place.bus().lock("a").unwrap();
    let guard = rival.lock().unwrap();
    let waiting = std::thread::spawn({
        let lock = lock.clone();
        move || lock.lock().map(drop).unwrap_err()
    });
    until("it waits", || rival.query().unwrap().1.len() == 1);
    bus.close();
    assert_eq!(waiting.join().unwrap().code(), "ERR_RINGBELL_CLOSED");
    assert_eq!(lock.try_lock().unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    drop(guard);
    assert!(rival.try_lock().unwrap().is_some());
}
