//! The same over streams: peers that break the rules of the handshake, of what is streamed, or of what is reported.

use super::*;
use crate::handshake::wire::STREAM;

fn stage_of_streams() -> Stage {
    stage(ServerOptions { offers: vec![Rung::Stream], ..ServerOptions::default() })
}

/// A peer that has shaken hands and holds its ends of both streams.
struct RawStreams {
    socket: Raw,
    /// The server's ring comes, reports go.
    down: Option<OwnedFd>,
    /// The client's ring goes, reports come.
    up: Option<OwnedFd>,
}

fn raw_streams(stage: &Stage) -> RawStreams {
    let socket = socket_to(stage);
    let connect = Connect { capabilities: STREAM, ..connect_datagram(&stage.record) };
    socket.say(&Datagram::Connect(connect));
    let Some((Datagram::Streamed { client_ring, server_ring }, fds)) = socket.answer() else {
        panic!("no streams")
    };
    assert_eq!((client_ring, server_ring), (4096, 4096));
    let [down, up] = <[OwnedFd; 2]>::try_from(fds).unwrap();
    socket.say(&Datagram::Ack);
    RawStreams { socket, down: Some(down), up: Some(up) }
}

/// The number of the next connection.
fn opened(server: &mut Channel) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        server.try_recv().unwrap();
        // Earlier ones may have gone meanwhile.
        match server.notices().into_iter().find(|notice| matches!(notice, Notice::Opened { .. })) {
            Some(Notice::Opened { connection, rung, .. }) => {
                assert_eq!(rung, Rung::Stream);
                return connection;
            }
            _ => assert!(server.wait(Some(deadline)).unwrap()),
        }
    }
}

/// A datagram as `stream::wire` has it: kind, detail, position, and what follows.
fn part(kind: u32, detail: u32, position: u64, rest: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &detail.to_le_bytes(), &position.to_le_bytes(), rest].concat()
}

#[test]
fn a_protocol_breach_on_one_stream_ends_both() {
    let mut stage = stage_of_streams();
    let report = |cursor: u64| part(4, 0, cursor, &[0; 56]);
    let (down, up) = (true, false);
    let cases: Vec<(&str, bool, Vec<u8>)> = vec![
        ("garbage as a report", down, b"nonsense".to_vec()),
        ("a report of what was not sent", down, report(4096)),
        ("a report between two words", down, report(3)),
        ("bytes where reports are expected", down, part(1, 0, 0, &[0; 8])),
        ("garbage as bytes", up, b"nonsense".to_vec()),
        ("bytes of another place", up, part(1, 0, 64, &[0; 64])),
        ("bytes that are no batch", up, part(1, 0, 0, &[0xff; 64])),
        ("an end of another place", up, part(2, 0, 64, &[])),
        ("an end for no reason", up, part(2, 9, 0, &[])),
        ("counters that are none", up, part(3, 1, 0, &[1])),
        ("a datagram without end", up, part(1, 0, 0, &vec![0; 80_000])),
    ];
    for (what, is_down, bytes) in cases {
        let raw = raw_streams(&stage);
        let number = opened(&mut stage.server);
        let socket = if is_down { &raw.down } else { &raw.up };
        scm::send(socket.as_ref().unwrap(), &bytes, &[]).unwrap();
        let reason = closed(&mut stage.server, number);
        assert_ne!(reason, CloseReason::Closed, "{what}");
        a_good_client_is_served(&mut stage);
        // What was told of the good one.
        stage.server.notices();
    }
}

#[test]
fn neither_stream_outlives_the_other() {
    let mut stage = stage_of_streams();
    let mut raw = raw_streams(&stage);
    let number = opened(&mut stage.server);
    drop(raw.up.take());
    assert_eq!(closed(&mut stage.server, number), CloseReason::Died);
    // Who does not read any more may have something to say until it goes, and need not be looked at until then.
    let mut raw = raw_streams(&stage);
    let number = opened(&mut stage.server);
    drop(raw.down.take());
    let deadline = Instant::now() + PATIENCE;
    while stage.server.send(number, Header::default(), b"to nobody").is_ok() {
        assert!(Instant::now() < deadline, "it is sent to for ever");
    }
    while !stage.server.arm() {
        assert!(stage.server.try_recv().unwrap().is_none() && Instant::now() < deadline);
    }
    assert!(seqpacket::has_ended(&raw.socket), "it is told as well");
    drop(raw);
    assert_eq!(closed(&mut stage.server, number), CloseReason::Died);
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    for is_down in [true, false] {
        let raw = raw_streams(&stage);
        let number = opened(&mut stage.server);
        let socket = if is_down { &raw.down } else { &raw.up };
        match scm::send(socket.as_ref().unwrap(), &part(4, 0, 0, &[0; 56]), &[null.as_fd()]) {
            Ok(()) => assert_ne!(closed(&mut stage.server, number), CloseReason::Closed),
            // Since 6.16 the kernel keeps descriptors out of a socket that wants none.
            Err(errno) => assert_eq!(errno, Errno::EPERM),
        }
    }
    a_good_client_is_served(&mut stage);
}

#[test]
fn a_peer_that_never_reads_only_fills_its_own_stream() {
    let mut stage = stage_of_streams();
    let _mute = raw_streams(&stage);
    let number = opened(&mut stage.server);
    // The ring lets go of nothing that was not reported: sent is not received.
    let mut sent = 0;
    while stage.server.send(number, Header::new(Kind::Message, sent), &[7; 1000]).unwrap() {
        sent += 1;
    }
    assert!((1..=4).contains(&sent), "{sent} messages in a ring of 4 KiB");
    assert!(stage.server.arm_room(number, 1000));
    a_good_client_is_served(&mut stage);
    assert!(!stage.server.has_room(number, 1000));
}

/// What becomes of a client that asks by `acquire`, and is answered so.
fn answered(acquire: Rung, reply: &Datagram, fds: &[BorrowedFd<'_>]) -> Error {
    connect_with(&ConnectOptions { acquire: Some(acquire), ..hasty() }, |socket| {
        if scm::send(socket, &reply.encode(), fds).is_ok() {
            // Until it has acknowledged, or gone.
            poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], 20_000u16).unwrap();
        }
    })
}

#[test]
fn a_server_that_answers_wrongly_with_streams_is_not_believed() {
    let (one, other) = seqpacket::pair().unwrap();
    let honest = [one.as_fd(), other.as_fd()];
    let streamed = |client_ring, server_ring| Datagram::Streamed { client_ring, server_ring };
    for (what, reply, fds) in [
        ("a size that cannot be", streamed(5000, 4096), &honest[..]),
        ("no size", streamed(4096, 0), &honest),
        ("one descriptor", streamed(4096, 4096), &honest[..1]),
        ("none", streamed(4096, 4096), &[]),
    ] {
        let error = answered(Rung::Stream, &reply, fds);
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{what}: {error}");
    }
    let error = answered(Rung::Handshake, &streamed(4096, 4096), &honest);
    assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "streams that nobody asked for: {error}");
    let (file, tcp) = (tempfile::tempfile().unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    for fds in [[file.as_fd(), one.as_fd()], [one.as_fd(), tcp.as_fd()]] {
        let error = answered(Rung::Stream, &streamed(4096, 4096), &fds);
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "other things as streams: {error}");
    }
}

#[test]
fn a_rung_that_is_not_offered_is_refused_with_the_reason() {
    let mut stage = stage_of_streams();
    let connect = |stage: &Stage, acquire| {
        let mut client = stage.bus.channel(ChannelOptions::default()).unwrap();
        let options = ConnectOptions { acquire, ..ConnectOptions::default() };
        let there = client.connect(&stage.record, &options).unwrap();
        client.wait_open(there, PATIENCE).map(|()| client.notices())
    };
    let error = connect(&stage, Some(Rung::Handshake)).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_ACQUIRE");
    assert!(error.to_string().contains("handshake: the server does not offer it (NOT_OFFERED)"), "{error}");
    let notices = connect(&stage, None).unwrap();
    let [Notice::Opened { rung: Rung::Stream, fallbacks, .. }] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((fallbacks.len(), fallbacks[0].rung), (1, Rung::Handshake));
    // A record that is out of date: the server itself says no.
    let socket = socket_to(&stage);
    socket.say(&Datagram::Connect(connect_datagram(&stage.record)));
    assert_eq!(socket.refusal().0, Refusal::NothingInCommon);
    a_good_client_is_served(&mut stage);
    for offers in [vec![], vec![Rung::Direct], vec![Rung::Direct, Rung::Stream]] {
        let error =
            stage.bus.serve("other", ServerOptions { offers, ..ServerOptions::default() }).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
    }
}

#[test]
fn unread_bytes_of_a_closed_stream_are_given_up() {
    let mut stage =
        stage(ServerOptions { offers: vec![Rung::Stream], capacity: 1 << 20, ..ServerOptions::default() });
    let socket = socket_to(&stage);
    let connect = Connect { server_ring: 0, ..connect_on(STREAM, &stage.record) };
    socket.say(&Datagram::Connect(connect));
    let Some((Datagram::Streamed { server_ring: 0x10_0000, .. }, fds)) = socket.answer() else {
        panic!("no streams")
    };
    let [down, up] = <[OwnedFd; 2]>::try_from(fds).unwrap();
    socket.say(&Datagram::Ack);
    let number = opened(&mut stage.server);
    // More than a socket takes.
    while stage.server.send(number, Header::new(Kind::Message, 1), &[7; 10_000]).unwrap() {}
    // A rule is broken, so the connection is over; what it was sent is still there for who reads to the end.
    scm::send(&up, b"nonsense", &[]).unwrap();
    closed(&mut stage.server, number);
    assert!(seqpacket::is_connected(&down));
    let mut hung_up = [PollFd::new(down.as_fd(), PollFlags::empty())];
    assert_eq!(poll(&mut hung_up, 20_000u16), Ok(1), "it is kept for ever");
}

#[test]
fn half_of_an_invalid_frame_neither_spins_nor_hides_the_end() {
    let mut stage = stage_of_streams();
    let raw = raw_streams(&stage);
    let number = opened(&mut stage.server);
    // The header of a batch, and that of a fragment that is too short to be one.
    let words = [40u64 | 2 << 32, 0, 7, 3 << 32];
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    scm::send(raw.up.as_ref().unwrap(), &part(1, 0, 0, &bytes), &[]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !stage.server.arm() {
        assert!(stage.server.try_recv().unwrap().is_none());
        stage.server.notices();
        assert!(Instant::now() < deadline, "it finds something to do for ever");
    }
    drop(raw);
    assert_eq!(closed(&mut stage.server, number), CloseReason::Died);
}
