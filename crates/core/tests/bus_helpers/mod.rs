//! What the bus tests share: a bus of one's own, children that can be killed, and waiting for a condition under a watchdog.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ringbell::bus::{Bus, BusOptions, ServiceEvent, Watch};
use tempfile::TempDir;

/// Long enough for a loaded machine, short enough to be noticed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A directory of its own for each test.
pub struct Place {
    pub folder: TempDir,
    pub path: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        Place { folder, path }
    }

    pub fn options(&self) -> BusOptions {
        BusOptions {
            path: Some(self.path.clone()),
            poll_interval: Duration::from_millis(10),
            ..BusOptions::default()
        }
    }

    pub fn bus(&self) -> Bus {
        Bus::open(self.options()).unwrap()
    }

    /// A bus that polls.
    pub fn polling(&self) -> Bus {
        Bus::open(BusOptions { inotify: false, ..self.options() }).unwrap()
    }

    /// The names in the directory, sorted.
    pub fn names(&self) -> Vec<String> {
        names(&self.path)
    }
}

pub fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Removes a directory with records of the living in it. Whoever is slow finds them there again, published anew after a while:
/// false if that has happened, so that more came and went than this.
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

/// Waits until `condition` holds, and fails loudly when it never does.
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

/// This very test binary again, in a role of its own: the test named `role`, which does nothing unless asked.
pub struct Role {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Role {
    pub fn start(role: &str, bus: &Path, environment: &[(&str, &str)]) -> Role {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
        command.env("BUS_TEST_ROLE", role).env("BUS_TEST_PATH", bus).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Role { child, lines }
    }

    /// Waits for a line that the role said.
    pub fn heard(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the role ended without a word").unwrap();
            // The harness prints before the first one, without a line break.
            if let Some((_, said)) = line.split_once("@@") {
                return said.to_owned();
            }
        }
    }

    /// Everything that the role said, until it ended.
    pub fn rest(&mut self) -> Vec<String> {
        let said = |line: std::io::Result<String>| Some(line.ok()?.split_once("@@")?.1.to_owned());
        self.lines.by_ref().filter_map(said).collect()
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Stops it, and returns when all of its threads have stopped.
    pub fn stop(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        self.signal(nix::sys::signal::Signal::SIGSTOP);
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let status = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a role: which one, and on which bus.
pub fn my_role() -> Option<(String, PathBuf)> {
    let role = std::env::var("BUS_TEST_ROLE").ok()?;
    Some((role, PathBuf::from(std::env::var_os("BUS_TEST_PATH")?)))
}

pub fn say(text: &str) {
    println!("@@{text}");
    std::io::stdout().flush().unwrap();
}

/// In a role: the next line from the test; `None` when it is gone.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().read_line(&mut line).unwrap();
    (count > 0).then(|| line.trim().to_owned())
}

pub fn open(path: &Path) -> Bus {
    let options = BusOptions {
        path: Some(path.to_owned()),
        poll_interval: Duration::from_millis(10),
        ..BusOptions::default()
    };
    Bus::open(options).unwrap()
}

/// Open descriptors and threads of this process.
pub fn resources() -> (usize, usize) {
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Ends the process when a test hangs.
pub struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

/// Barks after five times as many seconds: they are what the test needs on a busy machine, and there are busier ones.
pub fn watchdog(seconds: u64) -> Watchdog {
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
