//! Streams against the ring itself: what is forwarded and fed, compared with what is read from the memory. However the
//! bytes are cut, both give the same messages, counts and sequences. A feed also survives any bytes.
#![cfg(not(miri))]

use crate::support::stream::Stream;
use crate::support::{Everybody, Got, committed, join, join_as, read, topic};
use proptest::prelude::*;
use ringbell_ring::{
    Entry, Fault, Feed, Overflow, Piece, Position, Producer, Read, Report, Start, max_message, padded,
};

const CAPACITY: usize = 4096;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Batch(Vec<usize>),
    Read { most: usize, room: usize, entries: usize },
    Pass(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let length = prop_oneof![4 => 0usize..80, 1 => 0..=max_message(CAPACITY)];
    let most = (1usize..600).prop_map(|words| words * 8);
    let op = prop_oneof![
        4 => length.prop_map(Op::Send),
        2 => proptest::collection::vec(0usize..100, 1..8).prop_map(Op::Batch),
        3 => (most.clone(), 0usize..3000, 0usize..20)
            .prop_map(|(most, room, entries)| Op::Read { most, room, entries }),
        1 => most.prop_map(Op::Pass),
    ];
    proptest::collection::vec(op, 1..200)
}

fn payload(sequence: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (sequence as u8).wrapping_mul(31).wrapping_add(at as u8)).collect()
}

fn send(producer: &mut Producer, lengths: &[usize]) -> bool {
    let bytes = lengths.iter().map(|length| padded(*length)).sum();
    if producer.reserve(bytes, bytes, 1, &mut Everybody).is_none() {
        return false;
    }
    let mut at = 0;
    let mut sequence = producer.next_sequence();
    for length in lengths {
        producer.reserved_bytes()[at + 8..at + 8 + length].copy_from_slice(&payload(sequence, *length));
        at += padded(*length);
        sequence += 1;
    }
    let lengths: Vec<u32> = lengths.iter().map(|length| *length as u32).collect();
    committed(producer.commit_span(&lengths, sequence).unwrap())
}

fn agree(ops: &[Op], overflow: Overflow, start: Start) {
    let (memory, mut producer) = topic(CAPACITY, 2, overflow, 0);
    for _ in 0..20 {
        assert!(send(&mut producer, &[100, 3]));
    }
    let mut stream = Stream::open(&memory, 0, overflow, start);
    let mut sent = producer.next_sequence();
    let mut next = stream.consumer.next_sequence().unwrap();
    let mut gaps = 0;
    let mut check = |messages: &[Got]| {
        for message in messages {
            assert!(message.sequence >= next);
            gaps += message.sequence - next;
            assert_eq!(message.payload, payload(message.sequence, message.payload.len()));
            next = message.sequence + 1;
        }
    };
    for op in ops {
        match op {
            Op::Send(length) => drop(send(&mut producer, &[*length])),
            Op::Batch(lengths) => drop(send(&mut producer, lengths)),
            Op::Read { most, room, entries } => {
                let (read, messages) = stream.read(*most, *room + 8, *entries);
                if let Read::Needs(bytes) = read {
                    assert!(bytes > *room & !7 && bytes <= CAPACITY / 2);
                }
                check(&messages);
            }
            Op::Pass(most) => {
                // More may follow only while the feed cannot hand out a message yet.
                if !stream.feed.pending() {
                    stream.pass(*most);
                }
            }
        }
        sent = producer.next_sequence();
    }
    loop {
        let (read, messages) = stream.read(512, 8 + CAPACITY, 64);
        check(&messages);
        if read == Read::Empty {
            break;
        }
    }
    assert_eq!(stream.feed.position(), memory.view.counters().head);
    assert_eq!(next, sent, "the last message was received");
    assert_eq!(stream.feed.missed(), gaps);
    if overflow != Overflow::DropOldest && start == Start::Latest {
        assert_eq!(gaps, 0);
    }
    let slot = producer.slots().next().unwrap();
    assert_eq!((slot.received, slot.missed, slot.wakeups), (stream.feed.received(), stream.feed.missed(), 7));
    assert_eq!(slot.backlog, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_the_pieces_the_messages_are_the_same(ops in ops(), policy in 0..3usize, earliest: bool) {
        let overflow = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest][policy];
        agree(&ops, overflow, if earliest { Start::Earliest } else { Start::Latest });
    }

    #[test]
    fn no_bytes_are_too_strange(
        pieces in proptest::collection::vec((0u64..1 << 13, proptest::collection::vec(0u64..(3 << 32), 0..40)), 1..20),
        policy in 0..3usize,
    ) {
        let overflow = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest][policy];
        let mut feed = Feed::new(CAPACITY, overflow, 0, 64, None).unwrap();
        let (mut slab, mut table) = (vec![0; 4096], vec![Entry::default(); 8]);
        for (position, words) in pieces {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            feed.space(bytes.len())[..bytes.len()].copy_from_slice(&bytes);
            let position = if position % 2 == 0 { feed.fed_to() } else { position };
            if feed.fed(position, bytes.len()).is_err() {
                break;
            }
            while let Ok(read) = feed.read(&mut slab, 0, &mut table) {
                let Read::Messages { count, bytes, .. } = read else { break };
                for entry in &table[..count] {
                    prop_assert!((entry.offset + entry.length) as usize <= bytes);
                }
                if bytes == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn one_ring_read_both_ways_gives_the_same() {
    let (memory, mut producer) = topic(CAPACITY, 2, Overflow::Block, 0);
    let mut near = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let mut far = Stream::open(&memory, 1, Overflow::Block, Start::Latest);
    for round in 0..200usize {
        assert!(send(&mut producer, &[round % 90, 7, round]));
        let (_, here) = read(&mut near, CAPACITY, 64).unwrap();
        let _ = near.acknowledge();
        let mut there = Vec::new();
        while there.len() < 3 {
            there.extend(far.read(24, CAPACITY, 2).1);
        }
        assert_eq!(here, there);
    }
}

#[test]
fn a_block_topic_waits_for_unreported_messages() {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
    let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
    while send(&mut producer, &[100]) {
        while stream.pass(CAPACITY) {}
    }
    assert!(producer.arm(100, 1));
    assert!(!send(&mut producer, &[100]), "forwarded is not read");
    let mut slab = vec![0; CAPACITY];
    let read = stream.feed.read(&mut slab, 0, &mut [Entry::default(); 64]).unwrap();
    assert!(matches!(read, Read::Messages { count: 20.., .. }));
    assert!(stream.report().unwrap(), "the publisher waits");
    assert!(send(&mut producer, &[100]));
}

#[test]
fn a_report_that_cannot_be_is_a_fault() {
    for cursor in [1, 8, 1 << 40, u64::MAX] {
        let (memory, _producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
        let report = Report { cursor, ..Report::default() };
        assert!(matches!(stream.consumer.report(report), Err(Fault::Corrupt(_))), "{cursor}");
        assert!(matches!(stream.consumer.forward(&mut [0; 64]), Err(Fault::Corrupt(_))));
    }
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
    let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
    assert!(send(&mut producer, &[8]) && stream.pass(64));
    let report = |cursor| Report { cursor, ..Report::default() };
    assert_eq!(stream.consumer.report(report(40)), Ok(false));
    assert!(stream.consumer.report(report(32)).is_err(), "backwards");
}

#[test]
fn an_evicted_one_is_told_by_the_ring() {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 10);
    let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
    while send(&mut producer, &[100]) {}
    producer.sweep(10_000_000, &mut Everybody);
    producer.sweep(20_000_000, &mut Everybody);
    assert_eq!(stream.consumer.forward(&mut [0; 64]), Err(Fault::Evicted));
}

fn larger_than_the_ring(apart: bool) {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
    let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
    if apart {
        stream.feed.acknowledge_apart();
    }
    for (round, wanted) in [true, false, true].into_iter().enumerate() {
        let message = payload(round as u64, 3 * CAPACITY + round);
        assert!(producer.begin_large(message.len()));
        let (mut sent, mut got) = (0, vec![0; message.len()]);
        let mut read = 0;
        let mut table = [Entry::default(); 4];
        while sent < message.len() || stream.feed.position() < memory.view.counters().head {
            sent += producer.push_large(&message[sent..], 1, &mut Everybody).bytes;
            match stream.feed.read(&mut [0; 64], 0, &mut table).unwrap() {
                Read::Large(large) if wanted => {
                    assert_eq!((large.total, large.done), (message.len(), read));
                    // In lengths that fit neither the pieces nor the stretches.
                    let end = message.len().min(read + 333);
                    if let Piece::Copied { bytes, left } =
                        stream.feed.read_large(&mut got[read..end]).unwrap()
                    {
                        read += bytes;
                        assert_eq!(left, message.len() - read);
                    }
                }
                Read::Large(_) => stream.feed.skip_large(),
                Read::Empty => drop(stream.pass(200)),
                other => panic!("{other:?}"),
            }
            stream.feed.give_back();
            let _ = stream.report().unwrap();
        }
        assert_eq!(read, if wanted { message.len() } else { 0 });
        assert!(!wanted || got == message);
        assert_eq!(stream.feed.acknowledge_below(u64::MAX), apart && wanted, "{round}");
        let _ = stream.report().unwrap();
        // What comes next is a message again.
        assert!(send(&mut producer, &[9]));
        let (_, messages) = stream.read(512, CAPACITY, 4);
        assert_eq!((messages.len(), messages[0].sequence), (1, 2 * round as u64 + 1));
        assert_eq!(stream.feed.acknowledge_below(u64::MAX), apart);
    }
    assert_eq!((stream.feed.received(), stream.feed.missed()), (5, 1));
    assert_eq!((stream.feed.cursor(), stream.feed.unacknowledged()), (stream.feed.position(), 0));
}

#[test]
fn a_large_message_is_forwarded_whole_or_missed() {
    larger_than_the_ring(false);
}

#[test]
fn so_it_does_where_everything_is_acknowledged_apart() {
    larger_than_the_ring(true);
}

#[test]
fn a_large_message_that_is_given_up_is_gone() {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
    let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
    assert!(producer.begin_large(CAPACITY));
    assert!(producer.push_large(&[7; 500], 1, &mut Everybody).bytes > 0);
    while stream.pass(100) {}
    let Read::Large(_) = stream.feed.read(&mut [0; 64], 0, &mut [Entry::default(); 4]).unwrap() else {
        panic!()
    };
    assert!(matches!(stream.feed.read_large(&mut [0; CAPACITY]).unwrap(), Piece::Copied { .. }));
    assert_eq!(stream.feed.read_large(&mut [0; CAPACITY]).unwrap(), Piece::Nothing);
    producer.abandon_large();
    assert!(send(&mut producer, &[9]));
    while stream.pass(100) {}
    assert_eq!(stream.feed.read_large(&mut [0; CAPACITY]).unwrap(), Piece::Gone);
    let (_, messages) = stream.read(512, CAPACITY, 4);
    assert_eq!((messages.len(), stream.feed.received(), stream.feed.missed()), (1, 1, 1));
}

#[test]
fn the_stream_cursor_follows_the_acknowledgements() {
    // A few at a time, and all in one read.
    for at_once in [3, 4096] {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Latest);
        stream.feed.acknowledge_apart();
        let mut sent = 0;
        while send(&mut producer, &[100]) {
            sent += 1;
        }
        let mut got = 0;
        while got < sent {
            got += stream.read(CAPACITY, CAPACITY, at_once).1.len() as u64;
        }
        let slot = producer.slots().next().unwrap();
        assert_eq!(
            (slot.received, slot.pending, slot.flushed, stream.feed.unacknowledged()),
            (sent, sent, 0, sent)
        );
        assert!(!send(&mut producer, &[100]), "all of it is read, and none acknowledged");
        assert!(stream.feed.acknowledge_below(1));
        assert_eq!(stream.feed.cursor(), stream.feed.position() / sent, "the end of the first");
        assert!(stream.feed.acknowledge_below(sent / 2));
        assert!(!stream.feed.acknowledge_below(sent / 2) && !stream.feed.acknowledge_below(1), "no news");
        let _ = stream.report().unwrap();
        assert!(send(&mut producer, &[100]));
        let slot = producer.slots().next().unwrap();
        assert_eq!((slot.pending, slot.flushed), (sent - sent / 2, 2));
        assert!(stream.feed.acknowledge_below(u64::MAX));
        let _ = stream.report().unwrap();
        assert_eq!(stream.read(CAPACITY, CAPACITY, at_once).1.len(), 1);
        assert!(stream.feed.acknowledge_below(u64::MAX));
        let _ = stream.report().unwrap();
        let slot = producer.slots().next().unwrap();
        assert_eq!((slot.backlog, slot.pending, slot.flushed), (0, 0, 4));
    }
}

#[test]
fn a_resumed_reader_gets_nothing_twice_and_counts_misses() {
    for (from, missed) in [(0, 0), (7, 0), (30, 0)] {
        let (memory, mut producer) = topic(CAPACITY, 2, Overflow::Block, 0);
        for _ in 0..15 {
            assert!(send(&mut producer, &[1, 1]));
        }
        let mut stream = Stream::open(&memory, 0, Overflow::Block, Start::Earliest);
        let mut near = join(&memory, 1, Overflow::Block, Start::Earliest).unwrap();
        stream.feed.go_on_at(from);
        near.go_on_at(from);
        assert!(send(&mut producer, &[1]));
        let (mut far, mut here) = (Vec::new(), Vec::new());
        while far.last() != Some(&30) {
            far.extend(stream.read(64, CAPACITY, 5).1.iter().map(|message| message.sequence));
        }
        while here.last() != Some(&30) {
            here.extend(read(&mut near, CAPACITY, 5).unwrap().1.iter().map(|message| message.sequence));
        }
        assert_eq!(far, (from..31).collect::<Vec<_>>());
        assert_eq!(far, here);
        assert_eq!((stream.feed.missed(), near.missed()), (missed, missed));
    }
}

const NAME: u64 = 7;

fn sequences(messages: &[Got]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence).collect()
}

/// The holders of a name read in place or over a stream. Each continues where the last one stopped, and knows what that
/// one may have seen.
#[test]
fn a_durable_position_is_the_same_by_either_way() {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
    let mut first = Stream::open_as(&memory, NAME, Start::Latest);
    assert_eq!(first.consumer.position(), Position::New);
    assert!(send(&mut producer, &[10, 20, 30]) && send(&mut producer, &[40, 50]));
    assert_eq!(sequences(&first.read(CAPACITY, CAPACITY, 4).1), [0, 1, 2, 3]);
    // In the middle of the first batch, so that batch stays.
    let _ = first.acknowledge_below(2);
    assert_eq!((first.feed.unacknowledged(), first.feed.flushed()), (2, 1));
    let slot = producer.slots().next().unwrap();
    assert_eq!((slot.pending, slot.flushed, slot.backlog), (2, 1, memory.view.counters().head));
    assert!(!first.consumer.leave());

    let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
    assert_eq!((second.position(), second.redelivered_below()), (Position::Resumed, 4));
    assert_eq!(sequences(&read(&mut second, CAPACITY, 1).unwrap().1), [2]);
    let _ = second.acknowledge_below(3);
    assert!(!second.leave());

    let mut third = Stream::open_as(&memory, NAME, Start::Latest);
    assert_eq!((third.consumer.position(), third.feed.redelivered_below()), (Position::Resumed, 4));
    assert_eq!(sequences(&third.read(64, CAPACITY, 64).1), [3]);
    assert_eq!(sequences(&third.read(64, CAPACITY, 64).1), [4]);
    assert_eq!((third.feed.redelivered(), third.feed.missed()), (1, 0));
    let _ = third.acknowledge_below(u64::MAX);
    let slot = producer.slots().next().unwrap();
    assert_eq!((slot.pending, slot.redelivered, slot.backlog), (0, 1, 0));
    let _ = third.consumer.forget();
    assert!(producer.slots().next().is_none());
}

#[test]
fn a_stream_reports_messages_lost_to_an_eviction() {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 10);
    let mut first = Stream::open_as(&memory, NAME, Start::Latest);
    assert!(send(&mut producer, &[100, 100]));
    assert_eq!(first.read(CAPACITY, CAPACITY, 9).1.len(), 2);
    let _ = first.acknowledge_below(1);
    let _ = first.consumer.leave();
    while send(&mut producer, &[100]) {}
    producer.sweep(10_000_000, &mut Everybody);
    producer.sweep(20_000_000, &mut Everybody);
    let sent = producer.next_sequence();
    let mut second = Stream::open_as(&memory, NAME, Start::Latest);
    assert_eq!((second.consumer.position(), second.feed.redelivered_below()), (Position::Lost, 2));
    assert!(send(&mut producer, &[100]));
    assert_eq!(sequences(&second.read(CAPACITY, CAPACITY, 9).1), [sent]);
    assert_eq!(second.feed.missed(), sent - 1, "all that was not acknowledged");
}

/// Nobody will acknowledge a message that was passed over. So it counts with what comes before it, and nothing waits
/// for it.
#[test]
fn an_unwanted_large_message_does_not_count_in_a_position() {
    // Once while no message is in hand, and once behind a message that is.
    for kept in [false, true] {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut stream = Stream::open_as(&memory, NAME, Start::Latest);
        assert!(send(&mut producer, &[1, 2]));
        assert_eq!(stream.read(CAPACITY, CAPACITY, 9).1.len(), 2);
        let done = if kept { 1 } else { 2 };
        let _ = stream.acknowledge_below(done);
        // As much as the ring holds, in pieces, if that much is free; otherwise a little.
        let message = vec![7; if kept { CAPACITY / 4 } else { 3 * CAPACITY }];
        assert!(producer.begin_large(message.len()));
        let mut sent = 0;
        while sent < message.len() || stream.feed.position() < memory.view.counters().head {
            sent += producer.push_large(&message[sent..], 1, &mut Everybody).bytes;
            if let (Read::Large(_), _) = stream.read(CAPACITY, CAPACITY, 9) {
                stream.feed.skip_large();
            }
        }
        if kept {
            let _ = stream.acknowledge_below(2);
        }
        let slot = producer.slots().next().unwrap();
        assert_eq!((slot.pending, slot.missed, slot.backlog), (0, 1, 0), "{kept}");
        assert_eq!(stream.feed.unacknowledged(), 0);
        let _ = stream.consumer.leave();
        assert!(send(&mut producer, &[3]));
        let mut next = join_as(&memory, NAME, Start::Latest).unwrap();
        assert_eq!(sequences(&read(&mut next, CAPACITY, 9).unwrap().1), [3]);
        assert_eq!((next.missed(), next.redelivered()), (0, 0));
    }
}

/// A message that the ring cannot keep is given back as it is read. A holder that takes over in the middle has missed
/// it.
#[test]
fn a_message_larger_than_the_ring_goes_through_under_a_name() {
    let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
    let mut stream = Stream::open_as(&memory, NAME, Start::Latest);
    let message = payload(0, 3 * CAPACITY);
    assert!(producer.begin_large(message.len()));
    let (mut sent, mut got, mut read_so_far) = (0, vec![0; message.len()], 0);
    while read_so_far < message.len() {
        sent += producer.push_large(&message[sent..], 1, &mut Everybody).bytes;
        if let (Read::Large(_), _) = stream.read(CAPACITY, CAPACITY, 9) {
            let piece = stream.feed.read_large(&mut got[read_so_far..]).unwrap();
            if let Piece::Copied { bytes, .. } = piece {
                read_so_far += bytes;
            }
            stream.feed.give_back();
            let _ = stream.report().unwrap();
        }
        if sent == message.len() && read_so_far < message.len() / 2 {
            panic!("all of it is in a ring that is smaller");
        }
    }
    assert_eq!((got == message, stream.feed.unacknowledged()), (true, 1));
    let _ = stream.acknowledge_below(1);
    assert_eq!(producer.slots().next().unwrap().backlog, 0);

    assert!(producer.begin_large(message.len()));
    let mut sent = producer.push_large(&message, 1, &mut Everybody).bytes;
    assert!(matches!(stream.read(CAPACITY, CAPACITY, 9).0, Read::Large(_)));
    assert!(matches!(stream.feed.read_large(&mut got).unwrap(), Piece::Copied { .. }));
    stream.feed.give_back();
    let _ = stream.report().unwrap();
    let _ = stream.consumer.leave();
    sent += producer.push_large(&message[sent..], 1, &mut Everybody).bytes;
    let mut next = Stream::open_as(&memory, NAME, Start::Latest);
    assert_eq!(next.consumer.forwarded_to(), memory.view.counters().head - 1024, "its second piece");
    while sent < message.len() {
        assert_eq!(next.read(CAPACITY, CAPACITY, 9), (Read::Empty, Vec::new()));
        sent += producer.push_large(&message[sent..], 1, &mut Everybody).bytes;
    }
    assert!(send(&mut producer, &[9]));
    assert_eq!(sequences(&next.read(CAPACITY, CAPACITY, 9).1), [2]);
    assert_eq!(next.feed.missed(), 1);
}

type Lie = fn(&mut Report);

/// Each is a report of a subscriber that has read four messages and acknowledged two.
#[test]
fn impossible_sequences_are_a_fault_and_keep_the_position() {
    let wrong: [(&str, Lie); 7] = [
        ("acknowledged goes back", |report| report.acknowledged = Some(1)),
        ("acknowledged is not known any more", |report| report.acknowledged = None),
        ("acknowledged before it was delivered", |report| report.acknowledged = Some(5)),
        ("delivered goes back", |report| (report.delivered, report.acknowledged) = (3, Some(2))),
        ("delivered before it was sent", |report| report.delivered = 6),
        ("delivered at the end of time", |report| report.delivered = u64::MAX),
        ("a cursor ahead of what was forwarded", |report| report.cursor = 1 << 20),
    ];
    for (what, wrong) in wrong {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut stream = Stream::open_as(&memory, NAME, Start::Latest);
        assert!(send(&mut producer, &[8, 8, 8, 8]) && send(&mut producer, &[8]));
        assert_eq!(stream.read(CAPACITY, CAPACITY, 4).1.len(), 4);
        let _ = stream.acknowledge_below(2);
        let mut report = stream.feed.report();
        wrong(&mut report);
        assert!(matches!(stream.consumer.report(report), Err(Fault::Corrupt(_))), "{what}");
        let _ = stream.consumer.leave();
        let mut next = Stream::open_as(&memory, NAME, Start::Latest);
        assert_eq!(sequences(&next.read(CAPACITY, CAPACITY, 9).1), [2, 3, 4], "{what}");
        assert_eq!(next.feed.redelivered(), 2, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a subscriber reports, the next holder finds a valid position, and the publisher goes on.
    #[test]
    fn no_report_breaks_a_position(
        reports in proptest::collection::vec((0u64..200, 0u64..40, 0u64..40, any::<bool>()), 1..20),
    ) {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut stream = Stream::open_as(&memory, NAME, Start::Latest);
        for _ in 0..10 {
            assert!(send(&mut producer, &[8, 8, 8]));
        }
        while stream.pass(333) {}
        for (words, delivered, acknowledged, known) in reports {
            let report = Report {
                cursor: 8 * words,
                delivered,
                acknowledged: known.then_some(acknowledged),
                ..Report::default()
            };
            if stream.consumer.report(report).is_err() {
                break;
            }
        }
        let _ = stream.consumer.leave();
        let mut next = join_as(&memory, NAME, Start::Latest).unwrap();
        prop_assert_eq!(next.position(), Position::Resumed);
        let mut got = Vec::new();
        while next.pending() {
            got.extend(sequences(&read(&mut next, CAPACITY, 64).unwrap().1));
        }
        prop_assert!(got.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        prop_assert!(got.last().is_none_or(|last| *last == 29));
        let _ = next.acknowledge_below(u64::MAX);
        for _ in 0..60 {
            prop_assert!(send(&mut producer, &[100]));
            let _ = read(&mut next, CAPACITY, 64).unwrap();
            let _ = next.acknowledge_below(u64::MAX);
        }
    }
}
