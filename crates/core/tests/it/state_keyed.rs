//! States with keys, against a naive model: on every rung, lapped, with other writers, and full.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::*;
use ringbell::acquire::Rung;
use ringbell::bus::Bus;
use ringbell::state::{KeyedReader, KeyedState, StateOptions, StateReaderOptions};

type Model = BTreeMap<String, Vec<u8>>;

const RUNGS: [Rung; 3] = Rung::LADDER;

fn reader(bus: &Bus, rung: Option<Rung>) -> KeyedReader {
    let mut options = StateReaderOptions::default();
    options.acquire = rung;
    bus.watch_keyed_state("limits", options).unwrap()
}

fn state(bus: &Bus) -> KeyedState {
    bus.keyed_state("limits", StateOptions::default().size(440).capacity(4096)).unwrap()
}

fn contents(reader: &mut KeyedReader) -> Model {
    reader.poll().unwrap();
    let keys: Vec<_> = reader.keys("").unwrap().map(str::to_owned).collect();
    keys.into_iter().map(|key| (key.clone(), reader.get(&key).unwrap().unwrap().to_vec())).collect()
}

fn is_whole(reader: &mut KeyedReader) {
    until("the table is whole", || {
        reader.poll().unwrap();
        reader.is_whole()
    });
}

/// Not for secrets: only some different cases, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Makes one change in a state and in its model.
fn change(state: &mut KeyedState, model: &mut Model, random: &mut Random) {
    let key = format!("key.{}", random.below(12));
    if random.below(4) == 0 {
        assert_eq!(state.delete(&key).unwrap(), model.remove(&key).is_some());
        return;
    }
    let value = vec![random.below(256) as u8; random.below(120) as usize];
    match state.set(&key, &value) {
        Ok(version) => {
            assert_eq!(version, state.version());
            model.insert(key, value);
        }
        Err(error) => assert_eq!(error.code(), "ERR_RINGBELL_STATE_FULL"),
    }
}

#[test]
fn tables_are_those_of_the_writer_however_seldom_they_are_looked_at() {
    let place = Place::watched(120);
    let (ours, theirs) = (place.bus(), place.bus());
    let mut state = state(&ours);
    let mut model = Model::new();
    let mut random = Random(7);
    let (mut often, mut seldom) = (reader(&theirs, None), reader(&theirs, None));
    is_whole(&mut often);
    is_whole(&mut seldom);
    let mut full = 0;
    for turn in 0..20_000 {
        change(&mut state, &mut model, &mut random);
        if turn % 3 == 0 {
            assert_eq!(contents(&mut often), model, "turn {turn}");
        }
        // The ring has room for some dozens of changes, so this one misses most of them.
        if turn % 1013 == 0 {
            assert_eq!(contents(&mut seldom), model, "turn {turn}");
            full += usize::from(!seldom.changes().unwrap().is_empty());
        }
        if turn % 2500 == 0 {
            let mut late = reader(&theirs, None);
            is_whole(&mut late);
            assert_eq!(contents(&mut late), model, "turn {turn}");
        }
        assert_eq!(state.len(), model.len());
    }
    assert!(full > 5);
    assert!(seldom.stats().missed > 1000, "{:?}", seldom.stats());
}

#[test]
fn every_rung_brings_the_table_and_its_changes() {
    for rung in RUNGS {
        let place = Place::watched(120);
        let (ours, theirs) = (place.bus(), place.bus());
        let mut state = state(&ours);
        let mut model = Model::new();
        let mut random = Random(rung as u64);
        for _ in 0..300 {
            change(&mut state, &mut model, &mut random);
        }
        let mut reader = reader(&theirs, Some(rung));
        is_whole(&mut reader);
        assert_eq!(contents(&mut reader), model, "{rung:?}");
        assert_eq!(reader.changes().unwrap(), model.keys().cloned().collect::<Vec<_>>());
        for round in 0..50 {
            for _ in 0..40 {
                change(&mut state, &mut model, &mut random);
            }
            state.set("last", &[round]).unwrap();
            model.insert("last".into(), vec![round]);
            until("the last change has come", || {
                reader.wait(Some(Duration::from_millis(100))).unwrap();
                reader.get("last").unwrap() == Some(&[round])
            });
            assert_eq!(contents(&mut reader), model, "{rung:?}, round {round}");
            assert!(reader.changes().unwrap().contains(&"last".to_owned()));
        }
    }
}

#[test]
fn only_what_differs_is_told() {
    let place = Place::new();
    let bus = place.bus();
    let mut state = state(&bus);
    let mut reader = reader(&bus, None);
    is_whole(&mut reader);
    assert!(!reader.wait(Some(Duration::ZERO)).unwrap());
    state.set("a.1", b"x").unwrap();
    state.set("a.2", b"x").unwrap();
    state.set("b", b"x").unwrap();
    state.set("gone", b"x").unwrap();
    state.delete("gone").unwrap();
    assert!(!state.delete("never").unwrap());
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(reader.changes().unwrap(), ["a.1", "a.2", "b"], "a key that came and went is none");
    assert_eq!(reader.keys("a.").unwrap().collect::<Vec<_>>(), ["a.1", "a.2"]);
    assert_eq!(reader.keys("a.2").unwrap().count(), 1);
    state.delete("a.1").unwrap();
    state.set("b", b"x").unwrap();
    assert!(reader.wait(Some(PATIENCE)).unwrap());
    assert_eq!(reader.changes().unwrap(), ["a.1", "b"]);
    assert_eq!(reader.get("a.1").unwrap(), None);
    // The ring goes round many times: entries that are written again are no changes.
    for _ in 0..1000 {
        state.set("b", b"y").unwrap();
        reader.poll().unwrap();
    }
    assert_eq!(reader.changes().unwrap(), ["b"]);
    assert_eq!(reader.get("a.2").unwrap(), Some(&b"x"[..]));
}

#[test]
fn a_new_writer_replaces_the_table_at_once() {
    let place = Place::new();
    let (ours, theirs) = (place.bus(), place.bus());
    let mut reader = reader(&theirs, None);
    let mut before = state(&ours);
    before.set("both", b"1").unwrap();
    before.set("same", b"1").unwrap();
    before.set("old", b"1").unwrap();
    is_whole(&mut reader);
    until("the keys are there", || reader.keys("").unwrap().count() == 3);
    reader.changes().unwrap();
    drop(before);
    until("the writer is gone", || {
        reader
            .notices()
            .unwrap()
            .iter()
            .any(|notice| matches!(notice, ringbell::state::StateNotice::Ended { .. }))
    });
    assert_eq!(reader.get("old").unwrap(), Some(&b"1"[..]), "the table stays");
    let mut after = state(&ours);
    after.set("both", b"2").unwrap();
    after.set("same", b"1").unwrap();
    until("the new value has come", || reader.get("both").unwrap() == Some(&b"2"[..]));
    until("both have come", || reader.get("same").unwrap() == Some(&b"1"[..]));
    assert_eq!(reader.get("old").unwrap(), None);
    let changes = reader.changes().unwrap();
    assert!(changes.contains(&"both".to_owned()) && changes.contains(&"old".to_owned()), "{changes:?}");
}

#[test]
fn a_state_that_is_full_says_so_and_stays_as_it_was() {
    let place = Place::new();
    let bus = place.bus();
    let mut state = state(&bus);
    let mut reader = reader(&bus, None);
    let error = state.set("k", &[0; 440]).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_MESSAGE_TOO_LARGE");
    let mut model = Model::new();
    for n in 0.. {
        let (key, value) = (format!("key.{n}"), vec![n; 400]);
        match state.set(&key, &value) {
            Ok(_) => drop(model.insert(key, value)),
            Err(error) => {
                assert_eq!(error.code(), "ERR_RINGBELL_STATE_FULL");
                break;
            }
        }
    }
    assert_eq!(model.len(), 4);
    // A full state can be changed and made smaller.
    for n in 0..100 {
        state.set("key.1", &[n; 400]).unwrap();
    }
    model.insert("key.1".into(), vec![99; 400]);
    assert!(state.delete("key.0").unwrap());
    model.remove("key.0");
    is_whole(&mut reader);
    assert_eq!(contents(&mut reader), model);
    // One value and many keys are two things.
    let mut other = bus.watch_state("limits", StateReaderOptions::default()).unwrap();
    until("it is refused", || {
        other.notices().unwrap().iter().any(|notice| {
            matches!(notice, ringbell::state::StateNotice::Failed { error, .. } if error.code() == "ERR_RINGBELL_REFUSED")
        })
    });
}
