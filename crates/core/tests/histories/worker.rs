//! A process that takes turns with others at a lock, a semaphore, a flag and a sharded mutex, and writes down what it does.

use std::path::Path;
use std::time::{Duration, Instant};

use ringbell::bus::Bus;
use ringbell::sync::{AtomicFlag, Guard, Lock, Semaphore, ShardedMutex};
use ringbell::{Error, Result};

use crate::harness::say;
use crate::log::{ABANDONED, Action, Log, Object, REFUSED, TAKEN};

pub const THREADS: usize = 2;
pub const PERMITS: u32 = 3;
pub const SHARDS: usize = 4;
/// How long a worker waits for its turn, if it has much patience. Nothing that dies may make it wait so long.
const TURN: Duration = Duration::from_secs(60);

/// What all workers share.
pub struct Things {
    pub lock: Lock,
    pub semaphore: Semaphore,
    pub flag: AtomicFlag,
    pub mutex: ShardedMutex,
    /// A key of each shard.
    pub keys: [[u8; 1]; SHARDS],
}

impl Things {
    pub fn open(bus: &Bus, name: &str) -> Things {
        let mutex = bus.sharded_mutex(name, SHARDS).unwrap();
        let mut keys = [[0; 1]; SHARDS];
        (0..=255).for_each(|byte| keys[mutex.shard_of(&[byte])] = [byte]);
        Things {
            lock: bus.lock(name).unwrap(),
            semaphore: bus.semaphore(name, PERMITS).unwrap(),
            flag: bus.flag(name).unwrap(),
            mutex,
            keys,
        }
    }
}

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a worker does wrong, to show that the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    /// It goes in although it has no lock.
    Lock,
    /// It uses more permits than it has.
    Permits,
    /// Its swap is a look and a store.
    Swap,
    /// It says nothing of holders that died.
    Abandoned,
    /// It forgets to give back a shard.
    Shard,
}

pub const WRONGS: [Wrong; 6] =
    [Wrong::Nothing, Wrong::Lock, Wrong::Permits, Wrong::Swap, Wrong::Abandoned, Wrong::Shard];

pub fn work(bus: &Bus, folder: &Path, name: &str, process: u32, wrong: Wrong) {
    std::panic::set_hook(Box::new(|panic| say(&panic.to_string().replace('\n', " "))));
    let things = Things::open(bus, name);
    let logs: Vec<Log> = (0..THREADS).map(|thread| Log::create(folder, process, thread)).collect();
    say("ready");
    std::thread::scope(|scope| {
        for (thread, log) in logs.into_iter().enumerate() {
            let things = &things;
            let random = Random(u64::from(process) << 8 | thread as u64);
            scope.spawn(move || Worker { things, log, random, wrong }.live());
        }
    });
}

struct Worker<'a> {
    things: &'a Things,
    log: Log,
    random: Random,
    wrong: Wrong,
}

impl Worker<'_> {
    fn live(mut self) {
        for _ in 0..50 {
            self.random.below(1);
        }
        while self.log.has_room_for(2) {
            match self.random.below(16) {
                0..=5 => self.at_lock(),
                6..=8 => self.at_semaphore(),
                9..=12 => self.at_flag(),
                _ => self.at_shards(),
            }
        }
        loop {
            std::thread::park();
        }
    }

    fn at_lock(&mut self) {
        let (things, shared) = (self.things, self.random.below(4) == 0);
        let what = (Object::Lock, u32::from(shared));
        let lies = self.wrong == Wrong::Lock && !shared && self.random.below(20) == 0;
        let held = if lies {
            self.log.note((Object::Lock, Action::Take, 0), || (TAKEN, None))
        } else if self.random.below(4) == 0 {
            let attempt = || if shared { things.lock.try_lock_shared() } else { things.lock.try_lock() };
            let Some(guard) = self.tried(what, attempt) else { return };
            Some(guard)
        } else {
            let take = |time| match shared {
                true => things.lock.lock_shared_timeout(time),
                false => things.lock.lock_timeout(time),
            };
            let Some(guard) = self.taken(what, Guard::abandoned, take) else { return };
            Some(guard)
        };
        self.pause();
        self.log.note((Object::Lock, Action::GiveBack, what.1), || (0, drop(held)));
    }

    fn at_semaphore(&mut self) {
        let (things, permits) = (self.things, self.random.below(PERMITS.into()) as u32 + 1);
        let what = (Object::Semaphore, permits);
        let taken = if self.wrong == Wrong::Permits { 1 } else { permits };
        let guard = if self.random.below(4) == 0 {
            self.tried(what, || things.semaphore.try_acquire(taken))
        } else {
            self.taken(what, |_| false, |time| things.semaphore.acquire_timeout(taken, time))
        };
        let Some(guard) = guard else { return };
        self.pause();
        self.log.note((Object::Semaphore, Action::GiveBack, permits), || (0, drop(guard)));
    }

    fn at_flag(&mut self) {
        let (flag, value) = (&self.things.flag, self.random.below(2) == 1);
        let other = self.random.below(2) == 1;
        let argument = u32::from(value) | u32::from(other) << 1;
        match self.random.below(4) {
            0 => self.log.note((Object::Flag, Action::Get, 0), || (flag.get().unwrap().into(), ())),
            1 if self.wrong == Wrong::Swap => {
                self.log.note((Object::Flag, Action::Swap, value.into()), || {
                    let before = flag.get().unwrap();
                    std::thread::yield_now();
                    flag.swap(value).unwrap();
                    (before.into(), ())
                });
            }
            1 => {
                let swap = || (flag.swap(value).unwrap().into(), ());
                self.log.note((Object::Flag, Action::Swap, value.into()), swap);
            }
            2 => {
                let swap = || (flag.compare_and_swap(value, other).unwrap().into(), ());
                self.log.note((Object::Flag, Action::CompareAndSwap, argument), swap);
            }
            _ => {
                // Nobody promises that it comes, so nobody waits for long.
                let time = Duration::from_micros(self.random.below(300));
                self.log.note((Object::Flag, Action::Reach, value.into()), || {
                    let reached = in_time(time, || flag.wait_for(value, Some(time)));
                    (if reached.is_some() { TAKEN } else { REFUSED }, ())
                });
            }
        }
    }

    fn at_shards(&mut self) {
        let (things, first) = (self.things, self.random.below(SHARDS as u64) as usize);
        if self.random.below(3) == 0 {
            let what = (Object::Shards, 1 << first);
            let Some(guard) = self.tried(what, || things.mutex.try_lock(&things.keys[first])) else { return };
            self.pause();
            self.log.note((Object::Shards, Action::GiveBack, what.1), || (0, drop(guard)));
            return;
        }
        let second = self.random.below(SHARDS as u64) as usize;
        let what = (Object::Shards, 1 << first | 1 << second);
        let keys = [things.keys[first], things.keys[second]];
        let take = |time| things.mutex.with_keys(keys, Some(time));
        let Some(guard) = self.taken(what, |guard| guard.abandoned(), take) else { return };
        self.pause();
        let forgets = self.wrong == Wrong::Shard && self.random.below(200) == 0;
        let give_back = || if forgets { std::mem::forget(guard) } else { drop(guard) };
        self.log.note((Object::Shards, Action::GiveBack, what.1), || (0, give_back()));
    }

    fn tried<'g>(
        &mut self,
        (object, argument): (Object, u32),
        attempt: impl FnOnce() -> Result<Option<Guard<'g>>>,
    ) -> Option<Guard<'g>> {
        let silent = self.wrong == Wrong::Abandoned;
        self.log.note((object, Action::Try, argument), || {
            let guard = attempt().unwrap();
            (guard.as_ref().map_or(REFUSED, |guard| told(guard.abandoned() && !silent)), guard)
        })
    }

    /// `None`: its patience was over, which may only be if it had little.
    fn taken<T>(
        &mut self,
        (object, argument): (Object, u32),
        abandoned: impl FnOnce(&T) -> bool,
        take: impl FnOnce(Duration) -> Result<T>,
    ) -> Option<T> {
        let soon = Duration::from_micros(self.random.below(1500));
        let time = if self.random.below(5) == 0 { soon } else { TURN };
        let silent = self.wrong == Wrong::Abandoned;
        self.log.note((object, Action::Take, argument), || {
            let taken = in_time(time, || take(time));
            (taken.as_ref().map_or(REFUSED, |taken| told(abandoned(taken) && !silent)), taken)
        })
    }

    fn pause(&mut self) {
        match self.random.below(8) {
            0 => std::thread::yield_now(),
            1 => (0..self.random.below(3000)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}

fn told(abandoned: bool) -> u64 {
    if abandoned { ABANDONED } else { TAKEN }
}

/// `None`: it was too late. It must not be so before the time, nor at all where the time is long.
fn in_time<T>(time: Duration, act: impl FnOnce() -> Result<T>) -> Option<T> {
    let begun = Instant::now();
    match act() {
        Ok(value) => Some(value),
        Err(Error::Timeout { .. }) => {
            assert!(begun.elapsed() >= time, "it had more time");
            assert!(time < TURN, "it was stuck");
            None
        }
        Err(error) => panic!("{error}"),
    }
}
