//! Streams with a rogue at the other end: publishers and subscribers that break the protocol in every way, or say nothing.
//! Written from `docs/protocol.md` alone, with no line of the library on the rogue's side.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};
use ringbell::acquire::Rung;
use ringbell::bus::{Announced, Announcement, Bus, Overflow, TopicRecord};
use ringbell::topic::{
    AckMode, EndReason, Notice, PublisherOptions, Reconnect, Start, Subscriber, SubscriberOptions,
};

const STREAM: u64 = 2;

fn part(kind: u32, detail: u32, position: u64, body: &[u8]) -> Vec<u8> {
    let head = [kind.to_le_bytes(), detail.to_le_bytes()].concat();
    [&head[..], &position.to_le_bytes(), body].concat()
}

/// A batch of messages of 8 bytes that say their sequence.
fn batch(first: u64, count: u64) -> Vec<u8> {
    let word = |length: u64, kind: u64| (length | kind << 32).to_le_bytes();
    let mut bytes = word(16 + 16 * count, 2).to_vec();
    bytes.extend(first.to_le_bytes());
    bytes.extend(7u64.to_le_bytes());
    for sequence in first..first + count {
        bytes.extend(word(8, 1));
        bytes.extend(sequence.to_le_bytes());
    }
    bytes
}

/// A publisher that announces a stream and answers as a test pleases.
struct Rogue {
    announced: Announced,
    listener: Listener,
    bus: Bus,
    place: Place,
}

impl Rogue {
    fn announced(overflow: Overflow) -> Self {
        let place = Place::new();
        let bus = place.bus();
        let topic = TopicRecord {
            capacity: 4096,
            overflow,
            evict_after_ms: None,
            max_subscribers: 4,
            nonce: "0".repeat(32),
            max_guests: 0,
            memory: None,
        };
        let mut announcement = Announcement::new("ticks");
        announcement.kind = "topic".into();
        announcement.offers = vec![Rung::Stream];
        announcement.topic = Some(topic);
        // Bound before anybody can have heard of the record, or tried again if not.
        let announced = bus.announce(announcement).unwrap();
        let listener = Listener::bind(&place.path.join(announced.record().socket_name()));
        Self { announced, listener, bus, place }
    }

    /// STREAM under a durable name: what was found, and the sequences that go with it.
    fn kept(&self, position: u64, sequence: u64, found: u32, from: u64, below: u64) -> Vec<u8> {
        let mut stream = self.stream(position, position, sequence);
        stream[60..64].copy_from_slice(&found.to_le_bytes());
        stream[64..72].copy_from_slice(&from.to_le_bytes());
        stream[72..80].copy_from_slice(&below.to_le_bytes());
        stream
    }

    fn stream(&self, position: u64, joined: u64, sequence: u64) -> Vec<u8> {
        let id = id_of(&self.announced.record());
        let fields: [(usize, &[u8]); 5] = [
            (8, &id),
            (24, &STREAM.to_le_bytes()),
            (32, &position.to_le_bytes()),
            (40, &joined.to_le_bytes()),
            (48, &sequence.to_le_bytes()),
        ];
        datagram(10, &fields)
    }

    /// Takes the next connection and its HELLO.
    fn accept(&self) -> (Raw, Vec<u8>) {
        let socket = self.listener.accept().unwrap();
        let hello = socket.receive();
        (socket, hello)
    }
}

fn subscribe(bus: &Bus, reconnect: Reconnect) -> Subscriber {
    let mut options = SubscriberOptions::default();
    options.reconnect = reconnect;
    bus.subscriber("ticks", options).unwrap()
}

/// Not within a test.
fn late() -> Reconnect {
    Reconnect { tries: 1, first: Duration::from_secs(3600), longest: Duration::from_secs(3600) }
}

/// Reads until `enough` notices have come, and gives what was received, with all notices.
fn told(subscriber: &mut Subscriber, enough: impl Fn(&Notice) -> bool) -> (Vec<u64>, Vec<Notice>) {
    let (mut numbers, mut notices) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while !notices.iter().any(&enough) {
        assert!(Instant::now() < deadline, "{numbers:?} {notices:?}");
        while let Some(message) = subscriber.recv_timeout(Duration::from_millis(1)).unwrap() {
            assert_eq!(message.data, message.sequence.to_le_bytes());
            numbers.push(message.sequence);
        }
        notices.extend(subscriber.notices());
    }
    (numbers, notices)
}

fn ended(notice: &Notice) -> bool {
    matches!(notice, Notice::Ended { .. })
}

/// Streams `datagrams` behind an honest STREAM, and gives how that ended for the subscriber.
fn after(overflow: Overflow, datagrams: &[(Vec<u8>, bool)]) -> (Vec<u64>, EndReason) {
    let rogue = Rogue::announced(overflow);
    let gift = std::fs::File::open("/dev/null").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (socket, _) = rogue.accept();
            socket.send(&rogue.stream(0, 0, 0));
            for (bytes, with_fds) in datagrams {
                // Linux 6.16 lets nobody send what is refused. Then that was all.
                if socket.send_with(bytes, &[gift.as_fd()][..usize::from(*with_fds)]).is_err() {
                    return;
                }
            }
            // Until the subscriber has gone.
            socket.until_it_ends();
        });
        let mut subscriber = subscribe(&rogue.bus, late());
        let (numbers, notices) = told(&mut subscriber, ended);
        drop(subscriber);
        let reason = notices.into_iter().find_map(|notice| match notice {
            Notice::Ended { reason, .. } => Some(reason),
            _ => None,
        });
        (numbers, reason.unwrap())
    })
}

#[test]
fn an_honest_one_is_received_and_closed() {
    let (numbers, reason) = after(
        Overflow::Block,
        &[
            (part(1, 0, 0, &batch(0, 3)), false),
            (part(1, 0, 72, &batch(3, 2)[..40]), false),
            (part(1, 0, 112, &batch(3, 2)[40..]), false),
            (part(2, 0, 128, &[]), false),
        ],
    );
    assert_eq!((numbers, reason), (vec![0, 1, 2, 3, 4], EndReason::Closed), "the harness itself");
}

#[test]
fn a_stream_breach_ends_the_source_and_keeps_earlier_messages() {
    let good = batch(0, 2);
    let after_good = good.len() as u64;
    let breaches: Vec<(&str, Vec<u8>, bool)> = vec![
        ("a kind of no meaning", part(9, 0, after_good, &[]), false),
        ("a report", part(4, 0, after_good, &[0; 56]), false),
        ("half a head", part(1, 0, after_good, &[])[..9].to_vec(), false),
        ("no bytes", part(1, 0, after_good, &[]), false),
        ("not aligned", part(1, 0, after_good, &[0; 12]), false),
        ("a detail", part(1, 1, after_good, &batch(2, 1)), false),
        ("backwards", part(1, 0, 0, &batch(2, 1)), false),
        ("forwards, where nothing may be left out", part(1, 0, after_good + 8, &batch(2, 1)), false),
        ("beyond the end of time", part(1, 0, 1 << 62, &batch(2, 1)), false),
        ("no batch", part(1, 0, after_good, &[0xff; 64]), false),
        ("an empty batch", part(1, 0, after_good, &[batch(2, 0), batch(2, 1)].concat()), false),
        ("a sequence that goes backwards", part(1, 0, after_good, &batch(1, 1)), false),
        ("too long", part(1, 0, after_good, &vec![0; 64 << 10]), false),
        ("descriptors", part(1, 0, after_good, &batch(2, 1)), true),
        ("an end elsewhere", part(2, 0, after_good + 8, &[]), false),
        ("an end with a body", part(2, 0, after_good, &[0; 8]), false),
        ("an end of no meaning", part(2, 7, after_good, &[]), false),
        ("counters that are too short", part(3, 0, after_good, &[0; 72]), false),
        ("more slots than there are", part(3, u32::MAX, after_good, &[0; 80]), false),
    ];
    for (what, breach, with_fds) in breaches {
        let (numbers, reason) =
            after(Overflow::Block, &[(part(1, 0, 0, &good), false), (breach.clone(), with_fds)]);
        assert_eq!(numbers, [0, 1], "{what}");
        match reason {
            EndReason::Failed(error) if with_fds && error.code() == "ERR_RINGBELL_DISCONNECTED" => {}
            EndReason::Failed(error) => {
                assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{what}: {error}")
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn an_end_says_why() {
    for (detail, code) in [(1, "ERR_RINGBELL_EVICTED"), (2, "ERR_RINGBELL_REFUSED")] {
        let (numbers, reason) = after(
            Overflow::Block,
            &[(part(1, 0, 0, &batch(0, 1)), false), (part(2, detail, 40, &[]), false)],
        );
        let EndReason::Failed(error) = reason else { panic!("{reason:?}") };
        assert_eq!((numbers, error.code()), (vec![0], code));
    }
}

#[test]
fn messages_overwritten_on_the_way_are_counted() {
    let cut = batch(1, 4);
    let (numbers, reason) = after(
        Overflow::DropOldest,
        &[
            (part(1, 0, 0, &batch(0, 1)), false),
            // A whole message of a batch, half of the next, and the rest was overwritten.
            (part(1, 0, 40, &cut[..48]), false),
            (part(1, 0, 4096, &batch(9, 2)), false),
            (part(2, 0, 4152, &[]), false),
        ],
    );
    assert_eq!((numbers, reason), (vec![0, 1, 9, 10], EndReason::Closed));
}

/// What a publisher that breaks a rule says to HELLO.
type Answer = dyn Fn(&Rogue) -> Vec<u8> + Sync;

/// Each of the answers to HELLO fails the attachment with its code.
fn refused_as(
    answers: &[(&str, Box<Answer>, &str)],
    heard: impl Fn(&[u8]) + Sync,
    subscribe: impl Fn(&Bus) -> Subscriber,
) {
    for (what, answer, code) in answers {
        let rogue = Rogue::announced(Overflow::Block);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (socket, hello) = rogue.accept();
                heard(&hello);
                socket.send(&answer(&rogue));
                socket.until_it_ends();
            });
            let mut subscriber = subscribe(&rogue.bus);
            let (_, notices) = told(&mut subscriber, |notice| matches!(notice, Notice::Failed { .. }));
            let Some(Notice::Failed { error, .. }) = notices.last() else { panic!("{notices:?}") };
            assert_eq!(error.code(), *code, "{what}: {error}");
        });
    }
}

#[test]
fn an_answer_to_hello_that_breaks_a_rule_is_refused() {
    let answers: Vec<(&str, Box<Answer>, &str)> = vec![
        ("garbage", Box::new(|_| b"HTTP/1.1 200 OK".to_vec()), "ERR_RINGBELL_CORRUPT_PEER"),
        ("half", Box::new(|rogue| rogue.stream(0, 0, 0)[..64].to_vec()), "ERR_RINGBELL_CORRUPT_PEER"),
        ("segments", Box::new(|_| datagram(2, &[])), "ERR_RINGBELL_CORRUPT_PEER"),
        ("another instance", Box::new(|_| datagram(10, &[(24, &[2])])), "ERR_RINGBELL_CORRUPT_PEER"),
        ("no position", Box::new(|rogue| rogue.stream(4, 4, 0)), "ERR_RINGBELL_CORRUPT_PEER"),
        ("joined before it begins", Box::new(|rogue| rogue.stream(16, 8, 0)), "ERR_RINGBELL_CORRUPT_PEER"),
        ("no slot", Box::new(|_| datagram(6, &[(8, &[8])])), "ERR_RINGBELL_NO_SLOT"),
        ("nothing in common", Box::new(|_| datagram(6, &[(8, &[6])])), "ERR_RINGBELL_ACQUIRE"),
        (
            "another version",
            Box::new(|_| datagram(6, &[(4, &[9]), (8, &[1])])),
            "ERR_RINGBELL_PROTOCOL_VERSION",
        ),
    ];
    refused_as(
        &answers,
        |hello| {
            assert_eq!((&hello[..6], hello[6], hello.len(), hello[24]), (MAGIC, 1, 64, 2));
        },
        |bus| subscribe(bus, late()),
    );
}

#[test]
fn a_silent_publisher_does_not_block_the_others() {
    let rogue = Rogue::announced(Overflow::Block);
    let mut honest = rogue.bus.publisher("ticks", PublisherOptions::default()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (socket, _) = rogue.accept();
            socket.send(&rogue.stream(0, 0, 0));
            socket.until_it_ends();
        });
        let mut subscriber = subscribe(&rogue.bus, late());
        assert!(subscriber.wait_attached(2, Some(PATIENCE)).unwrap());
        assert!(honest.send(&0u64.to_le_bytes()).unwrap());
        assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, 0u64.to_le_bytes());
        // Its counters are asked for, in vain.
        assert_eq!(subscriber.stats().sources.len(), 2);
        drop(subscriber);
    });
}

fn soon(tries: u32) -> Reconnect {
    Reconnect { tries, first: Duration::from_millis(1), longest: Duration::from_millis(4) }
}

#[test]
fn a_lost_stream_is_taken_up_again_where_it_was() {
    // Behind what was received already; with some of it lost in between.
    for (again, missed) in [(2, 0), (9, 4)] {
        let rogue = Rogue::announced(Overflow::Block);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (socket, hello) = rogue.accept();
                assert_eq!(hello[36], 0, "the latest");
                socket.send(&rogue.stream(0, 0, 0));
                socket.send(&part(1, 0, 0, &batch(0, 5)));
                drop(socket);
                let (socket, hello) = rogue.accept();
                assert_eq!(hello[36], 1, "the earliest");
                socket.send(&rogue.stream(4096, 8192, again));
                socket.send(&part(1, 0, 4096, &batch(again, 8)));
                socket.send(&part(2, 0, 4096 + 24 + 8 * 16, &[]));
                socket.until_it_ends();
            });
            let mut subscriber = subscribe(&rogue.bus, soon(3));
            let closed = |notice: &Notice| matches!(notice, Notice::Ended { reason: EndReason::Closed, .. });
            let (numbers, notices) = told(&mut subscriber, closed);
            let expected: Vec<u64> = (0..5).chain((again..again + 8).filter(|number| *number >= 5)).collect();
            assert_eq!(numbers, expected);
            let stats = subscriber.stats();
            assert_eq!((stats.received, stats.missed), (expected.len() as u64, missed));
            let lost = notices.iter().find_map(|notice| match notice {
                Notice::Ended { reason: EndReason::Failed(error), .. } => Some(error.code()),
                _ => None,
            });
            assert_eq!(lost, Some("ERR_RINGBELL_DISCONNECTED"));
            let attached = notices.iter().filter(|notice| matches!(notice, Notice::Attached { .. })).count();
            assert_eq!(attached, 2);
        });
    }
}

#[test]
fn a_lost_stream_is_given_up_after_as_many_tries_as_allowed() {
    for tries in [1, 3] {
        let rogue = Rogue::announced(Overflow::Block);
        let connections = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (socket, _) = rogue.accept();
                socket.send(&rogue.stream(0, 0, 0));
                drop(socket);
                for _ in 0..tries {
                    let (socket, _) = rogue.accept();
                    connections.fetch_add(1, Ordering::Relaxed);
                    socket.send(&datagram(6, &[(8, &[5])]));
                    socket.until_it_ends();
                }
            });
            let mut subscriber = subscribe(&rogue.bus, soon(tries));
            let given_up = |notice: &Notice| matches!(notice, Notice::GivenUp { .. });
            let (_, notices) = told(&mut subscriber, given_up);
            let Some(Notice::GivenUp { record, tries: tried, error }) = notices.iter().find(|n| given_up(n))
            else {
                panic!("{notices:?}");
            };
            let refused = ("ticks", tries, "ERR_RINGBELL_REFUSED");
            assert_eq!((record.service.as_str(), *tried, error.code()), refused);
            assert_eq!(subscriber.publishers(), 0);
        });
        assert_eq!(connections.load(Ordering::Relaxed), tries as usize, "and not once more");
    }
}

/// A connection to a real publisher, with HELLO sent.
fn guest(bus: &Bus, start: u32) -> Raw {
    guest_as(bus, start, 0)
}

/// The same under a durable name.
fn guest_as(bus: &Bus, start: u32, name: u64) -> Raw {
    let record = bus.find("ticks").unwrap().unwrap();
    let socket = Raw::to(bus, &record);
    let fields: [(usize, &[u8]); 5] = [
        (8, &id_of(&record)),
        (24, &STREAM.to_le_bytes()),
        (32, &42u32.to_le_bytes()),
        (36, &start.to_le_bytes()),
        (40, &name.to_le_bytes()),
    ];
    assert!(socket.send(&datagram(1, &fields)));
    socket
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// FNV-1a of "a", as the page and the draft give it.
const NAME_A: u64 = 0xaf63_dc4c_8601_ec8c;

/// What somebody says under a durable name.
fn claim(detail: u32, cursor: u64, delivered: u64, acknowledged: u64) -> Vec<u8> {
    let figures = [delivered, 0, 0, delivered, acknowledged, 1, 0];
    part(4, detail, cursor, &figures.map(u64::to_le_bytes).concat())
}

fn report(cursor: u64, detail: u32) -> Vec<u8> {
    part(4, detail, cursor, &[0; 56])
}

#[test]
fn a_subscriber_breach_costs_only_its_own_connection_and_slot() {
    let place = Place::new();
    let bus = place.bus();
    let mut options = PublisherOptions::default();
    options.capacity = 4096;
    let mut publisher = bus.publisher("ticks", options).unwrap();
    let mut wish = SubscriberOptions::default();
    wish.acquire = Some(Rung::Stream);
    wish.from = Start::Latest;
    let mut good = bus.subscriber("ticks", wish).unwrap();
    assert!(good.wait_attached(1, Some(PATIENCE)).unwrap());
    let gift = std::fs::File::open("/dev/null").unwrap();
    let breaches: Vec<(&str, Vec<u8>, bool)> = vec![
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        ("half a report", report(0, 0)[..71].to_vec(), false),
        ("a report and more", [report(0, 0), vec![0; 64]].concat(), false),
        ("bytes", part(1, 0, 0, &[0; 24]), false),
        ("hello again", datagram(1, &[]), false),
        ("a cursor that is none", report(4, 0), false),
        ("a cursor ahead of what was sent", report(1 << 20, 0), false),
        ("a detail of no meaning", report(0, 3), false),
        ("descriptors", report(0, 0), true),
    ];
    let mut number = 0u64;
    let mut pass = |publisher: &mut ringbell::topic::Publisher| {
        while !publisher.send(&number.to_le_bytes()).unwrap() {
            assert!(publisher.wait_room(8, Some(PATIENCE)).unwrap());
        }
        assert_eq!(good.recv_timeout(PATIENCE).unwrap().unwrap().data, number.to_le_bytes());
        number += 1;
    };
    for (what, breach, with_fds) in &breaches {
        let rogue = guest(&bus, 0);
        let stream = rogue.receive();
        assert_eq!((&stream[..6], stream[6], stream.len()), (MAGIC, 10, 80), "{what}");
        assert_eq!(publisher.subscribers(), 2, "{what}");
        pass(&mut publisher);
        if rogue.send_with(breach, &[gift.as_fd()][..usize::from(*with_fds)]).is_ok() {
            rogue.until_it_ends();
        }
        drop(rogue);
        until("its slot is free", || publisher.subscribers() == 1);
        pass(&mut publisher);
    }
    for start in [2, u32::MAX] {
        let refused = guest(&bus, start).receive();
        assert_eq!((refused[6], refused[8], refused.len()), (6, 5, 256), "{start}");
    }
    // Those that vanish at any step, and one that neither reads nor reports.
    drop(guest(&bus, 1));
    let silent = guest(&bus, 1);
    silent.receive();
    until("it has its slot, the other has not", || publisher.subscribers() == 2);
    let mut sent = 0;
    while publisher.send(&[1; 64]).unwrap() {
        sent += 1;
    }
    assert!(sent < 64, "it is waited for, as for any that does not read");
    drop(silent);
    for _ in 0..sent {
        assert_eq!(good.recv_timeout(PATIENCE).unwrap().unwrap().data, [1; 64]);
    }
    assert!(publisher.wait_room(64, Some(PATIENCE)).unwrap());
    assert_eq!(publisher.stats().counters.evicted, 0);
}

#[test]
fn stream_slots_run_out_and_a_departure_frees_one() {
    let place = Place::new();
    let bus = place.bus();
    let mut options = PublisherOptions::default();
    options.max_subscribers = 2;
    let publisher = bus.publisher("ticks", options).unwrap();
    let guests = [guest(&bus, 0), guest(&bus, 0)];
    for guest in &guests {
        assert_eq!(guest.receive()[6], 10);
    }
    let refused = guest(&bus, 0).receive();
    assert_eq!((refused[6], refused[8]), (6, 8));
    drop(guests);
    until("they have left", || publisher.subscribers() == 0);
    assert_eq!(guest(&bus, 0).receive()[6], 10);
}

#[test]
fn a_durable_breach_ends_the_connection_and_keeps_the_position() {
    let lies: [(&str, Vec<u8>); 9] = [
        ("acknowledged goes back", claim(0, 80, 4, 1)),
        ("acknowledged is not known any more", claim(0, 80, 4, u64::MAX)),
        ("acknowledged before it was delivered", claim(0, 80, 4, 5)),
        ("delivered goes back", claim(0, 80, 3, 2)),
        ("delivered before it was sent", claim(0, 80, 6, 2)),
        ("delivered at the end of time", claim(0, 80, u64::MAX, 2)),
        ("a cursor that goes back", claim(0, 40, 4, 2)),
        ("a cursor that is none", claim(0, 84, 4, 2)),
        ("a lie, and gives up", claim(2, 1 << 20, 4, 2)),
    ];
    let place = Place::new();
    let bus = place.bus();
    for (what, lie) in lies {
        let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
        let rogue = guest_as(&bus, 0, NAME_A);
        let stream = rogue.receive();
        assert_eq!((stream[60], word(&stream, 64), word(&stream, 72)), (1, 0, 0), "nothing was kept");
        // Batches of 40 bytes.
        for number in 0..5u64 {
            assert!(publisher.send(&number.to_le_bytes()).unwrap());
        }
        let mut came = 0;
        while came < 5 * 40 {
            let datagram = rogue.receive();
            came += if datagram[0] == 1 { datagram.len() - 16 } else { 0 };
        }
        // One name, one holder.
        let refused = guest_as(&bus, 0, NAME_A).receive();
        assert_eq!((refused[6], refused[8], refused.len()), (6, 9, 256));
        assert!(rogue.send(&claim(0, 80, 4, 2)) && rogue.send(&lie));
        rogue.until_it_ends();
        until("its slot is left", || publisher.subscribers() == 0);
        let slot = publisher.stats().subscribers[0].clone();
        assert_eq!(
            (slot.state, slot.acks.pending, slot.acks.flushed, slot.durable),
            ("parked", 2, 1, true),
            "{what}"
        );
        let next = guest_as(&bus, 1, NAME_A);
        let stream = next.receive();
        assert_eq!((stream[60], word(&stream, 32), word(&stream, 48)), (2, 80, 2), "{what}");
        assert_eq!((word(&stream, 64), word(&stream, 72)), (2, 4), "{what}");
        // An honest word, and it is given up.
        assert!(next.send(&claim(2, 80, 4, 2)));
        next.until_it_ends();
        until("it is given up", || publisher.stats().subscribers.is_empty());
    }
}

/// A subscriber under a durable name.
fn durable_subscriber(bus: &Bus, reconnect: Reconnect) -> Subscriber {
    let mut options = SubscriberOptions::default();
    (options.durable, options.ack, options.reconnect) = (Some("a".into()), AckMode::Deferred, reconnect);
    bus.subscriber("ticks", options).unwrap()
}

#[test]
fn an_invalid_durable_answer_is_refused() {
    let answers: Vec<(&str, Box<Answer>, &str)> = vec![
        ("no word of a position", Box::new(|rogue| rogue.stream(0, 0, 0)), "ERR_RINGBELL_CORRUPT_PEER"),
        ("of no meaning", Box::new(|rogue| rogue.kept(0, 0, 4, 0, 0)), "ERR_RINGBELL_CORRUPT_PEER"),
        ("the name is taken", Box::new(|_| datagram(6, &[(8, &[9])])), "ERR_RINGBELL_NAME_TAKEN"),
    ];
    refused_as(&answers, |hello| assert_eq!(word(hello, 40), NAME_A), |bus| durable_subscriber(bus, late()));
}

/// A publisher may say that anything was acknowledged, or seen: then that is so, and nothing else happens.
#[test]
fn any_sequences_may_be_kept() {
    let all = [0, 1, 3, 100, 1 << 62, u64::MAX];
    for from in all {
        for below in all {
            let rogue = Rogue::announced(Overflow::Block);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (socket, _) = rogue.accept();
                    socket.send(&rogue.kept(0, 0, 3, from, below));
                    socket.send(&part(1, 0, 0, &batch(0, 5)));
                    socket.send(&part(2, 0, 24 + 5 * 16, &[]));
                    socket.until_it_ends();
                });
                let mut subscriber = durable_subscriber(&rogue.bus, late());
                let mut got = Vec::new();
                while subscriber.publishers() > 0 || got.is_empty() {
                    let message = subscriber.recv_timeout(Duration::from_millis(1)).unwrap();
                    got.extend(message.map(|message| (message.sequence, message.redelivered)));
                    let notices = subscriber.notices();
                    if notices.iter().any(ended) {
                        break;
                    }
                }
                let expected: Vec<_> =
                    (from.min(5)..5).map(|sequence| (sequence, sequence < below)).collect();
                assert_eq!(got, expected, "{from} {below}");
                assert_eq!(subscriber.stats().missed, 0);
            });
        }
    }
}

/// What was handed out is known to the publisher, however little it reads: what it could not be told of waits.
#[test]
fn every_durable_message_handed_out_is_reported() {
    let rogue = Rogue::announced(Overflow::Block);
    let mut subscriber = durable_subscriber(&rogue.bus, late());
    let (socket, _) = rogue.accept();
    socket.send(&rogue.kept(0, 0, 1, 0, 0));
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    // As many as there is room for, each by itself: it takes a report each to read them.
    let mut sent = 0;
    while socket.try_send_with(&part(1, 0, 40 * sent, &batch(sent, 1)), &[]).is_ok() {
        sent += 1;
    }
    let take = |subscriber: &mut Subscriber, patience: Duration| {
        let message = subscriber.recv_timeout(patience).unwrap();
        message.map(|message| message.sequence)
    };
    let mut next = 0;
    while let Some(sequence) = take(&mut subscriber, Duration::from_millis(100)) {
        assert_eq!(sequence, next);
        next += 1;
    }
    let handed_out = subscriber.stats().received;
    assert!(handed_out > 0 && handed_out < sent, "{handed_out} of {sent}");
    let mut told = 0;
    while let Some((report, _)) = socket.try_receive() {
        told = word(&report, 40);
    }
    assert!(told >= handed_out, "{told} of {handed_out}");
    while next < sent {
        assert_eq!(take(&mut subscriber, PATIENCE), Some(next));
        next += 1;
        // Only so long as it hears of it.
        while socket.try_receive().is_some() {}
    }
}

#[test]
fn a_lost_durable_stream_resumes_and_marks_redeliveries() {
    let rogue = Rogue::announced(Overflow::Block);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (socket, hello) = rogue.accept();
            assert_eq!(word(&hello, 40), NAME_A);
            socket.send(&rogue.kept(0, 0, 1, 0, 0));
            socket.send(&part(1, 0, 0, &batch(0, 5)));
            // All that it reports is lost with the connection.
            while word(&socket.receive(), 40) < 5 {}
            drop(socket);
            let (socket, hello) = rogue.accept();
            assert_eq!(word(&hello, 40), NAME_A);
            socket.send(&rogue.kept(0, 0, 2, 2, 0));
            socket.send(&part(1, 0, 0, &batch(0, 6)));
            socket.send(&part(2, 0, 24 + 6 * 16, &[]));
            socket.until_it_ends();
        });
        let mut subscriber = durable_subscriber(&rogue.bus, soon(3));
        let mut got = Vec::new();
        while got.len() < 9 {
            let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message in time");
            got.push((message.sequence, message.redelivered));
        }
        let first = (0..5).map(|sequence| (sequence, false));
        let again = (2..6).map(|sequence| (sequence, sequence < 5));
        assert_eq!(got, first.chain(again).collect::<Vec<_>>());
    });
}

/// However its subscriber goes: with more unread at both ends than is looked at in one turn, and with nobody to answer to.
#[test]
fn reports_before_the_end_of_a_durable_subscriber_count() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
    for sequence in 0..60u64 {
        let position = 40 * sequence;
        let rogue = guest_as(&bus, 0, NAME_A);
        let stream = rogue.receive();
        assert_eq!((word(&stream, 32), word(&stream, 48)), (position, sequence));
        assert_eq!(rogue.receive()[0], 3, "the counters");
        assert!(publisher.send(&sequence.to_le_bytes()).unwrap());
        let mut ready = [PollFd::new(rogue.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::NONE), Ok(1), "its bytes are there, and stay unread");
        let asks = u32::from(sequence % 3 != 1);
        for _ in 0..100 {
            assert!(rogue.send(&claim(asks, position, sequence + 1, sequence)));
        }
        assert!(rogue.send(&claim(asks, position + 40, sequence + 1, sequence + 1)));
        if sequence % 3 == 0 {
            // In order: who sees the end finds the slot left.
            shutdown(rogue.0.as_raw_fd(), Shutdown::Write).unwrap();
            rogue.until_it_ends();
            assert_eq!(publisher.subscribers(), 0);
        }
        drop(rogue);
        until("its slot is left", || publisher.subscribers() == 0);
        let slot = publisher.stats().subscribers[0].clone();
        assert_eq!((slot.state, slot.acks.pending, slot.backlog), ("parked", 0, 0), "{sequence}");
    }
}

#[test]
fn the_end_of_a_publisher_is_that_of_the_stream_that_came_back() {
    let rogue = Rogue::announced(Overflow::Block);
    let mut subscriber = subscribe(&rogue.bus, soon(3));
    let (socket, _) = rogue.accept();
    socket.send(&rogue.stream(0, 0, 0));
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    drop(socket);
    let (socket, _) = std::thread::scope(|scope| {
        let back = scope.spawn(|| rogue.accept());
        // It notices the end, and asks what became of the publisher.
        while !back.is_finished() {
            assert!(subscriber.recv_timeout(Duration::from_millis(5)).unwrap().is_none());
        }
        back.join().unwrap()
    });
    // From here on its thread is busy: the stream comes back, and the publisher goes for good.
    socket.send(&rogue.stream(0, 0, 0));
    let Rogue { announced, listener, bus, place: _place } = rogue;
    drop((socket, announced, listener));
    until("the record is gone", || bus.find("ticks").unwrap().is_none());
    let mut ends = 0;
    let deadline = Instant::now() + PATIENCE;
    while ends < 2 || subscriber.publishers() > 0 {
        assert!(Instant::now() < deadline, "{ends} ends, {} publishers", subscriber.publishers());
        assert!(subscriber.recv_timeout(Duration::from_millis(5)).unwrap().is_none());
        ends += subscriber.notices().iter().filter(|notice| ended(notice)).count();
    }
}

#[test]
fn an_acknowledgement_of_a_sleeping_subscriber_is_reported() {
    let rogue = Rogue::announced(Overflow::Block);
    let mut options = SubscriberOptions::default();
    options.reconnect = late();
    options.ack = AckMode::Deferred;
    let mut subscriber = rogue.bus.subscriber("ticks", options).unwrap();
    let (socket, _) = rogue.accept();
    socket.send(&rogue.stream(0, 0, 0));
    let mut position = 0;
    for first in 0..10 {
        let bytes = batch(first * 200, 200);
        socket.send(&part(1, 0, position, &bytes));
        position += bytes.len() as u64;
    }
    for _ in 0..2000 {
        assert!(subscriber.recv_timeout(PATIENCE).unwrap().is_some());
    }
    subscriber.notices();
    while !subscriber.arm() {
        assert!(subscriber.try_recv().unwrap().is_none());
    }
    // Asleep, as a JS iterator is between two messages, while the publisher is slow to take reports.
    for sequence in 0..2000 {
        assert!(subscriber.ack(0, sequence).unwrap());
    }
    let mut last = 0;
    let deadline = Instant::now() + PATIENCE;
    while last < position {
        assert!(Instant::now() < deadline, "the publisher waits for room, the subscriber for messages");
        if let Some((bytes, _)) = socket.try_receive() {
            last = word(&bytes, 8);
            continue;
        }
        let mut rung = [PollFd::new(subscriber.as_fd(), PollFlags::POLLIN)];
        if poll(&mut rung, 50u16).unwrap() > 0 {
            subscriber.harvest().unwrap();
            assert!(subscriber.try_recv().unwrap().is_none());
            subscriber.arm();
        }
    }
}
