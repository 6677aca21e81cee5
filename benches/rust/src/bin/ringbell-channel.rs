//! ringbell's channels: `attach` (many processes connect to one server at once, and each makes one call). The server is
//! a process of this program, or, with `--server elsewhere`, one that is there already.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringbell::channel::{ChannelOptions, ConnectOptions, Header, Kind, ServerOptions};
use ringbell_benches::{
    Arguments, Outcome, Peer, barrier, payload, raise_descriptors, roundtrip, say, stop_on_eof, topics,
};

const NAME: &str = "bench.calls";
/// For all of it: whoever takes longer is counted as not attached.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "attach" => attach(&arguments),
        "attach-peer" => attach_peer(&arguments),
        "serve-peer" => serve_peer(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

fn attach(arguments: &Arguments) -> Outcome<()> {
    let options = [("dir", arguments.text("dir", ""))];
    let mut server = None;
    if arguments.text("server", "own") == "own" {
        let started = server.insert(Peer::start("serve-peer", &options)?);
        started.line()?;
    }
    barrier::run("attach-peer", arguments.number("clients", 1000)?, &options)?;
    if let Some(server) = server {
        server.finish()?;
    }
    Ok(())
}

/// Opens the bus before the barrier; finds the server, connects and calls after it.
fn attach_peer(arguments: &Arguments) -> Outcome<()> {
    let bus = topics::open_bus(arguments)?;
    barrier::peer(arguments, |attached| {
        let record = bus.wait_for(NAME, Some(PATIENCE))?;
        let mut client = bus.channel(ChannelOptions::default())?;
        let mut options = ConnectOptions::default();
        options.timeout = PATIENCE;
        let connection = client.connect(&record, &options)?;
        client.wait_open(connection, PATIENCE)?;
        attached()?;
        let mut message = [7_u8; 64];
        payload::stamp(&mut message, 0);
        let mut check = payload::Check::new(message.len());
        check.take(&client.call(connection, 1, &message, PATIENCE)?);
        roundtrip::checked(&check)?;
        Ok(client)
    })
}

/// Answers every request with its own data until its input ends.
fn serve_peer(arguments: &Arguments) -> Outcome<()> {
    raise_descriptors()?;
    let bus = topics::open_bus(arguments)?;
    let mut options = ServerOptions::default();
    options.max_connections = 4096;
    let mut server = bus.serve(NAME, options)?;
    say("ready")?;
    let stop = stop_on_eof();
    while !stop.load(Ordering::Relaxed) {
        server.notices();
        let Some(incoming) = server.recv_timeout(Duration::from_millis(100))? else { continue };
        if incoming.header.kind != Kind::Request as u8 {
            continue;
        }
        let (connection, id, data) = (incoming.connection, incoming.header.id, incoming.data.to_vec());
        match server.send(connection, Header::new(Kind::Reply, id), &data) {
            Ok(true) => {}
            Ok(false) => return Err("no room for the first reply of a connection".into()),
            Err(error) if error.code() == "ERR_RINGBELL_PEER_GONE" => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
