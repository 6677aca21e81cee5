//! A peer of the same user that came by handshake, and turns the doorbells that it was given against those who ring them: it
//! clears `O_NONBLOCK`, which belongs to the open file that all holders share, and fills the counter, so that `write` waits for
//! ever. By default nothing that it did before a ring blocks the ringer, which then goes over to Linux AIO; with safe doorbells
//! nothing that it does at any time does. Written from `docs/protocol.md` alone, with no line of the library on its side.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::*;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, Record};
use ringbell::channel::{ChannelOptions, ConnectOptions, Header, Kind, ServerOptions};
use ringbell::topic::{Publisher, PublisherOptions, Subscriber, SubscriberOptions};

/// Where the control segment says who sleeps, and where the slots are.
const SLEEPERS: u64 = 128;
const PUBLISHER_WAITING: u64 = 256;
const SLOTS: u64 = 512;
/// The hostile peer takes the last slot of the first doorbell.
const SLOT: u32 = 15;
/// More rings than requests fit into the queue that they are rung through.
const RINGS: u64 = 300;
/// Rings against a peer that does what it can all the time.
const STORM: u64 = 10_000;

/// What the hostile peer holds.
struct Hostile {
    control: File,
    room: OwnedFd,
    doorbell: OwnedFd,
    _slot: File,
}

impl Hostile {
    fn attach(bus: &Bus, record: &Record) -> Hostile {
        let connection = Raw::to(bus, record);
        let fields: [(usize, &[u8]); 2] = [(8, &id_of(record)), (24, &1u64.to_le_bytes())];
        assert!(connection.send(&datagram(1, &fields)));
        let (_, mut segments) = connection.receive_with_fds();
        let (room, control) = (segments.pop().unwrap(), File::from(segments.pop().unwrap()));
        // A description of its own, for a lock of its own.
        let path = format!("/proc/self/fd/{}", control.as_raw_fd());
        let slot = File::options().read(true).write(true).open(path).unwrap();
        let lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: (SLOTS + 128 * u64::from(SLOT)) as libc::off_t,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&slot, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert!(connection.send(&datagram(3, &[(8, &SLOT.to_le_bytes())])));
        let doorbell = connection.receive_with_fds().1.pop().unwrap();
        assert!(connection.send(&datagram(5, &[])));
        Hostile { control, room, doorbell, _slot: slot }
    }

    fn word(&self, at: u64) -> u32 {
        let mut word = [0; 4];
        self.control.read_exact_at(&mut word, at).unwrap();
        u32::from_le_bytes(word)
    }

    fn set(&self, at: u64) {
        self.control.write_all_at(&1u32.to_le_bytes(), at).unwrap();
    }
}

/// Has every `write` of 1 to it wait.
fn spoil(bell: impl AsFd) {
    let flags = OFlag::from_bits_retain(fcntl(&bell, FcntlArg::F_GETFL).unwrap());
    // It may have been rung before.
    let _ = nix::unistd::read(&bell, &mut [0; 8]);
    nix::unistd::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    fcntl(&bell, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).unwrap();
}

/// Whether a process has a queue for Linux AIO, which the kernel maps into it.
fn has_queue(role: &Role) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", role.child.id())).unwrap();
    maps.contains("/[aio]")
}

fn publish(bus: &Bus) -> Publisher {
    bus.publisher("ticks", PublisherOptions::default()).unwrap()
}

fn subscribe(bus: &Bus) -> Subscriber {
    let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default()).unwrap();
    subscriber.set_spin(Duration::ZERO);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    subscriber
}

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "publisher" => {
            let mut publisher = publish(&bus);
            say("there");
            while let Some(order) = listen() {
                publisher.send(b"tick").unwrap();
                while order == "storm" && publisher.stats().counters.rings < STORM {
                    publisher.send(b"tick").unwrap();
                }
                say("sent");
            }
        }
        "streamer" => {
            let mut options = PublisherOptions::default();
            options.offers = vec![Rung::Stream];
            let mut publisher = bus.publisher("ticks", options).unwrap();
            say("there");
            while listen().is_some() {
                publisher.send(b"tick").unwrap();
                say(&publisher.stats().counters.rings.to_string());
            }
        }
        "stream-server" => {
            let mut options = ServerOptions::default();
            options.offers = vec![Rung::Stream];
            let mut server = bus.serve("echo", options).unwrap();
            say("there");
            while listen().is_some() {
                let (connection, id) = {
                    let request = server.recv().unwrap();
                    (request.connection, request.header.id)
                };
                assert!(server.send(connection, Header::new(Kind::Reply, id), b"reply").unwrap());
                say(&server.stats().rings.to_string());
            }
        }
        "doctor" => {
            let checks = bus.doctor().checks;
            let check = checks.into_iter().find(|check| check.check == "doorbells").unwrap();
            say(&check.detail);
            listen();
        }
        _ => {
            let mut subscriber = subscribe(&bus);
            say("attached");
            for _ in 0..RINGS {
                let message = subscriber.recv().unwrap();
                say(&message.sequence.to_string());
            }
        }
    }
}

#[test]
fn a_publisher_wakes_all_sleepers_by_a_saturated_doorbell() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = Role::start("publisher", &place.path, &[]);
    assert_eq!(publisher.heard(), "there");
    let mut subscriber = subscribe(&bus);
    let hostile = Hostile::attach(&bus, &bus.find("ticks").unwrap().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..=RINGS).for_each(|sequence| assert_eq!(subscriber.recv().unwrap().sequence, sequence))
        });
        let mut send = || {
            until("the subscriber sleeps", || hostile.word(SLEEPERS) != 0);
            publisher.tell("send");
            assert_eq!(publisher.heard(), "sent");
        };
        send();
        until("the subscriber sleeps", || hostile.word(SLEEPERS) != 0);
        spoil(&hostile.doorbell);
        (0..RINGS).for_each(|_| send());
    });
    assert!(has_queue(&publisher));
}

#[test]
fn a_process_without_an_attacker_has_no_queue() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = Role::start("publisher", &place.path, &[]);
    assert_eq!(publisher.heard(), "there");
    let mut subscriber = subscribe(&bus);
    let hostile = Hostile::attach(&bus, &bus.find("ticks").unwrap().unwrap());
    for sequence in 0..3 {
        hostile.set(SLEEPERS);
        publisher.tell("send");
        assert_eq!(publisher.heard(), "sent");
        assert_eq!(hostile.word(SLEEPERS), 0, "it has rung");
        assert_eq!(subscriber.recv().unwrap().sequence, sequence);
    }
    assert!(!has_queue(&publisher));
    let mut doctor = Role::start("doctor", &place.path, &[]);
    assert!(doctor.heard().contains("rung by write"));
    assert!(!has_queue(&doctor), "what the doctor tries is gone");
}

#[test]
fn safe_doorbells_never_block_whatever_a_peer_does() {
    let place = Place::new();
    let bus = place.bus();
    let safe = [("IPC_BUS_SAFE_DOORBELLS", "1")];
    let mut publisher = Role::start("publisher", &place.path, &safe);
    assert_eq!(publisher.heard(), "there");
    let hostile = Hostile::attach(&bus, &bus.find("ticks").unwrap().unwrap());
    hostile.set(SLEEPERS);
    publisher.tell("send");
    assert_eq!(publisher.heard(), "sent");
    assert!(has_queue(&publisher), "before anybody attacks it");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                hostile.set(SLEEPERS);
                // It does not read, which would free a thread that waits. So the counter is 0 or 1, or full.
                for amount in [u64::MAX - 1, u64::MAX - 2] {
                    let _ = nix::unistd::write(&hostile.doorbell, &amount.to_ne_bytes());
                }
                for flags in [OFlag::empty(), OFlag::O_NONBLOCK] {
                    fcntl(&hostile.doorbell, FcntlArg::F_SETFL(flags)).unwrap();
                }
            }
        });
        publisher.tell("storm");
        let said = publisher.heard();
        over.store(true, Ordering::Relaxed);
        assert_eq!(said, "sent");
    });
    let mut doctor = Role::start("doctor", &place.path, &safe);
    assert!(doctor.heard().contains("rung by io_submit"));
}

/// Repeats `exchange` until the other side says that it has rung a doorbell.
fn until_it_rings(role: &mut Role, mut exchange: impl FnMut()) {
    until("it has rung", || {
        role.tell("go");
        exchange();
        role.heard() != "0"
    });
}

#[test]
fn a_stream_needs_no_safe_doorbells() {
    let place = Place::new();
    let bus = place.bus();
    let safe = [("IPC_BUS_SAFE_DOORBELLS", "1")];
    let mut publisher = Role::start("streamer", &place.path, &safe);
    assert_eq!(publisher.heard(), "there");
    let mut subscriber = subscribe(&bus);
    until_it_rings(&mut publisher, || assert_eq!(subscriber.recv().unwrap().data, b"tick"));
    assert!(!has_queue(&publisher), "its doorbells stay in its process");

    let mut server = Role::start("stream-server", &place.path, &safe);
    assert_eq!(server.heard(), "there");
    let mut client = bus.channel(ChannelOptions::default()).unwrap();
    let record = bus.find("echo").unwrap().unwrap();
    let connection = client.connect(&record, &ConnectOptions::default()).unwrap();
    client.wait_open(connection, PATIENCE).unwrap();
    until_it_rings(&mut server, || {
        assert_eq!(client.call(connection, 1, b"request", PATIENCE).unwrap(), b"reply");
    });
    assert!(!has_queue(&server));
}

#[test]
fn a_subscriber_rings_a_saturated_room_doorbell() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = publish(&bus);
    let mut subscriber = Role::start("subscriber", &place.path, &[]);
    assert_eq!(subscriber.heard(), "attached");
    let hostile = Hostile::attach(&bus, &publisher.record());
    spoil(&hostile.room);
    for sequence in 0..RINGS {
        hostile.set(PUBLISHER_WAITING);
        publisher.send(b"tick").unwrap();
        assert_eq!(subscriber.heard(), sequence.to_string());
        if sequence > 0 {
            until("it has rung for room", || hostile.word(PUBLISHER_WAITING) == 0);
        }
    }
}
