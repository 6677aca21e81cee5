//! The shared acquisition suite: what a topic promises, on every rung. `IPC_BUS_ACQUIRE` is not used here; each test
//! runs once per rung in `RUNGS`, or once for the rung that the environment's `RINGBELL_TEST_RUNG` names (so that the
//! suite can run again where a rung cannot be had).

use std::time::Duration;

use crate::harness::{PATIENCE, Place};
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, Overflow};
use ringbell::topic::{
    AckMode, Drained, EndReason, Message, Notice, PublisherOptions, Start, Subscriber, SubscriberOptions,
};

fn rungs() -> Vec<Rung> {
    match std::env::var("RINGBELL_TEST_RUNG") {
        Ok(rung) => vec![rung.parse().unwrap()],
        Err(_) => Rung::LADDER.to_vec(),
    }
}

/// A private bus, and its place.
fn bus() -> (Bus, Place) {
    let place = Place::new();
    (place.bus(), place)
}

fn options(overflow: Overflow, capacity: usize) -> PublisherOptions {
    let mut options = PublisherOptions::default();
    options.overflow = overflow;
    options.capacity = capacity;
    options
}

fn subscribe(bus: &Bus, pattern: &str, rung: Rung, from: Start) -> Subscriber {
    let mut options = SubscriberOptions::default();
    options.acquire = Some(rung);
    options.from = from;
    bus.subscriber(pattern, options).unwrap()
}

/// Waits until `count` publishers are attached; fails on any other notice.
fn attached(subscriber: &mut Subscriber, count: usize) {
    assert!(
        subscriber.wait_attached(count, Some(PATIENCE)).unwrap(),
        "not attached: {:?}",
        subscriber.notices()
    );
    for notice in subscriber.notices() {
        assert!(matches!(notice, Notice::Attached { .. }), "{notice:?}");
    }
}

fn next(subscriber: &mut Subscriber) -> Message<'_> {
    subscriber.recv_timeout(PATIENCE).unwrap().expect("no message")
}

#[test]
fn messages_arrive_whole_in_order_and_with_their_sequence() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::Block, 64 << 10)).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut subscriber, 1);
        let mut next = 0u64;
        for sent in 0..5_000u64 {
            let payload = vec![sent as u8; (sent % 300) as usize + 8];
            while !publisher.send(&payload).unwrap() {
                let Some(message) = subscriber.try_recv().unwrap() else {
                    // A stream has yet to bring it, or to tell the publisher that it was read.
                    publisher.wait_room(payload.len(), Some(Duration::from_millis(1))).unwrap();
                    continue;
                };
                assert_eq!(message.sequence, next);
                assert_eq!(message.data, vec![next as u8; (next % 300) as usize + 8]);
                next += 1;
            }
        }
        while next < 5_000 {
            let message = subscriber.recv_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!((message.sequence, message.data[0]), (next, next as u8));
            next += 1;
        }
        assert_eq!(subscriber.try_recv().unwrap(), None);
        let stats = subscriber.stats();
        assert_eq!((stats.received, stats.missed, stats.sources[0].rung), (5_000, 0, rung));
        assert_eq!(stats.sources[0].publisher.messages, 5_000);
    }
}

#[test]
fn a_closed_topic_is_drained_and_then_ends() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut subscriber, 1);
        for number in 0..10u8 {
            assert!(publisher.send(&[number]).unwrap());
        }
        drop(publisher);
        for number in 0..10u8 {
            assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, [number]);
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        let ended = loop {
            assert!(std::time::Instant::now() < deadline);
            subscriber.wait(Some(std::time::Instant::now() + Duration::from_millis(1))).unwrap();
            if let Some(Notice::Ended { reason, .. }) = subscriber.notices().pop() {
                break reason;
            }
        };
        assert_eq!(ended, EndReason::Closed);
        assert_eq!(subscriber.publishers(), 0);
    }
}

#[test]
fn earliest_gets_every_message_still_in_the_ring() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::Block, 4096)).unwrap();
        for number in 0..1_000u64 {
            assert!(publisher.send(&number.to_le_bytes()).unwrap(), "nobody is there to wait for");
        }
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Earliest);
        attached(&mut subscriber, 1);
        let mut numbers = Vec::new();
        while numbers.last() != Some(&999) {
            let message = next(&mut subscriber);
            assert_eq!(message.data, message.sequence.to_le_bytes());
            numbers.push(message.sequence);
        }
        assert_eq!(subscriber.try_recv().unwrap(), None);
        assert!(numbers.len() > 50, "a ring of 4 KiB holds more than {} of these", numbers.len());
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
}

#[test]
fn dropping_the_oldest_counts_what_was_missed() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::DropOldest, 4096)).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut subscriber, 1);
        assert!(publisher.send(b"first").unwrap());
        assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().sequence, 0);
        // More than a connection holds, where there is one.
        let last = if rung == Rung::Stream { 100_000 } else { 1_000 };
        for _ in 0..last {
            assert!(publisher.send(b"lost or not").unwrap());
        }
        let mut got = 1;
        loop {
            let message = next(&mut subscriber);
            got += 1;
            if message.sequence == last {
                break;
            }
        }
        let stats = subscriber.stats();
        assert_eq!(stats.received, got);
        assert!(stats.missed > 0);
        assert_eq!(stats.missed, last + 1 - got);
        let told: u64 = subscriber
            .notices()
            .iter()
            .map(|notice| match notice {
                Notice::Missed { messages, .. } => *messages,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(told, stats.missed);
    }
}

#[test]
fn drop_newest_counts_and_keeps_every_accepted_message() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::DropNewest, 4096)).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut subscriber, 1);
        let accepted =
            (0..500u64).filter(|number| publisher.send(&number.to_le_bytes()).unwrap()).count() as u64;
        assert!(accepted < 500);
        for number in 0..accepted {
            assert_eq!(next(&mut subscriber).sequence, number);
        }
        assert_eq!(subscriber.try_recv().unwrap(), None);
        assert_eq!(publisher.stats().counters.dropped, 500 - accepted);
    }
}

#[test]
fn a_waiting_publisher_is_woken_by_room() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::Block, 4096)).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut subscriber, 1);
        let reader = std::thread::spawn(move || {
            subscriber.set_spin(Duration::ZERO);
            for number in 0..20_000u64 {
                let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a lost wake-up");
                assert_eq!(message.data, number.to_le_bytes());
            }
        });
        for number in 0..20_000u64 {
            while !publisher.send(&number.to_le_bytes()).unwrap() {
                assert!(publisher.wait_room(8, Some(PATIENCE)).unwrap(), "a lost wake-up");
            }
        }
        reader.join().unwrap();
    }
}

#[test]
fn publishers_of_one_pattern_are_merged_and_followed() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut subscriber = subscribe(&bus, "sensors.*", rung, Start::Latest);
        let mut left = bus.publisher("sensors.left", PublisherOptions::default()).unwrap();
        let mut right = bus.publisher("sensors.right", PublisherOptions::default()).unwrap();
        let _other = bus.publisher("sensor", PublisherOptions::default()).unwrap();
        attached(&mut subscriber, 2);
        for _ in 0..100 {
            assert!(left.send(b"left").unwrap() && right.send(b"right").unwrap());
        }
        let mut counts = std::collections::HashMap::new();
        for _ in 0..200 {
            let message = next(&mut subscriber);
            let count: &mut u64 = counts.entry(message.data.to_vec()).or_default();
            assert_eq!(message.sequence, *count);
            *count += 1;
        }
        assert_eq!(counts.len(), 2);
        assert!(counts.values().all(|&count| count == 100));
    }
}

#[test]
fn loans_and_batches_are_sent_in_place() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::Block, 64 << 10)).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut subscriber, 1);
        let mut loan = publisher.loan(16).unwrap().unwrap();
        loan.bytes()[..5].copy_from_slice(b"hello");
        loan.commit(5);
        let mut batch = publisher.batch().unwrap();
        for number in 0..200u64 {
            assert!(batch.push(&number.to_le_bytes()).unwrap());
        }
        drop(batch);
        assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, b"hello");
        let mut numbers = Vec::new();
        while numbers.len() < 200 {
            subscriber.recv_batch(|message| numbers.push((message.sequence, message.data.to_vec()))).unwrap();
        }
        assert!(
            numbers
                .iter()
                .zip(0u64..)
                .all(|((sequence, data), n)| *sequence == n + 1 && *data == n.to_le_bytes())
        );
        let limit = publisher.max_message();
        assert_eq!(publisher.send(&vec![0; limit + 1]).unwrap_err().code(), "ERR_RINGBELL_MESSAGE_TOO_LARGE");
        assert!(publisher.wait_room(limit, Some(PATIENCE)).unwrap());
        assert!(publisher.send(&vec![1; limit]).unwrap());
        assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data.len(), limit);
    }
}

#[test]
fn a_stalled_subscriber_is_evicted_and_told() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut options = options(Overflow::Block, 4096);
        options.evict_after = Some(Duration::from_millis(100));
        let mut publisher = bus.publisher("ticks", options).unwrap();
        let mut stalled = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut stalled, 1);
        for _ in 0..200 {
            while !publisher.send(&[7; 64]).unwrap() {
                assert!(publisher.wait_room(64, Some(PATIENCE)).unwrap());
            }
        }
        assert_eq!(publisher.stats().counters.evicted, 1);
        let notices = ended(&mut stalled);
        let told = notices.iter().any(|notice| {
            matches!(notice, Notice::Ended { reason: EndReason::Failed(error), .. } if error.code() == "ERR_RINGBELL_EVICTED")
        });
        assert!(told, "{notices:?}");
    }
}

#[test]
fn a_wrong_codec_and_wrong_options_are_refused_by_code() {
    let (bus, _place) = bus();
    let mut wanted = PublisherOptions::default();
    wanted.codec = Some("json".into());
    let _publisher = bus.publisher("ticks", wanted).unwrap();
    let other = SubscriberOptions::default().codec("bytes");
    let unknown = SubscriberOptions::default().schema("tick/1");
    for (picky, what) in [(other, "has the codec json"), (unknown, "has the schema id (none)")] {
        let mut subscriber = bus.subscriber("ticks", picky).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        let error = loop {
            assert!(std::time::Instant::now() < deadline);
            subscriber.wait(Some(std::time::Instant::now() + Duration::from_millis(1))).unwrap();
            if let Some(Notice::Failed { error, .. }) = subscriber.notices().pop() {
                break error;
            }
        };
        assert_eq!(error.code(), "ERR_RINGBELL_REFUSED");
        assert!(error.to_string().contains(what), "{error}");
    }
    let mut hasty = SubscriberOptions::default();
    hasty.reconnect.first = Duration::ZERO;
    assert_eq!(bus.subscriber("ticks", hasty).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    let mut nothing = PublisherOptions::default();
    nothing.offers.clear();
    assert_eq!(bus.publisher("ticks", nothing).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    for capacity in [0, 4095, 5000, 2 << 30] {
        let error = bus.publisher("ticks", options(Overflow::Block, capacity)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION", "{capacity}");
    }
    assert_eq!(
        bus.publisher("no spaces", PublisherOptions::default()).unwrap_err().code(),
        "ERR_RINGBELL_INVALID_NAME"
    );
}

#[test]
fn a_closed_bus_ends_a_wait_after_the_remaining_messages() {
    let (bus, place) = bus();
    let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
    let other = Bus::open(place.options()).unwrap();
    let mut subscriber = subscribe(&other, "ticks", rungs()[0], Start::Latest);
    attached(&mut subscriber, 1);
    assert!(publisher.send(b"last").unwrap());
    let deadline = std::time::Instant::now() + PATIENCE;
    while rungs()[0] == Rung::Stream && !readable(&subscriber) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let waiting = std::thread::spawn(move || {
        let first = subscriber.recv().unwrap().data.to_vec();
        let second = subscriber.recv().map(drop);
        (first, second, subscriber.arm(), subscriber.try_recv().map(drop))
    });
    other.close();
    let (first, second, armed, third) = waiting.join().unwrap();
    assert_eq!(first, b"last");
    let closed = |result: Result<(), ringbell::Error>| result.unwrap_err().code();
    assert_eq!((closed(second), armed, closed(third)), ("ERR_RINGBELL_CLOSED", false, "ERR_RINGBELL_CLOSED"));
}

#[test]
fn an_ended_source_wakes_no_subscriber() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut options = options(Overflow::Block, 4096);
        options.evict_after = Some(Duration::from_millis(20));
        let mut publisher = bus.publisher("ticks", options).unwrap();
        let mut evicted = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut evicted, 1);
        while publisher.stats().counters.evicted == 0 {
            if !publisher.send(&[7; 64]).unwrap() {
                publisher.wait_room(64, Some(PATIENCE)).unwrap();
            }
        }
        ended(&mut evicted);
        assert_eq!(evicted.publishers(), 0);
        evicted.harvest().unwrap();
        let mut other = subscribe(&bus, "ticks", rung, Start::Latest);
        attached(&mut other, 1);
        while other.try_recv().unwrap().is_some() {}
        assert!(other.arm(), "it sleeps behind the same doorbell");
        let before = publisher.stats().counters.rings;
        assert!(publisher.send(b"ring").unwrap());
        if rung == Rung::Stream {
            assert_eq!(next(&mut other).data, b"ring");
        } else {
            assert_eq!(publisher.stats().counters.rings, before + 1);
            assert!(readable(&other));
        }
        assert!(!readable(&evicted), "a doorbell of a source that has ended");
    }
}

/// Reads until a source has ended, and gives all that was told until then.
fn ended(subscriber: &mut Subscriber) -> Vec<Notice> {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut all = Vec::new();
    while !all.iter().any(|notice| matches!(notice, Notice::Ended { .. })) {
        assert!(std::time::Instant::now() < deadline, "{all:?}");
        let soon = Duration::from_millis(1);
        while subscriber.recv_timeout(soon).unwrap().is_some() {}
        all.extend(subscriber.notices());
    }
    all
}

fn readable(subscriber: &Subscriber) -> bool {
    use std::os::fd::AsFd;
    let mut fds = [nix::poll::PollFd::new(subscriber.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, 0u16).unwrap() == 1
}

#[test]
fn a_dropped_subscriber_also_leaves_topics_it_has_not_noticed() {
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut small = options(Overflow::Block, 4096);
        small.max_subscribers = 1;
        let taken = bus.publisher("group.taken", small).unwrap();
        let mut holder = subscribe(&bus, "group.taken", rung, Start::Latest);
        attached(&mut holder, 1);
        let mut publisher = bus.publisher("group.free", options(Overflow::Block, 4096)).unwrap();
        // Attached to one of them, and trying again and again to be to the other.
        let subscriber = subscribe(&bus, "group.*", rung, Start::Latest);
        let deadline = std::time::Instant::now() + PATIENCE;
        while publisher.subscribers() == 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        drop(subscriber);
        while publisher.subscribers() > 0 {
            assert!(std::time::Instant::now() < deadline, "a subscriber that is gone is waited for");
            std::thread::yield_now();
        }
        for _ in 0..1_000 {
            assert!(publisher.send(&[1; 64]).unwrap());
        }
        drop(taken);
    }
}

#[test]
fn the_publisher_knows_backlog_and_room_of_a_stream() {
    let (bus, _place) = bus();
    let mut publisher = bus.publisher("ticks", options(Overflow::Block, 4096)).unwrap();
    let mut subscriber = subscribe(&bus, "ticks", Rung::Stream, Start::Latest);
    attached(&mut subscriber, 1);
    let mut sent = 0;
    while publisher.send(&[7; 64]).unwrap() {
        sent += 1;
    }
    let backlog = publisher.stats().subscribers[0].backlog;
    assert!(backlog > 2048, "what is on its way is not read: {backlog}");
    for _ in 0..sent {
        assert_eq!(next(&mut subscriber).data, [7; 64]);
    }
    assert!(publisher.wait_room(64, Some(PATIENCE)).unwrap());
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        assert!(std::time::Instant::now() < deadline);
        let (near, far) = (publisher.stats(), subscriber.stats());
        let (slot, source) = (&near.subscribers[0], &far.sources[0]);
        assert_eq!(slot.rung, Some(Rung::Stream));
        assert_eq!((slot.pid, slot.slot), (std::process::id(), source.slot));
        let known =
            (source.publisher.full, source.publisher.bytes, source.publisher.head, &source.subscribers);
        if known == (near.counters.full, sent * 64, near.counters.head, &near.subscribers)
            && (slot.received, slot.backlog) == (sent, 0)
        {
            assert!(source.publisher.full > 0 && far.rings > 0);
            break;
        }
    }
}

#[test]
fn a_stream_gives_way_to_shared_memory_at_the_next_attach() {
    if std::env::var("RINGBELL_TEST_SYSCALLS").is_ok() || std::env::var("RINGBELL_TEST_RUNG").is_ok() {
        // Shared memory is not to be had, or not to be taken.
        return;
    }
    let (bus, _place) = bus();
    let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default()).unwrap();
    for (offers, rung) in [
        (vec![Rung::Stream], Rung::Stream),
        (Rung::LADDER.to_vec(), Rung::Direct),
        (vec![Rung::Handshake, Rung::Stream], Rung::Handshake),
    ] {
        let mut wanted = options(Overflow::Block, 4096);
        wanted.offers = offers;
        let mut publisher = bus.publisher("ticks", wanted).unwrap();
        assert_eq!(publisher.record().topic.as_ref().unwrap().memory.is_none(), rung == Rung::Stream);
        assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
        assert!(publisher.send(b"x").unwrap());
        assert_eq!(next(&mut subscriber).data, b"x");
        let stats = subscriber.stats();
        let downs: Vec<&str> = stats.sources[0].fallbacks.iter().map(|step| step.code.as_str()).collect();
        assert_eq!(stats.sources[0].rung, rung);
        assert!(downs.iter().all(|code| *code == "NOT_OFFERED"), "{downs:?}");
        assert_eq!(publisher.stats().subscribers[0].rung, Some(rung));
        drop(publisher);
        ended(&mut subscriber);
    }
}

#[test]
fn a_look_without_a_message_does_not_disarm_the_wakeup() {
    for look in 0..2 {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
        let mut subscriber = subscribe(&bus, "ticks", Rung::Stream, Start::Latest);
        attached(&mut subscriber, 1);
        let deadline = std::time::Instant::now() + PATIENCE;
        while !subscriber.arm() {
            assert_eq!(subscriber.try_recv().unwrap(), None);
        }
        assert!(publisher.send(b"x").unwrap());
        // As one who waits would find it out: by the descriptor alone.
        while !readable(&subscriber) {
            assert!(std::time::Instant::now() < deadline);
        }
        if look == 0 {
            let drained = subscriber.drain(&mut [0; 8], 8, &mut [Default::default()]).unwrap();
            assert!(matches!(drained, Drained::NeedSlab(_)));
        } else {
            assert_eq!(subscriber.stats().sources[0].received, 0);
        }
        assert!(readable(&subscriber), "it sleeps on");
        subscriber.harvest().unwrap();
        assert_eq!(subscriber.try_recv().unwrap().unwrap().data, b"x");
    }
}

#[test]
fn large_messages_arrive_whole_or_are_missed_in_every_ack_mode() {
    const WANTED: usize = 300 << 10;
    for rung in rungs() {
        for ack in [AckMode::Immediate, AckMode::Batch, AckMode::Deferred] {
            let (bus, _place) = bus();
            let mut publisher = bus.publisher("blobs", options(Overflow::Block, 64 << 10)).unwrap();
            let mut wish = SubscriberOptions::default();
            (wish.acquire, wish.ack, wish.max_message) = (Some(rung), ack, WANTED);
            let mut subscriber = bus.subscriber("blobs", wish).unwrap();
            attached(&mut subscriber, 1);
            let sender = std::thread::spawn(move || {
                for (number, length) in
                    [(0, 8), (1, WANTED), (2, WANTED + 1), (3, 20 << 10), (4, WANTED), (5, 8)]
                {
                    assert!(
                        publisher.write(&vec![number; length], Some(PATIENCE)).unwrap(),
                        "{rung} {ack:?} {number}"
                    );
                }
                publisher
            });
            for (number, length) in [(0, 8), (1, WANTED), (3, 20 << 10), (4, WANTED), (5, 8)] {
                let message = next(&mut subscriber);
                assert_eq!((message.sequence, message.data.len()), (number, length), "{rung} {ack:?}");
                assert!(message.data.iter().all(|byte| u64::from(*byte) == number), "torn");
                let source = message.source;
                if ack == AckMode::Deferred {
                    assert!(subscriber.ack(source, number).unwrap());
                }
            }
            // Who sleeps owes nothing.
            assert_eq!(subscriber.recv_timeout(Duration::from_millis(1)).unwrap(), None);
            let stats = subscriber.stats();
            assert_eq!((stats.received, stats.missed, stats.acks.pending), (5, 1, 0), "{rung} {ack:?}");
            let slot = sender.join().unwrap().stats().subscribers[0].clone();
            assert_eq!((slot.received, slot.missed), (5, 1), "{rung} {ack:?}");
        }
    }
}

#[test]
fn deferred_acknowledgements_hold_room_to_the_byte() {
    let mut seen = Vec::new();
    for rung in rungs() {
        let (bus, _place) = bus();
        let mut publisher = bus.publisher("ticks", options(Overflow::Block, 16 << 10)).unwrap();
        let mut wish = SubscriberOptions::default();
        (wish.acquire, wish.ack) = (Some(rung), AckMode::Deferred);
        let mut subscriber = bus.subscriber("ticks", wish).unwrap();
        attached(&mut subscriber, 1);
        let mut sent = 0;
        while publisher.send(&[7; 100]).unwrap() {
            sent += 1;
        }
        for number in 0..sent {
            assert_eq!(next(&mut subscriber).sequence, number);
        }
        assert!(!publisher.send(&[7; 100]).unwrap(), "{rung}: all was read, and nothing acknowledged");
        assert_eq!(subscriber.stats().acks.pending, sent);
        let mut fitting = Vec::new();
        for acknowledged in [0, 1, 10, 11, sent - 2, sent - 1] {
            assert!(subscriber.ack(0, acknowledged).unwrap());
            assert!(publisher.wait_room(104, Some(PATIENCE)).unwrap(), "{rung}: never told");
            let mut fit = 0;
            while publisher.send(&[7; 100]).unwrap() {
                fit += 1;
            }
            fitting.push(fit);
        }
        assert!(!subscriber.ack(0, 5).unwrap(), "no news");
        seen.push((rung, sent, fitting));
    }
    for (rung, sent, fitting) in &seen {
        assert_eq!((*sent, fitting), (seen[0].1, &seen[0].2), "{rung} is not like {}", seen[0].0);
    }
}
