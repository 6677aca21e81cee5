//! A publisher hears of its subscribers on every rung: of those that come, that stall, and that go, and how they went.
//!
//! Whatever is killed is a child: this binary again, in the role that `role` plays.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::harness::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringbell::acquire::Rung;
use ringbell::bus::Bus;
use ringbell::topic::{
    AttachedSubscriber, Eviction, Publisher, PublisherNotice, PublisherOptions, Subscriber, SubscriberEnd,
    SubscriberOptions,
};

/// Attaches by the rung in its environment, and lives until the test ends it.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    let rung = Rung::LADDER.into_iter().find(|rung| rung.name() == role).unwrap();
    let _subscriber = attach(&bus, rung, None);
    say("attached");
    listen();
}

fn attach(bus: &Bus, rung: Rung, name: Option<&str>) -> Subscriber {
    let mut options = SubscriberOptions::default();
    options.acquire = Some(rung);
    options.durable = name.map(str::to_owned);
    let mut subscriber = bus.subscriber("ticks", options).unwrap();
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap(), "{:?}", subscriber.notices());
    subscriber
}

fn publisher(bus: &Bus, evict_after: Option<Duration>) -> Publisher {
    let mut options = PublisherOptions::default();
    options.capacity = 4096;
    options.evict_after = evict_after;
    bus.publisher("ticks", options).unwrap()
}

/// The next notice. The test expects no other one with it.
fn next_notice(publisher: &mut Publisher) -> PublisherNotice {
    let mut notices = publisher.wait_notices(Some(PATIENCE)).unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    notices.remove(0)
}

fn attached(publisher: &mut Publisher) -> AttachedSubscriber {
    match next_notice(publisher) {
        PublisherNotice::Attached { subscriber } => subscriber,
        other => panic!("{other:?}"),
    }
}

fn ended(publisher: &mut Publisher) -> (AttachedSubscriber, SubscriberEnd) {
    match next_notice(publisher) {
        PublisherNotice::Ended { subscriber, reason } => (subscriber, reason),
        other => panic!("{other:?}"),
    }
}

/// What is known of a subscriber that closed or died.
fn known(rung: Rung, end: SubscriberEnd) -> SubscriberEnd {
    if rung == Rung::Stream { SubscriberEnd::Unknown } else { end }
}

#[test]
fn a_publisher_hears_of_subscribers_that_come_and_close() {
    let place = Place::new();
    for rung in Rung::LADDER {
        let bus = place.bus();
        let mut publisher = publisher(&bus, None);
        assert!(publisher.is_rung(), "it does not listen yet");
        assert!(publisher.notices().is_empty());
        assert!(!publisher.is_rung());
        let first = attach(&bus, rung, None);
        let one = attached(&mut publisher);
        assert_eq!((one.pid, one.uid, one.rung, one.durable), (std::process::id(), None, Some(rung), false));
        let second = attach(&bus, rung, Some("billing"));
        let two = attached(&mut publisher);
        assert!(two.durable && two.number != one.number && two.slot != one.slot);
        drop(first);
        assert_eq!(ended(&mut publisher), (one, known(rung, SubscriberEnd::Closed)));
        drop(second);
        assert_eq!(ended(&mut publisher), (two, known(rung, SubscriberEnd::Closed)));
        let again = attach(&bus, rung, Some("billing"));
        assert!(attached(&mut publisher).durable);
        again.forget();
        assert_eq!(ended(&mut publisher).1, known(rung, SubscriberEnd::Closed));
        assert!(publisher.notices().is_empty());
    }
}

#[test]
fn a_publisher_that_sleeps_is_woken_by_who_comes_and_leaves() {
    let place = Place::new();
    for rung in Rung::LADDER {
        let bus = place.bus();
        let mut publisher = publisher(&bus, None);
        publisher.listen();
        let woken = |publisher: &mut Publisher, what: &str| {
            // No sweep: it sleeps until the doorbell rings.
            let deadline = Instant::now() + PATIENCE;
            while !publisher.is_rung() {
                assert!(Instant::now() < deadline, "{rung}: nobody rang after it {what}");
                let mut fds = [PollFd::new(publisher.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(1000u16)).unwrap();
                publisher.harvest().unwrap();
            }
            publisher.listen();
        };
        let subscriber = attach(&bus, rung, None);
        woken(&mut publisher, "came");
        drop(subscriber);
        woken(&mut publisher, "left");
        publisher.stop_listening();
        drop(attach(&bus, rung, None));
        assert!(publisher.is_rung(), "it does not listen any more");
    }
}

#[test]
fn a_publisher_waits_for_subscribers() {
    let place = Place::new();
    for rung in Rung::LADDER {
        let bus = place.bus();
        let mut publisher = publisher(&bus, None);
        assert!(publisher.are_attached(0) && !publisher.are_attached(1));
        assert!(!publisher.wait_attached(1, Some(Duration::from_millis(1))).unwrap());
        let one = attach(&bus, rung, None);
        assert!(publisher.wait_attached(1, Some(PATIENCE)).unwrap());
        let path = place.path.clone();
        let later = std::thread::spawn(move || attach(&open(&path), rung, None));
        assert!(publisher.wait_attached(2, Some(PATIENCE)).unwrap());
        drop((one, later.join().unwrap()));
        until("both have left", || publisher.subscribers() == 0);
        assert!(!publisher.wait_attached(1, Some(Duration::ZERO)).unwrap(), "attached now, not once");
    }
}

#[test]
fn a_publisher_hears_of_a_death() {
    let place = Place::new();
    let bus = place.bus();
    for rung in Rung::LADDER {
        let mut options = PublisherOptions::default();
        // Every process of this user may take its descriptors, so that direct works under Yama, too.
        options.allow_direct = true;
        let mut publisher = bus.publisher("ticks", options).unwrap();
        let mut child = Role::start(rung.name(), &place.path, &[]);
        assert_eq!(child.heard(), "attached");
        let subscriber = attached(&mut publisher);
        assert_eq!((subscriber.pid, subscriber.rung), (child.child.id(), Some(rung)));
        child.kill();
        assert_eq!(ended(&mut publisher), (subscriber, known(rung, SubscriberEnd::Died)));
        assert_eq!(publisher.subscribers(), 0);
    }
}

/// Sends until the subscriber is in the way.
fn fill(publisher: &mut Publisher) {
    // A stream takes messages out of the ring as long as its socket has room, but its slot says what was read.
    until("it is in the way", || {
        while publisher.send(&[1; 1000]).unwrap() {}
        publisher.stats().subscribers[0].backlog >= 3000
    });
}

#[test]
fn a_publisher_hears_of_each_stall_once() {
    let place = Place::new();
    for rung in Rung::LADDER {
        let bus = place.bus();
        let mut publisher = publisher(&bus, None);
        let mut subscriber = attach(&bus, rung, None);
        let who = attached(&mut publisher);
        for _ in 0..2 {
            fill(&mut publisher);
            let notice = next_notice(&mut publisher);
            let PublisherNotice::Stalled { subscriber: stalled, stalled_for } = notice else {
                panic!("{notice:?}")
            };
            assert_eq!(stalled, who);
            assert!(stalled_for >= Duration::from_secs(1));
            publisher.sweep();
            assert!(publisher.notices().is_empty(), "once");
            until("it has made room", || {
                while subscriber.try_recv().unwrap().is_some() {}
                publisher.send(&[1; 1000]).unwrap()
            });
        }
    }
}

#[test]
fn a_publisher_hears_of_an_eviction() {
    let place = Place::new();
    for rung in Rung::LADDER {
        let bus = place.bus();
        let mut publisher = publisher(&bus, Some(Duration::from_millis(300)));
        let _subscriber = attach(&bus, rung, None);
        let who = attached(&mut publisher);
        fill(&mut publisher);
        let mut notices = Vec::new();
        while notices.len() < 2 {
            notices.extend(publisher.wait_notices(Some(PATIENCE)).unwrap());
            // It may be told of the stall first: half of the time before the eviction.
            notices.retain(|notice| !matches!(notice, PublisherNotice::Stalled { .. }));
        }
        let reason = Eviction::Stalled;
        assert_eq!(
            notices,
            [
                PublisherNotice::Evicted { subscriber: who.clone(), reason },
                PublisherNotice::Ended { subscriber: who, reason: SubscriberEnd::Evicted(reason) }
            ]
        );
    }
}

#[test]
fn a_crowd_that_comes_at_once_is_told_of() {
    let place = Place::watched(240);
    let bus = place.bus();
    let mut options = PublisherOptions::default();
    options.max_subscribers = 1024;
    options.offers = vec![Rung::Handshake];
    let mut publisher = bus.publisher("ticks", options).unwrap();
    // Each needs descriptors of its own.
    let count = 60;
    let path = place.path.clone();
    let crowd = std::thread::spawn(move || {
        let bus = open(&path);
        (0..count).map(|_| attach(&bus, Rung::Handshake, None)).collect::<Vec<_>>()
    });
    let mut numbers = Vec::new();
    while numbers.len() < count {
        for notice in publisher.wait_notices(Some(PATIENCE)).unwrap() {
            let PublisherNotice::Attached { subscriber } = notice else { panic!("{notice:?}") };
            numbers.push(subscriber.number);
        }
    }
    assert_eq!(numbers, (0..count as u64).collect::<Vec<_>>());
    assert!(publisher.wait_attached(count, Some(PATIENCE)).unwrap());
    drop(crowd.join().unwrap());
    let mut gone = 0;
    while gone < count {
        let notices = publisher.wait_notices(Some(PATIENCE)).unwrap();
        assert!(
            notices
                .iter()
                .all(|notice| matches!(notice, PublisherNotice::Ended { reason: SubscriberEnd::Closed, .. }))
        );
        gone += notices.len();
    }
}
