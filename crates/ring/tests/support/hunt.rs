//! The hunt for a lost wake-up (I9): one publisher, and some subscribers behind one doorbell. All of them sleep as
//! often as possible. A doorbell is a counter with a condition variable. If a sleeper has work and is not rung within
//! two minutes, a wake-up was lost.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use ringbell_ring::{Consumer, Overflow, Sent, Start, padded};

use super::{Everybody, join, topic};

const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Default)]
struct Bell(Arc<(Mutex<u64>, Condvar)>);

impl Bell {
    fn ring(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    /// False: it was not rung.
    fn wait(&self, seen: &mut u64) -> bool {
        let count = self.0.0.lock().unwrap();
        let (count, late) = self.0.1.wait_timeout_while(count, PATIENCE, |count| *count == *seen).unwrap();
        *seen = *count;
        !late.timed_out()
    }
}

fn barrier() -> bool {
    membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED)
}

fn membarrier(command: libc::c_int) -> bool {
    // SAFETY: the call takes integers only.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// How often a side slept.
#[derive(Debug)]
pub struct Report {
    pub sleeps: u64,
    pub waits: u64,
}

fn receive(mut consumer: Consumer, bell: &Bell, room: &Bell, rounds: u64) -> u64 {
    let (mut seen, mut sleeps) = (0, 0);
    while consumer.received() < rounds {
        let got = consumer_turn(&mut consumer, room);
        if !got && consumer.arm() {
            sleeps += 1;
            assert!(
                bell.wait(&mut seen) || !consumer.pending(),
                "lost wake-up after {}",
                consumer.received()
            );
        }
    }
    sleeps
}

fn consumer_turn(consumer: &mut Consumer, room: &Bell) -> bool {
    let mut slab = [0; 4096];
    let mut table = [ringbell_ring::Entry::default(); 64];
    let read = consumer.read(&mut slab, 0, &mut table).unwrap();
    if consumer.acknowledge() {
        room.ring();
    }
    matches!(read, ringbell_ring::Read::Messages { .. })
}

/// Sends `rounds` messages, with pauses of varying length between them, to `subscribers` that sleep whenever they can.
pub fn hunt(rounds: u64, subscribers: usize) -> Report {
    let (memory, producer) = topic(4096, subscribers, Overflow::Block, 0);
    let mut producer = if membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) && barrier() {
        producer.with_barriers()
    } else {
        producer
    };
    let (bell, room) = (Bell::default(), Bell::default());
    let sleepers: Vec<_> = (0..subscribers)
        .map(|slot| {
            let consumer = join(&memory, slot, Overflow::Block, Start::Latest).unwrap().with_barrier(barrier);
            let (bell, room) = (bell.clone(), room.clone());
            thread::spawn(move || receive(consumer, &bell, &room, rounds))
        })
        .collect();
    let (mut seen, mut waits) = (0, 0);
    for round in 0..rounds {
        // Bursts fill the ring, so that the publisher sleeps, too. Single messages find all subscribers asleep.
        let payload = [0; 1000];
        let length = if round % 64 < 32 { 1000 } else { 8 };
        loop {
            match producer.send(&payload[..length], round * 1_000_000, &mut Everybody) {
                Sent::Committed { ring: 0 } => break,
                Sent::Committed { .. } => break bell.ring(),
                Sent::Full if producer.arm(padded(length), 0) => {
                    waits += 1;
                    let rang = room.wait(&mut seen);
                    assert!(rang || !producer.has_room(padded(length), 0), "lost wake-up of the publisher");
                }
                Sent::Full => {}
            }
        }
        if round % 64 >= 32 {
            for _ in 0..round * 7919 % 500 {
                std::hint::spin_loop();
            }
        }
    }
    let sleeps = sleepers.into_iter().map(|sleeper| sleeper.join().unwrap()).sum();
    Report { sleeps, waits }
}
