//! Adds numbers that come as a JSON list, until it is killed.

use ringbell::bus::{Bus, BusOptions};
use ringbell::channel::{Header, Kind, ServerOptions};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::open(BusOptions::default())?;
    let mut options = ServerOptions::default();
    options.codec = Some("json".to_owned());
    let mut server = bus.serve("sum", options)?;
    loop {
        let request = server.recv()?;
        // A client also sends other kinds: it cancels, for example.
        if request.header.kind != Kind::Request as u8 {
            continue;
        }
        // `request` borrows the server, so take from it what the reply needs.
        let (connection, id) = (request.connection, request.header.id);
        let (kind, reply) = match serde_json::from_slice::<Vec<f64>>(request.data) {
            Ok(numbers) => (Kind::Reply, json!(numbers.iter().sum::<f64>())),
            Err(error) => (Kind::Error, json!({ "code": "ERR_NO_NUMBERS", "message": error.to_string() })),
        };
        server.send_whole(connection, Header::new(kind, id), &serde_json::to_vec(&reply)?, None)?;
    }
}
