//! Topics under bad luck: SIGKILL and SIGSTOP of either side at any moment, a thousand subscribers at once, and
//! descriptors running out. Short here; `npm run soak` makes a hunt of it.
//!
//! Whatever is killed is a child: this binary again, in the role that `role` plays.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::*;
use nix::sys::signal::Signal;
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, BusOptions, Overflow};
use ringbell::topic::{EndReason, Notice, Publisher, PublisherOptions, Start, Subscriber, SubscriberOptions};

/// Plays a part for one of the tests below; nothing when run as a test.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    // A thousand that look at the directory a hundred times a second would leave nobody a turn.
    let patient = || Bus::open(BusOptions { path: Some(path.clone()), ..BusOptions::default() }).unwrap();
    let bus = if role == "crowd" { patient() } else { open(&path) };
    match role.as_str() {
        "publisher" => publisher_role(&bus),
        "subscriber" => subscriber_role(&bus),
        "crowd" => crowd_role(&bus),
        "poor" => poor_role(&bus),
        "fork-use" => fork_role(&bus),
        "idle" => idle_role(&bus),
        "rounds" => rounds_role(&path),
        other => panic!("no role {other}"),
    }
}

const RUNGS: [Rung; 3] = Rung::LADDER;

fn kills() -> usize {
    std::env::var("TOPIC_KILLS").map_or(60, |count| count.parse().unwrap())
}

/// Not for secrets: only so that two runs don't kill at the same moments.
fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    u64::from_le_bytes(bytes) % below
}

fn payload(number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8; 8 + (number % 200) as usize];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn check(data: &[u8], number: u64) {
    assert_eq!(data, payload(number), "message {number} is torn or not the next");
}

/// Sends as fast as it can until it is killed; alternately one by one and in batches.
fn publisher_role(bus: &Bus) {
    let mut options = PublisherOptions::default();
    options.capacity = 32 << 10;
    options.overflow = Overflow::Block;
    let mut publisher = bus.publisher("ticks", options).unwrap();
    say("ready");
    let mut number = 0u64;
    loop {
        if number % 64 < 32 {
            if publisher.send(&payload(number)).unwrap() {
                number += 1;
            } else {
                publisher.wait_room(300, Some(Duration::from_millis(20))).unwrap();
            }
        } else {
            let mut batch = publisher.batch().unwrap();
            let before = number;
            while number - before < 32 && batch.push(&payload(number)).unwrap() {
                number += 1;
            }
            batch.commit();
            drop(batch);
            if number == before {
                publisher.wait_room(300, Some(Duration::from_millis(20))).unwrap();
            } else {
                // What was not pushed comes again: the publisher's count is the truth.
                number = publisher.stats().counters.messages;
            }
        }
    }
}

/// Reads and checks until it is killed.
fn subscriber_role(bus: &Bus) {
    let mut subscriber = subscribe(bus, Start::Latest, None);
    subscriber.set_spin(Duration::from_micros(random(100)));
    let mut next = None;
    let mut told = false;
    loop {
        let message = subscriber.recv().unwrap();
        let number = next.unwrap_or(message.sequence);
        assert_eq!(message.sequence, number);
        check(message.data, number);
        next = Some(number + 1);
        if !told {
            say("receiving");
            told = true;
        }
    }
}

fn subscribe(bus: &Bus, from: Start, rung: Option<Rung>) -> Subscriber {
    let mut options = SubscriberOptions::default();
    options.from = from;
    options.acquire = rung;
    bus.subscriber("ticks", options).unwrap()
}

#[test]
fn a_killed_publisher_leaves_nothing_torn_and_nothing_behind() {
    let place = Place::watched(120 + kills() as u64);
    let bus = place.bus();
    for round in 0..kills() {
        let rung = RUNGS[round % RUNGS.len()];
        let mut subscriber = subscribe(&bus, Start::Latest, Some(rung));
        let mut child = Role::start("publisher", &place.path, &[]);
        if round % 8 != 0 {
            child.heard();
        }
        let end = Instant::now() + Duration::from_micros(random(20_000));
        let mut next = None;
        let mut killed = false;
        let mut ended = false;
        let deadline = Instant::now() + PATIENCE;
        while !ended {
            assert!(Instant::now() < deadline, "round {round}: never ended: {:?}", subscriber.stats());
            if !killed && Instant::now() >= end {
                child.kill();
                killed = true;
            }
            if let Some(message) = subscriber.recv_timeout(Duration::from_millis(1)).unwrap() {
                let number = next.unwrap_or(message.sequence);
                assert_eq!(message.sequence, number, "round {round}");
                check(message.data, number);
                next = Some(number + 1);
            }
            for notice in subscriber.notices() {
                match notice {
                    Notice::Attached { .. } => {}
                    Notice::Ended { reason, .. } => {
                        assert_eq!(reason, EndReason::Died);
                        ended = true;
                    }
                    // It died while it was being attached.
                    Notice::Failed { .. } if killed => ended = true,
                    other => panic!("round {round}: {other:?}"),
                }
            }
            // Killed before anybody had found it; what it had only begun to write is nobody's but gc's to find.
            if killed && subscriber.publishers() == 0 {
                bus.gc().unwrap();
                ended |= place.names().is_empty();
            }
        }
    }
    until("the directory is empty", || place.names().is_empty());
}

#[test]
fn a_killed_subscriber_leaves_room_and_its_slot() {
    let place = Place::watched(120 + kills() as u64);
    let bus = place.bus();
    let mut options = PublisherOptions::default();
    options.capacity = 16 << 10;
    options.max_subscribers = 2;
    let mut publisher = bus.publisher("ticks", options).unwrap();
    let mut number = 0u64;
    let mut send_until = |publisher: &mut ringbell::topic::Publisher, done: &mut dyn FnMut() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "stuck: {:?}", publisher.stats());
            if publisher.send(&payload(number)).unwrap() {
                number += 1;
            } else {
                publisher.wait_room(300, Some(Duration::from_millis(10))).unwrap();
            }
        }
    };
    for round in 0..kills() {
        let rung = RUNGS[round % RUNGS.len()].name();
        let mut child = Role::start("subscriber", &place.path, &[("IPC_BUS_ACQUIRE", rung)]);
        let (heard, receiving) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let child = &mut child;
            scope.spawn(move || heard.send(child.heard()).unwrap());
            send_until(&mut publisher, &mut || receiving.try_recv().is_ok());
        });
        let end = Instant::now() + Duration::from_micros(random(5_000));
        send_until(&mut publisher, &mut || Instant::now() >= end);
        child.kill();
        // More than the ring holds: it goes on only once the dead one is found.
        let mut left = 1_000;
        send_until(&mut publisher, &mut || {
            left -= 1;
            left == 0
        });
    }
    let stats = publisher.stats();
    assert!(stats.subscribers.is_empty(), "{stats:?}");
    assert_eq!(stats.counters.evicted, 0, "an honest subscriber was expelled");
}

#[test]
fn a_stopped_subscriber_blocks_loses_nothing_and_goes_on() {
    for rung in RUNGS {
        let place = Place::new();
        let bus = place.bus();
        let mut options = PublisherOptions::default();
        options.capacity = 16 << 10;
        let mut publisher = bus.publisher("ticks", options).unwrap();
        let mut child = Role::start("subscriber", &place.path, &[("IPC_BUS_ACQUIRE", rung.name())]);
        until("attached", || publisher.subscribers() == 1);
        let mut number = 0u64;
        for _ in 0..3 {
            child.stop();
            until("it is stopped, not dead", || {
                while publisher.send(&payload(number)).unwrap() {
                    number += 1;
                }
                // What it had read before may be on its way, where it tells so over a connection.
                !publisher.wait_room(300, Some(Duration::from_millis(200))).unwrap()
            });
            assert_eq!(publisher.subscribers(), 1);
            child.signal(Signal::SIGCONT);
            assert!(publisher.wait_room(300, Some(PATIENCE)).unwrap());
        }
        until("it has read everything", || {
            publisher.stats().subscribers.iter().all(|slot| slot.received == number)
        });
        assert!(child.child.try_wait().unwrap().is_none(), "the subscriber found something wrong");
    }
}

#[test]
fn a_stopped_subscriber_is_evicted_where_the_topic_says_so() {
    for rung in RUNGS {
        let place = Place::new();
        let bus = place.bus();
        let mut options = PublisherOptions::default();
        options.capacity = 16 << 10;
        // Long enough for the other one, which is awake, on a busy machine.
        options.evict_after = Some(Duration::from_secs(1));
        let mut publisher = bus.publisher("ticks", options).unwrap();
        let child = Role::start("subscriber", &place.path, &[("IPC_BUS_ACQUIRE", rung.name())]);
        let mut other = subscribe(&bus, Start::Latest, Some(rung));
        until("attached", || publisher.subscribers() == 2);
        child.signal(Signal::SIGSTOP);
        let mut next = 0u64;
        for number in 0..2_000u64 {
            let deadline = Instant::now() + PATIENCE;
            while !publisher.send(&payload(number)).unwrap() {
                assert!(Instant::now() < deadline);
                publisher.wait_room(300, Some(Duration::from_millis(10))).unwrap();
                while let Some(message) = other.try_recv().unwrap() {
                    check(message.data, next);
                    next += 1;
                }
            }
        }
        assert_eq!(publisher.stats().counters.evicted, 1);
        while next < 2_000 {
            check(other.recv_timeout(PATIENCE).unwrap().expect("the other one lost something").data, next);
            next += 1;
        }
        // It is no subscriber any more, but its slot stays taken for as long as it holds the lock.
        let slots = |publisher: &Publisher| publisher.stats().subscribers.len();
        assert_eq!((publisher.subscribers(), slots(&publisher)), (1, 2));
        drop(child);
        until("the slot is free", || slots(&publisher) == 1);
    }
}

/// A publisher and its stream, with nothing to do: no thread of the process may stir.
fn idle_role(bus: &Bus) {
    let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
    let mut subscriber = subscribe(bus, Start::Latest, Some(Rung::Stream));
    until("attached", || subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    assert!(publisher.send(b"x").unwrap());
    assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, b"x");
    until("the publisher knows", || publisher.stats().subscribers[0].backlog == 0);
    subscriber.notices();
    until("it sleeps", || {
        subscriber.try_recv().unwrap();
        subscriber.arm()
    });
    let switches = || -> Vec<String> {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let status =
            threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
        let of_bus = status.filter(|status| status.starts_with("Name:\tringbell-bus\n"));
        let field =
            |status: String| status.lines().find(|line| line.starts_with("voluntary")).unwrap().to_owned();
        of_bus.map(field).collect()
    };
    // A thread that makes a system call was awake, and a thread that was awake has been switched to.
    until("nobody stirs", || {
        let before = switches();
        std::thread::sleep(Duration::from_millis(400));
        !before.is_empty() && switches() == before
    });
    assert!(subscriber.arm());
    say("fine");
}

#[test]
fn an_idle_stream_makes_no_system_call() {
    let place = Place::new();
    assert_eq!(Role::start("idle", &place.path, &[]).heard(), "fine");
}

/// Attaches when it is told to, takes one message, says which rung.
fn crowd_role(bus: &Bus) {
    say("waiting");
    listen();
    let mut subscriber = subscribe(bus, Start::Earliest, None);
    let message = subscriber.recv_timeout(Duration::from_secs(60)).unwrap().expect("not attached in time");
    check(message.data, message.sequence);
    say("received");
    listen();
}

#[test]
fn a_thousand_processes_attach_at_once() {
    let crowd = std::env::var("TOPIC_CROWD").map_or(1_000, |count| count.parse().unwrap());
    for rung in ["direct", "handshake", "stream"] {
        let place = Place::new();
        let bus = place.bus();
        let mut options = PublisherOptions::default();
        options.max_subscribers = 1_024;
        let mut publisher = bus.publisher("ticks", options).unwrap();
        assert!(publisher.send(&payload(0)).unwrap());
        let mut crowd: Vec<Role> =
            (0..crowd).map(|_| Role::start("crowd", &place.path, &[("IPC_BUS_ACQUIRE", rung)])).collect();
        for child in &mut crowd {
            child.heard();
        }
        for child in &mut crowd {
            child.tell("now");
        }
        for child in &mut crowd {
            assert_eq!(child.heard(), "received");
        }
        assert_eq!(publisher.subscribers(), crowd.len());
        assert!(publisher.send(&payload(1)).unwrap());
    }
}

/// Has so few descriptors that everything fails somewhere; each failure must have its code and leave nothing open.
fn poor_role(bus: &Bus) {
    use nix::sys::resource::{Resource, setrlimit};
    let settled = bus.watch(ringbell::bus::Filter::All).unwrap();
    until("it watches", || bus.watching().mode == "inotify");
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count() - 1;
    let before = open();
    let mut succeeded = false;
    let mut failures = 0;
    for spare in 0..60 {
        // The highest number in use counts, not how many there are: from here on they are dense.
        setrlimit(Resource::RLIMIT_NOFILE, (before + spare) as u64, 4096).unwrap();
        let attempt = bus.publisher("poor", PublisherOptions::default());
        let failed = attempt.as_ref().err().map(ringbell::Error::code);
        drop(attempt);
        setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096).unwrap();
        match failed {
            Some(code) => {
                assert_eq!(code, "ERR_RINGBELL_RESOURCE", "with {spare} descriptors to spare");
                failures += 1;
            }
            None => succeeded = true,
        }
        until("all descriptors are given back", || open() == before);
    }
    drop(settled);
    assert!(succeeded && failures > 3, "{failures} failures");
    say("fine");
}

#[test]
fn descriptor_exhaustion_is_a_clear_error_without_a_leak() {
    let place = Place::new();
    let mut child = Role::start("poor", &place.path, &[]);
    assert_eq!(child.heard(), "fine");
    until("nothing is left", || place.names().is_empty());
}

#[test]
fn a_lost_directory_does_not_end_a_topic() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
    let mut subscriber = subscribe(&bus, Start::Latest, None);
    until("attached", || {
        subscriber.wait(Some(Instant::now())).unwrap();
        subscriber.publishers() == 1
    });
    subscriber.notices();
    for round in 0..3u64 {
        lose(&place.path);
        assert!(publisher.send(&payload(round)).unwrap());
        check(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, round);
        until("the record is back", || place.path.exists() && !place.names().is_empty());
    }
    assert_eq!(subscriber.notices(), []);
    let mut late = subscribe(&place.bus(), Start::Earliest, None);
    check(late.recv_timeout(PATIENCE).unwrap().unwrap().data, 0);
    drop(publisher);
    until("ended", || {
        subscriber.wait(Some(Instant::now())).unwrap();
        subscriber.publishers() == 0
    });
}

/// Attaches on every rung, again and again. In a process of its own, because everything is counted.
fn rounds_role(path: &Path) {
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("ringbell-").count();
    let round = |round: usize| {
        let bus = open(path);
        let mut options = SubscriberOptions::default();
        options.acquire = Some(RUNGS[round % RUNGS.len()]);
        let mut subscriber = bus.subscriber("ticks", options).unwrap();
        let mut own = bus.publisher("own", PublisherOptions::default()).unwrap();
        assert!(own.send(b"x").unwrap());
        assert!(subscriber.recv_timeout(PATIENCE).unwrap().is_some());
        drop((subscriber, own, bus));
    };
    // What a process opens once is open afterwards.
    (0..RUNGS.len()).for_each(round);
    let before = (maps(), resources());
    (0..30).for_each(round);
    // A thread that was joined may still be listed for a moment.
    until("everything is given back", || (maps(), resources()) <= before);
    say("done");
}

#[test]
fn endpoints_leak_neither_descriptors_nor_mappings_nor_threads() {
    let place = Place::new();
    let mut child = Role::start("publisher", &place.path, &[]);
    child.heard();
    assert_eq!(Role::start("rounds", &place.path, &[]).heard(), "done");
}

/// Forks, and uses and drops in the child what it must not.
fn fork_role(bus: &Bus) {
    let mut publisher = bus.publisher("ticks", PublisherOptions::default()).unwrap();
    let mut subscriber = subscribe(bus, Start::Latest, None);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    // Attached on the bus thread, and not taken notice of.
    let unnoticed = subscribe(bus, Start::Latest, None);
    until("attached", || publisher.subscribers() == 2);
    assert!(publisher.send(&payload(0)).unwrap());
    let mut batch = publisher.batch().unwrap();
    assert!(batch.push(&payload(1)).unwrap());
    // SAFETY: the bus thread is quiet, so it holds no lock that the child takes.
    #[allow(unsafe_code)]
    let forked = unsafe { nix::unistd::fork() }.unwrap();
    let nix::unistd::ForkResult::Parent { child } = forked else {
        let pushed = batch.push(&payload(1)).unwrap_err().code();
        drop(batch);
        let codes = [
            pushed,
            publisher.send(&payload(1)).unwrap_err().code(),
            publisher.wait_room(8, None).unwrap_err().code(),
            publisher.open_window(8).unwrap_err().code(),
            publisher.harvest().unwrap_err().code(),
            publisher.loan(8).map(drop).unwrap_err().code(),
            subscriber.try_recv().map(drop).unwrap_err().code(),
            subscriber.recv().map(drop).unwrap_err().code(),
            subscriber.lease_batch(&mut []).unwrap_err().code(),
            subscriber.harvest().unwrap_err().code(),
        ];
        publisher.sweep();
        let quiet = publisher.has_room(8) && !publisher.arm_room(8) && publisher.subscribers() == 0;
        let counted = publisher.stats().counters.messages + subscriber.stats().sources.len() as u64;
        subscriber.release(0);
        let quiet = quiet && subscriber.spin(8) && !subscriber.arm() && counted == 0;
        drop((publisher, subscriber, unnoticed));
        std::process::exit(if quiet && codes == ["ERR_RINGBELL_CLOSED"; 10] { 0 } else { 1 });
    };
    let status = nix::sys::wait::waitpid(child, None).unwrap();
    assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
    drop(batch);
    for number in 0..2 {
        check(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, number);
    }
    assert_eq!(publisher.subscribers(), 2);
    drop(unnoticed);
    assert_eq!(publisher.subscribers(), 1);
    assert!(!publisher.stats().counters.closed);
    say("fine");
}

#[test]
fn a_forked_child_gets_errors_and_harms_no_parent_object() {
    let place = Place::new();
    let mut child = Role::start("fork-use", &place.path, &[]);
    assert_eq!(child.heard(), "fine");
}
