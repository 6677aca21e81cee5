//! Two threads on real hardware, for a few seconds. The models explore the same with a few steps.
#![cfg(not(miri))]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{self, Everybody, Random, Watchdog, committed, join, topic};
use ringbell_ring::{Consumer, Entry, Overflow, Producer, Read, Start, padded};

const CAPACITY: usize = 16 << 10;
const TIME: Duration = Duration::from_secs(1);

fn pattern(sequence: u64) -> u8 {
    (sequence ^ sequence >> 8) as u8
}

/// Sends one batch of one to eight messages. Returns how many.
fn send(producer: &mut Producer, random: &mut Random) -> u64 {
    let lengths: Vec<u32> = (0..1 + random.below(8)).map(|_| random.below(300) as u32).collect();
    let bytes = lengths.iter().map(|&length| padded(length as usize)).sum();
    let first = producer.next_sequence();
    if lengths.len() == 1 {
        let payload = vec![pattern(first); lengths[0] as usize];
        return u64::from(committed(producer.send(&payload, first, &mut Everybody)));
    }
    if producer.reserve(bytes, bytes, first, &mut Everybody).is_none() {
        producer.note_full();
        return 0;
    }
    let mut at = 0;
    for (index, &length) in lengths.iter().enumerate() {
        producer.reserved_bytes()[at + 8..][..length as usize].fill(pattern(first + index as u64));
        at += padded(length as usize);
    }
    assert!(committed(producer.commit_span(&lengths, first).unwrap()));
    lengths.len() as u64
}

/// Reads everything, checks every byte, and returns the next sequence.
fn receive(consumer: &mut Consumer, random: &mut Random, slab: &mut [u8], next: &mut u64) -> bool {
    let mut table = [Entry::default(); 64];
    let entries = 1 + random.below(64) as usize;
    let room = 400 + random.below(slab.len() as u64 - 400) as usize;
    let read = consumer.read(&mut slab[..room], 0, &mut table[..entries]).expect("an honest publisher");
    assert!(!matches!(read, Read::Needs(_)));
    let got = support::got(read, &table, |at, length| slab[at..at + length].to_vec());
    for message in &got {
        assert!(message.sequence >= *next);
        assert!(message.payload.iter().all(|&byte| byte == pattern(message.sequence)), "torn");
        *next = message.sequence + 1;
    }
    let counted = consumer.received() + consumer.missed();
    if got.is_empty() {
        // A reader that is lapped again and again may have read the header of the next batch, and no message of it yet.
        assert!(counted >= *next, "{counted} below {next}");
    } else {
        assert_eq!(counted, *next, "exact counts");
    }
    let _ = consumer.acknowledge();
    !got.is_empty()
}

fn stress(overflow: Overflow) {
    let _watchdog = Watchdog::new(60);
    let (memory, mut producer) = topic(CAPACITY, 2, overflow, 0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|slot| {
                let mut consumer = join(&memory, slot, overflow, Start::Latest).unwrap();
                let done = &done;
                scope.spawn(move || {
                    let (mut random, mut slab, mut next) = (Random(slot as u64), vec![0; 8192], 0);
                    loop {
                        let last = done.load(Ordering::Acquire);
                        let got = receive(&mut consumer, &mut random, &mut slab, &mut next);
                        if last && consumer.drained() {
                            break;
                        }
                        if !got {
                            thread::yield_now();
                        }
                    }
                    (next, consumer.missed())
                })
            })
            .collect();
        let (mut random, mut sent, mut refused) = (Random(77), 0, 0);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            match send(&mut producer, &mut random) {
                0 => {
                    refused += 1;
                    thread::yield_now();
                }
                count => sent += count,
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            let (next, missed) = reader.join().unwrap();
            assert_eq!(next, sent);
            assert!(missed == 0 || overflow == Overflow::DropOldest);
        }
        let counters = producer.data().counters();
        assert_eq!(counters.messages, sent);
        assert_eq!(counters.full, refused);
        assert_eq!(counters.dropped, if overflow == Overflow::DropNewest { refused } else { 0 });
    });
}

#[test]
fn block_loses_nothing() {
    stress(Overflow::Block);
}

#[test]
fn drop_oldest_counts_everything() {
    stress(Overflow::DropOldest);
}

#[test]
fn drop_newest_counts_what_it_refuses() {
    stress(Overflow::DropNewest);
}

/// Subscribers come and go all the time. What each of them gets has no gap.
#[test]
fn joining_and_leaving_disturbs_no_subscriber() {
    let _watchdog = Watchdog::new(60);
    let (memory, mut producer) = topic(CAPACITY, 2, Overflow::Block, 0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for slot in 0..2 {
            let (memory, done) = (&memory, &done);
            scope.spawn(move || {
                let (mut random, mut slab) = (Random(slot as u64), vec![0; 8192]);
                while !done.load(Ordering::Relaxed) {
                    let mut consumer = join(memory, slot, Overflow::Block, Start::Latest).unwrap();
                    let mut next = None;
                    for _ in 0..random.below(20) {
                        let mut table = [Entry::default(); 16];
                        let read = consumer.read(&mut slab, 0, &mut table).expect("an honest publisher");
                        for message in support::got(read, &table, |at, length| slab[at..at + length].to_vec())
                        {
                            assert_eq!(message.sequence, next.unwrap_or(message.sequence));
                            assert!(message.payload.iter().all(|&byte| byte == pattern(message.sequence)));
                            next = Some(message.sequence + 1);
                        }
                        let _ = consumer.acknowledge();
                    }
                    assert_eq!(consumer.missed(), 0);
                    let _ = consumer.leave();
                }
            });
        }
        let mut random = Random(78);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            if send(&mut producer, &mut random) == 0 {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(producer.data().counters().evicted, 0, "nobody honest is expelled");
}

#[test]
fn no_wake_up_is_lost() {
    let _watchdog = Watchdog::new(120);
    for subscribers in [1, 3] {
        let report = support::hunt::hunt(10_000, subscribers);
        assert!(report.sleeps > 0, "{report:?}");
    }
}
