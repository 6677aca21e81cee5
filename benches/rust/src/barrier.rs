//! Many processes that begin at the same moment. Each is this program in the role of a peer: it gets ready, says so and
//! waits for the end of its standard input, which is one pipe for all of them, so that closing it releases them all at
//! once. Then it does its work, prints one line, and stays until a second pipe ends, so that all are there together.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, pipe2};
use serde_json::{Value, json};

use crate::{Arguments, Outcome, print, roundtrip, say};

/// By when everybody must be attached (the target), and how long the rest is waited for.
const WITHIN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// CLOCK_MONOTONIC, the same in every process.
pub fn now() -> Outcome<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

/// Starts `count` peers in `role`, releases them, and prints what became of them.
pub fn run(role: &str, count: usize, options: &[(&str, String)]) -> Outcome<()> {
    let mut both = CpuSet::new();
    both.set(0)?;
    both.set(1)?;
    sched_setaffinity(Pid::from_raw(0), &both)?;
    let (start, release) = pipe2(OFlag::O_CLOEXEC)?;
    let (hold, dismiss) = pipe2(OFlag::O_CLOEXEC)?;
    // The peers inherit this end, and know it by its number.
    fcntl(&hold, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let (results, out) = pipe2(OFlag::O_CLOEXEC)?;
    let begun = now()?;
    let mut peers = Vec::with_capacity(count);
    for _ in 0..count {
        peers.push(spawn(role, options, &start, &hold, &out)?);
    }
    drop((start, hold, out));
    let mut lines = Lines::new(results);
    for _ in 0..count {
        let line = lines.next(PATIENCE)?;
        if line.as_deref() != Some("ready") {
            return Err(format!("a peer did not get ready: {}", line.unwrap_or_default()).into());
        }
    }
    let spawned = now()? - begun;
    let released = now()?;
    drop(release);
    let mut tally = Tally::default();
    while tally.count < count {
        let left = PATIENCE.saturating_sub(now()? - released);
        let Some(line) = lines.next(left)? else { break };
        tally.take(&line, released)?;
    }
    drop(dismiss);
    for mut peer in peers {
        // Those that never answered would not notice.
        if tally.count < count {
            let _ = peer.kill();
        }
        peer.wait()?;
    }
    print(&tally.result(count, spawned))
}

fn spawn(
    role: &str,
    options: &[(&str, String)],
    start: &OwnedFd,
    hold: &OwnedFd,
    out: &OwnedFd,
) -> Outcome<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).arg("--hold").arg(hold.as_raw_fd().to_string());
    for (key, value) in options {
        command.arg(format!("--{key}")).arg(value);
    }
    Ok(command.stdin(Stdio::from(start.try_clone()?)).stdout(Stdio::from(out.try_clone()?)).spawn()?)
}

/// The lines of all peers, which share one pipe: each is shorter than PIPE_BUF and so arrives whole.
struct Lines {
    input: BufReader<File>,
}

impl Lines {
    fn new(pipe: OwnedFd) -> Self {
        Self { input: BufReader::with_capacity(1 << 16, File::from(pipe)) }
    }

    /// `None`: nothing came within that time, or every peer is gone.
    fn next(&mut self, patience: Duration) -> Outcome<Option<String>> {
        if self.input.buffer().is_empty() {
            let millis = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
            if poll(&mut [PollFd::new(self.input.get_ref().as_fd(), PollFlags::POLLIN)], millis)? == 0 {
                return Ok(None);
            }
        }
        let mut line = String::new();
        Ok((self.input.read_line(&mut line)? > 0).then(|| line.trim_end().to_owned()))
    }
}

#[derive(Default)]
struct Tally {
    count: usize,
    within: usize,
    attached: Vec<f64>,
    answered: Vec<f64>,
    error: Option<String>,
}

impl Tally {
    fn take(&mut self, line: &str, released: Duration) -> Outcome<()> {
        self.count += 1;
        let result: Value = serde_json::from_str(line)?;
        if let Some(error) = result["error"].as_str() {
            self.error.get_or_insert_with(|| error.to_owned());
            return Ok(());
        }
        let since = |key: &str| -> Outcome<f64> {
            let nanos = result[key].as_u64().ok_or_else(|| format!("no {key} in {line}"))?;
            Ok(nanos.saturating_sub(released.as_nanos() as u64) as f64)
        };
        let attached = since("attached")?;
        self.within += usize::from(attached <= WITHIN.as_nanos() as f64);
        self.attached.push(attached);
        self.answered.push(since("answered")?);
        Ok(())
    }

    fn result(mut self, count: usize, spawned: Duration) -> Value {
        let percent = |part: usize| part as f64 * 100.0 / count as f64;
        let attached = roundtrip::distribution(&mut self.attached, 1);
        let answered = roundtrip::distribution(&mut self.answered, 1);
        let millis = |of: &Value, key: &str| of[key].as_f64().map(|nanos| nanos / 1e6);
        json!({
            "clients": count,
            "percentWithin5s": percent(self.within),
            "percentAnswered": percent(self.answered.len()),
            "p50AttachedMs": millis(&attached, "p50"),
            "p99AttachedMs": millis(&attached, "p99"),
            "lastAttachedMs": millis(&attached, "max"),
            "lastAnsweredMs": millis(&answered, "max"),
            "spawnedMs": spawned.as_millis() as u64,
            "error": self.error,
        })
    }
}

/// A peer's side, called when all is prepared: says that it is ready, waits, gives `work` its turn, prints when what was reached, and stays.
/// `work` calls its argument at the moment when it is attached, and returns once it has been answered.
pub fn peer<T>(
    arguments: &Arguments,
    work: impl FnOnce(&mut dyn FnMut() -> Outcome<()>) -> Outcome<T>,
) -> Outcome<()> {
    let mut hold = File::open(format!("/proc/self/fd/{}", arguments.number("hold", 0)?))?;
    say("ready")?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let mut attached = None;
    let done = work(&mut || {
        attached = Some(now()?);
        Ok(())
    });
    let kept = match done {
        Ok(kept) => {
            let attached = attached.ok_or("answered without being attached")?;
            print(&json!({ "attached": attached.as_nanos() as u64, "answered": now()?.as_nanos() as u64 }))?;
            Some(kept)
        }
        Err(error) => {
            print(&json!({ "error": error.to_string() }))?;
            None
        }
    };
    hold.read_to_end(&mut Vec::new())?;
    drop(kept);
    Ok(())
}
