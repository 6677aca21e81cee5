//! Locks between processes: ringbell's lock beside a robust pthread mutex in shared memory and flock(2).
//!
//! `ringbell-sync`: one JSON line with everything. Rounds of all rivals take turns, in one run. Roles of this binary are
//! the processes that contend, and the holders that are killed.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use ringbell::bus::{Bus, BusOptions};
use ringbell::sync::Lock;

const RIVALS: [&str; 3] = ["ringbell", "pthread", "flock"];
const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_millis(1000);

/// A page that all processes share: a pthread mutex, and from byte 512 on words of ours.
struct Page(MmapRaw);

impl Page {
    fn open(folder: &Path) -> Page {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(folder.join("page"));
        let file = file.expect("a page");
        file.set_len(4096).expect("its length");
        Page(MmapOptions::new().len(4096).map_raw(&file).expect("its mapping"))
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.0.as_mut_ptr().cast()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: within the page, aligned, and only used by atomics.
        unsafe { &*self.0.as_ptr().add(512).cast::<AtomicU64>().add(index) }
    }

    fn make_mutex(&self) {
        // SAFETY: the page is zero and nobody else uses it yet.
        unsafe {
            let mut attributes = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            assert_eq!(libc::pthread_mutex_init(self.mutex(), &attributes), 0);
        }
    }
}

enum Rival {
    Ringbell(Bus, Lock),
    Pthread(Page),
    Flock(File),
}

impl Rival {
    fn open(name: &str, folder: &Path) -> Rival {
        match name {
            "ringbell" => {
                let options = BusOptions { path: Some(folder.join("bus")), ..BusOptions::default() };
                let bus = Bus::open(options).expect("a bus");
                let lock = bus.lock("bench").expect("a lock");
                Rival::Ringbell(bus, lock)
            }
            "pthread" => Rival::Pthread(Page::open(folder)),
            _ => Rival::Flock(File::create(folder.join("flock")).expect("a file")),
        }
    }

    /// Runs `call` while it has the lock.
    #[inline]
    fn with(&self, call: impl FnOnce()) {
        match self {
            Rival::Ringbell(_, lock) => {
                let guard = lock.lock().expect("the lock");
                call();
                drop(guard);
            }
            // SAFETY: `make_mutex` has made it, and the page is mapped.
            Rival::Pthread(page) => unsafe {
                if libc::pthread_mutex_lock(page.mutex()) == libc::EOWNERDEAD {
                    libc::pthread_mutex_consistent(page.mutex());
                }
                call();
                libc::pthread_mutex_unlock(page.mutex());
            },
            // SAFETY: a descriptor of ours.
            Rival::Flock(file) => unsafe {
                while libc::flock(file.as_raw_fd(), libc::LOCK_EX) != 0 {}
                call();
                libc::flock(file.as_raw_fd(), libc::LOCK_UN);
            },
        }
    }
}

fn say(text: &str) {
    println!("{text}");
    std::io::stdout().flush().expect("a reader");
}

fn listen() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
}

/// Takes the lock again and again: 20 words are changed inside, and about 100 ns pass outside.
fn contend(rival: &Rival, page: &Page) {
    say("ready");
    listen();
    let (begun, mut turns) = (Instant::now(), 0u64);
    while begun.elapsed() < SPAN {
        for _ in 0..20 {
            rival.with(|| {
                for index in 0..20 {
                    let word = page.word(16 + index);
                    word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                }
            });
            for _ in 0..10 {
                std::hint::spin_loop();
            }
            turns += 1;
        }
    }
    say(&turns.to_string());
}

fn hold(rival: &Rival) {
    rival.with(|| {
        say("held");
        listen();
    });
}

fn start(role: &str, rival: &str, folder: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args([role, rival]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("its first line");
    (child, lines)
}

fn contended(rival: &str, folder: &Path, processes: usize) -> f64 {
    let mut children: Vec<_> = (0..processes).map(|_| start("contend", rival, folder)).collect();
    for (child, _) in &mut children {
        child.stdin.as_mut().expect("its input").write_all(b"go\n").expect("it listens");
    }
    let mut turns = 0.0;
    for (mut child, mut lines) in children {
        let mut line = String::new();
        lines.read_line(&mut line).expect("its count");
        turns += line.trim().parse::<f64>().expect("a number");
        child.wait().expect("its end");
    }
    turns / SPAN.as_secs_f64()
}

/// From SIGKILL of the holder until a waiter has the lock, in microseconds.
fn hand_over(rival: &str, folder: &Path, times: usize) -> Vec<f64> {
    let lock = Rival::open(rival, folder);
    let mut spans = Vec::new();
    for _ in 0..times {
        let (mut child, _lines) = start("hold", rival, folder);
        let killed = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut got = None;
                lock.with(|| got = Some(Instant::now()));
                got.expect("it ran")
            });
            // Long enough for the other thread to sleep. Its result is not judged by this.
            std::thread::sleep(Duration::from_millis(5));
            let killed = Instant::now();
            child.kill().expect("it lives");
            waiting.join().expect("a waiter").duration_since(killed)
        });
        child.wait().expect("its end");
        spans.push(killed.as_secs_f64() * 1e6);
    }
    spans.sort_by(f64::total_cmp);
    spans
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn uncontended(rival: &Rival) -> f64 {
    let count = if matches!(rival, Rival::Flock(_)) { 100_000 } else { 5_000_000u32 };
    let begun = Instant::now();
    for _ in 0..count {
        rival.with(|| { std::hint::black_box(0); });
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, rival, folder] = &arguments[..] {
        let folder = PathBuf::from(folder);
        let lock = Rival::open(rival, &folder);
        return match role.as_str() {
            "contend" => contend(&lock, &Page::open(&folder)),
            _ => hold(&lock),
        };
    }
    let folder = std::env::temp_dir().join(format!("ringbell-sync-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let page = Page::open(&folder);
    page.make_mutex();
    let locks = RIVALS.map(|rival| Rival::open(rival, &folder));
    let mut figures = serde_json::Map::new();
    for (rival, lock) in RIVALS.iter().zip(&locks) {
        let runs = (0..ROUNDS).map(|_| uncontended(lock)).collect();
        figures.insert(format!("{rival} uncontended ns"), median(runs).into());
    }
    for processes in [2, 8, 32] {
        let mut runs = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for (rival, runs) in RIVALS.iter().zip(&mut runs) {
                runs.push(contended(rival, &folder, processes));
            }
        }
        for (rival, runs) in RIVALS.iter().zip(runs) {
            figures.insert(format!("{rival} {processes} processes turns/s"), median(runs).into());
        }
    }
    for rival in RIVALS {
        let spans = hand_over(rival, &folder, 100);
        figures.insert(format!("{rival} hand-over p50 us"), spans[spans.len() / 2].into());
        figures.insert(format!("{rival} hand-over p99 us"), spans[spans.len() * 99 / 100].into());
    }
    drop(locks);
    let _ = std::fs::remove_dir_all(&folder);
    println!("{}", serde_json::to_string_pretty(&figures).expect("text"));
}
