//! Answers each request with its text in capitals, until it is killed.
//!
//! Run it beside the client: `cargo run --example server` and `cargo run --example client`.

use ringbell::bus::{Bus, BusOptions};
use ringbell::channel::{Header, Kind, ServerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let mut server = bus.serve("upper", ServerOptions::default())?;
    println!("serving 'upper' on {}", bus.path().display());
    loop {
        let request = server.recv()?;
        if request.header.kind != Kind::Request as u8 {
            continue;
        }
        // `request` borrows the server, so take from it what the reply needs.
        let (connection, id) = (request.connection, request.header.id);
        let reply = request.data.to_ascii_uppercase();
        match server.send_whole(connection, Header::new(Kind::Reply, id), &reply, None) {
            Ok(_) => {}
            // Its client has gone. The others are served as before.
            Err(error) => eprintln!("no reply to connection {connection}: {error}"),
        }
        for notice in server.notices() {
            println!("{notice:?}");
        }
    }
}
