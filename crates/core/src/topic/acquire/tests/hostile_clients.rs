//! Clients that break the protocol at every step cost themselves their connection, and a good client nothing.

use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;

use super::{Fake, Scene, climb};
use crate::bus::Bus;
use crate::handshake::MOST;
use crate::handshake::wire::{Datagram, LENGTH, Refusal, SHARED_MEMORY, id_bytes};
use crate::harness::Raw;
use crate::record::{Record, Rung};
use crate::sys::memfd;

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

fn with_topic(test: impl FnOnce(&Bus, &Arc<Record>, &Fake)) {
    let scene = Scene::here(8, &[Rung::Direct, Rung::Handshake]);
    test(&scene.bus, &scene.record, &scene.publisher);
    scene.climb(Some(Rung::Handshake)).unwrap();
}

#[test]
fn garbage_is_dropped_without_an_answer() {
    with_topic(|bus, record, _| {
        let hello = hello(record);
        for bytes in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; LENGTH], &[0xff; 4096], &hello[..10], &hello[..63], &[1]]
        {
            let socket = Raw::to(bus, record);
            assert!(socket.send(bytes));
            assert!(socket.answer().is_none(), "{} bytes", bytes.len());
        }
        for early in [Datagram::Ack, Datagram::Claimed { slot: 0 }, Datagram::Doorbell { slot: 0 }] {
            let socket = Raw::to(bus, record);
            socket.say(&early);
            assert!(socket.answer().is_none(), "{early:?}");
        }
    });
}

#[test]
fn descriptors_that_a_client_sends_never_arrive() {
    with_topic(|bus, record, _| {
        let gift = memfd::create(c"gift", 4096).unwrap();
        let socket = Raw::to(bus, record);
        match socket.send_with(&hello(record), &[gift.as_fd()]) {
            // Linux 6.16 refuses for us.
            Err(Errno::EPERM) => {}
            Ok(()) => assert!(socket.answer().is_none()),
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
            let socket = Raw::to(bus, record);
            assert!(socket.send(&bytes));
            assert_eq!(socket.refusal().0, expected);
            assert!(socket.send(&bytes));
            assert!(socket.answer().is_none(), "one refusal, then the end");
        }
    });
}

#[test]
fn a_slot_that_is_not_locked_gets_no_doorbell() {
    with_topic(|bus, record, _| {
        for slot in [0, 7, 8, u32::MAX] {
            let socket = Raw::to(bus, record);
            assert!(socket.send(&hello(record)));
            let (segments, fds) = socket.answer().unwrap();
            assert!(matches!(segments, Datagram::Segments { .. }) && fds.len() == 3);
            socket.say(&Datagram::Claimed { slot });
            assert_eq!(socket.refusal().0, Refusal::Breach, "slot {slot}");
        }
    });
}

#[test]
fn a_client_that_disconnects_at_any_step_leaves_nothing() {
    with_topic(|bus, record, fake| {
        drop(Raw::to(bus, record));
        let after_hello = Raw::to(bus, record);
        assert!(after_hello.send(&hello(record)));
        drop(after_hello);
        let after_segments = Raw::to(bus, record);
        assert!(after_segments.send(&hello(record)));
        drop(after_segments.answer());
        drop(after_segments);
        let attachment = climb(bus, record, Some(Rung::Handshake)).unwrap();
        drop(attachment);
        assert!(!crate::segment::slots::is_held(&fake.segments.control_own, 0).unwrap());
    });
}

#[test]
fn a_hundred_idle_ones_do_not_keep_a_good_one_out() {
    with_topic(|bus, record, _| {
        let _silent: Vec<_> = (0..100).map(|_| Raw::to(bus, record)).collect();
        climb(bus, record, Some(Rung::Handshake)).unwrap();
    });
}

#[test]
fn as_many_that_begin_and_stall_only_delay_a_good_one() {
    with_topic(|bus, record, _| {
        let stalled: Vec<_> = (0..MOST).map(|_| Raw::to(bus, record)).collect();
        for socket in &stalled {
            // EPIPE if the publisher has shed this socket as silent before its turn came.
            socket.send(&hello(record));
        }
        climb(bus, record, Some(Rung::Handshake)).unwrap();
    });
}

#[test]
fn silence_ends_at_the_deadline() {
    with_topic(|bus, record, _| {
        let silent = Raw::to(bus, record);
        assert!(silent.answer().is_none());
    });
}
