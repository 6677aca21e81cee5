//! The basic cases: one in each test. Runs on mapped memory, and under Miri on the heap.

use crate::support::{self, Alive, Everybody, Watchdog, committed, drain, fill, identity, join, read, topic};
use ringbell_ring::{
    BATCH_OVERHEAD, Entry, Error, Fault, Newest, Overflow, Read, SlotState, Start, max_message, padded,
};

const MS: u64 = 1_000_000;

#[test]
fn headers_follow_the_payload_of_their_message() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let parts: [[&[u8]; 3]; 4] =
        [[b"", b"", b""], [b"a", b"b", b""], [b"a", b"bc", b"headers"], [b"", b"", b"h"]];
    for parts in parts {
        let headers = parts[2].len() as u16;
        assert!(committed(producer.send_parts(parts, headers, 0, &mut Everybody)));
    }
    let got = drain(&mut consumer).unwrap();
    assert_eq!(got.len(), parts.len());
    for (message, [first, second, headers]) in got.iter().zip(parts) {
        assert_eq!(message.payload, [first, second].concat());
        assert_eq!(message.headers, headers);
    }
    // Two headers of batches and of messages, and nothing for headers where there are none.
    let before = producer.data().counters().head;
    assert!(committed(producer.send_parts([&[0; 16], &[0; 8]], 8, 0, &mut Everybody)));
    assert!(committed(producer.send(&[0; 24], 0, &mut Everybody)));
    assert_eq!(producer.data().counters().head - before, 2 * (24 + 8 + 24));
}

#[test]
fn messages_arrive_in_order_with_sequence_and_time() {
    let (memory, mut producer) = topic(4096, 4, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert_eq!(read(&mut consumer, 4096, 8).unwrap().0, Read::Empty);
    for n in 0..5u8 {
        assert!(committed(producer.send(&vec![n; usize::from(n) * 3], 100 + u64::from(n), &mut Everybody)));
    }
    let got = drain(&mut consumer).unwrap();
    for (n, message) in got.iter().enumerate() {
        assert_eq!(message.sequence, n as u64);
        assert_eq!(message.time, 100 + n as u64);
        assert_eq!(message.payload, vec![n as u8; n * 3]);
    }
    assert_eq!(got.len(), 5);
    assert_eq!((consumer.received(), consumer.missed(), consumer.backlog()), (5, 0, 0));
    assert_eq!(producer.data().counters().messages, 5);
}

#[test]
fn segment_headers_must_match_the_identity() {
    let (memory, _producer) = topic(4096, 4, Overflow::DropNewest, 0);
    let identity = identity(4096, 4, Overflow::DropNewest);
    assert_eq!(memory.view.check(&identity), Ok(()));
    assert_eq!(memory.control.check(&identity), Ok(()));
    let other = ringbell_ring::Identity { nonce: [1, 3], ..identity };
    assert_eq!(memory.view.check(&other), Err(Error::Mismatch { field: "nonce" }));
    assert_eq!(memory.control.check(&other), Err(Error::Mismatch { field: "nonce" }));
}

#[test]
fn a_full_ring_refuses_until_the_slowest_has_acknowledged() {
    let (memory, mut producer) = topic(4096, 4, Overflow::Block, 0);
    let mut slow = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let mut fast = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let sent = fill(&mut producer, &[7; 100], MS, &mut Everybody);
    assert_eq!(sent, 4096 / (BATCH_OVERHEAD + padded(100)));
    assert_eq!(drain(&mut fast).unwrap().len(), sent);
    assert!(!committed(producer.send(&[7; 100], MS, &mut Everybody)), "the slow one has read nothing");
    let (got, _) = read(&mut slow, 4096, 1).unwrap();
    assert!(matches!(got, Read::Messages { count: 1, .. }));
    assert!(!committed(producer.send(&[7; 100], MS, &mut Everybody)), "read, but not acknowledged");
    assert!(producer.arm(padded(100), MS));
    assert!(slow.acknowledge(), "the publisher waits and is to be rung");
    assert!(!slow.acknowledge(), "once");
    assert!(!producer.arm(padded(100), MS));
    assert!(committed(producer.send(&[8; 100], MS, &mut Everybody)));
    assert_eq!(producer.data().counters().full, 3);
    assert_eq!(drain(&mut slow).unwrap().last().unwrap().payload, [8; 100]);
}

#[test]
fn frames_wrap_around_the_end() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    for round in 0..if cfg!(miri) { 20 } else { 2000 } {
        let payload = vec![round as u8; round * 37 % max_message(4096)];
        assert!(committed(producer.send(&payload, 0, &mut Everybody)));
        let got = drain(&mut consumer).unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].sequence, &got[0].payload), (round as u64, &payload));
    }
}

#[test]
fn more_than_half_of_the_ring_is_never_accepted() {
    let _watchdog = Watchdog::new(60);
    let (_memory, mut producer) = topic(4096, 1, Overflow::DropOldest, 0);
    assert!(producer.has_room(padded(max_message(4096)), 0));
    for bytes in [padded(max_message(4096)) + 8, 4096, 1 << 40, usize::MAX - 8, usize::MAX] {
        assert!(!producer.has_room(bytes, 0), "{bytes}");
        assert!(producer.arm(bytes, 0));
        assert!(producer.reserve(bytes, bytes, 0, &mut Everybody).is_none());
    }
    assert!(producer.commit_span(&[1], 0).is_none(), "nothing was reserved");
}

#[test]
#[cfg(not(miri))]
fn a_batch_is_one_commit() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    for round in 0..200u64 {
        let span = producer.reserve(3 * padded(10), 3 * padded(10) + 5, round, &mut Everybody).unwrap();
        assert_eq!(span.length, 3 * padded(10));
        for n in 0..3 {
            producer.reserved_bytes()[n * padded(10) + 8..][..10].fill(round as u8 + n as u8);
        }
        assert_eq!(
            producer.commit_span(&[10, 10, 10, 10], round),
            None,
            "four don't fit into what was reserved"
        );
        assert!(producer.commit_span(&[], round).is_none());
        assert!(committed(producer.commit_span(&[10, 10, 10], round).unwrap()));
        assert!(producer.reserved_bytes().is_empty());
        // One at a time: the batch is continued over several reads.
        for n in 0..3 {
            let (_, got) = read(&mut consumer, 64, 1).unwrap();
            assert_eq!(got[0].sequence, 3 * round + n);
            assert_eq!(got[0].time, round);
            assert_eq!(got[0].payload, [(round + n) as u8; 10]);
        }
        let _ = consumer.acknowledge();
    }
}

#[test]
#[cfg(not(miri))]
fn a_lease_shows_frames_where_they_are() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let mut expected = 0;
    for round in 0..100u64 {
        fill(&mut producer, &[round as u8; 300], round, &mut Everybody);
        let mut table = [Entry::default(); 5];
        let lease = consumer.lease(&mut table).unwrap();
        let got = support::got(lease, &table, |at, length| memory.leased(at, length));
        assert!(!got.is_empty());
        for message in got {
            assert_eq!(message.sequence, expected);
            assert_eq!(message.payload, [message.time as u8; 300]);
            expected += 1;
        }
        assert!(!producer.has_room(padded(300), round), "leased is not given back");
        let _ = consumer.acknowledge();
        assert!(producer.has_room(padded(300), round));
    }
}

#[test]
fn a_read_into_a_small_slab_returns_the_needed_size() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let _ = producer.send(&[1; 50], 0, &mut Everybody);
    let needs = BATCH_OVERHEAD + padded(50);
    for room in 0..needs {
        assert_eq!(read(&mut consumer, room, 4).unwrap().0, Read::Needs(needs), "{room}");
    }
    assert_eq!(read(&mut consumer, needs, 4).unwrap().1.len(), 1);
}

#[test]
fn drop_oldest_counts_what_was_missed_from_the_first_moment() {
    let (memory, mut producer) = topic(4096, 2, Overflow::DropOldest, 0);
    let _ = producer.send(&[0; 64], 0, &mut Everybody);
    let mut late = join(&memory, 0, Overflow::DropOldest, Start::Latest).unwrap();
    let mut early = join(&memory, 1, Overflow::DropOldest, Start::Earliest).unwrap();
    for _ in 0..500 {
        assert!(committed(producer.send(&[1; 64], 0, &mut Everybody)));
    }
    for (consumer, joined) in [(&mut late, 1), (&mut early, 0)] {
        let got = drain(consumer).unwrap();
        assert_eq!(got.last().unwrap().sequence, 500);
        assert_eq!(consumer.missed(), got[0].sequence - joined);
        assert_eq!(consumer.received() + consumer.missed(), 501 - joined);
    }
}

#[test]
fn earliest_begins_with_what_the_ring_still_holds() {
    let (memory, mut producer) = topic(4096, 2, Overflow::Block, 0);
    for n in 0..3u8 {
        let _ = producer.send(&[n], 0, &mut Everybody);
    }
    let mut early = join(&memory, 0, Overflow::Block, Start::Earliest).unwrap();
    let mut late = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let _ = producer.send(&[3], 0, &mut Everybody);
    let sequences = |got: Vec<support::Got>| got.iter().map(|message| message.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(drain(&mut early).unwrap()), [0, 1, 2, 3]);
    assert_eq!(sequences(drain(&mut late).unwrap()), [3]);
}

#[test]
fn only_messages_after_the_join_are_protected() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    for _ in 0..40 {
        let _ = producer.send(&[0; 64], 0, &mut Everybody);
    }
    let mut early = join(&memory, 0, Overflow::Block, Start::Earliest).unwrap();
    let accepted = 40 + fill(&mut producer, &[1; 64], 0, &mut Everybody) as u64;
    let got = drain(&mut early).unwrap();
    assert!(got[0].sequence <= 40 && got[0].sequence > 0);
    assert_eq!(early.missed(), got[0].sequence);
    assert_eq!(got.len() as u64, accepted - got[0].sequence);
}

#[test]
fn the_dead_and_the_stalled_give_way() {
    let (memory, mut producer) = topic(4096, 4, Overflow::Block, 10 * MS);
    let mut alive = Alive(vec![true; 4]);
    let mut stalled = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let _dead = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let mut now = MS;
    fill(&mut producer, &[1; 64], now, &mut alive);
    alive.0[1] = false;
    now += 2 * MS;
    assert!(
        !committed(producer.send(&[1; 64], now, &mut alive)),
        "one is dead, one has stalled since just now"
    );
    let states: Vec<_> = producer.slots().map(|slot| (slot.index, slot.state)).collect();
    assert_eq!(states, [(0, SlotState::Active)], "the dead one's slot is free");
    now += 7 * MS;
    producer.sweep(now, &mut alive);
    assert_eq!(producer.data().counters().evicted, 0, "not for ten milliseconds yet");
    now += 2 * MS;
    producer.sweep(now, &mut alive);
    assert!(committed(producer.send(&[1; 64], now, &mut alive)));
    assert!(stalled.pending());
    assert_eq!(read(&mut stalled, 4096, 4), Err(Fault::Evicted));
    assert!(!stalled.acknowledge());
    let counters = producer.data().counters();
    assert_eq!((counters.evicted, counters.reaped), (1, 1));
    // The subscriber has left: its slot is used again.
    let _ = stalled.leave();
    let mut next = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let _ = producer.send(&[2], now, &mut alive);
    assert_eq!(drain(&mut next).unwrap().len(), 1);
}

#[test]
fn several_dead_at_different_places_give_way_at_once() {
    let (memory, mut producer) = topic(4096, 4, Overflow::Block, 0);
    for slot in 0..4 {
        let _ = join(&memory, slot, Overflow::Block, Start::Latest).unwrap();
        let _ = producer.send(&[1; 8], MS, &mut Everybody);
    }
    let mut nobody = Alive(vec![false; 4]);
    let mut now = MS;
    for _ in 0..8 {
        now += 2 * MS;
        assert!(committed(producer.send(&[1; 1500], now, &mut nobody)));
    }
    assert_eq!(producer.data().counters().full, 0);
}

#[test]
fn a_sweep_without_need_only_frees_dead_slots() {
    let (memory, mut producer) = topic(4096, 2, Overflow::Block, MS);
    let mut lazy = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let _dead = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let _ = producer.send(&[1], 0, &mut Everybody);
    let mut alive = Alive(vec![true, false]);
    for step in 1..10 {
        producer.sweep(step * 50 * MS, &mut alive);
    }
    assert_eq!(producer.slots().count(), 1);
    assert_eq!(drain(&mut lazy).unwrap().len(), 1);
}

#[test]
fn drop_newest_counts_what_it_drops() {
    let (memory, mut producer) = topic(4096, 1, Overflow::DropNewest, 0);
    let mut consumer = join(&memory, 0, Overflow::DropNewest, Start::Latest).unwrap();
    let accepted = (0..100).filter(|_| committed(producer.send(&[1; 64], 0, &mut Everybody))).count();
    assert_eq!(producer.data().counters().dropped, 100 - accepted as u64);
    assert_eq!(drain(&mut consumer).unwrap().len(), accepted);
    assert_eq!(consumer.missed(), 0);
}

#[test]
fn closing_wakes_the_sleepers_and_ends_after_the_last_message() {
    let (memory, mut producer) = topic(4096, 20, Overflow::Block, 0);
    let mut first = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let mut other = join(&memory, 17, Overflow::Block, Start::Latest).unwrap();
    assert!(first.arm() && other.arm());
    assert_eq!(
        producer.send(&[1], 0, &mut Everybody),
        ringbell_ring::Sent::Committed { ring: 0b11 },
        "slot 17 listens to the second doorbell"
    );
    assert!(!first.arm(), "there is something to read");
    assert_eq!(producer.close(), 1);
    assert!(!first.ended());
    assert_eq!(drain(&mut first).unwrap().len(), 1);
    assert!(first.ended());
    assert!(!first.arm(), "closed: nothing to wait for");
    assert_eq!(drain(&mut other).unwrap().len(), 1);
    assert!(other.ended());
}

#[test]
#[cfg(not(miri))]
fn a_cursor_that_breaks_the_rules_expels_its_owner_alone() {
    use std::sync::atomic::Ordering;

    for wrong in [4, 1 << 20, u64::MAX, 1 << 63, 0] {
        let (memory, mut producer) = topic(4096, 2, Overflow::Block, 0);
        let _ = producer.send(&[0; 100], 0, &mut Everybody);
        let mut honest = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let mut hostile = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
        producer.sweep(0, &mut Everybody);
        fill(&mut producer, &[0; 100], 0, &mut Everybody);
        let read = drain(&mut honest).unwrap().len();
        assert!(read > 0);
        memory.control_word(ringbell_ring::layout::SLOTS_OFFSET + 128 + 8).store(wrong, Ordering::Release);
        assert!(committed(producer.send(&[0; 100], 0, &mut Everybody)), "{wrong:#x}");
        assert_eq!(support::read(&mut hostile, 4096, 4), Err(Fault::Expelled));
        assert_eq!(drain(&mut honest).unwrap().len(), 1);
    }
}

#[test]
fn a_lease_passes_over_history_and_calls_none_of_it_missed() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    for n in 0..3u8 {
        assert!(committed(producer.send(&[n; 8], 0, &mut Everybody)));
    }
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Earliest).unwrap();
    assert!(committed(producer.send(&[3; 8], 0, &mut Everybody)));
    let mut table = [Entry::default(); 8];
    assert!(matches!(consumer.lease(&mut table).unwrap(), Read::Messages { count: 1, .. }));
    assert_eq!((consumer.received(), consumer.missed()), (1, 0));
}

#[test]
fn an_earlier_shortage_does_not_count_toward_eviction() {
    let hour = 3_600_000 * MS;
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 10 * MS);
    let mut slow = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    while producer.has_room(padded(1000), MS) {
        assert!(committed(producer.send(&[0; 400], MS, &mut Everybody)));
    }
    assert!(!committed(producer.send(&[1; 1000], MS, &mut Everybody)), "too large for what is left");
    assert!(committed(producer.send(&[2; 8], 2 * MS, &mut Everybody)), "and so was given up");
    assert!(!committed(producer.send(&[3; 1000], hour, &mut Everybody)));
    assert_eq!(producer.data().counters().evicted, 0, "it had an hour, but nobody wanted its room");
    assert!(!committed(producer.send(&[3; 1000], hour + 9 * MS, &mut Everybody)));
    assert!(committed(producer.send(&[3; 1000], hour + 10 * MS, &mut Everybody)));
    assert_eq!(drain(&mut slow), Err(Fault::Evicted));
}

#[test]
fn the_newest_message_is_read_again_and_again() {
    let (memory, mut producer) = topic(4096, 2, Overflow::DropOldest, 0);
    let mut consumer = join(&memory, 0, Overflow::DropOldest, Start::Earliest).unwrap();
    let mut target = [0; 64];
    assert_eq!(consumer.newest(&mut target), Ok(Newest::Nothing));
    for n in 0..if cfg!(miri) { 200 } else { 5000u64 } {
        let length = (n % 9) as usize * 7;
        assert!(committed(producer.send(&vec![n as u8; length], n, &mut Everybody)));
        assert!(consumer.pending());
        assert_eq!(consumer.newest_again(&mut target), None, "there is a newer one");
        for _ in 0..2 {
            assert_eq!(consumer.newest(&mut target), Ok(Newest::Message { length, sequence: n, time: n }));
            assert_eq!(target[..length], vec![n as u8; length]);
            target.fill(!n as u8);
            assert_eq!(consumer.newest_again(&mut target), Some((length, n)));
            assert_eq!(target[..length], vec![n as u8; length]);
            assert!(!consumer.pending() && consumer.drained());
        }
        // One that joins later finds it, too.
        if n % 1000 == 999 {
            let mut late = join(&memory, 1, Overflow::DropOldest, Start::Latest).unwrap();
            assert_eq!(late.newest(&mut target), Ok(Newest::Message { length, sequence: n, time: n }));
            let _ = late.leave();
        }
    }
    assert!(committed(producer.send(&[1; 64], 0, &mut Everybody)));
    assert_eq!(consumer.newest(&mut target[..63]), Ok(Newest::Needs(64)));
    assert!(consumer.pending(), "it was not read");
    let _ = producer.close();
    assert!(matches!(consumer.newest(&mut target), Ok(Newest::Message { length: 64, .. })));
    assert_eq!(consumer.newest_again(&mut target[..63]), None, "it does not fit");
    assert!(consumer.ended());
}

/// A writer that dies between its stores of `head` and `last` leaves a `last` that is one batch behind.
#[cfg(not(miri))]
#[test]
fn a_last_that_is_behind_leads_to_the_newest_message() {
    let (memory, mut producer) = topic(4096, 1, Overflow::DropOldest, 0);
    let mut consumer = join(&memory, 0, Overflow::DropOldest, Start::Latest).unwrap();
    let mut target = [0; 8];
    for n in 0..20u8 {
        let before = memory.data_word(152).load(std::sync::atomic::Ordering::Relaxed);
        assert!(committed(producer.send(&[n; 8], 0, &mut Everybody)));
        memory.data_word(152).store(before, std::sync::atomic::Ordering::Relaxed);
        let newest = consumer.newest(&mut target);
        if n < 16 {
            assert_eq!(newest, Ok(Newest::Message { length: 8, sequence: n.into(), time: 0 }));
            assert_eq!(target, [n; 8]);
        } else {
            // No honest writer leaves it so far behind: the reader gives up after a bounded number of steps.
            assert_eq!(newest, Ok(Newest::Lapped));
        }
    }
}
