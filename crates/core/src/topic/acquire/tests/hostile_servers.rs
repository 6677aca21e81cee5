//! Publishers that answer a handshake wrongly: a typed error, nothing kept, nothing believed.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::{Scene, climb};
use crate::handshake::wire::{Datagram, LENGTH, Refusal, SHARED_MEMORY, id_bytes};
use crate::harness::{Raw, in_the_place_of};
use crate::record::{Record, Rung};
use crate::segment::OwnSegments;
use crate::sys::eventfd::EventFd;
use crate::sys::memfd;
use crate::{Error, Result};

/// What the topic really has.
struct Own<'a> {
    segments: &'a OwnSegments,
    room: &'a EventFd,
    doorbells: &'a [EventFd],
}

/// Attaches to a topic at whose socket `answer` speaks instead of the real server; it is given the connection with the
/// request read, and again with CLAIMED read if it returns true.
fn attach_to(answer: impl Fn(&Raw, &Own<'_>, &Record, usize) -> bool + Sync) -> Result<()> {
    let scene = Scene::here(8, &[Rung::Direct, Rung::Handshake]);
    let Scene { publisher: fake, bus, record, .. } = &scene;
    let own = Own { segments: &fake.segments, room: &fake.room, doorbells: &fake.doorbells };
    let speak = |socket: &Raw| {
        let mut step = 0;
        while !socket.receive().is_empty() && answer(socket, &own, record, step) {
            step += 1;
        }
    };
    let attach = || scene.climb(Some(Rung::Handshake)).map(drop);
    in_the_place_of(&bus.path().join(record.socket_name()), speak, attach)
}

fn segments(record: &Record) -> Vec<u8> {
    Datagram::Segments { id: id_bytes(&record.id).unwrap(), capabilities: SHARED_MEMORY }.encode()
}

fn honest<'a>(own: &Own<'a>) -> [BorrowedFd<'a>; 3] {
    [own.segments.data_fd.as_fd(), own.segments.control_fd.as_fd(), own.room.as_fd()]
}

fn doorbell(socket: &Raw, own: &Own<'_>) -> nix::Result<()> {
    socket.send_with(&Datagram::Doorbell { slot: 0 }.encode(), &[own.doorbells[0].as_fd()])
}

fn code(result: Result<()>) -> &'static str {
    result.map_or_else(|error| error.code(), |()| "attached")
}

#[test]
fn an_honest_one_is_attached_to() {
    let result = attach_to(|socket, own, record, step| {
        if step == 0 {
            socket.send_with(&segments(record), &honest(own)).unwrap();
        } else {
            let _ = doorbell(socket, own);
        }
        step == 0
    });
    assert_eq!(result, Ok(()), "the harness itself");
}

#[test]
fn wrong_descriptors_are_refused() {
    let spare = memfd::create(c"spare", 4096).unwrap();
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    let bell = EventFd::new().unwrap();
    type Spoil = fn(&mut Vec<BorrowedFd<'_>>);
    let spoil: [(&str, Spoil); 5] = [
        ("swapped", |fds| fds.swap(0, 1)),
        ("no eventfd", |fds| fds[2] = fds[0]),
        ("eventfd as memory", |fds| fds[0] = fds[2]),
        ("two", |fds| fds.truncate(2)),
        ("none", |fds| fds.clear()),
    ];
    for (what, spoil) in &spoil {
        let result = attach_to(|socket, own, record, _| {
            let mut fds = honest(own).to_vec();
            spoil(&mut fds);
            socket.send_with(&segments(record), &fds).unwrap();
            true
        });
        assert_eq!(code(result), "ERR_RINGBELL_CORRUPT_PEER", "{what}");
    }
    for (index, stranger) in [(0, spare.as_fd()), (1, spare.as_fd()), (0, pipe.as_fd()), (2, bell.as_fd())] {
        let result = attach_to(|socket, own, record, _| {
            let mut fds = honest(own);
            fds[index] = stranger;
            socket.send_with(&segments(record), &fds).unwrap();
            true
        });
        assert_eq!(code(result), "ERR_RINGBELL_CORRUPT_PEER", "descriptor {index}");
    }
}

#[test]
fn a_wrong_doorbell_is_refused() {
    let stranger = EventFd::new().unwrap();
    for wrong in 0..4 {
        let result = attach_to(|socket, own, record, step| {
            if step == 0 {
                socket.send_with(&segments(record), &honest(own)).unwrap();
                return true;
            }
            let doorbell = |slot| Datagram::Doorbell { slot }.encode();
            match wrong {
                0 => socket.send_with(&doorbell(0), &[]),
                1 => socket.send_with(&doorbell(1), &[own.doorbells[0].as_fd()]),
                2 => socket.send_with(&doorbell(0), &[stranger.as_fd()]),
                _ => socket.send_with(&doorbell(0), &[own.segments.data_fd.as_fd()]),
            }
            .unwrap();
            true
        });
        assert_eq!(code(result), "ERR_RINGBELL_CORRUPT_PEER", "{wrong}");
    }
}

#[test]
fn wrong_datagrams_are_refused() {
    let cases: Vec<Vec<u8>> = vec![
        vec![0; LENGTH],
        vec![1],
        vec![7; 4096],
        Datagram::Ack.encode(),
        Datagram::Doorbell { slot: 0 }.encode(),
        Datagram::Segments { id: [0; 16], capabilities: SHARED_MEMORY }.encode(),
    ];
    for bytes in cases {
        let result = attach_to(|socket, own, _, _| {
            socket.send_with(&bytes, &honest(own)).unwrap();
            true
        });
        assert_eq!(code(result), "ERR_RINGBELL_CORRUPT_PEER", "{:?}", &bytes[..1]);
    }
}

#[test]
fn refusals_become_typed_errors() {
    for (refusal, expected) in [
        (Refusal::Version, "ERR_RINGBELL_PROTOCOL_VERSION"),
        (Refusal::NotPermitted, "ERR_RINGBELL_ACQUIRE"),
        (Refusal::NothingInCommon, "ERR_RINGBELL_ACQUIRE"),
        (Refusal::WrongInstance, "ERR_RINGBELL_REFUSED"),
        (Refusal::Other, "ERR_RINGBELL_REFUSED"),
    ] {
        let result = attach_to(|socket, _, _, _| {
            let mut refused = Datagram::Refused { refusal, version: 1, text: "no".into() }.encode();
            refused[4] = 9;
            socket.send_with(&refused, &[]).unwrap();
            true
        });
        if refusal == Refusal::Version {
            assert_eq!(result, Err(Error::ProtocolVersion { ours: 3, theirs: 9 }));
        } else {
            assert_eq!(code(result), expected, "{refusal:?}");
        }
    }
}

#[test]
fn a_busy_one_and_one_that_hangs_up_are_tried_again() {
    let turned_away = std::sync::atomic::AtomicU32::new(0);
    let result = attach_to(|socket, own, record, step| {
        use std::sync::atomic::Ordering::Relaxed;
        if step > 0 {
            let _ = doorbell(socket, own);
            return true;
        }
        match turned_away.fetch_add(1, Relaxed) {
            0 => false,
            1 => {
                let text = "come back".into();
                socket
                    .send_with(&Datagram::Refused { refusal: Refusal::Busy, version: 1, text }.encode(), &[])
                    .unwrap();
                false
            }
            _ => {
                socket.send_with(&segments(record), &honest(own)).unwrap();
                true
            }
        }
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_listener_of_another_owner_is_not_believed() {
    let scene = Scene::here(8, &[Rung::Handshake]);
    let mut record = Record::clone(&scene.record);
    record.uid += 1;
    let error = climb(&scene.bus, &Arc::new(record), None).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{error}");
}
