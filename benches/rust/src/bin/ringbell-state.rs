//! States. `read`: the time of a read of 64 B, while a writer in another process updates the value at a rate. `write`: how many
//! updates that writer makes in a second, with readers in other processes that look a thousand times a second. `change`: two
//! processes that answer each other's changes, asleep. `writer-peer` also serves readers in Node.

use std::time::{Duration, Instant};

use ringbell::state::{State, StateOptions, StateReader, StateReaderOptions};
use ringbell_benches::{Arguments, Outcome, Peer, payload, pin, print, roundtrip, say, topics, values};
use serde_json::json;

const NAME: &str = "bench.state";
const ANSWER: &str = "bench.answer";
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "read" => read(&arguments),
        "write" => write(&arguments),
        "change" => change(&arguments),
        "writer-peer" => writer_peer(&arguments),
        "reader-peer" => reader_peer(&arguments),
        "change-peer" => change_peer(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

/// The writer of a name, with a first value.
fn writer(arguments: &Arguments, name: &str) -> Outcome<State> {
    let bus = topics::open_bus(arguments)?;
    let options = StateOptions::default().size(values::SIZE).max_readers(128).allow_direct(true);
    let mut state = bus.state(name, options)?;
    state.set(&values::first())?;
    Ok(state)
}

/// A reader that has seen a value.
fn reader(arguments: &Arguments, name: &str) -> Outcome<StateReader> {
    let mut reader = topics::open_bus(arguments)?.watch_state(name, StateReaderOptions::default())?;
    if !reader.wait(Some(PATIENCE))? {
        return Err("no value came".into());
    }
    Ok(reader)
}

fn writer_peer(arguments: &Arguments) -> Outcome<()> {
    let mut state = writer(arguments, NAME)?;
    values::serve(arguments, |value| Ok(state.set(value).map(drop)?))
}

fn read(arguments: &Arguments) -> Outcome<()> {
    let peer = values::writer(arguments, NAME)?;
    let mut reader = reader(arguments, NAME)?;
    let result = values::read(arguments, |value| {
        let (length, _) = reader.read(value)?.ok_or("there is no value")?;
        if length == values::SIZE { Ok(()) } else { Err("a value is too short".into()) }
    })?;
    peer.finish()?;
    print(&result)
}

fn reader_peer(arguments: &Arguments) -> Outcome<()> {
    let pause = Duration::from_micros(arguments.number("pause", 1000)? as u64);
    let mut reader = reader(arguments, NAME)?;
    say("ready")?;
    let mut buffer = [0; values::SIZE];
    loop {
        reader.read(&mut buffer)?;
        std::thread::sleep(pause);
    }
}

fn write(arguments: &Arguments) -> Outcome<()> {
    let window = arguments.window()?;
    let mut state = writer(arguments, NAME)?;
    let options = [("dir", arguments.text("dir", "")), ("pause", arguments.text("pause", "1000"))];
    let mut readers = Vec::new();
    for _ in 0..arguments.number("readers", 0)? {
        let mut reader = Peer::start("reader-peer", &options)?;
        reader.line()?;
        readers.push(reader);
    }
    pin(arguments.cores()?.0)?;
    let begun = Instant::now();
    let set = |value: &values::Bytes| Ok(state.set(value).map(drop)?);
    let updates = values::update(arguments, set, || begun.elapsed() >= window)?;
    print(&json!({ "perSecond": updates as f64 / begun.elapsed().as_secs_f64() }))
}

/// Sleeps until the value changes, and copies it.
fn changed(reader: &mut StateReader, value: &mut values::Bytes) -> Outcome<u32> {
    if !reader.wait(Some(PATIENCE))? {
        return Err("no change within 10 s".into());
    }
    value.copy_from_slice(reader.latest()?.ok_or("there is no value")?.data);
    Ok(payload::number(value).ok_or("a value is damaged")?)
}

fn change(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.1)?;
    let mut state = writer(arguments, NAME)?;
    let options = [("dir", arguments.text("dir", "")), ("cores", arguments.text("cores", "0,1"))];
    let mut peer = Peer::start("change-peer", &options)?;
    peer.line()?;
    let mut answers = reader(arguments, ANSWER)?;
    answers.set_spin(Duration::ZERO);
    let (mut value, mut answer) = (values::first(), values::first());
    let mut number = 0;
    let result = roundtrip::measure(arguments, 1, |_| {
        number += 1;
        payload::stamp(&mut value, number);
        state.set(&value)?;
        while changed(&mut answers, &mut answer)? != number {}
        Ok(())
    })?;
    payload::stamp(&mut value, u32::MAX);
    state.set(&value)?;
    peer.finish()?;
    print(&result)
}

/// Sets each value again under the other name, until the largest number comes.
fn change_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let mut answers = writer(arguments, ANSWER)?;
    let mut reader = reader(arguments, NAME)?;
    reader.set_spin(Duration::ZERO);
    say("ready")?;
    let mut value = values::first();
    loop {
        if changed(&mut reader, &mut value)? == u32::MAX {
            return Ok(());
        }
        answers.set(&value)?;
    }
}
