//! Everything that the ring does, against a model that is too simple to be wrong (I4, I10). The model is a list of
//! batches and, for each subscriber, the sequence that it reads next. One thread makes any interleaving.
//!
//! The model knows no `limit` and no lazy `floor`. It accepts a batch if, and only if, `floor` could move far enough
//! without passing a batch that a counting subscriber must still read. A subscriber that was not lapped gets exactly
//! what comes next. A large message is a row of batches, each with a piece. A subscriber that misses the first piece
//! gets none.

use crate::support::{Alive, Got, Memory, committed, got, join, topic};
use proptest::prelude::*;
use ringbell_ring::{
    BATCH_OVERHEAD, Consumer, Entry, Fault, Overflow, Piece, Producer, Read, SlotState, Start, max_message,
    padded,
};

const MS: u64 = 1_000_000;
const SLOTS: usize = 5;
/// Bytes that a piece adds to a batch: a header like a message's, and two words.
const PIECE_FIELDS: usize = 16;

#[derive(Clone, Debug)]
enum Op {
    Send(usize),
    Batch { lengths: Vec<usize>, used: usize },
    BeginLarge(usize),
    PushLarge { pieces: usize, most: usize },
    AbandonLarge,
    HasRoom(usize),
    Arm(usize),
    Read { who: usize, room: usize, entries: usize },
    Lease { who: usize, entries: usize },
    ReadLarge { who: usize, room: usize },
    SkipLarge(usize),
    Acknowledge(usize),
    Join { start: bool },
    Leave(usize),
    Die(usize),
    Wait(u64),
    Sweep,
}

enum Content {
    /// Their lengths. A message that was sent alone may have headers.
    Messages {
        lengths: Vec<usize>,
        headers: usize,
    },
    Piece {
        total: usize,
        offset: usize,
        length: usize,
    },
}

struct Batch {
    start: u64,
    end: u64,
    first: u64,
    time: u64,
    content: Content,
}

/// A large message that is being sent.
#[derive(Clone, Copy)]
struct Sending {
    total: usize,
    done: usize,
}

/// A large message that is being read.
#[derive(Clone, Copy)]
struct Partial {
    sequence: u64,
    time: u64,
    done: usize,
    /// Bytes that were read of the piece at `index`.
    within: usize,
}

struct Subscriber {
    consumer: Consumer,
    alive: bool,
    evicted: bool,
    /// Which batch it reads next.
    index: usize,
    /// Sequence of the message that begins next.
    next: u64,
    partial: Option<Partial>,
    /// Position up to which it has acknowledged: what lies below may be overwritten.
    acknowledged: u64,
    /// Position at which it joined, and the sequence that belongs to it. Below it, history may be overwritten.
    joined: (u64, u64),
    /// When it last acknowledged anything.
    moved: u64,
    received: u64,
    /// How many messages it should have got and did not. It learns this with the next batch's header at the latest.
    missed: u64,
}

/// What a subscriber finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Messages,
    Large,
}

impl Subscriber {
    fn give_up(&mut self) {
        self.missed += u64::from(self.partial.take().is_some());
    }

    fn misses_up_to(&mut self, sequence: u64) {
        assert!(sequence >= self.next);
        self.missed += sequence - self.next;
        self.next = sequence;
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
    sending: Option<Sending>,
    /// Whether a large message was abandoned at any time.
    abandoned: bool,
    full: u64,
    /// Sequence of the message that begins next.
    sequence: u64,
    messages: u64,
    bytes: u64,
    fragments: u64,
    floor: u64,
}

fn byte(sequence: u64, at: usize) -> u8 {
    (sequence.wrapping_mul(0x9e37_79b9).wrapping_add(at as u64 * 7) >> 3) as u8
}

/// How many bytes of a message of this length are headers.
fn headers_of(length: usize) -> u16 {
    if length.is_multiple_of(3) { (length / 2).try_into().unwrap_or(u16::MAX) } else { 0 }
}

fn payload(sequence: u64, length: usize) -> Vec<u8> {
    part(sequence, 0, length)
}

fn part(sequence: u64, from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| byte(sequence, at)).collect()
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
            sending: None,
            abandoned: false,
            full: 0,
            sequence: 0,
            messages: 0,
            bytes: 0,
            fragments: 0,
            floor: 0,
        }
    }

    fn head(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.end)
    }

    /// The start of a batch; `head` for one that was not sent yet.
    fn position(&self, index: usize) -> u64 {
        self.batches.get(index).map_or(self.head(), |batch| batch.start)
    }

    /// The first batch that is still whole.
    fn oldest(&self) -> usize {
        self.batches.partition_point(|batch| batch.start < self.floor)
    }

    /// Sequence of the message that begins first from this batch on.
    fn begins(&self, index: usize) -> u64 {
        match self.batches.get(index) {
            Some(Batch { first, content: Content::Piece { offset: 1.., .. }, .. }) => first + 1,
            Some(batch) => batch.first,
            None => self.sequence,
        }
    }

    /// Whether a batch that takes `bytes` fits now.
    fn fits(&self, bytes: usize) -> bool {
        let keep = self.counting().min().unwrap_or(self.head());
        let end = self.head() + bytes as u64;
        bytes <= self.capacity / 2
            && (end <= keep + self.capacity as u64 || self.overflow == Overflow::DropOldest)
    }

    /// The acknowledged positions of the subscribers that the publisher waits for.
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

    fn push(&mut self, first: u64, bytes: usize, content: Content) {
        let start = self.head();
        self.batches.push(Batch { start, end: start + bytes as u64, first, time: self.now, content });
    }

    fn committed(&mut self, lengths: Vec<usize>, headers: u16) {
        let bytes = BATCH_OVERHEAD + lengths.iter().map(|&length| padded(length)).sum::<usize>();
        let first = self.sequence;
        self.sequence += lengths.len() as u64;
        self.messages += lengths.len() as u64;
        self.bytes += lengths.iter().sum::<usize>() as u64;
        self.push(first, bytes, Content::Messages { lengths, headers: headers.into() });
    }

    fn send(&mut self, length: usize) {
        let length = length % (max_message(self.capacity) + 1);
        let mut alive = self.alive();
        let (message, headers) = (payload(self.sequence, length), headers_of(length));
        let (first, second) = message.split_at(length - usize::from(headers));
        let sent = committed(self.producer.send_parts([first, second], headers, self.now, &mut alive));
        // The model uses the subscribers that count afterwards. Which of them the publisher may evict or reclaim is
        // checked separately.
        let bytes = BATCH_OVERHEAD + padded(length);
        let sending = self.sending.is_some();
        assert_eq!(sent, !sending && self.fits(bytes), "a message of {length} bytes");
        if sent {
            self.committed(vec![length], headers);
        } else {
            self.full += 1;
            if !sending {
                self.nobody_dead_in_the_way(bytes);
            }
        }
    }

    fn begin_large(&mut self, total: usize) {
        let begun = self.producer.begin_large_with(total, headers_of(total));
        assert_eq!(begun, self.sending.is_none() && self.overflow == Overflow::Block && total > 0);
        if begun {
            self.sending = Some(Sending { total, done: 0 });
        }
    }

    /// Bytes of the piece that is sent next, and of its batch.
    fn piece(&self, rest: usize) -> (usize, usize) {
        let length = rest.min((self.capacity / 4).min(64 << 10) - BATCH_OVERHEAD - padded(PIECE_FIELDS));
        (length, BATCH_OVERHEAD + padded(PIECE_FIELDS + length))
    }

    fn push_large(&mut self, most: usize) {
        let mut alive = self.alive();
        let Some(Sending { total, done }) = self.sending else {
            assert_eq!(self.producer.push_large(&[0; 8], self.now, &mut alive).bytes, 0);
            return;
        };
        let sequence = if done == 0 { self.sequence } else { self.sequence - 1 };
        let rest = part(sequence, done, (total - done).min(most));
        let (length, bytes) = self.piece(rest.len());
        let pushed = self.producer.push_large(&rest, self.now, &mut alive).bytes;
        assert_eq!(pushed, if self.fits(bytes) { length } else { 0 }, "a piece of {length} bytes");
        if pushed == 0 {
            self.nobody_dead_in_the_way(bytes);
            return;
        }
        self.sequence = sequence + 1;
        self.push(sequence, bytes, Content::Piece { total, offset: done, length });
        self.fragments += 1;
        self.bytes += length as u64;
        self.sending = Some(Sending { total, done: done + length }).filter(|sending| sending.done < total);
        self.messages += u64::from(self.sending.is_none());
        assert_eq!(self.producer.large_left(), self.sending.map(|sending| sending.total - sending.done));
    }

    /// Bytes of a batch whose messages take `bytes`, or of the next piece of a large message, which goes first.
    fn wanted(&self, bytes: usize) -> usize {
        match self.sending {
            Some(Sending { total, done }) => self.piece(total - done).1,
            None => BATCH_OVERHEAD + bytes,
        }
    }

    fn nobody_dead_in_the_way(&self, bytes: usize) {
        let needed = (self.head() + bytes as u64).saturating_sub(self.capacity as u64);
        for slot in self.producer.slots().filter(|slot| slot.state == SlotState::Active) {
            let subscriber = self.slots[slot.index].as_ref().unwrap();
            assert!(subscriber.alive || subscriber.acknowledged >= needed, "a dead subscriber is in the way");
        }
    }

    #[cfg(not(miri))]
    fn batch(&mut self, lengths: &[usize], used: usize) {
        let lengths: Vec<usize> = lengths.iter().map(|length| length % (self.capacity / 8)).collect();
        let bytes: usize = lengths.iter().map(|&length| padded(length)).sum();
        let mut alive = self.alive();
        let span = self.producer.reserve(bytes, 2 * bytes, self.now, &mut alive);
        let fits = self.sending.is_none() && self.fits(BATCH_OVERHEAD + bytes);
        assert_eq!(span.is_some(), fits, "a batch of {bytes} bytes");
        let Some(span) = span else {
            self.producer.note_full();
            self.full += 1;
            return;
        };
        assert!(span.length >= bytes && span.length <= self.capacity / 2);
        let lengths = lengths[..used.min(lengths.len())].to_vec();
        let mut at = 0;
        for (index, &length) in lengths.iter().enumerate() {
            let from = payload(self.sequence + index as u64, length);
            self.producer.reserved_bytes()[at + 8..][..length].copy_from_slice(&from);
            at += padded(length);
        }
        let words: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
        let sent = self.producer.commit_span(&words, self.now);
        assert_eq!(sent.map(committed), (!lengths.is_empty()).then_some(true));
        if !lengths.is_empty() {
            self.committed(lengths, 0);
        }
    }

    #[cfg(miri)]
    fn batch(&mut self, lengths: &[usize], _: usize) {
        self.send(lengths[0]);
    }

    /// What a subscriber finds when it reads, after anything that was lost.
    fn look(&self, subscriber: &mut Subscriber) -> Next {
        loop {
            if self.position(subscriber.index) < self.floor {
                subscriber.index = self.oldest();
                subscriber.give_up();
            }
            let Some(batch) = self.batches.get(subscriber.index) else { return Next::Nothing };
            if subscriber.partial.is_some_and(|partial| partial.sequence == batch.first) {
                return Next::Large;
            }
            subscriber.give_up();
            let Content::Piece { offset, .. } = batch.content else {
                subscriber.misses_up_to(subscriber.next.max(batch.first));
                return Next::Messages;
            };
            let (begins, after) = (offset == 0 && subscriber.next <= batch.first, batch.first + 1);
            subscriber.misses_up_to(if begins { batch.first } else { after });
            subscriber.next = after;
            if begins {
                let (sequence, time) = (batch.first, batch.time);
                subscriber.partial = Some(Partial { sequence, time, done: 0, within: 0 });
                return Next::Large;
            }
            subscriber.index += 1;
        }
    }

    /// Takes these messages from the model, one after the other.
    fn compare(&self, subscriber: &mut Subscriber, messages: &[Got]) {
        for message in messages {
            let batch = &self.batches[subscriber.index];
            let Content::Messages { lengths, headers } = &batch.content else {
                panic!("a piece was read as a message")
            };
            let at = (subscriber.next - batch.first) as usize;
            assert_eq!(message.sequence, subscriber.next);
            assert_eq!(message.time, batch.time);
            let mut expected = payload(subscriber.next, lengths[at]);
            assert_eq!(message.headers, expected.split_off(lengths[at] - headers));
            assert_eq!(message.payload, expected);
            subscriber.next += 1;
            subscriber.index += usize::from(at + 1 == lengths.len());
        }
    }

    fn size(&self, subscriber: &Subscriber) -> usize {
        let batch = &self.batches[subscriber.index];
        let Content::Messages { lengths, .. } = &batch.content else {
            panic!("a piece has no size of its own")
        };
        padded(lengths[(subscriber.next - batch.first) as usize])
    }

    fn take(&mut self, who: usize, room: Option<usize>, entries: usize) {
        let Some(mut subscriber) = self.slots[who].take() else { return };
        if !subscriber.alive {
            self.slots[who] = Some(subscriber);
            return;
        }
        let (joined, sequence) = subscriber.joined;
        if room.is_none() && self.position(subscriber.index) < joined {
            // A lease leaves history out. That is not missed: it was never promised.
            subscriber.missed = subscriber.consumer.missed();
            subscriber.index = self.batches.partition_point(|batch| batch.start < joined);
            subscriber.next = sequence;
            subscriber.partial = None;
        }
        let (missed, position) = (subscriber.missed, self.position(subscriber.index));
        let next = self.look(&mut subscriber);
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
            Ok((Read::Empty, _)) => assert_eq!(next, Next::Nothing, "there was something to read"),
            Ok((Read::Needs(bytes), _)) => {
                assert_eq!(next, Next::Messages);
                let room = room.expect("a lease needs no room");
                assert!(bytes > room & !7, "{bytes} of {room}");
                assert!(bytes <= self.capacity / 2);
                let size = self.size(&subscriber);
                assert!(bytes == size || bytes == size + BATCH_OVERHEAD);
            }
            Ok((Read::Messages { count, bytes, .. }, messages)) => {
                assert_eq!(next, Next::Messages);
                assert!(count > 0 && count <= entries && bytes.is_multiple_of(8));
                assert!(room.is_none_or(|room| bytes <= room));
                self.compare(&mut subscriber, &messages);
                subscriber.received += count as u64;
                assert_eq!(subscriber.consumer.missed(), subscriber.missed);
            }
            Ok((Read::Large(large), _)) => {
                assert_eq!(next, Next::Large);
                let Partial { sequence, time, done, .. } = subscriber.partial.unwrap();
                let Content::Piece { total, .. } = self.batches[subscriber.index].content else {
                    panic!("a message was read as a piece")
                };
                assert_eq!((large.sequence, large.time), (sequence, time));
                assert_eq!((large.total, large.done), (total, done));
                assert_eq!(large.headers, headers_of(total).into());
                assert_eq!(subscriber.consumer.missed(), subscriber.missed);
            }
            Err(fault) => return self.evicted(subscriber, fault),
        }
        // A message may be lost if it was dropped, if it is history, or if the publisher gave it up.
        assert!(
            subscriber.missed == missed
                || self.overflow == Overflow::DropOldest
                || position < joined
                || self.abandoned
        );
        self.told(&subscriber);
        self.slots[who] = Some(subscriber);
    }

    fn read_large(&mut self, who: usize, room: usize) {
        let Some(mut subscriber) = self.slots[who].take_if(|subscriber| subscriber.alive) else { return };
        let mut target = vec![0xa5; room];
        let piece = match subscriber.consumer.read_large(&mut target) {
            Ok(piece) => piece,
            Err(fault) => return self.evicted(subscriber, fault),
        };
        let expected = subscriber.partial.map(|partial| (partial, self.look(&mut subscriber)));
        match expected {
            None => assert_eq!(piece, Piece::Gone),
            Some((_, Next::Nothing)) if subscriber.partial.is_some() => assert_eq!(piece, Piece::Nothing),
            Some((mut partial, Next::Large))
                if subscriber.partial.is_some_and(|still| still.sequence == partial.sequence) =>
            {
                let Content::Piece { total, length, .. } = self.batches[subscriber.index].content else {
                    unreachable!()
                };
                let bytes = room.min(length - partial.within);
                assert_eq!(piece, Piece::Copied { bytes, left: total - partial.done - bytes });
                assert_eq!(target[..bytes], part(partial.sequence, partial.done, bytes));
                partial.done += bytes;
                partial.within += bytes;
                if partial.within == length {
                    subscriber.index += 1;
                    partial.within = 0;
                }
                subscriber.received += u64::from(partial.done == total);
                subscriber.partial = Some(partial).filter(|partial| partial.done < total);
            }
            Some(_) => {
                assert_eq!(piece, Piece::Gone);
                // The model looked further than the consumer. The consumer finds the rest with its next reads.
                let read = subscriber.consumer.read(&mut [], 0, &mut []);
                assert!(read.is_ok(), "{read:?}");
            }
        }
        self.told(&subscriber);
        self.slots[who] = Some(subscriber);
    }

    fn told(&self, subscriber: &Subscriber) {
        assert!(subscriber.consumer.missed() <= subscriber.missed);
        assert_eq!(subscriber.consumer.received(), subscriber.received);
    }

    /// The only way in which an honest subscriber ends.
    fn evicted(&self, mut subscriber: Subscriber, fault: Fault) {
        assert_eq!(fault, Fault::Evicted);
        assert!(self.evict_after > 0 && self.overflow != Overflow::DropOldest);
        assert!(subscriber.evicted);
        let _ = subscriber.consumer.leave();
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
        let index = match start {
            Start::Latest => self.batches.len(),
            Start::Earliest => self.oldest(),
        };
        self.slots[slot] = Some(Subscriber {
            consumer,
            alive: true,
            evicted: false,
            index,
            next: self.begins(index),
            partial: None,
            acknowledged: self.head(),
            joined: (self.head(), self.sequence),
            moved: self.now,
            received: 0,
            missed: 0,
        });
    }

    fn run(&mut self, op: Op) {
        self.now += 2 * MS;
        match op {
            Op::Send(length) => self.send(length),
            Op::Batch { lengths, used } => self.batch(&lengths, used),
            Op::BeginLarge(total) => self.begin_large(total),
            Op::PushLarge { pieces, most } => {
                for _ in 0..pieces {
                    // Long enough for the next probe of the locks.
                    self.now += 2 * MS;
                    self.push_large(most);
                }
            }
            Op::AbandonLarge => {
                self.producer.abandon_large();
                self.abandoned |= self.sending.take().is_some();
            }
            Op::HasRoom(bytes) => {
                assert_eq!(self.producer.has_room(bytes, self.now), self.fits(self.wanted(bytes)));
            }
            Op::Arm(bytes) => {
                assert_eq!(self.producer.arm(bytes, self.now), !self.fits(self.wanted(bytes)));
            }
            Op::Read { who, room, entries } => self.take(who, Some(room), entries),
            Op::Lease { who, entries } => {
                let safe = self.overflow == Overflow::Block && self.evict_after == 0 && !cfg!(miri);
                self.take(who, if safe { None } else { Some(4096) }, entries);
            }
            Op::ReadLarge { who, room } => self.read_large(who, room),
            Op::SkipLarge(who) => {
                if let Some(subscriber) = self.slots[who].as_mut().filter(|subscriber| subscriber.alive) {
                    subscriber.consumer.skip_large();
                    subscriber.give_up();
                }
            }
            Op::Acknowledge(who) => {
                let Some(mut subscriber) = self.slots[who].take_if(|subscriber| subscriber.alive) else {
                    return;
                };
                let _ = subscriber.consumer.acknowledge();
                let position = self.position(subscriber.index);
                if position > subscriber.acknowledged {
                    subscriber.acknowledged = position;
                    subscriber.moved = self.now;
                }
                self.slots[who] = Some(subscriber);
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
        assert_eq!((counters.bytes, counters.fragments), (self.bytes, self.fragments));
        assert_eq!(self.producer.next_sequence(), self.sequence);
        assert_eq!(counters.head, self.head());
        assert!(counters.floor >= self.floor && counters.head - counters.floor <= self.capacity as u64);
        self.floor = counters.floor;
        assert!(
            self.floor == self.head() || self.batches.iter().any(|batch| batch.start == self.floor),
            "floor is not the start of a batch"
        );
        for acknowledged in self.counting() {
            assert!(self.floor <= acknowledged, "room was granted over frames that are still to be read");
        }
        for slot in self.producer.slots().filter(|slot| slot.state == SlotState::Evicted) {
            let subscriber = self.slots[slot.index].as_mut().expect("an evicted slot that nobody took");
            let stalled = self.now - subscriber.moved;
            assert!(subscriber.evicted || stalled >= self.evict_after, "evicted after {stalled} ns");
            subscriber.evicted = true;
        }
        // The publisher freed the slots of dead subscribers. They can be taken again.
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
                let at = |world: &Self| {
                    let subscriber = world.slots[who].as_ref();
                    subscriber.map(|it| (it.index, it.next, it.partial.map(|partial| partial.done)))
                };
                let before = at(&self);
                self.take(who, Some(self.capacity), 1000);
                self.read_large(who, self.capacity);
                if before == at(&self) {
                    let subscriber = self.slots[who].as_ref();
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
        2 => (0usize..9000).prop_map(Op::BeginLarge),
        1 => (0usize..250_000).prop_map(Op::BeginLarge),
        6 => (1usize..6, prop_oneof![4 => Just(usize::MAX), 1 => 1usize..2000])
            .prop_map(|(pieces, most)| Op::PushLarge { pieces, most }),
        1 => Just(Op::AbandonLarge),
        1 => (0usize..40_000).prop_map(|bytes| Op::HasRoom(bytes & !7)),
        1 => (0usize..40_000).prop_map(|bytes| Op::Arm(bytes & !7)),
        8 => (who(), 0usize..9000, 1usize..40).prop_map(|(who, room, entries)| Op::Read { who, room, entries }),
        2 => (who(), Just(70_000), 1usize..500).prop_map(|(who, room, entries)| Op::Read { who, room, entries }),
        2 => (who(), 1usize..40).prop_map(|(who, entries)| Op::Lease { who, entries }),
        6 => (who(), prop_oneof![3 => Just(70_000), 1 => 1usize..2000])
            .prop_map(|(who, room)| Op::ReadLarge { who, room }),
        1 => who().prop_map(Op::SkipLarge),
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
