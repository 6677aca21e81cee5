//! The rival iceoryx2: publish–subscribe one way and as a round trip (both sides spin, as its own
//! benchmarks do), its event path, a notifier that wakes a blocked listener, and its blackboard, the latest value of a key.
//! Fixed-size payloads, loaned and filled in place: its fastest way.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use ringbell_benches::{
    Arguments, Outcome, Peer, oneway, payload, pin, print, roundtrip, say, stop_on_eof, values, wait_for_line,
};

type Port<const N: usize> = Publisher<ipc::Service, [u8; N], ()>;
type Inbox<const N: usize> = Subscriber<ipc::Service, [u8; N], ()>;

fn main() -> Outcome<()> {
    set_log_level(LogLevel::Error);
    let arguments = Arguments::parse()?;
    let size = arguments.number("size", 256)?;
    match (arguments.scenario.as_str(), size) {
        ("one-way", 64) => one_way::<64>(&arguments),
        ("one-way", 256) => one_way::<256>(&arguments),
        ("one-way", 4096) => one_way::<4096>(&arguments),
        ("one-way", 65536) => one_way::<65536>(&arguments),
        ("one-way", 1_048_576) => one_way::<1_048_576>(&arguments),
        ("one-way-peer", 64) => one_way_peer::<64>(&arguments),
        ("one-way-peer", 256) => one_way_peer::<256>(&arguments),
        ("one-way-peer", 4096) => one_way_peer::<4096>(&arguments),
        ("one-way-peer", 65536) => one_way_peer::<65536>(&arguments),
        ("one-way-peer", 1_048_576) => one_way_peer::<1_048_576>(&arguments),
        ("round-trip", 64) => round_trip::<64>(&arguments),
        ("round-trip-peer", 64) => round_trip_peer::<64>(&arguments),
        ("read", _) => read(&arguments),
        ("writer-peer", _) => writer_peer(&arguments),
        ("wake", _) => wake(&arguments),
        ("wake-peer", _) => wake_peer(&arguments),
        (other, size) => Err(format!("no scenario {other} of {size} bytes").into()),
    }
}

fn node() -> Outcome<Node<ipc::Service>> {
    Ok(NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled).create::<ipc::Service>()?)
}

fn topic<const N: usize>(
    node: &Node<ipc::Service>,
    name: &str,
    depth: usize,
) -> Outcome<iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8; N], ()>> {
    Ok(node
        .service_builder(&name.try_into()?)
        .publish_subscribe::<[u8; N]>()
        .enable_safe_overflow(false)
        .history_size(0)
        .subscriber_max_buffer_size(depth)
        .max_publishers(1)
        .max_subscribers(1)
        .open_or_create()?)
}

fn send<const N: usize>(port: &Port<N>, message: &[u8; N]) -> Outcome<usize> {
    let sample = port.loan_uninit()?;
    Ok(sample.write_payload(*message).send()?)
}

fn names() -> (String, String) {
    let id = std::process::id();
    (format!("ringbell-bench/{id}/ping"), format!("ringbell-bench/{id}/pong"))
}

fn one_way<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    pin(own_core)?;
    let depth = (arguments.number("capacity", 1 << 20)? / N).max(2);
    let name = names().0;
    let node = node()?;
    let service = topic::<N>(&node, &name, depth)?;
    let inbox: Inbox<N> = service.subscriber_builder().buffer_size(depth).create()?;
    let mut peer = Peer::start(
        "one-way-peer",
        &[
            ("name", name),
            ("size", N.to_string()),
            ("depth", depth.to_string()),
            ("cores", format!("{peer_core},{peer_core}")),
        ],
    )?;
    peer.line()?;
    // The subscriber's end of the connection comes with its first look; what is sent before is lost.
    inbox.receive()?;
    peer.tell("go")?;
    print(&oneway::count(arguments, N, peer, |check| {
        let mut taken = 0;
        while taken < 256
            && let Some(sample) = inbox.receive()?
        {
            check.take(sample.payload());
            taken += 1;
        }
        Ok(taken)
    })?)
}

fn one_way_peer<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let node = node()?;
    let service = topic::<N>(&node, &arguments.text("name", ""), arguments.number("depth", 1024)?)?;
    let port: Port<N> = service
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()?;
    let mut message = Box::new([7_u8; N]);
    say("ready")?;
    wait_for_line()?;
    let stop = stop_on_eof();
    let mut sequence = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        payload::stamp(&mut *message, sequence);
        send(&port, &message)?;
        sequence = sequence.wrapping_add(1);
    }
    Ok(())
}

fn round_trip<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    pin(own_core)?;
    let (ping, pong) = names();
    let node = node()?;
    let out = topic::<N>(&node, &ping, 8)?;
    let back = topic::<N>(&node, &pong, 8)?;
    let port: Port<N> = out.publisher_builder().create()?;
    let inbox: Inbox<N> = back.subscriber_builder().create()?;
    let mut peer = Peer::start(
        "round-trip-peer",
        &[
            ("ping", ping),
            ("pong", pong),
            ("size", N.to_string()),
            ("cores", format!("{peer_core},{peer_core}")),
        ],
    )?;
    peer.line()?;
    let mut message = [7_u8; N];
    let mut check = payload::Check::new(N);
    let result = roundtrip::measure(arguments, 64, |sequence| {
        payload::stamp(&mut message, sequence);
        send(&port, &message)?;
        loop {
            if let Some(sample) = inbox.receive()? {
                check.take(sample.payload());
                return Ok(());
            }
            spin_loop();
        }
    })?;
    peer.signal_stop();
    peer.finish()?;
    roundtrip::checked(&check)?;
    print(&result)
}

fn round_trip_peer<const N: usize>(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let node = node()?;
    let out = topic::<N>(&node, &arguments.text("ping", ""), 8)?;
    let back = topic::<N>(&node, &arguments.text("pong", ""), 8)?;
    let inbox: Inbox<N> = out.subscriber_builder().create()?;
    let port: Port<N> = back.publisher_builder().create()?;
    say("ready")?;
    let stop = stop_on_eof();
    while !stop.load(Ordering::Relaxed) {
        match inbox.receive()? {
            Some(sample) => {
                send(&port, sample.payload())?;
            }
            None => spin_loop(),
        }
    }
    Ok(())
}

fn wake(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    pin(own_core)?;
    let (ping, pong) = names();
    let node = node()?;
    let back = node.service_builder(&pong.as_str().try_into()?).event().open_or_create()?;
    let out = node.service_builder(&ping.as_str().try_into()?).event().open_or_create()?;
    let listener = back.listener_builder().create()?;
    let mut peer = Peer::start(
        "wake-peer",
        &[("ping", ping), ("pong", pong), ("cores", format!("{peer_core},{peer_core}"))],
    )?;
    peer.line()?;
    let notifier = out.notifier_builder().create()?;
    let result = roundtrip::measure(arguments, 1, |_| {
        notifier.notify()?;
        let mut woken = false;
        while !woken {
            listener.blocking_wait(|_| woken = true)?;
        }
        Ok(())
    })?;
    peer.signal_stop();
    // It may have looked at its flag just before we set it: wake it until it is gone.
    while !peer.exited()? {
        notifier.notify()?;
        std::thread::yield_now();
    }
    print(&result)
}

fn wake_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let node = node()?;
    let out =
        node.service_builder(&arguments.text("ping", "").as_str().try_into()?).event().open_or_create()?;
    let back =
        node.service_builder(&arguments.text("pong", "").as_str().try_into()?).event().open_or_create()?;
    let listener = out.listener_builder().create()?;
    let notifier = back.notifier_builder().create()?;
    say("ready")?;
    let stop = stop_on_eof();
    while !stop.load(Ordering::Relaxed) {
        let mut woken = false;
        listener.blocking_wait(|_| woken = true)?;
        if woken {
            notifier.notify()?;
        }
    }
    Ok(())
}

/// The key of the only value on the blackboard.
const KEY: u64 = 1;

fn read(arguments: &Arguments) -> Outcome<()> {
    let name = format!("ringbell-bench/{}/board", std::process::id());
    let peer = values::writer(arguments, &name)?;
    let service = node()?.service_builder(&name.as_str().try_into()?).blackboard_opener::<u64>().open()?;
    let reader = service.reader_builder().create()?;
    let entry = reader.entry::<values::Bytes>(&KEY)?;
    let result = values::read(arguments, |value| {
        *value = *entry.get();
        Ok(())
    })?;
    peer.finish()?;
    print(&result)
}

fn writer_peer(arguments: &Arguments) -> Outcome<()> {
    let service = node()?
        .service_builder(&arguments.text("name", "").as_str().try_into()?)
        .blackboard_creator::<u64>()
        .add::<values::Bytes>(KEY, values::first())
        .create()?;
    let writer = service.writer_builder().create()?;
    let entry = writer.entry::<values::Bytes>(&KEY)?;
    values::serve(arguments, |value| {
        entry.update_with_copy(*value);
        Ok(())
    })
}
