//! What is done while one system call after the other fails. Each scenario uses both sides of one thing in one process,
//! so that a failure hits either side. It returns an error of the library, or the words for what must never happen.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbell::Error;
use ringbell::acquire::Rung;
use ringbell::bus::{Announcement, Bus, BusOptions, Filter, Record, ServiceEvent, Watch};
use ringbell::channel::{self, Channel, ChannelOptions, ConnectOptions, Header, Kind, ServerOptions};
use ringbell::topic::{EndReason, Notice, PublisherOptions, Subscriber, SubscriberOptions};

/// What came of a scenario, if it did not succeed.
#[derive(Debug)]
pub enum Unsuccessful {
    /// An error of the library. That is how a failed system call should end.
    Typed(Error),
    /// A silence or a wrong answer.
    Wrong(String),
}

impl From<Error> for Unsuccessful {
    fn from(error: Error) -> Self {
        Unsuccessful::Typed(error)
    }
}

pub type Outcome = Result<(), Unsuccessful>;

/// Where a scenario takes place, and what it may expect.
pub struct Stage<'a> {
    pub path: &'a Path,
    /// Whether calls go on failing. If only one fails, whatever is tried again must succeed in the end.
    pub onwards: bool,
}

pub type Scenario = fn(&Stage<'_>) -> Outcome;

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("topic-direct", |stage| topic(stage, Rung::Direct)),
    ("topic-handshake", |stage| topic(stage, Rung::Handshake)),
    ("topic-stream", |stage| topic(stage, Rung::Stream)),
    ("channel-handshake", |stage| channel(stage, Rung::Handshake)),
    ("channel-stream", |stage| channel(stage, Rung::Stream)),
    ("watch-inotify", |stage| watch(stage, true)),
    ("watch-polling", |stage| watch(stage, false)),
    ("claim-inotify", |stage| claim(stage, true)),
    ("claim-polling", |stage| claim(stage, false)),
    ("look", look),
    ("gc", gc),
];

/// Longer than the patience of a handshake, after which the library says that it was too slow.
const PATIENCE: Duration = Duration::from_secs(60);
const SLICE: Duration = Duration::from_millis(20);
const SIZE: usize = 500;
/// More messages than the ring has room for. Without a subscriber there is always room.
const MORE_THAN_FITS: usize = 64;

/// Tries until there is an answer.
fn until<T>(
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, Unsuccessful>,
) -> Result<T, Unsuccessful> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Unsuccessful::Wrong(format!("never, and nothing said why: {what}")));
        }
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Unsuccessful> {
    Err(Unsuccessful::Wrong(what.into()))
}

fn open(stage: &Stage<'_>, inotify: bool) -> Result<Bus, Error> {
    let path = Some(stage.path.to_owned());
    Bus::open(BusOptions { path, inotify, poll_interval: Duration::from_millis(10), ..BusOptions::default() })
}

fn topic(stage: &Stage<'_>, rung: Rung) -> Outcome {
    let (publishing, following) = (open(stage, true)?, open(stage, true)?);
    let mut options = PublisherOptions::default();
    options.capacity = 4096;
    let mut publisher = publishing.publisher("nth", options)?;
    let mut options = SubscriberOptions::default();
    options.acquire = Some(rung);
    let mut subscriber = following.subscriber("nth", options)?;
    until("the subscriber attaches", || {
        let attached = subscriber.wait_attached(1, Some(SLICE))?;
        reported(stage, &mut subscriber)?;
        Ok(attached.then_some(()))
    })?;
    for round in 0..3u8 {
        let mut sent = 0;
        while sent < MORE_THAN_FITS && publisher.send(&[round; SIZE])? {
            sent += 1;
        }
        for _ in 0..sent {
            until("a message that was sent is received", || {
                if let Some(message) = subscriber.recv_timeout(SLICE)? {
                    if message.data != [round; SIZE] {
                        return wrong("another message than was sent");
                    }
                    return Ok(Some(()));
                }
                reported(stage, &mut subscriber)?;
                Ok(None)
            })?;
        }
        until("there is room", || {
            let room = publisher.wait_room(SIZE, Some(SLICE))?;
            subscriber.try_recv()?;
            Ok(room.then_some(()))
        })?;
    }
    publisher.update([("round".to_owned(), 3.into())].into_iter().collect())?;
    drop(publisher);
    until("the subscriber learns of the end", || {
        subscriber.wait(Some(Instant::now() + SLICE))?;
        let ended = |notice: &Notice| matches!(notice, Notice::Ended { .. });
        Ok(subscriber.notices().iter().any(ended).then_some(()))
    })
}

/// What the subscriber says of its publisher. It is an answer if calls go on failing, or if it tries no more.
fn reported(stage: &Stage<'_>, subscriber: &mut Subscriber) -> Outcome {
    for notice in subscriber.notices() {
        match notice {
            Notice::Failed { error, .. } | Notice::Unreadable { error } if stage.onwards => {
                return Err(error.into());
            }
            // The publisher could not offer this rung, and says so. It is tried again, but that cannot help.
            Notice::Failed { error: error @ Error::Acquire { .. }, .. } => return Err(error.into()),
            Notice::GivenUp { error, .. } => return Err(error.into()),
            Notice::Ended { reason: EndReason::Failed(error), .. } => return Err(error.into()),
            Notice::Ended { reason, .. } => return wrong(format!("{reason:?}, but the publisher lives")),
            _ => {}
        }
    }
    Ok(())
}

fn channel(stage: &Stage<'_>, rung: Rung) -> Outcome {
    let (serving, calling) = (open(stage, true)?, open(stage, true)?);
    let mut options = ServerOptions::default();
    options.capacity = 4096;
    let mut server = serving.serve("nth", options)?;
    let record = record_of(&calling)?;
    let mut client = calling.channel(ChannelOptions::default())?;
    let mut options = ConnectOptions::default();
    options.acquire = Some(rung);
    options.timeout = PATIENCE / 6;
    let connection = client.connect(&record, &options)?;
    client.wait_open(connection, PATIENCE / 2)?;
    for id in 0..4 {
        // The last one is larger than the ring.
        let request = vec![id as u8; if id == 3 { 20_000 } else { SIZE }];
        let (mut done, deadline) = (0, Instant::now() + PATIENCE);
        let mut answered = 0;
        let whole = client.max_message(connection)?;
        while done < request.len() || answered < request.len() {
            if done < request.len() {
                done = if request.len() > whole {
                    client.send_large(connection, Header::new(Kind::Request, id), &request, done)?
                } else if client.send(connection, Header::new(Kind::Request, id), &request)? {
                    request.len()
                } else {
                    0
                };
            }
            if let Some((from, data)) =
                server.recv_timeout(SLICE / 10)?.map(|got| (got.connection, got.data.to_vec()))
            {
                if data != request {
                    return wrong("another request than was sent");
                }
                let length = data.len() as u32;
                server.send(from, Header::new(Kind::Reply, id), &length.to_le_bytes())?;
            }
            if let Some(reply) = client.recv_timeout(SLICE / 10)? {
                answered = u32::from_le_bytes(reply.data.try_into().unwrap_or_default()) as usize;
            }
            connections(&mut client)?;
            connections(&mut server)?;
            if Instant::now() > deadline {
                return wrong(format!("call {id} is never answered, and nothing said why"));
            }
        }
    }
    client.disconnect(connection);
    until("the server learns of the end", || {
        server.wait(Some(Instant::now() + SLICE))?;
        let ended = |notice: &channel::Notice| matches!(notice, channel::Notice::Closed { .. });
        Ok(server.notices().iter().any(ended).then_some(()))
    })
}

/// The service's record, which must be there: its owner lives.
fn record_of(bus: &Bus) -> Result<Arc<Record>, Unsuccessful> {
    match bus.find("nth")? {
        Some(record) => Ok(record),
        None => wrong("find says that a living service is not there"),
    }
}

fn connections(channel: &mut Channel) -> Outcome {
    for notice in channel.notices() {
        match notice {
            channel::Notice::Failed { error, .. } => return Err(error.into()),
            channel::Notice::Closed { reason: channel::CloseReason::Failed(error), .. } => {
                return Err(error.into());
            }
            channel::Notice::Closed { .. } => return Err(Error::PeerGone { service: "nth".into() }.into()),
            _ => {}
        }
    }
    Ok(())
}

fn watch(stage: &Stage<'_>, inotify: bool) -> Outcome {
    let (announcing, watching) = (open(stage, true)?, open(stage, inotify)?);
    let before = announcing.announce(Announcement::new("nth"))?;
    let mut watch = watching.watch(Filter::All)?;
    told(stage, &mut watch, "added", "nth")?;
    let after = announcing.announce(Announcement::new("nth-2"))?;
    told(stage, &mut watch, "added", "nth-2")?;
    after.update([("x".to_owned(), 1.into())].into_iter().collect())?;
    told(stage, &mut watch, "updated", "nth-2")?;
    drop(after);
    told(stage, &mut watch, "removed", "nth-2")?;
    record_of(&watching)?;
    drop(before);
    told(stage, &mut watch, "removed", "nth")
}

/// The next event, which must be this one.
fn told(stage: &Stage<'_>, watch: &mut Watch, expected: &str, service: &str) -> Outcome {
    let event = match watch.next(Some(if stage.onwards { SLICE } else { PATIENCE }))? {
        Some(event) => event,
        // That it can see nothing it says only when that lasts.
        None if stage.onwards => return Ok(()),
        None => return wrong(format!("no event where {service} was {expected}")),
    };
    let word = match &event {
        ServiceEvent::Added(_) => "added",
        ServiceEvent::Updated(_) => "updated",
        ServiceEvent::Removed(_) => "removed",
    };
    let told = (word, event.record().service.as_str());
    // What was not told before may come now.
    if told == (expected, service) || (stage.onwards && (word != "removed" || expected == "removed")) {
        return Ok(());
    }
    wrong(format!("{told:?} where {service} was {expected}"))
}

fn look(stage: &Stage<'_>) -> Outcome {
    let (announcing, looking) = (open(stage, true)?, open(stage, true)?);
    let _announced = announcing.announce(Announcement::new("nth"))?;
    for _ in 0..4 {
        record_of(&looking)?;
        if looking.list()?.len() != 1 || looking.find_all("nth")?.len() != 1 {
            return wrong("list does not have a living service");
        }
    }
    looking.wait_for("nth", Some(PATIENCE / 2))?;
    looking.watching();
    Ok(())
}

fn gc(stage: &Stage<'_>) -> Outcome {
    let announcing = open(stage, true)?;
    let announced = announcing.announce(Announcement::new("nth"))?;
    let name = announced.record().file_name();
    let Some(id) = name.strip_prefix("nth@").and_then(|rest| rest.strip_suffix(".json")) else {
        return wrong("the name of a record");
    };
    // What a dead process leaves. If it cannot be made, the rest is tried.
    let dead: String = id.chars().rev().collect();
    if let Ok(bytes) = fs::read(stage.path.join(&name)) {
        let _ = fs::write(stage.path.join(format!("nth@{dead}.json")), bytes);
    }
    let _ = fs::write(stage.path.join(format!(".tmp-{dead}")), "");
    let _ = UnixListener::bind(stage.path.join(format!("{dead}.sock")));
    let report = announcing.gc()?;
    // What it cannot look at it takes for alive.
    if report.alive == 0 {
        return wrong(format!("{report:?}, but one lives"));
    }
    if !stage.path.join(&name).exists() {
        return wrong("gc removed a living record");
    }
    Ok(())
}

/// One holds, the other one waits and watches; then the first one gives it back.
fn claim(stage: &Stage<'_>, inotify: bool) -> Outcome {
    let (one, other) = (open(stage, inotify)?, open(stage, inotify)?);
    let first = one.claim("nth", Some(PATIENCE))?;
    let mut watch = other.claims().watch("nth")?;
    let mut claiming = other.claiming("nth", true)?;
    until("the watch shows the holder", || {
        let state = watch.next(Some(SLICE))?;
        Ok(state.filter(|state| state.epoch == first.epoch() && state.holder.is_some()))
    })?;
    if claiming.take()?.is_some() {
        return wrong("two holders");
    }
    if let Some(error) = first.lost() {
        return Err(error.into());
    }
    let epoch = first.epoch();
    first.release();
    let second = until("the other one holds it", || {
        watch.next(Some(SLICE))?;
        Ok(claiming.take()?)
    })?;
    if second.epoch() <= epoch {
        return wrong("the epoch did not grow");
    }
    Ok(())
}
