//! Publishers that answer a handshake wrongly: a typed error, nothing kept, nothing believed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, poll};

use super::{Fake, climb, open, watchdog};
use crate::handshake::wire::{Datagram, LENGTH, Refusal, SHARED_MEMORY, id_bytes};
use crate::record::{Record, Rung};
use crate::segment::OwnSegments;
use crate::sys::eventfd::EventFd;
use crate::sys::{memfd, scm, seqpacket};
use crate::{Error, Result};

/// What the topic really has.
struct Own<'a> {
    segments: &'a OwnSegments,
    room: &'a EventFd,
    doorbells: &'a [EventFd],
}

/// Attaches to a topic at whose socket `answer` speaks instead of the real server; it is given the connection with the
/// request read, and again with CLAIMED read if it returns true.
fn attach_to(answer: impl Fn(&OwnedFd, &Own<'_>, &Record, usize) -> bool + Sync) -> Result<()> {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 8, &[Rung::Direct, Rung::Handshake]).unwrap();
    let record = fake.announced.record();
    let name = record.socket_name();
    std::fs::remove_file(bus.path().join(&name)).unwrap();
    let listener = seqpacket::listen_at(bus.dir().fd().as_fd(), bus.path(), OsStr::new(&name), None).unwrap();
    let done = EventFd::new().unwrap();
    let own = Own { segments: &fake.segments, room: &fake.room, doorbells: &fake.doorbells };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let mut fds = [listener.as_fd(), done.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                poll(&mut fds, 20_000u16).unwrap();
                if done.drain() > 0 {
                    break;
                }
                let Ok(socket) = seqpacket::accept(listener.as_fd()) else { continue };
                let mut step = 0;
                while request(&socket) && answer(&socket, &own, &record, step) {
                    step += 1;
                }
            }
        });
        let result = climb(&bus, &record, Some(Rung::Handshake)).map(drop);
        done.ring();
        result
    })
}

fn request(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, 20_000u16).unwrap();
    matches!(scm::receive_plain(socket, &mut [0; LENGTH]), Ok(length) if length > 0)
}

fn segments(record: &Record) -> Vec<u8> {
    Datagram::Segments { id: id_bytes(&record.id).unwrap(), capabilities: SHARED_MEMORY }.encode()
}

fn honest<'a>(own: &Own<'a>) -> [BorrowedFd<'a>; 3] {
    [own.segments.data_fd.as_fd(), own.segments.control_fd.as_fd(), own.room.as_fd()]
}

fn code(result: Result<()>) -> &'static str {
    result.map_or_else(|error| error.code(), |()| "attached")
}

#[test]
fn an_honest_one_is_attached_to() {
    let result = attach_to(|socket, own, record, step| {
        if step == 0 {
            scm::send(socket, &segments(record), &honest(own)).unwrap();
        } else {
            let _ = scm::send(socket, &Datagram::Doorbell { slot: 0 }.encode(), &[own.doorbells[0].as_fd()]);
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
            scm::send(socket, &segments(record), &fds).unwrap();
            true
        });
        assert_eq!(code(result), "ERR_RINGBELL_CORRUPT_PEER", "{what}");
    }
    for (index, stranger) in [(0, spare.as_fd()), (1, spare.as_fd()), (0, pipe.as_fd()), (2, bell.as_fd())] {
        let result = attach_to(|socket, own, record, _| {
            let mut fds = honest(own);
            fds[index] = stranger;
            scm::send(socket, &segments(record), &fds).unwrap();
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
                scm::send(socket, &segments(record), &honest(own)).unwrap();
                return true;
            }
            let doorbell = |slot| Datagram::Doorbell { slot }.encode();
            match wrong {
                0 => scm::send(socket, &doorbell(0), &[]),
                1 => scm::send(socket, &doorbell(1), &[own.doorbells[0].as_fd()]),
                2 => scm::send(socket, &doorbell(0), &[stranger.as_fd()]),
                _ => scm::send(socket, &doorbell(0), &[own.segments.data_fd.as_fd()]),
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
            scm::send(socket, &bytes, &honest(own)).unwrap();
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
            scm::send(socket, &refused, &[]).unwrap();
            true
        });
        if refusal == Refusal::Version {
            assert_eq!(result, Err(Error::ProtocolVersion { ours: 1, theirs: 9 }));
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
            let _ = scm::send(socket, &Datagram::Doorbell { slot: 0 }.encode(), &[own.doorbells[0].as_fd()]);
            return true;
        }
        match turned_away.fetch_add(1, Relaxed) {
            0 => false,
            1 => {
                let text = "come back".into();
                scm::send(
                    socket,
                    &Datagram::Refused { refusal: Refusal::Busy, version: 1, text }.encode(),
                    &[],
                )
                .unwrap();
                false
            }
            _ => {
                scm::send(socket, &segments(record), &honest(own)).unwrap();
                true
            }
        }
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn a_listener_of_another_owner_is_not_believed() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 8, &[Rung::Handshake]).unwrap();
    let mut record = Record::clone(&fake.announced.record());
    record.uid += 1;
    let error = climb(&bus, &Arc::new(record), None).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{error}");
}
