//! Loom: a reader sees what is committed as a whole, and never believes what was overwritten (I2, I4, I5, I7, I14).
//!
//! Each row is a fault that was made on purpose, and the test that then fails:
//!
//! | fault | test that fails |
//! | --- | --- |
//! | `head` stored relaxed, or loaded relaxed | `what_head_has_passed…` and most others |
//! | release fence in `advance_floor` left out | `a_lapped_reader…`, `a_joiner…` |
//! | acquire fence in `Consumer::read` left out | `a_lapped_reader…` |
//! | `limit` a frame too far | `a_joiner…` |
//! | `after` stored relaxed; `before` stored late; the two not compared | `a_joiner…` |
//! | `floor` not loaded again in `oldest` | `a_joiner…` |
//! | `last` stored before `head`; `floor` not loaded again in `Consumer::newest` or `newest_again` | `the_newest_message…` |
//!
//! Loom cannot see the release and acquire of the cursor. They keep a reader's loads before its later store, and loom
//! never lets a load see a store that comes after it.

use crate::support::{self, Everybody, committed, join, topic};
use loom::thread;
use ringbell_ring::{BATCH_OVERHEAD, Consumer, Entry, Fault, Newest, Overflow, Read, Start, padded};

/// Two batches of one word fill it.
const CAPACITY: usize = 2 * BATCH;
const BATCH: usize = 64;
/// A payload that makes a batch of half of the ring.
const WORDS: usize = (BATCH - BATCH_OVERHEAD - 8) / 8;

fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(body);
}

fn payload(n: u64) -> Vec<u8> {
    assert_eq!(BATCH_OVERHEAD + padded(8 * WORDS), BATCH);
    n.to_le_bytes().repeat(WORDS)
}

/// One read. Returns the sequences. Each payload must be whole and belong to its sequence.
fn take(consumer: &mut Consumer) -> Result<Vec<u64>, Fault> {
    let mut slab = [0; CAPACITY];
    let mut table = [Entry::default(); 4];
    let read = consumer.read(&mut slab, 0, &mut table)?;
    assert!(!matches!(read, Read::Needs(_)), "the slab holds any frame");
    Ok(support::got(read, &table, |at, length| slab[at..at + length].to_vec())
        .into_iter()
        .map(|got| {
            assert_eq!(got.payload, payload(got.sequence), "torn");
            got.sequence
        })
        .collect())
}

#[test]
fn data_below_head_is_visible() {
    explore(3, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let reader = thread::spawn(move || {
            let mut next = 0;
            for _ in 0..2 {
                for sequence in take(&mut consumer).unwrap() {
                    assert_eq!(sequence, next);
                    next += 1;
                }
            }
        });
        for n in 0..2 {
            assert!(committed(producer.send(&payload(n), 0, &mut Everybody)));
        }
        reader.join().unwrap();
    });
}

/// The third batch overwrites the first: only after it was read and acknowledged.
#[test]
fn block_overwrites_nothing_that_is_still_to_be_read() {
    explore(3, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        for n in 0..2 {
            assert!(committed(producer.send(&payload(n), 0, &mut Everybody)));
        }
        let reader = thread::spawn(move || {
            let mut next = 0;
            for _ in 0..2 {
                for sequence in take(&mut consumer).unwrap() {
                    assert_eq!(sequence, next);
                    next += 1;
                }
                let _ = consumer.acknowledge();
            }
            next
        });
        let third = committed(producer.send(&payload(2), 0, &mut Everybody));
        let read = reader.join().unwrap();
        assert!(read == 2 || read == 3 && third);
    });
}

/// A lease reads the frames themselves. Only one thing protects it: they stay until the cursor moves.
#[test]
fn leased_messages_stay_intact() {
    explore(3, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        for n in 0..2 {
            assert!(committed(producer.send(&payload(n), 0, &mut Everybody)));
        }
        let reader = thread::spawn(move || {
            let mut table = [Entry::default(); 1];
            for _ in 0..2 {
                match consumer.lease(&mut table).unwrap() {
                    Read::Messages { count: 1, bytes: BATCH, .. } => {}
                    other => panic!("{other:?}"),
                }
                let _ = consumer.acknowledge();
            }
        });
        let _ = producer.send(&payload(2), 0, &mut Everybody);
        reader.join().unwrap();
    });
}

/// Drop-oldest: the writer never waits, and the reader never believes what was overwritten during its copy.
#[test]
fn a_lapped_reader_gets_whole_messages_and_an_exact_count() {
    explore(2, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::DropOldest, 0);
        let mut consumer = join(&memory, 0, Overflow::DropOldest, Start::Latest).unwrap();
        for n in 0..2 {
            assert!(committed(producer.send(&payload(n), 0, &mut Everybody)));
        }
        let reader = thread::spawn(move || {
            let mut next = 0;
            for sequence in take(&mut consumer).unwrap() {
                assert!(sequence >= next);
                next = sequence + 1;
            }
            assert_eq!(consumer.received() + consumer.missed(), next);
        });
        for n in 2..4 {
            assert!(committed(producer.send(&payload(n), 0, &mut Everybody)));
        }
        reader.join().unwrap();
    });
}

/// A reader of the newest message: it gets one that is whole, at least as new as what was committed when it began, and
/// never an older one than before. The writer may stop for good at any step, which is an execution in which the reader
/// runs alone from there on.
#[test]
fn the_newest_message_is_whole_and_never_goes_back() {
    // Two batches of two words fit. So the writer overwrites the words of the newest one when it commits the third after that.
    const RING: usize = 128;
    let bytes = |n: u64| u128::from(n).to_le_bytes();
    explore(2, move || {
        let (memory, mut producer) = topic(RING, 1, Overflow::DropOldest, 0);
        let mut consumer = join(&memory, 0, Overflow::DropOldest, Start::Latest).unwrap();
        for n in 0..2u64 {
            assert!(committed(producer.send(&bytes(n), 0, &mut Everybody)));
        }
        let reader = thread::spawn(move || {
            let mut least = 1;
            for _ in 0..2 {
                let mut target = [0; 16];
                let sequence = match consumer.newest_again(&mut target) {
                    Some((16, sequence)) => sequence,
                    Some(_) => panic!("another length"),
                    None => match consumer.newest(&mut target).unwrap() {
                        Newest::Message { length: 16, sequence, .. } => sequence,
                        other => panic!("{other:?}"),
                    },
                };
                assert_eq!(target, bytes(sequence), "torn");
                assert!(sequence >= least, "it went back");
                least = sequence;
            }
        });
        for n in 2..5u64 {
            assert!(committed(producer.send(&bytes(n), 0, &mut Everybody)));
        }
        reader.join().unwrap();
    });
}

/// A subscriber that joins while the publisher overwrites starts with a sequence that belongs to its position.
#[test]
fn a_joiner_knows_which_message_comes_first() {
    // Two empty messages fill it, so that positions tell sequences.
    const EMPTY: u64 = (BATCH_OVERHEAD + padded(0)) as u64;
    for start in [Start::Latest, Start::Earliest] {
        explore(3, move || {
            let (memory, mut producer) = topic(2 * EMPTY as usize, 1, Overflow::DropOldest, 0);
            for _ in 0..2 {
                assert!(committed(producer.send(&[], 0, &mut Everybody)));
            }
            let joiner = thread::spawn(move || join(&memory, 0, Overflow::DropOldest, start).unwrap());
            for _ in 0..2 {
                assert!(committed(producer.send(&[], 0, &mut Everybody)));
            }
            let mut consumer = joiner.join().unwrap();
            let began = (producer.data().counters().head - consumer.backlog()) / EMPTY;
            assert!(committed(producer.send(&[], 0, &mut Everybody)));
            let _ = support::drain(&mut consumer).unwrap();
            assert_eq!(began + consumer.received() + consumer.missed(), producer.next_sequence());
        });
    }
}
