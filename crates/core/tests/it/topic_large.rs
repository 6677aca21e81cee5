//! Messages larger than their ring: through it whole or not at all, no matter who dies, stalls, joins or gives up on the way.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::*;
use ringbell::Error;
use ringbell::bus::{Bus, Overflow};
use ringbell::topic::{
    AckMode, Drained, EndReason, Entry, Notice, Publisher, PublisherOptions, Start, Subscriber,
    SubscriberOptions,
};

const CAPACITY: usize = 64 << 10;
const LARGE: usize = 16 << 20;

/// Plays a part for one of the tests below; nothing when run as a test.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "publisher" => publisher_role(&bus),
        "subscriber" => subscriber_role(&bus),
        other => panic!("no role {other}"),
    }
}

/// Bytes of message `number`, some of them more than the ring takes, and all different from those of its neighbours.
fn payload(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(2) { 300_000 + number as usize * 7 % 9000 } else { 5 };
    pattern(number, length)
}

fn pattern(number: u64, length: usize) -> Vec<u8> {
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    bytes.truncate(length);
    bytes
}

fn publisher(bus: &Bus, evict_after: Option<Duration>) -> Publisher {
    let mut options = PublisherOptions::default();
    options.capacity = CAPACITY;
    options.evict_after = evict_after;
    bus.publisher("blobs", options).unwrap()
}

fn subscribe(bus: &Bus, from: Start, max_message: usize) -> Subscriber {
    let mut options = SubscriberOptions::default();
    options.from = from;
    options.max_message = max_message;
    let mut subscriber = bus.subscriber("blobs", options).unwrap();
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    subscriber
}

fn latest(bus: &Bus) -> Subscriber {
    subscribe(bus, Start::Latest, LARGE)
}

/// The next message must be this one.
fn expect(subscriber: &mut Subscriber, number: u64, bytes: &[u8]) {
    let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message in time");
    assert_eq!(message.sequence, number);
    assert!(message.data == bytes, "message {number} of {} bytes is torn", message.data.len());
}

/// How many messages it was told to have missed.
fn told_missed(subscriber: &mut Subscriber) -> u64 {
    let missed = |notice| if let Notice::Missed { messages, .. } = notice { messages } else { 0 };
    subscriber.notices().into_iter().map(missed).sum()
}

/// Writes one message after the other until it is killed.
fn publisher_role(bus: &Bus) {
    let mut publisher = publisher(bus, None);
    say("ready");
    for number in 0.. {
        assert!(publisher.write(&payload(number), None).unwrap());
    }
}

/// Takes one message, then begins with another one and stands still there.
fn subscriber_role(bus: &Bus) {
    let mut subscriber = latest(bus);
    let _ = subscriber.recv().unwrap();
    assert!(subscriber.try_recv().unwrap().is_none());
    say("in the middle");
    while listen().is_some() {}
}

#[test]
fn a_message_of_256_rings_reaches_fast_and_slow_readers() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    let mut subscribers: Vec<_> = (0..3).map(|_| latest(&bus)).collect();
    let large = pattern(1, LARGE);
    thread::scope(|scope| {
        for (index, subscriber) in subscribers.iter_mut().enumerate() {
            let large = &large;
            scope.spawn(move || {
                // One never sleeps, one always does, one is far behind from the start.
                subscriber.set_spin([Duration::MAX, Duration::ZERO, Duration::from_micros(50)][index]);
                if index == 2 {
                    until("the ring is nearly full", || {
                        subscriber.stats().sources[0].backlog > CAPACITY as u64 / 2
                    });
                }
                expect(subscriber, 0, b"before");
                expect(subscriber, 1, large);
                expect(subscriber, 2, b"after");
            });
        }
        assert!(publisher.write(b"before", None).unwrap());
        assert!(publisher.write(&large, Some(PATIENCE)).unwrap());
        assert!(publisher.write(b"after", None).unwrap());
    });
    let counters = publisher.stats().counters;
    assert_eq!((counters.messages, counters.bytes), (3, LARGE as u64 + 11));
    assert_eq!(counters.fragments, LARGE.div_ceil(CAPACITY / 4 - 48) as u64);
    for mut subscriber in subscribers {
        let stats = subscriber.stats();
        assert_eq!((stats.received, stats.missed), (3, 0));
        assert_eq!(stats.sources[0].publisher.fragments, counters.fragments);
    }
}

#[test]
fn a_large_message_needs_no_subscriber() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    assert!(publisher.write(&pattern(0, LARGE), Some(Duration::ZERO)).unwrap());
    assert!(publisher.send(b"next").unwrap());
}

#[test]
fn a_publisher_killed_in_a_large_message_leaves_no_part_of_it() {
    let place = Place::new();
    let bus = place.bus();
    for round in 0..20u64 {
        let mut child = Role::start("publisher", &place.path, &[]);
        child.heard();
        let mut subscriber = latest(&bus);
        let mut next = None;
        let mut ended = false;
        // At another moment each time, most of which lie in the middle of a large message.
        let end = Instant::now() + Duration::from_micros(round * round * 37);
        while !ended {
            if Instant::now() >= end {
                child.kill();
            }
            if let Some(message) = subscriber.recv_timeout(Duration::from_millis(1)).unwrap() {
                let number = next.unwrap_or(message.sequence);
                assert_eq!(message.sequence, number);
                assert!(message.data == payload(number), "message {number} is torn");
                next = Some(number + 1);
            }
            for notice in subscriber.notices() {
                match notice {
                    Notice::Attached { .. } => {}
                    Notice::Ended { reason, .. } => {
                        assert_eq!(reason, EndReason::Died);
                        ended = true;
                    }
                    other => panic!("round {round}: {other:?}"),
                }
            }
        }
        let stats = subscriber.stats();
        assert_eq!(stats.missed, 0, "what was not whole was never there");
    }
}

#[test]
fn a_subscriber_killed_in_a_large_message_blocks_no_other() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    let large = pattern(1, LARGE);
    let mut child = Role::start("subscriber", &place.path, &[]);
    until("attached", || publisher.subscribers() == 1);
    assert!(publisher.send(b"first").unwrap());
    let mut done = 0;
    // As much as fits, and then one that is dead.
    while let Ok(pushed) = publisher.push_large(&large, done)
        && pushed > done
    {
        done = pushed;
    }
    assert_eq!(child.heard(), "in the middle");
    let mut other = latest(&bus);
    child.kill();
    while done < large.len() {
        let before = done;
        done = publisher.push_large(&large, done).unwrap();
        let more = done > before || publisher.wait_room(0, Some(PATIENCE)).unwrap();
        assert!(more, "stuck: {:?}", publisher.stats());
        assert!(other.try_recv().unwrap().is_none());
    }
    assert!(publisher.send(b"next").unwrap());
    expect(&mut other, 2, b"next");
    assert_eq!(other.stats().missed, 0, "it joined in the middle");
    until("the slot is free", || publisher.subscribers() == 1);
}

#[test]
fn a_late_joiner_begins_after_the_large_message() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    let large = pattern(0, 100_000);
    let mut first = latest(&bus);
    let mut done = publisher.push_large(&large, 0).unwrap();
    assert!(done > 0);
    let mut late = latest(&bus);
    let mut early = subscribe(&bus, Start::Earliest, LARGE);
    while done < large.len() {
        done = publisher.push_large(&large, done).unwrap();
        for subscriber in [&mut first, &mut late, &mut early] {
            if done < large.len() {
                assert!(subscriber.try_recv().unwrap().is_none());
            }
        }
    }
    assert!(publisher.write(b"next", None).unwrap());
    expect(&mut first, 0, &large);
    expect(&mut first, 1, b"next");
    expect(&mut early, 0, &large);
    expect(&mut early, 1, b"next");
    expect(&mut late, 1, b"next");
    for mut subscriber in [first, late, early] {
        assert_eq!(told_missed(&mut subscriber), 0);
    }
}

#[test]
fn history_begins_with_the_first_whole_message() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    // Twice the ring: only its end is still there.
    assert!(publisher.write(&pattern(0, 2 * CAPACITY), None).unwrap());
    assert!(publisher.write(b"next", None).unwrap());
    let mut early = subscribe(&bus, Start::Earliest, LARGE);
    expect(&mut early, 1, b"next");
    assert_eq!(told_missed(&mut early), 0, "it was never promised");
    // And one that fits is.
    let small = pattern(2, 40_000);
    assert!(publisher.write(&small, None).unwrap());
    expect(&mut early, 2, &small);
    drop(early);
    let mut early = subscribe(&bus, Start::Earliest, LARGE);
    let first = early.recv_timeout(PATIENCE).unwrap().unwrap().sequence;
    assert!(first == 1 || first == 2);
}

#[test]
fn an_abandoned_large_message_is_missed_and_the_next_arrives() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    let mut subscriber = latest(&bus);
    let large = pattern(0, 3 * CAPACITY);
    for round in 0..3u64 {
        // The subscriber does not read: the ring is full before the message is in it.
        assert!(!publisher.write(&large, Some(Duration::ZERO)).unwrap());
        assert!(!publisher.write(&large, Some(Duration::from_millis(1))).unwrap(), "not even a piece fits");
        assert!(subscriber.try_recv().unwrap().is_none());
        assert!(publisher.write(b"next", Some(PATIENCE)).unwrap());
        expect(&mut subscriber, 2 * round + 1, b"next");
        assert_eq!(told_missed(&mut subscriber), 1);
    }
    assert_eq!(publisher.stats().counters.messages, 3);
    // What nobody goes on with is gone with its publisher, and nobody has missed it.
    assert!(!publisher.write(&large, Some(Duration::ZERO)).unwrap());
    drop(publisher);
    until("it has ended", || {
        assert!(subscriber.try_recv().unwrap().is_none());
        let told = subscriber.notices();
        assert!(told.iter().all(|notice| matches!(notice, Notice::Ended { reason: EndReason::Closed, .. })));
        !told.is_empty()
    });
}

#[test]
fn a_message_above_max_message_is_missed_without_delay() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    let mut modest = subscribe(&bus, Start::Latest, 200_000);
    let mut subscriber = latest(&bus);
    let messages = [pattern(0, 200_000), pattern(1, 200_001), pattern(2, 40_000), pattern(3, 5)];
    thread::scope(|scope| {
        scope.spawn(|| {
            for message in &messages {
                assert!(publisher.write(message, Some(PATIENCE)).unwrap());
            }
        });
        scope.spawn(|| {
            for number in [0, 2, 3] {
                expect(&mut modest, number, &messages[number as usize]);
            }
            assert_eq!(told_missed(&mut modest), 1);
        });
        for (number, message) in messages.iter().enumerate() {
            expect(&mut subscriber, number as u64, message);
        }
    });
    assert_eq!((modest.stats().received, modest.stats().missed), (3, 1));
    let mut options = SubscriberOptions::default();
    for wrong in [0, (1 << 30) + 1] {
        options.max_message = wrong;
        assert!(matches!(bus.subscriber("blobs", options.clone()), Err(Error::InvalidOption { .. })));
    }
}

#[test]
fn a_reader_stalled_in_a_large_message_is_evicted() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, Some(Duration::from_secs(1)));
    let mut stalled = latest(&bus);
    let mut subscriber = latest(&bus);
    let large = pattern(0, 10 * CAPACITY);
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(publisher.write(&large, Some(PATIENCE)).unwrap());
        });
        // It reads some of it, and then no more.
        until("it began", || {
            assert!(stalled.try_recv().unwrap().is_none());
            stalled.stats().sources[0].publisher.fragments > 0
        });
        expect(&mut subscriber, 0, &large);
    });
    assert_eq!(publisher.stats().counters.evicted, 1);
    assert!(stalled.try_recv().unwrap().is_none(), "no part of it");
    assert!(stalled.notices().iter().any(|notice| matches!(
        notice,
        Notice::Ended { reason: EndReason::Failed(Error::Evicted { .. }), .. }
    )));
    assert!(publisher.send(b"next").unwrap());
    expect(&mut subscriber, 1, b"next");
}

#[test]
fn pieces_are_freed_once_earlier_messages_are_acknowledged() {
    for mode in [AckMode::Deferred, AckMode::Batch] {
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, None);
        let mut options = SubscriberOptions::default();
        options.ack = mode;
        let mut subscriber = bus.subscriber("blobs", options).unwrap();
        assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
        let bytes = pattern(1, 300_000);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(publisher.send(b"before").unwrap());
                assert!(publisher.write(&bytes, Some(PATIENCE)).unwrap());
                assert!(publisher.write(b"after", Some(PATIENCE)).unwrap());
            });
            expect(&mut subscriber, 0, b"before");
            if mode == AckMode::Deferred {
                let early = subscriber.recv_timeout(Duration::from_millis(50)).unwrap();
                assert_eq!(early, None, "the ring is full of what is not acknowledged");
                assert_eq!(subscriber.ack(0, 0), Ok(true));
            }
            expect(&mut subscriber, 1, &bytes);
            if mode == AckMode::Deferred {
                assert_eq!(subscriber.ack(0, 1), Ok(true));
            }
            expect(&mut subscriber, 2, b"after");
        });
    }
}

#[test]
fn several_publishers_send_theirs_at_the_same_time() {
    let place = Place::new();
    let bus = place.bus();
    let mut publishers: Vec<_> = (0..3).map(|_| publisher(&bus, None)).collect();
    let mut subscriber = latest(&bus);
    assert!(subscriber.wait_attached(3, Some(PATIENCE)).unwrap());
    thread::scope(|scope| {
        for publisher in &mut publishers {
            scope.spawn(|| {
                for number in 0..20 {
                    assert!(publisher.write(&payload(number), Some(PATIENCE)).unwrap());
                }
            });
        }
        let mut next = [0; 3];
        while next != [20; 3] {
            let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message in time");
            let next = &mut next[message.source as usize];
            assert_eq!(message.sequence, *next);
            assert!(message.data == payload(*next));
            *next += 1;
        }
    });
}

#[test]
fn while_one_is_sent_there_is_no_room_for_others() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, None);
    let mut subscriber = latest(&bus);
    let large = pattern(0, 2 * CAPACITY);
    let mut done = publisher.push_large(&large, 0).unwrap();
    assert!(!publisher.send(b"other").unwrap());
    assert!(publisher.open_window(8).unwrap().is_none());
    assert!(publisher.has_room(1));
    let other = publisher.push_large(&large[1..], done);
    assert!(matches!(other, Err(Error::InvalidOption { .. })), "not what was begun");
    while done < large.len() {
        let before = done;
        done = publisher.push_large(&large, done).unwrap();
        if done == before {
            assert!(!publisher.has_room(1));
            let _ = subscriber.try_recv().unwrap();
        }
    }
    assert!(matches!(publisher.push_large(&large, done), Err(Error::InvalidOption { .. })), "it has ended");
    expect(&mut subscriber, 0, &large);
    // A window is open: not now.
    assert!(publisher.open_window(8).unwrap().is_some());
    assert_eq!(publisher.push_large(&large, 0), Err(Error::WindowOpen));
    assert_eq!(publisher.write(&large, None), Err(Error::WindowOpen));
    publisher.abandon_window();
    // Begun and given up, before anything was sent.
    while publisher.send(&[0; 4000]).unwrap() {}
    assert_eq!(publisher.push_large(&large, 0), Ok(0));
    publisher.abandon_large();
    assert_eq!(publisher.stats().counters.fragments, 9, "of the first one");
}

#[test]
fn where_messages_may_be_dropped_they_are_not_sent_in_pieces() {
    let place = Place::new();
    let bus = place.bus();
    for (name, overflow) in [("oldest", Overflow::DropOldest), ("newest", Overflow::DropNewest)] {
        let mut options = PublisherOptions::default();
        options.capacity = 4096;
        options.overflow = overflow;
        let mut publisher = bus.publisher(name, options).unwrap();
        let limit = publisher.max_message();
        let large = vec![0; limit + 1];
        assert_eq!(publisher.write(&large, None), Err(Error::MessageTooLarge { size: limit + 1, limit }));
        assert!(publisher.write(&large[1..], None).unwrap());
    }
    let mut publisher = publisher(&bus, None);
    let limit = publisher.max_message();
    let text = publisher.send(&vec![0; limit + 1]).unwrap_err().to_string();
    assert!(text.contains("write"), "{text}");
}

#[test]
fn a_lease_does_not_hold_up_a_message_too_large_for_it() {
    for ack in [AckMode::Immediate, AckMode::Batch, AckMode::Deferred] {
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, None);
        let mut options = SubscriberOptions::default();
        (options.ack, options.max_message) = (ack, CAPACITY);
        let mut subscriber = bus.subscriber("blobs", options).unwrap();
        assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
        let large = pattern(1, LARGE);
        thread::scope(|scope| {
            scope.spawn(|| {
                for message in [b"before", &large[..], b"after"] {
                    assert!(publisher.write(message, Some(PATIENCE)).unwrap(), "{ack:?}");
                }
            });
            let mut table = vec![Entry::default(); 4];
            let mut leased = 0;
            while leased < 2 {
                match subscriber.lease_batch(&mut table).unwrap() {
                    Drained::Batch { source, count, .. } => {
                        assert_eq!(count, 1);
                        leased += 1;
                        subscriber.release(source);
                        if ack != AckMode::Immediate {
                            assert!(subscriber.ack(source, 2 * leased - 2).unwrap());
                        }
                    }
                    Drained::Notice => drop(subscriber.notices()),
                    Drained::Empty => thread::yield_now(),
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(subscriber.stats().missed, 1);
    }
}
