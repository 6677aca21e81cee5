//! ringbell's own entries, Rust to Rust: `one-way` (a `send` each, or batches), `round-trip` (both sides spin),
//! `wake` (both sides sleep in `recv`), `fan-out` (the publisher's CPU time with many subscribers awake),
//! `attach` (both rungs), `memory` (what a subscriber costs beyond the mapped ring).

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use ringbell::bus::Overflow;
use ringbell::topic::{Publisher, Subscriber};
use ringbell_benches::{
    Arguments, Meter, Outcome, Peer, payload, pin, print, roundtrip, say, stop_on_eof, topics, wait_for_line,
};
use serde_json::{Value, json};

/// Messages a batch: 16 KiB of 256 bytes.
const BATCH: usize = 64;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "one-way" => one_way(&arguments),
        "one-way-peer" => one_way_peer(&arguments),
        "round-trip" => round_trip(&arguments),
        "wake" => round_trip(&arguments),
        "echo-peer" => echo_peer(&arguments),
        "fan-out" => fan_out(&arguments),
        "fan-out-peer" => fan_out_peer(&arguments),
        "attach" => attach(&arguments),
        "memory" => memory(&arguments),
        "publish-peer" => publish_peer(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

/// Starts the peer in `role` with our own options passed on.
fn peer(role: &str, arguments: &Arguments, more: &[(&str, String)]) -> Outcome<Peer> {
    let core = arguments.cores()?.0;
    let mut options = vec![("dir", arguments.text("dir", "")), ("cores", format!("{core},{core}"))];
    for key in ["size", "capacity", "mode", "subscribers", "scenario"] {
        let value = arguments.text(key, "");
        if !value.is_empty() {
            options.push((key, value));
        }
    }
    options.extend_from_slice(more);
    let mut peer = Peer::start(role, &options)?;
    peer.line()?;
    Ok(peer)
}

fn one_way(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 256)?;
    let mut peer = peer("one-way-peer", arguments, &[])?;
    pin(arguments.cores()?.1)?;
    let bus = topics::open_bus(arguments)?;
    let mut subscriber = topics::subscriber(&bus, "bench.one-way", None)?;
    topics::attached(&mut subscriber)?;
    peer.tell("go")?;
    let mut meter = Meter::new(arguments, size)?;
    let (mut since, mut idle) = (0_usize, 0);
    let result = loop {
        let count = subscriber.recv_batch(|message| meter.check.take(message.data))?;
        since += count;
        if count == 0 {
            spin_loop();
            idle += 1;
        }
        if since >= 4096 || idle >= 4096 {
            (since, idle) = (0, 0);
            if let Some(result) = meter.tick()? {
                break result;
            }
        }
    };
    peer.signal_stop();
    let sender: Value = serde_json::from_str(&peer.finish()?)?;
    print(&with(result, "sender", sender))
}

fn one_way_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let size = arguments.number("size", 256)?;
    let bus = topics::open_bus(arguments)?;
    let mut publisher = topics::publisher(&bus, "bench.one-way", arguments, Overflow::Block, 4)?;
    say("ready")?;
    wait_for_line()?;
    let stop = stop_on_eof();
    let mut message = vec![7_u8; size];
    let sent = match arguments.text("mode", "batch").as_str() {
        "send" => send_each(&mut publisher, &mut message, &stop)?,
        _ => send_batches(&mut publisher, &mut message, &stop)?,
    };
    print(&json!({ "messages": sent, "cpuMicros": ringbell_benches::cpu_micros()? }))
}

fn send_each(publisher: &mut Publisher, message: &mut [u8], stop: &AtomicBool) -> Outcome<u64> {
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        payload::stamp(message, sent as u32);
        if publisher.send(message)? {
            sent += 1;
        } else {
            spin_loop();
        }
    }
    Ok(sent)
}

fn send_batches(publisher: &mut Publisher, message: &mut [u8], stop: &AtomicBool) -> Outcome<u64> {
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let mut batch = publisher.batch()?;
        let mut pushed = 0;
        while pushed < BATCH {
            payload::stamp(message, sent as u32);
            if !batch.push(message)? {
                break;
            }
            sent += 1;
            pushed += 1;
        }
        batch.commit();
        if pushed == 0 {
            spin_loop();
        }
    }
    Ok(sent)
}

/// `round-trip` spins on both sides, `wake` blocks on both.
fn round_trip(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 64)?;
    let sleeps = arguments.scenario == "wake";
    let bus = topics::open_bus(arguments)?;
    pin(arguments.cores()?.1)?;
    let mut ping = topics::publisher(&bus, "bench.ping", arguments, Overflow::Block, 4)?;
    let mut peer = peer("echo-peer", arguments, &[("wait", arguments.scenario.clone())])?;
    let mut pong = topics::subscriber(&bus, "bench.pong", None)?;
    pong.set_spin(Duration::ZERO);
    topics::attached(&mut pong)?;
    topics::peopled(&mut ping, 1)?;
    let mut message = vec![7_u8; size];
    let mut check = payload::Check::new(size);
    let group = if sleeps { 1 } else { 64 };
    let result = roundtrip::measure(arguments, group, |sequence| {
        payload::stamp(&mut message, sequence);
        while !ping.send(&message)? {}
        receive(&mut pong, sleeps, |data| check.take(data))
    })?;
    peer.signal_stop();
    while !ping.send(&message[..1])? {}
    peer.finish()?;
    roundtrip::checked(&check)?;
    print(&result)
}

fn receive(subscriber: &mut Subscriber, sleeps: bool, mut look: impl FnMut(&[u8])) -> Outcome<()> {
    if sleeps {
        look(subscriber.recv()?.data);
        return Ok(());
    }
    loop {
        if let Some(message) = subscriber.try_recv()? {
            look(message.data);
            return Ok(());
        }
        spin_loop();
    }
}

/// Echoes until a message of one byte comes.
fn echo_peer(arguments: &Arguments) -> Outcome<()> {
    let sleeps = arguments.text("wait", "") == "wake";
    let bus = topics::open_bus(arguments)?;
    pin(arguments.cores()?.0)?;
    let mut pong = topics::publisher(&bus, "bench.pong", arguments, Overflow::Block, 4)?;
    let mut ping = topics::subscriber(&bus, "bench.ping", None)?;
    ping.set_spin(Duration::ZERO);
    topics::attached(&mut ping)?;
    say("ready")?;
    let mut buffer = Vec::new();
    loop {
        receive(&mut ping, sleeps, |data| {
            buffer.clear();
            buffer.extend_from_slice(data);
        })?;
        if buffer.len() == 1 {
            return Ok(());
        }
        while !pong.send(&buffer)? {}
    }
}

/// All subscribers are awake in one thread of this process, on the core that the publisher does not use.
fn fan_out(arguments: &Arguments) -> Outcome<()> {
    let count = arguments.number("subscribers", 1)?;
    let size = arguments.number("size", 256)?;
    let mut peer = peer("fan-out-peer", arguments, &[])?;
    pin(arguments.cores()?.1)?;
    let bus = topics::open_bus(arguments)?;
    let mut subscribers = Vec::with_capacity(count);
    for _ in 0..count {
        subscribers.push((topics::subscriber(&bus, "bench.fan-out", None)?, payload::Check::new(size)));
    }
    for (subscriber, _) in &mut subscribers {
        topics::attached(subscriber)?;
    }
    peer.tell("go")?;
    let (warm, window) = (arguments.warm()?, arguments.window()?);
    let begun = Instant::now();
    let mut marked = false;
    while begun.elapsed() < warm + window {
        for (subscriber, check) in &mut subscribers {
            subscriber.recv_batch(|message| check.take(message.data))?;
        }
        if !marked && begun.elapsed() >= warm {
            marked = true;
            peer.tell("mark")?;
        }
    }
    peer.signal_stop();
    let result: Value = serde_json::from_str(&peer.finish()?)?;
    let bad: u64 = subscribers.iter().map(|(_, check)| check.bad).sum();
    let received: u64 = subscribers.iter().map(|(_, check)| check.count).sum();
    let idle = subscribers.iter().filter(|(_, check)| check.count == 0).count();
    if bad > 0 || idle > 0 {
        return Err(format!("{bad} messages damaged, {idle} subscribers got nothing").into());
    }
    print(&with(with(result, "received", json!(received)), "subscribers", json!(count)))
}

fn fan_out_peer(arguments: &Arguments) -> Outcome<()> {
    let count = arguments.number("subscribers", 1)?;
    let size = arguments.number("size", 256)?;
    pin(arguments.cores()?.0)?;
    let bus = topics::open_bus(arguments)?;
    let slots = u16::try_from(count.next_multiple_of(64))?;
    let mut publisher = topics::publisher(&bus, "bench.fan-out", arguments, Overflow::DropOldest, slots)?;
    say("ready")?;
    wait_for_line()?;
    let marked = std::sync::Arc::new(AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&marked);
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let end = std::sync::Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = wait_for_line();
        flag.store(true, Ordering::Relaxed);
        let _ = wait_for_line();
        end.store(true, Ordering::Relaxed);
    });
    let batches = arguments.text("mode", "send") == "batch";
    let mut message = vec![7_u8; size];
    let mut sent = 0_u64;
    let mut from = None;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..16 {
            if batches {
                let mut batch = publisher.batch()?;
                for _ in 0..BATCH {
                    payload::stamp(&mut message, sent as u32);
                    batch.push(&message)?;
                    sent += 1;
                }
                batch.commit();
            } else {
                for _ in 0..BATCH {
                    payload::stamp(&mut message, sent as u32);
                    publisher.send(&message)?;
                    sent += 1;
                }
            }
        }
        if from.is_none() && marked.load(Ordering::Relaxed) {
            from = Some((sent, thread_cpu_micros()?, Instant::now()));
        }
    }
    let (count, cpu, at) = from.ok_or("stopped before the warm-up was over")?;
    let messages = sent - count;
    print(&json!({
        "messages": messages,
        "perSecond": messages as f64 / at.elapsed().as_secs_f64(),
        "publisherNanosPerMessage": (thread_cpu_micros()? - cpu) as f64 * 1000.0 / messages as f64,
    }))
}

fn thread_cpu_micros() -> Outcome<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}

/// From the wish for a subscriber to its attachment, the bus being open and the record there.
fn attach(arguments: &Arguments) -> Outcome<()> {
    let peer = peer("publish-peer", arguments, &[])?;
    pin(arguments.cores()?.1)?;
    let bus = topics::open_bus(arguments)?;
    let rung = topics::rung(arguments)?;
    let mut samples = Vec::new();
    for _ in 0..arguments.number("count", 200)? {
        let from = Instant::now();
        let mut subscriber = topics::subscriber(&bus, "bench.publish", rung)?;
        topics::attached(&mut subscriber)?;
        samples.push(from.elapsed().as_nanos() as f64);
        subscriber.close();
    }
    peer.finish()?;
    print(&roundtrip::distribution(&mut samples, 1))
}

/// What this process holds privately (RssAnon) for each subscriber, after each has received messages.
fn memory(arguments: &Arguments) -> Outcome<()> {
    let count = arguments.number("subscribers", 64)?;
    let mut peer = peer("publish-peer", arguments, &[])?;
    let bus = topics::open_bus(arguments)?;
    let mut first = topics::subscriber(&bus, "bench.publish", None)?;
    topics::attached(&mut first)?;
    let before = anonymous_bytes()?;
    let mut subscribers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut subscriber = topics::subscriber(&bus, "bench.publish", None)?;
        topics::attached(&mut subscriber)?;
        subscribers.push(subscriber);
    }
    peer.tell("1000")?;
    peer.line()?;
    for subscriber in &mut subscribers {
        let mut taken = 0;
        while taken < 1000 {
            taken += subscriber.recv_batch(|message| drop(message.data.to_vec()))?;
        }
    }
    let each = anonymous_bytes()?.saturating_sub(before) / count as u64;
    peer.finish()?;
    print(&json!({ "bytesPerSubscriber": each, "subscribers": count }))
}

fn anonymous_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Publishes as many messages of 256 bytes as each line of its input says.
fn publish_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let bus = topics::open_bus(arguments)?;
    let mut publisher = topics::publisher(&bus, "bench.publish", arguments, Overflow::Block, 1024)?;
    say("ready")?;
    while let Some(line) = wait_for_line()? {
        for sequence in 0..line.parse::<u32>()? {
            let mut message = [7_u8; 256];
            payload::stamp(&mut message, sequence);
            publisher.send(&message)?;
        }
        say("sent")?;
    }
    Ok(())
}

fn with(mut result: Value, key: &str, value: Value) -> Value {
    result[key] = value;
    result
}
