//! Processes on one Linux machine find each other by name, without a broker, and exchange messages through shared memory.
//!
//! # The model in ten lines
//!
//! 1. A **bus** is a directory, for example `/run/ipc-bus`. Every process that opens the same directory is on the same bus.
//! 2. A process **announces** a *service*: a small JSON file, the *record*, appears in the directory, whole or not at all.
//! 3. The owner holds a file lock on its record. The kernel releases the lock when the process dies, however it dies.
//! 4. A **topic** has one [`Publisher`](topic::Publisher) and up to 1,024 [`Subscriber`](topic::Subscriber)s. The publisher writes into a ring in
//!    a sealed memfd; each subscriber maps it read-only.
//! 5. A subscriber **acquires** that memory by the best of three *rungs*: *direct* (`pidfd_getfd`), *handshake* (a Unix
//!    socket that passes descriptors), or *stream* (no shared memory: the bytes travel over the socket).
//! 6. A **channel** connects a server and its clients in both directions: two rings, two doorbells, one socket.
//! 7. A message costs no system call while its receiver is awake. A receiver that sleeps is woken by a **doorbell** (an eventfd).
//! 8. What was committed before a `kill -9` is still read. What was not committed never existed.
//! 9. Shared words are hostile input: each is read once, checked, and then used. A peer that breaks the rules is dropped.
//! 10. One small thread for each bus finds, connects and cleans up. It never waits for a peer.
//!
//! # Publish and subscribe
//!
//! ```
//! use std::time::Duration;
//! use ringbell::bus::{Bus, BusOptions};
//! use ringbell::topic::{PublisherOptions, SubscriberOptions};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = Some(folder.path().join("bus"));
//! let bus = Bus::open(BusOptions { path, ..BusOptions::default() })?;
//! let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
//! let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
//!
//! // A subscriber starts at the latest message, so wait until it has attached.
//! assert!(subscriber.wait_attached(1, Some(Duration::from_secs(30)))?);
//! assert!(publisher.send(b"tick 1")?);
//!
//! let message = subscriber.recv()?;
//! assert_eq!(message.data, b"tick 1");
//! assert_eq!(message.sequence, 0);
//! # Ok::<(), ringbell::Error>(())
//! ```
//!
//! Both usually live in two processes. They start in either order, and the subscriber follows every publisher of its
//! topic that comes and goes.
//!
//! # Back-pressure
//!
//! A topic with the default policy, [`Overflow::Block`](bus::Overflow::Block), loses nothing: `send` answers `false` where the slowest subscriber leaves no room.
//!
//! ```
//! # use std::time::Duration;
//! # use ringbell::bus::{Bus, BusOptions};
//! use ringbell::topic::{PublisherOptions, SubscriberOptions};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
//! let options = PublisherOptions::default().capacity(4096); // bytes: a power of two, at least a page
//! let mut publisher = bus.publisher("readings", options)?;
//! let mut slow = bus.subscriber("readings", SubscriberOptions::default())?;
//! # slow.wait_attached(1, Some(Duration::from_secs(30)))?;
//!
//! let mut accepted = 0u64;
//! while publisher.send(&[0; 100])? {
//!     accepted += 1;
//! }
//! // The ring is full. One that wants to wait calls `publisher.wait_room(bytes, timeout)`.
//! let mut received = 0;
//! while received < accepted {
//!     received += u64::from(slow.recv_timeout(Duration::from_secs(30))?.is_some());
//! }
//! assert!(publisher.wait_room(100, Some(Duration::from_secs(30)))?);
//! # Ok::<(), ringbell::Error>(())
//! ```
//!
//! # Calls
//!
//! A server is a [`Channel`](channel::Channel) that receives requests and answers them. What a message is for stands in its
//! [`Header`](channel::Header); the reply carries the request's id.
//!
//! ```
//! use std::time::Duration;
//! use ringbell::bus::{Bus, BusOptions};
//! use ringbell::channel::{ChannelOptions, ConnectOptions, Header, Kind, ServerOptions};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("bus");
//! # let open = || Bus::open(BusOptions { path: Some(path.clone()), ..BusOptions::default() });
//! let mut server = open()?.serve("upper", ServerOptions::default())?;
//! let serving = std::thread::spawn(move || -> ringbell::Result<()> {
//!     loop {
//!         let request = server.recv()?;
//!         // A client also sends other kinds (it cancels, for example). Flag 4 asks for counters (`ringbell stats`).
//!         if request.header.kind != Kind::Request as u8 || request.header.flags & 4 != 0 {
//!             continue;
//!         }
//!         // `request` borrows the server, so take from it what the reply needs.
//!         let (connection, id) = (request.connection, request.header.id);
//!         let reply = request.data.to_ascii_uppercase();
//!         server.send_whole(connection, Header::new(Kind::Reply, id), &reply, None)?;
//! #       return Ok(());
//!     }
//! });
//!
//! let bus = open()?;
//! let record = bus.wait_for("upper", Some(Duration::from_secs(30)))?;
//! let mut client = bus.channel(ChannelOptions::default())?;
//! let connection = client.connect(&record, &ConnectOptions::default())?;
//! client.wait_open(connection, Duration::from_secs(30))?;
//! assert_eq!(client.call(connection, 1, b"hello", Duration::from_secs(30))?, b"HELLO");
//! # serving.join().unwrap()?;
//! # Ok::<(), ringbell::Error>(())
//! ```
//!
//! [`Channel::call`](channel::Channel::call) waits for one reply and drops what else arrives meanwhile. A program with several calls
//! in flight sends and receives by itself and tells replies apart by `header.id`. The examples `server` and `client` are two
//! programs that do this. A server that names no codec speaks `bytes`, so `bus.connect('upper')` in
//! Node calls it. A request above `max_message` is dropped, and its caller gets `ERR_RINGBELL_MESSAGE_TOO_LARGE`.
//!
//! # Waiting
//!
//! [`Publisher`](topic::Publisher), [`Subscriber`](topic::Subscriber), [`Channel`](channel::Channel) and [`Watch`](bus::Watch) can block (`recv`, `recv_timeout`, `wait_room`),
//! or be asked without waiting (`try_recv`, `drain`), or be waited on by any event loop through `AsFd`: arm, poll the
//! descriptor, harvest, drain.
//!
//! # Errors
//!
//! Every function that can fail answers an [`Error`] with a stable [`code`](Error::code) and a sentence that says what to do.
//!
//! ```
//! # use ringbell::bus::{Bus, BusOptions};
//! # let folder = tempfile::tempdir().unwrap();
//! # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
//! let error = bus.find("no spaces, please").unwrap_err();
//! assert_eq!(error.code(), "ERR_RINGBELL_INVALID_NAME");
//! # Ok::<(), ringbell::Error>(())
//! ```
//!
//! # What this crate has, and what only TypeScript has
//!
//! This crate: the bus (announce, find, watch, gc, doctor), topics with every overflow policy, batches, loans, leases,
//! large messages, acknowledgements and durable positions, access for other users; channels with connections, messages
//! of any size, descriptors, and a blocking call; [headers](Headers) of messages, requests and replies; [locks, semaphores, flags and sharded mutexes](sync) between processes;
//! [members](group) of service groups, and subscribers that follow the primary.
//!
//! Only the npm package `ringbell`: clients by service name with routing and reconnection, many calls in flight with
//! deadlines and retries, streamed replies with credit, work queues, codecs and schemas, the command line.

#[cfg(test)]
extern crate self as ringbell;

#[macro_use]
mod setters;

pub mod bus;
pub mod channel;
pub mod doctor;
mod error;
pub mod group;
#[cfg(doctest)]
mod guide;
mod handshake;
/// The harness of the tests in `tests/`, for unit tests. It calls the library by the same name in both.
#[cfg(test)]
#[path = "../tests/harness/mod.rs"]
mod harness;
mod headers;
pub mod listen;
mod port;
pub mod process;
mod reactor;
mod record;
pub mod segment;
pub mod state;
pub mod sync;
mod sys;
pub mod topic;

pub use error::{CODES, Error, Result};
pub use headers::Headers;

/// How a peer was acquired: the rungs of the ladder, and what stood in the way of the better ones.
pub mod acquire {
    pub use crate::record::{Fallback, Rung};
    pub use crate::sys::eventfd::EventFd;
}
