//! Hostile peers, driven by a string of bytes. The property tests and the fuzz targets share these drivers.
//!
//! They check four things (I11). Nothing panics. Everything that is handed out lies within the caller's memory. The
//! only errors are `Fault`s, and they stay. An honest subscriber of an honest publisher never notices what its
//! neighbours write.

use std::sync::atomic::Ordering;

use ringbell_ring::layout::{SLOT_LEN, SLOTS_OFFSET};
use ringbell_ring::{
    Consumer, Entry, Fault, Large, MAX_LARGE, Newest, Overflow, Piece, Producer, Read, Start, max_message,
};

use super::{
    Everybody, Gathering, Memory, admit, committed, drain, drain_into, join, topic, topic_for_guests,
};

const CAPACITY: usize = 4096;
const PAGE: usize = 4096;
const HEAD: usize = 128;
const FLOOR: usize = 256;
const STATE: usize = 384;
const MS: u64 = 1_000_000;

/// Decisions, one after the other, until the bytes run out.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A word that is likely to have an effect: near `around`, a small number, a header, an extreme, or anything.
    fn word(&mut self, around: u64) -> Option<u64> {
        let small = |input: &mut Self| Some(u64::from(input.byte()?) << 3);
        Some(match self.byte()? % 10 {
            0 => around,
            1 => around.wrapping_add(small(self)?),
            2 => around.wrapping_sub(small(self)?),
            3 => small(self)?,
            4 => small(self)? | (1 << 32),
            5 => (small(self)? + 16) | (2 << 32),
            // A message or a fragment with headers.
            8 => small(self)? | u64::from(self.byte()? % 4) << 32 | u64::from(self.byte()?) << 48,
            6 => 1 << (self.byte()? % 64),
            7 => u64::MAX - u64::from(self.byte()?),
            _ => self.long()?,
        })
    }
}

fn overflow(byte: u8) -> Overflow {
    [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest][usize::from(byte) % 3]
}

fn start(byte: u8) -> Start {
    if byte & 1 == 0 { Start::Latest } else { Start::Earliest }
}

/// Checks what came out of a read or a lease. The last fault stays.
fn judge(
    outcome: Result<Read, Fault>,
    table: &[Entry],
    room: usize,
    fill: usize,
    fault: &mut Option<Fault>,
) -> bool {
    if let Some(fault) = *fault {
        assert_eq!(outcome, Err(fault), "a fault is for good");
    }
    match outcome {
        Ok(Read::Messages { count, bytes, .. }) => {
            assert!(count > 0 && count <= table.len());
            for entry in &table[..count] {
                assert!(entry.length as usize <= max_message(CAPACITY));
                assert!(entry.offset as usize >= fill);
                assert!(entry.offset as usize + entry.length as usize <= fill + room);
                assert!(entry.batch == Entry::CONTINUED || entry.batch as usize + 24 <= fill + room);
            }
            bytes > 0
        }
        Ok(Read::Needs(bytes)) => {
            assert!(bytes > 0 && bytes <= CAPACITY / 2);
            false
        }
        Ok(Read::Large(Large { total, done, .. })) => {
            assert!(total <= MAX_LARGE && done < total);
            false
        }
        Ok(Read::Empty) => false,
        Err(found) => {
            *fault = Some(found);
            false
        }
    }
}

/// The same for a piece of a large message.
fn judge_piece(outcome: Result<Piece, Fault>, room: usize, fault: &mut Option<Fault>) {
    if let Some(fault) = *fault {
        assert_eq!(outcome, Err(fault), "a fault is for good");
    }
    match outcome {
        Ok(Piece::Copied { bytes, left }) => {
            assert!(bytes > 0 && bytes <= room && bytes <= CAPACITY / 2 && left < MAX_LARGE);
        }
        Ok(Piece::Nothing | Piece::Gone) => {}
        Err(found) => *fault = Some(found),
    }
}

/// A hostile publisher and an honest subscriber.
pub fn data(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some(policy) = input.byte() else { return };
    let overflow = overflow(policy);
    let (memory, mut producer) = topic(CAPACITY, 1, overflow, 0);
    let mut fault = None;
    let mut consumer: Option<Consumer> = None;
    let mut head = 0;
    while let Some(op) = input.byte() {
        let played =
            play(op, &mut input, (&memory, overflow), &mut producer, &mut consumer, &mut fault, &mut head);
        if played.is_none() {
            break;
        }
    }
    // The subscriber may be expelled: it acknowledges what the publisher in this process never committed.
    assert_ne!(fault, Some(Fault::Evicted), "nobody is evicted here");
}

fn play(
    op: u8,
    input: &mut Input<'_>,
    (memory, overflow): (&Memory, Overflow),
    producer: &mut Producer,
    consumer: &mut Option<Consumer>,
    fault: &mut Option<Fault>,
    head: &mut u64,
) -> Option<()> {
    let store = |offset: usize, word: u64| memory.data_word(offset).store(word, Ordering::Release);
    match op % 16 {
        0 => {
            *head = input.word(*head)?;
            store(HEAD, *head);
        }
        1 => store(FLOOR, input.word(*head)?),
        2 => store(STATE, input.word(0)?),
        3 => store(HEAD + 8 + (usize::from(input.byte()?) & 24).min(16), input.word(*head)?),
        4 => {
            let at = (usize::from(input.byte()?) << 4 | usize::from(input.byte()?) & 8) % CAPACITY;
            store(PAGE + at, input.word(*head)?);
        }
        // First something honest, so that there is something to damage.
        5 | 6 => {
            let length = usize::from(input.byte()?) * 8;
            if *head == producer.data().counters().head {
                let _ = producer.send(&vec![op; length.min(producer.max_message())], 0, &mut Everybody);
                *head = producer.data().counters().head;
            }
        }
        7 => {
            *fault = None;
            let starting = start(input.byte()?);
            match join(memory, 0, overflow, starting) {
                Ok(joined) => *consumer = Some(joined),
                Err(Fault::Corrupt(_)) => *consumer = None,
                Err(other) => panic!("{other:?}"),
            }
        }
        8 => {
            let Some(reader) = consumer.as_mut() else { return Some(()) };
            let mut table = vec![Entry::default(); usize::from(input.byte()?) + 1];
            let outcome = reader.lease(&mut table);
            judge(outcome, &table, 2 * CAPACITY, 0, fault);
        }
        9 => {
            let Some(reader) = consumer.as_mut() else { return Some(()) };
            let _ = reader.acknowledge();
            let _ = (reader.pending(), reader.spin(2), reader.arm(), reader.ended(), reader.drained());
            let _ = (reader.backlog(), memory.view.closed(), memory.view.counters());
        }
        12 => {
            let total = usize::from(input.byte()?) * 64;
            if *head == producer.data().counters().head {
                let begun = producer.begin_large(total);
                let length = producer.large_left().unwrap_or(0).min(usize::from(input.byte()?) * 16);
                let _ = producer.push_large(&vec![op; length], 0, &mut Everybody);
                if !begun && length == 0 {
                    producer.abandon_large();
                }
                *head = producer.data().counters().head;
            }
        }
        13 => {
            let at = (usize::from(input.byte()?) << 4 | usize::from(input.byte()?) & 8) % CAPACITY;
            store(PAGE + at, u64::from(input.byte()?) << 3 | 3 << 32);
            store(PAGE + (at + 8) % CAPACITY, input.word(64)?);
            store(PAGE + (at + 16) % CAPACITY, input.word(0)?);
        }
        14 => {
            let Some(reader) = consumer.as_mut() else { return Some(()) };
            let mut target = vec![0; usize::from(input.byte()?) * 8];
            let outcome = reader.read_large(&mut target);
            judge_piece(outcome, target.len(), fault);
        }
        15 => {
            if let Some(reader) = consumer.as_mut() {
                reader.skip_large();
            }
        }
        10 => {
            let Some(reader) = consumer.as_mut() else { return Some(()) };
            let mut target = vec![0; usize::from(input.byte()?) * 8];
            let outcome = reader.newest(&mut target);
            if let Some(fault) = *fault {
                assert_eq!(outcome, Err(fault), "a fault is for good");
            }
            match outcome {
                Ok(Newest::Message { length, .. }) => assert!(length <= target.len()),
                Ok(Newest::Needs(bytes)) => assert!(bytes > target.len() && bytes <= max_message(CAPACITY)),
                Ok(Newest::Nothing | Newest::Lapped) => {}
                Err(found) => *fault = Some(found),
            }
        }
        _ => {
            let Some(reader) = consumer.as_mut() else { return Some(()) };
            let fill = usize::from(input.byte()?);
            let room = usize::from(input.byte()?) * 24;
            let mut slab = vec![0; fill + room];
            let mut table = vec![Entry::default(); usize::from(input.byte()?) + 1];
            // A caller goes on while messages come. What is committed at once bounds how long that can be.
            for _ in 0..8 {
                let outcome = reader.read(&mut slab, fill, &mut table);
                if !judge(outcome, &table, room, fill, fault) {
                    break;
                }
            }
        }
    }
    Some(())
}

/// An honest publisher, an honest subscriber in slot 0, and a hostile peer that writes anything into the other slots
/// and the words that all share. The first byte decides the policy, and whether the messages are large.
pub fn control(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some(policy) = input.byte() else { return };
    let (overflow, slots, evict_after) = (overflow(policy), 4, 10 * MS);
    let large = policy & 0x80 != 0 && overflow == Overflow::Block;
    let mut gathering = Gathering::default();
    let (memory, mut producer) = topic(CAPACITY, slots, overflow, evict_after);
    let mut honest = join(&memory, 0, overflow, Start::Latest).expect("an honest publisher");
    let mut now = MS;
    let mut next = 0;
    let mut sent = 0;
    let mut step = 0;
    let mut honest_reads = |honest: &mut Consumer, mut next: u64| {
        let messages = drain_into(honest, &mut gathering);
        for message in messages.expect("an honest subscriber of an honest publisher") {
            assert!(message.sequence >= next);
            next = message.sequence + 1;
        }
        next
    };
    while let Some(op) = input.byte() {
        now += MS;
        step += 1;
        if step % 5 == 0 {
            // It reads so often that the publisher may not evict it.
            next = honest_reads(&mut honest, next);
        }
        let Some(()) = (match op % 8 {
            0 | 1 => (|| {
                let slot = 1 + usize::from(input.byte()?) % (slots - 1);
                let field = usize::from(input.byte()?) % 11 * 8;
                let word = input.word(producer.data().counters().head)?;
                memory.control_word(SLOTS_OFFSET + slot * SLOT_LEN + field).store(word, Ordering::Release);
                Some(())
            })(),
            2 => (|| {
                let offset = [128, 256, 384, 0, 16][usize::from(input.byte()?) % 5];
                memory.control_word(offset).store(input.word(0)?, Ordering::Release);
                Some(())
            })(),
            3 => {
                producer.sweep(now, &mut Everybody);
                let _ = (producer.slots().count(), producer.has_room(64, now), producer.arm(64, now));
                Some(())
            }
            4 => {
                next = honest_reads(&mut honest, next);
                Some(())
            }
            // Another honest subscriber may or may not be able to use what lies in its slot.
            5 => (|| {
                let slot = 1 + usize::from(input.byte()?) % (slots - 1);
                let who = (slot as u32, u64::from(op >> 4 & 1) * 8);
                let start = start(op >> 3);
                let joined = Consumer::join(memory.view, memory.control, slot, overflow, start, who);
                if let Ok(mut other) = joined {
                    let _ = drain(&mut other);
                    let _ = other.leave();
                }
                Some(())
            })(),
            _ if large => (|| {
                let payload = vec![1; 1 + usize::from(input.byte()?) * 32];
                assert!(producer.begin_large(payload.len()));
                let mut done = 0;
                // A sender that finds no room three times in a row gives the message up.
                let mut tries = 0;
                while done < payload.len() && tries < 3 {
                    let bytes = producer.push_large(&payload[done..], now, &mut Everybody).bytes;
                    (done, tries) = (done + bytes, if bytes == 0 { tries + 1 } else { 0 });
                    next = honest_reads(&mut honest, next);
                }
                producer.abandon_large();
                sent = producer.next_sequence();
                Some(())
            })(),
            _ => (|| {
                let length = usize::from(input.byte()?) * 4;
                sent += u64::from(committed(producer.send(&vec![1; length], now, &mut Everybody)));
                Some(())
            })(),
        }) else {
            break;
        };
        let counters = producer.data().counters();
        assert!(counters.floor <= counters.head && counters.head - counters.floor <= CAPACITY as u64);
    }
    // Once the hostile peer has stopped, each slot is in the way at most once: from the first look that finds it there
    // to the first look `evict_after` later. After that there is room whenever the honest subscriber has read.
    for _ in 0..2 * slots {
        now += evict_after;
        next = honest_reads(&mut honest, next);
        sent += u64::from(committed(producer.send(&[1; 1000], now, &mut Everybody)));
    }
    for _ in 0..8 {
        now += MS;
        next = honest_reads(&mut honest, next);
        assert!(committed(producer.send(&[1; 1000], now, &mut Everybody)), "the neighbours are in the way");
        sent += 1;
    }
    assert_eq!(honest_reads(&mut honest, next), sent);
    let counted = honest.received() + honest.missed();
    assert_eq!(counted, sent);
    assert!(large || honest.missed() == 0 || overflow == Overflow::DropOldest);
}

/// An honest publisher with an honest subscriber and an honest guest, and a hostile guest that writes anything into its
/// own control segment. It never stops, and the others never notice.
pub fn guest(bytes: &[u8]) {
    let mut input = Input(bytes);
    let Some(policy) = input.byte() else { return };
    let (overflow, patience) = (overflow(policy), 10 * MS);
    let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 2, overflow, patience);
    let mut honest = [
        join(&memory, 0, overflow, Start::Latest).expect("an honest publisher"),
        admit(&memory, (0, &guest_slots[0]), &admitted, overflow, Start::Latest)
            .expect("an honest publisher"),
    ];
    let mut next = [0; 2];
    let enter = || drop(admit(&memory, (1, &guest_slots[1]), &admitted, overflow, Start::Latest));
    enter();
    let mut now = MS;
    let mut sent = 0;
    let write = |input: &mut Input<'_>, head: u64| {
        let offset = [128, 256, SLOTS_OFFSET, SLOTS_OFFSET, SLOTS_OFFSET + 8, SLOTS_OFFSET + 8, 0, 16];
        let word = match input.byte()? % 3 {
            // States and generations, more often than by chance.
            0 => u64::from(input.byte()?) << 8 | u64::from(input.byte()? % 6),
            _ => input.word(head)?,
        };
        let offset = offset[usize::from(input.byte()?) % offset.len()];
        guest_slots[1].control_word(offset).store(word, Ordering::Release);
        Some(())
    };
    while let Some(op) = input.byte() {
        now += MS;
        let Some(()) = (match op % 6 {
            0..3 => write(&mut input, producer.data().counters().head),
            3 => {
                producer.sweep(now, &mut Everybody);
                let _ = (producer.slots().count(), producer.has_room(64, now), producer.arm(64, now));
                Some(())
            }
            // A guest that was dismissed comes again.
            4 if op > 200 => {
                enter();
                Some(())
            }
            _ => (|| {
                let length = usize::from(input.byte()?) * 4;
                sent += u64::from(committed(producer.send(&vec![1; length], now, &mut Everybody)));
                Some(())
            })(),
        }) else {
            break;
        };
        for (honest, next) in honest.iter_mut().zip(&mut next) {
            *next = honest_reads(honest, *next);
        }
        assert_eq!(producer.take_guest_bells() & !3, 0, "a guest slot that does not exist is rung");
        let counters = producer.data().counters();
        assert!(counters.floor <= counters.head && counters.head - counters.floor <= CAPACITY as u64);
    }
    // Whatever the hostile guest does, one message waits for it for no longer than the topic's patience with guests.
    let mut rest = Input(bytes);
    for _ in 0..8 {
        let mut begun = None;
        while !committed(producer.send(&[1; 1000], now, &mut Everybody)) {
            let begun = *begun.get_or_insert(now);
            assert!(now <= begun + patience + 2 * MS, "a guest is in the way for ever");
            now += MS;
            if write(&mut rest, producer.data().counters().head).is_none() {
                rest = Input(bytes);
            }
        }
        sent += 1;
        for (honest, next) in honest.iter_mut().zip(&mut next) {
            *next = honest_reads(honest, *next);
        }
    }
    assert!(admitted.contains(0), "an honest guest was dismissed");
    for (honest, next) in honest.iter().zip(next) {
        assert_eq!(next, sent);
        assert_eq!(honest.received() + honest.missed(), sent);
        assert!(honest.missed() == 0 || overflow == Overflow::DropOldest);
    }
}

fn honest_reads(honest: &mut Consumer, mut next: u64) -> u64 {
    for message in drain(honest).expect("an honest subscriber of an honest publisher") {
        assert!(message.sequence >= next);
        next = message.sequence + 1;
    }
    next
}
