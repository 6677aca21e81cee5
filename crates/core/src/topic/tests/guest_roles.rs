//! What the children of `guests` play, each as the user that its scenario names: honest guests, and every kind of other. With
//! `streamed` in front they ask for a stream.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{Gid, Uid};

use super::guests::{CLUB, GUEST_USER, HOST, PATIENCE, send_all, topic, until};
use crate::bus::{Bus, BusOptions, ServiceEvent};
use crate::handshake::wire::{Datagram, GUEST, LONGEST, Refusal, SHARED_MEMORY, STREAM, id_bytes};
use crate::record::{Access, Group, Overflow, Record, Rung};
use crate::sys::scm::{self, ReceiveError, Received};
use crate::sys::{memfd, seqpacket};
use crate::topic::acquire::tests::child::{hear, say};
use crate::topic::{EndReason, Notice, Start, Subscriber, SubscriberOptions};

/// `<uid> <groups> <what…>`
pub(super) fn become_and_play(scenario: &str, folder: &Path) {
    let mut words = scenario.split(' ');
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
    nix::unistd::setgroups(&groups).unwrap();
    nix::unistd::setresgid(Gid::from_raw(uid), Gid::from_raw(uid), Gid::from_raw(uid)).unwrap();
    nix::unistd::setresuid(Uid::from_raw(uid), Uid::from_raw(uid), Uid::from_raw(uid)).unwrap();
    // As after an exec: what of /proc is its own. Without one, and without this, it is not.
    if what != ["read", "undumpable"] {
        nix::sys::prctl::set_dumpable(true).unwrap();
    }
    let acquire = streamed.then_some(Rung::Stream);
    let options = BusOptions { path: Some(folder.join("bus")), acquire, ..BusOptions::default() };
    let shared = || BusOptions {
        group: Some(Group::Id(CLUB)),
        trusted_uids: vec![HOST, GUEST_USER],
        ..options.clone()
    };
    match what[..] {
        ["read"] | ["read", "undumpable"] => read(&Bus::open(options).unwrap(), 0),
        ["read", "shared"] => read(&Bus::open(shared()).unwrap(), 0),
        ["durable"] => durable(&Bus::open(options).unwrap()),
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

/// Attaches, reads nothing until it is told to, and says what became of it.
fn stall(bus: &Bus) {
    let mut subscriber = subscribe(bus);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    say("attached");
    assert!(hear(&mut String::new()));
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
    hear(&mut String::new());
}

/// A handshake by hand.
struct Raw {
    socket: OwnedFd,
    record: Arc<Record>,
}

impl Raw {
    fn connect(bus: &Bus) -> Raw {
        let record = bus.find("topic").unwrap().unwrap();
        let socket = seqpacket::endpoint().unwrap();
        let name = record.socket_name();
        let deadline = Instant::now() + PATIENCE;
        while let Err(errno) =
            seqpacket::connect_at(socket.as_fd(), bus.dir().fd().as_fd(), bus.path(), name.as_ref())
        {
            assert!(errno == Errno::EAGAIN && Instant::now() < deadline, "{errno}");
            std::thread::yield_now();
        }
        Raw { socket, record }
    }

    fn hello(&self, capabilities: u64) {
        let id = id_bytes(&self.record.id).unwrap();
        scm::send(
            &self.socket,
            &Datagram::Hello { id, capabilities, pid: 1, start: 0, name: 0 }.encode(),
            &[],
        )
        .unwrap();
    }

    fn receive(&self) -> (Received, Option<Datagram>) {
        wait_for(self.socket.as_fd());
        let mut buffer = [0; LONGEST];
        match scm::receive(&self.socket, &mut buffer) {
            Ok(received) if received.length == 0 => (received, None),
            Ok(received) => {
                let datagram = Datagram::decode(&buffer[..received.length]).unwrap();
                (received, Some(datagram))
            }
            Err(ReceiveError::Os(Errno::ECONNRESET)) => (Received { length: 0, fds: Vec::new() }, None),
            Err(error) => panic!("{error:?}"),
        }
    }

    /// As a guest that is streamed to: where that begins.
    fn stream(&self) -> crate::handshake::wire::Begin {
        self.hello(STREAM);
        let (received, datagram) = self.receive();
        assert_eq!(received.fds.len(), 0, "descriptors came with a stream");
        let Some(Datagram::Stream { capabilities, begin, .. }) = datagram else { panic!("{datagram:?}") };
        assert_eq!(capabilities, STREAM | GUEST);
        begin
    }

    /// As a guest: both descriptors.
    fn seat(&self) -> [OwnedFd; 2] {
        self.hello(SHARED_MEMORY | GUEST);
        let (received, datagram) = self.receive();
        assert!(
            matches!(datagram, Some(Datagram::Segments { capabilities, .. }) if capabilities & GUEST != 0),
            "{datagram:?}"
        );
        scm::send(&self.socket, &Datagram::Claimed { slot: 0 }.encode(), &[]).unwrap();
        assert_eq!(self.receive().1, Some(Datagram::Doorbell { slot: 0 }));
        <[OwnedFd; 2]>::try_from(received.fds).expect("data and control, and nothing else")
    }
}

fn wait_for(fd: BorrowedFd<'_>) {
    assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], 60_000u16), Ok(1), "nothing came");
}

fn refused(bus: &Bus, how: &str) {
    let raw = Raw::connect(bus);
    assert_eq!(poll(&mut [PollFd::new(raw.socket.as_fd(), PollFlags::POLLIN)], 0u16), Ok(0));
    raw.hello(if how == "plain" { SHARED_MEMORY } else { SHARED_MEMORY | GUEST });
    let (received, datagram) = raw.receive();
    let Some(Datagram::Refused { refusal, text, .. }) = datagram else { panic!("{datagram:?}") };
    assert_eq!(received.fds.len(), 0, "descriptors came with a refusal");
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
    let raw = Raw::connect(bus);
    let [data, control] = raw.seat();
    let memory = raw.record.topic.as_ref().unwrap().memory.as_ref().unwrap();
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
    let pid = raw.record.pid;
    let getfd = crate::sys::pidfd::PidFd::open(pid).and_then(|publisher| publisher.getfd(memory.room.fd));
    assert!(matches!(getfd, Err(Errno::EPERM | Errno::ENOSYS)));
    assert!(std::fs::read_dir(format!("/proc/{pid}/fd")).is_err());
    for name in [raw.record.file_name(), raw.record.socket_name()] {
        assert!(std::fs::remove_file(bus.path().join(name)).is_err());
    }
    // Descriptors that it sends end the connection.
    let _ = scm::send(&raw.socket, &[1], &[again.as_fd()]);
    if seqpacket::is_connected(&raw.socket) {
        let refused = scm::send(&raw.socket, &[1, 2], &[]);
        assert!(matches!(refused, Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET)));
        until("what is no ring ends it", || !seqpacket::is_connected(&raw.socket));
    }
    say("harmless");
}

/// Rings without end.
fn flood(bus: &Bus) {
    let raw = Raw::connect(bus);
    let _fds = raw.seat();
    say("seated");
    assert!(hear(&mut String::new()));
    let mut sent = 0u64;
    let ended = loop {
        match scm::send(&raw.socket, &[1], &[]) {
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
            while hear(&mut String::new()) {}
            ended.store(true, Ordering::SeqCst);
        }
    });
    ended
}

/// Is streamed to, and answers with bytes that are no report; then comes again.
fn nonsense(bus: &Bus) {
    let raw = Raw::connect(bus);
    raw.stream();
    scm::send(&raw.socket, &[0xff; 30], &[]).unwrap();
    until("it is put out", || !seqpacket::is_connected(&raw.socket));
    let again = Raw::connect(bus);
    again.hello(STREAM);
    let Some(Datagram::Refused { refusal, text, .. }) = again.receive().1 else { panic!("let in again") };
    say(&format!("{refusal:?} {text}"));
}

/// Is streamed to, and reports without end, whatever there is.
fn reports(bus: &Bus) {
    let raw = Raw::connect(bus);
    let position = raw.stream().position;
    let mut report = [0; 72];
    report[0] = 4;
    report[8..16].copy_from_slice(&position.to_le_bytes());
    let ended = parents_end();
    say("reporting");
    while !ended.load(Ordering::Relaxed) {
        match scm::send(&raw.socket, &report, &[]) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Writes nonsense over all of its control segment, says that it sleeps all the time, and never reads its socket.
fn scribble(bus: &Bus) {
    let raw = Raw::connect(bus);
    let [_data, control] = raw.seat();
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
    let name = record.socket_name();
    let ended = parents_end();
    say("knocking");
    let mut held = std::collections::VecDeque::new();
    let mut knocks = 0u64;
    while !ended.load(Ordering::Relaxed) {
        let socket = seqpacket::endpoint().unwrap();
        let dir = bus.dir().fd();
        if seqpacket::connect_at(socket.as_fd(), dir.as_fd(), bus.path(), name.as_ref()).is_ok() {
            knocks += 1;
            held.push_back(socket);
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
    let mut line = String::new();
    while hear(&mut line) {
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
    let told = |event| match event {
        Some(ServiceEvent::Added(_)) => "added",
        Some(ServiceEvent::Updated(_)) => "updated",
        Some(ServiceEvent::Removed(_)) => "removed",
        None => "nothing",
    };
    for _ in 0..2 {
        say(told(watch.next(Some(PATIENCE)).unwrap()));
    }
    let report = bus.gc().unwrap();
    say(&format!("{} {}", report.records, report.foreign));
}
