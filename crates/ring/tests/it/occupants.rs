//! What a publisher that listens finds out about its subscribers: who has come, who stalls, and how each one went.

use crate::support::{Alive, Everybody, admit, fill, join, join_as, read, topic, topic_for_guests};
use ringbell_ring::{Departure, Ending, Overflow, SlotState, Start};

const MS: u64 = 1_000_000;
const NAME: u64 = 77;

#[test]
fn only_the_first_to_come_or_leave_rings_a_publisher_that_listens() {
    let (memory, mut producer) = topic(4096, 3, Overflow::Block, 0);
    let mut before = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert!(!before.arrived(), "nobody listens");
    producer.listen();
    assert!(producer.is_listening());
    let mut one = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let two = join(&memory, 2, Overflow::Block, Start::Latest).unwrap();
    assert!(one.arrived() && !two.arrived());
    assert!(!producer.is_listening(), "it has to listen again");
    producer.listen();
    assert!(one.leave() && !before.leave());
    producer.listen();
    producer.stop_listening();
    assert!(!two.arrived() && !producer.is_listening());
}

#[test]
fn a_durable_subscriber_that_parks_rings_too() {
    let (memory, mut producer) = topic(4096, 2, Overflow::Block, 0);
    let mut named = join_as(&memory, NAME, Start::Latest).unwrap();
    producer.listen();
    assert!(named.leave());
    assert_eq!(producer.occupant(0).unwrap().state, SlotState::Parked);
}

#[test]
fn the_slots_generations_tell_who_closed_and_who_died() {
    let (memory, producer) = topic(4096, 1, Overflow::Block, 0);
    let now = || producer.occupant(0).unwrap();
    let mut first = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let generation = now().generation;
    let departure = |durable| Departure::of(generation, durable, now());
    let _ = first.leave();
    assert_eq!(departure(false), Departure::Closed);
    let _dead = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert_eq!(departure(false), Departure::Closed, "any other may have the slot now");
    let generation = now().generation;
    let _next = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert_eq!(
        Departure::of(generation, false, now()),
        Departure::Died,
        "its slot was taken, not given back"
    );
    for _ in 0..2 {
        let _ = join(&memory, 0, Overflow::Block, Start::Latest).unwrap().leave();
    }
    assert_eq!(Departure::of(generation, false, now()), Departure::Unknown);
}

#[test]
fn a_durable_position_that_went_on_was_parked_or_its_holder_died() {
    let (memory, producer) = topic(4096, 1, Overflow::Block, 0);
    let now = || producer.occupant(0).unwrap();
    let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
    let generation = now().generation;
    let _ = first.leave();
    assert_eq!(Departure::of(generation, true, now()), Departure::Closed);
    let _second = join_as(&memory, NAME, Start::Latest).unwrap();
    assert_eq!(Departure::of(generation, true, now()), Departure::Closed);
    let generation = now().generation;
    let _third = join_as(&memory, NAME, Start::Latest).unwrap();
    assert_eq!(Departure::of(generation, true, now()), Departure::Unknown);
}

#[test]
fn the_publisher_knows_whom_it_found_dead() {
    let (memory, mut producer) = topic(4096, 2, Overflow::Block, 0);
    let _anonymous = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let _named = join_as(&memory, NAME, Start::Latest).unwrap();
    let generations = [0, 1].map(|slot| producer.occupant(slot).unwrap().generation);
    producer.sweep(MS, &mut Alive(vec![false; 2]));
    for (slot, generation) in generations.into_iter().enumerate() {
        assert_eq!(producer.take_ending(slot), Some((generation, Ending::Died)));
        assert_eq!(producer.take_ending(slot), None, "told once");
    }
    assert_eq!(producer.occupant(0).unwrap().state, SlotState::Parked);
    producer.sweep(2 * MS, &mut Alive(vec![false; 2]));
    assert_eq!(producer.take_ending(0), None, "a parked position has no owner that could die");
    assert_eq!(producer.take_ending(2), None, "there is no such slot");
}

#[test]
fn a_stall_begins_when_a_message_finds_no_room_and_ends_when_it_does() {
    let (memory, mut producer) = topic(4096, 2, Overflow::Block, 10 * MS);
    let mut slow = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let _quick = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let stalled = |producer: &ringbell_ring::Producer, slot| producer.occupant(slot).unwrap().stalled_since;
    assert_eq!(stalled(&producer, 0), None);
    let mut quick = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    fill(&mut producer, &[1; 64], 5 * MS, &mut Everybody);
    let _ = read(&mut quick, 4096, 64);
    let _ = quick.acknowledge();
    producer.sweep(6 * MS, &mut Everybody);
    assert_eq!((stalled(&producer, 0), stalled(&producer, 1)), (Some(5 * MS), None));
    let generation = producer.occupant(0).unwrap().generation;
    let _ = read(&mut slow, 4096, 64);
    let _ = slow.acknowledge();
    assert_eq!(stalled(&producer, 0), None, "it has read on");
    fill(&mut producer, &[1; 64], 20 * MS, &mut Everybody);
    producer.sweep(21 * MS, &mut Everybody);
    let again = stalled(&producer, 0).unwrap();
    assert!(again >= 20 * MS, "another stall");
    producer.sweep(again + 11 * MS, &mut Everybody);
    assert_eq!(producer.take_ending(0), Some((generation, Ending::Evicted)));
    assert_eq!(producer.occupant(0).unwrap().state, SlotState::Evicted);
}

#[test]
fn a_guest_rings_through_its_own_segment() {
    let (memory, guest_slots, admitted, mut producer) = topic_for_guests(4096, 2, Overflow::Block, 10 * MS);
    assert_eq!((producer.slot_count(), producer.occupant(1)), (3, None));
    let early = admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
    producer.listen();
    assert!(early.arrived() && !early.arrived());
    assert_eq!(producer.occupant(1).unwrap().state, SlotState::Active);
    assert_eq!(producer.slot_view(1).unwrap().index, 1);
    fill(&mut producer, &[1; 64], MS, &mut Everybody);
    assert_eq!(producer.occupant(1).unwrap().stalled_since, Some(MS));
    producer.sweep(20 * MS, &mut Everybody);
    assert!(matches!(producer.take_ending(1), Some((_, Ending::Evicted))));
    assert_eq!(producer.occupant(1), None);
}
