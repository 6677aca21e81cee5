//! ringbell's registry: `event` (from an announcement to the `added` event of a watcher in another process),
//! `scan` (the first list of a bus that holds thousands of records), `hold` (a process that keeps records).

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use ringbell::bus::{Announcement, Filter, ServiceEvent};
use ringbell_benches::{Arguments, Outcome, Peer, pin, print, roundtrip, say, topics};
use serde_json::json;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "event" => event(&arguments),
        "event-peer" => event_peer(&arguments),
        "scan" => scan(&arguments),
        "hold" => hold(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

/// CLOCK_MONOTONIC in nanoseconds: the same in every process.
fn now() -> Outcome<f64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

fn event(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    let mut peer = Peer::start(
        "event-peer",
        &[("dir", arguments.text("dir", "")), ("cores", format!("{peer_core},{peer_core}"))],
    )?;
    peer.line()?;
    pin(own_core)?;
    let bus = topics::open_bus(arguments)?;
    let mut watch = bus.watch(Filter::parse("bench.event.*")?)?;
    let (mut from_call, mut from_return) = (Vec::new(), Vec::new());
    for _ in 0..arguments.number("count", 500)? {
        peer.tell("announce")?;
        let seen = next_of(&mut watch, |event| matches!(event, ServiceEvent::Added(_)))?;
        let line = peer.line()?;
        let (called, returned) = line.split_once(' ').ok_or("two times")?;
        from_call.push(seen - called.parse::<f64>()?);
        from_return.push((seen - returned.parse::<f64>()?).max(0.0));
        peer.tell("withdraw")?;
        next_of(&mut watch, |event| matches!(event, ServiceEvent::Removed(_)))?;
    }
    peer.finish()?;
    let mut result = roundtrip::distribution(&mut from_call, 1);
    result["sinceReturn"] = roundtrip::distribution(&mut from_return, 1);
    print(&result)
}

fn next_of(watch: &mut ringbell::bus::Watch, wanted: impl Fn(&ServiceEvent) -> bool) -> Outcome<f64> {
    loop {
        let event = watch.next(Some(Duration::from_secs(10)))?.ok_or("no event within 10 s")?;
        let time = now()?;
        if wanted(&event) {
            return Ok(time);
        }
    }
}

fn event_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let bus = topics::open_bus(arguments)?;
    say("ready")?;
    let mut announced = None;
    for (number, line) in std::io::stdin().lines().enumerate() {
        match line?.as_str() {
            "announce" => {
                let called = now()?;
                announced = Some(bus.announce(Announcement::new(format!("bench.event.e{number}")))?);
                let returned = now()?;
                say(&format!("{called} {returned}"))?;
            }
            _ => drop(announced.take()),
        }
    }
    Ok(())
}

/// Holders keep the records; this process opens the bus and lists them for the first time.
fn scan(arguments: &Arguments) -> Outcome<()> {
    let count = arguments.number("count", 10_000)?;
    let each = 2_000.min(count);
    let mut holders = Vec::new();
    for from in (0..count).step_by(each) {
        let options = [
            ("dir", arguments.text("dir", "")),
            ("from", from.to_string()),
            ("count", each.min(count - from).to_string()),
        ];
        holders.push(Peer::start("hold", &options)?);
    }
    for holder in &mut holders {
        holder.line()?;
    }
    pin(arguments.cores()?.1)?;
    let begun = Instant::now();
    let bus = topics::open_bus(arguments)?;
    let found = bus.list()?.len();
    let first = begun.elapsed();
    let begun = Instant::now();
    let again = bus.list()?.len();
    let second = begun.elapsed();
    for holder in holders {
        holder.finish()?;
    }
    if found != count || again != count {
        return Err(format!("{found} and {again} records found, not {count}").into());
    }
    print(&json!({
        "records": found, "firstMs": first.as_secs_f64() * 1e3, "secondMs": second.as_secs_f64() * 1e3,
    }))
}

fn hold(arguments: &Arguments) -> Outcome<()> {
    let bus = topics::open_bus(arguments)?;
    let from = arguments.number("from", 0)?;
    let mut held = Vec::new();
    for number in from..from + arguments.number("count", 0)? {
        held.push(bus.announce(Announcement::new(format!("bench.scan.s{number}")))?);
    }
    say("ready")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    drop(held);
    Ok(())
}
