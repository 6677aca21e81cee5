//! Loom: a guest joins, sleeps and makes room in a control segment of its own (I3, I9). A word that the guest does not
//! see decides whether the segment counts.
//!
//! Each row is a fault that was made on purpose, and the test that then fails:
//!
//! | fault | test that fails |
//! | --- | --- |
//! | the bit of a guest slot is set after its guest has joined | `nothing_is_overwritten…` |
//! | fence in `Producer::slowest` or `Consumer::join` left out | `nothing_is_overwritten…` |
//! | fence in `announce_sleep` left out; `note_sleepers` before the fence | `a_guest_that_sleeps…` |
//! | `set_waiting` after `announce_wait` | `a_publisher_is_told…` |
//! | fence in `dismiss` left out | `who_dismisses…` |

use crate::support::{Everybody, admit, committed, topic_for_guests};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use ringbell_ring::{BATCH_OVERHEAD, Consumer, Entry, Overflow, Read, Sent, Start, padded};

const CAPACITY: usize = 128;

fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(body);
}

/// The bytes that wait in a socket. They are counted, and the side that waits takes them.
#[derive(Clone)]
struct Bell(Arc<(Mutex<u32>, Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(0), Condvar::new())))
    }

    fn ring(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    /// What a guest does before it announces that it sleeps.
    fn drain(&self) {
        *self.0.0.lock().unwrap() = 0;
    }

    fn wait(&self) {
        let mut count = self.0.0.lock().unwrap();
        while *count == 0 {
            count = self.0.1.wait(count).unwrap();
        }
        *count = 0;
    }
}

fn take(consumer: &mut Consumer) -> u64 {
    let mut slab = [0; CAPACITY];
    let mut table = [Entry::default(); 4];
    match consumer.read(&mut slab, 0, &mut table).unwrap() {
        Read::Messages { count, .. } => count as u64,
        _ => 0,
    }
}

/// I3. The bit of the guest slot is one more word that the publisher must see.
#[test]
fn nothing_is_overwritten_that_a_guest_has_still_to_read() {
    explore(3, || {
        let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 1, Overflow::Block, 0);
        let payload = [0; 32];
        assert_eq!(BATCH_OVERHEAD + padded(payload.len()), CAPACITY / 2);
        assert!(committed(producer.send(&payload, 0, &mut Everybody)));
        let guest = thread::spawn(move || {
            let guest_slot = (0, &guest_slots[0]);
            let mut consumer = admit(&memory, guest_slot, &admitted, Overflow::Block, Start::Latest).unwrap();
            // Nothing is acknowledged, so everything that the publisher sends from now on must stay.
            let mut table = [Entry::default(); 4];
            let read = consumer.read(&mut [0; CAPACITY], 0, &mut table).expect("an honest publisher");
            assert!(matches!(read, Read::Empty | Read::Messages { .. }));
            assert_eq!(consumer.missed(), 0);
            admitted.contains(0)
        });
        for _ in 0..2 {
            let _ = producer.send(&payload, 0, &mut Everybody);
        }
        assert!(guest.join().unwrap(), "an honest guest was dismissed");
    });
}

#[test]
fn a_guest_that_sleeps_is_woken() {
    explore(3, || {
        let (memory, guest_slots, admitted, mut producer) = topic_for_guests(CAPACITY, 1, Overflow::Block, 0);
        let mut guest =
            admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
        let bell = Bell::new();
        let sleeper = thread::spawn({
            let bell = bell.clone();
            move || {
                while guest.received() < 2 {
                    if take(&mut guest) == 0 {
                        bell.drain();
                        if guest.arm() {
                            bell.wait();
                        }
                    }
                }
            }
        });
        for _ in 0..2 {
            assert_eq!(producer.send(&[1], 0, &mut Everybody), Sent::Committed { ring: 0 });
            if producer.take_guest_bells() != 0 {
                bell.ring();
            }
        }
        sleeper.join().unwrap();
    });
}

/// Waits for room, asleep, until `count` messages are in.
fn send_all(
    mut producer: ringbell_ring::Producer,
    count: u64,
    waiting: &AtomicBool,
    room: &Bell,
    bell: &Bell,
) {
    let payload = [1; 32];
    for _ in 0..count {
        while producer.send(&payload, 0, &mut Everybody) == Sent::Full {
            waiting.store(true, Ordering::SeqCst);
            if producer.arm(padded(payload.len()), 0) {
                room.wait();
            }
        }
        if producer.take_guest_bells() != 0 {
            bell.ring();
        }
    }
}

/// A guest makes room and rings over its socket. The bus thread then rings the publisher only if it waits.
#[test]
fn a_publisher_is_told_of_the_room_that_a_guest_makes() {
    explore(2, || {
        let (memory, guest_slots, admitted, producer) = topic_for_guests(CAPACITY, 1, Overflow::Block, 0);
        let mut guest =
            admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
        let (bell, room) = (Bell::new(), Bell::new());
        let waiting = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let (bell, room, waiting) = (bell.clone(), room.clone(), waiting.clone());
            move || {
                while guest.received() < 3 {
                    if take(&mut guest) > 0 {
                        if guest.acknowledge() && waiting.swap(false, Ordering::SeqCst) {
                            room.ring();
                        }
                        continue;
                    }
                    bell.drain();
                    if guest.arm() {
                        bell.wait();
                    }
                }
            }
        });
        send_all(producer, 3, &waiting, &room, &bell);
        reader.join().unwrap();
    });
}

/// A guest has gone: its bit is cleared, and then the publisher is rung if it waits.
#[test]
fn dismissing_a_guest_wakes_the_waiting_publisher() {
    explore(3, || {
        let (memory, guest_slots, admitted, producer) = topic_for_guests(CAPACITY, 1, Overflow::Block, 0);
        let _gone = admit(&memory, (0, &guest_slots[0]), &admitted, Overflow::Block, Start::Latest).unwrap();
        let room = Bell::new();
        let waiting = Arc::new(AtomicBool::new(false));
        let server = thread::spawn({
            let (room, waiting) = (room.clone(), waiting.clone());
            move || {
                assert!(admitted.dismiss(0));
                if waiting.swap(false, Ordering::Relaxed) {
                    room.ring();
                }
            }
        });
        let payload = [1; 32];
        let mut producer = producer;
        for _ in 0..3 {
            while producer.send(&payload, 0, &mut Everybody) == Sent::Full {
                waiting.store(true, Ordering::Relaxed);
                if producer.arm(padded(payload.len()), 0) {
                    room.wait();
                }
            }
        }
        server.join().unwrap();
    });
}
