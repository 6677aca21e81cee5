//! Peers of a channel that break the rules, at the handshake and afterwards: they cost themselves their connection, and a
//! good one nothing. The raw peer here speaks the handshake datagram by datagram and writes to whatever it was handed.
#![allow(unsafe_code)] // the reason: a hostile peer writes over shared words

mod others;
mod streams;

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{Channel, ChannelOptions, CloseReason, ConnectOptions, Header, Kind, Notice, ServerOptions};
use crate::bus::Bus;
use crate::error::Error;
use crate::handshake::wire::{Connect, Connected, Datagram, GUEST, LENGTH, Refusal, SHARED_MEMORY, id_bytes};
use crate::harness::{Everybody, PATIENCE, Place, Raw, in_the_place_of};
use crate::record::{Record, Rung};
use crate::segment::{PairFds, PairShape, attach_pair, create_pair};
use crate::sys::eventfd::EventFd;
use crate::sys::{memfd, scm, seqpacket};

struct Stage {
    bus: Bus,
    server: Channel,
    record: Arc<Record>,
    _place: Place,
}

fn stage(options: ServerOptions) -> Stage {
    let place = Place::new();
    let bus = place.bus();
    let server = bus.serve("target", options).unwrap();
    let record = server.record().unwrap();
    Stage { bus, server, record, _place: place }
}

fn socket_to(stage: &Stage) -> Raw {
    Raw::to(&stage.bus, &stage.record)
}

fn connect_datagram(record: &Record) -> Connect {
    connect_on(SHARED_MEMORY, record)
}

fn connect_on(capabilities: u64, record: &Record) -> Connect {
    let id = id_bytes(&record.id).unwrap();
    Connect { id, capabilities, pid: 1, client_ring: 4096, server_ring: 4096 }
}

/// A peer that has shaken hands and holds the descriptors.
struct RawPeer {
    socket: Raw,
    connected: Connected,
    fds: Vec<OwnedFd>,
}

fn raw(stage: &Stage) -> RawPeer {
    raw_on(SHARED_MEMORY, stage)
}

fn raw_on(capabilities: u64, stage: &Stage) -> RawPeer {
    let socket = socket_to(stage);
    socket.say(&Datagram::Connect(connect_on(capabilities, &stage.record)));
    let Some((Datagram::Connected(connected), fds)) = socket.answer() else { panic!("not connected") };
    socket.say(&Datagram::Ack);
    RawPeer { socket, connected, fds }
}

fn shape_of(raw: &RawPeer) -> PairShape {
    let nonce = super::server::nonce_words(raw.connected.nonce);
    PairShape { client_ring: 4096, server_ring: 4096, nonce }
}

fn pair_of(raw: &RawPeer) -> PairFds {
    let [client_data, server_data, control] = [0, 1, 2].map(|at: usize| raw.fds[at].try_clone().unwrap());
    PairFds { client_data, server_data, control }
}

/// The number of the connection that has come, waited for.
fn opened(server: &mut Channel) -> u32 {
    loop {
        server.try_recv().unwrap();
        match server.notices().into_iter().next() {
            Some(Notice::Opened { connection, .. }) => break connection,
            _ => drop(server.wait(Some(Instant::now() + PATIENCE)).unwrap()),
        }
    }
}

#[test]
fn no_wakeups_are_counted_in_memory_that_the_peer_writes() {
    const WAKEUPS: u64 = 512 + 40;
    let mut stage = stage(ServerOptions::default());
    let raw = raw(&stage);
    // The server takes earlier rings when it hears of a connection, as after every wake-up.
    opened(&mut stage.server);
    let control = std::fs::File::from(raw.fds[2].try_clone().unwrap());
    let other = control.metadata().unwrap().len() / 2;
    for at in [WAKEUPS, other + WAKEUPS] {
        let mut count = [0xff; 8];
        control.read_exact_at(&mut count, at).unwrap();
        assert_eq!(u64::from_le_bytes(count), 0);
    }
}

/// How the connection ended, waited for; messages before that are dropped.
fn closed(server: &mut Channel, of: u32) -> CloseReason {
    let deadline = Instant::now() + PATIENCE;
    loop {
        while server.try_recv().unwrap().is_some() {}
        let ended = server.notices().into_iter().find_map(|notice| match notice {
            Notice::Closed { connection, reason, .. } if connection == of => Some(reason),
            _ => None,
        });
        if let Some(reason) = ended {
            return reason;
        }
        assert!(Instant::now() < deadline, "connection {of} never ended");
        server.wait(Some(deadline)).unwrap();
    }
}

/// A good client calls, and is answered by this thread's server.
fn a_good_client_is_served(stage: &mut Stage) {
    let mut client = stage.bus.channel(ChannelOptions::default()).unwrap();
    let there = client.connect(&stage.record, &ConnectOptions::default()).unwrap();
    client.wait_open(there, PATIENCE).unwrap();
    assert!(client.send(there, Header::new(Kind::Request, 7), b"good").unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        stage.server.notices();
        let incoming = stage.server.recv_timeout(deadline - Instant::now()).unwrap().expect("served in time");
        if incoming.data == b"good" {
            let (here, id) = (incoming.connection, incoming.header.id);
            assert!(stage.server.send(here, Header::new(Kind::Reply, id), b"served").unwrap());
            break;
        }
    }
    assert_eq!(client.recv_timeout(PATIENCE).unwrap().unwrap().data, b"served");
}

#[test]
fn garbage_at_the_handshake_is_dropped_and_refusals_say_why() {
    let mut stage = stage(ServerOptions::default());
    let connect = Datagram::Connect(connect_datagram(&stage.record)).encode();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; LENGTH], &[0xff; 4096], &connect[..10], &[1]] {
        let socket = socket_to(&stage);
        assert!(socket.send(bytes));
        assert!(socket.answer().is_none(), "{} bytes", bytes.len());
    }
    let socket = socket_to(&stage);
    socket.say(&Datagram::Ack);
    assert!(socket.answer().is_none());
    let twice = socket_to(&stage);
    twice.say(&Datagram::Connect(connect_datagram(&stage.record)));
    assert!(matches!(twice.answer(), Some((Datagram::Connected(_), _))));
    assert!(twice.send(&connect));
    assert!(twice.answer().is_none(), "CONNECT in the place of ACK");
    let good = connect_datagram(&stage.record);
    let mut version = connect.clone();
    version[4] = 9;
    let hello = Datagram::Hello { id: good.id, capabilities: SHARED_MEMORY, pid: 1, start: 0, name: 0 };
    for (bytes, expected) in [
        (version, Refusal::Version),
        (Datagram::Connect(Connect { id: [0; 16], ..good }).encode(), Refusal::WrongInstance),
        (Datagram::Connect(Connect { capabilities: 4, ..good }).encode(), Refusal::NothingInCommon),
        (hello.encode(), Refusal::NothingInCommon),
    ] {
        let socket = socket_to(&stage);
        assert!(socket.send(&bytes));
        assert_eq!(socket.refusal().0, expected);
    }
    a_good_client_is_served(&mut stage);
}

#[test]
fn silent_and_half_spoken_clients_do_not_keep_good_ones_out() {
    let mut stage = stage(ServerOptions::default());
    let silent: Vec<_> = (0..100).map(|_| socket_to(&stage)).collect();
    for socket in silent.iter().take(50) {
        // EPIPE if the server has shed this socket as silent before its turn came.
        socket.send(&Datagram::Connect(connect_datagram(&stage.record)).encode());
    }
    a_good_client_is_served(&mut stage);
    drop(silent);
    assert_eq!(stage.server.stats().opened, 1, "who never said ACK was never there");
}

#[test]
fn connections_of_stalled_clients_are_given_back() {
    let options = ServerOptions { max_connections: 1, ..ServerOptions::default() };
    let mut stage = stage(options);
    let stalled = socket_to(&stage);
    stalled.say(&Datagram::Connect(connect_datagram(&stage.record)));
    assert!(matches!(stalled.answer(), Some((Datagram::Connected(_), _))));
    // Its place is free at the deadline, and the good one has patience.
    a_good_client_is_served(&mut stage);
}

#[test]
fn sizes_are_the_servers_to_decide() {
    let stage = stage(ServerOptions::default());
    for (wanted, given) in [(0, 65_536), (4096, 4096), (5000, 65_536), (1 << 30, 65_536), (u64::MAX, 65_536)]
    {
        let socket = socket_to(&stage);
        let connect = Connect { client_ring: wanted, server_ring: wanted, ..connect_datagram(&stage.record) };
        socket.say(&Datagram::Connect(connect));
        let Some((Datagram::Connected(connected), _)) = socket.answer() else { panic!() };
        assert_eq!((connected.client_ring, connected.server_ring), (given, given), "{wanted}");
    }
}

/// The first `length` bytes of what a descriptor leads to, as words that anybody may write.
struct Words {
    base: std::ptr::NonNull<std::ffi::c_void>,
    length: usize,
}

impl Words {
    fn map(fd: impl AsFd, length: usize) -> Words {
        let size = NonZeroUsize::new(length).unwrap();
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, fd, 0) }.unwrap();
        Words { base, length }
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: `length` bytes are mapped, page-aligned, for as long as `self` lives, and touched by atomics alone.
        unsafe { std::slice::from_raw_parts(self.base.cast().as_ptr(), self.length / 8) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`.
        unsafe { munmap(self.base, self.length) }.unwrap();
    }
}

#[test]
fn a_client_that_corrupts_its_words_loses_only_its_connection() {
    let mut stage = stage(ServerOptions::default());
    let page = crate::segment::page_size();
    // The state of a simple generator, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut ended = 0;
    for round in 0..300u64 {
        let terms = if round % 4 < 2 { SHARED_MEMORY } else { SHARED_MEMORY | GUEST };
        let raw = raw_on(terms, &stage);
        let shape = shape_of(&raw);
        let [client_data, _server_data, control] = [0, 1, 2].map(|at| raw.fds[at].as_fd());
        let data = Words::map(client_data, page + 4096);
        let slots = Words::map(control, 2 * page);
        let number = opened(&mut stage.server);
        // Half of them behave at first, so that there is something to be spoilt.
        let ends = (round % 2 == 0).then(|| attach_pair(shape, &pair_of(&raw)).unwrap());
        for _ in 0..40 {
            let target = if random().is_multiple_of(2) { data.words() } else { slots.words() };
            let hot = [16, 17, 18, 32, 48, 64, 65, 66, 512, 513, 514, 576, 577];
            let at = match random() % 4 {
                0 => random() as usize % target.len(),
                _ => hot[random() as usize % hot.len()] % target.len(),
            };
            let word = match random() % 4 {
                0 => random(),
                1 => random() % 8192,
                2 => (random() % 512) * 8,
                _ => target[at].load(Ordering::Relaxed).wrapping_add(8),
            };
            target[at].store(word, Ordering::Relaxed);
            let _ = stage.server.send(number, Header::new(Kind::Message, round), b"to a hostile one");
            while stage.server.try_recv().unwrap().is_some() {}
            stage.server.arm();
        }
        drop(ends);
        drop(raw);
        // Whatever it did, its end is told, once.
        closed(&mut stage.server, number);
        ended += 1;
    }
    assert_eq!((ended, stage.server.connections().count()), (300, 0));
    a_good_client_is_served(&mut stage);
}

#[test]
fn a_doorbell_that_would_block_is_rung_without_blocking() {
    let mut stage = stage(ServerOptions::default());
    let raw = raw(&stage);
    let _ends = attach_pair(shape_of(&raw), &pair_of(&raw)).unwrap();
    let number = opened(&mut stage.server);
    let page = crate::segment::page_size();
    let slots = Words::map(raw.fds[2].as_fd(), 2 * page);
    // Behind the client's ring's control segment, that of the server's ring.
    let sleepers = &slots.words()[(page + 128) / 8];
    // The flag belongs to the open file that both sides hold.
    for bell in &raw.fds[3..] {
        nix::unistd::write(bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        fcntl(bell, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    }
    for round in 0..20 {
        sleepers.store(1, Ordering::Relaxed);
        assert!(stage.server.send(number, Header::new(Kind::Message, round), b"ring").unwrap());
        assert_eq!(sleepers.load(Ordering::Relaxed), 0, "it has been rung");
    }
    a_good_client_is_served(&mut stage);
}

#[test]
fn datagrams_that_are_no_parcels_end_the_connection() {
    let mut stage = stage(ServerOptions::default());
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let mut short = Vec::new();
    short.extend(b"RBHS\x03\0\x09\0");
    let mut lying = short.clone();
    lying.extend([2, 0, 0, 0, 3, 0, 0, 0]);
    lying.extend(b"abc");
    let bytes: [(&[u8], usize); 5] =
        [(b"nonsense", 0), (b"nonsense", 1), (&short, 1), (&lying, 1), (&[7; 40_000], 0)];
    for (bytes, count) in bytes {
        let raw = raw(&stage);
        let fds: Vec<BorrowedFd<'_>> = (0..count).map(|_| null.as_fd()).collect();
        raw.socket.send_with(bytes, &fds).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let reason = loop {
            assert!(stage.server.try_recv().unwrap().is_none());
            let closed = stage.server.notices().into_iter().find_map(|notice| match notice {
                Notice::Closed { reason, .. } => Some(reason),
                _ => None,
            });
            match closed {
                Some(reason) => break reason,
                None => assert!(stage.server.wait(Some(deadline)).unwrap()),
            }
        };
        let CloseReason::Failed(error) = reason else { panic!("{reason:?}") };
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER");
    }
    a_good_client_is_served(&mut stage);
}

/// Connects to a server at whose socket `reply` speaks instead.
fn connect_to(reply: impl Fn(&Raw) + Sync) -> Error {
    connect_with(&hasty(), reply)
}

fn hasty() -> ConnectOptions {
    ConnectOptions { timeout: Duration::from_secs(2), ..ConnectOptions::default() }
}

fn connect_with(options: &ConnectOptions, reply: impl Fn(&Raw) + Sync) -> Error {
    let stage = stage(ServerOptions::default());
    let mut client = stage.bus.channel(ChannelOptions::default()).unwrap();
    let speak = |raw: &Raw| {
        if !raw.receive().is_empty() {
            reply(raw);
        }
    };
    in_the_place_of(&stage.bus.path().join(stage.record.socket_name()), speak, || {
        let connection = client.connect(&stage.record, options).unwrap();
        client.wait_open(connection, PATIENCE).unwrap_err()
    })
}

#[test]
fn a_server_that_answers_wrongly_is_not_believed() {
    let shape = PairShape { client_ring: 4096, server_ring: 4096, nonce: [1, 2] };
    let (_ends, fds) = create_pair(shape).unwrap();
    let bells = [EventFd::new().unwrap(), EventFd::new().unwrap()];
    let mut nonce = [0; 16];
    (nonce[7], nonce[15]) = (1, 2);
    let connected = Connected {
        nonce,
        client_ring: 4096,
        server_ring: 4096,
        server_bell: bells[0].id().unwrap(),
        client_bell: bells[1].id().unwrap(),
        capabilities: SHARED_MEMORY,
    };
    let honest = [
        fds.client_data.as_fd(),
        fds.server_data.as_fd(),
        fds.control.as_fd(),
        bells[0].as_fd(),
        bells[1].as_fd(),
    ];
    let unsealed = memfd::create(c"unsealed", 8192).unwrap();
    let corrupt = |what: &str, connected: Connected, fds: &[BorrowedFd<'_>]| {
        let error = connect_to(|socket| {
            let _ = socket.send_with(&Datagram::Connected(connected).encode(), fds);
        });
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{what}: {error}");
    };
    for (what, wrong) in [
        ("a size that cannot be", Connected { client_ring: 5000, ..connected }),
        ("more than it announces", Connected { server_ring: 1 << 30, ..connected }),
        ("another size", Connected { server_ring: 8192, ..connected }),
        ("another nonce", Connected { nonce: [7; 16], ..connected }),
        ("another doorbell", Connected { server_bell: connected.client_bell, ..connected }),
    ] {
        corrupt(what, wrong, &honest);
    }
    for (what, at, instead) in [
        ("unsealed memory", 0, unsealed.as_fd()),
        ("a doorbell as memory", 1, bells[0].as_fd()),
        ("memory as doorbell", 4, fds.control.as_fd()),
        ("the rings exchanged", 1, fds.client_data.as_fd()),
    ] {
        let mut spoilt = honest;
        spoilt[at] = instead;
        corrupt(what, connected, &spoilt);
    }
    corrupt("too few descriptors", connected, &honest[..4]);
    corrupt("none", connected, &[]);
    let error = connect_to(|socket| socket.say(&Datagram::Ack));
    assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER");
    let error = connect_to(|_| ());
    assert_eq!(error.code(), "ERR_RINGBELL_TIMEOUT", "one that never answers, {error}");
}
