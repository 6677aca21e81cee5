//! Makes one call.

use std::time::Duration;

use ringbell::bus::{Bus, BusOptions};
use ringbell::channel::{ChannelOptions, ConnectOptions};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let record = bus.wait_for("greet", Some(PATIENCE))?;
    let mut client = bus.channel(ChannelOptions::default())?;
    let connection = client.connect(&record, &ConnectOptions::default())?;
    client.wait_open(connection, PATIENCE)?;

    let request = serde_json::to_vec(&json!({ "name": "Rust" }))?;
    let reply: Value = serde_json::from_slice(&client.call(connection, 1, &request, PATIENCE)?)?;
    println!("{}", reply["greeting"].as_str().unwrap_or("?"));
    Ok(())
}
