//! The publisher: the writing end of a topic, and its record.
//!
//! [`Bus::publisher`] makes it in five steps: memory, doorbells, writer, server, announcement. One thread uses it.
//! Invariant: `send` makes no system call while every subscriber is awake. Dropping it closes the topic: the record
//! is withdrawn, the subscribers read what is left, and then they see the end. How the ring is written is the
//! business of `port::Writer`. Only policy is here. In a forked child it must never touch the ring.

mod audience;
mod batch;
mod hearing;
mod window;
mod write;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringbell_ring::{Identity, SlotView};
use serde_json::{Map, Value};

use super::notice::PublisherNotice;
use super::options::PublisherOptions;
use super::stats::{PublisherStats, SlotStats, TopicCounters};
use crate::bus::{Announced, Announcement, Bus, new_id};
use crate::error::{Error, Result};
use crate::headers::Headers;
use crate::port::stream::{StreamServer, StreamSource};
use crate::port::{Doorbells, Guests, Writer};
use crate::record::{
    EventfdRef, Fallback, Granted, GroupRecord, MemfdRef, Overflow, Record, Role, Rung, STATE_KIND,
    TOPIC_KIND, TopicMemory, TopicRecord,
};
use crate::segment::{self, MappedData, PrivateBuffer, ProxySlots, Segments};
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::sys::prctl;
use crate::topic::acquire::TopicServer;

use audience::Audience;
pub use batch::{Batch, Loan};
pub use window::{WindowMemory, WindowSpan};

/// The longest sleep of a publisher that waits for room. Then it looks for dead and stalled subscribers: a
/// subscriber's death rings no doorbell, and an eviction depends on the clock.
const SWEEP: Duration = Duration::from_millis(50);

/// The writing side of one topic instance.
pub struct Publisher {
    /// The first field, so that it is dropped and withdrawn first: what a record announces stays open as long as the
    /// record is locked.
    announced: Announced,
    writer: Writer,
    /// The frames area, mapped twice in a row.
    frames: Arc<MappedData>,
    /// Why the memory is not shared although it should be.
    fallbacks: Vec<Fallback>,
    /// Wakes this publisher when it waits for room.
    epoll: Epoll,
    overflow: Overflow,
    /// The member that publishes is a standby, so nothing is sent.
    barred: bool,
    /// The epoch of the present or last term of that member, and the sequence of the first message in it.
    term: Option<(u64, u64)>,
    window: Option<WindowSpan>,
    buffer: Option<Arc<PrivateBuffer>>,
    lengths: Vec<u32>,
    waits: u64,
    audience: Audience,
    /// Whether there was a sweep since the last look at the audience.
    swept: bool,
    /// For how long subscribers may leave no room, and guests.
    evict_after: Duration,
    guests_evict_after: Duration,
}

impl Bus {
    /// Announces a topic and makes this process its publisher.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, and the errors of
    /// [`Bus::announce`].
    pub fn publisher(&self, service: &str, mut options: PublisherOptions) -> Result<Publisher> {
        options.check()?;
        let nonce = new_id()?;
        let (segments, fallbacks) = memory(&mut options)?;
        let doorbells = Doorbells::new(options.max_subscribers.into(), segments.own().is_some())?;
        let topic = describe(&options, nonce, &segments, &doorbells)?;
        let identity = segment::identity(&topic)?;
        let guests = self.guests(&options, identity, &doorbells)?;
        let proxies = Arc::default();
        if options.allow_direct {
            prctl::allow_any_tracer();
        }
        let server = self.topic_server(&options, &segments, &doorbells, &proxies, guests.as_ref())?;
        let frames = segments.data().clone();
        let evict_after = nanoseconds(options.evict_after);
        let mut writer = Writer::create(segments, doorbells.clone(), proxies, identity, evict_after)
            .with_exact_time(options.exact_time);
        if let Some(Hosts { guests, patience, .. }) = guests {
            writer = writer.with_guests(guests, patience, self.handle()?);
        }
        let epoll = Epoll::new()?;
        epoll.watch_edges(doorbells.room.as_fd(), 0)?;
        let guests_evict_after = options.access.as_ref().map_or(Duration::MAX, |access| access.evict_after);
        // It has sent nothing yet.
        let term = options.group.and_then(GroupRecord::term).map(|epoch| (epoch, 0));
        let announced = self.announce(Announcement {
            kind: if options.state.is_some() { STATE_KIND } else { TOPIC_KIND }.into(),
            offers: options.offers,
            topic: Some(topic),
            state: options.state,
            group: options.group.map(|group| GroupRecord { first: term.map(|(_, first)| first), ..group }),
            metadata: options.metadata,
            endpoints: options.endpoints,
            codec: options.codec,
            payload_schema: options.schema,
            access: options.access,
            server: Some(server.serve()),
            ..Announcement::new(service)
        })?;
        let barred = options.group.is_some_and(|group| group.role == Role::Standby);
        Ok(Publisher {
            announced,
            writer,
            frames,
            fallbacks,
            epoll,
            overflow: options.overflow,
            barred,
            term,
            window: None,
            buffer: None,
            lengths: Vec::new(),
            waits: 0,
            audience: Audience::default(),
            swept: false,
            evict_after: options.evict_after.unwrap_or(Duration::MAX),
            guests_evict_after,
        })
    }

    /// Room for subscribers of other users, if some are let in.
    fn guests(
        &self,
        options: &PublisherOptions,
        identity: Identity,
        doorbells: &Doorbells,
    ) -> Result<Option<Hosts>> {
        let Some(access) = &options.access else { return Ok(None) };
        Ok(Some(Hosts {
            granted: access.grant(self.dir().group())?,
            guests: Guests::new(access.max_guests.into(), identity, doorbells.room.clone())?,
            patience: nanoseconds(Some(access.evict_after)),
        }))
    }

    /// Makes the server that hands out the topic's memory, streams it, and lets guests in. It does each as far as it
    /// is offered.
    fn topic_server(
        &self,
        options: &PublisherOptions,
        segments: &Segments,
        doorbells: &Doorbells,
        proxies: &Arc<ProxySlots>,
        guests: Option<&Hosts>,
    ) -> Result<TopicServer> {
        let streams = match options.offers.contains(&Rung::Stream) {
            true => {
                let source = StreamSource::new(segments, doorbells, proxies, options.overflow)?;
                Some(StreamServer::new(source, self.handle()?))
            }
            false => None,
        };
        let Doorbells { room, readers } = doorbells.clone();
        let server =
            TopicServer::new(segments.own(), options.max_subscribers.into(), room, readers, streams)?;
        Ok(match guests {
            Some(Hosts { granted, guests, .. }) => server.with_guests(granted.clone(), guests.clone()),
            None => server,
        })
    }
}

/// Which other users are let in, and where.
struct Hosts {
    granted: Granted,
    guests: Arc<Guests>,
    /// How long a guest may leave no room before it is evicted, in nanoseconds.
    patience: u64,
}

/// The topic's memory. It is shared if a rung needs that and the kernel allows it. Rungs that are impossible are
/// taken out of the offers.
fn memory(options: &mut PublisherOptions) -> Result<(Segments, Vec<Fallback>)> {
    let slots = options.max_subscribers.into();
    let streams = options.offers.contains(&Rung::Stream);
    if options.offers.iter().all(|rung| *rung == Rung::Stream) {
        return Ok((Segments::local(options.capacity, slots)?, Vec::new()));
    }
    let (segments, refused) = Segments::shared(options.capacity, slots, streams)?;
    let mut fallbacks = Vec::new();
    if let Some(error) = refused {
        let lost = options.offers.iter().filter(|rung| **rung != Rung::Stream);
        fallbacks.extend(lost.map(|rung| Fallback::by(*rung, &error)));
        options.offers.retain(|rung| *rung == Rung::Stream);
    }
    Ok((segments, fallbacks))
}

/// The topic as its record announces it.
fn describe(
    options: &PublisherOptions,
    nonce: String,
    segments: &Segments,
    doorbells: &Doorbells,
) -> Result<TopicRecord> {
    let memory = match segments.own() {
        Some(own) => Some(TopicMemory {
            data: memfd_ref(&own.data_fd)?,
            control: memfd_ref(&own.control_fd)?,
            room: eventfd_ref(&doorbells.room)?,
            doorbells: doorbells.readers.iter().map(eventfd_ref).collect::<Result<_>>()?,
        }),
        None => None,
    };
    // Rounded up, so that a limit never reads as none.
    let milliseconds =
        |after: Duration| u64::try_from(after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Ok(TopicRecord {
        capacity: options.capacity as u64,
        overflow: options.overflow,
        evict_after_ms: options.evict_after.map(milliseconds),
        max_subscribers: options.max_subscribers,
        max_guests: options.access.as_ref().map_or(0, |access| access.max_guests),
        nonce,
        memory,
    })
}

/// A duration in nanoseconds, as the ring counts it. 0 means no limit.
fn nanoseconds(after: Option<Duration>) -> u64 {
    after.map_or(0, |after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

pub(super) fn memfd_ref(fd: &OwnedFd) -> Result<MemfdRef> {
    let stat = nix::sys::stat::fstat(fd)
        .map_err(|errno| Error::os("fstat", errno, "cannot look at a new segment"))?;
    Ok(MemfdRef { fd: fd.as_raw_fd(), inode: stat.st_ino, size: stat.st_size as u64 })
}

pub(super) fn eventfd_ref(bell: &EventFd) -> Result<EventfdRef> {
    Ok(EventfdRef { fd: bell.as_fd().as_raw_fd(), id: bell.id()? })
}

impl Publisher {
    /// Sends one message of up to [`max_message`](Self::max_message) bytes. [`write`](Self::write) sends larger ones.
    ///
    /// `false` means that there was no room. Under `block`, nothing happened: wait for room and send it again. Under
    /// `drop-newest`, the message was dropped and counted. Under `drop-oldest`, every message is sent and the answer
    /// is always `true`.
    ///
    /// ```
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::PublisherOptions;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// assert!(publisher.send(b"tick 1")?);
    ///
    /// let too_large = vec![0; publisher.max_message() + 1];
    /// let error = publisher.send(&too_large).unwrap_err();
    /// assert_eq!(error.code(), "ERR_RINGBELL_MESSAGE_TOO_LARGE");
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN`, `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<bool> {
        self.ensure_ready()?;
        self.ensure_fits(payload.len())?;
        Ok(self.writer.send(payload))
    }

    /// As [`send`](Self::send), with headers. Payload and headers together have up to [`max_message`](Self::max_message)
    /// bytes.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::Headers;
    /// use ringbell::topic::{PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    ///
    /// let mut headers = Headers::new();
    /// headers.insert("tenant", "acme")?;
    /// publisher.send_with(b"tick 1", &headers)?;
    ///
    /// let message = subscriber.recv()?;
    /// assert_eq!(message.data, b"tick 1");
    /// assert_eq!(message.headers().get("tenant"), Some("acme"));
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_with(&mut self, payload: &[u8], headers: &Headers<'_>) -> Result<bool> {
        self.ensure_ready()?;
        self.ensure_fits(payload.len() + headers.as_bytes().len())?;
        Ok(self.writer.send_parts([payload, headers.as_bytes()], headers.size()))
    }

    /// Largest payload of one message, in bytes. It is half of the ring, minus the headers.
    pub fn max_message(&self) -> usize {
        self.writer.max_message()
    }

    /// Size of the ring in bytes.
    pub fn capacity(&self) -> usize {
        self.writer.capacity()
    }

    /// What happens when there is no room.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// The record as it is announced now.
    pub fn record(&self) -> Arc<Record> {
        self.announced.record()
    }

    /// Replaces the record's metadata in place. There is no moment without a record.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RECORD` when the record gets too long, `ERR_RINGBELL_RESOURCE`.
    pub fn update(&mut self, metadata: Map<String, Value>) -> Result<()> {
        self.announced.update(metadata)
    }

    /// Replaces the role of the member that publishes, in the record. A standby sends nothing: its calls fail with
    /// `ERR_RINGBELL_NOT_PRIMARY`.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RESOURCE`.
    pub fn set_group(&mut self, mut group: GroupRecord) -> Result<()> {
        self.barred = group.role == Role::Standby;
        let next = self.writer.producer().next_sequence();
        // If the record could not be written, it is tried again when the term may have sent something.
        if let Some(epoch) = group.term()
            && self.term.is_none_or(|(before, _)| before != epoch)
        {
            self.term = Some((epoch, next));
        }
        group.first = self.term.map(|(_, first)| first);
        self.announced.set_group(group)
    }

    /// Whether a message of `bytes` would find room. While a message is sent in pieces, it says whether the next
    /// piece would find room. Makes no system call.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        // A forked child has nothing to wait for. What it tries next tells why.
        self.is_foreign() || self.writer.has_room(bytes)
    }

    /// Looks for room for a message of `bytes`, at most `iterations` times. It executes pause instructions between two
    /// looks.
    pub fn spin_room(&mut self, bytes: usize, iterations: u32) -> bool {
        for _ in 0..iterations {
            if self.has_room(bytes) {
                return true;
            }
            for _ in 0..16 {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Announces that this publisher waits for room for a message of `bytes`. True means that there is none: sleep on
    /// `as_fd`, and call [`sweep`](Self::sweep) every 50 ms.
    pub fn arm_room(&mut self, bytes: usize) -> bool {
        self.waits += 1;
        !self.is_foreign() && self.writer.arm(bytes)
    }

    /// Frees the slots of dead subscribers, and evicts those that have left no room for longer than `evict_after`.
    pub fn sweep(&mut self) {
        if !self.is_foreign() {
            self.writer.sweep();
            self.swept = true;
        }
    }

    /// Takes the event that woke the sleeper on `as_fd`, so that it can sleep again. False means that there was none.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child. An error of `epoll_wait`, which does not occur in practice.
    pub fn harvest(&mut self) -> Result<bool> {
        self.ensure_home()?;
        let mut ready = Vec::new();
        self.epoll.wait(Some(Instant::now()), &mut ready)?;
        Ok(!ready.is_empty())
    }

    /// Sleeps until a message of `bytes` finds room, or until `timeout` has passed. Says whether there is room.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE` when there can never be room. `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn wait_room(&mut self, bytes: usize, timeout: Option<Duration>) -> Result<bool> {
        self.ensure_home()?;
        self.ensure_fits(bytes)?;
        self.wait_until(bytes, timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn wait_until(&mut self, bytes: usize, deadline: Option<Instant>) -> Result<bool> {
        let mut ready = Vec::new();
        while self.arm_room(bytes) {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(false);
            }
            let sweep = now + SWEEP;
            self.epoll.wait(Some(deadline.map_or(sweep, |deadline| deadline.min(sweep))), &mut ready)?;
            self.sweep();
        }
        Ok(true)
    }

    /// The frames area, mapped twice in a row. For a binding that fills windows in place.
    pub fn frames_memory(&self) -> Arc<MappedData> {
        self.frames.clone()
    }

    /// How many subscribers are attached and alive. A durable position without a present holder does not count.
    pub fn subscribers(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        self.writer.live().count()
    }

    /// Counters, and what each attached subscriber still has to read. In a forked child all counters are 0.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    /// publisher.send(b"tick 1")?;
    ///
    /// let stats = publisher.stats();
    /// assert_eq!(stats.counters.messages, 1);
    /// assert_eq!(stats.counters.bytes, 6);
    /// assert_eq!(stats.subscribers.len(), 1);
    /// assert!(stats.subscribers[0].backlog > 0); // it has not read the message yet
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    pub fn stats(&self) -> PublisherStats {
        let mut stats = PublisherStats {
            counters: TopicCounters::default(),
            capacity: self.capacity() as u64,
            free: self.writer.free(),
            waits: self.waits,
            offers: self.record().offers.clone(),
            fallbacks: self.fallbacks.clone(),
            subscribers: Vec::new(),
        };
        if !self.is_foreign() {
            let slots = self.writer.slots();
            stats.subscribers = slots.filter_map(|(slot, alive)| self.slot_stats(slot, alive)).collect();
            stats.counters = self.writer.counters().into();
        }
        stats
    }

    fn slot_stats(&self, slot: SlotView, alive: bool) -> Option<SlotStats> {
        let uid = self.writer.guest_uid(slot.index);
        Some(SlotStats { uid, ..SlotStats::of(slot, alive)? })
    }

    /// Closes the topic. Dropping the publisher does the same.
    pub fn close(self) {}

    /// Whether this is a forked child. There the segments are not mapped, and the child must not do the publisher's
    /// work.
    #[inline]
    fn is_foreign(&self) -> bool {
        self.writer.is_foreign()
    }

    #[inline]
    fn ensure_home(&self) -> Result<()> {
        if self.is_foreign() { Err(Error::Closed { what: "publisher" }) } else { Ok(()) }
    }

    #[inline]
    fn ensure_ready(&self) -> Result<()> {
        self.ensure_home()?;
        if self.barred {
            return Err(self.not_primary());
        }
        if self.window.is_some() { Err(Error::WindowOpen) } else { Ok(()) }
    }

    #[cold]
    fn not_primary(&self) -> Error {
        Error::NotPrimary { name: self.record().service.clone() }
    }

    fn ensure_fits(&self, size: usize) -> Result<()> {
        let limit = self.max_message();
        if size > limit { Err(Error::MessageTooLarge { size, limit }) } else { Ok(()) }
    }
}

impl AsFd for Publisher {
    /// Readable when subscribers made room while the publisher waited ([`Publisher::arm_room`]), or came or left while it
    /// listened ([`Publisher::listen`]).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if !self.is_foreign() {
            self.writer.close();
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("record", &self.record().file_name()).finish_non_exhaustive()
    }
}
