//! The other side of a program whose system calls fail: a publisher, a server and a subscriber in this process, where nothing
//! fails. It must go on, be told once of whatever comes and goes, and get everything that the program's publishers had
//! accepted. `series` starts it for scenarios of two processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringbell::channel::{self, Channel, Header, Kind, ServerOptions};
use ringbell::topic::{Notice, Publisher, PublisherOptions, Subscriber, SubscriberOptions};

use crate::harness::{names, open};

const PATIENCE: Duration = Duration::from_secs(30);
const SLICE: Duration = Duration::from_millis(1);
/// Before what a program says of the messages that one of its publishers had accepted.
pub const ACCEPTED: &str = "accepted ";

pub struct Partner {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen, String>>,
}

/// What the other side saw of the program.
#[derive(Default)]
struct Seen {
    received: u64,
    /// For each publisher, by number: how often it was told of its coming and of its end.
    sources: BTreeMap<u64, (u32, u32)>,
    connections: BTreeMap<u32, (u32, u32)>,
}

struct Endpoints {
    publisher: Publisher,
    server: Channel,
    subscriber: Subscriber,
    sent: u64,
    seen: Seen,
}

impl Partner {
    /// Announces everything, and serves until `end`.
    pub fn start(path: &Path) -> Partner {
        let bus = open(path);
        let (mut topic, mut serving) = (PublisherOptions::default(), ServerOptions::default());
        (topic.capacity, serving.capacity) = (4096, 4096);
        let mut endpoints = Endpoints {
            publisher: bus.publisher("nth-topic", topic).unwrap(),
            server: bus.serve("nth-server", serving).unwrap(),
            subscriber: bus.subscriber("nth-out", SubscriberOptions::default()).unwrap(),
            sent: 0,
            seen: Seen::default(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                endpoints.turn().map_err(|error| format!("the other side fails: {error}"))?;
            }
            endpoints.settle()
        });
        Partner { path: path.to_owned(), stop, thread }
    }

    /// The program has ended. `said`: its output.
    pub fn end(self, said: &str) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().map_err(|_| "the other side panics".to_owned())??;
        let numbers = said.lines().filter_map(|line| line.split_once(ACCEPTED)?.1.parse::<u64>().ok());
        let accepted: u64 = numbers.sum();
        if said.contains(ACCEPTED) && accepted != seen.received {
            return Err(format!("{accepted} messages were accepted, but {} came", seen.received));
        }
        open(&self.path).gc().map_err(|error| error.to_string())?;
        match names(&self.path) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("left behind: {left:?}")),
        }
    }
}

impl Endpoints {
    /// Serves what has come.
    fn turn(&mut self) -> ringbell::Result<()> {
        if let Some((from, request, id)) =
            self.server.recv_timeout(SLICE)?.map(|got| (got.connection, got.data.to_vec(), got.header.id))
        {
            // A client that has gone is told of by a notice.
            let _ = self.server.send(from, Header::new(Kind::Reply, id), &request);
        }
        if self.publisher.send(&self.sent.to_le_bytes())? {
            self.sent += 1;
        }
        while self.subscriber.try_recv()?.is_some() {
            self.seen.received += 1;
        }
        for notice in self.subscriber.notices() {
            match notice {
                Notice::Attached { source, .. } => self.seen.sources.entry(source.into()).or_default().0 += 1,
                Notice::Ended { source, .. } => self.seen.sources.entry(source.into()).or_default().1 += 1,
                _ => {}
            }
        }
        for notice in self.server.notices() {
            match notice {
                channel::Notice::Opened { connection, .. } => {
                    self.seen.connections.entry(connection).or_default().0 += 1;
                }
                channel::Notice::Closed { connection, .. } => {
                    self.seen.connections.entry(connection).or_default().1 += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until everything that came has gone, and goes on for a while.
    fn settle(mut self) -> Result<Seen, String> {
        let deadline = Instant::now() + PATIENCE;
        let (mut more, before) = (0, self.sent);
        // More than the ring holds, if somebody that has gone still held it.
        while more < 100 || self.sent < before + 1000 || !self.seen.is_over() {
            self.turn().map_err(|error| format!("the other side fails afterwards: {error}"))?;
            more += 1;
            for _ in 0..20 {
                self.sent += u64::from(self.publisher.send(&self.sent.to_le_bytes()).unwrap_or(false));
            }
            if Instant::now() > deadline {
                let sent = self.sent - before;
                return Err(format!("{sent} more messages, and told of {}", self.seen.told()));
            }
        }
        let seen = self.seen;
        if seen.pairs().any(|pair| pair != (1, 1)) {
            return Err(format!("told of {}", seen.told()));
        }
        Ok(seen)
    }
}

impl Seen {
    fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.sources.values().chain(self.connections.values()).copied()
    }

    fn is_over(&self) -> bool {
        self.pairs().all(|(came, went)| came <= went)
    }

    fn told(&self) -> String {
        format!("publishers that came and went {:?}, clients {:?}", self.sources, self.connections)
    }
}
