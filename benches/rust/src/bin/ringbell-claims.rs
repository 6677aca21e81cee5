//! Handing a name over when its holder is killed: `handover`, with `--mode claim` (ringbell) or `--mode flock` (flock(2), whose
//! waiters block in the kernel). Each sample has a holder process of its own. Times are from the call of kill(2), and from the
//! moment at which a thread that waits for the holder's pidfd has woken.

use std::fs::File;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use ringbell_benches::{Arguments, Outcome, Peer, print, roundtrip, say, topics, wait_for_line};

const NAME: &str = "bench";
/// Long enough for the one that waits to be asleep.
const SETTLE: Duration = Duration::from_millis(20);

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "handover" => handover(&arguments),
        "deaths" => deaths(),
        "holder-peer" => {
            let _held = hold(&arguments)?;
            say(&std::process::id().to_string())?;
            wait_for_line().map(drop)
        }
        other => Err(format!("no scenario {other}").into()),
    }
}

/// What is held, until it is dropped.
enum Held {
    Claim(#[allow(dead_code)] ringbell::bus::Claim),
    File(#[allow(dead_code)] Flock<File>),
}

fn hold(arguments: &Arguments) -> Outcome<Held> {
    if arguments.text("mode", "claim") == "claim" {
        return Ok(Held::Claim(topics::open_bus(arguments)?.claim(NAME, None)?));
    }
    let path = PathBuf::from(arguments.text("dir", "")).join(NAME);
    let file = File::options().create(true).append(true).open(path)?;
    Ok(Held::File(Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?))
}

fn handover(arguments: &Arguments) -> Outcome<()> {
    let options = [("dir", arguments.text("dir", "")), ("mode", arguments.text("mode", "claim"))];
    let (mut since_kill, mut since_pidfd) = (Vec::new(), Vec::new());
    for _ in 0..arguments.number("count", 200)? {
        let mut holder = Peer::start("holder-peer", &options)?;
        let pid: i32 = holder.line()?.parse()?;
        let died = watch(pid)?;
        let waiting = wait(arguments);
        std::thread::sleep(SETTLE);
        let killed = Instant::now();
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        let acts = waiting.join().map_err(|_| "the one that waits panicked")??;
        let died = died.join().map_err(|_| "the one that watches panicked")??;
        since_kill.push((acts - killed).as_nanos() as f64);
        since_pidfd.push(acts.saturating_duration_since(died).as_nanos() as f64);
    }
    let mut result = roundtrip::distribution(&mut since_pidfd, 1);
    result["sinceKill"] = roundtrip::distribution(&mut since_kill, 1);
    print(&result)
}

/// Waits for the name in a thread, and says when it was this process's. It is given back at once.
fn wait(arguments: &Arguments) -> JoinHandle<Result<Instant, String>> {
    let words = [arguments.text("dir", ""), arguments.text("mode", "claim")];
    std::thread::spawn(move || {
        let arguments = Arguments::of("next", &[("dir", &words[0]), ("mode", &words[1])]);
        let held = hold(&arguments).map_err(|error| error.to_string())?;
        let acts = Instant::now();
        drop(held);
        Ok(acts)
    })
}

/// For each pid in a line of stdin: says that it is watched, and then when its pidfd has fired, in nanoseconds of CLOCK_MONOTONIC.
fn deaths() -> Outcome<()> {
    for line in std::io::stdin().lines() {
        let died = watch(line?.trim().parse()?)?;
        say("{\"watching\":true}")?;
        died.join().map_err(|_| "the one that watches panicked")??;
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        say(&format!("{{\"died\":\"{}\"}}", now.tv_sec() * 1_000_000_000 + now.tv_nsec()))?;
    }
    Ok(())
}

/// Waits for the death of a process in a thread, and says when it heard of it.
fn watch(pid: i32) -> Outcome<JoinHandle<Result<Instant, String>>> {
    // SAFETY: the call takes two integers and touches no memory.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        return Err("pidfd_open failed".into());
    }
    // SAFETY: the kernel has just made this descriptor; no other code knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
    Ok(std::thread::spawn(move || {
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).map_err(|errno| errno.to_string())?;
        Ok(Instant::now())
    }))
}
