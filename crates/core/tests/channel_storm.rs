//! Handshakes by the thousand, with servers that die, hang and refuse in between: whatever becomes of one, nobody ever sees
//! a connection reset. Short here; `npm run soak` makes a hunt of 100,000 of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::*;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, Record};
use ringbell::channel::{Channel, ChannelOptions, ConnectOptions, Header, Kind, Notice, ServerOptions};

/// Connections of the crowd that comes at once.
const CROWD: usize = 1000;

fn handshakes() -> usize {
    std::env::var("CHANNEL_HANDSHAKES").map_or(3000, |count| count.parse().unwrap())
}

/// Plays a part for one of the tests below; nothing when run as a test.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "server" => serve(&bus, 1024),
        // Of three that come at once, one is told to wait.
        "refusing" => serve(&bus, 2),
        "roomy" => serve(&bus, 2 * CROWD as u32),
        "besieged" => {
            setrlimit(Resource::RLIMIT_NOFILE, 1024, 1024).unwrap();
            answer(&bus, 256);
        }
        other => panic!("no role {other}"),
    }
}

fn more_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

fn serve(bus: &Bus, connections: u32) {
    more_descriptors();
    answer(bus, connections);
}

/// Answers every request until it is killed.
fn answer(bus: &Bus, connections: u32) {
    let mut options = ServerOptions::default();
    options.capacity = 4096;
    options.max_connections = connections;
    let mut server = bus.serve("storm", options).unwrap();
    say("ready");
    loop {
        while let Some(incoming) = server.try_recv().unwrap() {
            let (connection, id) = (incoming.connection, incoming.header.id);
            // Its caller may be gone; and it sends no second request before the first was answered, so there is room.
            if let Err(error) = server.send(connection, Header::new(Kind::Reply, id), b"pong") {
                assert_eq!(error.code(), "ERR_RINGBELL_PEER_GONE");
            }
        }
        server.notices();
        server.wait(None).unwrap();
    }
}

/// Connects, calls once, and leaves; says how that ended.
fn visit(bus: &Bus, client: &mut Channel, id: u64) -> &'static str {
    let record = bus.wait_for("storm", Some(PATIENCE)).unwrap();
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_secs(5);
    let connection = match client.connect(&record, &options) {
        Ok(connection) => connection,
        Err(error) => return error.code(),
    };
    let result = client
        .wait_open(connection, PATIENCE)
        .and_then(|()| client.call(connection, id, b"ping", Duration::from_secs(5)));
    client.disconnect(connection);
    client.notices();
    match result {
        Ok(reply) => {
            assert_eq!(reply, b"pong");
            "served"
        }
        Err(error) => error.code(),
    }
}

#[test]
fn no_client_sees_a_reset_whatever_servers_do() {
    let place = Place::watched(120 + handshakes() as u64 / 20);
    let bus = place.bus();
    let mut first = Role::start("server", &place.path, &[]);
    assert_eq!(first.heard(), "ready");
    let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outcomes = std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..3u64)
            .map(|visitor| {
                let (bus, done) = (&bus, &done);
                scope.spawn(move || {
                    let mut client = bus.channel(ChannelOptions::default()).unwrap();
                    let mut outcomes = BTreeMap::<_, usize>::new();
                    while done.fetch_add(1, Ordering::Relaxed) < handshakes() {
                        *outcomes.entry(visit(bus, &mut client, visitor)).or_default() += 1;
                    }
                    outcomes
                })
            })
            .collect();
        // Servers come and go meanwhile: one is killed, one hangs before it is, one refuses.
        let weather = scope.spawn(|| {
            let mut current = first;
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mut next =
                    Role::start(if round % 3 == 2 { "refusing" } else { "server" }, &place.path, &[]);
                assert_eq!(next.heard(), "ready");
                if round % 3 == 1 {
                    current.stop();
                    std::thread::sleep(Duration::from_millis(30));
                    current.signal(Signal::SIGCONT);
                }
                current.kill();
                current = next;
                let until = Instant::now() + Duration::from_millis(100);
                while Instant::now() < until && !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let visited: Vec<_> = visitors.into_iter().map(|visitor| visitor.join()).collect();
        // Also if a visitor failed: the weather would last for ever.
        over.store(true, Ordering::Relaxed);
        weather.join().unwrap();
        let mut sum = BTreeMap::<_, usize>::new();
        for (outcome, count) in visited.into_iter().flat_map(Result::unwrap) {
            *sum.entry(outcome).or_default() += count;
        }
        sum
    });
    println!("{outcomes:?}");
    let known = ["served", "ERR_RINGBELL_PEER_GONE", "ERR_RINGBELL_TIMEOUT"];
    assert!(outcomes.keys().all(|outcome| known.contains(outcome)), "{outcomes:?}");
    assert!(outcomes["served"] > handshakes() / 2, "{outcomes:?}");
}

/// Comes to a server's socket as a client of the worst kind, and stays until it is dropped.
struct Besieger<'a> {
    bus: &'a Bus,
    record: &'a Record,
    /// As a good client would say it.
    connect: Vec<u8>,
    null: std::fs::File,
}

impl Besieger<'_> {
    fn new<'a>(bus: &'a Bus, record: &'a Record) -> Besieger<'a> {
        let connect = datagram(7, &[(8, &id_of(record)), (24, &[1])]);
        Besieger { bus, record, connect, null: std::fs::File::open("/dev/null").unwrap() }
    }

    /// Connects; `None` while the backlog is full.
    fn come(&self, kind: usize) -> Option<Raw> {
        let raw = match Raw::try_to(self.bus, self.record) {
            Err(Errno::EAGAIN) => return None,
            raw => raw.unwrap(),
        };
        let null = [self.null.as_fd()];
        let (bytes, fds): (&[u8], _) = match kind % 5 {
            // Says nothing.
            0 => return Some(raw),
            // Half.
            1 => (&self.connect[..10], &[][..]),
            2 => (b"GET / HTTP/1.1\r\n\r\n", &[][..]),
            3 => (&self.connect, &null[..]),
            // All of it, and never reads the answer.
            _ => (&self.connect, &[][..]),
        };
        // EPIPE if this socket was shed before its turn came, EPERM where the kernel keeps descriptors out.
        let _ = raw.try_send_with(bytes, fds);
        Some(raw)
    }
}

#[test]
fn ten_thousand_hostile_clients_keep_no_good_one_out() {
    const BESIEGERS: usize = 10_000;
    more_descriptors();
    let place = Place::new();
    let bus = place.bus();
    let mut server = Role::start("besieged", &place.path, &[]);
    assert_eq!(server.heard(), "ready");
    let record = bus.wait_for("storm", Some(PATIENCE)).unwrap();
    let besieger = Besieger::new(&bus, &record);
    let over = AtomicBool::new(false);
    let (came, times) = std::thread::scope(|scope| {
        let siege = scope.spawn(|| {
            let mut inside = Vec::new();
            let mut came = 0;
            while came < BESIEGERS && !over.load(Ordering::Relaxed) {
                match besieger.come(came) {
                    Some(socket) => {
                        inside.push(socket);
                        came += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
            came
        });
        let mut client = bus.channel(ChannelOptions::default()).unwrap();
        let mut times = Vec::new();
        while !siege.is_finished() || times.is_empty() {
            let begun = Instant::now();
            assert_eq!(visit(&bus, &mut client, times.len() as u64), "served");
            times.push(begun.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        (siege.join().unwrap(), times)
    });
    println!("{came} hostile ones, good ones waited for at most {:?}", times.iter().max().unwrap());
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
    assert!(open <= 1024);
    let mut client = bus.channel(ChannelOptions::default()).unwrap();
    assert_eq!(visit(&bus, &mut client, 0), "served");
}

#[test]
fn a_thousand_connect_at_once_and_all_are_served() {
    more_descriptors();
    let place = Place::new();
    let bus = place.bus();
    let mut server = Role::start("roomy", &place.path, &[]);
    assert_eq!(server.heard(), "ready");
    let record = bus.wait_for("storm", Some(PATIENCE)).unwrap();
    let mut client = bus.channel(ChannelOptions::default()).unwrap();
    let options = ConnectOptions::default();
    let asked: Vec<_> = (0..CROWD).map(|_| client.connect(&record, &options).unwrap()).collect();
    let mut opened = 0;
    let deadline = Instant::now() + 2 * PATIENCE;
    while opened < CROWD {
        for notice in client.notices() {
            assert!(matches!(notice, Notice::Opened { .. }), "{notice:?}");
            opened += 1;
        }
        assert!(opened == CROWD || client.wait(Some(deadline)).unwrap(), "{opened} of {CROWD} in time");
    }
    for connection in &asked {
        assert!(client.send(*connection, Header::new(Kind::Request, 1), b"ping").unwrap());
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < CROWD {
        let incoming = client.recv_timeout(PATIENCE).unwrap().expect("an answer in time");
        assert_eq!(incoming.data, b"pong");
        assert!(answered.insert(incoming.connection), "answered twice");
    }
    assert!(answered.iter().eq(&asked));
    // The kernel's book of the server's descriptors: three a client, six where memory is not shared, and its own.
    let streamed = client.stats().connections.iter().filter(|link| link.rung == Rung::Stream).count();
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
    assert!(open <= 3 * (CROWD + streamed) + 32, "{open} descriptors for {CROWD} clients");
}
