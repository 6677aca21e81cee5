//! Acknowledgements and durable positions between processes: who is killed at any moment comes back to what it had not
//! acknowledged, and is told what it may have seen; who keeps a position keeps room, until it is evicted. On every rung, or on
//! the one that the environment's `RINGBELL_TEST_RUNG` names.
//!
//! Whatever is killed is a child: this binary again, in the role that `role` plays.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::*;
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, Overflow};
use ringbell::topic::{
    AckMode, Drained, Entry, Notice, Position, Publisher, PublisherOptions, Start, Subscriber,
    SubscriberOptions,
};

const NAME: &str = "billing";

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "durable" => durable_role(&bus),
        other => panic!("no role {other}"),
    }
}

fn rungs() -> Vec<Rung> {
    match std::env::var("RINGBELL_TEST_RUNG") {
        Ok(rung) => vec![rung.parse().unwrap()],
        Err(_) => Rung::LADDER.to_vec(),
    }
}

fn kills() -> usize {
    std::env::var("TOPIC_KILLS").map_or(300, |count| count.parse().unwrap())
}

/// Not for secrets: only so that two runs don't kill at the same moments.
fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

fn options(ack: AckMode) -> SubscriberOptions {
    let mut options = SubscriberOptions::default();
    options.ack = ack;
    options
}

fn durable(ack: AckMode) -> SubscriberOptions {
    let mut options = options(ack);
    options.durable = Some(NAME.into());
    options
}

fn on(rung: Rung, mut options: SubscriberOptions) -> SubscriberOptions {
    options.acquire = Some(rung);
    options
}

fn publisher(bus: &Bus, change: impl FnOnce(&mut PublisherOptions)) -> Publisher {
    let mut options = PublisherOptions::default();
    options.capacity = 16 << 10;
    change(&mut options);
    bus.publisher("ticks", options).unwrap()
}

/// Subscribes, and waits for the one publisher that there is.
fn attach(bus: &Bus, options: SubscriberOptions) -> (Subscriber, Option<Position>) {
    let mut subscriber = bus.subscriber("ticks", options).unwrap();
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    let notices = subscriber.notices();
    let position = notices.into_iter().find_map(|notice| match notice {
        Notice::Attached { position, .. } => Some(position),
        _ => None,
    });
    (subscriber, position.unwrap())
}

/// Sends until there is no room; answers with how many messages went out.
fn fill(publisher: &mut Publisher) -> u64 {
    let mut sent = 0;
    while publisher.send(&[1; 100]).unwrap() {
        sent += 1;
    }
    sent
}

fn send(publisher: &mut Publisher, count: u64) {
    for _ in 0..count {
        assert!(publisher.send(&[1; 100]).unwrap());
    }
    SENT.set(publisher.stats().counters.messages);
}

thread_local! {
    /// Messages that this test's publisher had sent after its last `send`.
    static SENT: Cell<u64> = const { Cell::new(0) };
}

/// Whether nothing is on its way: over a stream the publisher's word of what it has sent is, too.
fn has_everything(subscriber: &mut Subscriber) -> bool {
    let sources = subscriber.stats().sources;
    sources.iter().all(|source| source.backlog == 0)
        && (sources.is_empty() || sources.iter().any(|source| source.publisher.messages >= SENT.get()))
}

/// The next messages, at most so many of those that were sent: sequence, and whether it may have been seen.
fn take(subscriber: &mut Subscriber, most: usize) -> Vec<(u64, bool)> {
    let mut taken = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while taken.len() < most {
        let next = subscriber.try_recv().unwrap().map(|message| (message.sequence, message.redelivered));
        match next {
            Some(next) => taken.push(next),
            None if has_everything(subscriber) => break,
            // It is on its way.
            None => assert!(Instant::now() < deadline, "never came: {taken:?}"),
        }
    }
    taken
}

/// Says what it sees, and acknowledges what it has said, until it is killed.
fn durable_role(bus: &Bus) {
    let round: u64 = std::env::var("ACKS_ROUND").unwrap().parse().unwrap();
    let mut options = durable(if round.is_multiple_of(2) { AckMode::Batch } else { AckMode::Deferred });
    options.ack_batch = if round % 4 < 2 { 8 } else { 32 };
    options.acquire = Some(rungs()[round as usize % rungs().len()]);
    let mut subscriber = bus.subscriber("ticks", options).unwrap();
    subscriber.set_spin(Duration::from_micros(random(50)));
    for count in 0u64.. {
        let message = subscriber.recv().unwrap();
        let (source, sequence, redelivered) = (message.source, message.sequence, message.redelivered);
        assert_eq!(message.data[..8], sequence.to_le_bytes());
        say(&format!("{sequence} {}", u8::from(redelivered)));
        if round % 2 == 1 && count % 5 == 4 {
            assert!(subscriber.ack(source, sequence).unwrap());
        }
    }
}

#[test]
fn a_killed_subscriber_misses_no_message_and_sees_redelivery() {
    let place = Place::watched(120 + kills() as u64);
    let bus = place.bus();
    let mut publisher = publisher(&bus, |options| options.max_subscribers = 2);
    // It keeps the place from the first message on.
    drop(attach(&bus, durable(AckMode::Batch)));
    let mut seen = BTreeSet::new();
    let mut again = 0;
    let mut number = 0u64;
    let payload = |number: u64| {
        let mut bytes = vec![0; 8 + (number % 90) as usize];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    for round in 0..kills() {
        let round_text = round.to_string();
        let mut child = Role::start("durable", &place.path, &[("ACKS_ROUND", &round_text)]);
        // Some die before they are attached, most of them in full flow.
        let first = if round % 8 == 0 { None } else { Some(()) };
        let end = Instant::now() + Duration::from_micros(random(15_000));
        let mut lines = Vec::new();
        if first.is_some() {
            // So that there is something to be heard.
            while publisher.send(&payload(number)).unwrap() {
                number += 1;
            }
            lines.push(child.heard());
        }
        while Instant::now() < end {
            if publisher.send(&payload(number)).unwrap() {
                number += 1;
            } else {
                publisher.wait_room(100, Some(end.saturating_duration_since(Instant::now()))).unwrap();
            }
        }
        child.kill();
        lines.extend(child.rest());
        // What it had reported over a stream is put down a little later, and may make room.
        until("its place is left", || publisher.subscribers() == 0);
        let mut next = None;
        for line in lines {
            let (sequence, marked) = line.split_once(' ').unwrap();
            let sequence: u64 = sequence.parse().unwrap();
            assert_eq!(sequence, next.unwrap_or(sequence), "round {round}");
            next = Some(sequence + 1);
            if !seen.insert(sequence) {
                assert_eq!(marked, "1", "round {round}: {sequence} came again, and was not marked");
                again += 1;
            }
        }
    }
    let (mut last, position) = attach(&bus, durable(AckMode::Batch));
    assert_eq!(position, Some(Position::Resumed));
    for (sequence, marked) in take(&mut last, usize::MAX) {
        assert!(seen.insert(sequence) || marked);
    }
    assert!(seen.into_iter().eq(0..number), "a message was never seen");
    assert!(again > 0, "nobody died with anything in hand");
    let counters = publisher.stats().counters;
    assert_eq!((counters.messages, counters.evicted), (number, 0));
    assert_eq!(last.stats().missed, 0);
}

#[test]
fn each_mode_holds_the_publisher_back_and_rings_it() {
    for rung in rungs() {
        let options = |ack| on(rung, options(ack));
        const MESSAGES: u64 = 20_000;
        let place = Place::new();
        let bus = place.bus();
        for ack in [AckMode::Immediate, AckMode::Batch, AckMode::Deferred] {
            let mut publisher = publisher(&bus, |_| {});
            let (mut subscriber, _) = attach(&bus, options(ack));
            let sender = std::thread::spawn(move || {
                for number in 0..MESSAGES {
                    while !publisher.send(&number.to_le_bytes()).unwrap() {
                        assert!(publisher.wait_room(8, Some(PATIENCE)).unwrap(), "{ack:?}: never rung");
                    }
                }
                publisher.stats()
            });
            for number in 0..MESSAGES {
                let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message in time");
                assert_eq!((message.sequence, message.redelivered), (number, false));
                let source = message.source;
                if ack == AckMode::Deferred && number % 100 == 99 {
                    assert!(subscriber.ack(source, number).unwrap());
                }
            }
            let sent = sender.join().unwrap();
            assert_eq!((sent.counters.messages, sent.counters.evicted), (MESSAGES, 0));
            let acks = subscriber.stats().acks;
            match ack {
                AckMode::Immediate => assert_eq!((acks.flushed, acks.pending), (0, 0)),
                // The last one is in hand.
                AckMode::Batch => assert!(acks.flushed >= MESSAGES / 256 && acks.pending <= 33, "{acks:?}"),
                AckMode::Deferred => assert_eq!((acks.flushed, acks.pending), (MESSAGES / 100, 0)),
            }
        }
    }
}

#[test]
fn a_batch_is_acknowledged_when_full_and_before_sleep() {
    for rung in rungs() {
        let options = |ack| on(rung, options(ack));
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, |_| {});
        let mut options = options(AckMode::Batch);
        options.ack_batch = 8;
        options.ack_interval = Duration::from_millis(50);
        let (mut subscriber, _) = attach(&bus, options);
        send(&mut publisher, 20);
        let acks = |subscriber: &mut Subscriber| subscriber.stats().acks;
        // What a stream brings is not copied out of the ring at once.
        let pending = |subscriber: &mut Subscriber, all: u64, least: u64| {
            let pending = acks(subscriber).pending;
            if rung == Rung::Stream { (least..=all).contains(&pending) } else { pending == all }
        };
        assert_eq!(take(&mut subscriber, 8).len(), 8);
        assert_eq!(acks(&mut subscriber).flushed, 0, "the eighth is in hand");
        assert!(pending(&mut subscriber, 20, 8));
        assert_eq!(take(&mut subscriber, 1), [(8, false)]);
        assert_eq!(acks(&mut subscriber).flushed, 1);
        assert!(pending(&mut subscriber, 12, 1));
        assert_eq!(take(&mut subscriber, 20).len(), 11);
        // Nothing is left: it sleeps, and a subscriber that sleeps owes nothing.
        assert!(subscriber.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
        assert_eq!(acks(&mut subscriber).pending, 0);
        let slot = publisher.stats().subscribers[0].clone();
        assert_eq!((slot.acks.pending, slot.durable, slot.state), (0, false, "active"));
        assert_eq!(slot.acks.flushed, acks(&mut subscriber).flushed);
    }
}

#[test]
fn deferred_messages_come_again_marked_and_only_those() {
    for rung in rungs() {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, |_| {});
        let (mut subscriber, position) = attach(&bus, durable(AckMode::Deferred));
        assert_eq!(position, Some(Position::New));
        send(&mut publisher, 10);
        // Out of the ring come all ten at once, over a stream as they arrive.
        let count = if rung == Rung::Stream { 10 } else { 6 };
        let expected: Vec<_> = (0..count).map(|sequence| (sequence, false)).collect();
        assert_eq!(take(&mut subscriber, count as usize), expected);
        assert!(subscriber.ack(0, 3).unwrap());
        let parked = |publisher: &Publisher| {
            let subscribers = publisher.stats().subscribers;
            assert_eq!(subscribers.len(), 1);
            (subscribers[0].state, subscribers[0].acks.pending, publisher.subscribers())
        };
        until("it is told", || parked(&publisher) == ("active", 6, 1));
        drop(subscriber);
        until("it is parked", || parked(&publisher) == ("parked", 6, 0));
        // `from` is for those who have no position.
        let mut options = durable(AckMode::Immediate);
        options.from = Start::Earliest;
        let (mut subscriber, position) = attach(&bus, options);
        assert_eq!(position, Some(Position::Resumed));
        send(&mut publisher, 1);
        let expected: Vec<_> = (4..11).map(|sequence| (sequence, sequence < 10)).collect();
        // All ten had been copied out of the ring by the first one, and may have been seen.
        assert_eq!(take(&mut subscriber, 20), expected);
        let acks = subscriber.stats().acks;
        assert_eq!((acks.pending, acks.redelivered), (0, 6));
        drop(subscriber);
        until("it is parked", || parked(&publisher).0 == "parked");
        let (mut subscriber, _) = attach(&bus, durable(AckMode::Deferred));
        assert_eq!(take(&mut subscriber, 20), []);
        // A name that nobody needs any more is given up.
        subscriber.forget();
        until("it is given up", || publisher.stats().subscribers.is_empty());
        assert_eq!(attach(&bus, durable(AckMode::Deferred)).1, Some(Position::New));
    }
}

#[test]
fn leased_batches_stay_until_they_are_acknowledged() {
    for rung in rungs().into_iter().filter(|rung| *rung != Rung::Stream) {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, |_| {});
        let (mut subscriber, _) = attach(&bus, durable(AckMode::Deferred));
        let sent = fill(&mut publisher);
        let mut table = vec![Entry::default(); 16];
        let Drained::Batch { source, count, .. } = subscriber.lease_batch(&mut table).unwrap() else {
            panic!()
        };
        subscriber.release(source);
        assert!(!publisher.send(&[1; 100]).unwrap(), "given back is not done");
        assert!(subscriber.ack(source, count as u64 - 1).unwrap());
        let more = fill(&mut publisher);
        assert!(more > 0);
        drop(subscriber);
        let (mut subscriber, _) = attach(&bus, durable(AckMode::Deferred));
        let taken = take(&mut subscriber, usize::MAX);
        assert_eq!(taken.first(), Some(&(count as u64, false)));
        assert_eq!(taken.len() as u64, sent + more - count as u64);
    }
}

#[test]
fn a_parked_position_holds_room_until_its_reported_eviction() {
    for rung in rungs() {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, |options| options.evict_after = Some(Duration::from_millis(150)));
        let (mut subscriber, _) = attach(&bus, durable(AckMode::Deferred));
        send(&mut publisher, 3);
        assert_eq!(take(&mut subscriber, 9).len(), 3);
        subscriber.ack(0, 1).unwrap();
        drop(subscriber);
        let sent = 3 + fill(&mut publisher);
        until("it is parked", || publisher.stats().subscribers[0].state == "parked");
        assert!(publisher.wait_room(100, Some(PATIENCE)).unwrap());
        assert_eq!(publisher.stats().counters.evicted, 1);
        assert!(publisher.stats().subscribers.is_empty());
        let (mut subscriber, position) = attach(&bus, durable(AckMode::Deferred));
        assert_eq!(position, Some(Position::Lost));
        send(&mut publisher, 1);
        assert_eq!(take(&mut subscriber, 9), [(sent, false)]);
        assert_eq!(subscriber.stats().missed, sent - 2, "all that it had not acknowledged");
    }
}

#[test]
fn of_two_holders_the_second_waits() {
    for rung in rungs() {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, |_| {});
        let (mut first, _) = attach(&bus, durable(AckMode::Deferred));
        let mut second = bus.subscriber("ticks", durable(AckMode::Deferred)).unwrap();
        let mut told = Vec::new();
        until("the second is told", || {
            let _ = second.try_recv().unwrap();
            told.extend(second.notices());
            !told.is_empty()
        });
        let Notice::Failed { error, .. } = &told[0] else { panic!("{told:?}") };
        assert_eq!(error.code(), "ERR_RINGBELL_NAME_TAKEN");
        // Another name is another place.
        let mut other = durable(AckMode::Deferred);
        other.durable = Some("audit".into());
        let (mut other, _) = attach(&bus, other);
        send(&mut publisher, 2);
        assert_eq!(take(&mut first, 9).len(), 2);
        assert_eq!(take(&mut other, 9).len(), 2);
        first.ack(0, 0).unwrap();
        drop(first);
        assert!(second.wait_attached(1, Some(PATIENCE)).unwrap());
        assert_eq!(take(&mut second, 9), [(1, true)]);
    }
}

#[test]
fn positions_end_with_the_publisher_instance() {
    for rung in rungs() {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let mut first = publisher(&bus, |_| {});
        let (subscriber, _) = attach(&bus, durable(AckMode::Deferred));
        send(&mut first, 3);
        drop(subscriber);
        drop(first);
        let mut second = publisher(&bus, |_| {});
        let (mut subscriber, position) = attach(&bus, durable(AckMode::Deferred));
        assert_eq!(position, Some(Position::New));
        send(&mut second, 1);
        assert_eq!(take(&mut subscriber, 9), [(0, false)]);
        // What was in hand when its publisher ended needs no acknowledgement, and gets none.
        drop(second);
        until("it has ended", || {
            let _ = subscriber.try_recv().unwrap();
            subscriber.publishers() == 0
        });
        assert!(!subscriber.ack(0, 0).unwrap());
    }
}

#[test]
fn a_kept_position_keeps_exactly_its_own_slot() {
    for rung in rungs() {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let _publisher = publisher(&bus, |options| options.max_subscribers = 1);
        drop(attach(&bus, durable(AckMode::Batch)));
        let mut other = bus.subscriber("ticks", SubscriberOptions::default()).unwrap();
        let mut told = Vec::new();
        until("there is no slot", || {
            let _ = other.try_recv().unwrap();
            told.extend(other.notices());
            !told.is_empty()
        });
        assert!(matches!(&told[0], Notice::Failed { error, .. } if error.code() == "ERR_RINGBELL_NO_SLOT"));
        let (subscriber, position) = attach(&bus, durable(AckMode::Batch));
        assert_eq!(position, Some(Position::Resumed));
        subscriber.forget();
        assert!(other.wait_attached(1, Some(PATIENCE)).unwrap());
    }
}

#[test]
fn misuse_is_said() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, |_| {});
    send(&mut publisher, 1);
    let (mut immediate, _) = attach(&bus, options(AckMode::Immediate));
    assert_eq!(immediate.ack(0, 0).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    let (mut deferred, _) = attach(&bus, options(AckMode::Deferred));
    assert!(!deferred.ack(0, 0).unwrap(), "before it joined");
    assert!(deferred.ack(0, 1).unwrap_err().to_string().contains("a message that was delivered"));
    send(&mut publisher, 3);
    assert_eq!(take(&mut deferred, 9).len(), 3);
    assert!(deferred.ack(0, 4).unwrap_err().to_string().contains("the last one has sequence 3"));
    assert!(deferred.ack(0, 2).unwrap());
    assert!(!deferred.ack(0, 2).unwrap() && !deferred.ack(0, 1).unwrap(), "no step back");
    assert!(!deferred.ack(77, 0).unwrap(), "nobody's");
    assert_eq!(deferred.stats().acks.pending, 1);

    let refused = |change: &dyn Fn(&mut SubscriberOptions)| {
        let mut options = SubscriberOptions::default();
        change(&mut options);
        bus.subscriber("ticks", options).unwrap_err().code()
    };
    for ack_batch in [0, 7, 257] {
        assert_eq!(refused(&|options| options.ack_batch = ack_batch), "ERR_RINGBELL_INVALID_OPTION");
    }
    for micros in [0, 999, 50_001] {
        let interval = Duration::from_micros(micros);
        assert_eq!(refused(&|options| options.ack_interval = interval), "ERR_RINGBELL_INVALID_OPTION");
    }
    assert_eq!(refused(&|options| options.durable = Some("a b".into())), "ERR_RINGBELL_INVALID_NAME");
}

#[test]
fn topics_that_lose_messages_have_nothing_to_acknowledge() {
    let place = Place::new();
    let bus = place.bus();
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let _publisher = publisher(&bus, |options| options.overflow = overflow);
        for options in [durable(AckMode::Immediate), options(AckMode::Batch), options(AckMode::Deferred)] {
            let mut subscriber = bus.subscriber("ticks", options).unwrap();
            let mut told = Vec::new();
            until("it is refused", || {
                let _ = subscriber.try_recv().unwrap();
                told.extend(subscriber.notices());
                !told.is_empty()
            });
            assert!(
                matches!(&told[0], Notice::Failed { error, .. } if error.code() == "ERR_RINGBELL_REFUSED")
            );
        }
    }
}

/// What the ring cannot hold goes through in pieces under every mode; what it can hold comes again like anything else.
#[test]
fn large_messages_are_acknowledged_like_others() {
    for rung in rungs() {
        let durable = |ack| on(rung, durable(ack));
        let place = Place::new();
        let bus = place.bus();
        let body = |number: u8, len: usize| vec![number; len];
        for ack in [AckMode::Immediate, AckMode::Batch, AckMode::Deferred] {
            let mut publisher = publisher(&bus, |_| {});
            let (mut subscriber, _) = attach(&bus, durable(ack));
            let sender = std::thread::spawn(move || {
                for number in 0..20 {
                    // Half of them are larger than the ring.
                    let len = if number % 2 == 0 { 100_000 } else { 9_000 };
                    assert!(
                        publisher.write(&body(number, len), Some(PATIENCE)).unwrap(),
                        "{ack:?}: never rung"
                    );
                    assert!(publisher.wait_room(8, Some(PATIENCE)).unwrap());
                    assert!(publisher.send(&[number]).unwrap());
                }
                publisher
            });
            for expected in 0..40 {
                let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message in time");
                assert_eq!(message.sequence, expected);
                assert!(message.data.iter().all(|&byte| u64::from(byte) == expected / 2));
                let source = message.source;
                if ack == AckMode::Deferred {
                    assert!(subscriber.ack(source, expected).unwrap());
                }
            }
            assert_eq!(subscriber.stats().missed, 0);
            let mut publisher = sender.join().unwrap();
            assert!(subscriber.recv_timeout(Duration::from_millis(1)).unwrap().is_none());
            assert!(publisher.write(&body(7, 8_180), Some(PATIENCE)).unwrap());
            assert_eq!(subscriber.recv().unwrap().data, body(7, 8_180));
            drop(subscriber);
            let (mut subscriber, _) = attach(&bus, durable(ack));
            let again = take(&mut subscriber, 9);
            let expected = if ack == AckMode::Immediate { vec![] } else { vec![(40, true)] };
            assert_eq!(again, expected, "{ack:?}");
        }
    }
}

/// A subscriber that comes back may come by another way; what its predecessor has left, and may have seen, is the same.
#[test]
fn a_position_goes_from_one_rung_to_another_and_back() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publisher(&bus, |_| {});
    let ways: Vec<Rung> =
        rungs().into_iter().flat_map(|from| rungs().into_iter().flat_map(move |to| [from, to])).collect();
    let mut sent = 0;
    for (round, rung) in ways.into_iter().enumerate() {
        let (mut subscriber, position) = attach(&bus, on(rung, durable(AckMode::Deferred)));
        assert_eq!(position, Some(if round == 0 { Position::New } else { Position::Resumed }));
        send(&mut publisher, 3);
        sent += 3;
        // One was left before, and is marked.
        let left = u64::from(round > 0);
        let expected: Vec<_> =
            (sent - 3 - left..sent).map(|sequence| (sequence, sequence < sent - 3)).collect();
        assert_eq!(take(&mut subscriber, 9), expected, "{round}: {rung}");
        assert!(subscriber.ack(0, sent - 2).unwrap());
        let acks = subscriber.stats().acks;
        assert_eq!((acks.pending, acks.redelivered), (1, left));
        subscriber.close();
        let slots = publisher.stats().subscribers;
        assert_eq!(slots.len(), 1);
        assert_eq!((slots[0].state, slots[0].durable, slots[0].acks.pending), ("parked", true, 1), "{rung}");
    }
    assert_eq!(publisher.stats().counters.evicted, 0);
}

/// What was handed out was reported before: under `Immediate` it never comes again, however its reader ends.
#[test]
fn messages_acknowledged_at_once_reach_one_holder() {
    for rung in rungs() {
        let place = Place::new();
        let bus = place.bus();
        let mut publisher = publisher(&bus, |_| {});
        drop(attach(&bus, on(rung, durable(AckMode::Immediate))));
        send(&mut publisher, 100);
        let mut expected = 0;
        while expected < 100 {
            let (mut subscriber, _) = attach(&bus, on(rung, durable(AckMode::Immediate)));
            for (sequence, marked) in take(&mut subscriber, 1) {
                assert!(sequence >= expected && !marked, "{rung}");
                expected = sequence + 1;
            }
            let acks = subscriber.stats().acks;
            assert_eq!(acks.pending, 0);
            // What had come out of the ring with it counts as read.
            expected += subscriber.stats().received - 1;
        }
        assert_eq!(expected, 100);
    }
}
