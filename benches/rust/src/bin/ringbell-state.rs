//! States. `read`: the time of a read of 64 B, while a writer in another process updates the value at a rate. `write`: how many
//! updates that writer makes in a second, with readers in other processes that look at every change as soon as they are told.
//! `writer-peer` and `reader-peer` run until their standard input closes; the first one also serves readers in Node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringbell::state::{State, StateOptions, StateReader, StateReaderOptions};
use ringbell_benches::{Arguments, Outcome, Peer, pin, print, say, topics, wait_for_line};
use serde_json::json;

const NAME: &str = "bench.state";
const SIZE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
/// Reads between two looks at the clock.
const BLOCK: u32 = 1000;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "read" => read(&arguments),
        "write" => write(&arguments),
        "writer-peer" => writer_peer(&arguments),
        "reader-peer" => reader_peer(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

fn writer(arguments: &Arguments) -> Outcome<State> {
    let bus = topics::open_bus(arguments)?;
    Ok(bus.state(NAME, StateOptions::default().size(SIZE).max_readers(128).allow_direct(true))?)
}

fn reader(arguments: &Arguments) -> Outcome<StateReader> {
    let mut reader = topics::open_bus(arguments)?.watch_state(NAME, StateReaderOptions::default())?;
    if !reader.wait(Some(PATIENCE))? {
        return Err("no value came".into());
    }
    Ok(reader)
}

/// Updates the value at `--rate` a second (0: as often as it can) until `done`. Answers how many updates that were.
fn update(state: &mut State, rate: u64, done: impl Fn() -> bool) -> Outcome<u64> {
    let begun = Instant::now();
    let mut value = [0; SIZE];
    for count in 0u64.. {
        if count % 64 == 0 && done() {
            return Ok(count);
        }
        value[..8].copy_from_slice(&count.to_le_bytes());
        state.set(&value)?;
        if rate > 0 {
            let due = Duration::from_nanos(count * 1_000_000_000 / rate);
            while begun.elapsed() < due {
                std::hint::spin_loop();
            }
        }
    }
    Ok(0)
}

fn writer_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let rate = arguments.number("rate", 1_000_000)? as u64;
    let mut state = writer(arguments)?;
    state.set(&[0; SIZE])?;
    say("ready")?;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = wait_for_line();
            ended.store(true, Ordering::Relaxed);
        });
        update(&mut state, rate, || ended.load(Ordering::Relaxed)).map(drop)
    })
}

fn read(arguments: &Arguments) -> Outcome<()> {
    let (own, window) = (arguments.cores()?.1, arguments.window()?);
    let (dir, rate) = (arguments.text("dir", ""), arguments.text("rate", "1000000"));
    let cores = arguments.text("cores", "0,1");
    let mut peer = Peer::start("writer-peer", &[("dir", dir), ("rate", rate), ("cores", cores)])?;
    peer.line()?;
    pin(own)?;
    let mut reader = reader(arguments)?;
    let mut buffer = [0; SIZE];
    let begun = Instant::now();
    let (mut reads, mut first, mut last) = (0u64, None, 0);
    while begun.elapsed() < window {
        for _ in 0..BLOCK {
            let (length, version) = reader.read(&mut buffer)?.ok_or("there is no value")?;
            assert!(length == SIZE && version.number >= last, "a value went back");
            last = version.number;
        }
        first.get_or_insert(last);
        reads += u64::from(BLOCK);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let updates = last - first.unwrap_or(last);
    print(&json!({ "nsPerRead": seconds * 1e9 / reads as f64, "updatesPerSecond": updates as f64 / seconds }))
}

fn reader_peer(arguments: &Arguments) -> Outcome<()> {
    let pause = Duration::from_micros(arguments.number("pause", 1000)? as u64);
    let mut reader = reader(arguments)?;
    say("ready")?;
    let mut buffer = [0; SIZE];
    loop {
        reader.read(&mut buffer)?;
        std::thread::sleep(pause);
    }
}

fn write(arguments: &Arguments) -> Outcome<()> {
    let window = arguments.window()?;
    let mut state = writer(arguments)?;
    state.set(&[0; SIZE])?;
    let options = [("dir", arguments.text("dir", "")), ("pause", arguments.text("pause", "1000"))];
    let mut readers = Vec::new();
    for _ in 0..arguments.number("readers", 0)? {
        let mut reader = Peer::start("reader-peer", &options)?;
        reader.line()?;
        readers.push(reader);
    }
    pin(arguments.cores()?.0)?;
    let begun = Instant::now();
    let updates = update(&mut state, arguments.number("rate", 0)? as u64, || begun.elapsed() >= window)?;
    print(&json!({ "perSecond": updates as f64 / begun.elapsed().as_secs_f64() }))
}
