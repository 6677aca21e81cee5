//! The roles of the children of `guests`: honest guests, and every kind of hostile one. Each becomes the user that its
//! role names. A role that begins with `streamed` asks for a stream.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::Gid;

use super::guests::{CLUB, GUEST_USER, HOST, send_all, topic};
use crate::bus::{Bus, BusOptions};
use crate::handshake::wire::{Begin, Datagram, GUEST, Refusal, SHARED_MEMORY, STREAM, id_bytes};
use crate::harness::{PATIENCE, Raw, become_user, listen, next, say, until};
use crate::record::{Access, Group, Overflow, Record, Rung};
use crate::sys::{memfd, seqpacket};
use crate::topic::{EndReason, Notice, Start, Subscriber, SubscriberOptions};

/// `<uid> <groups> <what…>`
pub(super) fn become_and_play(role: &str, path: &Path) {
    let mut words = role.split(' ');
    let uid: u32 = words.next().unwrap().parse().unwrap();
    let groups = words.next().unwrap();
    let groups: Vec<Gid> = groups
        .split(',')
        .filter_map(|gid| gid.parse().ok())
        .filter(|gid| *gid != 0)
        .map(Gid::from_raw)
        .collect();
    let mut what: Vec<&str> = words.collect();
    let streamed = what.first() == Some(&"streamed");
    if streamed {
        what.remove(0);
    }
    become_user(uid, &groups);
    if what == ["read", "undumpable"] {
        // As without an exec: its own files in /proc belong to root.
        nix::sys::prctl::set_dumpable(false).unwrap();
    }
    let acquire = streamed.then_some(Rung::Stream);
    let options = BusOptions { path: Some(path.to_owned()), acquire, ..BusOptions::default() };
    let shared = || BusOptions {
        group: Some(Group::Id(CLUB)),
        trusted_uids: vec![HOST, GUEST_USER],
        ..options.clone()
    };
    match what[..] {
        ["read"] | ["read", "undumpable"] => read(&Bus::open(options).unwrap(), 0),
        ["read", "shared"] => read(&Bus::open(shared()).unwrap(), 0),
        ["durable"] => durable(&Bus::open(options).unwrap()),
        ["visit"] => visit(&Bus::open(options).unwrap()),
        ["stall"] => stall(&Bus::open(options).unwrap()),
        ["crowd", count] => crowd(&Bus::open(options).unwrap(), count.parse().unwrap()),
        ["refused", how] => refused(&Bus::open(options).unwrap(), how),
        ["holdings"] => holdings(&Bus::open(options).unwrap()),
        ["reports"] => reports(&Bus::open(options).unwrap()),
        ["nonsense"] => nonsense(&Bus::open(options).unwrap()),
        ["flood"] => flood(&Bus::open(options).unwrap()),
        ["scribble"] => scribble(&Bus::open(options).unwrap()),
        ["knock"] => knock(&Bus::open(options).unwrap()),
        ["publish", "shared"] => publish(&Bus::open(shared()).unwrap()),
        ["enter", "shared"] => {
            let error = Bus::open(shared()).map(drop).unwrap_err();
            say(&format!("{} {:?}", error.code(), error.errno().map(Errno::from_raw)));
        }
        ["watch", "shared"] => watch(&Bus::open(shared()).unwrap()),
        ref other => panic!("{other:?}"),
    }
}

fn subscribe(bus: &Bus) -> Subscriber {
    let options = SubscriberOptions { from: Start::Latest, ..SubscriberOptions::default() };
    let mut subscriber = bus.subscriber("topic", options).unwrap();
    // Sleeps often, so that doorbells are rung.
    subscriber.set_spin(Duration::ZERO);
    subscriber
}

/// Says that it is attached, then reads until the topic ends; says what it got.
fn read(bus: &Bus, mut next: u64) {
    let mut subscriber = subscribe(bus);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap(), "{:?}", subscriber.notices());
    let source = &subscriber.stats().sources[0];
    say(&format!("attached {} {} {}", source.rung, source.guest, source.slot));
    loop {
        while let Some(message) = subscriber.try_recv().unwrap() {
            let number = u64::from_le_bytes(*message.data.first_chunk().unwrap());
            assert_eq!(
                (message.sequence, number),
                (next, next),
                "a message is missing, torn, or out of turn"
            );
            next += 1;
        }
        for notice in subscriber.notices() {
            match notice {
                Notice::Ended { reason, .. } => return say(&format!("{next} {}", word(&reason))),
                Notice::Attached { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        subscriber.wait(Some(Instant::now() + Duration::from_millis(200))).unwrap();
    }
}

fn word(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Closed => "closed",
        EndReason::Died => "died",
        EndReason::Failed(error) => error.code(),
    }
}

/// Wants its place kept, and says what it is told.
fn durable(bus: &Bus) {
    let options = SubscriberOptions { durable: Some("me".into()), ..SubscriberOptions::default() };
    let mut subscriber = bus.subscriber("topic", options).unwrap();
    until("it is told", || {
        subscriber.wait(Some(Instant::now() + Duration::from_millis(10))).unwrap();
        subscriber.notices().into_iter().any(|notice| {
            let Notice::Failed { error, .. } = notice else { panic!("{notice:?}") };
            say(&error.to_string());
            true
        })
    });
}

/// Attaches, and closes when it is told to.
fn visit(bus: &Bus) {
    let mut subscriber = subscribe(bus);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    say("attached");
    listen();
}

/// Attaches, reads nothing until it is told to, and says what became of it.
fn stall(bus: &Bus) {
    let mut subscriber = subscribe(bus);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    say("attached");
    assert!(listen().is_some());
    let mut told = String::new();
    while told.is_empty() {
        while subscriber.try_recv().unwrap().is_some() {}
        for notice in subscriber.notices() {
            if let Notice::Ended { reason, .. } = notice {
                told = word(&reason).into();
            }
        }
    }
    say(&told);
}

/// Subscribes so many times, says how many got in, and stays.
fn crowd(bus: &Bus, count: usize) {
    let mut all: Vec<Subscriber> = (0..count).map(|_| subscribe(bus)).collect();
    let (mut attached, mut failed) = (0, Vec::new());
    until("each is in or out", || {
        for subscriber in &mut all {
            subscriber.wait(Some(Instant::now())).unwrap();
            for notice in subscriber.notices() {
                match notice {
                    Notice::Attached { .. } => attached += 1,
                    Notice::Failed { error, .. } => failed.push(error.code()),
                    _ => {}
                }
            }
        }
        attached + failed.len() >= count
    });
    failed.dedup();
    say(&format!("{attached} {}", failed.join(",")));
    listen();
}

fn knock_once(bus: &Bus) -> (Raw, Arc<Record>) {
    let record = bus.find("topic").unwrap().unwrap();
    (Raw::to(bus, &record), record)
}

fn hello(raw: &Raw, record: &Record, capabilities: u64) {
    let id = id_bytes(&record.id).unwrap();
    raw.say(&Datagram::Hello { id, capabilities, pid: 1, start: 0, name: 0 });
}

/// Connects as a guest that reads over a stream. Returns where the stream begins.
fn stream(bus: &Bus) -> (Raw, Begin) {
    let (raw, record) = knock_once(bus);
    hello(&raw, &record, STREAM);
    match raw.answer() {
        Some((Datagram::Stream { capabilities, begin, .. }, fds)) => {
            assert_eq!((capabilities, fds.len()), (STREAM | GUEST, 0));
            (raw, begin)
        }
        other => panic!("{other:?}"),
    }
}

/// The slot of a guest in shared memory.
struct Seat {
    raw: Raw,
    record: Arc<Record>,
    data: OwnedFd,
    control: OwnedFd,
}

fn seat(bus: &Bus) -> Seat {
    let (raw, record) = knock_once(bus);
    hello(&raw, &record, SHARED_MEMORY | GUEST);
    let (segments, fds) = raw.answer().unwrap();
    assert!(matches!(segments, Datagram::Segments { capabilities, .. } if capabilities & GUEST != 0));
    raw.say(&Datagram::Claimed { slot: 0 });
    assert_eq!(raw.answer().unwrap().0, Datagram::Doorbell { slot: 0 });
    let [data, control] = <[OwnedFd; 2]>::try_from(fds).expect("data and control, and nothing else");
    Seat { raw, record, data, control }
}

fn refused(bus: &Bus, how: &str) {
    let (raw, record) = knock_once(bus);
    assert!(raw.try_receive().is_none());
    hello(&raw, &record, if how == "plain" { SHARED_MEMORY } else { SHARED_MEMORY | GUEST });
    let (refusal, text) = raw.refusal();
    let wanted = if how == "plain" { Refusal::NothingInCommon } else { Refusal::NotPermitted };
    assert_eq!(refusal, wanted, "{text}");
    drop(raw);
    if how == "full" {
        let mut subscriber = subscribe(bus);
        until("it is told", || {
            subscriber.wait(Some(Instant::now() + Duration::from_millis(10))).unwrap();
            subscriber.notices().iter().any(|notice| {
                matches!(notice, Notice::Failed { error, .. }
                if error.to_string().contains("ERR_RINGBELL_NO_PERMISSION"))
            })
        });
        assert_eq!(subscriber.publishers(), 0);
    }
    say("refused");
}

/// What a guest has, and what it cannot do with it.
fn holdings(bus: &Bus) {
    let Seat { raw, record, data, control } = seat(bus);
    let memory = record.topic.as_ref().unwrap().memory.as_ref().unwrap();
    assert_eq!(memfd::identity(&data).unwrap().unwrap().inode, memory.data.inode);
    let own = memfd::identity(&control).unwrap().unwrap();
    assert_ne!(own.inode, memory.control.inode, "the control segment that others share");
    assert_eq!(own.size, 4096);

    let page = std::num::NonZeroUsize::new(4096).unwrap();
    let writable = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    #[allow(unsafe_code)]
    let map = |fd: &OwnedFd, protection| {
        // SAFETY: a new mapping at an address of the kernel's choice.
        unsafe { mmap(None, page, protection, MapFlags::MAP_SHARED, fd, 0) }
    };
    let again = memfd::reopen(&data).unwrap();
    for fd in [&data, &again] {
        assert_eq!(map(fd, writable), Err(Errno::EPERM), "the data segment can be mapped writable");
        assert_eq!(nix::unistd::write(fd, b"x"), Err(Errno::EPERM));
        assert_eq!(nix::unistd::ftruncate(fd, 0), Err(Errno::EPERM));
        let punch = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
            | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        assert_eq!(nix::fcntl::fallocate(fd, punch, 0, 4096), Err(Errno::EPERM));
    }
    let mapped = map(&data, ProtFlags::PROT_READ).unwrap();
    // SAFETY: the page mapped above; then it goes.
    #[allow(unsafe_code)]
    unsafe {
        assert_eq!(nix::sys::mman::mprotect(mapped, page.get(), writable), Err(Errno::EACCES));
        munmap(mapped, page.get()).unwrap();
    }
    assert_eq!(
        nix::unistd::ftruncate(&control, 0),
        Err(Errno::EPERM),
        "its own could be cut short under its publisher"
    );
    assert!(map(&control, writable).is_ok(), "its own is its own");

    // Nor can it get at the rest by itself.
    let pid = record.pid;
    let getfd = crate::sys::pidfd::PidFd::open(pid).and_then(|publisher| publisher.getfd(memory.room.fd));
    assert!(matches!(getfd, Err(Errno::EPERM | Errno::ENOSYS)));
    assert!(std::fs::read_dir(format!("/proc/{pid}/fd")).is_err());
    for name in [record.file_name(), record.socket_name()] {
        assert!(std::fs::remove_file(bus.path().join(name)).is_err());
    }
    // Descriptors that it sends end the connection.
    let _ = raw.try_send_with(&[1], &[again.as_fd()]);
    if seqpacket::is_connected(&raw) {
        let refused = raw.try_send_with(&[1, 2], &[]);
        assert!(matches!(refused, Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET)));
        until("what is no ring ends it", || !seqpacket::is_connected(&raw));
    }
    say("harmless");
}

/// Rings without end.
fn flood(bus: &Bus) {
    let seat = seat(bus);
    say("seated");
    assert!(listen().is_some());
    let mut sent = 0u64;
    let ended = loop {
        match seat.raw.try_send_with(&[1], &[]) {
            Ok(()) => sent += 1,
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            Err(errno) => break errno,
        }
    };
    assert!(matches!(ended, Errno::EPIPE | Errno::ECONNRESET), "{ended}");
    say(&format!("put out {}", sent > 16));
}

/// Becomes true when the test lets go of this child.
fn parents_end() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let ended = ended.clone();
        move || {
            while listen().is_some() {}
            ended.store(true, Ordering::SeqCst);
        }
    });
    ended
}

/// Is streamed to, and answers with bytes that are no report; then comes again.
fn nonsense(bus: &Bus) {
    let (raw, _) = stream(bus);
    assert!(raw.send(&[0xff; 30]));
    until("it is put out", || !seqpacket::is_connected(&raw));
    let (again, record) = knock_once(bus);
    hello(&again, &record, STREAM);
    let (refusal, text) = again.refusal();
    say(&format!("{refusal:?} {text}"));
}

/// Is streamed to, and reports without end, whatever there is.
fn reports(bus: &Bus) {
    let (raw, Begin { position, .. }) = stream(bus);
    let mut report = [0; 72];
    report[0] = 4;
    report[8..16].copy_from_slice(&position.to_le_bytes());
    let ended = parents_end();
    say("reporting");
    while !ended.load(Ordering::Relaxed) {
        match raw.try_send_with(&report, &[]) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Writes nonsense over all of its control segment, says that it sleeps all the time, and never reads its socket.
fn scribble(bus: &Bus) {
    let Seat { control, raw: _raw, .. } = seat(bus);
    // SAFETY: a new mapping of a whole page of its own, at an address of the kernel's choice.
    #[allow(unsafe_code)]
    let words = unsafe {
        let page = std::num::NonZeroUsize::new(4096).unwrap();
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        mmap(None, page, flags, MapFlags::MAP_SHARED, &control, 0).unwrap()
    };
    let word = |offset: usize| -> &AtomicU64 {
        // SAFETY: inside the page, aligned, and touched by atomics alone.
        #[allow(unsafe_code)]
        unsafe {
            words.cast::<AtomicU64>().add(offset / 8).as_ref()
        }
    };
    let ended = parents_end();
    say("seated");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut turn = 0u64;
    while !ended.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        turn += 1;
        word(128).store(u64::MAX, Ordering::Relaxed);
        word(256).store(random, Ordering::Relaxed);
        match turn % 4 {
            0 => word(512).store((turn << 8) | (random % 5), Ordering::Relaxed),
            1 => word(520).store(random & 0xfff8, Ordering::Relaxed),
            2 => word((random % 512 * 8) as usize).store(random, Ordering::Relaxed),
            _ => {
                let _ = nix::fcntl::fallocate(
                    &control,
                    nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
                        | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE,
                    0,
                    4096,
                );
            }
        }
    }
    say("tired");
}

/// Connects and says nothing, again and again, until it is told to stop.
fn knock(bus: &Bus) {
    let record = bus.find("topic").unwrap().unwrap();
    let ended = parents_end();
    say("knocking");
    let mut held = std::collections::VecDeque::new();
    let mut knocks = 0u64;
    while !ended.load(Ordering::Relaxed) {
        if let Ok(raw) = Raw::try_to(bus, &record) {
            knocks += 1;
            held.push_back(raw);
        }
        if held.len() > 200 {
            held.pop_front();
        }
    }
    say(&format!("{}", knocks > 64));
}

fn publish(bus: &Bus) {
    let mut publisher = topic(bus, Overflow::Block, Access::default());
    say("ready");
    while let Some(line) = listen() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|count| count.parse().ok())) {
            (Some("send"), Some(count)) => send_all(&mut publisher, count),
            (Some("wait"), _) => until("a guest comes", || publisher.subscribers() > 0),
            other => panic!("{other:?}"),
        }
        say("done");
    }
}

fn watch(bus: &Bus) {
    let mut watch = bus.watch(crate::bus::Filter::Exact("topic".into())).unwrap();
    for _ in 0..2 {
        say(next(&mut watch).0);
    }
    let report = bus.gc().unwrap();
    say(&format!("{} {}", report.records, report.foreign));
}
