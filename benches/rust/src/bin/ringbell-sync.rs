//! Locks between processes: ringbell's, a robust pthread mutex in shared memory, and flock(2), by `--mode`. `alone`: the time of
//! taking and giving back without rivals. `contended`: how often `--processes` processes that want the same lock have it in
//! a second, and whether two ever had it at once. `handover`: from the SIGKILL of the holder to the next one.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use ringbell::sync::Lock;
use ringbell_benches::handover::{self, Turns};
use ringbell_benches::{Arguments, Outcome, Peer, pin, print, say, topics, wait_for_line};
use serde_json::{Value, json};

const NAME: &str = "bench";
/// Turns between two looks at the clock.
const BLOCK: u32 = 1000;
/// The same, where each turn may have to wait for all others.
const CONTENDED_BLOCK: u32 = 20;
/// Words of the page that a holder changes.
const WORDS: usize = 20;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    // The one that has no peers yet makes what all of them open.
    if !arguments.scenario.ends_with("-peer") {
        Page::open(&arguments)?.make_mutex()?;
    }
    match arguments.scenario.as_str() {
        "alone" => alone(&arguments),
        "contended" => contended(&arguments),
        "contended-peer" => contended_peer(&arguments),
        "handover" => handover::run(&arguments, &Rival::open(&arguments)?),
        "holder-peer" => handover::peer(&Rival::open(&arguments)?),
        other => Err(format!("no scenario {other}").into()),
    }
}

/// A page that all processes share: a pthread mutex, and from byte 512 on words of ours.
struct Page(MmapRaw);

impl Page {
    fn open(arguments: &Arguments) -> Outcome<Self> {
        let path = folder(arguments).join("page");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(4096)?;
        Ok(Self(MmapOptions::new().len(4096).map_raw(&file)?))
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.0.as_mut_ptr().cast()
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        // SAFETY: within the page, aligned, and only used by atomics.
        unsafe { &*self.0.as_ptr().add(512).cast::<AtomicU64>().add(index) }
    }

    fn make_mutex(&self) -> Outcome<()> {
        // SAFETY: the page is zero and nobody else uses it yet.
        let code = unsafe {
            let mut attributes = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(self.mutex(), &attributes)
        };
        checked(code)
    }
}

fn folder(arguments: &Arguments) -> PathBuf {
    Path::new(&arguments.text("dir", "")).to_owned()
}

/// An error number of a pthread call.
fn checked(code: libc::c_int) -> Outcome<()> {
    if code == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(code).into()) }
}

enum Rival {
    Ringbell(Lock),
    Mutex(Page),
    Flock(File),
}

impl Rival {
    fn open(arguments: &Arguments) -> Outcome<Self> {
        Ok(match arguments.text("mode", "").as_str() {
            "ringbell" => Self::Ringbell(topics::open_bus(arguments)?.lock(NAME)?),
            "mutex" => Self::Mutex(Page::open(arguments)?),
            "flock" => Self::Flock(File::create(folder(arguments).join("flock"))?),
            other => return Err(format!("no mode {other}").into()),
        })
    }

    /// Runs `call` while it has the lock.
    #[inline]
    fn with<T>(&self, call: impl FnOnce() -> T) -> Outcome<T> {
        match self {
            Self::Ringbell(lock) => {
                let _guard = lock.lock()?;
                Ok(call())
            }
            // SAFETY: `make_mutex` has made it, and the page is mapped.
            Self::Mutex(page) => unsafe {
                match libc::pthread_mutex_lock(page.mutex()) {
                    libc::EOWNERDEAD => checked(libc::pthread_mutex_consistent(page.mutex()))?,
                    code => checked(code)?,
                }
                let result = call();
                checked(libc::pthread_mutex_unlock(page.mutex()))?;
                Ok(result)
            },
            Self::Flock(file) => {
                flock(file, libc::LOCK_EX)?;
                let result = call();
                flock(file, libc::LOCK_UN)?;
                Ok(result)
            }
        }
    }
}

fn flock(file: &File, operation: libc::c_int) -> Outcome<()> {
    // SAFETY: the call takes two integers and touches no memory.
    if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().into())
}

impl Turns for Rival {
    fn turn(&self, held: &mut dyn FnMut() -> Outcome<()>) -> Outcome<()> {
        self.with(held)?
    }
}

fn alone(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.1)?;
    let rival = Rival::open(arguments)?;
    let run = |length: Duration| -> Outcome<f64> {
        let (begun, mut turns) = (Instant::now(), 0_u64);
        while begun.elapsed() < length {
            for _ in 0..BLOCK {
                rival.with(|| std::hint::black_box(()))?;
            }
            turns += u64::from(BLOCK);
        }
        Ok(begun.elapsed().as_nanos() as f64 / turns as f64)
    };
    run(arguments.warm()?)?;
    print(&json!({ "ns": run(arguments.window()?)? }))
}

fn contended(arguments: &Arguments) -> Outcome<()> {
    let count = arguments.number("processes", 2)?;
    let (first, second) = arguments.cores()?;
    let mut peers = Vec::with_capacity(count);
    for index in 0..count {
        let core = if index % 2 == 0 { first } else { second };
        let options = [
            ("dir", arguments.text("dir", "")),
            ("mode", arguments.text("mode", "")),
            ("warm", arguments.warm()?.as_millis().to_string()),
            ("ms", arguments.window()?.as_millis().to_string()),
            ("cores", format!("{core},{core}")),
        ];
        let mut peer = Peer::start("contended-peer", &options)?;
        peer.line()?;
        peers.push(peer);
    }
    for peer in &mut peers {
        peer.tell("go")?;
    }
    let (mut rate, mut turns, mut shares) = (0.0, 0, Vec::with_capacity(count));
    for peer in peers {
        let result: Value = serde_json::from_str(&peer.finish()?)?;
        let own = result["perSecond"].as_f64().ok_or("no rate")?;
        turns += result["turns"].as_u64().ok_or("no turns")?;
        rate += own;
        shares.push(own);
    }
    let page = Page::open(arguments)?;
    let lost: u64 = (0..WORDS).map(|index| turns.abs_diff(page.word(index).load(Ordering::Relaxed))).sum();
    shares.sort_unstable_by(f64::total_cmp);
    // Of each process's turns, those of the one that had the fewest, as a part of an equal share.
    print(&json!({ "rate": rate, "fewest": shares[0] * count as f64 / rate, "lost": lost }))
}

/// Takes the lock again and again: words are changed inside, as no two holders at once could, and a moment passes outside.
fn contended_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let (rival, page) = (Rival::open(arguments)?, Page::open(arguments)?);
    let (warm, window) = (arguments.warm()?, arguments.window()?);
    say("ready")?;
    wait_for_line()?;
    let mut turns = 0_u64;
    let mut run = |length: Duration| -> Outcome<f64> {
        let (begun, from) = (Instant::now(), turns);
        while begun.elapsed() < length {
            for _ in 0..CONTENDED_BLOCK {
                rival.with(|| {
                    for index in 0..WORDS {
                        let word = page.word(index);
                        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                    }
                })?;
                for _ in 0..10 {
                    std::hint::spin_loop();
                }
                turns += 1;
            }
        }
        Ok((turns - from) as f64 / begun.elapsed().as_secs_f64())
    };
    run(warm)?;
    let rate = run(window)?;
    print(&json!({ "perSecond": rate, "turns": turns }))
}
