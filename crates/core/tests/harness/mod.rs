//! Helpers of the tests in `tests/` and inside the library: a private bus with a watchdog, children that can be killed
//! (`role`), a peer that speaks the handshake without the library (`raw`), and waiting for a condition.
#![allow(dead_code, unused_imports)]

mod raw;
mod role;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringbell::bus::{Bus, BusOptions, ServiceEvent, Watch};
use tempfile::TempDir;

pub use raw::*;
pub use role::*;

/// How long a test waits: long enough for a loaded machine, and short enough to be noticed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The private directory of a test, and the watchdog of the test.
pub struct Place {
    pub folder: TempDir,
    pub path: PathBuf,
    _dog: Watchdog,
}

impl Place {
    pub fn new() -> Place {
        Place::watched(60)
    }

    /// The same for a test that takes longer than others.
    pub fn watched(seconds: u64) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        Place { folder, path, _dog: watchdog(seconds) }
    }

    pub fn options(&self) -> BusOptions {
        options(&self.path)
    }

    pub fn bus(&self) -> Bus {
        open(&self.path)
    }

    /// A bus that polls.
    pub fn polling(&self) -> Bus {
        polling_at(&self.path)
    }

    /// The names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        names(&self.path)
    }
}

fn options(path: &Path) -> BusOptions {
    let poll_interval = Duration::from_millis(10);
    BusOptions { path: Some(path.to_owned()), poll_interval, ..BusOptions::default() }
}

pub fn open(path: &Path) -> Bus {
    Bus::open(options(path)).unwrap()
}

/// The same, polling.
pub fn polling_at(path: &Path) -> Bus {
    Bus::open(BusOptions { inotify: false, ..options(path) }).unwrap()
}

pub fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Adds an empty file that looks like a record of this service. Every open of it fails with `EAGAIN` while the result lives:
/// it has a write lease, fcntl(2). The kernel takes a lease away 45 seconds after the first open that it held up.
pub fn leased(path: &Path, service: &str) -> std::fs::File {
    use nix::libc;
    use std::os::fd::AsRawFd;
    /// libc does not have it. The other signal is ignored by default; the usual one ends the process.
    const F_SETSIG: i32 = 10;
    let hidden = path.join("leased");
    let file = std::fs::File::create_new(&hidden).unwrap();
    for (command, argument) in [(F_SETSIG, libc::SIGURG), (libc::F_SETLEASE, libc::F_WRLCK)] {
        // SAFETY: both commands take a number.
        #[allow(unsafe_code)]
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
        nix::errno::Errno::result(result).unwrap();
    }
    std::fs::rename(&hidden, path.join(format!("{service}@00112233445566778899aabbccddeeff.json"))).unwrap();
    file
}

/// Removes a directory that has records of living processes. These publish their records again after a while. False if
/// they did so before the directory was gone: then more services came and went than the test expects.
pub fn lose(path: &Path) -> bool {
    let mut tries = 0;
    until("the directory is gone", || {
        tries += 1;
        match std::fs::remove_dir_all(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => false,
            Err(error) => panic!("{error}"),
        }
    });
    tries == 1
}

/// Waits until `condition` is true. Panics if that takes too long.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The next event as a word and the service's name.
pub fn next(watch: &mut Watch) -> (&'static str, String) {
    let event = watch.next(Some(PATIENCE)).unwrap().expect("an event in time");
    describe(&event)
}

pub fn describe(event: &ServiceEvent) -> (&'static str, String) {
    let word = match event {
        ServiceEvent::Added(_) => "added",
        ServiceEvent::Updated(_) => "updated",
        ServiceEvent::Removed(_) => "removed",
    };
    (word, event.record().service.clone())
}

/// The numbers of open descriptors and of threads of this process.
pub fn resources() -> (usize, usize) {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// True if the test must end here, because it needs root and this process is not root. It then writes a line to stderr in a
/// way that libtest does not capture. `scripts/outcome.mjs` counts that line as a skipped test.
pub fn needs_root(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or_default();
        // It begins with a line break, because libtest may have written a part of a line.
        let line = format!("\n*** NOT TESTED, because only root can {what}: {test} ***\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    !root
}

/// Every slot is taken by a living process.
pub struct Everybody;

impl ringbell_ring::Peers for Everybody {
    fn alive(&self, _slot: usize) -> bool {
        true
    }
}

/// Ends the process when a test hangs.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

/// Ends the process after five times `seconds`. A quiet machine needs at most `seconds`; a busy one is much slower.
fn watchdog(seconds: u64) -> Watchdog {
    use std::sync::mpsc::RecvTimeoutError;
    let (alive, gone) = std::sync::mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    std::thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(5 * seconds)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {name} hangs");
            std::process::abort();
        }
    });
    Watchdog(Some(alive))
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
    }
}
