//! States: the newest value on every rung, writers that come, go and are killed, and what is refused.
//!
//! Whatever is killed is a child: this binary again, in the role that `role` plays.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::*;
use ringbell::acquire::Rung;
use ringbell::bus::Bus;
use ringbell::state::{State, StateNotice, StateOptions, StateReader, StateReaderOptions, Version};
use ringbell::topic::{EndReason, PublisherOptions, SubscriberOptions};

const RUNGS: [Rung; 3] = Rung::LADDER;

/// Plays a part for one of the tests below; nothing when run as a test.
#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    match role.as_str() {
        "writer" => writer_role(&path),
        other => panic!("no role {other}"),
    }
}

fn reader(bus: &Bus, rung: Option<Rung>) -> StateReader {
    let mut options = StateReaderOptions::default();
    options.acquire = rung;
    bus.watch_state("limits", options).unwrap()
}

fn state(bus: &Bus) -> State {
    bus.state("limits", StateOptions::default().size(600)).unwrap()
}

fn value(reader: &mut StateReader) -> Option<(Vec<u8>, u64)> {
    reader.latest().unwrap().map(|value| (value.data.to_vec(), value.version.number))
}

#[test]
fn a_reader_has_the_newest_value_on_every_rung() {
    for rung in RUNGS {
        let place = Place::new();
        let (ours, theirs) = (place.bus(), place.bus());
        let mut reader = reader(&theirs, Some(rung));
        let mut buffer = [0; 600];
        assert_eq!(reader.read(&mut buffer).unwrap(), None);
        assert!(!reader.wait(Some(Duration::ZERO)).unwrap());
        let mut state = state(&ours);
        assert_eq!(state.set(b"one").unwrap(), 1);
        assert!(reader.wait(Some(PATIENCE)).unwrap(), "{rung:?}");
        assert_eq!(value(&mut reader), Some((b"one".to_vec(), 1)));
        assert!(!reader.wait(Some(Duration::ZERO)).unwrap(), "it is told once");
        // Many values: the waiter hears of the last one, and need not hear of the others.
        for n in 2..=5000u64 {
            assert_eq!(state.set(&vec![n as u8; n as usize % 600]).unwrap(), n);
        }
        let last = (vec![5000u64 as u8; 5000 % 600], 5000);
        until("the last value has come", || {
            reader.wait(Some(PATIENCE)).unwrap();
            value(&mut reader).unwrap() == last
        });
        let (length, version) = reader.read(&mut buffer).unwrap().unwrap();
        assert_eq!(version, Version { epoch: state.epoch(), number: 5000 });
        assert_eq!(buffer[..length], last.0);
        assert_eq!(reader.read(&mut buffer).unwrap(), Some((length, version)), "again and again");
        let error = reader.read(&mut buffer[..length - 1]).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
        until("the writer sees its reader", || state.readers() == 1);
        // Who comes later finds the value, too.
        let mut late = self::reader(&theirs, Some(rung));
        assert!(late.wait(Some(PATIENCE)).unwrap());
        assert_eq!(value(&mut late).unwrap(), last);
        drop(state);
        for reader in [&mut reader, &mut late] {
            ended(reader, &EndReason::Closed);
            assert_eq!(value(reader).unwrap(), last, "the last value stays");
            assert_eq!(reader.read(&mut buffer).unwrap(), Some((length, version)));
            assert!(reader.writer().is_none());
        }
    }
}

/// Waits for the end of the writer.
fn ended(reader: &mut StateReader, expected: &EndReason) {
    let mut reasons = Vec::new();
    until("the writer has ended", || {
        for notice in reader.notices().unwrap() {
            if let StateNotice::Ended { reason, .. } = notice {
                reasons.push(reason);
            }
        }
        !reasons.is_empty()
    });
    assert_eq!(reasons, std::slice::from_ref(expected));
}

#[test]
fn a_new_writer_is_followed_once_it_has_set_a_value() {
    for rung in RUNGS {
        let place = Place::new();
        let (ours, theirs) = (place.bus(), place.bus());
        let mut reader = reader(&theirs, Some(rung));
        let mut before = state(&ours);
        before.set(b"before").unwrap();
        assert!(reader.wait(Some(PATIENCE)).unwrap());
        let old = reader.version().unwrap();
        drop(before);
        let mut after = state(&ours);
        ended(&mut reader, &EndReason::Closed);
        until("the new writer is attached", || {
            reader.poll().unwrap();
            reader.writer().is_some()
        });
        assert_eq!(value(&mut reader).unwrap().0, b"before", "it has set nothing yet");
        after.set(b"after").unwrap();
        assert!(reader.wait(Some(PATIENCE)).unwrap());
        assert_eq!(value(&mut reader), Some((b"after".to_vec(), 1)));
        let new = reader.version().unwrap();
        assert!(new > old && new.epoch > old.epoch);
    }
}

#[test]
fn a_value_above_the_limit_is_refused_and_changes_nothing() {
    let place = Place::new();
    let bus = place.bus();
    let mut state = bus.state("limits", StateOptions::default().size(64)).unwrap();
    let mut reader = reader(&bus, None);
    state.set(&[1; 64]).unwrap();
    assert_eq!(state.set(&[2; 65]).unwrap_err().code(), "ERR_RINGBELL_MESSAGE_TOO_LARGE");
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(value(&mut reader), Some((vec![1; 64], 1)));
    assert_eq!(state.version(), 1);
    for (options, option) in [
        (StateOptions::default().size(0), "size"),
        (StateOptions::default().size(1 << 28), "size"),
        (StateOptions::default().size(2000).capacity(4096), "capacity"),
        (StateOptions::default().capacity(5000), "capacity"),
        (StateOptions::default().max_readers(0), "maxReaders"),
    ] {
        let error = bus.state("wrong", options).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
        assert!(error.to_string().contains(option), "{error}");
    }
    assert_eq!(bus.state("a/b", StateOptions::default()).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME");
    assert_eq!(
        bus.watch_state("a.*", StateReaderOptions::default()).unwrap_err().code(),
        "ERR_RINGBELL_INVALID_NAME"
    );
}

#[test]
fn topics_and_states_of_one_name_are_two_things() {
    let place = Place::new();
    let bus = place.bus();
    let mut publisher = bus.publisher("limits", PublisherOptions::default()).unwrap();
    let mut subscriber = bus.subscriber("limits", SubscriberOptions::default()).unwrap();
    let mut state = state(&bus);
    let mut reader = reader(&bus, None);
    assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
    publisher.send(b"message").unwrap();
    state.set(b"value").unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(value(&mut reader).unwrap().0, b"value");
    assert_eq!(subscriber.recv_timeout(PATIENCE).unwrap().unwrap().data, b"message");
    assert_eq!((subscriber.publishers(), state.readers()), (1, 1));
}

#[test]
fn a_state_outlives_its_directory() {
    let place = Place::new();
    let (ours, theirs) = (place.bus(), place.bus());
    let mut state = state(&ours);
    let mut reader = reader(&theirs, None);
    state.set(b"before").unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    lose(&place.path);
    state.set(b"after").unwrap();
    until("the value has come", || value(&mut reader).unwrap().0 == b"after");
    until("the record is back", || place.path.exists() && !place.names().is_empty());
    let mut late = self::reader(&theirs, None);
    assert!(late.wait(Some(PATIENCE)).unwrap());
    assert_eq!(value(&mut late).unwrap().0, b"after");
}

/// The contents of a value follow from its version. The two sums make sure that no part of another value is in it.
fn contents(version: Version) -> Vec<u8> {
    let Version { epoch, number } = version;
    let mut bytes = vec![(number ^ epoch) as u8; 24 + (number * 37 % 500) as usize];
    bytes[..8].copy_from_slice(&epoch.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Where a writer says up to where it has begun to set values, and finished.
const BEGUN: u64 = 0;
const DONE: u64 = 8;

fn progress(folder: &Path, epoch: u64) -> std::path::PathBuf {
    folder.join(format!("progress-{epoch}"))
}

fn load(file: &File, at: u64) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).unwrap();
    u64::from_le_bytes(word)
}

/// Sets values as fast as it can until it is killed, and says before and after each which one it is.
fn writer_role(path: &Path) {
    let mut state = state(&open(path));
    let file = progress(path.parent().unwrap(), state.epoch());
    let file = File::options().create_new(true).write(true).open(file).unwrap();
    file.write_all_at(&[0; 16], 0).unwrap();
    say("ready");
    for number in 1u64.. {
        // Some are noted one by one. The others come as quickly as possible, so that a kill hits the middle of a `set`.
        let noted = number % 4096 < 64;
        let begun = if noted { number } else { number.next_multiple_of(4096) };
        if noted || number % 4096 == 64 {
            file.write_all_at(&begun.to_le_bytes(), BEGUN).unwrap();
        }
        let version = Version { epoch: state.epoch(), number };
        assert_eq!(state.set(&contents(version)).unwrap(), number);
        if noted {
            file.write_all_at(&number.to_le_bytes(), DONE).unwrap();
        }
    }
}

/// A history of reads is that of a register: each value was set; none is older than what was set before the read began,
/// or than an earlier read; and none is newer than what the writer had begun to set when the read ended.
#[test]
fn a_history_with_killed_writers_is_that_of_a_register() {
    let kills = std::env::var("STATE_KILLS").map_or(30, |count| count.parse().unwrap());
    let place = Place::watched(120 + kills);
    let bus = place.bus();
    let folder = place.path.parent().unwrap();
    let mut readers: Vec<_> = RUNGS.map(|rung| (rung, reader(&bus, Some(rung)), Version::default())).into();
    let mut buffer = [0; 600];
    let mut file: Option<(u64, File)> = None;
    let mut reads = 0;
    for round in 0..kills {
        let mut child = Role::start("writer", &place.path, &[]);
        child.heard();
        let mut seen = [false; 3];
        let earlier = file.as_ref().map_or(0, |(epoch, _)| *epoch);
        let deadline = Instant::now() + PATIENCE;
        let end = Instant::now() + Duration::from_micros(2000 + round * 911 % 17_000);
        // The reads go on until all have seen this writer, and for a while after its death.
        let mut killed = false;
        let mut after = 0;
        while !killed || after < 50 {
            assert!(Instant::now() < deadline, "round {round}: {seen:?} {readers:?}");
            for (index, (rung, reader, last)) in readers.iter_mut().enumerate() {
                let done = file.as_ref().map_or((0, 0), |(epoch, file)| (*epoch, load(file, DONE)));
                let Some((length, version)) = reader.read(&mut buffer).unwrap() else { continue };
                assert_eq!(buffer[..length], contents(version), "round {round}, {rung:?}: torn");
                assert!(
                    version >= *last,
                    "round {round}, {rung:?}: it went back from {last:?} to {version:?}"
                );
                if file.as_ref().is_none_or(|(epoch, _)| *epoch < version.epoch) {
                    file = Some((version.epoch, File::open(progress(folder, version.epoch)).unwrap()));
                }
                let (epoch, progress) = file.as_ref().unwrap();
                if version.epoch == *epoch {
                    seen[index] = *epoch > earlier;
                    assert!(version.number <= load(progress, BEGUN), "{rung:?}: never set");
                    if *rung != Rung::Stream && done.0 == version.epoch {
                        assert!(version.number >= done.1, "{rung:?}: {version:?} is older than {done:?}");
                    }
                }
                *last = version;
                reads += 1;
            }
            if !killed && Instant::now() >= end && seen == [true; 3] {
                child.kill();
                killed = true;
            }
            after += u64::from(killed);
        }
        let dead: Vec<_> = readers.iter().map(|(.., last)| *last).collect();
        assert_eq!(dead[0], dead[1], "both find the same last value in shared memory");
        for (rung, reader, last) in &mut readers {
            ended(reader, &EndReason::Died);
            let kept = reader.latest().unwrap().unwrap().version;
            // A stream may bring a little more after the death.
            assert!(kept == *last || (*rung == Rung::Stream && kept > *last && kept <= dead[0]), "{rung:?}");
            *last = kept;
        }
    }
    assert!(reads > 100 * kills, "{reads} reads");
    // The file of a claim is never removed.
    until("no record is left", || place.names() == ["limits.claim"]);
}

#[test]
fn one_writer_at_a_time_has_the_name() {
    let place = Place::new();
    let (ours, theirs) = (place.bus(), place.bus());
    let first = state(&ours);
    assert_eq!(theirs.state("limits", StateOptions::default()).unwrap_err().code(), "ERR_RINGBELL_REFUSED");
    let keyed = theirs.keyed_state("limits", StateOptions::default());
    assert_eq!(keyed.unwrap_err().code(), "ERR_RINGBELL_REFUSED");
    let epoch = first.epoch();
    assert_eq!(first.claim().map(|claim| claim.epoch()), Some(epoch));
    drop(first);
    // Whoever waits for its turn claims the name, and says so.
    let claim = theirs.claim("limits", Some(PATIENCE)).unwrap();
    let options = StateOptions::default().epoch(claim.epoch());
    let second = theirs.state("limits", options).unwrap();
    assert!(second.epoch() > epoch && second.claim().is_none());
}
