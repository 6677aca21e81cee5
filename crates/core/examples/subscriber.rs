//! Prints what the `publisher` example sends, no matter which of them starts first and how often the publisher is restarted.

use ringbell::bus::{Bus, BusOptions};
use ringbell::topic::{Notice, SubscriberOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let mut load = bus.subscriber("load", SubscriberOptions::default())?;
    println!("waiting for 'load' on {}", bus.path().display());
    loop {
        let message = load.recv()?;
        println!("{:>6}  {}", message.sequence, String::from_utf8_lossy(message.data));
        for notice in load.notices() {
            match notice {
                Notice::Attached { record, rung, .. } => {
                    println!("attached to process {} by {rung}", record.pid)
                }
                Notice::Ended { reason, .. } => println!("ended: {reason:?}"),
                other => println!("{other:?}"),
            }
        }
    }
}
