//! Clients that break the protocol at every step cost themselves their connection, and a good client nothing.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::{Fake, climb, open, watchdog};
use crate::bus::Bus;
use crate::handshake::MOST;
use crate::handshake::wire::{Datagram, LENGTH, LONGEST, Refusal, SHARED_MEMORY, id_bytes};
use crate::record::{Record, Rung};
use crate::sys::scm::{self, ReceiveError, Received};
use crate::sys::{memfd, seqpacket};

fn connect(bus: &Bus, record: &Record) -> OwnedFd {
    let socket = seqpacket::endpoint().unwrap();
    let name = record.socket_name();
    loop {
        match seqpacket::connect_at(socket.as_fd(), bus.dir().fd().as_fd(), bus.path(), OsStr::new(&name)) {
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            other => break other.unwrap(),
        }
    }
    socket
}

fn hello(record: &Record) -> Vec<u8> {
    Datagram::Hello {
        id: id_bytes(&record.id).unwrap(),
        capabilities: SHARED_MEMORY,
        pid: 1,
        start: 0,
        name: 0,
    }
    .encode()
}

fn send(socket: &OwnedFd, bytes: &[u8]) {
    scm::send(socket, bytes, &[]).unwrap();
}

/// What the publisher answers; `None` when it closes.
fn answer(socket: &OwnedFd) -> Option<(Datagram, Received)> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, 20_000u16), Ok(1), "no answer");
    let mut buffer = [0; LONGEST];
    match scm::receive(socket, &mut buffer) {
        Ok(received) if received.length == 0 => None,
        Ok(received) => Some((Datagram::decode(&buffer[..received.length]).unwrap(), received)),
        Err(ReceiveError::Os(Errno::ECONNRESET)) => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn refusal(socket: &OwnedFd) -> Refusal {
    match answer(socket) {
        Some((Datagram::Refused { refusal, .. }, received)) => {
            assert!(received.fds.is_empty());
            refusal
        }
        other => panic!("{other:?}"),
    }
}

fn with_topic(test: impl FnOnce(&Bus, &Arc<Record>, &Fake)) {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 8, &[Rung::Direct, Rung::Handshake]).unwrap();
    let record = fake.announced.record();
    test(&bus, &record, &fake);
    climb(&bus, &record, Some(Rung::Handshake)).unwrap();
}

#[test]
fn garbage_is_dropped_without_an_answer() {
    with_topic(|bus, record, _| {
        let hello = hello(record);
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; LENGTH], &[0xff; 4096], &hello[..10], &hello[..63], &[1]]
        {
            let socket = connect(bus, record);
            send(&socket, bytes);
            assert!(answer(&socket).is_none(), "{} bytes", bytes.len());
        }
        for early in [Datagram::Ack, Datagram::Claimed { slot: 0 }, Datagram::Doorbell { slot: 0 }] {
            let socket = connect(bus, record);
            send(&socket, &early.encode());
            assert!(answer(&socket).is_none(), "{early:?}");
        }
    });
}

#[test]
fn descriptors_that_a_client_sends_never_arrive() {
    with_topic(|bus, record, _| {
        let gift = memfd::create(c"gift", 4096).unwrap();
        let socket = connect(bus, record);
        match scm::send(&socket, &hello(record), &[gift.as_fd()]) {
            // Linux 6.16 refuses for us.
            Err(Errno::EPERM) => {}
            Ok(()) => assert!(answer(&socket).is_none()),
            other => panic!("{other:?}"),
        }
        let received = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        assert_eq!(received.filter(|link| link.to_string_lossy().contains("memfd:gift")).count(), 1);
    });
}

#[test]
fn refusals_say_why() {
    with_topic(|bus, record, _| {
        let mut other_version = hello(record);
        other_version[4] = 9;
        let other_instance =
            Datagram::Hello { id: [0; 16], capabilities: SHARED_MEMORY, pid: 1, start: 0, name: 0 }.encode();
        let no_memory =
            Datagram::Hello { id: id_bytes(&record.id).unwrap(), capabilities: 2, pid: 1, start: 0, name: 0 }
                .encode();
        for (bytes, expected) in [
            (other_version, Refusal::Version),
            (other_instance, Refusal::WrongInstance),
            (no_memory, Refusal::NothingInCommon),
        ] {
            let socket = connect(bus, record);
            send(&socket, &bytes);
            assert_eq!(refusal(&socket), expected);
            send(&socket, &bytes);
            assert!(answer(&socket).is_none(), "one refusal, then the end");
        }
    });
}

#[test]
fn a_slot_that_is_not_locked_gets_no_doorbell() {
    with_topic(|bus, record, _| {
        for slot in [0, 7, 8, u32::MAX] {
            let socket = connect(bus, record);
            send(&socket, &hello(record));
            let (segments, received) = answer(&socket).unwrap();
            assert!(matches!(segments, Datagram::Segments { .. }) && received.fds.len() == 3);
            send(&socket, &Datagram::Claimed { slot }.encode());
            assert_eq!(refusal(&socket), Refusal::Breach, "slot {slot}");
        }
    });
}

#[test]
fn a_client_that_disconnects_at_any_step_leaves_nothing() {
    with_topic(|bus, record, fake| {
        drop(connect(bus, record));
        let after_hello = connect(bus, record);
        send(&after_hello, &hello(record));
        drop(after_hello);
        let after_segments = connect(bus, record);
        send(&after_segments, &hello(record));
        drop(answer(&after_segments));
        drop(after_segments);
        let attachment = climb(bus, record, Some(Rung::Handshake)).unwrap();
        drop(attachment);
        assert!(!crate::segment::slots::is_held(&fake.segments.control_own, 0).unwrap());
    });
}

#[test]
fn a_hundred_idle_ones_do_not_keep_a_good_one_out() {
    with_topic(|bus, record, _| {
        let _silent: Vec<_> = (0..100).map(|_| connect(bus, record)).collect();
        climb(bus, record, Some(Rung::Handshake)).unwrap();
    });
}

#[test]
fn as_many_that_begin_and_stall_only_delay_a_good_one() {
    with_topic(|bus, record, _| {
        let stalled: Vec<_> = (0..MOST).map(|_| connect(bus, record)).collect();
        for socket in &stalled {
            // EPIPE for whoever was shed as silent before it came to speak.
            let _ = scm::send(socket, &hello(record), &[]);
        }
        climb(bus, record, Some(Rung::Handshake)).unwrap();
    });
}

#[test]
fn silence_ends_at_the_deadline() {
    with_topic(|bus, record, _| {
        let silent = connect(bus, record);
        assert!(answer(&silent).is_none());
    });
}
