//! Calls the `server` example with each line of its input, and prints the replies.
//!
//! `echo hello | cargo run --example client` prints `HELLO`. It waits for the server, so either may start first.

use std::io::BufRead;
use std::time::Duration;

use ringbell::bus::{Bus, BusOptions};
use ringbell::channel::{ChannelOptions, ConnectOptions};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let record = bus.wait_for("upper", None)?;
    let mut client = bus.channel(ChannelOptions::default())?;
    let connection = client.connect(&record, &ConnectOptions::default().timeout(PATIENCE))?;
    client.wait_open(connection, PATIENCE)?;
    for (id, line) in (1..).zip(std::io::stdin().lock().lines()) {
        // What else arrives during a call is dropped. This client expects nothing else.
        let reply = client.call(connection, id, line?.as_bytes(), PATIENCE)?;
        println!("{}", String::from_utf8_lossy(&reply));
    }
    Ok(())
}
