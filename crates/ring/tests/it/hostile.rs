//! Hostile peers (I11): short runs of the drivers that `fuzz/` runs for longer, and two tests with real concurrency.
#![cfg(not(miri))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{self, Everybody, Random, Watchdog, committed, drain, hostile, join, topic};
use proptest::prelude::*;
use ringbell_ring::layout::{SLOT_LEN, SLOTS_OFFSET};
use ringbell_ring::{Entry, Fault, Newest, Overflow, Start};

const TIME: Duration = Duration::from_secs(2);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(4096),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_hostile_publisher_is_a_fault_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        hostile::data(&bytes);
    }

    #[test]
    fn hostile_neighbours_are_never_noticed(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        hostile::control(&bytes);
    }

    #[test]
    fn a_hostile_guest_never_delays_the_publisher_for_long(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        hostile::guest(&bytes);
    }
}

/// The seeds of the fuzz targets. Some of them failed once.
#[test]
fn the_seeds_are_harmless() {
    let targets = [
        ("hostile_data", hostile::data as fn(&[u8])),
        ("hostile_control", hostile::control),
        ("hostile_guest", hostile::guest),
    ];
    for (name, run) in targets {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/");
        for file in std::fs::read_dir(format!("{seeds}{name}")).unwrap() {
            run(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

/// Each case is one wrong word at an offset of the data segment, after two honest messages of 16 bytes.
#[test]
fn each_broken_rule_is_a_fault() {
    const FRAMES: usize = 4096;
    let batch = |body: u64| 2 << 32 | body;
    let message = |length: u64| 1 << 32 | length;
    let cases: [(&str, &[(usize, u64)]); 13] = [
        ("head is not aligned", &[(128, 100)]),
        ("positions at the end of all numbers", &[(128, u64::MAX - 7), (256, u64::MAX - 15)]),
        ("floor above head", &[(128, 1 << 20), (256, 1 << 21)]),
        ("floor more than a capacity behind", &[(128, 1 << 20)]),
        ("a batch is empty", &[(FRAMES, batch(16))]),
        ("a batch ends in the middle of a word", &[(FRAMES, batch(41))]),
        ("a batch reaches beyond head", &[(FRAMES, batch(400))]),
        ("a message where a batch should be", &[(FRAMES, message(16))]),
        ("a batch where a message should be", &[(FRAMES + 24, batch(40))]),
        ("a message reaches beyond its batch", &[(FRAMES + 24, message(17))]),
        ("more headers than the message has bytes", &[(FRAMES + 24, 17 << 48 | message(16))]),
        ("a batch with headers", &[(FRAMES, 8 << 48 | batch(40))]),
        ("a sequence went backwards", &[(FRAMES + 48 + 8, 0)]),
    ];
    for (what, words) in cases {
        let (memory, mut producer) = topic(4096, 1, Overflow::DropOldest, 0);
        let mut consumer = join(&memory, 0, Overflow::DropOldest, Start::Latest).unwrap();
        for _ in 0..2 {
            assert!(committed(producer.send(&[0; 16], 0, &mut Everybody)));
        }
        for &(offset, word) in words {
            memory.data_word(offset).store(word, Ordering::Relaxed);
        }
        let fault = drain(&mut consumer).expect_err(what);
        assert!(matches!(fault, Fault::Corrupt(_)), "{what}: {fault:?}");
        assert_eq!(drain(&mut consumer), Err(fault), "{what}: for good");
        assert!(!consumer.acknowledge());
    }
}

/// The same for a reader of the newest message, after two messages of 16 bytes: `last` is 48.
#[test]
fn each_broken_rule_of_the_newest_message_is_a_fault() {
    const LAST: usize = 152;
    const NEWEST: usize = 4096 + 48;
    let cases: [(&str, &[(usize, u64)]); 10] = [
        ("last is head", &[(LAST, 96)]),
        ("last is above head", &[(LAST, 1 << 40)]),
        ("last is not aligned", &[(LAST, 47)]),
        ("last is in the middle of a batch", &[(LAST, 72)]),
        ("head is not a position", &[(128, 97)]),
        ("a batch reaches beyond head", &[(NEWEST, 2 << 32 | 48)]),
        ("a batch ends before head", &[(NEWEST, 2 << 32 | 32)]),
        ("a message where a batch should be", &[(NEWEST, 1 << 32 | 16)]),
        ("a message that does not fill its batch", &[(NEWEST + 24, 1 << 32 | 8)]),
        ("a sequence went backwards", &[(NEWEST + 8, 0)]),
    ];
    for (what, words) in cases {
        let (memory, mut producer) = topic(4096, 1, Overflow::DropOldest, 0);
        let mut consumer = join(&memory, 0, Overflow::DropOldest, Start::Latest).unwrap();
        let mut target = [0; 16];
        for _ in 0..2 {
            assert!(committed(producer.send(&[0; 16], 0, &mut Everybody)));
            assert!(matches!(consumer.newest(&mut target), Ok(Newest::Message { length: 16, .. })));
        }
        for &(offset, word) in words {
            memory.data_word(offset).store(word, Ordering::Relaxed);
        }
        let fault = consumer.newest(&mut target).expect_err(what);
        assert!(matches!(fault, Fault::Corrupt(_)), "{what}: {fault:?}");
        assert_eq!(consumer.newest(&mut target), Err(fault), "{what}: for good");
        assert_eq!(consumer.newest_again(&mut target), None, "{what}: for good");
    }
}

/// The same for pieces: a message of 32 bytes, whose first piece of 16 bytes was read. The wrong word is in the second.
#[test]
fn each_broken_rule_of_a_large_message_is_a_fault() {
    const SECOND: usize = 4096 + 64;
    let batch = |body: u64| 2 << 32 | body;
    let fragment = |body: u64| 3 << 32 | body;
    let cases: [(&str, &[(usize, u64)]); 13] = [
        ("another length than before", &[(32, 33)]),
        ("a gap between two pieces", &[(40, 17), (32, 40)]),
        ("the first piece again", &[(40, 0)]),
        ("longer than its message", &[(0, batch(56)), (24, fragment(40))]),
        ("an offset at the end", &[(40, 32)]),
        ("an offset at the end of all numbers", &[(40, u64::MAX)]),
        ("a message of no believable length", &[(32, 1 << 62)]),
        ("a piece of nothing", &[(24, fragment(16))]),
        ("other headers than before", &[(24, 8 << 48 | fragment(32))]),
        ("more headers than the message has bytes", &[(24, 33 << 48 | fragment(32))]),
        ("a piece that is longer than its batch", &[(24, fragment(40))]),
        ("a batch with more than a piece", &[(0, batch(64))]),
        ("reaches beyond head", &[(0, batch(144)), (24, fragment(112)), (32, 112)]),
    ];
    for (what, words) in cases {
        let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let mut gathering = support::Gathering::default();
        assert!(producer.begin_large(32));
        for _ in 0..2 {
            assert!(support::drain_into(&mut consumer, &mut gathering).unwrap().is_empty());
            assert_eq!(producer.push_large(&[0; 16], 0, &mut Everybody).bytes, 16);
        }
        for &(offset, word) in words {
            memory.data_word(SECOND + offset).store(word, Ordering::Relaxed);
        }
        let fault = consumer.read_large(&mut [0; 32]).expect_err(what);
        assert!(matches!(fault, Fault::Corrupt(_)), "{what}: {fault:?}");
        assert_eq!(drain(&mut consumer), Err(fault), "{what}: for good");
        assert_eq!(consumer.read_large(&mut [0; 32]), Err(fault), "{what}: for good");
    }
}

#[test]
fn pieces_where_messages_may_be_dropped_are_a_fault() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let (memory, mut producer) = topic(4096, 1, overflow, 0);
        let mut consumer = join(&memory, 0, overflow, Start::Latest).unwrap();
        assert!(committed(producer.send(&[0; 40], 0, &mut Everybody)));
        memory.data_word(4096 + 24).store(3 << 32 | 40, Ordering::Relaxed);
        assert!(matches!(drain(&mut consumer), Err(Fault::Corrupt(_))));
    }
}

/// A thread scribbles over every word of the data segment, including `head` and frames, while it is read.
#[test]
fn reading_survives_a_publisher_gone_mad() {
    let _watchdog = Watchdog::new(60);
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let (memory, mut producer) = topic(4096, 2, overflow, 0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for slot in 0..2 {
                let (memory, done) = (&memory, &done);
                scope.spawn(move || {
                    let mut random = Random(slot as u64);
                    let mut slab = vec![0; 8192];
                    let mut messages = 0u64;
                    while !done.load(Ordering::Relaxed) {
                        let start = if random.below(2) == 0 { Start::Latest } else { Start::Earliest };
                        let Ok(mut consumer) = join(memory, slot, overflow, start) else { continue };
                        let mut table = vec![Entry::default(); 1 + random.below(64) as usize];
                        let room = random.below(8192) as usize;
                        for turn in 0..1000 {
                            let read = if slot == 0 && turn % 8 == 0 {
                                consumer.lease(&mut table)
                            } else {
                                consumer.read(&mut slab[..room], 0, &mut table)
                            };
                            match read {
                                Err(_) => break,
                                Ok(ringbell_ring::Read::Messages { count, .. }) => messages += count as u64,
                                Ok(ringbell_ring::Read::Large(_)) if turn % 3 == 0 => consumer.skip_large(),
                                Ok(ringbell_ring::Read::Large(_)) => {
                                    let _ = consumer.read_large(&mut slab[..room]);
                                }
                                Ok(_) => {}
                            }
                            let _ = (consumer.acknowledge(), consumer.arm(), consumer.ended());
                            if turn % 5 == 0 {
                                let _ = consumer.newest(&mut slab[..room]);
                                let _ = consumer.newest_again(&mut slab[..room]);
                            }
                        }
                        let _ = consumer.leave();
                    }
                    messages
                });
            }
            let mut random = Random(99);
            let end = Instant::now() + TIME / 2;
            while Instant::now() < end {
                // First something honest, so that the readers begin to read it, then something wrong anywhere.
                for _ in 0..random.below(64) {
                    let length = random.below(512) as usize;
                    let _ = producer.send(&[7; 512][..length], 0, &mut Everybody);
                }
                if producer.begin_large(random.below(8192) as usize) {
                    for _ in 0..random.below(12) {
                        let _ = producer.push_large(&[7; 1024], 0, &mut Everybody);
                    }
                    producer.abandon_large();
                }
                let honest = memory.data_word(128).load(Ordering::Relaxed);
                for _ in 0..random.below(4) {
                    let offset = match random.below(8) {
                        0..3 => 128 + 128 * random.below(2) as usize,
                        3 => random.below(640) as usize & !7,
                        _ => (4096 + random.below(4096) as usize) & !7,
                    };
                    let word = match random.below(4) {
                        0 => random.next(),
                        1 => honest.wrapping_add(random.below(8192) * 8),
                        2 => honest.wrapping_sub(random.below(1024) * 8),
                        _ => random.below(4096) | (1 + random.below(3)) << 32 | (random.below(2) * 300) << 48,
                    };
                    memory.data_word(offset).store(word, Ordering::Relaxed);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

/// A thread scribbles over all slots but one, and over the words that all share, while the others work.
#[test]
fn an_honest_pair_works_while_others_scribble() {
    let _watchdog = Watchdog::new(60);
    let (memory, mut producer) = topic(4096, 8, Overflow::Block, 200_000_000);
    let mut honest = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let done = AtomicBool::new(false);
    let read = thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(5);
            while !done.load(Ordering::Relaxed) {
                let slot = 1 + random.below(7) as usize;
                let head = memory.view.counters().head;
                let (offset, word) = match random.below(4) {
                    0 => (SLOTS_OFFSET + slot * SLOT_LEN, random.next()),
                    1 => (SLOTS_OFFSET + slot * SLOT_LEN, 2 | random.below(4) << 8),
                    2 => (SLOTS_OFFSET + slot * SLOT_LEN + 8, head.wrapping_sub(random.below(600) * 8)),
                    _ => (128 + 128 * random.below(2) as usize, random.next()),
                };
                memory.control_word(offset).store(word, Ordering::Relaxed);
            }
        });
        let reader = scope.spawn(|| {
            let mut next = None;
            loop {
                let last = done.load(Ordering::Acquire);
                let messages = match drain(&mut honest) {
                    Ok(messages) => messages,
                    // On a busy machine this thread may itself stand still for `evict_after`. The model tests that no
                    // subscriber is evicted earlier. Here it joins again, and what it gets then has no gap either.
                    Err(Fault::Evicted) => {
                        let _ = honest.leave();
                        honest =
                            join(&memory, 0, Overflow::Block, Start::Latest).expect("an honest publisher");
                        next = None;
                        continue;
                    }
                    Err(fault) => panic!("{fault:?}"),
                };
                for message in messages {
                    assert_eq!(message.sequence, next.unwrap_or(message.sequence));
                    assert!(message.payload.iter().all(|&byte| byte == message.sequence as u8));
                    next = Some(message.sequence + 1);
                }
                assert_eq!(honest.missed(), 0);
                if last {
                    break next;
                }
            }
        });
        let begin = Instant::now();
        let mut sent = 0u64;
        while begin.elapsed() < TIME {
            let now = begin.elapsed().as_nanos() as u64;
            if committed(producer.send(&[sent as u8; 300][..sent as usize % 300], now, &mut Everybody)) {
                sent += 1;
            }
        }
        done.store(true, Ordering::Release);
        let next = reader.join().unwrap();
        assert_eq!(next.unwrap_or(sent), sent);
        sent
    });
    assert!(read > 0);
}

/// A caller allocates as much as `Read::Needs` says, so that number must be bounded.
#[test]
fn the_needed_size_is_bounded_by_the_committed_bytes() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let (memory, mut producer) = topic(4096, 1, overflow, 0);
        let mut consumer = join(&memory, 0, overflow, Start::Latest).unwrap();
        assert!(committed(producer.send(&[0; 16], 0, &mut Everybody)));
        assert_eq!(support::read(&mut consumer, 32, 8).unwrap().0, ringbell_ring::Read::Needs(48));
        memory.data_word(4096 + 24).store(1 << 32 | 2000, Ordering::Relaxed);
        assert!(matches!(support::read(&mut consumer, 32, 8), Err(Fault::Corrupt(_))));
    }
}
