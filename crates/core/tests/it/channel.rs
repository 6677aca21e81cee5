//! What a channel promises: two ways, many connections, order, back-pressure, ends that are told apart, descriptors.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::*;
use nix::sys::signal::Signal;
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, Record};
use ringbell::channel::{
    Channel, ChannelOptions, CloseReason, ConnectOptions, Header, Kind, Notice, ServerOptions,
};

/// Plays a part for one of the tests below; nothing when run as a test.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "echo" => echo_role(&bus),
        "caller" => caller_role(&bus, OWN),
        "caller-as-guest" => caller_role(&bus, GUEST),
        "cycles" => cycles_role(&path),
        "mute" => {
            let _server = bus.serve("mute", ServerOptions::default()).unwrap();
            say("ready");
            listen();
        }
        other => panic!("no role {other}"),
    }
}

/// Answers every request with its own data, for ever.
fn echo(server: &mut Channel) {
    let mut owed: Vec<(u32, u64, Vec<u8>)> = Vec::new();
    loop {
        let deadline = Some(Instant::now() + PATIENCE);
        while let Some(incoming) = server.try_recv().unwrap() {
            owed.push((incoming.connection, incoming.header.id, incoming.data.to_vec()));
        }
        owed.retain(|(connection, id, data)| {
            match server.send(*connection, Header::new(Kind::Reply, *id), data) {
                Ok(sent) => !sent,
                // Its caller is gone.
                Err(error) => {
                    assert_eq!(error.code(), "ERR_RINGBELL_PEER_GONE");
                    false
                }
            }
        });
        for (connection, _, data) in &owed {
            server.arm_room(*connection, data.len());
        }
        server.notices();
        server.wait(deadline).unwrap();
    }
}

fn echo_role(bus: &Bus) {
    let mut server = bus.serve("echo", ServerOptions::default()).unwrap();
    say("ready");
    echo(&mut server);
}

fn caller_role(bus: &Bus, terms: Terms) {
    let (mut client, connection) = connect_on(terms, bus, &bus.wait_for("echo", Some(PATIENCE)).unwrap());
    let mut id = 0u64;
    loop {
        id += 1;
        let request = vec![id as u8; (id * 37 % 3000) as usize];
        assert_eq!(client.call(connection, id, &request, PATIENCE).unwrap(), request);
        if id == 1 {
            say("calling");
        }
    }
}

fn connect(bus: &Bus, record: &Arc<Record>) -> (Channel, u32) {
    connect_on(OWN, bus, record)
}

/// Whether a client asks for a guest's terms: a socket for doorbell, as between users.
type Terms = bool;
const OWN: Terms = false;
const GUEST: Terms = true;

/// Runs tests on both terms.
macro_rules! on_both_terms {
    ($($test:ident),+ $(,)?) => {
        mod own {
            $(#[test] fn $test() { super::$test(super::OWN) })+
        }
        mod guest {
            $(#[test] fn $test() { super::$test(super::GUEST) })+
        }
    };
}

on_both_terms! {
    messages_go_both_ways_in_order_and_whole,
    a_full_ring_refuses_and_room_is_told,
    messages_before_a_close_are_read_before_the_end,
    a_killed_peer_is_told_from_one_that_closed,
    descriptors_arrive_with_their_data_for_the_receiver,
    unread_descriptors_do_not_keep_messages_from_waking,
    messages_larger_than_the_ring_go_both_ways,
    a_dead_reader_wakes_the_writer_that_waits_for_room,
    descriptors_outlive_their_sender_and_do_not_hide_its_end,
}

fn connect_on(terms: Terms, bus: &Bus, record: &Arc<Record>) -> (Channel, u32) {
    let mut client = bus.channel(ChannelOptions::default()).unwrap();
    let mut options = ConnectOptions::default();
    options.as_guest = terms;
    let connection = client.connect(record, &options).unwrap();
    client.wait_open(connection, PATIENCE).unwrap();
    assert!(matches!(client.notices()[..], [Notice::Opened { .. }]));
    (client, connection)
}

/// The next notice, waited for.
fn notice(channel: &mut Channel) -> Notice {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Looks, so that what is to be told is found.
        assert!(channel.try_recv().unwrap().is_none(), "a message in the place of a notice");
        if let Some(notice) = channel.notices().into_iter().next() {
            return notice;
        }
        assert!(channel.wait(Some(deadline)).unwrap(), "nothing was told");
    }
}

fn opened(server: &mut Channel) -> u32 {
    opened_by(server).0
}

fn opened_by(server: &mut Channel) -> (u32, Rung) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Its first message may be there already, and stays there.
        match server.notices().into_iter().next() {
            Some(Notice::Opened { connection, rung, .. }) => return (connection, rung),
            Some(other) => panic!("{other:?}"),
            None => assert!(server.wait(Some(deadline)).unwrap(), "nobody came"),
        }
    }
}

fn messages_go_both_ways_in_order_and_whole(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("echo", ServerOptions::default()).unwrap();
    let (mut client, there) = connect_on(terms, &bus, &server.record().unwrap());
    let here = opened(&mut server);
    for round in 0..200u64 {
        let data = vec![round as u8; (round * 97 % 5000) as usize];
        let header = Header { kind: 1, flags: 2, aux: 3, id: round };
        assert!(client.send(there, header, &data).unwrap());
        let incoming = server.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!((incoming.connection, incoming.header, incoming.data), (here, header, &data[..]));
        assert!(server.send(here, Header::new(Kind::Reply, round), &data).unwrap());
        let reply = client.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!((reply.header.id, reply.data), (round, &data[..]));
    }
    let stats = server.stats();
    assert_eq!((stats.sent, stats.received, stats.opened), (200, 200, 1));
    assert_eq!(stats.connections[0].uid, nix::unistd::geteuid().as_raw());
}

#[test]
fn many_clients_call_a_server_in_another_process() {
    let place = Place::new();
    let bus = place.bus();
    let mut server = Role::start("echo", &place.path, &[]);
    assert_eq!(server.heard(), "ready");
    let record = bus.wait_for("echo", Some(PATIENCE)).unwrap();
    let mut clients: Vec<_> = (0..50).map(|_| connect(&bus, &record)).collect();
    for round in 0..20u64 {
        for (client, connection) in &mut clients {
            let request = round.to_le_bytes().repeat(10);
            assert_eq!(client.call(*connection, round, &request, PATIENCE).unwrap(), request);
        }
    }
    server.kill();
    for (client, connection) in &mut clients {
        assert_eq!(client.call(*connection, 99, b"", PATIENCE).unwrap_err().code(), "ERR_RINGBELL_PEER_GONE");
    }
}

fn a_full_ring_refuses_and_room_is_told(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut options = ServerOptions::default();
    options.capacity = 4096;
    let mut server = bus.serve("slow", options).unwrap();
    let (mut client, there) = connect_on(terms, &bus, &server.record().unwrap());
    opened(&mut server);
    let mut sent = 0u64;
    while client.send(there, Header::new(Kind::Message, sent), &[1; 100]).unwrap() {
        sent += 1;
    }
    assert!((20..40).contains(&sent), "{sent}");
    let limit = client.max_message(there).unwrap();
    let error = client.send(there, Header::default(), &vec![0; limit + 1]).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_MESSAGE_TOO_LARGE");
    assert!(client.arm_room(there, 100));
    let reader = std::thread::spawn(move || {
        for number in 0..sent {
            assert_eq!(server.recv_timeout(PATIENCE).unwrap().unwrap().header.id, number);
        }
        server
    });
    assert!(client.wait(Some(Instant::now() + PATIENCE)).unwrap());
    while !client.has_room(there, 100) {
        client.arm_room(there, 100);
        client.wait(Some(Instant::now() + PATIENCE)).unwrap();
    }
    assert!(client.send(there, Header::new(Kind::Message, sent), b"after").unwrap());
    let mut server = reader.join().unwrap();
    assert_eq!(server.recv_timeout(PATIENCE).unwrap().unwrap().data, b"after");
    assert_eq!(client.stats().full, 1);
}

fn messages_before_a_close_are_read_before_the_end(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("end", ServerOptions::default()).unwrap();
    let (mut client, there) = connect_on(terms, &bus, &server.record().unwrap());
    let (here, rung) = opened_by(&mut server);
    for id in 0..10 {
        client.send(there, Header::new(Kind::Message, id), b"bye").unwrap();
    }
    client.disconnect(there);
    assert_eq!(client.send(there, Header::default(), b"").unwrap_err().code(), "ERR_RINGBELL_PEER_GONE");
    for id in 0..10 {
        assert_eq!(server.recv_timeout(PATIENCE).unwrap().unwrap().header.id, id);
    }
    let delivered = if rung == Rung::Stream { None } else { Some(0) };
    let ended = Notice::Closed { connection: here, reason: CloseReason::Closed, delivered };
    assert_eq!(notice(&mut server), ended);
    assert_eq!(server.connections().count(), 0);
    assert_eq!(server.stats().received, 10);
}

fn a_killed_peer_is_told_from_one_that_closed(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("echo", ServerOptions::default()).unwrap();
    for _ in 0..10 {
        let mut caller =
            Role::start(if terms == GUEST { "caller-as-guest" } else { "caller" }, &place.path, &[]);
        let (here, rung) = opened_by(&mut server);
        let incoming = server.recv_timeout(PATIENCE).unwrap().unwrap();
        let (id, data) = (incoming.header.id, incoming.data.to_vec());
        assert!(server.send(here, Header::new(Kind::Reply, id), &data).unwrap());
        assert_eq!(caller.heard(), "calling");
        caller.kill();
        while server.try_recv().unwrap().is_some() {}
        loop {
            match notice_or_message(&mut server) {
                Some(Notice::Closed { connection, reason, delivered }) => {
                    // Over a stream it may have taken more than it had time to report.
                    let taken = if rung == Rung::Stream { None } else { Some(1) };
                    assert_eq!((connection, reason, delivered), (here, CloseReason::Died, taken));
                    break;
                }
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
    }
    assert_eq!(server.stats().opened, 10);
}

/// The next notice; `None` for a message.
fn notice_or_message(channel: &mut Channel) -> Option<Notice> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if channel.try_recv().unwrap().is_some() {
            return None;
        }
        if let Some(notice) = channel.notices().into_iter().next() {
            return Some(notice);
        }
        assert!(channel.wait(Some(deadline)).unwrap(), "nothing happened");
    }
}

fn descriptors_arrive_with_their_data_for_the_receiver(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("fds", ServerOptions::default()).unwrap();
    let (mut client, there) = connect_on(terms, &bus, &server.record().unwrap());
    let here = opened(&mut server);
    for round in 0..40u8 {
        let (mut read, write) = std::io::pipe().unwrap();
        assert!(client.send_fds(there, &[round; 100], &[write.as_fd()]).unwrap());
        drop(write);
        let parcel = loop {
            if let Some(parcel) = server.receive_fds(here).unwrap() {
                break parcel;
            }
            server.wait(Some(Instant::now() + PATIENCE)).unwrap();
        };
        assert_eq!(parcel.data, [round; 100]);
        std::fs::File::from(parcel.fds.into_iter().next().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
    let null = std::fs::File::open("/dev/null").unwrap();
    for (data, fds) in [(&[][..], 0), (&[][..], 17)] {
        let error = client.send_fds(there, data, &vec![null.as_fd(); fds]).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
    }
    // Many that nobody takes stay in the socket, and are no reason to end.
    let mut sent = 0;
    while sent < 64 && client.send_fds(there, &[], &[null.as_fd()]).unwrap() {
        sent += 1;
    }
    for _ in 0..sent {
        while server.receive_fds(here).unwrap().is_none() {
            server.wait(Some(Instant::now() + PATIENCE)).unwrap();
        }
    }
    assert!(client.send(there, Header::default(), b"still here").unwrap());
    assert_eq!(server.recv_timeout(PATIENCE).unwrap().unwrap().data, b"still here");
}

fn unread_descriptors_do_not_keep_messages_from_waking(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("deaf", ServerOptions::default()).unwrap();
    let (mut client, there) = connect_on(terms, &bus, &server.record().unwrap());
    let here = opened(&mut server);
    let null = std::fs::File::open("/dev/null").unwrap();
    // Both sockets full, the server having taken in what it takes in by itself.
    for _ in 0..3 {
        while client.send_fds(there, &[0; 10_000], &[null.as_fd()]).unwrap() {}
        while server.send_fds(here, &[0; 10_000], &[null.as_fd()]).unwrap() {}
        server.harvest().unwrap();
        client.harvest().unwrap();
    }
    assert!(!client.send_fds(there, &[0; 10_000], &[null.as_fd()]).unwrap());
    // Nobody looks: every message has to wake somebody.
    server.set_spin(Duration::ZERO);
    client.set_spin(Duration::ZERO);
    let serving = std::thread::spawn(move || {
        for round in 0..500 {
            let incoming = server.recv_timeout(PATIENCE).unwrap().expect("woken in time");
            assert_eq!(incoming.header.id, round);
            assert!(server.send(here, Header::new(Kind::Reply, round), b"here").unwrap());
        }
        server
    });
    for round in 0..500 {
        assert_eq!(client.call(there, round, b"there?", PATIENCE).unwrap(), b"here");
    }
    drop(serving.join().unwrap());
}

#[test]
fn a_wait_without_spinning_or_time_still_harvests() {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("poll", ServerOptions::default()).unwrap();
    let (mut client, there) = connect_on(OWN, &bus, &server.record().unwrap());
    let (_, rung) = opened_by(&mut server);
    server.set_spin(Duration::ZERO);
    for round in 0..20 {
        // The connection falls asleep, so that only its doorbell tells of the message.
        while !server.wait(Some(Instant::now() + Duration::from_millis(1))).is_ok_and(|found| !found) {}
        assert!(client.send(there, Header::new(Kind::Message, round), b"now").unwrap());
        let deadline = Instant::now() + PATIENCE;
        let mut poll = || server.recv_timeout(Duration::ZERO).unwrap().map(|incoming| incoming.header.id);
        let mut found = poll();
        // Over a stream a message is on its way for a moment. In shared memory it is there.
        while rung == Rung::Stream && found.is_none() && Instant::now() < deadline {
            found = poll();
        }
        assert_eq!(found, Some(round));
    }
}

fn messages_larger_than_the_ring_go_both_ways(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("large", ServerOptions::default()).unwrap();
    let record = server.record().unwrap();
    let sizes = [32_752, 32_753, 65_536, 1_000_003, 16 << 20];
    let echo = std::thread::spawn(move || {
        for _ in 0..2 * sizes.len() {
            let deadline = Some(Instant::now() + PATIENCE);
            let incoming = server.recv_timeout(PATIENCE).unwrap().unwrap();
            let (connection, id, data) = (incoming.connection, incoming.header.id, incoming.data.to_vec());
            assert!(server.send_whole(connection, Header::new(Kind::Reply, id), &data, deadline).unwrap());
        }
        server
    });
    let (mut one, first) = connect_on(terms, &bus, &record);
    let (mut two, second) = connect_on(terms, &bus, &record);
    for (id, size) in (0..).zip(sizes) {
        let data: Vec<u8> = (0..size).map(|at: usize| (at * 31 % 251) as u8).collect();
        assert!(one.call(first, id, &data, PATIENCE).unwrap() == data, "{size}");
        assert!(two.call(second, id, &data, PATIENCE).unwrap() == data, "{size}");
    }
    let mut server = echo.join().unwrap();
    // One that was given up in the middle, and one that is larger than the receiver takes, are never seen.
    let data = vec![7; 1 << 20];
    let done = one.send_large(first, Header::new(Kind::Message, 1), &data, 0).unwrap();
    assert!(done > 0 && done < data.len());
    assert!(!one.send(first, Header::default(), b"in between").unwrap());
    one.abandon_large(first).unwrap();
    server.set_max_message(100_000);
    let sender = std::thread::spawn(move || {
        let deadline = Some(Instant::now() + PATIENCE);
        for (id, size) in [(2, 200_000), (3, 100_000), (4, 10)] {
            let header = Header::new(Kind::Message, id);
            assert!(one.send_whole(first, header, &vec![id as u8; size], deadline).unwrap());
        }
        one
    });
    for (id, size) in [(3, 100_000), (4, 10)] {
        let incoming = server.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!((incoming.header.id, incoming.data.len()), (id, size));
    }
    // A receiver that vanishes in the middle is told as any other end.
    let mut one = sender.join().unwrap();
    assert!(one.send_large(first, Header::new(Kind::Message, 5), &data, 0).unwrap() < data.len());
    drop(server);
    assert!(matches!(notice(&mut one), Notice::Closed { reason: CloseReason::Closed, .. }));
}

/// The next message on a channel, waited for while the other end is served, which must get none.
fn answered(client: &mut Channel, server: &mut Channel) -> (u8, u64, String) {
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(server.try_recv().unwrap().is_none(), "the program got the request");
        if let Some(incoming) = client.try_recv().unwrap() {
            let text = String::from_utf8_lossy(incoming.data).into_owned();
            return (incoming.header.kind, incoming.header.id, text);
        }
        assert!(Instant::now() < end, "no answer");
    }
}

#[test]
fn requests_that_no_program_sees_are_answered() {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("strict", ServerOptions::default()).unwrap();
    server.set_max_message(100_000);
    let (mut client, connection) = connect(&bus, &server.record().unwrap());
    let large = vec![0; 100_001];
    let mut done = 0;
    while done < large.len() {
        done = client.send_large(connection, Header::new(Kind::Request, 7), &large, done).unwrap();
        assert!(server.try_recv().unwrap().is_none());
    }
    let (kind, id, text) = answered(&mut client, &mut server);
    assert_eq!((kind, id), (Kind::Error as u8, 7));
    assert!(text.contains("ERR_RINGBELL_MESSAGE_TOO_LARGE"), "{text}");

    let inquiry = Header { flags: 4, ..Header::new(Kind::Request, 8) };
    assert!(client.send(connection, inquiry, b"").unwrap());
    let (kind, id, text) = answered(&mut client, &mut server);
    assert_eq!((kind, id), (Kind::Error as u8, 8));
    assert!(text.contains("ERR_RINGBELL_NOT_FOUND"), "{text}");
}

#[test]
fn an_abandoned_large_message_stalls_no_later_message() {
    let place = Place::new();
    let bus = place.bus();
    let mut options = ServerOptions::default();
    options.capacity = 4096;
    let mut server = bus.serve("stalls", options).unwrap();
    let (mut client, there) = connect(&bus, &server.record().unwrap());
    opened(&mut server);
    while client.send(there, Header::new(Kind::Message, 0), &[1; 100]).unwrap() {}
    // The ring is full: not a byte of it finds room in time, and it must not be in the way of what comes later.
    let soon = Some(Instant::now() + Duration::from_millis(20));
    assert!(!client.send_whole(there, Header::new(Kind::Message, 1), &[2; 100_000], soon).unwrap());
    while server.try_recv().unwrap().is_some() {}
    let deadline = Some(Instant::now() + PATIENCE);
    assert!(client.send_whole(there, Header::new(Kind::Message, 2), b"later", deadline).unwrap());
    assert_eq!(server.recv_timeout(PATIENCE).unwrap().unwrap().data, b"later");
    // Room that nobody takes any more is told once, and then there is nothing to do.
    while client.send(there, Header::new(Kind::Message, 0), &[1; 100]).unwrap() {}
    assert!(client.arm_room(there, 100));
    while server.try_recv().unwrap().is_some() {}
    assert!(
        (0..5).any(|_| client.try_recv().unwrap().is_none() && client.arm()),
        "it finds something to do for ever"
    );
}

fn a_dead_reader_wakes_the_writer_that_waits_for_room(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut mute = Role::start("mute", &place.path, &[]);
    assert_eq!(mute.heard(), "ready");
    let (mut client, there) = connect_on(terms, &bus, &bus.wait_for("mute", Some(PATIENCE)).unwrap());
    // Over a stream, what was sent last may still be on its way and make room: the writer sends until it has to wait.
    let waiting = std::thread::spawn(move || {
        loop {
            match client.send_whole(there, Header::new(Kind::Message, 0), &[1; 1000], None) {
                Ok(sent) => assert!(sent, "it gave up without a deadline"),
                Err(error) => return error,
            }
        }
    });
    mute.kill();
    assert_eq!(waiting.join().unwrap().code(), "ERR_RINGBELL_PEER_GONE");
}

fn descriptors_outlive_their_sender_and_do_not_hide_its_end(terms: Terms) {
    let place = Place::new();
    let bus = place.bus();
    let mut server = bus.serve("left", ServerOptions::default()).unwrap();
    let (mut client, there) = connect_on(terms, &bus, &server.record().unwrap());
    let here = opened(&mut server);
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut sent = 0;
    while sent < 40 && client.send_fds(there, &[sent], &[null.as_fd()]).unwrap() {
        sent += 1;
    }
    client.disconnect(there);
    // Nobody has taken one, and the end is told all the same.
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(server.try_recv().unwrap().is_none());
        if server.notices().iter().any(|notice| matches!(notice, Notice::Closed { .. })) {
            break;
        }
        assert!(Instant::now() < deadline, "its end was never told");
        server.wait(Some(deadline)).unwrap();
    }
    let mut came = 0;
    while let Ok(Some(parcel)) = server.receive_fds(here) {
        assert_eq!(parcel.data, [came]);
        came += 1;
    }
    assert!(came >= 16, "{came} of {sent} descriptors");
}

#[test]
fn a_full_server_admits_a_client_only_after_another_leaves() {
    let place = Place::new();
    let bus = place.bus();
    let mut options = ServerOptions::default();
    options.max_connections = 2;
    let mut server = bus.serve("few", options).unwrap();
    let record = server.record().unwrap();
    let (mut one, first) = connect(&bus, &record);
    let first_here = opened(&mut server);
    let _two = connect(&bus, &record);
    opened(&mut server);
    let mut third = bus.channel(ChannelOptions::default()).unwrap();
    let mut hasty = ConnectOptions::default();
    hasty.timeout = Duration::from_millis(300);
    let refused = third.connect(&record, &hasty).unwrap();
    assert_eq!(third.wait_open(refused, PATIENCE).unwrap_err().code(), "ERR_RINGBELL_TIMEOUT");
    let patient = third.connect(&record, &ConnectOptions::default()).unwrap();
    one.disconnect(first);
    let ended = notice(&mut server);
    assert!(
        matches!(ended, Notice::Closed { connection, reason: CloseReason::Closed, .. } if connection == first_here),
        "{ended:?}"
    );
    third.wait_open(patient, PATIENCE).unwrap();
}

#[test]
fn nothing_to_connect_to_is_an_error_that_says_why() {
    let place = Place::new();
    let bus = place.bus();
    let topic = bus.publisher("topic", Default::default()).unwrap();
    let mut client = bus.channel(ChannelOptions::default()).unwrap();
    let options = ConnectOptions::default();
    assert_eq!(client.connect(&topic.record(), &options).unwrap_err().code(), "ERR_RINGBELL_RECORD");
    let server = bus.serve("gone", ServerOptions::default()).unwrap();
    let record = server.record().unwrap();
    drop(server);
    let connection = client.connect(&record, &options).unwrap();
    assert_eq!(client.wait_open(connection, PATIENCE).unwrap_err().code(), "ERR_RINGBELL_PEER_GONE");
    let mut json = ServerOptions::default();
    json.codec = Some("json".into());
    let server = bus.serve("json", json).unwrap();
    let mut structured = ChannelOptions::default();
    structured.codec = Some("structured".into());
    let mut picky = bus.channel(structured).unwrap();
    let error = picky.connect(&server.record().unwrap(), &options).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_REFUSED");
    let mut odd = ConnectOptions::default();
    odd.send_capacity = Some(5000);
    assert_eq!(client.connect(&record, &odd).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
}

/// In a process of its own, because descriptors are counted.
fn cycles_role(bus_path: &std::path::Path) {
    let mut before = 0;
    for round in 0..20 {
        let bus = open(bus_path);
        let mut server = bus.serve("round", ServerOptions::default()).unwrap();
        let (mut client, there) = connect(&bus, &server.record().unwrap());
        opened(&mut server);
        assert!(client.send(there, Header::default(), b"x").unwrap());
        bus.close();
        client.disconnect(there);
        assert_eq!(client.recv().unwrap_err().code(), "ERR_RINGBELL_CLOSED");
        drop((server, client, bus));
        match round {
            // What a process opens once is open by now.
            9 => before = resources().0,
            19 => assert!(resources().0 <= before, "{} descriptors, {before} before", resources().0),
            _ => {}
        }
    }
    say("done");
}

#[test]
fn closing_the_bus_ends_every_wait_and_leaves_no_descriptor() {
    let place = Place::new();
    assert_eq!(Role::start("cycles", &place.path, &[]).heard(), "done");
}

#[test]
fn a_server_serves_on_while_other_callers_are_killed() {
    let place = Place::new();
    let bus = place.bus();
    let mut server = Role::start("echo", &place.path, &[]);
    assert_eq!(server.heard(), "ready");
    let record = bus.wait_for("echo", Some(PATIENCE)).unwrap();
    let (mut good, connection) = connect(&bus, &record);
    for round in 0..30u64 {
        let mut callers = ["caller", "caller-as-guest"].map(|role| Role::start(role, &place.path, &[]));
        for caller in &mut callers {
            assert_eq!(caller.heard(), "calling");
        }
        assert_eq!(good.call(connection, round, b"still", PATIENCE).unwrap(), b"still");
        for caller in &mut callers {
            caller.kill();
        }
    }
    assert_eq!(good.call(connection, 99, b"last", PATIENCE).unwrap(), b"last");
    server.signal(Signal::SIGKILL);
}
