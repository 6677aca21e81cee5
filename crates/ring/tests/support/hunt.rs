//! The hunt for a lost wake-up (I9): one publisher, and some subscribers behind one doorbell. All of them sleep as
//! often as possible. A doorbell is a counter. After each burst the publisher sends nothing until all subscribers have
//! read it: the next message would wake a sleeper whose own wake-up was lost. If a sleeper has work and is not rung
//! within two minutes, a wake-up was lost.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release, SeqCst},
};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringbell_ring::{Consumer, Overflow, Sent, Start, padded};

use super::{Everybody, join, topic};

const PATIENCE: Duration = Duration::from_secs(120);

/// A wait looks so often before it sleeps in the kernel. Most rounds need no kernel, so the hunt is quick, and no context
/// switch hides a missing fence.
const LOOKS: u32 = 100;

#[derive(Default)]
struct Count {
    rung: AtomicU64,
    asleep: AtomicU64,
    lock: Mutex<()>,
    woken: Condvar,
}

#[derive(Clone, Default)]
struct Bell(Arc<Count>);

impl Bell {
    fn ring(&self) {
        self.0.rung.fetch_add(1, SeqCst);
        if self.0.asleep.load(SeqCst) > 0 {
            drop(self.0.lock.lock().unwrap());
            self.0.woken.notify_all();
        }
    }

    /// False: it was not rung.
    fn wait(&self, seen: &mut u64) -> bool {
        let count = &self.0;
        let was_rung = |seen: &mut u64| {
            let now = count.rung.load(SeqCst);
            std::mem::replace(seen, now) != now
        };
        for _ in 0..LOOKS {
            if was_rung(seen) {
                return true;
            }
            thread::yield_now();
        }
        let guard = count.lock.lock().unwrap();
        count.asleep.fetch_add(1, SeqCst);
        let (_guard, late) = count.woken.wait_timeout_while(guard, PATIENCE, |()| !was_rung(seen)).unwrap();
        count.asleep.fetch_sub(1, SeqCst);
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

fn receive(mut consumer: Consumer, bell: &Bell, room: &Bell, read: &AtomicU64, rounds: u64) -> u64 {
    let (mut seen, mut sleeps, mut looks) = (0, 0, 0);
    while consumer.received() < rounds {
        let got = consumer_turn(&mut consumer, room);
        read.store(consumer.received(), Release);
        if got {
            // A publisher leaves out its fences only if its readers stay awake for a while.
            looks = consumer.received() * 7919 % 100;
        } else if looks > 0 {
            looks -= 1;
        } else if consumer.arm() {
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

/// Until every subscriber has read `sent` messages.
fn settle(read: &[Arc<AtomicU64>], sent: u64) {
    let mut looks = 0_u64;
    let begin = Instant::now();
    while read.iter().any(|read| read.load(Acquire) < sent) {
        looks += 1;
        if looks.is_multiple_of(100) {
            assert!(begin.elapsed() < PATIENCE, "lost wake-up: nobody reads on after {sent} messages");
            thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
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
    let read: Vec<_> = (0..subscribers).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let sleepers: Vec<_> = (0..subscribers)
        .map(|slot| {
            let read = read[slot].clone();
            let consumer = join(&memory, slot, Overflow::Block, Start::Latest).unwrap().with_barrier(barrier);
            let (bell, room) = (bell.clone(), room.clone());
            thread::spawn(move || receive(consumer, &bell, &room, &read, rounds))
        })
        .collect();
    let (mut seen, mut waits) = (0, 0);
    let mut burst = 0;
    for round in 0..rounds {
        // Long messages fill the ring, so that the publisher sleeps, too.
        let payload = [0; 1000];
        let length = if round % 64 < 8 { 1000 } else { 8 };
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
        // Bursts of varying length, with and without pauses: some end while a publisher without fences meets a
        // subscriber that falls asleep.
        let pauses = if burst % 16 == 0 { round * 7919 % 60 } else { 0 };
        for _ in 0..pauses {
            std::hint::spin_loop();
        }
        if burst == 0 {
            settle(&read, round + 1);
            burst = round * 31 % 100;
        } else {
            burst -= 1;
        }
    }
    let sleeps = sleepers.into_iter().map(|sleeper| sleeper.join().unwrap()).sum();
    Report { sleeps, waits }
}
