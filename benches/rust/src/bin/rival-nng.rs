//! The rival NNG over `ipc://`: PUSH and PULL one way, PAIR there and back, with its own defaults but for the largest message. It has
//! threads of its own on each side, on the same core as its user.

use std::sync::atomic::Ordering;

use nng::options::{Options, RecvMaxSize};
use nng::{Error, Protocol, Socket};
use ringbell_benches::payload::{self, Check};
use ringbell_benches::{Arguments, Outcome, Peer, oneway, pin, print, roundtrip, say, stop_on_eof};

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

/// It is made after pinning, so that its threads are on the same core.
fn socket(kind: Protocol) -> Outcome<Socket> {
    let socket = Socket::new(kind)?;
    socket.set_opt::<RecvMaxSize>(0)?;
    Ok(socket)
}

fn peer(arguments: &Arguments, role: &str, address: &str, size: usize) -> Outcome<Peer> {
    let core = arguments.cores()?.0;
    let options =
        [("address", address.to_owned()), ("size", size.to_string()), ("cores", format!("{core},{core}"))];
    let mut peer = Peer::start(role, &options)?;
    peer.line()?;
    Ok(peer)
}

fn address(arguments: &Arguments) -> String {
    format!("ipc://{}/nng.sock", arguments.text("dir", ""))
}

fn one_way(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 256)?;
    pin(arguments.cores()?.1)?;
    let socket = socket(Protocol::Pull0)?;
    let address = address(arguments);
    socket.listen(&address)?;
    let peer = peer(arguments, "one-way-peer", &address, size)?;
    print(&oneway::count(arguments, size, peer, |check| {
        let mut taken = 0;
        while taken < 256 {
            match socket.try_recv() {
                Ok(message) => check.take(&message),
                Err(Error::TryAgain) => break,
                Err(error) => return Err(error.into()),
            }
            taken += 1;
        }
        if taken == 0 {
            // Its threads are on this core, and do nothing while we spin.
            std::thread::yield_now();
        }
        Ok(taken)
    })?)
}

struct Push(Socket);

impl oneway::Outlet for Push {
    fn push(&mut self, message: &[u8]) -> Outcome<bool> {
        match self.0.try_send(message) {
            Ok(()) => Ok(true),
            Err((_, Error::TryAgain)) => {
                std::thread::yield_now();
                Ok(false)
            }
            Err((_, error)) => Err(error.into()),
        }
    }
}

fn one_way_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let socket = socket(Protocol::Push0)?;
    socket.dial(&arguments.text("address", ""))?;
    say("ready")?;
    oneway::pump(arguments.number("size", 256)?, 1, &mut Push(socket))
}

fn round_trip(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 64)?;
    pin(arguments.cores()?.1)?;
    let socket = socket(Protocol::Pair0)?;
    let address = address(arguments);
    socket.listen(&address)?;
    let mut peer = peer(arguments, "round-trip-peer", &address, size)?;
    let mut message = vec![7_u8; size];
    let mut check = Check::new(size);
    let result = roundtrip::measure(arguments, 1, |sequence| {
        payload::stamp(&mut message, sequence);
        socket.send(message.as_slice()).map_err(|(_, error)| error)?;
        check.take(&socket.recv()?);
        Ok(())
    })?;
    peer.signal_stop();
    // It waits for a message before it looks whether it should stop.
    while !peer.exited()? {
        let _ = socket.try_send(message.as_slice());
        std::thread::yield_now();
    }
    peer.finish()?;
    roundtrip::checked(&check)?;
    print(&result)
}

fn round_trip_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let socket = socket(Protocol::Pair0)?;
    socket.dial(&arguments.text("address", ""))?;
    say("ready")?;
    let stop = stop_on_eof();
    while !stop.load(Ordering::Relaxed) {
        let message = socket.recv()?;
        socket.send(message).map_err(|(_, error)| error)?;
    }
    Ok(())
}
