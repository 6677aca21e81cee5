//! States whose writer breaks the protocol: its words are overwritten here, as a writer that went wrong would do.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::harness::*;
use ringbell::bus::{Bus, Record};
use ringbell::state::{Reading, State, StateNotice, StateOptions, StateReader, StateReaderOptions};
use ringbell::topic::EndReason;

/// Offsets in the data segment, as `docs/protocol.md` has them.
const HEAD: u64 = 128;
const LAST: u64 = 128 + 24;
const FLOOR: u64 = 256;
const FRAMES: u64 = 4096;

/// The memory of a writer of this process, as the writer itself has it.
struct Words {
    memory: File,
    begin: u64,
    capacity: u64,
}

impl Words {
    fn of(record: &Record) -> Words {
        let topic = record.topic.as_ref().unwrap();
        let inode = topic.memory.as_ref().unwrap().data.inode.to_string();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        // Address, rights, offset, device, inode, path.
        let is_it = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].starts_with("rw") && fields[2].bytes().all(|byte| byte == b'0') && fields[4] == inode
        };
        let line = maps.lines().find(is_it).expect("the writer has mapped its memory");
        let begin = u64::from_str_radix(line.split_once('-').unwrap().0, 16).unwrap();
        let memory = File::options().read(true).write(true).open("/proc/self/mem").unwrap();
        Words { memory, begin, capacity: topic.capacity }
    }

    fn load(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, self.begin + at).unwrap();
        u64::from_le_bytes(word)
    }

    fn store(&self, at: u64, word: u64) {
        self.memory.write_all_at(&word.to_le_bytes(), self.begin + at).unwrap();
    }
}

fn record(bus: &Bus, epoch: u64) -> Arc<Record> {
    let mut records = bus.find_all("limits").unwrap();
    records.retain(|record| record.state.is_some_and(|state| state.epoch == epoch));
    records.pop().unwrap()
}

fn state(bus: &Bus, epoch: u64) -> State {
    bus.state("limits", StateOptions::default().size(600).epoch(epoch)).unwrap()
}

fn reader(bus: &Bus) -> StateReader {
    bus.watch_state("limits", StateReaderOptions::default()).unwrap()
}

fn fails(reader: &mut StateReader) {
    until("the writer is let go", || {
        reader.read(&mut [0; 600]).unwrap();
        let is_fault =
            |notice: &StateNotice| matches!(notice, StateNotice::Ended { reason: EndReason::Failed(_), .. });
        reader.notices().unwrap().iter().any(is_fault)
    });
}

#[test]
fn the_value_of_a_writer_that_broke_the_protocol_is_gone_and_no_older_one_takes_its_place() {
    let place = Place::new();
    let (ours, theirs) = (place.bus(), place.bus());
    let mut reader = reader(&theirs);
    let mut buffer = [0; 600];
    let mut first = state(&ours, 1);
    first.set(b"first").unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(reader.latest().unwrap().unwrap().data, b"first");
    let mut second = state(&ours, 2);
    second.set(b"second").unwrap();
    until("the second value is read", || {
        reader.read(&mut buffer).unwrap().is_some_and(|(length, _)| buffer[..length] == *b"second")
    });
    // No position.
    Words::of(&record(&ours, 2)).store(HEAD, 3);
    fails(&mut reader);
    assert_eq!(reader.read(&mut buffer).unwrap(), None, "the state went back");
    assert_eq!(reader.next_or_needs(&mut buffer).unwrap(), Reading::Nothing);
    assert!(reader.latest().unwrap().is_none() && !reader.poll().unwrap());
    until("the reader can sleep", || {
        reader.notices().unwrap();
        reader.arm()
    });
    assert!(!reader.spin(1), "nothing is new");
    let mut third = state(&ours, 3);
    third.set(b"third").unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(reader.latest().unwrap().unwrap().data, b"third");
}

#[test]
fn a_new_writer_is_followed_although_the_one_before_overwrites_every_value() {
    let place = Place::new();
    let (ours, theirs) = (place.bus(), place.bus());
    let mut reader = reader(&theirs);
    let mut buffer = [0; 600];
    let mut first = state(&ours, 1);
    first.set(b"first").unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    // Everything that is read was overwritten meanwhile.
    Words::of(&record(&ours, 1)).store(FLOOR, 1 << 61);
    assert_eq!(reader.read(&mut buffer).unwrap_err().code(), "ERR_RINGBELL_TIMEOUT");
    let mut second = state(&ours, 2);
    second.set(b"second").unwrap();
    until("the second value is read", || {
        reader.read(&mut buffer).ok().flatten().is_some_and(|(length, _)| buffer[..length] == *b"second")
    });
}

#[test]
fn the_last_sequence_that_there_is_belongs_to_no_value() {
    let place = Place::new();
    let (ours, theirs) = (place.bus(), place.bus());
    let mut state = state(&ours, 1);
    state.set(b"first").unwrap();
    state.set(b"second").unwrap();
    let words = Words::of(&record(&ours, 1));
    // The second word of the batch. The one after it would be 0, as that of the first batch is.
    words.store(FRAMES + words.load(LAST) % words.capacity + 8, u64::MAX);
    let mut reader = reader(&theirs);
    fails(&mut reader);
    assert!(reader.latest().unwrap().is_none());
}
