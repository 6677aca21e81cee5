//! Messages in pieces: one case in each test. Runs on mapped memory, and under Miri on the heap.

use crate::support::{
    Everybody, Gathering, Got, committed, drain, drain_into, join, read, send_large, topic,
};
use ringbell_ring::{
    Consumer, Entry, Fault, MAX_LARGE, Overflow, Piece, Producer, Pushed, Read, Start, max_message, padded,
};

const MS: u64 = 1_000_000;
/// Bytes of the largest piece in a ring of 4 KiB.
const PIECE: usize = 1024 - 48;

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + (at >> 8)) as u8).collect()
}

/// Pushes as many pieces as there is room for. Returns the bytes that were taken.
fn push(producer: &mut Producer, payload: &[u8], now: u64) -> usize {
    let mut done = 0;
    while done < payload.len() {
        match producer.push_large(&payload[done..], now, &mut Everybody).bytes {
            0 => break,
            bytes => done += bytes,
        }
    }
    done
}

fn sequences(got: &[Got]) -> Vec<u64> {
    got.iter().map(|message| message.sequence).collect()
}

fn large(consumer: &mut Consumer) -> ringbell_ring::Large {
    match read(consumer, 4096, 8).unwrap() {
        (Read::Large(large), _) => large,
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn a_message_larger_than_the_ring_goes_through_whole() {
    let (capacity, length) = if cfg!(miri) { (4096, 20_000) } else { (64 << 10, 16 << 20) };
    let (memory, mut producer) = topic(capacity, 2, Overflow::Block, 0);
    let mut readers = [0, 1].map(|slot| join(&memory, slot, Overflow::Block, Start::Latest).unwrap());
    let payload = payload(length);
    assert!(committed(producer.send(&[1], 5, &mut Everybody)));
    let mut gathering = [Gathering::default(), Gathering::default()];
    let mut got = [Vec::new(), Vec::new()];
    send_large(&mut producer, &payload, 6, || {
        for ((reader, gathering), got) in readers.iter_mut().zip(&mut gathering).zip(&mut got) {
            got.extend(drain_into(reader, gathering).unwrap());
        }
    });
    assert!(committed(producer.send(&[2], 7, &mut Everybody)));
    for ((mut reader, mut gathering), mut got) in readers.into_iter().zip(gathering).zip(got) {
        got.extend(drain_into(&mut reader, &mut gathering).unwrap());
        assert_eq!(sequences(&got), [0, 1, 2]);
        assert_eq!((got[1].time, &got[1].payload), (6, &payload));
        assert_eq!((reader.received(), reader.missed(), reader.backlog()), (3, 0, 0));
    }
    let counters = producer.data().counters();
    assert_eq!((counters.messages, counters.bytes), (3, length as u64 + 2));
    assert_eq!(counters.fragments, length.div_ceil(capacity / 4 - 48) as u64);
}

#[test]
fn every_length_arrives_as_it_was() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let most = if cfg!(miri) { PIECE + 20 } else { 9 * PIECE + 20 };
    for length in (1..20).chain(PIECE - 10..PIECE + 10).chain(most - 20..most) {
        let payload = payload(length);
        let mut gathering = Gathering::default();
        let mut got = Vec::new();
        send_large(&mut producer, &payload, 0, || {
            got.extend(drain_into(&mut consumer, &mut gathering).unwrap());
        });
        got.extend(drain_into(&mut consumer, &mut gathering).unwrap());
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].payload, payload);
    }
}

#[test]
fn its_headers_are_its_last_bytes_wherever_the_pieces_end() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let whole = payload(3 * PIECE);
    for headers in [0, 1, 8, PIECE as u16, whole.len() as u16] {
        assert!(producer.begin_large_with(whole.len(), headers));
        assert_eq!(push(&mut producer, &whole, 0), whole.len());
        let got = drain(&mut consumer).unwrap();
        let (payload, behind) = whole.split_at(whole.len() - usize::from(headers));
        assert_eq!((&got[0].payload[..], &got[0].headers[..]), (payload, behind));
    }
    assert!(!producer.begin_large_with(7, 8), "more headers than bytes");
}

#[test]
fn nothing_else_is_sent_in_between() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert!(producer.begin_large(6 * PIECE));
    assert!(!producer.begin_large(1), "one at a time");
    assert_eq!(producer.large_left(), Some(6 * PIECE));
    assert!(!committed(producer.send(&[1], 0, &mut Everybody)));
    assert!(producer.reserve(8, 8, 0, &mut Everybody).is_none());
    assert!(producer.has_room(0, 0), "for the next piece");
    let payload = payload(6 * PIECE);
    let done = push(&mut producer, &payload, 0);
    assert_eq!(done, 4 * PIECE, "what there is room for");
    assert!(!producer.has_room(0, 0));
    assert!(producer.arm(0, 0));
    let mut gathering = Gathering::default();
    let mut target = vec![0; PIECE];
    assert_eq!(large(&mut consumer).total, 6 * PIECE);
    assert_eq!(
        consumer.read_large(&mut target).unwrap(),
        Piece::Copied { bytes: PIECE, left: 5 * PIECE },
        "one piece a call"
    );
    assert!(consumer.acknowledge(), "the publisher waits, and a piece is enough for it");
    assert!(producer.has_room(0, 0));
    assert_eq!(push(&mut producer, &payload[done..], 0), PIECE);
    // The rest, with a buffer that already holds the first piece.
    gathering.restore(target, 6 * PIECE);
    assert_eq!(drain_into(&mut consumer, &mut gathering).unwrap().len(), 0);
    assert_eq!(push(&mut producer, &payload[done + PIECE..], 0), PIECE);
    assert_eq!(drain_into(&mut consumer, &mut gathering).unwrap()[0].payload, payload);
    assert_eq!(producer.large_left(), None);
    assert!(committed(producer.send(&[1], 0, &mut Everybody)));
    assert_eq!(producer.data().counters().full, 1);
}

#[test]
fn a_span_is_taken_back_by_a_piece() {
    let (_memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    assert!(producer.reserve(8, 8, 0, &mut Everybody).is_some());
    assert!(producer.begin_large(10));
    assert_eq!(push(&mut producer, &[0; 10], 0), 10);
    assert!(producer.commit_span(&[0], 0).is_none());
}

#[test]
fn an_abandoned_message_is_missed_once_and_the_next_is_whole() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let payload = payload(3 * PIECE);
    for next_is_large in [false, true] {
        let mut gathering = Gathering::default();
        assert!(producer.begin_large(payload.len()));
        assert_eq!(push(&mut producer, &payload[..PIECE + 7], 0), PIECE + 7);
        assert!(drain_into(&mut consumer, &mut gathering).unwrap().is_empty());
        let missed = consumer.missed();
        producer.abandon_large();
        assert_eq!(consumer.read_large(&mut [0; 8]).unwrap(), Piece::Nothing, "nobody told it yet");
        if next_is_large {
            assert!(producer.begin_large(PIECE));
            assert_eq!(push(&mut producer, &payload[..PIECE], 0), PIECE);
        } else {
            assert!(committed(producer.send(&payload[..PIECE], 0, &mut Everybody)));
        }
        assert_eq!(consumer.read_large(&mut [0; 8]).unwrap(), Piece::Gone);
        assert_eq!(consumer.read_large(&mut [0; 8]).unwrap(), Piece::Gone, "until it reads on");
        let got = drain_into(&mut consumer, &mut gathering).unwrap();
        assert_eq!(got[0].sequence + 1, producer.next_sequence());
        assert_eq!(got[0].payload, payload[..PIECE]);
        assert_eq!(consumer.missed() - missed, 1);
    }
    assert_eq!(consumer.received() + consumer.missed(), producer.next_sequence());
    assert_eq!(producer.data().counters().messages, 2);
}

#[test]
fn a_message_abandoned_before_its_first_piece_is_not_counted() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert!(producer.begin_large(10));
    producer.abandon_large();
    assert_eq!(producer.push_large(&[1], 0, &mut Everybody), Pushed::default());
    assert!(committed(producer.send(&[1], 0, &mut Everybody)));
    assert_eq!(sequences(&drain(&mut consumer).unwrap()), [0]);
    assert_eq!(consumer.missed(), 0);
}

#[test]
fn a_late_joiner_begins_with_the_next_message_without_misses() {
    let (memory, mut producer) = topic(4096, 3, Overflow::Block, 0);
    let payload = payload(3 * PIECE);
    assert!(committed(producer.send(&[1], 0, &mut Everybody)));
    assert!(producer.begin_large(payload.len()));
    assert_eq!(push(&mut producer, &payload[..PIECE], 0), PIECE);
    let mut late = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let mut early = join(&memory, 1, Overflow::Block, Start::Earliest).unwrap();
    assert_eq!(push(&mut producer, &payload[PIECE..], 0), 2 * PIECE);
    assert!(committed(producer.send(&[2], 0, &mut Everybody)));
    assert_eq!(sequences(&drain(&mut late).unwrap()), [2]);
    assert_eq!(sequences(&drain(&mut early).unwrap()), [0, 1, 2]);
    assert_eq!((late.missed(), early.missed()), (0, 0));
    // History that begins in the middle of a message begins with the next one.
    for _ in 0..3 {
        assert!(committed(producer.send(&payload[..300], 0, &mut Everybody)));
        let _ = (drain(&mut late).unwrap(), drain(&mut early).unwrap());
    }
    let mut history = join(&memory, 2, Overflow::Block, Start::Earliest).unwrap();
    let got = drain(&mut history).unwrap();
    assert_eq!(got[0].sequence, 2, "floor lies between two pieces");
    assert_eq!(history.missed(), 0);
}

#[test]
fn history_that_is_overwritten_while_it_is_read_is_missed() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let payload = payload(2 * PIECE);
    assert!(producer.begin_large(payload.len()));
    assert_eq!(push(&mut producer, &payload, 0), payload.len());
    let mut early = join(&memory, 0, Overflow::Block, Start::Earliest).unwrap();
    assert_eq!(large(&mut early).sequence, 0);
    assert!(matches!(early.read_large(&mut [0; 100]).unwrap(), Piece::Copied { bytes: 100, .. }));
    for _ in 0..2 {
        assert!(committed(producer.send(&payload[..1500], 0, &mut Everybody)));
    }
    assert_eq!(early.read_large(&mut [0; 100]).unwrap(), Piece::Gone);
    assert_eq!(sequences(&drain(&mut early).unwrap()), [1, 2]);
    assert_eq!(early.missed(), 1);
}

#[test]
fn a_declined_large_message_is_missed() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let payload = payload(9 * PIECE);
    for begun in [false, true] {
        assert!(producer.begin_large(payload.len()));
        let mut done = push(&mut producer, &payload, 0);
        assert_eq!(large(&mut consumer).total, payload.len());
        if begun {
            assert!(matches!(consumer.read_large(&mut [0; 9]).unwrap(), Piece::Copied { .. }));
        }
        consumer.skip_large();
        assert_eq!(consumer.read_large(&mut [0; 9]).unwrap(), Piece::Gone);
        while done < payload.len() {
            assert!(drain(&mut consumer).unwrap().is_empty(), "it makes room all the same");
            done += push(&mut producer, &payload[done..], 0);
        }
        assert!(committed(producer.send(&[1], 0, &mut Everybody)));
        assert_eq!(drain(&mut consumer).unwrap().len(), 1);
    }
    assert_eq!((consumer.received(), consumer.missed()), (2, 2));
}

#[test]
fn memory_of_any_length_works_and_pieces_make_room() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let payload = payload(4 * PIECE);
    assert!(producer.begin_large(payload.len()));
    assert_eq!(push(&mut producer, &payload, 0), payload.len());
    let mut got = vec![0; payload.len()];
    let mut done = large(&mut consumer).done;
    assert_eq!(consumer.read_large(&mut []).unwrap(), Piece::Nothing);
    while done < payload.len() {
        let end = payload.len().min(done + 1 + done % 13);
        let Piece::Copied { bytes, left } = consumer.read_large(&mut got[done..end]).unwrap() else {
            panic!("there was more")
        };
        done += bytes;
        assert_eq!(done + left, payload.len());
        if left > 0 {
            assert_eq!(large(&mut consumer).done, done, "a read in between changes nothing");
            assert!(!consumer.arm());
            let _ = consumer.acknowledge();
            assert_eq!(producer.slots().next().unwrap().backlog, (4 - done as u64 / PIECE as u64) * 1024);
        }
    }
    assert_eq!(got, payload);
    let _ = consumer.acknowledge();
    assert!(drain(&mut consumer).unwrap().is_empty() && consumer.drained());
}

#[test]
fn an_unfinished_message_of_a_gone_publisher_is_invisible() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert!(producer.begin_large(3 * PIECE));
    assert_eq!(push(&mut producer, &[1; 2 * PIECE], 0), 2 * PIECE);
    drop(producer);
    assert!(!consumer.drained());
    assert!(drain(&mut consumer).unwrap().is_empty());
    assert!(consumer.drained());
    assert_eq!((consumer.received(), consumer.missed()), (0, 0));
}

#[test]
#[cfg(not(miri))]
fn between_leased_messages_it_is_copied() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let payload = payload(2 * PIECE);
    assert!(committed(producer.send(&[1; 8], 0, &mut Everybody)));
    assert!(producer.begin_large(payload.len()));
    assert_eq!(push(&mut producer, &payload, 0), payload.len());
    assert!(committed(producer.send(&[2; 8], 0, &mut Everybody)));
    let mut table = [Entry::default(); 8];
    assert!(matches!(consumer.lease(&mut table).unwrap(), Read::Messages { count: 1, .. }));
    let Read::Large(large) = consumer.lease(&mut table).unwrap() else { panic!("a piece comes next") };
    let got = Gathering::default().take(&mut consumer, large).unwrap().unwrap();
    assert_eq!(got.payload, payload);
    assert!(matches!(consumer.lease(&mut table).unwrap(), Read::Messages { count: 1, .. }));
    assert_eq!((consumer.received(), consumer.missed()), (3, 0));
}

#[test]
fn only_where_nothing_is_dropped_and_within_the_limit() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let (_memory, mut producer) = topic(4096, 1, overflow, 0);
        assert!(!producer.begin_large(5000));
        assert_eq!(producer.push_large(&[1], 0, &mut Everybody), Pushed::default());
        assert!(committed(producer.send(&[1], 0, &mut Everybody)));
    }
    let (_memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    for wrong in [0, MAX_LARGE + 1, usize::MAX] {
        assert!(!producer.begin_large(wrong));
    }
    assert!(producer.begin_large(MAX_LARGE));
    assert!(padded(max_message(4096)) > PIECE);
}

#[test]
fn a_reader_stalled_in_a_large_message_is_evicted() {
    let (memory, mut producer) = topic(4096, 2, Overflow::Block, 10 * MS);
    let mut stalled = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let mut reader = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
    let payload = payload(9 * PIECE);
    let (mut now, mut done, mut gathering, mut got) = (MS, 0, Gathering::default(), Vec::new());
    assert!(producer.begin_large(payload.len()));
    while done < payload.len() {
        done += push(&mut producer, &payload[done..], now);
        got.extend(drain_into(&mut reader, &mut gathering).unwrap());
        if done == 4 * PIECE && stalled.received() == 0 && producer.data().counters().evicted == 0 {
            let _ = large(&mut stalled);
            assert!(matches!(stalled.read_large(&mut [0; 100]).unwrap(), Piece::Copied { .. }));
        }
        now += 2 * MS;
    }
    assert_eq!(got[0].payload, payload);
    assert_eq!(stalled.read_large(&mut [0; 100]), Err(Fault::Evicted));
}
