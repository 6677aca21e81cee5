//! What one thread of a worker did, in a file that outlives it. A record is written in order: what is done and when it began,
//! then, after it was done, the result and when it ended. So a record of a killed thread says how far it came.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::time::{ClockId, clock_gettime};

const WORDS: usize = 4;
const RECORDS: usize = 5_000;
const BYTES: usize = RECORDS * WORDS * 8;

/// Nanoseconds of a clock that all processes share.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    Lock,
    Semaphore,
    Flag,
    /// Some shards of a mutex: the argument has a bit for each.
    Shards,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Take,
    Try,
    GiveBack,
    Get,
    Swap,
    CompareAndSwap,
    Reach,
}

/// What `Take`, `Try` and `Reach` answer.
pub const REFUSED: u64 = 0;
pub const TAKEN: u64 = 1;
pub const ABANDONED: u64 = 2;

#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub object: Object,
    pub action: Action,
    pub argument: u32,
    pub begun: u64,
    /// When it ended, and its result. `None`: it was killed.
    pub ended: Option<(u64, u64)>,
}

const OBJECTS: [Object; 4] = [Object::Lock, Object::Semaphore, Object::Flag, Object::Shards];
const ACTIONS: [Action; 7] = [
    Action::Take,
    Action::Try,
    Action::GiveBack,
    Action::Get,
    Action::Swap,
    Action::CompareAndSwap,
    Action::Reach,
];

pub struct Log {
    map: MmapRaw,
    next: usize,
}

fn path(folder: &Path, process: u32, thread: usize) -> PathBuf {
    folder.join(format!("log-{process}-{thread}"))
}

fn map(file: &File) -> MmapRaw {
    MmapOptions::new().len(BYTES).map_raw(file).unwrap()
}

fn word(map: &MmapRaw, index: usize) -> &AtomicU64 {
    assert!(index < BYTES / 8);
    // SAFETY: within the mapping and aligned; all access is atomic.
    #[allow(unsafe_code)]
    unsafe {
        &*map.as_ptr().cast::<AtomicU64>().add(index)
    }
}

impl Log {
    pub fn create(folder: &Path, process: u32, thread: usize) -> Log {
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        let file = options.open(path(folder, process, thread)).unwrap();
        file.set_len(BYTES as u64).unwrap();
        Log { map: map(&file), next: 0 }
    }

    pub fn has_room_for(&self, records: usize) -> bool {
        self.next + records <= RECORDS
    }

    /// Does something that has a result, and writes down both.
    pub fn note<T>(
        &mut self,
        (object, action, argument): (Object, Action, u32),
        act: impl FnOnce() -> (u64, T),
    ) -> T {
        let at = self.next * WORDS;
        self.next += 1;
        let deed = 1 << 63 | (object as u64) << 40 | (action as u64) << 32 | u64::from(argument);
        word(&self.map, at + 1).store(now(), Ordering::Release);
        word(&self.map, at).store(deed, Ordering::Release);
        let (result, value) = act();
        word(&self.map, at + 3).store(result, Ordering::Release);
        word(&self.map, at + 2).store(now(), Ordering::Release);
        value
    }
}

/// Reads a log whose thread is dead, and removes it.
pub fn take(folder: &Path, process: u32, thread: usize) -> Vec<Record> {
    let path = path(folder, process, thread);
    // It was killed before it began.
    let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return Vec::new() };
    std::fs::remove_file(path).unwrap();
    if file.metadata().unwrap().len() < BYTES as u64 {
        return Vec::new();
    }
    let map = map(&file);
    let load = |index| word(&map, index).load(Ordering::Acquire);
    let record = |number| {
        let [deed, begun, ended, result] = std::array::from_fn(|index| load(number * WORDS + index));
        (deed != 0).then(|| Record {
            object: OBJECTS[(deed >> 40 & 0xff) as usize],
            action: ACTIONS[(deed >> 32 & 0xff) as usize],
            argument: deed as u32,
            begun,
            ended: (ended != 0).then_some((ended, result)),
        })
    };
    (0..RECORDS).map_while(record).collect()
}
