//! No descriptors left, at each step of both sides: a typed error or success, and never one descriptor more than before.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Fake, Scene, climb, role};
use crate::bus::Bus;
use crate::harness::{Place, listen, say, until};
use crate::record::Rung;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Leaves exactly `left` descriptors to be had, until the result is dropped.
struct Starved {
    soft: u64,
    hard: u64,
    _holes: Vec<OwnedFd>,
}

fn starve(left: u64) -> Starved {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
        .max()
        .unwrap();
    // The directory's own descriptor may have been the highest; then one more is to be had.
    let mut holes: Vec<OwnedFd> = Vec::new();
    while holes.last().is_none_or(|fd| fd.as_raw_fd() < highest) {
        holes.push(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    }
    let used = holes.last().map_or(0, |fd| fd.as_raw_fd() as u64) + 1;
    setrlimit(Resource::RLIMIT_NOFILE, used + left, hard).unwrap();
    Starved { soft, hard, _holes: holes }
}

impl Drop for Starved {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard).unwrap();
    }
}

/// The subscriber has too few.
pub(super) fn client(bus: &Bus) {
    let record = bus.find("topic").unwrap().unwrap();
    for rung in [Rung::Direct, Rung::Handshake] {
        climb(bus, &record, Some(rung)).unwrap();
        let before = descriptors();
        let mut codes = Vec::new();
        for left in 0..12 {
            let starved = starve(left);
            let result = climb(bus, &record, Some(rung)).map(drop);
            drop(starved);
            assert_eq!(descriptors(), before, "{rung} with {left} left: {result:?}");
            codes.push(result.map_err(|error| error.code()));
        }
        let failures = codes.iter().take_while(|code| code.is_err()).count();
        assert!((3..12).contains(&failures), "{rung}: {codes:?}");
        assert!(
            codes[..failures].iter().all(|code| *code == Err("ERR_RINGBELL_RESOURCE")),
            "{rung}: {codes:?}"
        );
        assert!(codes[failures..].iter().all(Result::is_ok), "{rung}: {codes:?}");
    }
}

/// The publisher has none at all, but for the one in reserve.
pub(super) fn server(bus: &Bus) {
    let _fake = Fake::publish(bus, "topic", 8, &[Rung::Direct, Rung::Handshake]).unwrap();
    // An answer of the bus thread: it has opened by now what it needs for the record.
    bus.watching();
    let before = descriptors();
    let starved = starve(0);
    say("ready");
    assert!(listen().is_some());
    drop(starved);
    // The bus thread may still have to hear the last client close.
    until("there are as many descriptors as before", || descriptors() <= before);
}

#[test]
fn descriptor_exhaustion_fails_a_subscriber_without_a_leak() {
    let scene = Scene::in_a_process();
    role("client-exhaustion", &scene.place).succeed();
}

#[test]
fn a_publisher_without_descriptors_still_serves() {
    let place = Place::new();
    let mut publisher = role("server-exhaustion", &place);
    assert_eq!(publisher.heard(), "ready");
    let bus = place.bus();
    let record = bus.find("topic").unwrap().unwrap();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    climb(&bus, &record, Some(Rung::Handshake)).map(|attachment| attachment.memory().slot)
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap().unwrap();
        }
    });
    publisher.tell("enough");
    publisher.succeed();
}
