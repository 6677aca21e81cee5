//! What the ringbell programs share: a bus of the benchmark's own, endpoints with the options that were asked
//! for, and waiting for an attachment by its notice.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use ringbell::acquire::Rung;
use ringbell::bus::{Bus, BusOptions, Overflow};
use ringbell::topic::{Entry, Notice, Publisher, PublisherOptions, Subscriber, SubscriberOptions};

use crate::{Arguments, Outcome};

const PATIENCE: Duration = Duration::from_secs(10);

pub fn open_bus(arguments: &Arguments) -> Outcome<Bus> {
    let path = arguments.text("dir", "");
    if path.is_empty() {
        return Err("--dir is needed: a directory on tmpfs".into());
    }
    Ok(Bus::open(BusOptions { path: Some(PathBuf::from(path)), ..BusOptions::default() })?)
}

pub fn publisher(
    bus: &Bus,
    name: &str,
    arguments: &Arguments,
    overflow: Overflow,
    max_subscribers: u16,
) -> Outcome<Publisher> {
    let mut options = PublisherOptions::default();
    options.capacity = arguments.number("capacity", 1 << 20)?;
    options.overflow = overflow;
    options.max_subscribers = max_subscribers;
    options.allow_direct = true;
    Ok(bus.publisher(name, options)?)
}

pub fn rung(arguments: &Arguments) -> Outcome<Option<Rung>> {
    match arguments.text("rung", "").as_str() {
        "" => Ok(None),
        "direct" => Ok(Some(Rung::Direct)),
        "handshake" => Ok(Some(Rung::Handshake)),
        other => Err(format!("no rung {other}").into()),
    }
}

pub fn subscriber(bus: &Bus, name: &str, rung: Option<Rung>) -> Outcome<Subscriber> {
    let mut options = SubscriberOptions::default();
    options.acquire = rung;
    Ok(bus.subscriber(name, options)?)
}

/// Returns once the subscriber has its source.
pub fn attached(subscriber: &mut Subscriber) -> Outcome<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        // No message fits, so this only takes in who has come.
        subscriber.drain(&mut [], 0, &mut [Entry::default()])?;
        for notice in subscriber.notices() {
            match notice {
                Notice::Attached { .. } => return Ok(()),
                Notice::Failed { error, .. } => return Err(error.to_string().into()),
                _ => {}
            }
        }
        if Instant::now() > end {
            return Err("not attached within 10 s".into());
        }
        if subscriber.arm() {
            poll(&mut [PollFd::new(subscriber.as_fd(), PollFlags::POLLIN)], 1000_u16)?;
            subscriber.harvest()?;
        }
    }
}

/// Returns once the publisher counts that many subscribers.
pub fn peopled(publisher: &mut Publisher, count: usize) -> Outcome<()> {
    let end = Instant::now() + PATIENCE;
    while publisher.subscribers() < count {
        if Instant::now() > end {
            return Err(format!("no {count} subscribers within 10 s").into());
        }
        std::thread::yield_now();
    }
    Ok(())
}
