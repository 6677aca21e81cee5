//! How far apart two cores are at this moment: for each line on standard input, one line of JSON with the round trip of
//! a bare cache line between two pinned threads. The harness asks before and after each window. In between both threads
//! block, so that nothing is taken from what is measured.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use ringbell_benches::{Arguments, Outcome, pin, print, roundtrip, say, wait_for_line};

/// A counter on a line of its own, and on its neighbour, which the processor may fetch along with it.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

/// What `ping` says when a measurement is over.
const OVER: u64 = u64::MAX;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    let (peer_core, own_core) = arguments.cores()?;
    let lines = Arc::new((Line::default(), Line::default()));
    let (begin, begun) = mpsc::channel::<()>();
    let (pinned, ready) = mpsc::channel();
    let shared = Arc::clone(&lines);
    std::thread::spawn(move || {
        // Errors are text here: a boxed one cannot cross to another thread.
        let _ = pinned.send(pin(peer_core).map_err(|error| error.to_string()));
        while begun.recv().is_ok() {
            answer(&shared.0.0, &shared.1.0);
        }
    });
    ready.recv()??;
    pin(own_core)?;
    say("ready")?;
    let (ping, pong) = (&lines.0.0, &lines.1.0);
    while wait_for_line()?.is_some() {
        ping.store(0, Ordering::Relaxed);
        pong.store(0, Ordering::Relaxed);
        begin.send(())?;
        let mut value = 0;
        let result = roundtrip::measure(&arguments, 64, |_| {
            value += 1;
            ping.store(value, Ordering::Release);
            while pong.load(Ordering::Acquire) != value {
                spin_loop();
            }
            Ok(())
        })?;
        ping.store(OVER, Ordering::Release);
        while pong.load(Ordering::Acquire) != OVER {
            spin_loop();
        }
        print(&result)?;
    }
    Ok(())
}

/// Repeats each value of `ping` in `pong`, until the measurement is over.
fn answer(ping: &AtomicU64, pong: &AtomicU64) {
    let mut seen = 0;
    while seen != OVER {
        let value = ping.load(Ordering::Acquire);
        if value == seen {
            spin_loop();
            continue;
        }
        seen = value;
        pong.store(value, Ordering::Release);
    }
}
