//! A member that writes anything into any word of a table, between the calls of the others and during them.
//!
//! Nothing may panic, leave the memory, or run without end: the watchdog ends what does.
#![cfg(not(miri))]
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::{Random, Watchdog};
use ringbell_ring::table::{Kind, MAX_PERMITS, Members, REQUESTS, Seat, Shape, TableMemory, Want, table_len};

const MEMBERS: usize = 4;

/// A table with a guard of words around it that nobody may write.
struct Target {
    memory: TableMemory,
    words: &'static [AtomicU64],
    guards: [&'static [AtomicU64]; 2],
}

fn target(kind: Kind, cells: usize, permits: u32) -> Target {
    let shape = Shape { kind, cells, members: MEMBERS, permits, nonce: [3, 4] };
    assert!(shape.is_valid());
    let length = table_len(cells, MEMBERS, 4096);
    let layout = Layout::from_size_align(length + 8192, 4096).unwrap();
    // SAFETY: fresh zeroed memory, which lives until the process ends; words are atomics.
    unsafe {
        let base = NonNull::new(alloc_zeroed(layout)).unwrap();
        let words = |at: usize, length: usize| {
            std::slice::from_raw_parts(base.add(at).cast::<AtomicU64>().as_ptr(), length / 8)
        };
        let memory = TableMemory::from_raw(base.add(4096), shape);
        memory.begin();
        Target { memory, words: words(4096, length), guards: [words(0, 4096), words(4096 + length, 4096)] }
    }
}

/// A word that an attacker would choose: small numbers, all bits, a copy of another word, or anything.
fn word(random: &mut Random, words: &[AtomicU64]) -> u64 {
    let any = random.next();
    match any % 5 {
        0 => any >> 59,
        1 => u64::MAX,
        2 => words[(any >> 8) as usize % words.len()].load(Ordering::Relaxed),
        3 => 1 << (any >> 8 & 63),
        _ => any,
    }
}

fn scribble(random: &mut Random, target: &Target) {
    // Most of the words that matter stand at the beginning.
    let any = random.next() as usize;
    let at = if any & 1 == 0 { any >> 1 & 127 } else { any >> 1 };
    let value = word(random, target.words);
    target.words[at % target.words.len()].store(value, Ordering::Relaxed);
}

fn want(random: &mut Random) -> Want {
    let any = random.next();
    match any % 4 {
        0 => Want::Exclusive,
        1 => Want::Shared,
        2 => Want::Permits((any >> 8) as u32 % (MAX_PERMITS + 2)),
        _ => Want::Value((any >> 8) as u32 % 2),
    }
}

/// Does one thing, and ignores what comes of it: any answer is right.
fn act(random: &mut Random, seat: &Seat, cells: usize) {
    let mut wakes = Members::none();
    let any = random.next() as usize;
    let (place, cell) = (any >> 8 & (REQUESTS - 1), any >> 16 & (cells - 1));
    let table = seat.table();
    match any % 12 {
        0 => drop(seat.try_lock(cell)),
        1 => drop(seat.unlock(cell, &mut wakes)),
        2 => drop(seat.give_back(cell, any as u32 >> 20, &mut wakes)),
        3 => drop(seat.ask(place, cell, want(random), any as u64, &mut wakes)),
        4 => drop(seat.insist(place, &mut wakes)),
        5 => drop(seat.accept(place, &mut wakes)),
        6 => drop(seat.cancel(place, &mut wakes)),
        7 => drop(seat.swap_value(any as u32 & 1, &mut wakes)),
        8 => drop(seat.try_count(cell, want(random), &mut wakes)),
        9 => drop(table.reap(any >> 8 & 7, seat.member(), &mut wakes)),
        10 => drop((table.holders(cell), table.waiting().count(), table.members(), table.who(any & 7))),
        _ => drop(Seat::join(*table, any >> 8 & 3, 1, 1, &mut wakes)),
    }
    wakes.iter().for_each(|member| table.ring(member));
}

fn kinds() -> [(Kind, usize, u32); 4] {
    [(Kind::Lock, 1, 0), (Kind::Semaphore, 1, 3), (Kind::Flag, 1, 0), (Kind::Sharded, 8, 0)]
}

#[test]
fn no_word_makes_a_call_panic_or_last() {
    let _dog = Watchdog::new(240);
    for (kind, cells, permits) in kinds() {
        let target = target(kind, cells, permits);
        let mut random = Random(kind as u64);
        let seat = Seat::join(target.memory, 0, 1, 1, &mut Members::none()).unwrap();
        for _ in 0..60_000 {
            scribble(&mut random, &target);
            act(&mut random, &seat, cells);
        }
        let untouched = target.guards.iter().copied().flatten().all(|word| word.load(Ordering::Relaxed) == 0);
        assert!(untouched, "a write left the table of a {kind:?}");
    }
}

#[test]
fn nor_while_it_runs() {
    let _dog = Watchdog::new(240);
    for (kind, cells, permits) in kinds() {
        let (target, over) = (target(kind, cells, permits), AtomicBool::new(false));
        let seat = Seat::join(target.memory, 0, 1, 1, &mut Members::none()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(99);
                while !over.load(Ordering::Relaxed) {
                    scribble(&mut random, &target);
                }
            });
            let mut random = Random(7);
            for _ in 0..20_000 {
                act(&mut random, &seat, cells);
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(target.guards.iter().copied().flatten().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
