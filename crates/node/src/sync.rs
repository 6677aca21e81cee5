//! Locks, semaphores, flags and sharded mutexes for JS: what is open, what was taken, and the answers that come later.
//!
//! One object serves a bus, with one descriptor in the poll loop. What is open and what was taken have numbers. Invariant:
//! a number of something taken is never used again, so a late `release` finds nothing. Leaving gives everything back; the
//! end of the environment does so too, and the next holder is told that it was abandoned. What is taken without rivals is
//! taken by hot functions, which make no promise and no object.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use napi::Env;
use napi::bindgen_prelude::{Either, Uint8Array, Unknown};
use napi_derive::napi;
use ringbell::bus::Bus;
use ringbell::sync::{Answer, Hold, Mode, Opened, Opening, Outcome, Requests, Settled};
use serde_json::json;

use crate::buffer::{Table, unknown};
use crate::errors::{Failure, Result, cold};
use crate::held::Held;
use crate::json;
use crate::lifecycle::{self, Closable};
use crate::poll_loop::Pollable;
use crate::raw::{Call, HotObject};

/// Words of the scratch array: token, kind and value of an answer.
const SCRATCH: usize = 3;
/// The kinds of answers.
const FAILED: f64 = 0.0;
const HELD: f64 = 1.0;
const REACHED: f64 = 2.0;
const OPENED: f64 = 3.0;
/// What `tryTake` returns if it was not taken, and `take` for a flag that has the value.
const NOTHING: f64 = 0.0;

/// How many bits of a hold's number are its place; the bits above count the uses of that place.
const PLACE_BITS: u32 = 20;
/// A number, doubled, must be a safe integer of JS.
const MOST_USES: u64 = 1 << 32;

/// Everything that was taken, by number.
#[derive(Default)]
struct Holds {
    places: Vec<Place>,
    free: Vec<usize>,
}

struct Place {
    uses: u64,
    hold: Option<(u32, Hold)>,
}

impl Holds {
    /// Keeps it. Returns its code: its number, doubled, plus 1 if it was abandoned.
    fn put(&mut self, member: u32, hold: Hold) -> Result<f64> {
        let abandoned = u64::from(hold.abandoned());
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() >> PLACE_BITS == 0 => {
                self.places.push(Place { uses: 0, hold: None });
                self.places.len() - 1
            }
            None => return Err(Failure::argument("too much is held")),
        };
        let place = &mut self.places[index];
        place.uses += 1;
        place.hold = Some((member, hold));
        Ok((((place.uses << PLACE_BITS | index as u64) << 1) | abandoned) as f64)
    }

    /// Gives it back, if it was not given back before.
    fn release(&mut self, code: u64) {
        let number = code >> 1;
        let index = (number & ((1 << PLACE_BITS) - 1)) as usize;
        if let Some(place) = self.places.get_mut(index)
            && place.uses == number >> PLACE_BITS
            && place.hold.take().is_some()
        {
            self.free(index);
        }
    }

    /// A place that was used too often is not used again: its next number would not be an exact one.
    fn free(&mut self, index: usize) {
        if self.places[index].uses + 1 < MOST_USES {
            self.free.push(index);
        }
    }

    /// Gives back what was taken through this member.
    fn release_all(&mut self, member: u32) {
        for index in 0..self.places.len() {
            let hold = &mut self.places[index].hold;
            if hold.as_ref().is_some_and(|(owner, _)| *owner == member) {
                *hold = None;
                self.free(index);
            }
        }
    }
}

struct Core {
    bus: Bus,
    requests: Requests,
    /// What is open. A number is used again.
    members: Vec<Option<Opened>>,
    holds: Holds,
    /// The member of each request that waits.
    waiting: HashMap<u64, u32>,
    answers: VecDeque<Settled>,
    /// The error of the answer that `next` told last.
    failure: Option<Failure>,
}

impl Core {
    fn new(bus: Bus) -> Result<Core> {
        Ok(Core {
            bus,
            requests: Requests::new()?,
            members: Vec::new(),
            holds: Holds::default(),
            waiting: HashMap::new(),
            answers: VecDeque::new(),
            failure: None,
        })
    }

    fn take(&mut self, member: u32, amount: u32) -> Result<f64> {
        let outcome = match find(&self.members, member)? {
            Opened::Lock(lock) => self.requests.lock(lock, mode(amount)),
            Opened::Semaphore(semaphore) => self.requests.acquire(semaphore, amount),
            Opened::Flag(flag) => self.requests.wait_for(flag, amount != 0),
            _ => return Err(Failure::argument("a mutex is taken by keys")),
        };
        self.told(member, outcome?)
    }

    fn try_take(&mut self, member: u32, amount: u32) -> Result<f64> {
        let hold = match find(&self.members, member)? {
            Opened::Lock(lock) => self.requests.try_lock(lock, mode(amount)),
            Opened::Semaphore(semaphore) => self.requests.try_acquire(semaphore, amount),
            _ => return Err(Failure::argument("only a lock and a semaphore can be tried")),
        };
        hold?.map_or(Ok(NOTHING), |hold| self.holds.put(member, hold))
    }

    fn take_keys(&mut self, member: u32, keys: &[Vec<u8>]) -> Result<f64> {
        let Opened::ShardedMutex(mutex) = find(&self.members, member)? else {
            return Err(Failure::argument("only a mutex is taken by keys"));
        };
        let outcome = self.requests.with_keys(mutex, keys)?;
        self.told(member, outcome)
    }

    /// The code of what was taken; negative: the token under which the answer comes.
    fn told(&mut self, member: u32, outcome: Outcome) -> Result<f64> {
        match outcome {
            Outcome::Now(Answer::Held(hold)) => self.holds.put(member, hold),
            Outcome::Now(_) => Ok(NOTHING),
            Outcome::Later(token) => {
                self.waiting.insert(token, member);
                Ok(-(token as f64))
            }
        }
    }

    fn cancel(&mut self, token: u64) -> bool {
        // If it has its answer already, nobody wants that any more.
        self.waiting.remove(&token);
        self.requests.cancel(token)
    }

    /// Token, kind and value of the next answer.
    fn next(&mut self) -> Result<Option<[f64; SCRATCH]>> {
        if self.answers.is_empty() {
            self.answers.extend(self.requests.take());
        }
        let Some(Settled { token, result }) = self.answers.pop_front() else { return Ok(None) };
        let member = self.waiting.remove(&token);
        let (kind, value) = match (result, member) {
            (Ok(Answer::Opened(opened)), _) => (OPENED, f64::from(self.keep(opened)?)),
            (Ok(Answer::Held(hold)), Some(member)) => (HELD, self.holds.put(member, hold)?),
            // The request was cancelled, or its member closed, after this was put.
            (Ok(Answer::Held(hold)), None) => {
                hold.pass_on();
                (REACHED, NOTHING)
            }
            (Err(error), _) => {
                self.failure = Some(error.into());
                (FAILED, NOTHING)
            }
            (Ok(_), _) => (REACHED, NOTHING),
        };
        Ok(Some([token as f64, kind, value]))
    }

    fn keep(&mut self, opened: Opened) -> Result<u32> {
        let free = self.members.iter().position(Option::is_none).unwrap_or(self.members.len());
        let number = u32::try_from(free).map_err(|_| Failure::argument("too much is open"))?;
        if free == self.members.len() {
            self.members.push(None);
        }
        self.members[free] = Some(opened);
        Ok(number)
    }

    /// Gives back what was taken through this member, withdraws its requests, and leaves.
    fn leave(&mut self, member: u32) {
        let tokens: Vec<u64> = self.waiting.iter().filter(|one| *one.1 == member).map(|one| *one.0).collect();
        for token in tokens {
            self.requests.cancel(token);
            self.waiting.remove(&token);
        }
        self.holds.release_all(member);
        if let Some(place) = self.members.get_mut(member as usize) {
            *place = None;
        }
    }
}

fn find(members: &[Option<Opened>], member: u32) -> Result<&Opened> {
    members
        .get(member as usize)
        .and_then(Option::as_ref)
        .ok_or_else(|| Failure::closed("lock, semaphore, flag or mutex"))
}

fn mode(amount: u32) -> Mode {
    if amount == 0 { Mode::Exclusive } else { Mode::Shared }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

/// The state that the class and its hot functions share.
pub struct Cell {
    core: Held<Core>,
    scratch: Table<f64>,
}

impl Closable for Cell {
    /// What is still held belongs to work that the end of the environment has cut off.
    fn close(&self) {
        if let Some(core) = self.core.take() {
            core.holds.places.into_iter().filter_map(|place| place.hold).for_each(|(_, hold)| hold.abandon());
            for Settled { result, .. } in core.answers {
                if let Ok(Answer::Held(hold)) = result {
                    hold.pass_on();
                }
            }
        }
    }
}

impl Pollable for Cell {
    fn with_fd(&self, body: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        self.core.if_open(|core| body(core.requests.as_fd())).unwrap_or(Ok(()))
    }
}

/// The locks, semaphores, flags and sharded mutexes that were opened through one bus.
#[napi]
pub struct NativeSync {
    cell: Rc<Cell>,
}

impl NativeSync {
    /// Makes it for this bus.
    pub fn new(env: Env, bus: Bus) -> Result<Self> {
        let cell =
            Rc::new(Cell { core: Held::new("bus", Core::new(bus)?), scratch: Table::new(env, SCRATCH)? });
        lifecycle::register(env, &cell)?;
        Ok(Self { cell })
    }

    /// The cell, for the poller.
    pub fn pollable(&self) -> Rc<dyn Pollable> {
        self.cell.clone()
    }
}

#[napi]
impl NativeSync {
    /// The hot calls, as functions that need no `this`. Call it once.
    #[napi(ts_return_type = "NativeSyncHot")]
    pub fn hot(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || {
            let object = HotObject::new(env, &self.cell)?
                .function(c"take", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (member, amount) = (call.number(0)?, call.number(1)?);
                    cell.core.with(|core| core.take(member, amount))
                })?
                .function(c"tryTake", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (member, amount) = (call.number(0)?, call.number(1)?);
                    cell.core.with(|core| core.try_take(member, amount))
                })?
                .function(c"release", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let code = call.whole(0)?;
                    cell.core.if_open(|core| core.holds.release(code));
                    Ok(())
                })?
                .function(c"cancel", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let token = call.whole(0)?;
                    Ok(cell.core.if_open(|core| core.cancel(token)).unwrap_or(true))
                })?
                .function(c"next", |cell: &Cell, _: &mut Call<'_, 0>| {
                    let Some(answer) = cell.core.with(Core::next)? else { return Ok(false) };
                    cell.scratch.with(|scratch| scratch.copy_from_slice(&answer));
                    Ok(true)
                })?
                .function(c"value", |cell: &Cell, call: &mut Call<'_, 1>| {
                    let member = call.number(0)?;
                    cell.core.with(|core| match find(&core.members, member)? {
                        Opened::Flag(flag) => Ok(u32::from(flag.get()?)),
                        Opened::Semaphore(semaphore) => Ok(semaphore.available()?),
                        _ => Err(Failure::argument("only a flag and a semaphore have a value")),
                    })
                })?
                .function(c"swap", |cell: &Cell, call: &mut Call<'_, 2>| {
                    let (member, value) = (call.number(0)?, call.number(1)?);
                    cell.core.with(|core| match find(&core.members, member)? {
                        Opened::Flag(flag) => Ok(flag.swap(value != 0)?),
                        _ => Err(Failure::argument("only a flag can be swapped")),
                    })
                })?
                .function(c"compareAndSwap", |cell: &Cell, call: &mut Call<'_, 3>| {
                    let (member, current, value) = (call.number(0)?, call.number(1)?, call.number(2)?);
                    cell.core.with(|core| match find(&core.members, member)? {
                        Opened::Flag(flag) => Ok(flag.compare_and_swap(current != 0, value != 0)?),
                        _ => Err(Failure::argument("only a flag can be swapped")),
                    })
                })?;
            Ok(unknown(env, object.finish()))
        })
    }

    /// After `next`: the token, the kind of its answer (0 failed, 1 held, 2 reached, 3 opened), and what it is.
    #[napi(getter, ts_return_type = "Float64Array")]
    pub fn scratch(&self, env: Env) -> napi::Result<Unknown<'static>> {
        cold(env, || self.cell.scratch.array())
    }

    /// Opens a lock, a semaphore with so many permits, a flag, or a mutex with so many shards. Returns the token under
    /// which the answer comes.
    #[napi(ts_args_type = "kind: 'lock' | 'semaphore' | 'flag' | 'mutex', name: string, size: number")]
    pub fn open(&self, env: Env, kind: String, name: String, size: u32) -> napi::Result<f64> {
        cold(env, || {
            let opening = match kind.as_str() {
                "lock" => Opening::Lock,
                "semaphore" => Opening::Semaphore { permits: size },
                "flag" => Opening::Flag,
                "mutex" => Opening::ShardedMutex { shards: size as usize },
                _ => return Err(Failure::argument(format!("{kind} is none of these"))),
            };
            self.cell.core.with(|core| Ok(core.requests.open(&core.bus, &name, opening)? as f64))
        })
    }

    /// Throws the error of the answer that `next` told last.
    #[napi]
    pub fn failure(&self, env: Env) -> napi::Result<()> {
        cold(env, || self.cell.core.with(|core| core.failure.take().map_or(Ok(()), Err)))
    }

    /// Takes the shards of all these keys: as `take`.
    #[napi(ts_args_type = "member: number, keys: (string | Uint8Array)[]")]
    pub fn take_keys(
        &self,
        env: Env,
        member: u32,
        keys: Vec<Either<String, Uint8Array>>,
    ) -> napi::Result<f64> {
        cold(env, || {
            let keys: Vec<Vec<u8>> = keys
                .into_iter()
                .map(|key| match key {
                    Either::A(text) => text.into_bytes(),
                    Either::B(bytes) => bytes.to_vec(),
                })
                .collect();
            self.cell.core.with(|core| core.take_keys(member, &keys))
        })
    }

    /// JSON of who holds a lock, and who waits for it.
    #[napi]
    pub fn query(&self, env: Env, member: u32) -> napi::Result<String> {
        cold(env, || {
            let (held, pending) = self.cell.core.with(|core| match find(&core.members, member)? {
                Opened::Lock(lock) => Ok(lock.query()?),
                _ => Err(Failure::argument("only a lock tells who holds it")),
            })?;
            let clients = |clients: Vec<ringbell::sync::Client>| -> Vec<_> {
                let client =
                    |one: ringbell::sync::Client| json!({ "pid": one.pid, "mode": mode_name(one.mode) });
                clients.into_iter().map(client).collect()
            };
            json::write(&json!({ "held": clients(held), "pending": clients(pending) }))
        })
    }

    /// Gives back what was taken through this member, withdraws its requests, and leaves.
    #[napi]
    pub fn leave(&self, member: u32) {
        self.cell.core.if_open(|core| core.leave(member));
    }

    /// Leaves everything.
    #[napi]
    pub fn close(&self, env: Env) -> napi::Result<()> {
        cold(env, || lifecycle::close(env, &self.cell))
    }
}
