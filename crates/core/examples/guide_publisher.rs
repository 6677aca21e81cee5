//! Sends a reading as JSON again and again, until it is killed.

use std::time::Duration;

use ringbell::bus::{Bus, BusOptions};
use ringbell::topic::PublisherOptions;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let mut options = PublisherOptions::default();
    options.codec = Some("json".to_owned()); // what stands in the record, for peers to check
    let mut readings = bus.publisher("readings", options)?;
    loop {
        let reading = serde_json::to_vec(&json!({ "sensor": "cpu", "celsius": 61.5 }))?;
        while !readings.send(&reading)? {
            // The slowest subscriber leaves no room.
            readings.wait_room(reading.len(), None)?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
