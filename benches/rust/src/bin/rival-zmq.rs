//! The rival libzmq over `ipc://`: PUSH and PULL one way, PAIR there and back. It has an I/O thread on each side, on the same core
//! as its user; it sends several messages in one write by itself.

use std::sync::atomic::Ordering;

use ringbell_benches::payload::{self, Check};
use ringbell_benches::{Arguments, Outcome, Peer, oneway, pin, print, roundtrip, say, stop_on_eof};
use zmq::{Context, DONTWAIT, Socket, SocketType};

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "one-way" => one_way(&arguments),
        "one-way-peer" => one_way_peer(&arguments),
        "round-trip" => round_trip(&arguments),
        "round-trip-peer" => round_trip_peer(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

/// A socket that queues about `capacity` bytes, as the rings do. A context made after pinning has its thread on the same core.
fn socket(arguments: &Arguments, kind: SocketType, size: usize) -> Outcome<(Context, Socket)> {
    let context = Context::new();
    let socket = context.socket(kind)?;
    let limit = (arguments.number("capacity", 1 << 20)? / size).clamp(8, 4096) as i32;
    socket.set_sndhwm(limit)?;
    socket.set_rcvhwm(limit)?;
    socket.set_linger(0)?;
    Ok((context, socket))
}

fn peer(arguments: &Arguments, role: &str, address: &str, size: usize) -> Outcome<Peer> {
    let core = arguments.cores()?.0;
    let options = [
        ("address", address.to_owned()),
        ("size", size.to_string()),
        ("capacity", arguments.text("capacity", "1048576")),
        ("cores", format!("{core},{core}")),
    ];
    let mut peer = Peer::start(role, &options)?;
    peer.line()?;
    Ok(peer)
}

fn address(arguments: &Arguments) -> String {
    format!("ipc://{}/zmq.sock", arguments.text("dir", ""))
}

fn one_way(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 256)?;
    pin(arguments.cores()?.1)?;
    let (_context, socket) = socket(arguments, zmq::PULL, size)?;
    let address = address(arguments);
    socket.bind(&address)?;
    let peer = peer(arguments, "one-way-peer", &address, size)?;
    let mut message = zmq::Message::new();
    print(&oneway::count(arguments, size, peer, |check| {
        let mut taken = 0;
        while taken < 256 {
            match socket.recv(&mut message, DONTWAIT) {
                Ok(()) => check.take(&message),
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
            taken += 1;
        }
        Ok(taken)
    })?)
}

struct Push(Socket);

impl oneway::Outlet for Push {
    fn push(&mut self, message: &[u8]) -> Outcome<bool> {
        match self.0.send(message, DONTWAIT) {
            Ok(()) => Ok(true),
            Err(zmq::Error::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn one_way_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let size = arguments.number("size", 256)?;
    let (_context, socket) = socket(arguments, zmq::PUSH, size)?;
    socket.connect(&arguments.text("address", ""))?;
    say("ready")?;
    oneway::pump(size, 1, &mut Push(socket))
}

fn round_trip(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 64)?;
    pin(arguments.cores()?.1)?;
    let (_context, socket) = socket(arguments, zmq::PAIR, size)?;
    let address = address(arguments);
    socket.bind(&address)?;
    let mut peer = peer(arguments, "round-trip-peer", &address, size)?;
    let mut message = vec![7_u8; size];
    let mut reply = zmq::Message::new();
    let mut check = Check::new(size);
    let result = roundtrip::measure(arguments, 1, |sequence| {
        payload::stamp(&mut message, sequence);
        socket.send(&message, 0)?;
        socket.recv(&mut reply, 0)?;
        check.take(&reply);
        Ok(())
    })?;
    peer.signal_stop();
    // It waits for a message before it looks whether it should stop.
    while !peer.exited()? {
        let _ = socket.send(&message, DONTWAIT);
        std::thread::yield_now();
    }
    peer.finish()?;
    roundtrip::checked(&check)?;
    print(&result)
}

fn round_trip_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let (_context, socket) = socket(arguments, zmq::PAIR, arguments.number("size", 64)?)?;
    socket.connect(&arguments.text("address", ""))?;
    say("ready")?;
    let stop = stop_on_eof();
    let mut message = zmq::Message::new();
    while !stop.load(Ordering::Relaxed) {
        socket.recv(&mut message, 0)?;
        socket.send(&message[..], 0)?;
    }
    Ok(())
}
