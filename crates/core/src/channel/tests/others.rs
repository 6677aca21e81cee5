//! Clients of other users: who is let in and what it is given, and that none of them, whatever it does, holds up the server or
//! a good client. The handshakes here are told of users that are not there, and hostile clients ask for a guest's terms, which
//! this user may as well; two real users talk in `__test__/integration/access-channels.test.ts`.

use std::sync::atomic::AtomicBool;

use nix::fcntl::SealFlag;
use nix::sys::socket::sockopt::SndBuf;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair};

use super::super::registrar::ConnectionRegistrar;
use super::super::server::ChannelServer;
use super::*;
use crate::handshake::wire::STREAM;
use crate::handshake::{HandshakeStatus, ServerHandshake, Terms};
use crate::reactor::Inbox;
use crate::record::{Access, Granted};
use crate::sys::seqpacket::Peer;

const TERMS: u64 = SHARED_MEMORY | GUEST;
const MEMBER: u32 = 40_002;
const STRANGER: u32 = 40_003;
const CLUB: u32 = 40_100;

/// A handshake with a client of which the kernel says this.
struct Knock {
    terms: Terms<ChannelServer>,
    socket: Raw,
    handshake: ServerHandshake<ChannelServer>,
}

fn server(rungs: &[Rung], connections: u32, granted: Option<Granted>) -> Arc<ChannelServer> {
    // Whose thread ends with it; nothing is streamed here.
    let place = Place::new();
    let bus = place.bus();
    let registrar = ConnectionRegistrar::new(Inbox::new().unwrap());
    Arc::new(ChannelServer::new(registrar, rungs.to_vec(), 4096, connections, granted, bus.handle().unwrap()))
}

fn members_only(connections: u32) -> Arc<ChannelServer> {
    server(&[Rung::Handshake, Rung::Stream], connections, Some(members()))
}

fn members() -> Granted {
    let access = Access { uids: vec![MEMBER], gids: vec![CLUB], ..Access::default() };
    access.grant(None).unwrap()
}

fn knock(server: &Arc<ChannelServer>, uid: u32, gids: &[u32]) -> Knock {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, socket) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
    let peer = Peer { uid, pid: 1, gids: gids.to_vec() };
    let terms = Terms::new(Arc::clone(server), ours.as_fd());
    Knock { terms, socket: Raw(socket), handshake: ServerHandshake::new(ours, peer, Instant::now()) }
}

impl Knock {
    fn advance(&mut self) -> HandshakeStatus {
        self.handshake.advance(&self.terms, Instant::now())
    }

    fn ask(&mut self, capabilities: u64) -> (Datagram, Vec<OwnedFd>) {
        let connect = Connect { id: [7; 16], capabilities, pid: 1, client_ring: 0, server_ring: 0 };
        self.socket.say(&Datagram::Connect(connect));
        assert_eq!(self.advance(), HandshakeStatus::Open);
        self.socket.answer().unwrap()
    }
}

#[test]
fn peer_credentials_decide_admission_and_transport() {
    let own = nix::unistd::geteuid().as_raw();
    for (uid, gids, capabilities) in
        [(MEMBER, &[][..], TERMS), (STRANGER, &[CLUB], TERMS), (0, &[], TERMS), (own, &[], TERMS)]
    {
        let mut knock = knock(&members_only(8), uid, gids);
        let (Datagram::Connected(connected), fds) = knock.ask(capabilities) else { panic!("{uid}") };
        let Connected { server_bell, client_bell, capabilities, .. } = connected;
        assert_eq!((server_bell, client_bell, capabilities, fds.len()), (0, 0, TERMS, 4), "{uid}");
        assert!(seqpacket::is_one(&fds[3]), "no doorbell that others could turn against it");
        knock.socket.say(&Datagram::Ack);
        assert_eq!(knock.advance(), HandshakeStatus::Admitted);
    }
    for uid in [0, own] {
        let mut knock = knock(&members_only(8), uid, &[]);
        let (Datagram::Connected(connected), fds) = knock.ask(SHARED_MEMORY) else { panic!("{uid}") };
        assert_eq!((connected.capabilities, fds.len()), (SHARED_MEMORY, 5));
    }
    for (uid, gids, capabilities, expected) in [
        (STRANGER, &[STRANGER][..], TERMS, Refusal::NotPermitted),
        (STRANGER, &[], SHARED_MEMORY, Refusal::NotPermitted),
        (65_534, &[65_534], TERMS, Refusal::NotPermitted),
        (MEMBER, &[], SHARED_MEMORY, Refusal::NothingInCommon),
        (STRANGER, &[], STREAM, Refusal::NotPermitted),
    ] {
        let mut knock = knock(&members_only(8), uid, gids);
        let (Datagram::Refused { refusal, .. }, fds) = knock.ask(capabilities) else { panic!("{uid}") };
        assert_eq!((refusal, fds.len()), (expected, 0), "{uid}");
    }
    // What is streamed is shared with nobody, whatever the user.
    for (uid, capabilities) in [(MEMBER, STREAM), (MEMBER, STREAM | GUEST), (own, STREAM | GUEST)] {
        let mut knock = knock(&server(&[Rung::Stream], 8, Some(members())), uid, &[]);
        let (Datagram::Streamed { .. }, fds) = knock.ask(capabilities) else { panic!("{uid}") };
        assert!(fds.len() == 2 && fds.iter().all(seqpacket::is_one));
    }
    let (refused, _) = knock(&server(&[Rung::Handshake], 8, None), MEMBER, &[]).ask(TERMS);
    assert!(matches!(refused, Datagram::Refused { refusal: Refusal::NotPermitted, .. }));
}

#[test]
fn another_user_that_has_its_share_is_told_to_come_again() {
    let server = members_only(4);
    let mut inside: Vec<_> = (0..2).map(|_| knock(&server, MEMBER, &[])).collect();
    for one in &mut inside {
        assert!(matches!(one.ask(TERMS).0, Datagram::Connected(_)));
    }
    let busy = |uid, gids: &[u32]| {
        matches!(knock(&server, uid, gids).ask(TERMS).0, Datagram::Refused { refusal: Refusal::Busy, .. })
    };
    assert!(busy(MEMBER, &[]) && !busy(STRANGER, &[CLUB]) && !busy(0, &[]));
    drop(inside);
    assert!(!busy(MEMBER, &[]), "the places of those who never said ACK are given back");
}

#[test]
fn servers_refuse_the_access_options_of_topics() {
    let place = Place::new();
    let bus = place.bus();
    let few = Access { uids: vec![MEMBER], max_guests: 2, ..Access::default() };
    let patient = Access { uids: vec![MEMBER], evict_after: Duration::from_secs(9), ..Access::default() };
    let nobody = Access::default();
    for (named, access) in [("access.maxGuests", few), ("access.evictAfter", patient), ("access", nobody)] {
        let error =
            bus.serve("target", ServerOptions { access: Some(access), ..Default::default() }).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option, .. } if option == named), "{error}");
    }
}

/// A hostile client that is there, and its number at the server.
fn guest(stage: &mut Stage) -> (RawPeer, u32) {
    let raw = raw_on(TERMS, stage);
    let number = opened(&mut stage.server);
    (raw, number)
}

#[test]
fn rings_without_end_cost_good_clients_nothing() {
    let mut stage = stage(ServerOptions::default());
    let hostile: Vec<_> = (0..3).map(|_| guest(&mut stage)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (raw, _) in &hostile {
            // As much as the kernel allows under way.
            let _ = setsockopt(&raw.fds[3], SndBuf, &(1 << 20));
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = scm::send(&raw.fds[3], &[1], &[]);
                }
            });
        }
        for _ in 0..30 {
            a_good_client_is_served(&mut stage);
        }
        done.store(true, Ordering::Relaxed);
    });
    let there: Vec<_> = stage.server.connections().collect();
    assert!(hostile.iter().all(|(_, number)| there.contains(number)), "ringing is no breach");
}

#[test]
fn a_guest_that_never_reads_its_doorbell_delays_no_other() {
    let mut stage = stage(ServerOptions::default());
    let (raw, number) = guest(&mut stage);
    let mut ends = attach_pair(shape_of(&raw), &pair_of(&raw)).unwrap();
    let (mut slab, mut table) = (vec![0; 8192], vec![ringbell_ring::Entry::default(); 64]);
    for id in 0..20_000 {
        // Asleep, by its own word: the server has to ring. What is rung is never taken.
        ends.incoming.arm();
        assert!(stage.server.send(number, Header::new(Kind::Message, id), b"ding").unwrap());
        assert!(matches!(
            ends.incoming.read(&mut slab, 0, &mut table),
            Ok(ringbell_ring::Read::Messages { .. })
        ));
        ends.incoming.acknowledge();
    }
    let rings = stage.server.stats().rings;
    assert!(rings >= 20_000, "{rings} rings: it was never asked for one");
    a_good_client_is_served(&mut stage);
}

#[test]
fn an_invalid_ring_or_a_closed_doorbell_ends_the_connection() {
    let mut stage = stage(ServerOptions::default());
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let breaches: [(&[u8], usize); 5] = [(&[2], 0), (&[1, 1], 0), (&[], 0), (&[1], 1), (&[9; 4096], 0)];
    for (bytes, count) in breaches {
        let (raw, number) = guest(&mut stage);
        match scm::send(&raw.fds[3], bytes, &vec![null.as_fd(); count]) {
            // The kernel would not even take it: Linux 6.16.
            Err(Errno::EPERM) if count > 0 => seqpacket::hang_up(&raw.fds[3]),
            sent => sent.unwrap(),
        }
        assert_eq!(closed(&mut stage.server, number), CloseReason::Died, "{bytes:?}");
    }
    let (mut raw, number) = guest(&mut stage);
    drop(raw.fds.pop());
    assert_eq!(closed(&mut stage.server, number), CloseReason::Died);
    a_good_client_is_served(&mut stage);
}

#[test]
fn garbage_and_descriptors_fill_only_their_senders_socket() {
    let mut stage = stage(ServerOptions::default());
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let (raw, number) = guest(&mut stage);
    let head = |fds: u32| [&b"RBHS\x03\0\x09\0"[..], &fds.to_le_bytes(), &[0; 4]].concat();
    let mut sent = 0u32;
    while scm::send(&raw.socket, &head(16), &[null.as_fd(); 16]).is_ok() {
        sent += 1;
    }
    assert!(sent > 16, "{sent}");
    // Full: the server's own table is as it was, the connection lives, and its messages still come.
    let mut ends = attach_pair(shape_of(&raw), &pair_of(&raw)).unwrap();
    let message = Header::new(Kind::Message, 9).encode();
    assert!(matches!(ends.outgoing.send(&message, 1, &mut Everybody), ringbell_ring::Sent::Committed { .. }));
    scm::send(&raw.fds[3], &[1], &[]).unwrap();
    assert_eq!(stage.server.recv_timeout(PATIENCE).unwrap().unwrap().header.id, 9);
    a_good_client_is_served(&mut stage);
    // Taken one by one, and only when asked for.
    for _ in 0..sent {
        assert_eq!(stage.server.receive_fds(number).unwrap().unwrap().fds.len(), 16);
    }
    assert!(stage.server.receive_fds(number).unwrap().is_none());
    stage.server.notices();
    scm::send(&raw.socket, &head(2), &[null.as_fd()]).unwrap();
    while !stage.server.notices().contains(&Notice::Descriptors { connection: number }) {
        assert!(stage.server.wait(Some(Instant::now() + PATIENCE)).unwrap(), "never told of it");
    }
    assert!(stage.server.receive_fds(number).unwrap().is_none());
    let CloseReason::Failed(error) = closed(&mut stage.server, number) else { panic!("it lied") };
    assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER");
    a_good_client_is_served(&mut stage);
}

#[test]
fn memory_that_was_handed_out_can_be_neither_shrunk_nor_sealed() {
    let mut stage = stage(ServerOptions::default());
    let (raw, _) = guest(&mut stage);
    for fd in &raw.fds[..3] {
        let size = memfd::identity(fd).unwrap().unwrap().size as i64;
        for length in [0, size - 4096, size + 4096] {
            assert_eq!(nix::unistd::ftruncate(fd, length), Err(Errno::EPERM));
        }
        assert!(memfd::add_seals(fd, SealFlag::F_SEAL_WRITE).is_err());
    }
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let page = NonZeroUsize::new(crate::segment::page_size()).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice, if there is one at all.
    let mapped = unsafe { mmap(None, page, protection, MapFlags::MAP_SHARED, &raw.fds[1], 0) };
    assert_eq!(mapped.map(drop), Err(Errno::EPERM), "what the server writes is the server's");
    let inode = memfd::identity(&raw.fds[0]).unwrap().unwrap().inode.to_string();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rights: Vec<_> = maps
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(4) == Some(&inode.as_str()))
        .map(|fields| fields[1])
        .collect();
    assert_eq!(rights, ["r--s", "r--s"], "what the server only reads it cannot spoil");
}

/// A server that gives a guest what it likes.
#[test]
fn a_server_of_another_user_is_not_believed_either() {
    let shape = PairShape { client_ring: 4096, server_ring: 4096, nonce: [1, 2] };
    let (_ends, fds) = create_pair(shape).unwrap();
    let bells = [EventFd::new().unwrap(), EventFd::new().unwrap()];
    let (end, _other) = seqpacket::pair().unwrap();
    let flags = SockFlag::SOCK_CLOEXEC;
    let (stream, _stream) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).unwrap();
    let mut nonce = [0; 16];
    (nonce[7], nonce[15]) = (1, 2);
    let connected = Connected {
        nonce,
        client_ring: 4096,
        server_ring: 4096,
        server_bell: 0,
        client_bell: 0,
        capabilities: TERMS,
    };
    let rings = [fds.client_data.as_fd(), fds.server_data.as_fd(), fds.control.as_fd()];
    let with = |more: Vec<_>| rings.into_iter().chain(more).collect::<Vec<BorrowedFd<'_>>>();
    let shared = Connected {
        server_bell: bells[0].id().unwrap(),
        client_bell: bells[1].id().unwrap(),
        capabilities: SHARED_MEMORY,
        ..connected
    };
    for (what, connected, fds) in [
        ("an eventfd", connected, with(vec![bells[0].as_fd()])),
        ("a stream", connected, with(vec![stream.as_fd()])),
        ("memory", connected, with(vec![fds.control.as_fd()])),
        ("no doorbell", connected, with(vec![])),
        ("two", connected, with(vec![end.as_fd(), end.as_fd()])),
        ("the terms of one user", shared, with(vec![bells[0].as_fd(), bells[1].as_fd()])),
    ] {
        let options = ConnectOptions { as_guest: true, ..hasty() };
        let error = connect_with(&options, |socket| {
            let _ = socket.send_with(&Datagram::Connected(connected).encode(), &fds);
        });
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{what}: {error}");
        assert_eq!(error.to_string().contains("other terms"), connected == shared, "{what}: {error}");
    }
    let error = connect_to(|socket| {
        let _ = socket.send_with(&Datagram::Connected(connected).encode(), &with(vec![end.as_fd()]));
    });
    assert!(error.to_string().contains("other terms"), "nobody asked for these: {error}");
}
