//! Threads that take turns through one table, each as a member of its own or several to a member.
//!
//! They sleep by looking at their bell, so a lost wake-up is a test that never ends: the watchdog ends it.
#![cfg(not(miri))]
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::support::Watchdog;
use ringbell_ring::table::{Kind, Members, Seat, Shape, TableMemory, Want, table_len};

const NONCE: [u64; 2] = [1, 2];

fn shape(kind: Kind, cells: usize, permits: u32) -> Shape {
    Shape { kind, cells, members: 16, permits, nonce: NONCE }
}

/// Memory that is never freed.
fn table(shape: Shape) -> TableMemory {
    let layout = Layout::from_size_align(table_len(shape.cells, shape.members, 4096), 4096).unwrap();
    // SAFETY: fresh memory of the right length, which lives until the process ends.
    let memory = unsafe { TableMemory::from_raw(NonNull::new(alloc_zeroed(layout)).unwrap(), shape) };
    memory.begin();
    memory.check().unwrap();
    memory
}

fn join(memory: TableMemory, member: usize) -> Seat {
    let mut wakes = Members::none();
    let seat = Seat::join(memory, member, 1, 1, &mut wakes).unwrap();
    ring(&memory, &wakes);
    seat
}

fn ring(memory: &TableMemory, wakes: &Members) {
    wakes.iter().for_each(|member| memory.ring(member));
}

/// Waits until the request is granted. It looks again only when its bell has rung: as a thread that sleeps would.
fn wait(seat: &Seat, place: usize, cell: usize, want: Want) -> bool {
    let memory = *seat.table();
    let mut wakes = Members::none();
    seat.ask(place, cell, want, seat.ticket(), &mut wakes).unwrap();
    ring(&memory, &wakes);
    let mut bell = memory.bell(seat.member());
    while !seat.is_granted(place) {
        let mut wakes = Members::none();
        seat.insist(place, &mut wakes).unwrap();
        ring(&memory, &wakes);
        if seat.is_granted(place) {
            break;
        }
        while memory.bell(seat.member()) == bell {
            std::thread::yield_now();
        }
        bell = memory.bell(seat.member());
    }
    let mut wakes = Members::none();
    let taken = seat.accept(place, &mut wakes).unwrap();
    ring(&memory, &wakes);
    taken.abandoned
}

#[test]
fn an_exclusive_lock_is_held_by_one_at_a_time() {
    let _dog = Watchdog::new(120);
    let memory = table(shape(Kind::Lock, 1, 0));
    let (inside, turns) = (AtomicI64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for member in 0..6 {
            let (inside, turns) = (&inside, &turns);
            scope.spawn(move || {
                // Two threads share a member.
                let seat = join(memory, member);
                std::thread::scope(|both| {
                    for place in 0..2 {
                        both.spawn(move || {
                            for turn in 0..3000 {
                                let shared = turn % 7 == 0;
                                if shared {
                                    wait(&seat, place, 0, Want::Shared);
                                    assert!(inside.fetch_add(1, Ordering::Relaxed) >= 0);
                                    inside.fetch_sub(1, Ordering::Relaxed);
                                } else {
                                    if seat.try_lock(0).is_none() {
                                        wait(&seat, place, 0, Want::Exclusive);
                                    }
                                    assert_eq!(inside.fetch_sub(1000, Ordering::Relaxed), 0);
                                    inside.fetch_add(1000, Ordering::Relaxed);
                                }
                                turns.fetch_add(1, Ordering::Relaxed);
                                let mut wakes = Members::none();
                                match shared {
                                    true => seat.give_back(0, 1, &mut wakes).unwrap(),
                                    false => seat.unlock(0, &mut wakes).unwrap(),
                                }
                                ring(&memory, &wakes);
                            }
                        });
                    }
                });
            });
        }
    });
    assert_eq!(turns.load(Ordering::Relaxed), 6 * 2 * 3000);
    assert_eq!(memory.holders(0), (None, 0));
    assert_eq!(memory.waiting().count(), 0);
}

#[test]
fn no_permit_is_lost_and_none_is_given_twice() {
    let _dog = Watchdog::new(120);
    let memory = table(shape(Kind::Semaphore, 1, 5));
    let taken = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for member in 0..8u32 {
            let taken = &taken;
            scope.spawn(move || {
                let seat = join(memory, member as usize);
                for turn in 0..4000u32 {
                    let count = (turn + member) % 5 + 1;
                    let mut wakes = Members::none();
                    let quick = seat.try_count(0, Want::Permits(count), &mut wakes).unwrap().is_some();
                    ring(&memory, &wakes);
                    if !quick {
                        wait(&seat, 3, 0, Want::Permits(count));
                    }
                    assert!(taken.fetch_add(count.into(), Ordering::Relaxed) + i64::from(count) <= 5);
                    taken.fetch_sub(count.into(), Ordering::Relaxed);
                    let mut wakes = Members::none();
                    seat.give_back(0, count, &mut wakes).unwrap();
                    ring(&memory, &wakes);
                }
            });
        }
    });
    assert_eq!(memory.holders(0), (None, 0));
}

#[test]
fn requests_are_granted_in_the_order_of_their_tickets() {
    let memory = table(shape(Kind::Semaphore, 1, 2));
    let (one, other) = (join(memory, 0), join(memory, 1));
    let mut wakes = Members::none();
    assert!(one.try_count(0, Want::Permits(1), &mut wakes).unwrap().is_some());
    other.ask(0, 0, Want::Permits(2), other.ticket(), &mut wakes).unwrap();
    one.ask(0, 0, Want::Permits(1), one.ticket(), &mut wakes).unwrap();
    assert!(!other.is_granted(0) && !one.is_granted(0), "the second one does not pass the first one");
    assert!(one.try_count(0, Want::Permits(1), &mut wakes).unwrap().is_none(), "nor does anybody else");
    one.give_back(0, 1, &mut wakes).unwrap();
    assert!(other.is_granted(0) && !one.is_granted(0) && wakes.contains(1));
    other.accept(0, &mut wakes).unwrap();
    assert!(!one.is_granted(0));
    other.give_back(0, 2, &mut wakes).unwrap();
    assert!(one.is_granted(0));
    assert!(!one.cancel(0, &mut wakes).unwrap(), "it was granted");
}

#[test]
fn a_waiter_wakes_up_when_the_value_is_the_one_it_waits_for() {
    let memory = table(shape(Kind::Flag, 1, 0));
    let (one, other) = (join(memory, 0), join(memory, 1));
    let mut wakes = Members::none();
    one.ask(2, 0, Want::Value(1), 0, &mut wakes).unwrap();
    assert!(!one.is_granted(2));
    assert_eq!(other.swap_value(7, &mut wakes).unwrap(), 0);
    assert!(!one.is_granted(2) && wakes.is_empty());
    assert_eq!(other.compare_and_swap_value(7, 1, &mut wakes).unwrap(), 7);
    assert!(one.is_granted(2) && wakes.contains(0));
    one.accept(2, &mut wakes).unwrap();
    one.ask(2, 0, Want::Value(1), 0, &mut wakes).unwrap();
    assert!(one.is_granted(2), "it is the value already");
}

#[test]
fn a_place_that_was_left_with_a_hold_gives_it_back_to_the_next_one() {
    let memory = table(shape(Kind::Lock, 1, 0));
    let (one, other) = (join(memory, 0), join(memory, 1));
    assert!(one.try_lock(0).is_some());
    // A guard that was forgotten.
    one.leave();
    assert!(other.try_lock(0).is_none());
    let again = join(memory, 0);
    assert!(again.table().members().contains(0));
    assert!(other.try_lock(0).unwrap().abandoned);
}

#[test]
fn those_that_share_a_lock_are_told_that_it_was_abandoned() {
    let memory = table(shape(Kind::Lock, 1, 0));
    let (dead, one, other) = (join(memory, 0), join(memory, 1), join(memory, 2));
    let mut wakes = Members::none();
    dead.try_lock(0).unwrap();
    one.ask(0, 0, Want::Shared, one.ticket(), &mut wakes).unwrap();
    memory.reap(0, 1, &mut wakes).unwrap();
    assert!(one.is_granted(0) && one.accept(0, &mut wakes).unwrap().abandoned);
    assert!(other.try_count(0, Want::Shared, &mut wakes).unwrap().unwrap().abandoned);
    one.give_back(0, 1, &mut wakes).unwrap();
    other.give_back(0, 1, &mut wakes).unwrap();
    assert!(one.try_lock(0).unwrap().abandoned, "who has it alone is told, too");
    one.unlock(0, &mut wakes).unwrap();
    assert!(!other.try_count(0, Want::Shared, &mut wakes).unwrap().unwrap().abandoned, "nobody after that");
}
