//! This test binary once more, as another process.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Fake, crowd, exhaustion, forced, open, watchdog};
use crate::bus::Bus;
use crate::record::Rung;

const SCENARIO: &str = "RINGBELL_TEST_SCENARIO";
const FOLDER: &str = "RINGBELL_TEST_FOLDER";

/// A running child; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a scenario that uses the bus in `folder`.
    pub(super) fn start(scenario: &str, folder: &Path) -> Process {
        Process::of("topic::acquire::tests::child::play", scenario, folder)
    }

    /// Starts a scenario of the test named `play`, which asks [`scenario`] for it.
    pub(crate) fn of(play: &str, scenario: &str, folder: &Path) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([play, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(SCENARIO, scenario)
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Process { child, stdin, stdout }
    }

    /// A publisher of the service `topic`.
    pub(super) fn publisher(folder: &Path) -> Process {
        let mut process = Process::start("publisher", folder);
        assert_eq!(process.line(), "ready");
        process
    }

    /// The next line that the child has to say; empty when it has ended.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            // The harness does not end its own line before the test writes.
            if let Some((_, said)) = line.trim_end().split_once('@') {
                return said.to_owned();
            }
            line.clear();
        }
        String::new()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Kills it; it stays a zombie until it is dropped.
    pub(crate) fn kill(&mut self) {
        let pidfd = crate::sys::pidfd::PidFd::open(self.child.id()).unwrap();
        self.child.kill().unwrap();
        let mut fds =
            [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 20_000u16).unwrap();
    }

    /// Waits for the child's end, which must be a good one.
    pub(crate) fn succeed(mut self) {
        self.stdin.take();
        while !self.line().is_empty() {}
        assert!(self.child.wait().unwrap().success(), "the child failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a child: which scenario, and the bus's folder.
pub(crate) fn scenario() -> Option<(String, PathBuf)> {
    Some((std::env::var(SCENARIO).ok()?, PathBuf::from(std::env::var_os(FOLDER)?)))
}

/// Says a line to the parent.
pub(crate) fn say(line: &str) {
    println!("@{line}");
}

/// Waits for the parent's next line; false when it has no more.
pub(crate) fn hear(line: &mut String) -> bool {
    line.clear();
    std::io::stdin().lock().read_line(line).unwrap() > 0
}

#[test]
#[ignore = "a child of the other tests"]
fn play() {
    let Some((scenario, folder)) = scenario() else { return };
    let _dog = watchdog(90);
    let bus = open(&folder);
    match scenario.as_str() {
        "publisher" => publisher(&bus),
        "crowd" => crowd::attach_a_thousand(&bus),
        "claimers" => crowd::claim_all(&bus),
        "client-exhaustion" => exhaustion::client(&bus),
        "server-exhaustion" => exhaustion::server(&bus),
        "stranger" => forced::as_a_stranger(&bus),
        "forced-by-environment" => forced::by_environment(&bus),
        other => forced::by_seccomp(other, &bus),
    }
}

/// Announces `topic`, and obeys: `send` sends a message and rings, `update` replaces the record, `close` withdraws.
fn publisher(bus: &Bus) {
    let mut fake = Fake::publish(bus, "topic", 1024, &[Rung::Direct, Rung::Handshake]).unwrap();
    say("ready");
    let mut line = String::new();
    while hear(&mut line) {
        match line.trim() {
            "send" => {
                let _ = fake.producer.send(b"hello", 1, &mut Everyone);
                fake.doorbells.iter().for_each(crate::sys::eventfd::EventFd::ring);
            }
            "room" => assert!(fake.room.wait().unwrap() > 0),
            "update" => {
                fake.announced.update(serde_json::Map::new()).unwrap();
            }
            "close" => break,
            other => panic!("{other}"),
        }
        say("done");
    }
}

struct Everyone;

impl ringbell_ring::Peers for Everyone {
    fn alive(&self, _slot: usize) -> bool {
        true
    }
}
