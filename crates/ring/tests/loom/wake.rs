//! Loom: no side sleeps while there is work for it (I9). A doorbell is a counter here, as an eventfd is.
//!
//! Each row is a fault that was made on purpose, and the tests that then fail:
//!
//! | fault | tests that fail |
//! | --- | --- |
//! | fence in `Fences::after_commit` left out, or in `announce_sleep` | all in which a subscriber sleeps |
//! | fence in `take_waiting` left out, or in `announce_wait` | both in which the publisher waits |
//! | `sleepers` loaded and stored instead of swapped | `sleepers_behind_different_doorbells…` |
//! | fence in `take_listening` left out, or in `announce_listening` | both in which the publisher listens |
//! | no load of `head` after `announce_sleep` | all in which a subscriber sleeps |
//! | no load of the state after `announce_sleep` | `a_sleeper_is_woken_by_the_end` |

use crate::support::{Everybody, join, topic};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use ringbell_ring::{Consumer, Entry, Overflow, Producer, Read, Sent, SlotState, Start, padded};

const CAPACITY: usize = 128;

fn explore(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(body);
}

/// An eventfd that is never read, watched edge-triggered. Each waiter remembers the count that it has seen. If a waiter
/// is never rung, loom reports a deadlock.
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

    fn wait(&self, seen: &mut u32) {
        let mut count = self.0.0.lock().unwrap();
        while *count == *seen {
            count = self.0.1.wait(count).unwrap();
        }
        *seen = *count;
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

/// Reads `count` messages, and sleeps whenever there are none.
fn receive(mut consumer: Consumer, bell: &Bell, room: Option<&Bell>, count: u64) {
    let mut seen = 0;
    while consumer.received() < count {
        if take(&mut consumer) > 0 {
            if let Some(room) = room
                && consumer.acknowledge()
            {
                room.ring();
            }
        } else if consumer.arm() {
            bell.wait(&mut seen);
        }
    }
}

fn ring(sent: Sent, bell: &Bell) {
    match sent {
        Sent::Committed { ring: 0 } => {}
        Sent::Committed { ring: 1 } => bell.ring(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sleeper_is_woken() {
    explore(4, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let bell = Bell::new();
        let sleeper = thread::spawn({
            let bell = bell.clone();
            move || receive(consumer, &bell, None, 2)
        });
        for _ in 0..2 {
            ring(producer.send(&[1], 0, &mut Everybody), &bell);
        }
        sleeper.join().unwrap();
    });
}

/// Two subscribers behind one doorbell. Both set the bit, and only the publisher clears it.
#[test]
fn all_sleepers_behind_a_doorbell_are_woken() {
    explore(2, || {
        let (memory, mut producer) = topic(CAPACITY, 2, Overflow::Block, 0);
        let bell = Bell::new();
        let sleepers: Vec<_> = (0..2)
            .map(|slot| {
                let consumer = join(&memory, slot, Overflow::Block, Start::Latest).unwrap();
                let bell = bell.clone();
                thread::spawn(move || receive(consumer, &bell, None, 2))
            })
            .collect();
        for _ in 0..2 {
            ring(producer.send(&[1], 0, &mut Everybody), &bell);
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

/// A bit that is set while the publisher takes another one is not lost.
#[test]
fn sleepers_behind_different_doorbells_are_woken() {
    explore(2, || {
        let (memory, mut producer) = topic(CAPACITY, 17, Overflow::Block, 0);
        let bells = [Bell::new(), Bell::new()];
        let sleepers = [(0, 0), (16, 1)].map(|(slot, bell)| {
            let consumer = join(&memory, slot, Overflow::Block, Start::Latest).unwrap();
            let bell: Bell = bells[bell].clone();
            thread::spawn(move || receive(consumer, &bell, None, 2))
        });
        for _ in 0..2 {
            let Sent::Committed { ring } = producer.send(&[1], 0, &mut Everybody) else {
                panic!("there is room")
            };
            for (bit, bell) in bells.iter().enumerate() {
                if ring >> bit & 1 == 1 {
                    bell.ring();
                }
            }
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

/// The publisher sleeps until there is room, the subscriber until there is a message.
#[test]
fn a_publisher_that_waits_for_room_is_woken() {
    explore(3, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let (bell, room) = (Bell::new(), Bell::new());
        let payload = [1; 32];
        let sleeper = thread::spawn({
            let (bell, room) = (bell.clone(), room.clone());
            move || receive(consumer, &bell, Some(&room), 3)
        });
        let mut seen = 0;
        for _ in 0..3 {
            loop {
                match producer.send(&payload, 0, &mut Everybody) {
                    Sent::Full => {
                        if producer.arm(padded(payload.len()), 0) {
                            room.wait(&mut seen);
                        }
                    }
                    sent => break ring(sent, &bell),
                }
            }
        }
        sleeper.join().unwrap();
    });
}

/// A subscriber that leaves makes room, too.
#[test]
fn a_leaving_subscriber_wakes_the_waiting_publisher() {
    explore(3, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let room = Bell::new();
        let payload = [1; 32];
        let leaver = thread::spawn({
            let room = room.clone();
            move || {
                if consumer.leave() {
                    room.ring();
                }
            }
        });
        let mut seen = 0;
        for _ in 0..3 {
            while producer.send(&payload, 0, &mut Everybody) == Sent::Full {
                if producer.arm(padded(payload.len()), 0) {
                    room.wait(&mut seen);
                }
            }
        }
        leaver.join().unwrap();
    });
}

/// A sleeper learns that the topic was closed.
#[test]
fn a_sleeper_is_woken_by_the_end() {
    explore(4, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let bell = Bell::new();
        let sleeper = thread::spawn({
            let bell = bell.clone();
            move || {
                let mut seen = 0;
                while !consumer.ended() {
                    if take(&mut consumer) == 0 && consumer.arm() {
                        bell.wait(&mut seen);
                    }
                }
                assert_eq!(consumer.received(), 1);
            }
        });
        ring(producer.send(&[1], 0, &mut Everybody), &bell);
        if producer.close() != 0 {
            bell.ring();
        }
        sleeper.join().unwrap();
    });
}

/// Listens until as many subscribers are there as `done` wants, and sleeps in between.
fn hear(producer: &mut Producer, bell: &Bell, done: impl Fn(usize) -> bool) {
    let mut seen = 0;
    loop {
        producer.listen();
        let slots = 0..producer.slot_count();
        let active = |slot: &usize| {
            producer.occupant(*slot).is_some_and(|occupant| occupant.state == SlotState::Active)
        };
        if done(slots.filter(active).count()) {
            return;
        }
        bell.wait(&mut seen);
    }
}

/// Two subscribers come at once. Only one of them rings for an announcement.
#[test]
fn a_publisher_that_listens_hears_of_all_that_come() {
    explore(2, || {
        let (memory, mut producer) = topic(CAPACITY, 2, Overflow::Block, 0);
        let bell = Bell::new();
        let joiners: Vec<_> = (0..2)
            .map(|slot| {
                let (bell, data, control) = (bell.clone(), memory.data, memory.control);
                thread::spawn(move || {
                    let (overflow, start, who) = (Overflow::Block, Start::Latest, (slot as u32, 0));
                    let consumer = Consumer::join(data, control, slot, overflow, start, who).unwrap();
                    if consumer.arrived() {
                        bell.ring();
                    }
                    consumer
                })
            })
            .collect();
        hear(&mut producer, &bell, |active| active == 2);
        for joiner in joiners {
            joiner.join().unwrap();
        }
    });
}

#[test]
fn a_publisher_that_listens_hears_of_one_that_leaves() {
    explore(3, || {
        let (memory, mut producer) = topic(CAPACITY, 1, Overflow::Block, 0);
        let mut consumer = join(&memory, 0, Overflow::Block, Start::Latest).unwrap();
        let bell = Bell::new();
        let leaver = thread::spawn({
            let bell = bell.clone();
            move || {
                if consumer.leave() {
                    bell.ring();
                }
            }
        });
        hear(&mut producer, &bell, |active| active == 0);
        leaver.join().unwrap();
    });
}
