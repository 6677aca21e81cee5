//! Locks and the like between two buses of one process, each of which is a member of its own, as a process is.
#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use super::{Answer, Mode, Opened, Opening, Outcome, Requests, Settled};
use crate::bus::Announcement;
use crate::harness::{PATIENCE, Place, until};

fn answers(requests: &Requests) -> Vec<Settled> {
    let mut fds = [PollFd::new(requests.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 60_000u16), Ok(1), "no answer");
    requests.take()
}

#[test]
fn one_has_it_and_the_other_one_waits() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let (first, second) = (one.lock("a").unwrap(), other.lock("a").unwrap());
    let guard = first.lock().unwrap();
    assert!(second.try_lock().unwrap().is_none() && !guard.abandoned());
    assert!(second.try_lock_shared().unwrap().is_none());
    let begun = Instant::now();
    let late = second.lock_timeout(Duration::from_millis(30)).unwrap_err();
    assert!(late.code() == "ERR_RINGBELL_TIMEOUT" && begun.elapsed() >= Duration::from_millis(30), "{late}");
    let waiting = std::thread::spawn(move || second.lock_timeout(PATIENCE).map(drop).map(|()| second));
    until("it waits", || first.query().unwrap().1.len() == 1);
    drop(guard);
    let second = waiting.join().unwrap().unwrap();
    let (shared, also) = (first.lock_shared().unwrap(), second.lock_shared().unwrap());
    assert!(first.try_lock().unwrap().is_none());
    assert_eq!(first.query().unwrap().0.len(), 2);
    drop((shared, also));
    drop(first.try_lock().unwrap().unwrap());
    drop((first, second));
    assert_eq!(one.find_all("lock").unwrap().len(), 0, "nothing stays behind");
}

#[test]
fn a_request_answers_later_through_a_descriptor() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let requests = Requests::new().unwrap();
    let token = requests.open(&other, "a", Opening::Lock).unwrap();
    let mut settled = answers(&requests);
    assert_eq!((settled.len(), settled[0].token), (1, token));
    let Ok(Answer::Opened(Opened::Lock(second))) = settled.remove(0).result else { panic!("no lock") };
    let first = one.lock("a").unwrap();
    let guard = first.lock().unwrap();
    let ask = || match requests.lock(&second, Mode::Exclusive).unwrap() {
        Outcome::Later(token) => token,
        Outcome::Now(_) => panic!("it is held"),
    };
    // More than the member has places for.
    let tokens: Vec<u64> = (0..20).map(|_| ask()).collect();
    assert!(requests.cancel(tokens[0]) && !requests.cancel(tokens[0]));
    assert!(requests.try_lock(&second, Mode::Shared).unwrap().is_none());
    drop(guard);
    for _ in 1..20 {
        let settled = answers(&requests);
        assert_eq!(settled.len(), 1, "one at a time");
        assert!(tokens[1..].contains(&settled[0].token));
        assert!(first.try_lock().unwrap().is_none());
    }
    drop(first.lock_timeout(PATIENCE).unwrap());
    let held = first.lock().unwrap();
    ask();
    drop(requests);
    drop(held);
    drop(first.lock_timeout(PATIENCE).unwrap());
}

#[test]
fn permits_flags_and_shards() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let requests = Requests::new().unwrap();
    let (first, second) = (one.semaphore("s", 3).unwrap(), other.semaphore("s", 3).unwrap());
    let error = other.semaphore("s", 4).unwrap_err();
    assert!(error.code() == "ERR_RINGBELL_INVALID_OPTION" && error.to_string().contains("have 3"), "{error}");
    let two = first.acquire(2).unwrap();
    assert!(second.try_acquire(2).unwrap().is_none());
    let one_more = second.try_acquire(1).unwrap().unwrap();
    assert_eq!(first.available().unwrap(), 0);
    let Outcome::Later(_) = requests.acquire(&second, 2).unwrap() else { panic!("there are none") };
    assert_eq!(first.acquire(4).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    drop(one_more);
    drop(two);
    assert!(matches!(answers(&requests)[0].result, Ok(Answer::Held(_))));
    until("they are back", || first.available().unwrap() == 3);

    let (first, second) = (one.flag("f").unwrap(), other.flag("f").unwrap());
    let Outcome::Later(_) = requests.wait_for(&second, true).unwrap() else { panic!("it is false") };
    assert!(first.compare_and_swap(false, true).unwrap() && !first.compare_and_swap(false, true).unwrap());
    assert!(matches!(answers(&requests)[0].result, Ok(Answer::Reached)));
    second.wait_for(true, None).unwrap();
    assert!(second.swap(false).unwrap() && !first.get().unwrap());
    let late = first.wait_for(true, Some(Duration::from_millis(5))).unwrap_err();
    assert_eq!(late.code(), "ERR_RINGBELL_TIMEOUT");

    let (first, second) = (one.sharded_mutex("m", 8).unwrap(), other.sharded_mutex("m", 8).unwrap());
    let keys = ["a", "b", "c", "d", "e"];
    let all = first.with_keys(keys, None).unwrap();
    assert!(second.try_lock(b"a").unwrap().is_none());
    let Outcome::Later(_) = requests.with_keys(&second, keys).unwrap() else { panic!("they are held") };
    drop(all);
    let held = answers(&requests).remove(0).result.unwrap();
    assert!(first.try_lock(b"e").unwrap().is_none());
    drop(held);
    first.lock_timeout(b"e", PATIENCE).unwrap().release();
}

/// A member of this user writes anything anywhere. The others keep their time limits, and report it or go on.
#[test]
fn a_hostile_member_breaks_the_table_and_nobody_else() {
    let place = Place::watched(240);
    let bus = place.bus();
    let mut random = 7u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 24
    };
    for name in 0..20 {
        let lock = bus.lock(&format!("a{name}")).unwrap();
        let semaphore = bus.semaphore(&format!("a{name}"), 2).unwrap();
        for _ in 0..40 {
            for table in [&lock.member.table, &semaphore.member.table] {
                let at = if next() % 2 == 0 { next() % 1200 } else { next() % 4096 };
                let value = if next() % 2 == 0 { next() % 64 } else { u64::MAX - next() };
                let at = i64::try_from(at & !7).unwrap();
                nix::sys::uio::pwrite(&table.fd, &value.to_le_bytes(), at).unwrap();
            }
            let soon = Duration::from_millis(1);
            let codes = [
                lock.lock_timeout(soon).err(),
                lock.lock_shared_timeout(soon).err(),
                lock.try_lock().err(),
                lock.query().err(),
                semaphore.acquire_timeout(1, soon).err(),
                semaphore.try_acquire(2).err(),
                semaphore.available().err(),
            ];
            for error in codes.into_iter().flatten() {
                let known = ["ERR_RINGBELL_TIMEOUT", "ERR_RINGBELL_CORRUPT_PEER"];
                assert!(known.contains(&error.code()), "{error}");
            }
        }
    }
    drop(bus.lock("untouched").unwrap().try_lock().unwrap().unwrap());
}

/// A member of another version lives: it is named, and never passed by.
#[test]
fn a_member_of_another_version_is_named() {
    let place = Place::new();
    let lock = place.bus().lock("a").unwrap();
    let held = lock.lock().unwrap();
    // The second word of the header.
    let (mut ours, at) = ([0; 4], 8);
    nix::sys::uio::pread(&lock.member.table.fd, &mut ours, at).unwrap();
    nix::sys::uio::pwrite(&lock.member.table.fd, &99u32.to_le_bytes(), at).unwrap();
    let error = place.bus().lock("a").unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_PROTOCOL_VERSION");
    assert!(error.to_string().contains("99"), "{error}");
    nix::sys::uio::pwrite(&lock.member.table.fd, &ours, at).unwrap();
    assert!(place.bus().lock("a").unwrap().try_lock().unwrap().is_none());
    drop(held);
}

/// A request that waits for a place must hold nothing: those that have the places wait for it.
#[test]
fn more_requests_for_several_shards_than_places_end() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let (first, second) = (one.sharded_mutex("m", 8).unwrap(), other.sharded_mutex("m", 8).unwrap());
    let mut keys: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    keys.sort_by_key(|key| first.shard_of(key));
    keys.dedup_by_key(|key| first.shard_of(key));
    let [low, middle, high, ..] = keys[..] else { panic!("eight shards have a key") };
    let (held, also) = (first.lock(&low).unwrap(), first.lock(&high).unwrap());
    let requests = Requests::new().unwrap();
    let ask = |keys| match requests.with_keys(&second, keys).unwrap() {
        Outcome::Later(token) => token,
        Outcome::Now(_) => panic!("one of them is held"),
    };
    let mut tokens: Vec<u64> = (0..ringbell_ring::table::REQUESTS).map(|_| ask([low, middle])).collect();
    tokens.push(ask([middle, high]));
    drop(held);
    until("the first one has its first shard", || first.try_lock(&low).unwrap().is_none());
    let threads = (0..2 * ringbell_ring::table::REQUESTS).map(|_| second.clone());
    let threads: Vec<_> = threads
        .map(|mutex| std::thread::spawn(move || mutex.with_keys([middle, high], Some(PATIENCE)).map(drop)))
        .collect();
    drop(also);
    until("all are done", || {
        let settled = requests.take();
        tokens.retain(|token| !settled.iter().any(|one| one.token == *token));
        tokens.is_empty()
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
}

/// No rule of this crate leads to two tables of one name. If there are two all the same, nobody joins one of them by chance.
#[test]
fn two_tables_of_one_name_are_refused() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let _lock = one.lock("a").unwrap();
    let mut sync = one.find_all("lock.a").unwrap()[0].sync.clone().unwrap();
    sync.nonce = "0123456789abcdef".repeat(2);
    let second = other
        .announce(Announcement { kind: "lock".into(), sync: Some(sync), ..Announcement::new("lock.a") })
        .unwrap();
    let error = place.bus().lock("a").unwrap_err();
    assert!(
        error.code() == "ERR_RINGBELL_REFUSED" && error.to_string().contains("do not share it"),
        "{error}"
    );
    drop(second);
    place.bus().lock("a").unwrap();
}
