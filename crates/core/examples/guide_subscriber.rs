//! Prints three readings, from any publisher of the topic.

use ringbell::bus::{Bus, BusOptions};
use ringbell::topic::SubscriberOptions;
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let mut options = SubscriberOptions::default();
    options.codec = Some("json".to_owned()); // publishers with another codec are refused
    let mut readings = bus.subscriber("readings", options)?;
    for _ in 0..3 {
        // `data` lies in memory of the subscriber until the next call, so use it or copy it before.
        let reading: Value = serde_json::from_slice(readings.recv()?.data)?;
        println!("{} has {} °C", reading["sensor"].as_str().unwrap_or("?"), reading["celsius"]);
    }
    Ok(())
}
