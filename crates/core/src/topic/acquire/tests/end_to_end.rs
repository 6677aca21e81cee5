//! Both rungs, to a publisher in another process.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::child::Process;
use super::{Fake, climb, open, watchdog};
use crate::record::{Record, Rung, TopicMemory};
use crate::segment::slots;

const BOTH: [Rung; 2] = [Rung::Direct, Rung::Handshake];

#[test]
fn each_rung_brings_memory_slot_and_doorbells() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Process::publisher(folder.path());
    let bus = open(folder.path());
    let record = bus.find("topic").unwrap().unwrap();
    for (turn, rung) in BOTH.into_iter().enumerate() {
        let attachment = climb(&bus, &record, Some(rung)).unwrap();
        assert_eq!((attachment.rung, attachment.memory().slot, attachment.fallbacks.len()), (rung, 0, 0));
        publisher.tell("send");
        assert_eq!(publisher.line(), "done");
        let mut bell = [PollFd::new(attachment.memory().doorbell.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut bell, 20_000u16), Ok(1), "{rung}: the doorbell is the publisher's");
        assert_eq!(attachment.memory().segments.data.memory().counters().messages, turn as u64 + 1);
        publisher.tell("room");
        attachment.memory().room.ring();
        assert_eq!(publisher.line(), "done", "{rung}: the room doorbell is the publisher's");
    }
}

#[test]
fn a_slot_is_exclusive_and_free_again_when_dropped() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 2, &BOTH).unwrap();
    let record = fake.announced.record();
    let first = climb(&bus, &record, Some(Rung::Direct)).unwrap();
    let second = climb(&bus, &record, Some(Rung::Handshake)).unwrap();
    assert_eq!((first.memory().slot, second.memory().slot), (0, 1));
    for rung in BOTH {
        let error = climb(&bus, &record, Some(rung)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_NO_SLOT", "{error}");
    }
    assert!(slots::is_held(&fake.segments.control_own, 0).unwrap());
    drop(first);
    assert!(!slots::is_held(&fake.segments.control_own, 0).unwrap());
    assert_eq!(climb(&bus, &record, Some(Rung::Handshake)).unwrap().memory().slot, 0);
}

#[test]
fn a_dead_publisher_is_gone_on_every_rung() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Process::publisher(folder.path());
    let bus = open(folder.path());
    let record = bus.find("topic").unwrap().unwrap();
    publisher.kill();
    for rung in BOTH {
        let error = climb(&bus, &record, Some(rung)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_PEER_GONE", "{rung}, zombie: {error}");
    }
    drop(publisher);
    for rung in [None, Some(Rung::Direct), Some(Rung::Handshake)] {
        let error = climb(&bus, &record, rung).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_PEER_GONE", "{rung:?}, reaped: {error}");
    }
}

#[test]
fn a_publisher_that_dies_during_the_handshake_is_gone() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let publisher = Process::publisher(folder.path());
    let bus = open(folder.path());
    let record = bus.find("topic").unwrap().unwrap();
    // Stopped, it takes the connection into its backlog and never answers; then it is killed.
    stop(&publisher);
    let waiting = std::thread::spawn({
        let (bus, record) = (bus.clone(), Arc::clone(&record));
        move || climb(&bus, &record, Some(Rung::Handshake)).map(drop)
    });
    let connected = || std::fs::read_to_string("/proc/net/unix").unwrap().matches(&record.id).count() > 1;
    while !connected() && !waiting.is_finished() {
        std::thread::yield_now();
    }
    drop(publisher);
    assert_eq!(waiting.join().unwrap().unwrap_err().code(), "ERR_RINGBELL_PEER_GONE");
}

#[test]
fn a_stopped_publisher_can_still_be_joined_directly() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let publisher = Process::publisher(folder.path());
    let bus = open(folder.path());
    let record = bus.find("topic").unwrap().unwrap();
    stop(&publisher);
    assert_eq!(climb(&bus, &record, None).unwrap().rung, Rung::Direct);
}

/// Stops every thread; `kill` returns before they have.
fn stop(process: &Process) {
    kill(Pid::from_raw(process.pid()), Signal::SIGSTOP).unwrap();
    let stopped = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    while !std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap().all(stopped) {
        std::thread::yield_now();
    }
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
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 4, &BOTH).unwrap();
    let record = fake.announced.record();
    let other_namespace = changed(&record, |record| record.pid_namespace += 1);
    let other_boot = changed(&record, |record| record.boot_id = "x".into());
    for (strange, code) in [(other_namespace, "PID_NAMESPACE"), (other_boot, "BOOT")] {
        let attachment = climb(&bus, &strange, None).unwrap();
        assert_eq!(attachment.rung, Rung::Handshake);
        assert_eq!(
            (attachment.fallbacks[0].rung, attachment.fallbacks[0].code.as_str()),
            (Rung::Direct, code)
        );
        let error = climb(&bus, &strange, Some(Rung::Direct)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_ACQUIRE", "{error}");
    }
}

#[test]
fn a_stale_record_is_read_again_once() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 4, &BOTH).unwrap();
    let stale = changed(&fake.announced.record(), |record| memory_of(record).data.fd = 1 << 20);
    let attachment = climb(&bus, &stale, Some(Rung::Direct)).unwrap();
    assert_eq!(attachment.record, fake.announced.record());
}

#[test]
fn a_number_that_now_is_another_file_is_refused() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 4, &BOTH).unwrap();
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    let number = pipe.as_raw_fd();
    let record = fake.announced.record();
    let data = changed(&record, |record| memory_of(record).data.fd = number);
    let control = changed(&record, |record| memory_of(record).control.fd = number);
    let room = changed(&record, |record| memory_of(record).room.fd = number);
    let bell = changed(&record, |record| memory_of(record).doorbells[0].fd = number);
    for wrong in [data, control, room, bell] {
        let error = climb(&bus, &wrong, Some(Rung::Direct)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_CORRUPT_PEER", "{error}");
    }
    assert!(!slots::is_held(&fake.segments.control_own, 0).unwrap(), "the slot was given back");
}

#[test]
fn announced_descriptors_stay_open_while_the_record_is_locked() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Process::publisher(folder.path());
    let bus = open(folder.path());
    let looked = |record: &Record| {
        let topic = record.topic.as_ref().unwrap().memory.as_ref().unwrap();
        let place = |fd: i32| std::fs::metadata(format!("/proc/{}/fd/{fd}", record.pid));
        use std::os::unix::fs::MetadataExt;
        assert_eq!(place(topic.data.fd).unwrap().ino(), topic.data.inode);
        assert_eq!(place(topic.control.fd).unwrap().ino(), topic.control.inode);
        topic.doorbells.iter().chain([&topic.room]).for_each(|bell| assert!(place(bell.fd).is_ok()));
    };
    let first = bus.find("topic").unwrap().unwrap();
    looked(&first);
    publisher.tell("update");
    assert_eq!(publisher.line(), "done");
    looked(&first);
    let second = bus.list().unwrap().remove(0);
    assert_eq!(second.topic, first.topic, "what a subscriber needs never changes");
    assert!(climb(&bus, &first, None).is_ok());
}

#[test]
fn a_rung_that_is_not_offered_is_not_tried() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 4, &[Rung::Handshake]).unwrap();
    let record = fake.announced.record();
    let attachment = climb(&bus, &record, None).unwrap();
    assert_eq!((attachment.rung, attachment.fallbacks[0].code.as_str()), (Rung::Handshake, "NOT_OFFERED"));
    assert_eq!(climb(&bus, &record, Some(Rung::Direct)).unwrap_err().code(), "ERR_RINGBELL_ACQUIRE");
}

#[test]
fn where_no_rung_leads_every_reason_is_told() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 4, &[]).unwrap();
    let record = fake.announced.record();
    let error = climb(&bus, &record, None).unwrap_err();
    let crate::Error::Acquire { reasons, .. } = &error else { panic!("{error}") };
    assert_eq!(reasons.len(), 3, "{error}");
}

#[test]
fn another_protocol_version_is_refused_with_both() {
    let _dog = watchdog(60);
    let folder = tempfile::tempdir().unwrap();
    let bus = open(folder.path());
    let fake = Fake::publish(&bus, "topic", 4, &BOTH).unwrap();
    let record = changed(&fake.announced.record(), |record| record.protocol = 7);
    assert_eq!(climb(&bus, &record, None).unwrap_err(), crate::Error::ProtocolVersion { ours: 1, theirs: 7 });
}
