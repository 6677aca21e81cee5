//! The roles that this test binary plays as another process.

use super::{Fake, crowd, exhaustion, forced};
use crate::bus::Bus;
use crate::harness::{Everybody, listen, my_role, open, say};
use crate::record::Rung;

#[test]
#[ignore = "a child of the other tests"]
fn play() {
    let Some((role, path)) = my_role() else { return };
    let bus = open(&path);
    match role.as_str() {
        "publisher" => publisher(&bus),
        "crowd" => crowd::attach_a_thousand(&bus),
        "claimers" => crowd::claim_all(&bus),
        "client-exhaustion" => exhaustion::client(&bus),
        "server-exhaustion" => exhaustion::server(&bus),
        "stranger" => forced::as_a_stranger(&bus),
        "forced-by-environment" => forced::by_environment(&bus),
        other => forced::by_seccomp(other, &bus),
    }
}

/// Announces `topic`, and obeys: `send` sends a message and rings, `update` replaces the record, `close` withdraws.
fn publisher(bus: &Bus) {
    let mut fake = Fake::publish(bus, "topic", 1024, &[Rung::Direct, Rung::Handshake]).unwrap();
    say("ready");
    while let Some(order) = listen() {
        match order.as_str() {
            "send" => {
                let _ = fake.producer.send(b"hello", 1, &mut Everybody);
                fake.doorbells.iter().for_each(crate::sys::eventfd::EventFd::ring);
            }
            "room" => assert!(fake.room.wait().unwrap() > 0),
            "update" => {
                fake.announced.update(serde_json::Map::new()).unwrap();
            }
            "close" => break,
            other => panic!("{other}"),
        }
        say("done");
    }
}
