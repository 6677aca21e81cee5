//! What every benchmark program here shares: its command line, pinning, the peer process, the payload
//! that the receiver checks, windows of time, and one line of JSON as the result.
//!
//! A program runs one window and exits; `benches/run.mjs` starts it again for each round, alternating
//! with the rivals. The process that prints is the receiver (or the one that measures round trips).

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

pub mod barrier;
pub mod floors;
pub mod handover;
pub mod oneway;
pub mod payload;
pub mod roundtrip;
pub mod sockets;
#[cfg(feature = "ringbell")]
pub mod topics;
pub mod values;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// `program scenario --key value …`
pub struct Arguments {
    pub scenario: String,
    pairs: HashMap<String, String>,
}

impl Arguments {
    pub fn parse() -> Outcome<Self> {
        let mut words = std::env::args().skip(1);
        let scenario = words.next().ok_or("usage: program scenario --key value …")?;
        if scenario.ends_with("-peer") || scenario == "hold" {
            // A peer must not outlive a harness that gave up on its parent.
            set_pdeathsig(Signal::SIGKILL)?;
        }
        let mut pairs = HashMap::new();
        while let Some(key) = words.next() {
            let key = key.strip_prefix("--").ok_or_else(|| format!("expected --key, got {key}"))?.to_owned();
            let value = words.next().ok_or_else(|| format!("--{key} needs a value"))?;
            pairs.insert(key, value);
        }
        Ok(Self { scenario, pairs })
    }

    pub fn text(&self, key: &str, fallback: &str) -> String {
        self.pairs.get(key).cloned().unwrap_or_else(|| fallback.to_owned())
    }

    pub fn number(&self, key: &str, fallback: usize) -> Outcome<usize> {
        self.pairs.get(key).map_or(Ok(fallback), |text| Ok(text.parse()?))
    }

    pub fn window(&self) -> Outcome<Duration> {
        Ok(Duration::from_millis(self.number("ms", 1000)? as u64))
    }

    pub fn warm(&self) -> Outcome<Duration> {
        Ok(Duration::from_millis(self.number("warm", 200)? as u64))
    }

    /// The core of the peer (sender, echo) and of the process that measures. Equal on the one-core variants.
    pub fn cores(&self) -> Outcome<(usize, usize)> {
        let text = self.text("cores", "0,1");
        let (peer, own) = text.split_once(',').ok_or("--cores a,b")?;
        Ok((peer.parse()?, own.parse()?))
    }
}

/// Pins the calling thread, and every thread it starts later.
pub fn pin(core: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// As many descriptors as the hard limit allows, as Node does by itself: for a server of thousands.
pub fn raise_descriptors() -> Outcome<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// User and system time of the whole process, in microseconds.
pub fn cpu_micros() -> Outcome<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

/// The same program in the role of the peer. It runs until its standard input closes.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    pub fn start(role: &str, options: &[(&str, String)]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role);
        for (key, value) in options {
            command.arg(format!("--{key}")).arg(value);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Self { child, input, output })
    }

    /// The next line that the peer prints: `ready`, or its own result.
    pub fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the peer process ended early".into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub fn tell(&mut self, line: &str) -> Outcome<()> {
        writeln!(self.input.as_mut().ok_or("already stopped")?, "{line}")?;
        Ok(())
    }

    pub fn signal_stop(&mut self) {
        drop(self.input.take());
    }

    pub fn exited(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the exit and gives what the peer still had to say.
    pub fn finish(mut self) -> Outcome<String> {
        self.signal_stop();
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the peer process failed: {status}").into());
        }
        Ok(rest.trim().to_owned())
    }
}

/// In the peer: becomes true once standard input is closed. The thread that waits for it only blocks.
pub fn stop_on_eof() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::spawn(move || {
        let mut sink = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut sink);
        flag.store(true, Ordering::Relaxed);
    });
    stop
}

/// In the peer: the next line of standard input, `None` at its end.
pub fn wait_for_line() -> Outcome<Option<String>> {
    let mut line = String::new();
    Ok((std::io::stdin().read_line(&mut line)? > 0).then(|| line.trim_end().to_owned()))
}

pub fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

pub fn print(value: &Value) -> Outcome<()> {
    say(&value.to_string())
}

/// Counts what a receiver takes between the end of the warm-up and the end of the window.
pub struct Meter {
    warm: Duration,
    window: Duration,
    begun: Option<Instant>,
    mark: Option<(Instant, u64, i64)>,
    pub check: payload::Check,
}

impl Meter {
    pub fn new(arguments: &Arguments, size: usize) -> Outcome<Self> {
        Ok(Self {
            warm: arguments.warm()?,
            window: arguments.window()?,
            begun: None,
            mark: None,
            check: payload::Check::new(size),
        })
    }

    /// Call it once a batch (or every few hundred messages). Some: the window is over.
    pub fn tick(&mut self) -> Outcome<Option<Value>> {
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        match self.mark {
            None if now - begun >= self.warm => self.mark = Some((now, self.check.count, cpu_micros()?)),
            Some((from, count, cpu)) if now - from >= self.window => {
                let messages = self.check.count - count;
                return Ok(Some(json!({
                    "messages": messages,
                    "seconds": (now - from).as_secs_f64(),
                    "perSecond": messages as f64 / (now - from).as_secs_f64(),
                    "cpuMicros": cpu_micros()? - cpu,
                    "bad": self.check.bad,
                    "lost": self.check.lost,
                })));
            }
            _ => {}
        }
        Ok(None)
    }
}
