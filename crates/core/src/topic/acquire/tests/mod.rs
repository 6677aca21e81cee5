//! Acquisition end to end, with publishers and subscribers in processes of their own where that matters.
//!
//! A child is this test binary again, in a role of `child`. Tests that kill or starve a process do so in a child.

mod child;
mod crowd;
mod end_to_end;
mod exhaustion;
mod forced;
mod hostile_clients;
mod hostile_servers;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringbell_ring::{Config, Producer, Start};

use super::TopicServer;
use super::{Attachment, PATIENCE, Ring, TopicPort};
use crate::Result;
use crate::bus::{Announced, Announcement, Bus, new_id};
use crate::handshake::tests::climb_to_the_end;
use crate::handshake::{Acquirer, Ask};
use crate::harness::{Place, Role};
use crate::port::Memory;
use crate::port::stream::{StreamServer, StreamSource};
use crate::record::{Overflow, Record, Rung, TopicMemory, TopicRecord};
use crate::segment::{self, OwnSegments, ProxySlots};
use crate::sys::eventfd::EventFd;
use crate::topic::publisher::{eventfd_ref, memfd_ref};

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
                data: memfd_ref(&segments.data_fd)?,
                control: memfd_ref(&segments.control_fd)?,
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
        let source = StreamSource {
            data: segments.data.clone(),
            control: segments.control.clone(),
            control_fd: Some(segments.control_fd.try_clone().unwrap()),
            proxies: Arc::new(ProxySlots::default()),
            room: room.clone(),
            doorbells: doorbells.clone(),
            overflow: ringbell_ring::Overflow::Block,
            breached: AtomicBool::new(false),
        };
        let streams = StreamServer::new(Arc::new(source), bus.handle()?);
        let streams = offers.contains(&Rung::Stream).then_some(streams);
        let (own, slots) = (Some(&segments), usize::from(slots));
        let server = TopicServer::new(own, slots, room.clone(), doorbells.clone(), streams)?;
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

/// A topic and its publisher: a [`Fake`] in this process, or a role in a child.
struct Scene<P> {
    publisher: P,
    bus: Bus,
    record: Arc<Record>,
    place: Place,
}

impl Scene<Fake> {
    fn here(slots: u16, offers: &[Rung]) -> Scene<Fake> {
        let place = Place::new();
        let bus = place.bus();
        let publisher = Fake::publish(&bus, "topic", slots, offers).unwrap();
        Scene { record: publisher.announced.record(), publisher, bus, place }
    }
}

impl Scene<Role> {
    fn in_a_process() -> Scene<Role> {
        let place = Place::new();
        let mut publisher = role("publisher", &place);
        assert_eq!(publisher.heard(), "ready");
        let bus = place.bus();
        let record = bus.find("topic").unwrap().unwrap();
        Scene { publisher, bus, record, place }
    }
}

impl<P> Scene<P> {
    fn climb(&self, forced: Option<Rung>) -> Result<Box<Attachment>> {
        climb(&self.bus, &self.record, forced)
    }

    /// The code of the error that this leads to.
    fn failure(&self, forced: Option<Rung>) -> &'static str {
        self.climb(forced).unwrap_err().code()
    }
}

/// This binary again, in a role of [`child`].
fn role(role: &str, place: &Place) -> Role {
    Role::of("topic::acquire::tests::child::play", role, &place.path, &[])
}

/// Climbs the ladder on this thread.
fn climb(bus: &Bus, record: &Arc<Record>, forced: Option<Rung>) -> Result<Box<Attachment>> {
    let ring = Ring { start: Start::Latest, durable: None };
    let ask = Ask { record: Arc::clone(record), forced, patience: PATIENCE };
    climb_to_the_end(Acquirer::new(bus).ladder(ring, ask), &mut |_| {})
}

impl Attachment {
    /// The memory that it is to have brought.
    fn memory(&self) -> &Memory {
        match &self.port {
            TopicPort::Memory(memory) => memory,
            TopicPort::Stream(stream) => panic!("{stream:?}"),
        }
    }
}
