//! Handing over what a killed process held: each sample has a holder process of its own, and a thread here that waits for its
//! turn. Times are from the call of kill(2), and from the moment at which a thread that waits for the holder's pidfd has woken.
//! The programs say what is held; they are started again in the role `holder-peer`.

use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};

use crate::{Arguments, Outcome, Peer, print, roundtrip, say, wait_for_line};

/// Who waits may look for a while before it sleeps.
const SETTLE: Duration = Duration::from_millis(10);

/// Something that one process has at a time. It is open before anybody waits, so that no sample contains the opening.
pub trait Turns: Sync {
    /// Waits for the turn, calls back while it lasts, and gives it back.
    fn turn(&self, held: &mut dyn FnMut() -> Outcome<()>) -> Outcome<()>;
}

/// Kills `--count` holders, one after another, and prints the distribution of both times.
pub fn run(arguments: &Arguments, turns: &impl Turns) -> Outcome<()> {
    let options = [("dir", arguments.text("dir", "")), ("mode", arguments.text("mode", ""))];
    let (mut since_kill, mut since_pidfd) = (Vec::new(), Vec::new());
    for _ in 0..arguments.number("count", 200)? {
        let mut holder = Peer::start("holder-peer", &options)?;
        let pid: i32 = holder.line()?.parse()?;
        let (killed, died, acts) = hand_over(pid, turns)?;
        since_kill.push((acts - killed).as_nanos() as f64);
        since_pidfd.push(acts.saturating_duration_since(died).as_nanos() as f64);
    }
    let mut result = roundtrip::distribution(&mut since_pidfd, 1);
    result["sinceKill"] = roundtrip::distribution(&mut since_kill, 1);
    print(&result)
}

/// Kills a holder while a thread here sleeps until its turn: when that was, when the death was heard of, and when the turn began.
fn hand_over(pid: i32, turns: &impl Turns) -> Outcome<(Instant, Instant, Instant)> {
    let died = watch(pid)?;
    let (waits, waiting) = mpsc::channel();
    std::thread::scope(|scope| {
        let next = scope.spawn(move || -> Result<Instant, String> {
            waits.send(gettid()).map_err(|error| error.to_string())?;
            let mut acts = None;
            let turn = turns.turn(&mut || {
                acts = Some(Instant::now());
                Ok(())
            });
            turn.map_err(|error| error.to_string())?;
            acts.ok_or_else(|| "it never had its turn".to_owned())
        });
        asleep(waiting.recv()?)?;
        let killed = Instant::now();
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        let acts = next.join().map_err(|_| "the one that waits panicked")??;
        let died = died.join().map_err(|_| "the one that watches panicked")??;
        Ok((killed, died, acts))
    })
}

/// Returns once a thread of this process sleeps.
fn asleep(thread: Pid) -> Outcome<()> {
    loop {
        std::thread::sleep(SETTLE);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"))?;
        if stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S")) {
            return Ok(());
        }
    }
}

/// The holder: says its process id once it holds, and keeps holding.
pub fn peer(turns: &impl Turns) -> Outcome<()> {
    turns.turn(&mut || {
        say(&std::process::id().to_string())?;
        wait_for_line().map(drop)
    })
}

/// For each pid in a line of stdin: says that it is watched, and then when its pidfd has fired, in nanoseconds of CLOCK_MONOTONIC.
pub fn deaths() -> Outcome<()> {
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
