//! That a holder died is told to somebody, also if the one that had its turn next did not want it any more.

use std::time::Duration;

use crate::harness::{PATIENCE, Place, Role, listen, my_role, open, say, until};
use ringbell::sync::{Answer, Hold, Mode, Outcome, Requests, ShardedMutex};

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    let (lock, mutex) = (bus.lock("a").unwrap(), bus.sharded_mutex("m", 4).unwrap());
    let _held = match role.as_str() {
        "lock" => lock.lock_timeout(PATIENCE).unwrap(),
        key => mutex.lock_timeout(key.as_bytes(), PATIENCE).unwrap(),
    };
    say("held");
    listen();
}

/// A process that holds something.
fn holder(place: &Place, what: &str) -> Role {
    let mut role = Role::start(what, &place.path, &[]);
    assert_eq!(role.heard(), "held");
    role
}

fn later(outcome: ringbell::Result<Outcome>) -> u64 {
    match outcome.unwrap() {
        Outcome::Later(token) => token,
        Outcome::Now(_) => panic!("another one holds it"),
    }
}

fn answer(requests: &Requests) -> Hold {
    let mut answers = Vec::new();
    until("it is answered", || {
        answers.extend(requests.take());
        !answers.is_empty()
    });
    let [answer] = <[_; 1]>::try_from(answers).unwrap();
    match answer.result.unwrap() {
        Answer::Held(hold) => hold,
        _ => panic!("a lock was asked for"),
    }
}

/// The lock is granted to a request that is cancelled before it looks, while another one waits.
#[test]
fn a_cancelled_request_tells_the_next_one() {
    let place = Place::new();
    let (bus, other) = (place.bus(), place.bus());
    let (lock, rival) = (bus.lock("a").unwrap(), other.lock("a").unwrap());
    // Where the answer comes and is cancelled is a race, so this is tried often. Nobody may be missed in any order.
    for round in 0..12 {
        let (requests, after) = (Requests::new().unwrap(), Requests::new().unwrap());
        let mut holder = holder(&place, "lock");
        let token = later(requests.lock(&lock, Mode::Exclusive));
        later(after.lock(&rival, Mode::Exclusive));
        holder.kill();
        if round % 2 == 0 {
            until("it is the first one's turn", || lock.query().unwrap().1.len() == 1);
        }
        requests.cancel(token);
        // Also where the answer was there before, and nobody takes it.
        drop(requests);
        assert!(answer(&after).abandoned(), "round {round}: nobody was told");
    }
}

/// Two keys, the one with the lower shard first.
fn keys(mutex: &ShardedMutex) -> [String; 2] {
    let mut keys: Vec<String> = (0..100).map(|number| format!("key{number}")).collect();
    keys.sort_by_key(|key| mutex.shard_of(key.as_bytes()));
    keys.dedup_by_key(|key| mutex.shard_of(key.as_bytes()));
    [keys[0].clone(), keys[1].clone()]
}

/// Who takes several shards has the first one, and then gives up.
#[test]
fn a_request_for_several_shards_that_ends_tells_the_next_one() {
    let place = Place::new();
    let (bus, other) = (place.bus(), place.bus());
    let (mutex, rival) = (bus.sharded_mutex("m", 4).unwrap(), other.sharded_mutex("m", 4).unwrap());
    let [low, high] = keys(&mutex);
    let _held = rival.lock(high.as_bytes()).unwrap();
    for blocks in [false, true] {
        holder(&place, &low).kill();
        if blocks {
            let late = mutex.with_keys([&low, &high], Some(Duration::from_millis(10))).unwrap_err();
            assert_eq!(late.code(), "ERR_RINGBELL_TIMEOUT");
        } else {
            let requests = Requests::new().unwrap();
            // A look finds the dead holder, and leaves the shard free.
            assert!(rival.try_lock(high.as_bytes()).unwrap().is_none());
            let token = later(requests.with_keys(&mutex, [&low, &high]));
            assert!(requests.cancel(token));
        }
        assert!(rival.try_lock(low.as_bytes()).unwrap().unwrap().abandoned(), "nobody was told");
        assert!(!rival.try_lock(low.as_bytes()).unwrap().unwrap().abandoned(), "it is told twice");
    }
}

/// A worker whose environment ends gives up what it holds, also if its bus was closed before.
#[test]
fn what_is_given_up_after_its_bus_was_closed_is_free() {
    let place = Place::new();
    let (bus, other) = (place.bus(), place.bus());
    let (lock, rival) = (bus.lock("a").unwrap(), other.lock("a").unwrap());
    let (requests, after) = (Requests::new().unwrap(), Requests::new().unwrap());
    let hold = requests.try_lock(&lock, Mode::Exclusive).unwrap().unwrap();
    later(after.lock(&rival, Mode::Exclusive));
    bus.close();
    hold.abandon();
    assert!(answer(&after).abandoned());
}
