//! Members of one process: who is primary, how a term ends, and what a manager can ask.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Change, Member, MemberOptions};
use crate::bus::{Bus, BusOptions, GroupRecord, Role};
use crate::channel::{Channel, ChannelOptions, ConnectOptions, Header, Kind};
use crate::topic::{Publisher, PublisherOptions, Route, SubscriberOptions};

const LONG: Duration = Duration::from_secs(30);

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn bus(&self) -> Bus {
        Bus::open(BusOptions { path: Some(self.folder.path().join("bus")), ..BusOptions::default() }).unwrap()
    }
}

fn join(bus: &Bus) -> Member {
    bus.join("price", MemberOptions::default()).unwrap()
}

fn primary(member: &mut Member) -> u64 {
    member.wait_primary(Some(LONG)).unwrap().unwrap()
}

/// A manager on a thread of its own, which does this with its connection to the member's control service.
fn manager<T: Send + 'static>(
    bus: Bus,
    asks: impl FnOnce(&mut Channel, u32) -> T + Send + 'static,
) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let record = bus.wait_for("price.member", Some(LONG)).unwrap();
        let mut client = bus.channel(ChannelOptions::default().codec("json")).unwrap();
        let connection = client.connect(&record, &ConnectOptions::default()).unwrap();
        client.wait_open(connection, LONG).unwrap();
        asks(&mut client, connection)
    })
}

/// The event loop of a member until the manager has ended: it sleeps on the descriptor alone.
fn serve<T>(member: &mut Member, manager: JoinHandle<T>) -> T {
    let mut ready = Vec::new();
    while !manager.is_finished() {
        // A manager that ends is not heard of.
        member.epoll.wait(Some(Instant::now() + Duration::from_millis(20)), &mut ready).unwrap();
        while !ready.is_empty() && member.update().is_ok_and(|change| change.is_some()) {}
    }
    manager.join().unwrap()
}

#[test]
fn a_member_that_steps_down_stands_behind_the_others() {
    let place = Place::new();
    let (one, other) = (place.bus(), place.bus());
    let mut first = join(&one);
    let epoch = primary(&mut first);
    assert_eq!((first.term(), first.group()), (Some(epoch), GroupRecord::new(Role::Primary, epoch)));
    let mut second = join(&other);
    assert_eq!(second.wait_primary(Some(Duration::from_millis(5))).unwrap(), None);
    assert!(!second.is_primary());
    first.step_down().unwrap();
    assert_eq!((first.term(), first.group()), (None, GroupRecord::new(Role::Standby, epoch)));
    let next = primary(&mut second);
    assert!(next > epoch);
    drop(second);
    assert!(primary(&mut first) > next);
    first.drain().unwrap();
    assert_eq!(first.wait_primary(None).unwrap(), None);
    assert_eq!(one.claims().query("price").unwrap().holder, None);
}

#[test]
fn a_member_that_is_alone_is_primary_again() {
    let place = Place::new();
    let bus = place.bus();
    let mut member = join(&bus);
    let epoch = primary(&mut member);
    member.step_down().unwrap();
    assert!(primary(&mut member) > epoch);
}

#[test]
fn a_manager_finds_and_asks_a_member() {
    let place = Place::new();
    let (bus, other) = (place.bus(), place.bus());
    let metadata = json!({ "zone": "a" }).as_object().cloned().unwrap();
    let mut member =
        bus.join("price", MemberOptions::default().metadata(metadata).manual_heartbeat(true)).unwrap();
    let epoch = primary(&mut member);
    let asking = std::thread::spawn(move || {
        let record = other.wait_for("price.member", Some(LONG)).unwrap();
        let mut client = other.channel(ChannelOptions::default().codec("json")).unwrap();
        let connection = client.connect(&record, &ConnectOptions::default()).unwrap();
        client.wait_open(connection, LONG).unwrap();
        let mut ask = |id, method: &str| {
            let request = json!({ "method": method }).to_string();
            let reply = client.call(connection, id, request.as_bytes(), LONG);
            reply.map(|reply| serde_json::from_slice::<Value>(&reply).unwrap())
        };
        let (beat, down) = (ask(1, "beat").unwrap(), ask(2, "stepDown").unwrap());
        (record, beat, down, ask(3, "jump").is_err(), ask(4, "drain").unwrap())
    });
    let mut changes = Vec::new();
    let mut ready = Vec::new();
    while changes.last() != Some(&Change::Drain) {
        member.epoll.wait(None, &mut ready).unwrap();
        while let Some(change) = member.update().unwrap() {
            match change {
                Change::StepDown => member.step_down().unwrap(),
                Change::Drain => member.drain().unwrap(),
                _ => {}
            }
            changes.push(change);
        }
    }
    let (record, beat, down, refused, drained) = asking.join().unwrap();
    assert_eq!((&record.metadata["zone"], &record.metadata["heartbeat"]), (&json!("a"), &json!("manual")));
    assert_eq!(
        (&beat["role"], &beat["epoch"], &beat["group"]),
        (&json!("primary"), &json!(epoch), &json!("price"))
    );
    assert!(beat["beatAge"].as_f64().unwrap() > 0.0);
    assert_eq!((&down["role"], &down["epoch"], refused), (&json!("standby"), &json!(epoch), true));
    assert_eq!(drained["state"], "draining");
}

#[test]
fn a_subscriber_reads_one_term_after_the_other() {
    let place = Place::new();
    let (one, other, reader) = (place.bus(), place.bus(), place.bus());
    let mut first = join(&one);
    primary(&mut first);
    let mut second = join(&other);
    let options = |member: &Member| PublisherOptions::default().group(member.group());
    let mut publishers = [
        one.publisher("ticks", options(&first)).unwrap(),
        other.publisher("ticks", options(&second)).unwrap(),
    ];
    let mut subscriber =
        reader.subscriber("ticks", SubscriberOptions::default().route(Route::Primary)).unwrap();
    assert!(subscriber.wait_attached(2, Some(LONG)).unwrap());
    // Terms follow each other faster than the subscriber looks.
    let mut next = 0u32;
    for round in 0..6 {
        let member = if round % 2 == 0 { &mut first } else { &mut second };
        let publisher = &mut publishers[round % 2];
        primary(member);
        publisher.set_group(member.group()).unwrap();
        for _ in 0..100 {
            assert!(publisher.send(&next.to_le_bytes()).unwrap());
            next += 1;
        }
        publisher.set_group(member.group().standby()).unwrap();
        assert_eq!(publisher.send(b"late").unwrap_err().code(), "ERR_RINGBELL_NOT_PRIMARY");
        member.step_down().unwrap();
    }
    for expected in 0..next {
        let message = subscriber.recv_timeout(LONG).unwrap().unwrap();
        assert_eq!(message.data, expected.to_le_bytes());
    }
}

#[test]
fn a_primary_that_does_not_notice_its_end_is_not_read() {
    let place = Place::new();
    let (one, other, reader) = (place.bus(), place.bus(), place.bus());
    let group = |role, epoch| GroupRecord::new(role, epoch);
    let mut old = one.publisher("ticks", PublisherOptions::default().group(group(Role::Primary, 1))).unwrap();
    let mut new = other.publisher("ticks", PublisherOptions::default().group(GroupRecord::NEW)).unwrap();
    let mut subscriber =
        reader.subscriber("ticks", SubscriberOptions::default().route(Route::Primary)).unwrap();
    assert!(subscriber.wait_attached(2, Some(LONG)).unwrap());
    old.send(b"first").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap().unwrap().data, b"first");
    new.set_group(group(Role::Primary, 2)).unwrap();
    new.send(b"second").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap().unwrap().data, b"second");
    old.send(b"stale").unwrap();
    assert_eq!(subscriber.recv_timeout(Duration::from_millis(20)).unwrap(), None);
    // When it is primary again, what it had sent meanwhile is passed over.
    old.set_group(group(Role::Standby, 1)).unwrap();
    new.set_group(group(Role::Standby, 2)).unwrap();
    old.set_group(group(Role::Primary, 3)).unwrap();
    old.send(b"third").unwrap();
    assert_eq!(subscriber.recv_timeout(LONG).unwrap().unwrap().data, b"third");
}

#[test]
fn a_term_begins_once_however_often_it_is_announced() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = bus.publisher("ticks", PublisherOptions::default().group(GroupRecord::NEW)).unwrap();
    let first = |publisher: &Publisher| publisher.record().group.unwrap().first;
    assert_eq!(first(&publisher), None);
    publisher.set_group(GroupRecord::new(Role::Primary, 1)).unwrap();
    publisher.send(b"a message").unwrap();
    // As after a failure to write the record.
    publisher.set_group(GroupRecord::new(Role::Primary, 1)).unwrap();
    assert_eq!(first(&publisher), Some(0));
    publisher.set_group(GroupRecord::new(Role::Standby, 1)).unwrap();
    publisher.set_group(GroupRecord::new(Role::Primary, 2)).unwrap();
    assert_eq!(first(&publisher), Some(1));
}

#[test]
fn a_pattern_has_no_primary_and_fields_of_the_member_are_its_own() {
    let place = Place::new();
    let bus = place.bus();
    let error = bus.subscriber("x.*", SubscriberOptions::default().route(Route::Primary)).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
    let metadata = json!({ "role": "primary" }).as_object().cloned().unwrap();
    let error = bus.join("price", MemberOptions::default().metadata(metadata)).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
}

/// A member whose record has no room for a byte more.
fn with_full_record(bus: &Bus) -> Member {
    let with = |length: usize| {
        let metadata = json!({ "filler": "x".repeat(length) }).as_object().cloned().unwrap();
        bus.join("price", MemberOptions { metadata, ..MemberOptions::default() })
    };
    let (mut fits, mut exceeds) = (0, crate::record::MAX_RECORD);
    while exceeds - fits > 1 {
        let middle = usize::midpoint(fits, exceeds);
        if with(middle).is_ok() { fits = middle } else { exceeds = middle }
    }
    with(fits).unwrap()
}

/// The role of a primary takes more room than that of a member which never was one, so a record can be too large for it.
#[test]
fn a_change_is_told_also_if_the_record_cannot_say_it() {
    let place = Place::new();
    let bus = place.bus();
    let mut member = with_full_record(&bus);
    let change = loop {
        if let Some(change) = member.update().unwrap() {
            break change;
        }
        std::thread::yield_now();
    };
    assert!(matches!(change, Change::Primary(_)) && member.is_primary());
    member.update().unwrap_err();
    assert!(member.is_primary(), "the term goes on");
    // Managers are answered nevertheless, and it is not tried all the time.
    let asking = manager(place.bus(), |client, connection| client.call(connection, 1, STATUS, LONG));
    let status: Value = serde_json::from_slice(&serve(&mut member, asking).unwrap()).unwrap();
    assert_eq!(status["role"], "primary");
}

const STATUS: &[u8] = br#"{"method":"status"}"#;

#[test]
fn a_claim_that_cannot_be_had_is_asked_for_again() {
    let place = Place::new();
    let bus = place.bus();
    let obstacle = place.folder.path().join("bus/price.claim");
    std::fs::create_dir(&obstacle).unwrap();
    let mut member = join(&bus);
    let error = member.wait_primary(Some(LONG)).unwrap_err();
    std::fs::remove_dir(&obstacle).unwrap();
    let mut ready = Vec::new();
    for _ in 0..1000 {
        member.epoll.wait(Some(Instant::now() + LONG), &mut ready).unwrap();
        assert!(!ready.is_empty(), "the descriptor says when to try again");
        if let Ok(Some(change)) = member.update() {
            assert!(matches!(change, Change::Primary(_)));
            return;
        }
    }
    panic!("it never asks again after: {error}");
}

#[test]
fn a_manager_is_answered_also_if_the_record_cannot_say_that_the_member_is_drained() {
    let place = Place::new();
    let bus = place.bus();
    let mut member = with_full_record(&bus);
    let asking =
        manager(place.bus(), |client, connection| client.call(connection, 1, br#"{"method":"drain"}"#, LONG));
    let mut ready = Vec::new();
    loop {
        member.epoll.wait(Some(Instant::now() + LONG), &mut ready).unwrap();
        // That the role cannot be told fails, too.
        if member.update().is_ok_and(|change| change == Some(Change::Drain)) {
            break;
        }
    }
    member.drain().unwrap_err();
    let status: Value = serde_json::from_slice(&serve(&mut member, asking).unwrap()).unwrap();
    assert_eq!((&status["state"], &status["role"]), (&json!("draining"), &json!("standby")));
    assert_eq!(bus.claims().query("price").unwrap().holder, None);
}

#[test]
fn a_claim_is_given_back_also_if_the_others_cannot_be_found() {
    let place = Place::new();
    let bus = place.bus();
    let mut member = join(&bus);
    let epoch = primary(&mut member);
    let (folder, elsewhere) = (place.folder.path().join("bus"), place.folder.path().join("elsewhere"));
    std::fs::rename(&folder, &elsewhere).unwrap();
    std::fs::write(&folder, "").unwrap();
    member.step_down().unwrap_err();
    assert!(matches!(member.place, super::Place::Later(_)), "it asks for the claim again by itself");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&elsewhere, &folder).unwrap();
    let end = Instant::now() + LONG;
    // An update may tell of what has failed meanwhile.
    while !member.is_primary() && Instant::now() < end {
        let _ = member.wait_primary(Some(LONG));
    }
    assert!(member.term() > Some(epoch));
}

#[test]
fn a_manager_that_asks_without_end_does_not_keep_a_member_from_its_caller() {
    const ALL: u64 = 3 * super::MOST_ASKED as u64;
    let place = Place::new();
    let bus = place.bus();
    let mut member = join(&bus);
    primary(&mut member);
    let mut client = place.bus().channel(ChannelOptions::default().codec("json")).unwrap();
    let record = bus.wait_for("price.member", Some(LONG)).unwrap();
    let connection = client.connect(&record, &ConnectOptions::default()).unwrap();
    client.wait_open(connection, LONG).unwrap();
    assert_eq!(member.update().unwrap(), None);
    for id in 1..=ALL {
        // Half of them cannot be read.
        let request = if id % 2 == 0 { STATUS } else { b"{}" };
        assert!(client.send(connection, Header::new(Kind::Request, id), request).unwrap());
    }
    let mut answered = 0;
    let mut ready = Vec::new();
    while answered < ALL {
        member.epoll.wait(Some(Instant::now() + LONG), &mut ready).unwrap();
        assert!(!ready.is_empty(), "it goes on by itself after {answered}");
        assert_eq!(member.update().unwrap(), None);
        let before = answered;
        while client.try_recv().unwrap().is_some() {
            answered += 1;
        }
        assert!(answered - before <= super::MOST_ASKED as u64);
    }
}
