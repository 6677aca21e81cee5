//! Guests: subscribers of other users, in control segments of their own. The rules for every subscriber hold for them.
//! Nothing that they write can delay others for longer than the topic's patience with guests.

use crate::support::{self, Everybody, admit, committed, drain, fill, join, topic_for_guests};
use proptest::prelude::*;
use ringbell_ring::layout::SLOTS_OFFSET;
use ringbell_ring::{Consumer, Fault, Overflow, Sent, SlotState, Start, padded};

const CAPACITY: usize = 4096;
const MS: u64 = 1_000_000;

fn sequences(consumer: &mut Consumer) -> Vec<u64> {
    drain(consumer).unwrap().iter().map(|got| got.sequence).collect()
}

#[test]
fn a_guest_reads_and_holds_room_like_any_subscriber() {
    let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 3, Overflow::Block, 0);
    let mut guest = admit(&memory, (2, &guest_slots[2]), &admitted, Overflow::Block, Start::Latest).unwrap();
    let count = fill(&mut producer, &[1; 100], 0, &mut Everybody);
    let slots: Vec<_> = producer.slots().collect();
    assert_eq!((slots.len(), slots[0].index, slots[0].state), (1, 1 + 2, SlotState::Active));
    assert_eq!(sequences(&mut guest), (0..count as u64).collect::<Vec<_>>());
    assert!(committed(producer.send(&[1; 100], 0, &mut Everybody)), "it has made room");
    let _ = guest.leave();
    assert_eq!(producer.slots().count(), 0);
    assert!((0..100).all(|_| committed(producer.send(&[1; 100], 0, &mut Everybody))), "nobody is waited for");
}

#[test]
fn a_dismissed_guests_slot_counts_no_more() {
    let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 1, Overflow::Block, 0);
    let guest = admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
    fill(&mut producer, &[1; 100], 0, &mut Everybody);
    assert!(!producer.has_room(padded(100), 0));
    assert!(admitted.dismiss(0) && !admitted.dismiss(0));
    assert!(producer.has_room(padded(100), 0));
    assert_eq!((guest.backlog() > 0, producer.slots().count()), (true, 0));
}

#[test]
fn only_sleeping_guests_are_rung_and_one_by_one() {
    let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 2, Overflow::Block, 0);
    let mut guests = [0, 1].map(|guest_slot| {
        admit(&memory, (guest_slot, &guest_slots[guest_slot]), &admitted, Overflow::Block, Start::Latest)
            .unwrap()
    });
    assert!(guests[1].arm());
    assert_eq!(
        producer.send(&[1], 0, &mut Everybody),
        Sent::Committed { ring: 0 },
        "nobody shares its doorbell"
    );
    assert_eq!((producer.take_guest_bells(), producer.take_guest_bells()), (2, 0));
    assert!(!guests[0].arm(), "there is something to read");
    assert_eq!(sequences(&mut guests[0]), [0]);
    assert!(guests[0].arm());
    assert_eq!(producer.close(), 0);
    assert_eq!(producer.take_guest_bells(), 1, "they hear of the end, too");
}

#[test]
fn a_guest_that_makes_room_wakes_the_waiting_publisher() {
    let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 2, Overflow::Block, 0);
    let mut guests = [0, 1].map(|guest_slot| {
        admit(&memory, (guest_slot, &guest_slots[guest_slot]), &admitted, Overflow::Block, Start::Latest)
            .unwrap()
    });
    fill(&mut producer, &[1; 100], 0, &mut Everybody);
    assert!(producer.arm(padded(100), 0));
    for guest in &mut guests {
        let _ = support::read(guest, CAPACITY, 64).unwrap();
        assert!(guest.acknowledge(), "each is told of the wait");
    }
    assert!(!producer.arm(padded(100), 0), "there is room");
    let _ = producer.send(&[1; 100], 0, &mut Everybody);
    let _ = support::read(&mut guests[0], CAPACITY, 64).unwrap();
    assert!(!guests[0].acknowledge(), "nobody waits any more");
}

#[test]
fn a_guest_that_makes_no_room_is_dismissed_however_it_moves() {
    const WORD: usize = SLOTS_OFFSET;
    const CURSOR: usize = SLOTS_OFFSET + 8;
    // What it writes before the n-th try. None of it resets its clock.
    type Write = fn(u64) -> Vec<(usize, u64)>;
    let ways: [(&str, Write); 5] = [
        ("does nothing", |_| Vec::new()),
        ("moves by a word", |n| vec![(CURSOR, 8 * n)]),
        ("is another generation each time", |n| vec![(WORD, ((n + 99) << 8) | 2), (CURSOR, 0)]),
        ("joins for ever", |n| vec![(WORD, ((n + 99) << 8) | 1), (CURSOR, 0)]),
        ("says that it is evicted, and then not", |n| vec![(WORD, (99 << 8) | (2 + n % 2)), (CURSOR, 0)]),
    ];
    for overflow in [Overflow::Block, Overflow::DropNewest] {
        for (what, write) in ways {
            let (memory, guest_slots, admitted, mut producer) =
                topic_for_guests(CAPACITY, 1, overflow, 10 * MS);
            let mut patient = join(&memory, 0, overflow, Start::Latest).unwrap();
            let _guest = admit(&memory, (0, &guest_slots[0]), &admitted, overflow, Start::Latest).unwrap();
            fill(&mut producer, &[1; 100], MS, &mut Everybody);
            drain(&mut patient).unwrap();
            let mut tries = 0;
            while !committed(producer.send(&[1; 1500], MS + tries * MS, &mut Everybody)) {
                tries += 1;
                assert!(tries < 30, "{what} ({overflow:?}): it is in the way for ever");
                for (offset, word) in write(tries) {
                    guest_slots[0].control_word(offset).store(word, std::sync::atomic::Ordering::Release);
                }
            }
            // A guest whose slot claims at every other look that it does not count gives room at those looks.
            assert!(!admitted.contains(0) || what.starts_with("says"), "{what}");
            assert!(tries >= 8 || what.starts_with("says"), "{what}: dismissed after {tries} ms of 10");
        }
    }
}

#[test]
fn an_evicted_guest_is_told_so() {
    let (memory, guest_slots, admitted, mut producer) =
        topic_for_guests(CAPACITY, 1, Overflow::Block, 10 * MS);
    let mut guest = admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
    fill(&mut producer, &[1; 100], MS, &mut Everybody);
    producer.sweep(20 * MS, &mut Everybody);
    assert!(!admitted.contains(0));
    assert_eq!(support::read(&mut guest, CAPACITY, 64).unwrap_err(), Fault::Evicted);
    assert_eq!(producer.data().counters().evicted, 1);
}

#[test]
fn a_new_guest_does_not_inherit_its_slots_stall_clock() {
    let (memory, guest_slots, admitted, mut producer) =
        topic_for_guests(CAPACITY, 1, Overflow::Block, 10 * MS);
    let mut patient = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let enter = || admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
    let _stalled = enter();
    fill(&mut producer, &[1; 100], MS, &mut Everybody);
    drain(&mut patient).unwrap();
    admitted.dismiss(0);
    let mut next = enter();
    assert!(committed(producer.send(&[1; 1500], 30 * MS, &mut Everybody)), "it joined at the end");
    assert!(admitted.contains(0));
    assert_eq!(drain(&mut next).unwrap().len(), 1);
}

/// A guest of the model: its state, and the sequence that it reads next.
struct Guest {
    consumer: Consumer,
    next: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Enter(usize),
    Dismiss(usize),
    Leave(usize),
    Read(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0usize..1500).prop_map(Op::Send),
        2 => (0usize..4).prop_map(Op::Enter),
        1 => (0usize..4).prop_map(Op::Dismiss),
        1 => (0usize..4).prop_map(Op::Leave),
        5 => (0usize..4).prop_map(Op::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 1024 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Guests come, go, are dismissed and replaced in any order. Each guest that counts gets every message once, in
    /// order. A message is accepted if and only if it fits behind the slowest guest that counts.
    #[test]
    fn guests_are_subscribers(
        newest in any::<bool>(),
        ops in prop::collection::vec(op(), 1..if cfg!(miri) { 30 } else { 200 }),
    ) {
        let overflow = if newest { Overflow::DropNewest } else { Overflow::Block };
        let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 4, overflow, 0);
        let mut guests: [Option<Guest>; 4] = Default::default();
        // The start of each batch, and the start of the next one.
        let mut starts: Vec<u64> = vec![0];
        for op in ops {
            match op {
                Op::Send(length) => {
                    let head = starts[starts.len() - 1];
                    let end = head + 24 + padded(length) as u64;
                    let keep = guests.iter().flatten().map(|guest| starts[guest.next as usize]).min();
                    let fits = end <= keep.unwrap_or(head) + CAPACITY as u64;
                    let sent = committed(producer.send(&vec![starts.len() as u8; length], 0, &mut Everybody));
                    prop_assert_eq!(sent, fits);
                    if sent {
                        starts.push(end);
                    }
                }
                Op::Enter(guest_slot) if guests[guest_slot].is_none() => {
                    let consumer =
                        admit(&memory, (guest_slot, &guest_slots[guest_slot]), &admitted, overflow, Start::Latest).unwrap();
                    guests[guest_slot] = Some(Guest { consumer, next: starts.len() as u64 - 1 });
                }
                Op::Enter(_) => {}
                Op::Dismiss(guest_slot) => {
                    prop_assert_eq!(admitted.dismiss(guest_slot), guests[guest_slot].take().is_some());
                }
                Op::Leave(guest_slot) => {
                    if let Some(mut guest) = guests[guest_slot].take() {
                        let _ = guest.consumer.leave();
                        prop_assert!(admitted.dismiss(guest_slot));
                    }
                }
                Op::Read(guest_slot) => {
                    let Some(guest) = &mut guests[guest_slot] else { continue };
                    for got in drain(&mut guest.consumer).unwrap() {
                        prop_assert_eq!(got.sequence, guest.next);
                        prop_assert!(got.payload.iter().all(|byte| *byte == (guest.next + 1) as u8));
                        guest.next += 1;
                    }
                    prop_assert_eq!(guest.next, starts.len() as u64 - 1);
                }
            }
            prop_assert_eq!(producer.slots().count(), guests.iter().flatten().count());
        }
    }
}
