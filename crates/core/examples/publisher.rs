//! Sends the machine's load average ten times a second, until it is killed.
//!
//! Run it beside the other example: `cargo run --example publisher` and `cargo run --example subscriber`.

use std::time::Duration;

use ringbell::bus::{Bus, BusOptions};
use ringbell::topic::PublisherOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let mut load = bus.publisher("load", PublisherOptions::default())?;
    println!("publishing 'load' on {}", bus.path().display());
    loop {
        let text = std::fs::read_to_string("/proc/loadavg")?;
        if !load.send(text.trim_end().as_bytes())? {
            // The slowest subscriber leaves no room: wait for it rather than lose a message.
            load.wait_room(text.len(), None)?;
            continue;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
