//! Everything the ring does, against a model that is too simple to be wrong: a list of batches and, for each
//! subscriber, the sequence that it reads next. One thread, any interleaving.
//!
//! The model knows no `limit` and no lazy `floor`. It accepts a batch if, and only if, some end of a batch that nobody
//! who counts has still to read lies far enough on; and a subscriber that was not lapped gets exactly what comes next.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use proptest::prelude::*;
use ringbell_ring::{
    BATCH_OVERHEAD, Consumer, Entry, Fault, Overflow, Producer, Read, SlotState, Start, max_message, padded,
};
use support::{Alive, Got, Memory, committed, got, join, topic};

const MS: u64 = 1_000_000;
const SLOTS: usize = 5;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Batch { lengths: Vec<usize>, used: usize },
    HasRoom(usize),
    Arm(usize),
    Read { who: usize, room: usize, entries: usize },
    Lease { who: usize, entries: usize },
    Acknowledge(usize),
    Join { start: bool },
    Leave(usize),
    Die(usize),
    Wait(u64),
    Sweep,
}

struct Batch {
    start: u64,
    end: u64,
    first: u64,
    time: u64,
    lengths: Vec<usize>,
}

struct Subscriber {
    consumer: Consumer,
    alive: bool,
    evicted: bool,
    /// Sequence of the message that it reads next.
    next: u64,
    /// Sequence up to which it has acknowledged: what lies below may be overwritten.
    acknowledged: u64,
    /// Sequence at which it joined: below it, history may be overwritten.
    joined: u64,
    /// When it last acknowledged anything.
    moved: u64,
    received: u64,
    missed: u64,
    /// Lost, and passed over by a read that brought nothing: told with the next batch's header.
    skipped: u64,
}

impl Subscriber {
    fn passed_over(&mut self, next: u64, missed: u64) {
        self.next = next;
        self.skipped += missed;
        // That header may have been read already, and its message not.
        if self.consumer.missed() != self.missed {
            self.missed += std::mem::take(&mut self.skipped);
        }
        assert_eq!(self.consumer.missed(), self.missed);
    }
}

struct World {
    memory: Memory,
    producer: Producer,
    overflow: Overflow,
    evict_after: u64,
    capacity: usize,
    now: u64,
    batches: Vec<Batch>,
    slots: Vec<Option<Subscriber>>,
    full: u64,
    messages: u64,
    floor: u64,
}

fn byte(sequence: u64, at: usize) -> u8 {
    (sequence.wrapping_mul(0x9e37_79b9).wrapping_add(at as u64 * 7) >> 3) as u8
}

fn payload(sequence: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| byte(sequence, at)).collect()
}

impl World {
    fn new(capacity: usize, overflow: Overflow, evict_after: u64) -> Self {
        let (memory, producer) = topic(capacity, SLOTS, overflow, evict_after);
        let slots = (0..SLOTS).map(|_| None).collect();
        Self {
            memory,
            producer,
            overflow,
            evict_after,
            capacity,
            now: MS,
            batches: Vec::new(),
            slots,
            full: 0,
            messages: 0,
            floor: 0,
        }
    }

    fn head(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.end)
    }

    /// Start of the batch that the message is in, `head` for what was not sent yet.
    fn position(&self, sequence: u64) -> u64 {
        let after = self.batches.partition_point(|batch| batch.first <= sequence);
        match after.checked_sub(1).and_then(|at| self.batches.get(at)) {
            Some(batch) if sequence < batch.first + batch.lengths.len() as u64 => batch.start,
            _ => self.head(),
        }
    }

    /// Whether a batch that takes `bytes` fits, as things stand.
    fn fits(&self, bytes: usize) -> bool {
        let counting: Vec<_> = self.counting().collect();
        let keep = counting.into_iter().map(|sequence| self.position(sequence)).min().unwrap_or(self.head());
        let end = self.head() + bytes as u64;
        bytes <= self.capacity / 2
            && (end <= keep + self.capacity as u64 || self.overflow == Overflow::DropOldest)
    }

    /// What those have acknowledged whom the publisher waits for.
    fn counting(&self) -> impl Iterator<Item = u64> + '_ {
        let blocks = self.overflow != Overflow::DropOldest;
        self.producer.slots().filter(move |slot| blocks && slot.state == SlotState::Active).map(|slot| {
            self.slots[slot.index].as_ref().expect("an active slot that nobody took").acknowledged
        })
    }

    fn alive(&self) -> Alive {
        Alive(
            self.slots.iter().map(|slot| slot.as_ref().is_some_and(|subscriber| subscriber.alive)).collect(),
        )
    }

    fn committed(&mut self, lengths: Vec<usize>) {
        let bytes = BATCH_OVERHEAD + lengths.iter().map(|&length| padded(length)).sum::<usize>();
        let start = self.head();
        self.messages += lengths.len() as u64;
        let first = self.messages - lengths.len() as u64;
        self.batches.push(Batch { start, end: start + bytes as u64, first, time: self.now, lengths });
    }

    fn send(&mut self, length: usize) {
        let length = length % (max_message(self.capacity) + 1);
        let mut alive = self.alive();
        let sent = committed(self.producer.send(&payload(self.messages, length), self.now, &mut alive));
        // The model judges by who counts afterwards: whom the publisher may have cleared away is checked on its own.
        let bytes = BATCH_OVERHEAD + padded(length);
        assert_eq!(sent, self.fits(bytes), "a message of {length} bytes");
        if sent {
            self.committed(vec![length]);
        } else {
            self.full += 1;
            self.nobody_dead_in_the_way(bytes);
        }
    }

    fn nobody_dead_in_the_way(&self, bytes: usize) {
        let needed = (self.head() + bytes as u64).saturating_sub(self.capacity as u64);
        for slot in self.producer.slots().filter(|slot| slot.state == SlotState::Active) {
            let subscriber = self.slots[slot.index].as_ref().unwrap();
            assert!(
                subscriber.alive || self.position(subscriber.acknowledged) >= needed,
                "a dead subscriber is in the way"
            );
        }
    }

    #[cfg(not(miri))]
    fn batch(&mut self, lengths: &[usize], used: usize) {
        let lengths: Vec<usize> = lengths.iter().map(|length| length % (self.capacity / 8)).collect();
        let bytes: usize = lengths.iter().map(|&length| padded(length)).sum();
        let mut alive = self.alive();
        let span = self.producer.reserve(bytes, 2 * bytes, self.now, &mut alive);
        assert_eq!(span.is_some(), self.fits(BATCH_OVERHEAD + bytes), "a batch of {bytes} bytes");
        let Some(span) = span else {
            self.producer.note_full();
            self.full += 1;
            return;
        };
        assert!(span.length >= bytes && span.length <= self.capacity / 2);
        let lengths = lengths[..used.min(lengths.len())].to_vec();
        let mut at = 0;
        for (index, &length) in lengths.iter().enumerate() {
            let from = payload(self.messages + index as u64, length);
            self.producer.reserved_bytes()[at + 8..][..length].copy_from_slice(&from);
            at += padded(length);
        }
        let words: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
        let sent = self.producer.commit_span(&words, self.now);
        assert_eq!(sent.map(committed), (!lengths.is_empty()).then_some(true));
        if !lengths.is_empty() {
            self.committed(lengths);
        }
    }

    #[cfg(miri)]
    fn batch(&mut self, lengths: &[usize], _: usize) {
        self.send(lengths[0]);
    }

    /// What must come next for a subscriber, after what may have been lost.
    fn expect(&self, next: u64) -> (u64, u64) {
        if self.position(next) >= self.floor {
            return (next, 0);
        }
        let oldest = self.batches.partition_point(|batch| batch.start < self.floor);
        let first = self.batches.get(oldest).map_or(self.messages, |batch| batch.first);
        (first, first - next)
    }

    fn compare(&self, messages: &[Got], mut next: u64) {
        for message in messages {
            assert_eq!(message.sequence, next);
            let at = self.batches.partition_point(|batch| batch.first <= next) - 1;
            let batch = &self.batches[at];
            let length = batch.lengths[(next - batch.first) as usize];
            assert_eq!(message.time, batch.time);
            assert_eq!(message.payload, payload(next, length));
            next += 1;
        }
    }

    fn size(&self, sequence: u64) -> usize {
        let at = self.batches.partition_point(|batch| batch.first <= sequence) - 1;
        padded(self.batches[at].lengths[(sequence - self.batches[at].first) as usize])
    }

    fn take(&mut self, who: usize, room: Option<usize>, entries: usize) {
        let Some(mut subscriber) = self.slots[who].take() else { return };
        if !subscriber.alive {
            self.slots[who] = Some(subscriber);
            return;
        }
        if room.is_none() && subscriber.next < subscriber.joined {
            // A lease leaves history out, which is not missed: it was never promised.
            subscriber.skipped = 0;
            subscriber.next = subscriber.joined;
        }
        let (next, missed) = self.expect(subscriber.next);
        let mut table = vec![Entry::default(); entries];
        let outcome = match room {
            Some(room) => {
                let mut slab = vec![0xa5; room];
                let read = subscriber.consumer.read(&mut slab, 0, &mut table);
                read.map(|read| (read, got(read, &table, |at, length| slab[at..at + length].to_vec())))
            }
            None => self.lease(&mut subscriber.consumer, &mut table),
        };
        match outcome {
            Ok((Read::Empty, _)) => {
                assert_eq!(next, self.messages, "there was something to read");
                subscriber.passed_over(next, missed);
            }
            Ok((Read::Needs(bytes), _)) => {
                let room = room.expect("a lease needs no room");
                assert!(bytes > room & !7, "{bytes} of {room}");
                assert!(bytes <= self.capacity / 2);
                let size = self.size(next);
                assert!(bytes == size || bytes == size + BATCH_OVERHEAD);
                subscriber.passed_over(next, missed);
            }
            Ok((Read::Messages { count, bytes, .. }, messages)) => {
                assert!(count > 0 && count <= entries && bytes.is_multiple_of(8));
                assert!(room.is_none_or(|room| bytes <= room));
                self.compare(&messages, next);
                subscriber.missed += missed + std::mem::take(&mut subscriber.skipped);
                subscriber.received += count as u64;
                subscriber.next = next + count as u64;
                assert_eq!(subscriber.consumer.missed(), subscriber.missed);
                assert_eq!(subscriber.consumer.received(), subscriber.received);
                assert!(missed == 0 || self.overflow == Overflow::DropOldest || next <= subscriber.joined);
            }
            Err(Fault::Evicted) => {
                assert!(self.evict_after > 0 && self.overflow != Overflow::DropOldest);
                assert!(subscriber.evicted);
                let _ = subscriber.consumer.leave();
                return;
            }
            Err(fault) => panic!("{fault:?}"),
        }
        self.slots[who] = Some(subscriber);
    }

    #[cfg(not(miri))]
    fn lease(&self, consumer: &mut Consumer, table: &mut [Entry]) -> Result<(Read, Vec<Got>), Fault> {
        let read = consumer.lease(table)?;
        Ok((read, got(read, table, |at, length| self.memory.leased(at, length))))
    }

    #[cfg(miri)]
    fn lease(&self, consumer: &mut Consumer, table: &mut [Entry]) -> Result<(Read, Vec<Got>), Fault> {
        let mut slab = vec![0; self.capacity];
        let read = consumer.read(&mut slab, 0, table)?;
        Ok((read, got(read, table, |at, length| slab[at..at + length].to_vec())))
    }

    fn join(&mut self, start: Start) {
        let Some(slot) = self.slots.iter().position(Option::is_none) else { return };
        let consumer = join(&self.memory, slot, self.overflow, start).unwrap();
        let oldest = self.batches.partition_point(|batch| batch.start < self.floor);
        let next = match start {
            Start::Latest => self.messages,
            Start::Earliest => self.batches.get(oldest).map_or(self.messages, |batch| batch.first),
        };
        self.slots[slot] = Some(Subscriber {
            consumer,
            alive: true,
            evicted: false,
            next,
            acknowledged: self.messages,
            joined: self.messages,
            moved: self.now,
            received: 0,
            missed: 0,
            skipped: 0,
        });
    }

    fn run(&mut self, op: Op) {
        self.now += 2 * MS;
        match op {
            Op::Send(length) => self.send(length),
            Op::Batch { lengths, used } => self.batch(&lengths, used),
            Op::HasRoom(bytes) => {
                assert_eq!(self.producer.has_room(bytes, self.now), self.fits(BATCH_OVERHEAD + bytes));
            }
            Op::Arm(bytes) => {
                assert_eq!(self.producer.arm(bytes, self.now), !self.fits(BATCH_OVERHEAD + bytes));
            }
            Op::Read { who, room, entries } => self.take(who, Some(room), entries),
            Op::Lease { who, entries } => {
                let safe = self.overflow == Overflow::Block && self.evict_after == 0 && !cfg!(miri);
                self.take(who, if safe { None } else { Some(4096) }, entries);
            }
            Op::Acknowledge(who) => {
                if let Some(subscriber) = self.slots[who].as_mut().filter(|subscriber| subscriber.alive) {
                    let _ = subscriber.consumer.acknowledge();
                    if subscriber.next > subscriber.acknowledged {
                        subscriber.acknowledged = subscriber.next;
                        subscriber.moved = self.now;
                    }
                }
            }
            Op::Join { start } => self.join(if start { Start::Earliest } else { Start::Latest }),
            Op::Leave(who) => {
                if let Some(mut subscriber) = self.slots[who].take_if(|subscriber| subscriber.alive) {
                    let _ = subscriber.consumer.leave();
                }
            }
            Op::Die(who) => {
                if let Some(subscriber) = &mut self.slots[who] {
                    subscriber.alive = false;
                }
            }
            Op::Wait(ms) => self.now += ms * MS,
            Op::Sweep => {
                let mut alive = self.alive();
                self.producer.sweep(self.now, &mut alive);
            }
        }
        self.invariants();
    }

    fn invariants(&mut self) {
        let counters = self.producer.data().counters();
        assert_eq!(counters.full, self.full);
        assert_eq!(counters.dropped, if self.overflow == Overflow::DropNewest { self.full } else { 0 });
        assert_eq!(counters.messages, self.messages);
        assert_eq!(counters.head, self.head());
        assert!(counters.floor >= self.floor && counters.head - counters.floor <= self.capacity as u64);
        self.floor = counters.floor;
        assert!(
            self.floor == self.head() || self.batches.iter().any(|batch| batch.start == self.floor),
            "floor is not the start of a batch"
        );
        for acknowledged in self.counting() {
            let batch = self.position(acknowledged);
            assert!(self.floor <= batch, "room was granted over frames that are still to be read");
        }
        for slot in self.producer.slots().filter(|slot| slot.state == SlotState::Evicted) {
            let subscriber = self.slots[slot.index].as_mut().expect("an evicted slot that nobody took");
            let stalled = self.now - subscriber.moved;
            assert!(subscriber.evicted || stalled >= self.evict_after, "evicted after {stalled} ns");
            subscriber.evicted = true;
        }
        // The slots of dead subscribers that the publisher freed can be taken again.
        let used: Vec<usize> = self.producer.slots().map(|slot| slot.index).collect();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let dead = slot.take_if(|subscriber| !subscriber.alive && !used.contains(&index)).is_some();
            assert!(dead || slot.is_none() || used.contains(&index), "the slot of a living one was freed");
        }
        let expelled = self.producer.slots().any(|slot| slot.state == SlotState::Expelled);
        assert!(!expelled, "an honest subscriber was expelled");
    }

    fn finish(mut self) {
        self.producer.close();
        for who in 0..SLOTS {
            loop {
                let before = self.slots[who].as_ref().map(|subscriber| subscriber.next);
                self.take(who, Some(self.capacity), 1000);
                let subscriber = self.slots[who].as_ref();
                if before == subscriber.map(|subscriber| subscriber.next) {
                    assert!(subscriber.is_none_or(|it| !it.alive || it.consumer.ended()));
                    break;
                }
            }
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let who = || 0..SLOTS;
    prop_oneof![
        8 => (0usize..200).prop_map(Op::Send),
        3 => any::<usize>().prop_map(Op::Send),
        3 => (prop::collection::vec(0usize..3000, 1..12), 0usize..13)
            .prop_map(|(lengths, used)| Op::Batch { lengths, used }),
        1 => (0usize..40_000).prop_map(|bytes| Op::HasRoom(bytes & !7)),
        1 => (0usize..40_000).prop_map(|bytes| Op::Arm(bytes & !7)),
        8 => (who(), 0usize..9000, 1usize..40).prop_map(|(who, room, entries)| Op::Read { who, room, entries }),
        2 => (who(), Just(70_000), 1usize..500).prop_map(|(who, room, entries)| Op::Read { who, room, entries }),
        2 => (who(), 1usize..40).prop_map(|(who, entries)| Op::Lease { who, entries }),
        8 => who().prop_map(Op::Acknowledge),
        2 => any::<bool>().prop_map(|start| Op::Join { start }),
        1 => who().prop_map(Op::Leave),
        1 => who().prop_map(Op::Die),
        1 => (0u64..60).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ]
}

fn overflow() -> impl Strategy<Value = Overflow> {
    prop_oneof![Just(Overflow::Block), Just(Overflow::DropOldest), Just(Overflow::DropNewest)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { ProptestConfig::default().cases.max(1024) },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_ring_does_what_the_model_does(
        overflow in overflow(),
        capacity in prop_oneof![3 => Just(12), 1 => Just(13), 1 => Just(16)],
        evict_after in prop_oneof![Just(0), Just(20 * MS)],
        ops in prop::collection::vec(op(), 1..if cfg!(miri) { 40 } else { 300 }),
    ) {
        let mut world = World::new(1 << capacity, overflow, evict_after);
        world.join(Start::Latest);
        for op in ops {
            world.run(op);
        }
        world.finish();
    }
}
