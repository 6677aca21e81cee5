//! Many processes at once.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe, read, write};

use super::{Fake, Scene, climb, role};
use crate::bus::Bus;
use crate::harness::{Place, listen, say, until};
use crate::record::{Record, Rung};
use crate::segment::slots;

const PROCESSES: usize = 1000;

/// Forks `count` processes that wait for a byte from `start`, run `act`, report its result, and wait for a byte from
/// `stay` before they exit. They inherit the other ends too, so closing those would tell nobody.
#[allow(unsafe_code)]
fn crowd(count: usize, start: &OwnedFd, stay: &OwnedFd, act: impl Fn() -> i64) -> (Vec<Pid>, OwnedFd) {
    let (reports, report) = pipe().unwrap();
    let mut pids = Vec::new();
    for _ in 0..count {
        // SAFETY: this process plays one scenario on one thread; its other threads hold no lock that a child needs.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => pids.push(child),
            ForkResult::Child => {
                // If the parent is killed, no process kills this one.
                nix::unistd::alarm::set(120);
                let _ = read(start, &mut [0; 1]);
                let result = act();
                write(&report, &result.to_le_bytes()).unwrap();
                let _ = read(stay, &mut [0; 1]);
                // SAFETY: ends this process at once, without running what belongs to the parent.
                unsafe { libc::_exit(0) };
            }
        }
    }
    (pids, reports)
}

fn results(reports: &OwnedFd, count: usize) -> Vec<i64> {
    let mut word = [0; 8];
    (0..count)
        .map(|_| {
            assert_eq!(read(reports, &mut word), Ok(8));
            i64::from_le_bytes(word)
        })
        .collect()
}

fn topic(bus: &Bus) -> Arc<Record> {
    bus.list().unwrap().into_iter().find(|record| record.service == "topic").unwrap()
}

/// In a child: says how many attached, how many slots they have, and how long it took.
pub(super) fn attach_a_thousand(bus: &Bus) {
    let record = topic(bus);
    let (start, go) = pipe().unwrap();
    let (stay, leave) = pipe().unwrap();
    let (pids, reports) = {
        let attach = || {
            // Kept until the process ends: the slots of all must differ.
            let attachment = climb(bus, &record, Some(Rung::Handshake)).map(Box::leak);
            attachment.map_or_else(
                |error| {
                    eprintln!("{error}");
                    -1
                },
                |attachment| attachment.memory().slot as i64,
            )
        };
        crowd(PROCESSES, &start, &stay, attach)
    };
    let began = Instant::now();
    write(&go, &[0; PROCESSES]).unwrap();
    let slots = results(&reports, PROCESSES);
    let elapsed = began.elapsed();
    write(&leave, &[0; PROCESSES]).unwrap();
    for pid in pids {
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
    }
    let distinct: BTreeSet<_> = slots.iter().filter(|slot| **slot >= 0).collect();
    say(&format!(
        "{} {} {}",
        slots.iter().filter(|slot| **slot >= 0).count(),
        distinct.len(),
        elapsed.as_millis()
    ));
}

#[test]
fn a_thousand_processes_attach_at_once() {
    let scene = Scene::in_a_process();
    let mut crowd = role("crowd", &scene.place);
    let said = crowd.heard();
    let figures: Vec<usize> = said.split(' ').map(|figure| figure.parse().unwrap()).collect();
    assert_eq!(figures[..2], [PROCESSES, PROCESSES], "attached, distinct slots");
    eprintln!("1,000 processes attached in {} ms", figures[2]);
    crowd.succeed();
}

/// In a child: 40 processes claim 16 slots, of a topic of its own; the winners are killed and others take their places.
pub(super) fn claim_all(bus: &Bus) {
    let fake = Fake::publish(bus, "topic", 16, &[Rung::Direct, Rung::Handshake]).unwrap();
    let record = fake.announced.record();
    let attach = || {
        let attachment = climb(bus, &record, Some(Rung::Direct)).map(Box::leak);
        match attachment {
            Ok(attachment) => attachment.memory().slot as i64,
            Err(crate::Error::NoSlot { max: 16 }) => -1,
            Err(error) => panic!("{error}"),
        }
    };
    for round in 0..2 {
        let (start, go) = pipe().unwrap();
        let (stay, _leave) = pipe().unwrap();
        let (pids, reports) = crowd(40, &start, &stay, attach);
        write(&go, &[0; 40]).unwrap();
        let claimed = results(&reports, 40);
        let slots: BTreeSet<_> = claimed.iter().copied().filter(|slot| *slot >= 0).collect();
        assert_eq!(slots, (0..16).collect(), "round {round}: every slot has one owner");
        assert_eq!(claimed.iter().filter(|slot| **slot < 0).count(), 24);
        for pid in &pids {
            nix::sys::signal::kill(*pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        // They are zombies now, or about to be: nobody has waited for them yet.
        until("no lock outlives its owner", || {
            (0..16).all(|slot| !slots::is_held(&fake.segments.control_own, slot).unwrap())
        });
        for pid in pids {
            waitpid(pid, None).unwrap();
        }
    }
    say("done");
    listen();
}

#[test]
fn slots_are_exclusive_and_released_by_sigkill() {
    let place = Place::new();
    let mut claimers = role("claimers", &place);
    assert_eq!(claimers.heard(), "done");
    claimers.succeed();
}

/// Figures for the hand-over, not a test of time: `cargo test --release -- --ignored attach_times --nocapture`.
#[test]
#[ignore = "prints figures"]
fn attach_times() {
    let scene = Scene::in_a_process();
    for rung in [Rung::Direct, Rung::Handshake] {
        let mut times: Vec<Duration> = (0..2000)
            .map(|_| {
                let began = Instant::now();
                let attachment = scene.climb(Some(rung)).unwrap();
                let elapsed = began.elapsed();
                drop(attachment);
                elapsed
            })
            .collect();
        times.sort_unstable();
        eprintln!("{rung}: p50 {:?} p99 {:?}", times[1000], times[1980]);
    }
}
