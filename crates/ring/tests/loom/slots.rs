//! Loom: joining, leaving, evicting, reclaiming, parking and taking over, each while the publisher scans the slots (I3,
//! I8, I12).
//!
//! Each row is a fault that was made on purpose, and the test that then fails:
//!
//! | fault | test that fails |
//! | --- | --- |
//! | fence in `Consumer::join` left out | `nothing_is_overwritten…` |
//! | fence in `Producer::slowest` left out | `nothing_is_overwritten…` |
//! | `floor` stored and loaded relaxed | `the_evicted…`: considers the publisher corrupt |
//! | slot's compare-and-swap relaxed, or the load of its word | `of_who_frees…` |
//! | `reap` frees the slot in any state, and not only the word that was seen | `of_who_frees…` |
//! | no second load of `head` after joining | `nothing_is_overwritten…` |
//! | `resume` by the states free and joining | `a_position_changes_hands…` |
//! | a parked slot does not count | `a_position_changes_hands…` |
//! | `acknowledged` stored after the cursor | `what_is_acknowledged…` |

use crate::support::{self, Alive, Everybody, committed, join, join_as, topic};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use ringbell_ring::{
    BATCH_OVERHEAD, Consumer, Entry, Fault, Overflow, Peers, Position, Producer, Read, SlotState, Start,
    padded,
};

const BATCH: usize = 40;
const CAPACITY: usize = 128;
const NAME: u64 = 7;

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(body);
}

fn send(producer: &mut Producer, now: u64) -> bool {
    assert_eq!(BATCH_OVERHEAD + padded(8), BATCH);
    let payload = producer.next_sequence().to_le_bytes();
    committed(producer.send(&payload, now, &mut Everybody))
}

fn take(consumer: &mut Consumer) -> Result<Vec<u64>, Fault> {
    let mut slab = [0; CAPACITY];
    let mut table = [Entry::default(); 4];
    let read = consumer.read(&mut slab, 0, &mut table)?;
    assert!(!matches!(read, Read::Needs(_)), "the slab holds any frame");
    Ok(support::got(read, &table, |at, length| slab[at..at + length].to_vec())
        .into_iter()
        .map(|got| {
            assert_eq!(got.payload, got.sequence.to_le_bytes(), "torn");
            got.sequence
        })
        .collect())
}

fn nobody_expelled(producer: &Producer) {
    assert!(
        producer.slots().all(|slot| slot.state != SlotState::Expelled),
        "an honest subscriber was expelled"
    );
}

/// I3. The joiner reads from where it joined, without a gap, however far the publisher goes in the meantime.
#[test]
fn nothing_is_overwritten_that_a_joiner_has_still_to_read() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let payload = [0; 32];
        assert_eq!(BATCH_OVERHEAD + padded(payload.len()), CAPACITY / 2);
        assert!(committed(producer.send(&payload, 0, &mut Everybody)));
        let reader = thread::spawn(move || {
            let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
            // Nothing is acknowledged, so everything that the publisher sends from now on must stay.
            let mut table = [Entry::default(); 4];
            let read = consumer.read(&mut [0; CAPACITY], 0, &mut table).expect("an honest publisher");
            assert!(matches!(read, Read::Empty | Read::Messages { .. }));
            assert_eq!(consumer.missed(), 0);
        });
        // The third overwrites the first two, if no subscriber must still read them.
        for _ in 0..2 {
            let _ = producer.send(&payload, 0, &mut Everybody);
        }
        reader.join().unwrap();
        nobody_expelled(&producer);
    });
}

/// The publisher evicts while the subscriber reads. The subscriber learns of it, and never considers the publisher
/// corrupt.
#[test]
fn the_evicted_are_told_and_nothing_else() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 1);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        for _ in 0..3 {
            assert!(send(&mut producer, 0));
        }
        assert!(!send(&mut producer, 1_000_000), "stalled since now");
        let reader = thread::spawn(move || {
            for _ in 0..2 {
                match take(&mut consumer) {
                    Ok(_) => {}
                    Err(Fault::Evicted) => break,
                    Err(fault) => panic!("{fault:?}"),
                }
            }
        });
        for n in 2..4 {
            let _ = send(&mut producer, n * 1_000_000);
        }
        reader.join().unwrap();
        nobody_expelled(&producer);
    });
}

/// A dead owner's slot is freed by the publisher and taken by another process at the same time.
#[test]
fn freeing_and_claiming_a_dead_slot_both_succeed() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        // The owner dies at once: its slot stays as it is.
        let _ = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        for _ in 0..3 {
            assert!(send(&mut producer, 0));
        }
        let next = thread::spawn(move || {
            let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
            let got = take(&mut consumer).expect("the slot is this subscriber's");
            assert!(got.is_empty() || got[0] >= 3);
            assert_eq!(consumer.missed(), 0);
        });
        // The publisher saw the lock free before the next owner took it. So it may only free the word that it saw.
        let _ = committed(producer.send(&3u64.to_le_bytes(), 1_000_000, &mut Alive(vec![false])));
        next.join().unwrap();
        nobody_expelled(&producer);
    });
}

/// One owner leaves and the next one joins in the same slot, while the publisher checks its cursor.
#[test]
fn a_slot_changes_hands_under_the_publishers_eyes() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut first = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        for _ in 0..3 {
            assert!(send(&mut producer, 0));
        }
        let hands = thread::spawn(move || {
            while first.pending() {
                let _ = take(&mut first).unwrap();
            }
            let _ = first.acknowledge();
            let _ = first.leave();
            let mut second = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
            let got = take(&mut second).expect("an honest publisher");
            assert_eq!(second.missed(), 0);
            assert!(got.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        });
        for _ in 0..2 {
            let _ = send(&mut producer, 0);
        }
        hands.join().unwrap();
        nobody_expelled(&producer);
    });
}

fn take_all(consumer: &mut Consumer) -> Result<Vec<u64>, Fault> {
    let mut all = Vec::new();
    while consumer.pending() {
        all.extend(take(consumer)?);
    }
    Ok(all)
}

/// The lock of the one slot. It is taken before the word changes, and given back after.
#[derive(Clone)]
struct Lock(Arc<AtomicBool>);

impl Peers for Lock {
    fn alive(&self, _: usize) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// I12. The next holder takes over a dead holder's slot while the publisher parks it, or finds it in the way. The
/// cursor counts all the time, so nothing is overwritten before it was acknowledged.
#[test]
fn a_position_changes_hands_and_loses_nothing() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        // The holder dies at once.
        let _ = join_as(&memory, NAME, Start::Latest).unwrap();
        for _ in 0..3 {
            assert!(send(&mut producer, 0));
        }
        let mut lock = Lock(Arc::new(AtomicBool::new(false)));
        let taken = lock.clone();
        let next = thread::spawn(move || {
            taken.0.store(true, Ordering::Release);
            let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
            assert_eq!(second.position(), Position::Resumed);
            assert_eq!(take(&mut second).expect("an honest publisher"), [0], "what nobody had acknowledged");
            let _ = second.acknowledge_below(1);
            let _ = second.leave();
            taken.0.store(false, Ordering::Release);
            memory
        });
        // Without this, loom hardly ever lets the other thread go first.
        thread::yield_now();
        let _ = producer.send(&3u64.to_le_bytes(), 1_000_000, &mut lock);
        let memory = next.join().unwrap();
        nobody_expelled(&producer);
        for now in 2..4 {
            let _ = producer.send(&producer.next_sequence().to_le_bytes(), now * 1_000_000, &mut lock);
        }
        assert!(producer.slots().all(|slot| slot.state == SlotState::Parked));
        let mut third = join_as(&memory, NAME, Start::Latest).unwrap();
        assert_eq!(take(&mut third), Ok(vec![1]));
    });
}

/// I12. The publisher evicts a parked position while the next holder takes it over. One of the two succeeds, and the
/// holder knows which, at once or at its next read.
#[test]
fn a_parked_position_is_evicted_or_taken_over() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 1);
        let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
        for _ in 0..3 {
            assert!(send(&mut producer, 0));
        }
        let _ = first.leave();
        assert!(!send(&mut producer, 1_000_000), "stalled since now");
        let next = thread::spawn(move || match join_as(&memory, NAME, Start::Latest) {
            Ok(mut second) => match (second.position(), take(&mut second)) {
                (Position::Resumed, Ok(got)) => assert_eq!(got.first(), Some(&0)),
                (Position::Resumed, Err(fault)) => assert_eq!(fault, Fault::Evicted),
                (Position::Lost, got) => {
                    let got = got.expect("an honest publisher");
                    assert!(got.first().is_none_or(|&first| first == second.missed()));
                }
                (Position::New, _) => panic!("it was never told"),
            },
            Err(fault) => assert_eq!(fault, Fault::Evicted),
        });
        thread::yield_now();
        let _ = send(&mut producer, 2_000_000);
        next.join().unwrap();
        nobody_expelled(&producer);
    });
}

/// I12. A holder dies between any two of its stores: the sequence that it leaves is never behind the cursor.
#[test]
fn the_acknowledged_position_is_never_behind_the_cursor() {
    explore(|| {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
        for _ in 0..3 {
            assert!(send(&mut producer, 0));
        }
        assert_eq!(take_all(&mut first).unwrap(), [0, 1, 2]);
        // The other thread goes on as if the first had died at any point.
        let dying = thread::spawn(move || {
            let _ = first.acknowledge_below(1);
            let _ = first.acknowledge_below(3);
        });
        let sent = committed(producer.send(&3u64.to_le_bytes(), 0, &mut Everybody));
        let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
        let got = take_all(&mut second).unwrap();
        assert_eq!(second.missed(), 0);
        assert!([0, 1, 3].contains(&got.first().copied().unwrap_or(3)), "{got:?}");
        assert_eq!(got.last() == Some(&3), sent);
        dying.join().unwrap();
    });
}
