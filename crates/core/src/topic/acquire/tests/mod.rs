//! Acquisition end to end, with publishers and subscribers in processes of their own where that matters.
//!
//! A child is this test binary again, told by the environment which scenario to play (`child`); it says what it has
//! to say in lines that begin with `@`. Every test has a watchdog; what kills or starves a process runs in a child.

pub(crate) mod child;
mod crowd;
mod end_to_end;
mod exhaustion;
mod forced;
mod hostile_clients;
mod hostile_servers;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use ringbell_ring::{Config, Producer, Start};

use super::Server;
use super::{Attachment, PATIENCE, Ring, Way};
use crate::Result;
use crate::bus::{Announced, Announcement, Bus, BusOptions, new_id};
use crate::handshake::{Acquirer, Ask, Climb};
use crate::port::Memory;
use crate::port::stream::{StreamServer, StreamSource};
use crate::record::{EventfdRef, MemfdRef, Overflow, Record, Rung, TopicMemory, TopicRecord};
use crate::segment::{self, OwnSegments, ProxySlots};
use crate::sys::eventfd::EventFd;
use crate::sys::memfd;

/// A publisher without the topic layer.
struct Fake {
    announced: Announced,
    producer: Producer,
    segments: OwnSegments,
    room: Arc<EventFd>,
    doorbells: Arc<[EventFd]>,
}

impl Fake {
    fn publish(bus: &Bus, service: &str, slots: u16, offers: &[Rung]) -> Result<Fake> {
        let segments = segment::create(4096, usize::from(slots))?;
        let room = Arc::new(EventFd::new()?);
        let count = ringbell_ring::layout::doorbells(usize::from(slots));
        let doorbells: Arc<[EventFd]> =
            (0..count).map(|_| EventFd::new()).collect::<Result<Vec<_>>>()?.into();
        let topic = TopicRecord {
            capacity: 4096,
            overflow: Overflow::Block,
            evict_after_ms: None,
            max_subscribers: slots,
            max_guests: 0,
            nonce: new_id()?,
            memory: Some(TopicMemory {
                data: memfd_ref(&segments.data_fd),
                control: memfd_ref(&segments.control_fd),
                room: eventfd_ref(&room)?,
                doorbells: doorbells.iter().map(eventfd_ref).collect::<Result<_>>()?,
            }),
        };
        let identity = segment::identity(&topic)?;
        let producer = Producer::create(
            segments.data.memory(),
            segments.control.memory(),
            Config { identity, evict_after: 0 },
        );
        let tap = StreamSource {
            data: segments.data.clone(),
            control: segments.control.clone(),
            control_fd: Some(segments.control_fd.try_clone().unwrap()),
            proxies: Arc::new(ProxySlots::default()),
            room: room.clone(),
            doorbells: doorbells.clone(),
            overflow: ringbell_ring::Overflow::Block,
            breached: AtomicBool::new(false),
        };
        let station = StreamServer::new(Arc::new(tap), bus.handle()?);
        let station = offers.contains(&Rung::Stream).then_some(station);
        let (own, slots) = (Some(&segments), usize::from(slots));
        let server = Server::new(own, slots, room.clone(), doorbells.clone(), station)?;
        let announced = bus.announce(Announcement {
            kind: "topic".into(),
            offers: offers.to_vec(),
            topic: Some(topic),
            server: Some(server.serve()),
            ..Announcement::new(service)
        })?;
        Ok(Fake { announced, producer, segments, room, doorbells })
    }
}

fn memfd_ref(fd: &OwnedFd) -> MemfdRef {
    let identity = memfd::identity(fd).unwrap().unwrap();
    MemfdRef { fd: fd.as_raw_fd(), inode: identity.inode, size: identity.size }
}

fn eventfd_ref(bell: &EventFd) -> Result<EventfdRef> {
    Ok(EventfdRef { fd: bell.as_fd().as_raw_fd(), id: bell.id()? })
}

pub(crate) fn open(path: &Path) -> Bus {
    Bus::open(BusOptions { path: Some(path.join("bus")), ..BusOptions::default() }).unwrap()
}

/// Climbs the ladder on this thread.
fn climb(bus: &Bus, record: &Arc<Record>, forced: Option<Rung>) -> Result<Box<Attachment>> {
    let ring = Ring { start: Start::Latest, durable: None };
    let ask = Ask { record: Arc::clone(record), forced, patience: PATIENCE };
    let mut ladder = Acquirer::new(bus)?.ladder(ring, ask);
    loop {
        match ladder.climb(Instant::now(), &mut |_| {}) {
            Climb::Ended(result) => return result,
            Climb::Pending(until) => {
                let left = until.saturating_duration_since(Instant::now()).as_millis() as u16 + 1;
                match ladder.fd() {
                    Some(fd) => drop(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left)),
                    None => std::thread::park_timeout(Duration::from_millis(left.into())),
                }
            }
        }
    }
}

impl Attachment {
    /// The memory that it is to have brought.
    fn memory(&self) -> &Memory {
        match &self.port {
            Way::Memory(memory) => memory,
            Way::Stream(link) => panic!("{link:?}"),
        }
    }
}

/// Ends the process when a test hangs.
pub(crate) struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

/// Barks after five times as many seconds: they are what the test needs on a busy machine, and there are busier ones.
pub(crate) fn watchdog(seconds: u64) -> Watchdog {
    let (alive, gone) = std::sync::mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    std::thread::spawn(move || {
        if gone.recv_timeout(Duration::from_secs(5 * seconds))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            eprintln!("watchdog: {name} hangs");
            std::process::abort();
        }
    });
    Watchdog(Some(alive))
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
    }
}
