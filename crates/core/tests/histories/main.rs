//! Histories of locks, semaphores, flags and sharded mutexes: processes write down what they call and what they are answered,
//! on one clock, while they are killed at random. A checker says whether what they saw can be true.
//!
//! `HISTORY_KILLS` says how many are killed. `npm run soak` asks for many. Every way to do it wrong that a worker knows
//! (`worker::Wrong`) must be found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod checker;
#[path = "../harness/mod.rs"]
mod harness;
mod log;
mod models;
mod worker;

use std::path::Path;
use std::time::Duration;

use checker::{Deed, Event, check};
use harness::{Place, Role, my_role, open};
use log::{ABANDONED, Action, Object, REFUSED, Record, now};
use models::{FlagCall, FlagModel, LockCall, LockModel, SemaphoreCall, SemaphoreModel};
use nix::sys::signal::Signal;
use worker::{PERMITS, Random, SHARDS, THREADS, Things, WRONGS, Wrong, work};

const WORKERS: usize = 4;
/// How many are killed before a history is looked at, and a new one begins.
const ROUND: u64 = 25;

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let [name, process, wrong] = role.split(' ').collect::<Vec<_>>()[..] else { panic!("{role}") };
    let wrong = WRONGS[wrong.parse::<usize>().unwrap()];
    work(&open(&path), path.parent().unwrap(), name, process.parse().unwrap(), wrong);
}

/// What was done to each object.
#[derive(Default)]
struct Histories {
    lock: Vec<Event<LockCall>>,
    semaphore: Vec<Event<SemaphoreCall>>,
    flag: Vec<Event<FlagCall>>,
    shards: [Vec<Event<LockCall>>; SHARDS],
}

/// A death: which process, when it was killed, and when it was dead.
type Death = (u32, u64, u64);

impl Histories {
    fn read(folder: &Path, deaths: &[Death]) -> Histories {
        let mut histories = Histories::default();
        for death in deaths {
            for thread in 0..THREADS {
                log::take(folder, death.0, thread).iter().for_each(|record| histories.add(death, record));
            }
        }
        let Histories { lock, semaphore, flag, shards } = &mut histories;
        for history in [lock].into_iter().chain(shards) {
            add_deaths(history, deaths);
            for at in excused(history) {
                history[at].deed = Deed::Call(LockCall::Refused { excused: true });
            }
        }
        add_deaths(semaphore, deaths);
        for at in excused(semaphore) {
            if let Deed::Call(SemaphoreCall::Refused { excused, .. }) = &mut semaphore[at].deed {
                *excused = true;
            }
        }
        add_deaths(flag, deaths);
        histories
    }

    fn add(&mut self, (process, _, dead): &Death, record: &Record) {
        let Record { action, argument, begun, ended, .. } = *record;
        let result = ended.map(|(_, result)| result);
        let refused = result == Some(REFUSED);
        let (killed, ended) = (ended.is_none(), ended.map_or(*dead, |(ended, _)| ended));
        let process = *process;
        match record.object {
            Object::Lock => {
                let abandoned = result.map(|told| told == ABANDONED);
                let deed = Deed::Call(lock_call(action, argument == 1, abandoned, refused));
                self.lock.push(Event { process, begun, ended, killed, deed });
            }
            Object::Shards => {
                // Of several shards it is only told whether any of them was abandoned.
                let several = argument.count_ones() > 1;
                let told = result.map(|told| told == ABANDONED).filter(|abandoned| !several || !abandoned);
                for (shard, history) in self.shards.iter_mut().enumerate() {
                    if argument >> shard & 1 == 1 {
                        let deed = Deed::Call(lock_call(action, false, told, refused));
                        history.push(Event { process, begun, ended, killed, deed });
                    }
                }
            }
            Object::Semaphore => {
                let deed = Deed::Call(match action {
                    Action::GiveBack => SemaphoreCall::GiveBack { permits: argument },
                    Action::Take if refused => SemaphoreCall::TooLate,
                    _ if refused => SemaphoreCall::Refused { permits: argument, excused: false },
                    _ => SemaphoreCall::Take { permits: argument },
                });
                self.semaphore.push(Event { process, begun, ended, killed, deed });
            }
            Object::Flag => {
                let told = result.map(|told| told == 1);
                let (to, other) = (argument & 1 == 1, argument & 2 == 2);
                if action == Action::Reach && refused {
                    return;
                }
                let deed = Deed::Call(match action {
                    Action::Get => FlagCall::Get { value: told },
                    Action::Swap => FlagCall::Swap { to, before: told },
                    Action::CompareAndSwap => FlagCall::CompareAndSwap { from: to, to: other, done: told },
                    _ => FlagCall::Reached { value: to },
                });
                self.flag.push(Event { process, begun, ended, killed, deed });
            }
        }
    }

    fn calls(&self) -> usize {
        let shards: usize = self.shards.iter().map(Vec::len).sum();
        self.lock.len() + self.semaphore.len() + self.flag.len() + shards
    }

    fn check(&self) -> Result<usize, String> {
        let named =
            |what: &str, checked: Result<usize, String>| checked.map_err(|error| format!("{what}: {error}"));
        let semaphore = SemaphoreModel { permits: PERMITS };
        let mut most = [
            named("the lock", check(&LockModel, &self.lock))?,
            named("the semaphore", check(&semaphore, &self.semaphore))?,
            named("the flag", check(&FlagModel, &self.flag))?,
        ]
        .into_iter()
        .max();
        for (shard, history) in self.shards.iter().enumerate() {
            most = most.max(Some(named(&format!("shard {shard}"), check(&LockModel, history))?));
        }
        Ok(most.unwrap_or_default())
    }

    /// How long it took from the signal that killed the lone holder of the lock until one that waited had it.
    fn hand_overs(&self) -> impl Iterator<Item = u64> + '_ {
        let deaths = self.lock.iter().filter(|event| matches!(event.deed, Deed::Death));
        deaths.filter_map(|death| {
            let own = |what: fn(&LockCall) -> bool| {
                let calls = self.lock.iter().filter(|event| event.process == death.process && !event.killed);
                calls.filter(|event| matches!(&event.deed, Deed::Call(call) if what(call))).count()
            };
            let held = own(|call| matches!(call, LockCall::Take { shared: false, .. }));
            if held == own(|call| matches!(call, LockCall::GiveBack { shared: false })) {
                return None;
            }
            let after = self.lock.iter().filter(|event| {
                !event.killed
                    && event.process != death.process
                    && event.begun < death.begun
                    && event.ended > death.begun
                    && matches!(event.deed, Deed::Call(LockCall::Take { .. }))
            });
            after.map(|event| event.ended - death.begun).min()
        })
    }
}

fn lock_call(action: Action, shared: bool, abandoned: Option<bool>, refused: bool) -> LockCall {
    match action {
        Action::GiveBack => LockCall::GiveBack { shared },
        Action::Take if refused => LockCall::TooLate,
        _ if refused => LockCall::Refused { excused: false },
        _ => LockCall::Take { shared, abandoned },
    }
}

fn add_deaths<C>(history: &mut Vec<Event<C>>, deaths: &[Death]) {
    history.extend(deaths.iter().map(|&(process, begun, ended)| Event {
        process,
        begun,
        ended,
        killed: false,
        deed: Deed::Death,
    }));
}

trait Refusal {
    fn is_refusal(&self) -> bool;
}

impl Refusal for LockCall {
    fn is_refusal(&self) -> bool {
        matches!(self, LockCall::Refused { .. })
    }
}

impl Refusal for SemaphoreCall {
    fn is_refusal(&self) -> bool {
        matches!(self, SemaphoreCall::Refused { .. })
    }
}

/// The refusals while another process or thread was at the object. Those are no promise: who waits is not passed by.
fn excused<C: Refusal>(history: &mut [Event<C>]) -> Vec<usize> {
    history.sort_unstable_by_key(|event| event.begun);
    let mut excused = Vec::new();
    let mut latest = 0;
    for at in 0..history.len() {
        let (begun, ended) = (history[at].begun, history[at].ended);
        let next = history.get(at + 1).is_some_and(|next| next.begun <= ended);
        let refusal = matches!(&history[at].deed, Deed::Call(call) if call.is_refusal());
        if refusal && (next || latest >= begun) {
            excused.push(at);
        }
        latest = latest.max(ended);
    }
    excused
}

#[derive(Default)]
struct Findings {
    calls: usize,
    most: usize,
    hand_overs: Vec<u64>,
}

/// One history: workers, of which so many are killed while they are at work, and then all.
fn round(
    place: &Place,
    name: &str,
    kills: u64,
    random: &mut Random,
    wrong: Wrong,
) -> Result<Histories, String> {
    let bus = place.bus();
    // Also if one dies: what was shared goes on.
    let things = Things::open(&bus, name);
    let mut processes = 0;
    let mut start = || {
        processes += 1;
        let wrong = WRONGS.iter().position(|one| *one == wrong).unwrap();
        let mut role = Role::start(&format!("{name} {processes} {wrong}"), &place.path, &[]);
        assert_eq!(role.heard(), "ready");
        (processes, role)
    };
    let mut workers: Vec<(u32, Role)> = (0..WORKERS).map(|_| start()).collect();
    let mut deaths = Vec::new();
    let mut kill = |(process, mut role): (u32, Role)| {
        let begun = now();
        role.child.kill().unwrap();
        role.child.wait().unwrap();
        deaths.push((process, begun, now()));
        let said = role.rest();
        if said.is_empty() { Ok(()) } else { Err(format!("a worker has failed: {said:?}")) }
    };
    for _ in 0..kills {
        // Any moment will do.
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        let at = random.below(WORKERS as u64) as usize;
        let victim = workers.remove(at);
        if random.below(4) == 0 {
            let other = random.below(workers.len() as u64) as usize;
            workers[other].1.stop();
            kill(victim)?;
            workers[other].1.signal(Signal::SIGCONT);
        } else {
            kill(victim)?;
        }
        workers.push(start());
    }
    workers.into_iter().try_for_each(&mut kill)?;
    // Whatever they had: nothing is lost.
    if wrong == Wrong::Nothing {
        drop(things.lock.try_lock().unwrap().unwrap());
        drop(things.semaphore.try_acquire(PERMITS).unwrap().unwrap());
        drop(things.mutex.with_keys(things.keys, Some(Duration::ZERO)).unwrap());
    }
    Ok(Histories::read(place.path.parent().unwrap(), &deaths))
}

fn kills() -> u64 {
    std::env::var("HISTORY_KILLS").map_or(40, |kills| kills.parse().unwrap())
}

#[test]
fn histories_with_killed_processes_are_linearizable() {
    let kills = kills();
    let place = Place::watched(120 + kills);
    let mut random = Random(now());
    println!("seed {}", random.0);
    let mut found = Findings::default();
    let mut left = kills;
    while left > 0 {
        let now = left.min(ROUND);
        let histories = round(&place, &format!("h{left}"), now, &mut random, Wrong::Nothing).unwrap();
        found.calls += histories.calls();
        found.hand_overs.extend(histories.hand_overs());
        found.most = found.most.max(histories.check().unwrap_or_else(|error| panic!("{error}")));
        left -= now;
    }
    assert!(found.calls > 100 * kills as usize, "{} calls are no history", found.calls);
    let Findings { calls, most, mut hand_overs } = found;
    hand_overs.sort_unstable();
    let at = |percent: usize| hand_overs.get(hand_overs.len() * percent / 100).map_or(0, |span| span / 1000);
    println!(
        "{kills} killed, {calls} calls, at most {most} states at once; {} locks handed over after SIGKILL: p50 {} us, p99 {} us",
        hand_overs.len(),
        at(50),
        at(99)
    );
}

/// Each way to do something wrong is found.
fn is_found(wrong: Wrong, what: &str) {
    let place = Place::watched(120);
    let mut random = Random(now());
    let mut error = None;
    harness::until("it is found", || {
        let histories = round(&place, "wrong", 6, &mut random, wrong).unwrap();
        error = histories.check().err();
        error.is_some()
    });
    let error = error.unwrap();
    assert!(error.starts_with(what), "{error}");
}

#[test]
fn a_lock_that_nobody_gave_is_found() {
    is_found(Wrong::Lock, "the lock");
}

#[test]
fn permits_that_nobody_gave_are_found() {
    is_found(Wrong::Permits, "the semaphore");
}

#[test]
fn a_swap_in_two_steps_is_found() {
    is_found(Wrong::Swap, "the flag");
}

#[test]
fn an_abandonment_that_nobody_tells_of_is_found() {
    is_found(Wrong::Abandoned, "");
}

#[test]
fn a_shard_that_is_never_given_back_is_found() {
    is_found(Wrong::Shard, "shard");
}
