//! Durable positions and deferred acknowledgements, against a model that is too simple to be wrong (I12). The model
//! knows what was sent, and for each name what is acknowledged and what was ever handed out. One thread makes any
//! interleaving. Owners die at any point. They read in place or over a stream.

use crate::support::stream::Stream;
use crate::support::{
    self, Alive, Everybody, Gathering, Memory, committed, drain, fill, join, join_as, read, send_large, topic,
};
use proptest::prelude::*;
use ringbell_ring::{
    BATCH_OVERHEAD, Consumer, Fault, Large, Overflow, Piece, Position, Producer, Read, SlotState, Start,
    Vacancy, max_message, padded,
};

const MS: u64 = 1_000_000;
const NAMES: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Batch(Vec<usize>),
    Read {
        who: usize,
        room: usize,
        entries: usize,
    },
    /// How much to acknowledge, in 16ths of what was read and is not acknowledged.
    Acknowledge {
        who: usize,
        part: u64,
    },
    Join {
        who: usize,
        far: bool,
    },
    Leave(usize),
    Die(usize),
    Forget(usize),
    Sweep,
}

/// The state of a name, independent of its holder.
#[derive(Clone, Copy)]
struct Name {
    /// Sequence of the first message that is not acknowledged.
    acknowledged: u64,
    /// Sequence after the last one that was handed out.
    delivered: u64,
}

/// A holder of a name.
struct Holder {
    reader: Reader,
    next: u64,
    /// What had been handed out when it joined.
    delivered_before: u64,
}

enum Reader {
    Near(Box<Consumer>),
    Far(Box<Stream>),
}

impl Reader {
    /// The side that acts on the slot.
    fn owner(&self) -> &Consumer {
        match self {
            Reader::Near(consumer) => consumer,
            Reader::Far(stream) => &stream.consumer,
        }
    }

    fn into_owner(self) -> Consumer {
        match self {
            Reader::Near(consumer) => *consumer,
            Reader::Far(stream) => stream.consumer,
        }
    }

    fn read(&mut self, room: usize, entries: usize) -> (Read, Vec<support::Got>) {
        match self {
            Reader::Near(consumer) => read(consumer, room, entries).expect("an honest publisher"),
            Reader::Far(stream) => stream.read(room, room + 8, entries),
        }
    }

    fn acknowledge_below(&mut self, sequence: u64) -> bool {
        match self {
            Reader::Near(consumer) => consumer.acknowledge_below(sequence),
            Reader::Far(stream) => stream.acknowledge_below(sequence),
        }
    }

    fn pending(&self) -> bool {
        match self {
            Reader::Near(consumer) => consumer.pending(),
            Reader::Far(stream) => stream.feed.pending(),
        }
    }

    /// How many messages are not acknowledged, how often some were acknowledged, how many came again, how many were
    /// missed.
    fn figures(&self) -> [u64; 4] {
        match self {
            Reader::Near(consumer) => {
                [consumer.unacknowledged(), consumer.flushed(), consumer.redelivered(), consumer.missed()]
            }
            Reader::Far(stream) => {
                let feed = &stream.feed;
                [feed.unacknowledged(), feed.flushed(), feed.redelivered(), feed.missed()]
            }
        }
    }

    fn redelivered_below(&self) -> u64 {
        match self {
            Reader::Near(consumer) => consumer.redelivered_below(),
            Reader::Far(stream) => stream.feed.redelivered_below(),
        }
    }
}

struct World {
    memory: Memory,
    producer: Producer,
    capacity: usize,
    now: u64,
    /// Start, first sequence and number of messages of each batch.
    batches: Vec<(u64, u64, u64)>,
    head: u64,
    messages: u64,
    names: [Option<Name>; NAMES],
    holders: Vec<Option<Holder>>,
}

impl World {
    fn new(capacity: usize) -> Self {
        let (memory, producer) = topic(capacity, NAMES, Overflow::Block, 0);
        Self {
            memory,
            producer,
            capacity,
            now: MS,
            batches: Vec::new(),
            head: 0,
            messages: 0,
            names: [None; NAMES],
            holders: (0..NAMES).map(|_| None).collect(),
        }
    }

    /// Only a holder that holds a slot at this moment counts as alive.
    fn alive(&self) -> Alive {
        let mut alive = vec![false; NAMES];
        for holder in self.holders.iter().flatten() {
            alive[holder.reader.owner().slot_index()] = true;
        }
        Alive(alive)
    }

    /// Start of the batch that the message is in.
    fn position(&self, sequence: u64) -> u64 {
        match self.batches.iter().rev().find(|(_, first, _)| *first <= sequence) {
            Some(&(start, first, count)) if sequence < first + count => start,
            _ => self.head,
        }
    }

    fn fits(&self, bytes: usize) -> bool {
        let kept = self.names.iter().flatten().map(|name| self.position(name.acknowledged));
        self.head + bytes as u64 <= kept.min().unwrap_or(self.head) + self.capacity as u64
    }

    fn sent(&mut self, bytes: usize, count: u64) {
        self.batches.push((self.head, self.messages, count));
        self.head += bytes as u64;
        self.messages += count;
    }

    fn send(&mut self, length: usize) {
        let length = length % (max_message(self.capacity) + 1);
        let bytes = BATCH_OVERHEAD + padded(length);
        let payload = vec![self.messages as u8; length];
        let sent = committed(self.producer.send(&payload, self.now, &mut self.alive()));
        assert_eq!(sent, self.fits(bytes), "a message of {length} bytes");
        if sent {
            self.sent(bytes, 1);
        }
    }

    #[cfg(not(miri))]
    fn batch(&mut self, lengths: &[usize]) {
        let lengths: Vec<usize> = lengths.iter().map(|length| length % (self.capacity / 32)).collect();
        let bytes: usize = lengths.iter().map(|&length| padded(length)).sum();
        let mut alive = self.alive();
        let span = self.producer.reserve(bytes, bytes, self.now, &mut alive);
        assert_eq!(span.is_some(), self.fits(BATCH_OVERHEAD + bytes), "a batch of {bytes} bytes");
        if span.is_none() {
            return;
        }
        let mut at = 0;
        for (index, &length) in lengths.iter().enumerate() {
            self.producer.reserved_bytes()[at + 8..][..length].fill((self.messages + index as u64) as u8);
            at += padded(length);
        }
        let words: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
        assert!(self.producer.commit_span(&words, self.now).is_some_and(committed));
        self.sent(BATCH_OVERHEAD + bytes, lengths.len() as u64);
    }

    #[cfg(miri)]
    fn batch(&mut self, lengths: &[usize]) {
        self.send(lengths[0]);
    }

    fn read(&mut self, who: usize, room: usize, entries: usize) {
        let (Some(holder), Some(name)) = (&mut self.holders[who], &mut self.names[who]) else { return };
        let [_, _, before, _] = holder.reader.figures();
        let (outcome, messages) = holder.reader.read(room, entries);
        assert!(!matches!(outcome, Read::Messages { count: 0, .. }));
        // Reading on must make progress. It may take a few turns to pass over what is not wanted.
        assert!(outcome != Read::Empty || holder.reader.pending() || holder.next == self.messages);
        let mut again = 0;
        for message in messages {
            assert_eq!(message.sequence, holder.next, "name {who} got another message than the next");
            assert!(message.payload.iter().all(|&byte| byte == message.sequence as u8));
            let marked = message.sequence < holder.reader.redelivered_below();
            assert_eq!(marked, message.sequence < holder.delivered_before);
            again += u64::from(marked);
            holder.next += 1;
        }
        name.delivered = name.delivered.max(holder.next);
        let [unacknowledged, _, redelivered, missed] = holder.reader.figures();
        assert_eq!(redelivered - before, again);
        assert_eq!((unacknowledged, missed), (holder.next - name.acknowledged, 0));
    }

    fn acknowledge(&mut self, who: usize, part: u64) {
        let (Some(holder), Some(name)) = (&mut self.holders[who], &mut self.names[who]) else { return };
        let upto = name.acknowledged + (holder.next - name.acknowledged) * part / 16;
        let [_, flushed, ..] = holder.reader.figures();
        let _ = holder.reader.acknowledge_below(upto);
        let expected = flushed + u64::from(upto > name.acknowledged);
        name.acknowledged = upto;
        assert_eq!(holder.reader.figures()[..2], [holder.next - upto, expected]);
        // A step backwards must change nothing.
        assert!(!holder.reader.acknowledge_below(upto.saturating_sub(1)));
    }

    fn join(&mut self, who: usize, far: bool) {
        if self.holders[who].is_some() {
            return;
        }
        let name = 0xa000 + who as u64;
        let reader = match far {
            false => Reader::Near(Box::new(join_as(&self.memory, name, Start::Latest).unwrap())),
            true => Reader::Far(Box::new(Stream::open_as(&self.memory, name, Start::Latest))),
        };
        let known = self.names[who];
        let expected = if known.is_some() { Position::Resumed } else { Position::New };
        assert_eq!(reader.owner().position(), expected);
        let name = *self.names[who].get_or_insert(Name { acknowledged: self.messages, delivered: 0 });
        self.holders[who] =
            Some(Holder { reader, next: name.acknowledged, delivered_before: name.delivered });
    }

    fn run(&mut self, op: Op) {
        self.now += 2 * MS;
        match op {
            Op::Send(length) => self.send(length),
            Op::Batch(lengths) => self.batch(&lengths),
            Op::Read { who, room, entries } => self.read(who, room, entries),
            Op::Acknowledge { who, part } => self.acknowledge(who, part),
            Op::Join { who, far } => self.join(who, far),
            Op::Leave(who) => {
                if let Some(holder) = self.holders[who].take() {
                    assert!(!holder.reader.into_owner().leave(), "nobody gets room by that");
                }
            }
            Op::Die(who) => self.holders[who] = None,
            Op::Forget(who) => {
                if let Some(holder) = self.holders[who].take() {
                    let _ = holder.reader.into_owner().forget();
                    self.names[who] = None;
                }
            }
            Op::Sweep => {
                let mut alive = self.alive();
                self.producer.sweep(self.now, &mut alive);
                let parked = self.producer.slots().filter(|slot| slot.state == SlotState::Parked).count();
                let left = (0..NAMES).filter(|&who| self.names[who].is_some() && self.holders[who].is_none());
                // While room is wanted, the publisher probes only slots that are in the way.
                assert!(parked <= left.count());
            }
        }
        let counters = self.producer.data().counters();
        assert_eq!((counters.evicted, counters.head), (0, self.head));
        assert!(counters.floor <= counters.head && counters.head - counters.floor <= self.capacity as u64);
    }
}

fn ops() -> impl Strategy<Value = Op> {
    let who = 0..NAMES;
    prop_oneof![
        5 => (0usize..1500).prop_map(Op::Send),
        3 => prop::collection::vec(0usize..200, 1..12).prop_map(Op::Batch),
        6 => (who.clone(), prop_oneof![64usize..400, Just(4096)], prop_oneof![1usize..5, Just(64)])
            .prop_map(|(who, room, entries)| Op::Read { who, room, entries }),
        5 => (who.clone(), 0u64..17).prop_map(|(who, part)| Op::Acknowledge { who, part }),
        4 => (who.clone(), prop::bool::ANY).prop_map(|(who, far)| Op::Join { who, far }),
        1 => who.clone().prop_map(Op::Leave),
        2 => who.clone().prop_map(Op::Die),
        1 => who.prop_map(Op::Forget),
        1 => Just(Op::Sweep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 1500 }, ..ProptestConfig::default() })]

    /// A message that is not acknowledged is never lost, whichever process dies. A message that is acknowledged never
    /// comes again. Every message that a name may have seen before is marked, and no other message is.
    #[test]
    fn a_name_goes_on_where_it_stopped(ops in prop::collection::vec(ops(), 1..if cfg!(miri) { 30 } else { 250 })) {
        let mut world = World::new(4096);
        for op in ops {
            world.run(op);
        }
    }
}

const NAME: u64 = 7;

/// Death of a holder: its slot stays as it is.
fn die(_: Consumer) {}

fn sequences(messages: &[support::Got]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence).collect()
}

fn read_all(consumer: &mut Consumer) -> Vec<u64> {
    let mut all = Vec::new();
    while consumer.pending() {
        all.extend(sequences(&read(consumer, 4096, 64).unwrap().1));
    }
    all
}

fn read_some(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    let mut some = Vec::new();
    while some.len() < count {
        some.extend(sequences(&read(consumer, 4096, count - some.len()).unwrap().1));
    }
    some
}

/// A parked position stalls the topic like a subscriber that stands still. Then it is evicted, and its next holder
/// learns of that.
#[test]
fn a_parked_position_counts_until_its_eviction_by_name() {
    for dies in [false, true] {
        let (memory, mut producer) = topic(4096, 2, Overflow::Block, 100 * MS);
        let mut alive = Alive(vec![!dies, true]);
        let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
        assert!(committed(producer.send(&[0; 100], 0, &mut Everybody)));
        assert_eq!(read_all(&mut first), [0]);
        let _ = first.acknowledge_below(1);
        if !dies {
            let _ = first.leave();
            alive = Alive(vec![false, true]);
        }
        die(first);
        let sent = fill(&mut producer, &[1; 100], MS, &mut alive) as u64;
        assert_eq!(producer.slots().map(|slot| slot.state).collect::<Vec<_>>(), [SlotState::Parked]);
        assert!(!committed(producer.send(&[1; 100], 90 * MS, &mut alive)), "it still counts");
        assert!(committed(producer.send(&[1; 100], 102 * MS, &mut alive)), "it is evicted");
        assert_eq!(producer.data().counters().evicted, 1);
        // Sweeps, and other joiners that look for a slot, leave the record of the loss for the next holder of the name.
        producer.sweep(103 * MS, &mut alive);
        let mut other = join(&memory, 1, Overflow::Block, Start::Latest).unwrap();
        let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
        assert_eq!((second.slot_index(), second.position()), (0, Position::Lost));
        assert!(committed(producer.send(&[2; 100], 104 * MS, &mut Everybody)));
        assert_eq!(read_all(&mut second), [sent + 2]);
        assert_eq!(second.missed(), sent + 1, "exactly what it never acknowledged");
        assert_eq!(read_all(&mut other), [sent + 2]);
    }
}

/// The position was lost, but the ring still holds some of its messages. History starts behind what was acknowledged,
/// and is marked.
#[test]
fn a_lost_position_with_earliest_gets_what_is_left() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, MS);
    let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
    for _ in 0..4 {
        assert!(committed(producer.send(&[0; 1000], 0, &mut Everybody)) || producer.next_sequence() == 3);
    }
    assert_eq!(read_all(&mut first), [0, 1, 2]);
    let _ = first.acknowledge_below(1);
    die(first);
    let mut now = 0;
    while producer.data().counters().evicted == 0 {
        now += 2 * MS;
        let _ = producer.send(&[0; 1000], now, &mut Alive(vec![false]));
    }
    let newest = producer.next_sequence();
    let mut second = join_as(&memory, NAME, Start::Earliest).unwrap();
    assert_eq!(second.position(), Position::Lost);
    let got = read_all(&mut second);
    assert_eq!(got.last(), Some(&(newest - 1)));
    assert_eq!(got.len() as u64 + second.missed(), newest - 1, "all but the one that was acknowledged");
    assert_eq!(second.redelivered(), got.iter().filter(|&&sequence| sequence < 3).count() as u64);
}

/// A holder began with history and died in the middle. The next holder continues in history, as far as the ring has it.
#[test]
fn history_is_resumed_as_far_as_it_is_there() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    for _ in 0..10 {
        assert!(committed(producer.send(&[0; 300], 0, &mut Everybody)));
    }
    let mut first = join_as(&memory, NAME, Start::Earliest).unwrap();
    assert_eq!(read_some(&mut first, 4), [0, 1, 2, 3]);
    let _ = first.acknowledge_below(2);
    assert_eq!(first.unacknowledged(), 2);
    die(first);
    let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
    assert_eq!(second.position(), Position::Resumed);
    assert_eq!(read_some(&mut second, 3), [2, 3, 4]);
    assert_eq!((second.redelivered(), second.missed()), (2, 0));
    let _ = second.acknowledge_below(4);
    die(second);
    // History is not kept: half of it goes now.
    while producer.data().counters().floor < 6 * 332 {
        assert!(committed(producer.send(&[0; 300], 0, &mut Alive(vec![false]))));
    }
    let mut third = join_as(&memory, NAME, Start::Latest).unwrap();
    let got = read_all(&mut third);
    assert_eq!(got.len() as u64 + third.missed(), producer.next_sequence() - 4);
    assert!(got.contains(&10) && third.missed() > 0);
    let _ = third.acknowledge_below(u64::MAX);
    assert_eq!(third.unacknowledged(), 0);
}

/// Garbage in a parked slot harms only its next holder, which gets a fault or messages that come again.
#[test]
fn nonsense_in_a_parked_slot_is_no_position() {
    let all = [0, 8, 12, 40, 64, 1 << 20, 1 << 62, u64::MAX - 7, u64::MAX];
    for cursor in all {
        for acknowledged in all {
            let (memory, mut producer) = topic(4096, 1, Overflow::Block, 1);
            let first = join_as(&memory, NAME, Start::Latest).unwrap();
            for _ in 0..20 {
                assert!(committed(producer.send(&[0; 100], 0, &mut Everybody)));
            }
            die(first);
            memory.control_word(512 + 8).store(cursor, std::sync::atomic::Ordering::Relaxed);
            memory.control_word(512 + 64).store(acknowledged, std::sync::atomic::Ordering::Relaxed);
            if let Ok(mut second) = join_as(&memory, NAME, Start::Latest) {
                let mut got = Vec::new();
                loop {
                    match read(&mut second, 4096, 8) {
                        Ok((Read::Empty, _)) => break,
                        Ok((_, messages)) => got.extend(sequences(&messages)),
                        Err(fault) => {
                            assert!(matches!(fault, Fault::Corrupt(_)), "{fault:?}");
                            break;
                        }
                    }
                }
                assert!(got.windows(2).all(|pair| pair[0] < pair[1]));
                let _ = second.acknowledge_below(u64::MAX);
            }
            // The publisher goes on, whatever lies in the slot.
            for now in 1..40 {
                let _ = producer.send(&[0; 1000], now * MS, &mut Alive(vec![false]));
            }
            assert!(producer.next_sequence() > 40, "{cursor} {acknowledged}");
        }
    }
}

#[test]
fn positions_are_kept_on_block_topics_only() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
        let memory = Memory::new(4096, 1);
        let identity = support::identity(4096, 1, overflow);
        let config = ringbell_ring::Config { identity, evict_after: 0 };
        let _producer = Producer::create(memory.data, memory.control, config);
        let mut consumer =
            Consumer::join(memory.view, memory.control, 0, overflow, Start::Latest, (1, NAME)).unwrap();
        let _ = consumer.leave();
        assert_eq!(memory.control.vacancy(0), Some(Vacancy::Free));
    }
}

#[test]
fn unnamed_acknowledgements_hold_room_and_end_with_the_owner() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    let sent = fill(&mut producer, &[0; 100], MS, &mut Everybody) as u64;
    assert_eq!(read_all(&mut consumer).len() as u64, sent);
    assert!(!committed(producer.send(&[0; 100], 2 * MS, &mut Everybody)), "nothing is acknowledged");
    assert!(producer.arm(100, 3 * MS), "it sleeps");
    assert!(consumer.acknowledge_below(sent / 2), "and is to be rung");
    assert!(committed(producer.send(&[0; 100], 4 * MS, &mut Everybody)));
    let sent = sent + 1 + fill(&mut producer, &[0; 100], 5 * MS, &mut Everybody) as u64;
    die(consumer);
    assert!(committed(producer.send(&[0; 100], 7 * MS, &mut Alive(vec![false]))), "its slot is free");
    assert_eq!(producer.next_sequence(), sent + 1);
    assert_eq!(memory.control.vacancy(0), Some(Vacancy::Free));
    let mut next = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
    assert!(drain(&mut next).unwrap().is_empty());
}

/// Reads on until a large message begins, which must come next.
fn next_large(consumer: &mut Consumer) -> Large {
    match read(consumer, 4096, 8).unwrap().0 {
        Read::Large(large) => large,
        other => panic!("{other:?}"),
    }
}

/// A message in pieces that the ring can hold is kept until it is acknowledged, like any other.
#[test]
fn a_large_message_comes_again_if_the_ring_can_keep_it() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let payload: Vec<u8> = (0..1800).map(|at| at as u8).collect();
    let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
    assert!(committed(producer.send(&[0; 8], 0, &mut Everybody)));
    send_large(&mut producer, &payload, 0, || panic!("there is room"));
    assert_eq!(read_some(&mut first, 1), [0]);
    assert_eq!(next_large(&mut first).sequence, 1);
    assert!(matches!(first.read_large(&mut [0; 1000]).unwrap(), Piece::Copied { .. }));
    assert_eq!((first.delivered(), first.unacknowledged()), (Some(1), 1), "half of it is none of it");
    let _ = first.acknowledge_below(u64::MAX);
    die(first);
    let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
    let large = next_large(&mut second);
    let got = Gathering::default().take(&mut second, large).unwrap().expect("all of it");
    assert_eq!((got.sequence, got.payload), (1, payload.clone()));
    assert_eq!((second.redelivered(), second.missed()), (0, 0), "nobody had it as a whole");
    die(second);
    // `take` has acknowledged it, so nothing is left.
    let mut third = join_as(&memory, NAME, Start::Latest).unwrap();
    assert!(read_all(&mut third).is_empty());
    assert_eq!((third.unacknowledged(), third.missed()), (0, 0));
    // Its holder dies between its two stores: the message is acknowledged, but the cursor is still before it.
    send_large(&mut producer, &payload, 0, || panic!("there is room"));
    memory.control_word(512 + 64).store(3, std::sync::atomic::Ordering::Relaxed);
    die(third);
    let mut fourth = join_as(&memory, NAME, Start::Latest).unwrap();
    assert!(read_all(&mut fourth).is_empty());
    assert_eq!(fourth.missed(), 0);
}

/// A message that the ring cannot keep goes through in pieces, after the messages before it. If its holder dies in the
/// middle, it was missed.
#[test]
fn a_message_larger_than_the_ring_goes_through() {
    let (memory, mut producer) = topic(4096, 1, Overflow::Block, 0);
    let payload: Vec<u8> = (0..10_000).map(|at| (at * 7) as u8).collect();
    let mut first = join_as(&memory, NAME, Start::Latest).unwrap();
    assert!(committed(producer.send(&[0; 8], 0, &mut Everybody)));
    assert!(producer.begin_large(payload.len()));
    let mut push = |done: usize| producer.push_large(&payload[done..], 0, &mut Everybody).bytes;
    let mut sent = 0;
    while let bytes @ 1.. = push(sent) {
        sent += bytes;
    }
    assert_eq!(read_some(&mut first, 1), [0]);
    let large = next_large(&mut first);
    let mut target = vec![0; large.total];
    let Piece::Copied { bytes, .. } = first.read_large(&mut target).unwrap() else { panic!() };
    assert!(!first.acknowledge_below(0) && push(sent) == 0, "what was before it is not acknowledged");
    let _ = first.acknowledge_below(1);
    let mut read = bytes;
    while sent < payload.len() {
        while let bytes @ 1.. = push(sent) {
            sent += bytes;
        }
        while let Piece::Copied { bytes, .. } = first.read_large(&mut target[read..]).unwrap() {
            read += bytes;
            let _ = first.acknowledge_below(1);
        }
    }
    while read < payload.len()
        && let Piece::Copied { bytes, .. } = first.read_large(&mut target[read..]).unwrap()
    {
        read += bytes;
    }
    assert!(target == payload);
    assert_eq!(first.unacknowledged(), 1);
    die(first);
    assert!(committed(producer.send(&[2; 8], 0, &mut Alive(vec![false]))));
    let mut second = join_as(&memory, NAME, Start::Latest).unwrap();
    assert_eq!(read_all(&mut second), [2]);
    assert_eq!(second.missed(), 1, "its pieces are gone, and it was never acknowledged");
}
