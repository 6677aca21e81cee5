//! Writers of a state with keys that are killed at any moment: what readers have is what a whole number of changes made of it,
//! while the writer lives and after its death, and the next writer's table replaces all of it.
//!
//! `STATE_KILLS` says how many are killed. `npm run soak` asks for many.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::*;
use ringbell::acquire::Rung;
use ringbell::bus::Bus;
use ringbell::state::{KeyedReader, KeyedState, StateNotice, StateOptions, StateReaderOptions};
use ringbell::topic::EndReason;

const RUNGS: [Rung; 3] = Rung::LADDER;
const KEYS: u64 = 11;
/// The key whose value is how many changes there were.
const COUNT: &str = "count";

/// The keys and values after so many changes of the writer with this epoch.
#[derive(Clone, Default)]
struct Model {
    epoch: u64,
    changes: u64,
    table: BTreeMap<String, Vec<u8>>,
}

/// A change: the key, and its new value; none: it is deleted.
fn change(epoch: u64, number: u64) -> (String, Option<Vec<u8>>) {
    let mut random = (epoch ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    random ^= random >> 29;
    let key = format!("key.{}", random % KEYS);
    let length = (random >> 8) as usize % 90;
    (key, (random >> 16 & 3 != 0).then(|| vec![(random >> 24) as u8; length]))
}

impl Model {
    fn apply(&mut self) {
        self.changes += 1;
        match change(self.epoch, self.changes) {
            (key, Some(value)) => drop(self.table.insert(key, value)),
            (key, None) => drop(self.table.remove(&key)),
        }
    }
}

fn state(bus: &Bus) -> KeyedState {
    // So small that entries are written again all the time.
    bus.keyed_state("limits", StateOptions::default().size(200).capacity(4096)).unwrap()
}

#[test]
fn role() {
    let Some((_, path)) = my_role() else { return };
    let mut state = state(&open(&path));
    state.set(COUNT, &0u64.to_le_bytes()).unwrap();
    say("ready");
    for number in 1u64.. {
        match change(state.epoch(), number) {
            (key, Some(value)) => drop(state.set(&key, &value).unwrap()),
            (key, None) => drop(state.delete(&key).unwrap()),
        }
        state.set(COUNT, &number.to_le_bytes()).unwrap();
    }
}

/// One reader, and the model that it must have.
struct Looker {
    rung: Rung,
    reader: KeyedReader,
    model: Model,
}

impl Looker {
    /// How many changes of which writer it has.
    fn count(&mut self) -> Option<(u64, u64)> {
        self.reader.poll().unwrap();
        let count =
            self.reader.get(COUNT).unwrap().map(|count| u64::from_le_bytes(count.try_into().unwrap()))?;
        Some((self.reader.epoch()?, count))
    }

    /// Looks at every key. Each look may take in more changes, so each value must be one that its key had between the first
    /// look and the last one; where nothing is changed, that is the whole table after so many changes.
    fn look(&mut self) -> Option<(u64, u64)> {
        let (epoch, count) = self.count()?;
        assert!(epoch >= self.model.epoch, "{:?}: an older writer", self.rung);
        if epoch > self.model.epoch {
            self.model = Model { epoch, ..Model::default() };
        }
        assert!(count >= self.model.changes, "{:?}: it went back", self.rung);
        while self.model.changes < count {
            self.model.apply();
        }
        let table: Vec<(String, Option<Vec<u8>>)> = (0..KEYS)
            .map(|key| format!("key.{key}"))
            .map(|key| (key.clone(), self.reader.get(&key).unwrap().map(<[u8]>::to_vec)))
            .collect();
        let last = self.count()?;
        if last.0 > epoch {
            // Another writer's table came meanwhile.
            return Some(last);
        }
        let mut possible: Vec<Vec<Option<Vec<u8>>>> =
            table.iter().map(|(key, _)| vec![self.model.table.get(key).cloned()]).collect();
        // The next change may be there, and the count still that of the one before.
        for number in count + 1..=last.1 + 1 {
            let (key, value) = change(epoch, number);
            let index = table.iter().position(|(one, _)| *one == key).unwrap();
            possible[index].push(value);
        }
        for ((key, value), possible) in table.iter().zip(possible) {
            assert!(possible.contains(value), "{:?}, {count} to {last:?}: {key} is {value:?}", self.rung);
        }
        Some(last)
    }

    fn ended(&mut self) {
        let mut reasons = Vec::new();
        until("the writer has ended", || {
            reasons.extend(self.reader.notices().unwrap().into_iter().filter_map(|notice| match notice {
                StateNotice::Ended { reason, .. } => Some(reason),
                _ => None,
            }));
            !reasons.is_empty()
        });
        assert_eq!(reasons, [EndReason::Died], "{:?}", self.rung);
    }
}

#[test]
fn tables_of_killed_writers_are_those_of_a_whole_number_of_changes() {
    let kills = std::env::var("STATE_KILLS").map_or(25, |count| count.parse().unwrap());
    let place = Place::watched(120 + kills);
    let bus = place.bus();
    let mut lookers: Vec<Looker> = RUNGS
        .iter()
        .map(|&rung| {
            let mut options = StateReaderOptions::default();
            options.acquire = Some(rung);
            let reader = bus.watch_keyed_state("limits", options).unwrap();
            Looker { rung, reader, model: Model::default() }
        })
        .collect();
    let (mut last, mut looks, mut changes) = (0, 0, 0);
    for round in 0..kills {
        let mut writer = Role::start("writer", &place.path, &[]);
        assert_eq!(writer.heard(), "ready");
        let deadline = Instant::now() + PATIENCE;
        let end = Instant::now() + Duration::from_micros(1000 + round * 911 % 12_000);
        loop {
            assert!(Instant::now() < deadline, "round {round}: a reader does not follow");
            let all = lookers.iter_mut().map(|one| one.look().is_some_and(|(epoch, _)| epoch > last));
            let all = all.collect::<Vec<_>>().into_iter().all(|new| new);
            looks += lookers.len();
            if all && Instant::now() >= end {
                break;
            }
        }
        writer.kill();
        let [direct, handshake, stream] = &mut lookers[..] else { unreachable!() };
        let found = direct.look().unwrap();
        assert_eq!(handshake.look(), Some(found), "both find the same in shared memory");
        // A stream brings what was on its way.
        stream.ended();
        assert!(stream.look().unwrap() <= found);
        direct.ended();
        handshake.ended();
        assert_eq!((direct.look(), handshake.look()), (Some(found), Some(found)), "it stays");
        (last, changes) = (found.0, changes + found.1);
    }
    assert!(looks as u64 > 10 * kills && changes > 100 * kills, "{looks} looks at {changes} changes");
}
