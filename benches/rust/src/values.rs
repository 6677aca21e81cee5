//! One value of 64 bytes that a process updates at a rate while another one reads it: the loops of both, so that ringbell's
//! states and their rivals are updated, read, checked and counted alike. A value carries the number of its update.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Arguments, Outcome, Peer, payload, pin, say, stop_on_eof};

pub const SIZE: usize = 64;
pub type Bytes = [u8; SIZE];

/// Reads between two looks at the clock.
const BLOCK: u32 = 1000;

/// A value as it was before the first update.
pub fn first() -> Bytes {
    let mut value = [0; SIZE];
    payload::stamp(&mut value, 0);
    value
}

/// Updates the value at `--rate` a second (0: as often as it can) until `done`. Answers how many updates that were.
pub fn update(
    arguments: &Arguments,
    mut set: impl FnMut(&Bytes) -> Outcome<()>,
    done: impl Fn() -> bool,
) -> Outcome<u64> {
    let rate = arguments.number("rate", 1_000_000)? as u64;
    let begun = Instant::now();
    let mut value = first();
    let mut count = 0_u64;
    while count % 64 != 0 || !done() {
        payload::stamp(&mut value, count as u32);
        set(&value)?;
        count += 1;
        if rate > 0 {
            let due = Duration::from_nanos(count * 1_000_000_000 / rate);
            while begun.elapsed() < due {
                spin_loop();
            }
        }
    }
    Ok(count)
}

/// The role `writer-peer`, called once the value can be found: updates it until standard input closes.
pub fn serve(arguments: &Arguments, set: impl FnMut(&Bytes) -> Outcome<()>) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    say("ready")?;
    let stop = stop_on_eof();
    update(arguments, set, || stop.load(Ordering::Relaxed)).map(drop)
}

/// Starts the role `writer-peer` of this program. Pins the caller, which will read.
pub fn writer(arguments: &Arguments, name: &str) -> Outcome<Peer> {
    let mut peer = Peer::start(
        "writer-peer",
        &[
            ("dir", arguments.text("dir", "")),
            ("name", name.to_owned()),
            ("rate", arguments.number("rate", 1_000_000)?.to_string()),
            ("cores", arguments.text("cores", "0,1")),
        ],
    )?;
    peer.line()?;
    pin(arguments.cores()?.1)?;
    Ok(peer)
}

/// Calls `get`, which copies the value to where it is told, until the window is over. Gives the time of a read.
pub fn read(arguments: &Arguments, mut get: impl FnMut(&mut Bytes) -> Outcome<()>) -> Outcome<Value> {
    let (warm, window) = (arguments.warm()?, arguments.window()?);
    let (mut value, mut last) = (first(), 0);
    let mut run = |length: Duration| -> Outcome<Value> {
        let (begun, from) = (Instant::now(), last);
        let mut reads = 0_u64;
        while begun.elapsed() < length {
            for _ in 0..BLOCK {
                get(&mut value)?;
                // All of it must have been copied, though only a part is looked at.
                let number = payload::number(black_box(&value)).ok_or("a value is damaged")?;
                if number < last {
                    return Err("a value went back".into());
                }
                last = number;
            }
            reads += u64::from(BLOCK);
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(json!({
            "nsPerRead": seconds * 1e9 / reads as f64,
            "updatesPerSecond": f64::from(last - from) / seconds,
        }))
    };
    run(warm)?;
    run(window)
}
