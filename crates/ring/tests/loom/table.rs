//! Loom: members of a table that take turns, while one of them dies before its n-th access to the memory, for every n.
//!
//! After each run the dead are reaped, everybody who was woken looks again, and then: nobody waits for what is free, and
//! nothing is held by nobody. While it runs, two are never inside at once.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use ringbell_ring::table::{Died, Kind, Members, Seat, Shape, TableMemory, Want, lives, stands_still};

/// More accesses than any of the lives below has.
const LONG: usize = 400;

fn explore(bound: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(bound));
    // One run has every death of the cleaner, one after the other.
    builder.max_branches = if bound == 0 { 400_000 } else { 10_000 };
    builder.check(body);
}

fn table(kind: Kind, permits: u32) -> TableMemory {
    let memory = TableMemory::leaked(Shape { kind, cells: 1, members: 3, permits, nonce: [1, 2] });
    memory.begin();
    memory
}

fn join(memory: TableMemory, member: usize) -> Seat {
    Seat::join(memory, member, 1, 1, &mut Members::none()).unwrap()
}

fn ring(memory: &TableMemory, wakes: &Members) {
    wakes.iter().for_each(|member| memory.ring(member));
}

/// What the models share.
#[derive(Clone)]
struct World {
    memory: TableMemory,
    /// How many are inside, or how many permits are used.
    inside: Arc<AtomicUsize>,
    most: usize,
}

impl World {
    fn new(kind: Kind, permits: u32) -> Self {
        let most = if kind == Kind::Semaphore { permits as usize } else { 1 };
        Self { memory: table(kind, permits), inside: Arc::new(AtomicUsize::new(0)), most }
    }

    fn enter(&self) {
        assert!(self.inside.fetch_add(1, Ordering::Relaxed) < self.most, "one too many");
    }

    fn leave(&self, seat: &Seat, want: Want) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        let mut wakes = Members::none();
        match want {
            Want::Exclusive => seat.unlock(0, &mut wakes).unwrap(),
            _ => seat.give_back(0, 1, &mut wakes).unwrap(),
        }
        ring(&self.memory, &wakes);
    }

    fn ask(&self, seat: &Seat, want: Want) {
        let mut wakes = Members::none();
        seat.ask(0, 0, want, seat.ticket(), &mut wakes).unwrap();
        ring(&self.memory, &wakes);
    }

    /// Takes a turn if that is possible now. False: it waits.
    fn turn_if_granted(&self, seat: &Seat, want: Want) -> bool {
        if !seat.is_granted(0) {
            return false;
        }
        let mut wakes = Members::none();
        seat.accept(0, &mut wakes).unwrap();
        ring(&self.memory, &wakes);
        self.enter();
        self.leave(seat, want);
        true
    }

    /// A whole life: the quick way if it is open, else a request.
    fn live(&self, seat: &Seat, want: Want) {
        let mut wakes = Members::none();
        let quick = match want {
            Want::Exclusive => seat.try_lock(0).is_some(),
            _ => seat.try_count(0, want, &mut wakes).unwrap().is_some(),
        };
        ring(&self.memory, &wakes);
        if quick {
            self.enter();
            self.leave(seat, want);
        } else {
            self.ask(seat, want);
            self.turn_if_granted(seat, want);
        }
    }

    fn reap(&self, dead: usize, me: usize) {
        let mut wakes = Members::none();
        self.memory.reap(dead, me, &mut wakes).unwrap();
        ring(&self.memory, &wakes);
    }

    /// Everybody who waits, and whose bell has rung since `bells`, looks again, until nothing happens any more. Then nobody
    /// may wait: all of them give back what they get.
    fn run_out(&self, seats: &[(Seat, Want, u32)]) {
        let mut bells: Vec<u32> = seats.iter().map(|(.., bell)| *bell).collect();
        for _ in 0..20 {
            let mut quiet = true;
            for (bell, (seat, want, _)) in bells.iter_mut().zip(seats) {
                let now = self.memory.bell(seat.member());
                if now == *bell {
                    continue;
                }
                (*bell, quiet) = (now, false);
                let mut wakes = Members::none();
                seat.insist(0, &mut wakes).unwrap();
                ring(&self.memory, &wakes);
                self.turn_if_granted(seat, *want);
            }
            if quiet {
                break;
            }
        }
        for (seat, ..) in seats {
            assert!(!seat.is_asking(0), "member {} waits for what is free", seat.member());
        }
        assert_eq!(self.memory.holders(0), (None, 0), "held by nobody");
        let (seat, want, _) = &seats[0];
        self.live(seat, *want);
        assert!(!seat.is_asking(0), "it is not free");
    }
}

fn models() -> [(Kind, u32, Want); 3] {
    [(Kind::Lock, 0, Want::Exclusive), (Kind::Lock, 0, Want::Shared), (Kind::Semaphore, 1, Want::Permits(1))]
}

/// Two members, each with one turn; no death.
fn two(kind: Kind, permits: u32, (first, second): (Want, Want)) {
    explore(3, move || {
        let world = World::new(kind, permits);
        let most = if (first, second) == (Want::Shared, Want::Shared) { 2 } else { world.most };
        let world = World { most, ..world };
        let seats = [join(world.memory, 0), join(world.memory, 1)];
        let bells = [0, 1].map(|member| world.memory.bell(member));
        let other = {
            let (world, seat) = (world.clone(), seats[1]);
            thread::spawn(move || world.live(&seat, second))
        };
        world.live(&seats[0], first);
        other.join().unwrap();
        world.run_out(&[(seats[0], first, bells[0]), (seats[1], second, bells[1])]);
    });
}

#[test]
fn two_members_take_an_exclusive_lock() {
    two(Kind::Lock, 0, (Want::Exclusive, Want::Exclusive));
}

#[test]
fn two_members_take_a_lock_alone_and_shared() {
    two(Kind::Lock, 0, (Want::Exclusive, Want::Shared));
    two(Kind::Lock, 0, (Want::Shared, Want::Shared));
}

#[test]
fn permits_are_never_given_twice_and_never_lost() {
    two(Kind::Semaphore, 1, (Want::Permits(1), Want::Permits(1)));
}

/// A waiter that was nudged finds the cell taken again, while somebody else combines.
#[test]
fn a_nudge_that_came_to_nothing_is_not_counted_on() {
    explore(3, || {
        let world = World::new(Kind::Lock, 0);
        let want = Want::Exclusive;
        let seats = [0, 1, 2].map(|member| join(world.memory, member));
        let third = world.memory.bell(2);
        assert!(seats[0].try_lock(0).is_some());
        world.ask(&seats[1], want);
        let mut wakes = Members::none();
        seats[0].unlock(0, &mut wakes).unwrap();
        ring(&world.memory, &wakes);
        assert!(wakes.contains(1) && seats[0].try_lock(0).is_some());
        let bell = world.memory.bell(1);
        let other = {
            let (world, seat) = (world.clone(), seats[2]);
            thread::spawn(move || world.ask(&seat, want))
        };
        let mut wakes = Members::none();
        seats[1].insist(0, &mut wakes).unwrap();
        ring(&world.memory, &wakes);
        other.join().unwrap();
        let mut wakes = Members::none();
        seats[0].unlock(0, &mut wakes).unwrap();
        ring(&world.memory, &wakes);
        world.run_out(&[(seats[1], want, bell), (seats[2], want, third)]);
    });
}

/// One member gives back and stands still before its n-th access, for every n, while the waiter takes its turn and asks again,
/// with the same place. The second request must not be taken for the first one (T1).
#[test]
fn one_stands_still_while_another_one_takes_turns() {
    for (kind, permits, want) in models() {
        for handed in [false, true] {
            for n in 0..LONG {
                let over = Note::default();
                let seen = over.clone();
                explore(0, move || {
                    let world = World::new(kind, permits);
                    let seats = [0, 1].map(|member| join(world.memory, member));
                    let bell = world.memory.bell(1);
                    let waiting = Want::Exclusive.of(kind, want);
                    world.come_in(&seats[0], want);
                    world.ask(&seats[1], waiting);
                    // One that loses often is handed the lock.
                    for _ in 0..if handed { 8 } else { 0 } {
                        seats[1].insist(0, &mut Members::none()).unwrap();
                    }
                    let (other, waiter) = (world.clone(), seats[1]);
                    let turns = move || {
                        for _ in 0..2 {
                            let mut wakes = Members::none();
                            waiter.insist(0, &mut wakes).unwrap();
                            ring(&other.memory, &wakes);
                            if other.turn_if_granted(&waiter, waiting) {
                                other.ask(&waiter, waiting);
                            }
                        }
                    };
                    if !stands_still(n, turns, || world.leave(&seats[0], want)) {
                        seen.store(true);
                    }
                    world.run_out(&[(seats[1], waiting, bell)]);
                });
                if over.load() {
                    break;
                }
                assert!(n + 1 < LONG, "it never gives back to the end");
            }
        }
    }
}

/// A permit, or a shared hold, that its owner is just accepting is not free.
#[test]
fn what_is_being_accepted_counts() {
    for (kind, permits, want, other) in [
        (Kind::Semaphore, 1, Want::Permits(1), Want::Permits(1)),
        (Kind::Lock, 0, Want::Shared, Want::Exclusive),
    ] {
        explore(3, move || {
            let world = World::new(kind, permits);
            let seats = [0, 1, 2].map(|member| join(world.memory, member));
            world.come_in(&seats[0], other);
            world.ask(&seats[1], want);
            world.leave(&seats[0], other);
            assert!(seats[1].is_granted(0));
            let accepting = {
                let (world, seat) = (world.clone(), seats[1]);
                thread::spawn(move || {
                    let mut wakes = Members::none();
                    seat.accept(0, &mut wakes).unwrap();
                    ring(&world.memory, &wakes);
                })
            };
            world.ask(&seats[2], other);
            assert!(!seats[2].is_granted(0), "one too many");
            accepting.join().unwrap();
            assert!(!seats[2].is_granted(0), "one too many");
        });
    }
}

/// One member stores a value and stands still before its n-th access, for every n, while another one stores the value before
/// and begins to wait for the other one. It waits for what comes after that.
#[test]
fn a_wait_is_not_answered_by_a_value_that_was_gone_before_it_began() {
    for n in 0..LONG {
        let over = Note::default();
        let seen = over.clone();
        explore(0, move || {
            let world = World::new(Kind::Flag, 0);
            let seats = [0, 1, 2].map(|member| join(world.memory, member));
            world.ask(&seats[2], Want::Value(1));
            let store = |world: &World, seat: &Seat, value| {
                let mut wakes = Members::none();
                seat.swap_value(value, &mut wakes).unwrap();
                ring(&world.memory, &wakes);
            };
            let (other, waiter) = (world.clone(), seats[1]);
            let wait = move || {
                store(&other, &waiter, 0);
                other.ask(&waiter, Want::Value(1));
            };
            let waits = stands_still(n, wait, || store(&world, &seats[0], 1));
            seen.store(!waits);
            assert_eq!(seats[1].is_granted(0), waits && seats[1].value() == 1);
        });
        if over.load() {
            return;
        }
    }
    panic!("it never stores to the end");
}

/// A value that is stored while somebody begins to wait for it.
#[test]
fn a_change_of_a_flag_is_not_missed() {
    explore(3, || {
        let world = World::new(Kind::Flag, 0);
        let seats = [join(world.memory, 0), join(world.memory, 1)];
        let setter = {
            let (world, seat) = (world.clone(), seats[1]);
            thread::spawn(move || {
                let mut wakes = Members::none();
                seat.swap_value(1, &mut wakes).unwrap();
                ring(&world.memory, &wakes);
            })
        };
        world.ask(&seats[0], Want::Value(1));
        setter.join().unwrap();
        assert!(seats[0].is_granted(0), "it waits for a value that is there");
    });
}

/// One member dies before its n-th access, for every n, while another one waits. A third one cleans up, and dies itself
/// before its m-th access, for every m. No two act at once: this is every death, not every interleaving.
#[test]
fn one_dies_alone_and_its_cleaner_too() {
    for (kind, permits, want) in models() {
        for waiting in [Want::Exclusive, want] {
            let waiting = if kind == Kind::Semaphore { want } else { waiting };
            for n in 0..LONG {
                let over = Note::default();
                let seen = over.clone();
                explore(0, move || {
                    for m in 0..LONG {
                        let world = World { most: 2, ..World::new(kind, permits) };
                        let seats = [0, 1, 2].map(|member| join(world.memory, member));
                        let bells = [0, 1, 2].map(|member| world.memory.bell(member));
                        // The first one is inside, and gives back to the one that waits.
                        world.come_in(&seats[0], want);
                        world.ask(&seats[1], waiting);
                        let died = lives(n, || {
                            world.leave(&seats[0], want);
                            world.live(&seats[0], want);
                        });
                        world.inside.store(0, Ordering::Relaxed);
                        if died == Ok(()) {
                            seen.store(true);
                            world.run_out(&[(seats[1], waiting, bells[1]), (seats[0], want, bells[0])]);
                            break;
                        }
                        let cleaned = lives(m, || world.reap(0, 2));
                        if cleaned == Err(Died) {
                            world.reap(2, 1);
                            world.reap(0, 1);
                        }
                        world.run_out(&[(seats[1], waiting, bells[1])]);
                        if cleaned == Ok(()) {
                            break;
                        }
                    }
                });
                if over.load() {
                    break;
                }
                assert!(n + 1 < LONG, "it never lives to the end");
            }
        }
    }
}

/// A note that outlives the runs of a model.
#[derive(Clone, Default)]
struct Note(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Note {
    fn store(&self, value: bool) {
        self.0.store(value, std::sync::atomic::Ordering::Relaxed);
    }

    fn load(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl World {
    /// Takes it, and stays inside.
    fn come_in(&self, seat: &Seat, want: Want) {
        let mut wakes = Members::none();
        let taken = match want {
            Want::Exclusive => seat.try_lock(0).is_some(),
            _ => seat.try_count(0, want, &mut wakes).unwrap().is_some(),
        };
        assert!(taken);
        self.inside.fetch_add(1, Ordering::Relaxed);
    }
}

/// One member dies before its n-th access while another one acts. For every n that is a model of its own.
fn one_dies_beside(kind: Kind, permits: u32, (dying, living): (Want, Want)) {
    for n in 0..LONG {
        let over = Note::default();
        let seen = over.clone();
        explore(2, move || {
            let world = World::new(kind, permits);
            let seats = [join(world.memory, 0), join(world.memory, 1)];
            let bell = world.memory.bell(1);
            let other = {
                let (world, seat) = (world.clone(), seats[0]);
                thread::spawn(move || lives(n, || world.live(&seat, dying)))
            };
            world.live(&seats[1], living);
            if other.join().unwrap() == Ok(()) {
                seen.store(true);
            } else {
                // In this run the end was not reached, so a later death must be tried.
                seen.store(false);
            }
            world.reap(0, 1);
            world.inside.store(0, Ordering::Relaxed);
            world.run_out(&[(seats[1], living, bell)]);
        });
        if over.load() {
            return;
        }
    }
}

#[test]
fn one_dies_beside_another_one_at_a_lock() {
    one_dies_beside(Kind::Lock, 0, (Want::Exclusive, Want::Exclusive));
}

#[test]
fn one_dies_beside_another_one_at_a_shared_lock() {
    one_dies_beside(Kind::Lock, 0, (Want::Shared, Want::Exclusive));
}

#[test]
fn one_dies_beside_another_one_at_a_semaphore() {
    one_dies_beside(Kind::Semaphore, 1, (Want::Permits(1), Want::Permits(1)));
}

/// A third one acts while the dead one is cleaned up. The death is before every n-th access.
#[test]
fn somebody_acts_while_the_dead_one_is_cleaned_up() {
    for (kind, permits, want) in models() {
        for n in 0..LONG {
            let over = Note::default();
            let seen = over.clone();
            explore(2, move || {
                let world = World { most: 3, ..World::new(kind, permits) };
                let seats = [0, 1, 2].map(|member| join(world.memory, member));
                let bells = [0, 1, 2].map(|member| world.memory.bell(member));
                world.come_in(&seats[0], want);
                world.ask(&seats[1], Want::Exclusive.of(kind, want));
                if lives(n, || world.leave(&seats[0], want)) == Ok(()) {
                    seen.store(true);
                }
                let actor = {
                    let (world, seat) = (world.clone(), seats[2]);
                    thread::spawn(move || world.live(&seat, want))
                };
                world.reap(0, 1);
                actor.join().unwrap();
                world.inside.store(0, Ordering::Relaxed);
                let waiting = Want::Exclusive.of(kind, want);
                world.run_out(&[(seats[1], waiting, bells[1]), (seats[2], want, bells[2])]);
            });
            if over.load() {
                break;
            }
        }
    }
}

/// A holder has died, and nobody waits. One comes while it is cleaned up: it is served, or woken.
#[test]
fn one_comes_while_a_dead_holder_is_cleaned_up() {
    for (kind, permits, want) in models() {
        explore(3, move || {
            let world = World::new(kind, permits);
            let seats = [0, 1, 2].map(|member| join(world.memory, member));
            let bell = world.memory.bell(2);
            world.come_in(&seats[0], want);
            world.inside.store(0, Ordering::Relaxed);
            let actor = {
                let (world, seat) = (world.clone(), seats[2]);
                thread::spawn(move || world.live(&seat, want))
            };
            world.reap(0, 1);
            actor.join().unwrap();
            world.run_out(&[(seats[2], want, bell)]);
        });
    }
}

impl World {
    /// Gives up in the middle of its work.
    fn abandon(&self, seat: &Seat) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
        let mut wakes = Members::none();
        seat.abandon(0, &mut wakes).unwrap();
        ring(&self.memory, &wakes);
    }

    /// Takes the lock, and gives it back as one who has finished. It waits no longer than for others to come to rest. What it was
    /// told; none: it was not its turn.
    fn told(&self, seat: &Seat) -> Option<bool> {
        let mut wakes = Members::none();
        let mut taken = seat.try_lock(0);
        if taken.is_none() {
            if !seat.is_asking(0) {
                self.ask(seat, Want::Exclusive);
            }
            seat.insist(0, &mut wakes).unwrap();
            if seat.is_granted(0) {
                taken = Some(seat.accept(0, &mut wakes).unwrap());
            }
        }
        ring(&self.memory, &wakes);
        let told = taken?.abandoned;
        self.enter();
        self.leave(seat, Want::Exclusive);
        Some(told)
    }
}

/// One gives up while another one comes. Whoever has the lock next is told, and nobody after that.
#[test]
fn a_lock_that_was_given_up_is_told_of_once() {
    explore(3, || {
        let world = World::new(Kind::Lock, 0);
        let seats = [join(world.memory, 0), join(world.memory, 1)];
        let bell = world.memory.bell(1);
        world.come_in(&seats[0], Want::Exclusive);
        let other = {
            let (world, seat) = (world.clone(), seats[1]);
            thread::spawn(move || world.told(&seat))
        };
        world.abandon(&seats[0]);
        let first = other.join().unwrap().or_else(|| {
            assert_ne!(world.memory.bell(1), bell, "nobody woke the one that waits");
            world.told(&seats[1])
        });
        assert_eq!(first, Some(true), "nobody told it");
        assert_eq!(world.told(&seats[0]), Some(false), "it is told twice");
        world.run_out(&[(seats[0], Want::Exclusive, world.memory.bell(0))]);
    });
}

/// One gives up, and dies before its n-th access, for every n, while another one waits; and so does its cleaner, for every m.
/// However far it came, it did not finish: who comes next is told.
#[test]
fn one_that_gives_up_and_dies_is_told_of() {
    for n in 0..LONG {
        let over = Note::default();
        let seen = over.clone();
        explore(0, move || {
            for m in 0..LONG {
                let world = World::new(Kind::Lock, 0);
                let seats = [0, 1, 2].map(|member| join(world.memory, member));
                world.come_in(&seats[0], Want::Exclusive);
                world.ask(&seats[1], Want::Exclusive);
                let bell = world.memory.bell(1);
                let died = lives(n, || world.abandon(&seats[0]));
                world.inside.store(0, Ordering::Relaxed);
                let cleaned = if died == Ok(()) { Ok(()) } else { lives(m, || world.reap(0, 2)) };
                if cleaned == Err(Died) {
                    world.reap(2, 1);
                    world.reap(0, 1);
                }
                assert_ne!(world.memory.bell(1), bell, "nobody woke the one that waits");
                assert_eq!(world.told(&seats[1]), Some(true), "nobody told it");
                assert_eq!(world.told(&seats[1]), Some(false), "it is told twice");
                seen.store(died == Ok(()));
                if cleaned == Ok(()) {
                    break;
                }
            }
        });
        if over.load() {
            return;
        }
    }
    panic!("it never lives to the end");
}

/// One gives up and dies while another one comes.
#[test]
fn one_that_gives_up_dies_beside_another_one() {
    for n in 0..LONG {
        let over = Note::default();
        let seen = over.clone();
        explore(2, move || {
            let world = World::new(Kind::Lock, 0);
            let seats = [join(world.memory, 0), join(world.memory, 1)];
            world.come_in(&seats[0], Want::Exclusive);
            let other = {
                let (world, seat) = (world.clone(), seats[0]);
                thread::spawn(move || lives(n, || world.abandon(&seat)))
            };
            let first = world.told(&seats[1]);
            seen.store(other.join().unwrap() == Ok(()));
            world.reap(0, 1);
            world.inside.store(0, Ordering::Relaxed);
            assert_eq!(first.or_else(|| world.told(&seats[1])), Some(true), "nobody told it");
            assert_eq!(world.told(&seats[1]), Some(false), "it is told twice");
        });
        if over.load() {
            return;
        }
    }
    panic!("it never lives to the end");
}

trait Of {
    fn of(self, kind: Kind, want: Want) -> Want;
}

impl Of for Want {
    /// This where the table grants it, else `want`.
    fn of(self, kind: Kind, want: Want) -> Want {
        if kind == Kind::Semaphore { want } else { self }
    }
}
