//! Both rungs, to a publisher in another process.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, poll};

use super::{Scene, climb};
use crate::harness::until;
use crate::record::{Record, Rung, TopicMemory};
use crate::segment::slots;

const BOTH: [Rung; 2] = [Rung::Direct, Rung::Handshake];

#[test]
fn each_rung_brings_memory_slot_and_doorbells() {
    let mut scene = Scene::in_a_process();
    for (turn, rung) in BOTH.into_iter().enumerate() {
        let attachment = scene.climb(Some(rung)).unwrap();
        assert_eq!((attachment.rung, attachment.memory().slot, attachment.fallbacks.len()), (rung, 0, 0));
        scene.publisher.tell("send");
        assert_eq!(scene.publisher.heard(), "done");
        let mut bell = [PollFd::new(attachment.memory().doorbell.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut bell, 20_000u16), Ok(1), "{rung}: the doorbell is the publisher's");
        assert_eq!(attachment.memory().segments.data.memory().counters().messages, turn as u64 + 1);
        scene.publisher.tell("room");
        attachment.memory().room.ring();
        assert_eq!(scene.publisher.heard(), "done", "{rung}: the room doorbell is the publisher's");
    }
}

#[test]
fn a_slot_is_exclusive_and_free_again_when_dropped() {
    let scene = Scene::here(2, &BOTH);
    let first = scene.climb(Some(Rung::Direct)).unwrap();
    let second = scene.climb(Some(Rung::Handshake)).unwrap();
    assert_eq!((first.memory().slot, second.memory().slot), (0, 1));
    for rung in BOTH {
        assert_eq!(scene.failure(Some(rung)), "ERR_RINGBELL_NO_SLOT");
    }
    assert!(slots::is_held(&scene.publisher.segments.control_own, 0).unwrap());
    drop(first);
    assert!(!slots::is_held(&scene.publisher.segments.control_own, 0).unwrap());
    assert_eq!(scene.climb(Some(Rung::Handshake)).unwrap().memory().slot, 0);
}

#[test]
fn a_dead_publisher_is_gone_on_every_rung() {
    let mut scene = Scene::in_a_process();
    scene.publisher.kill_unreaped();
    for rung in BOTH {
        assert_eq!(scene.failure(Some(rung)), "ERR_RINGBELL_PEER_GONE", "{rung}, zombie");
    }
    scene.publisher.kill();
    for rung in [None, Some(Rung::Direct), Some(Rung::Handshake)] {
        assert_eq!(scene.failure(rung), "ERR_RINGBELL_PEER_GONE", "{rung:?}, reaped");
    }
}

#[test]
fn a_publisher_that_dies_during_the_handshake_is_gone() {
    let mut scene = Scene::in_a_process();
    // Stopped, it takes the connection into its backlog and never answers; then it is killed.
    scene.publisher.stop();
    let waiting = std::thread::spawn({
        let (bus, record) = (scene.bus.clone(), Arc::clone(&scene.record));
        move || climb(&bus, &record, Some(Rung::Handshake)).map(drop)
    });
    let sockets = || std::fs::read_to_string("/proc/net/unix").unwrap();
    until("it has connected", || sockets().matches(&scene.record.id).count() > 1 || waiting.is_finished());
    scene.publisher.kill();
    assert_eq!(waiting.join().unwrap().unwrap_err().code(), "ERR_RINGBELL_PEER_GONE");
}

#[test]
fn a_stopped_publisher_can_still_be_joined_directly() {
    let scene = Scene::in_a_process();
    scene.publisher.stop();
    assert_eq!(scene.climb(None).unwrap().rung, Rung::Direct);
}

fn memory_of(record: &mut Record) -> &mut TopicMemory {
    record.topic.as_mut().unwrap().memory.as_mut().unwrap()
}

fn changed(record: &Record, change: impl FnOnce(&mut Record)) -> Arc<Record> {
    let mut record = record.clone();
    change(&mut record);
    Arc::new(record)
}

#[test]
fn a_pid_of_elsewhere_is_not_used() {
    let scene = Scene::here(4, &BOTH);
    let other_namespace = changed(&scene.record, |record| record.pid_namespace += 1);
    let other_boot = changed(&scene.record, |record| record.boot_id = "x".into());
    for (strange, code) in [(other_namespace, "PID_NAMESPACE"), (other_boot, "BOOT")] {
        let attachment = climb(&scene.bus, &strange, None).unwrap();
        assert_eq!(attachment.rung, Rung::Handshake);
        assert_eq!(
            (attachment.fallbacks[0].rung, attachment.fallbacks[0].code.as_str()),
            (Rung::Direct, code)
        );
        let error = climb(&scene.bus, &strange, Some(Rung::Direct)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_ACQUIRE", "{error}");
    }
}

#[test]
fn a_stale_record_is_read_again_once() {
    let scene = Scene::here(4, &BOTH);
    let stale = changed(&scene.record, |record| memory_of(record).data.fd = 1 << 20);
    let attachment = climb(&scene.bus, &stale, Some(Rung::Direct)).unwrap();
    assert_eq!(attachment.record, scene.record);
}

#[test]
fn a_number_that_now_is_another_file_is_refused() {
    let scene = Scene::here(4, &BOTH);
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    let number = pipe.as_raw_fd();
    let data = changed(&scene.record, |record| memory_of(record).data.fd = number);
    let control = changed(&scene.record, |record| memory_of(record).control.fd = number);
    let room = changed(&scene.record, |record| memory_of(record).room.fd = number);
    let bell = changed(&scene.record, |record| memory_of(record).doorbells[0].fd = number);
    for wrong in [data, control, room, bell] {
        let error = climb(&scene.bus, &wrong, Some(Rung::Direct)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{error}");
    }
    assert!(!slots::is_held(&scene.publisher.segments.control_own, 0).unwrap(), "the slot was given back");
}

#[test]
fn announced_descriptors_stay_open_while_the_record_is_locked() {
    let mut scene = Scene::in_a_process();
    let looked = |record: &Record| {
        let topic = record.topic.as_ref().unwrap().memory.as_ref().unwrap();
        let place = |fd: i32| std::fs::metadata(format!("/proc/{}/fd/{fd}", record.pid));
        use std::os::unix::fs::MetadataExt;
        assert_eq!(place(topic.data.fd).unwrap().ino(), topic.data.inode);
        assert_eq!(place(topic.control.fd).unwrap().ino(), topic.control.inode);
        topic.doorbells.iter().chain([&topic.room]).for_each(|bell| assert!(place(bell.fd).is_ok()));
    };
    looked(&scene.record);
    scene.publisher.tell("update");
    assert_eq!(scene.publisher.heard(), "done");
    looked(&scene.record);
    let second = scene.bus.list().unwrap().remove(0);
    assert_eq!(second.topic, scene.record.topic, "what a subscriber needs never changes");
    assert!(scene.climb(None).is_ok());
}

#[test]
fn a_rung_that_is_not_offered_is_not_tried() {
    let scene = Scene::here(4, &[Rung::Handshake]);
    let attachment = scene.climb(None).unwrap();
    assert_eq!((attachment.rung, attachment.fallbacks[0].code.as_str()), (Rung::Handshake, "NOT_OFFERED"));
    assert_eq!(scene.failure(Some(Rung::Direct)), "ERR_RINGBELL_ACQUIRE");
}

#[test]
fn where_no_rung_leads_every_reason_is_told() {
    let scene = Scene::here(4, &[]);
    let error = scene.climb(None).unwrap_err();
    let crate::Error::Acquire { reasons, .. } = &error else { panic!("{error}") };
    assert_eq!(reasons.len(), 3, "{error}");
}

#[test]
fn another_protocol_version_is_refused_with_both() {
    let scene = Scene::here(4, &BOTH);
    let record = changed(&scene.record, |record| record.protocol = 7);
    let error = climb(&scene.bus, &record, None).unwrap_err();
    assert_eq!(error, crate::Error::ProtocolVersion { ours: 3, theirs: 7 });
}
