//! Headers: what is sent beside a payload arrives beside it, on every rung, at every size, in calls and their replies.

use std::thread;

use crate::harness::{PATIENCE, Place};
use ringbell::Headers;
use ringbell::acquire::Rung;
use ringbell::channel::{ChannelOptions, ConnectOptions, Header, Kind, ServerOptions};
use ringbell::topic::{PublisherOptions, SubscriberOptions};

/// Bytes of a ring, and lengths of payloads: some go at once, others in pieces.
const CAPACITY: usize = 16 << 10;
const LENGTHS: [usize; 6] = [0, 1, 300, 8100, 8160, 100_000];

fn headers(number: usize) -> Headers<'static> {
    let mut headers = Headers::new();
    headers.insert("number", &number.to_string()).unwrap();
    headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    headers
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn they_arrive_with_their_messages_and_messages_without_them_have_none() {
    for rung in Rung::LADDER {
        let place = Place::new();
        let bus = place.bus();
        let mut options = PublisherOptions::default();
        options.capacity = CAPACITY;
        let mut publisher = bus.publisher("ticks", options).unwrap();
        let mut options = SubscriberOptions::default();
        options.acquire = Some(rung);
        let mut subscriber = bus.subscriber("ticks", options).unwrap();
        assert!(subscriber.wait_attached(1, Some(PATIENCE)).unwrap());
        let sending = thread::spawn(move || {
            for (number, length) in LENGTHS.into_iter().enumerate() {
                let payload = payload(length);
                assert!(publisher.write_with(&payload, &headers(number), Some(PATIENCE)).unwrap());
                assert!(publisher.write(&payload, Some(PATIENCE)).unwrap());
            }
            publisher
        });
        for (number, length) in LENGTHS.into_iter().enumerate() {
            let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message with headers");
            assert_eq!(
                (message.data, message.sequence),
                (&payload(length)[..], 2 * number as u64),
                "{rung:?}"
            );
            assert_eq!(message.headers(), headers(number));
            let message = subscriber.recv_timeout(PATIENCE).unwrap().expect("a message without");
            assert_eq!((message.data, message.headers()), (&payload(length)[..], Headers::new()));
        }
        drop(sending.join().unwrap());
    }
}

#[test]
fn they_count_as_part_of_the_message() {
    let place = Place::new();
    let mut publisher = place.bus().publisher("ticks", PublisherOptions::default()).unwrap();
    let headers = headers(1);
    let most = publisher.max_message() - headers.as_bytes().len();
    assert_eq!(publisher.send_with(&payload(most), &headers), Ok(true));
    let error = publisher.send_with(&payload(most + 1), &headers).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_MESSAGE_TOO_LARGE");
    assert_eq!(publisher.stats().counters.bytes, publisher.max_message() as u64);
}

#[test]
fn a_call_brings_them_to_the_server_and_its_reply_brings_others_back() {
    for rung in [Rung::Handshake, Rung::Stream] {
        let place = Place::new();
        let mut options = ServerOptions::default();
        options.capacity = CAPACITY;
        let mut server = place.bus().serve("echo", options).unwrap();
        let serving = thread::spawn(move || {
            for _ in 0..2 * LENGTHS.len() {
                let request = server.recv_timeout(PATIENCE).unwrap().expect("a request");
                let (connection, id) = (request.connection, request.header.id);
                let (data, mut headers) = (request.data.to_vec(), request.headers().into_owned());
                if !headers.is_empty() {
                    headers.insert("answered", "yes").unwrap();
                }
                let reply = Header::new(Kind::Reply, id);
                assert!(server.send_whole_with(connection, reply, &data, &headers, None).unwrap());
            }
            server
        });
        let bus = place.bus();
        let record = bus.wait_for("echo", Some(PATIENCE)).unwrap();
        let mut client = bus.channel(ChannelOptions::default()).unwrap();
        let mut options = ConnectOptions::default();
        options.acquire = Some(rung);
        let connection = client.connect(&record, &options).unwrap();
        client.wait_open(connection, PATIENCE).unwrap();
        for (number, length) in LENGTHS.into_iter().enumerate() {
            let (id, payload) = (2 * number as u64, payload(length));
            let reply = client.call_with(connection, id + 1, &payload, &headers(number), PATIENCE).unwrap();
            let mut expected = headers(number);
            expected.insert("answered", "yes").unwrap();
            assert_eq!((reply.data, reply.headers), (payload.clone(), expected), "{rung:?}");
            let reply = client.call_with(connection, id + 2, &payload, &Headers::new(), PATIENCE).unwrap();
            assert_eq!((reply.data, reply.headers), (payload, Headers::new()));
        }
        drop(serving.join().unwrap());
    }
}
