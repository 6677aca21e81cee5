//! The publisher: the topic's memory, the doorbells, the record, and the ring's writing side.
//!
//! It alone decides nothing about other processes but by their locks. `send` makes no system call while every
//! subscriber is awake. Dropping it closes the topic: subscribers drain, then see it end; the record is withdrawn.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::{Config, Identity, Peers, Producer, Sent, SlotView, padded};
use serde_json::{Map, Value};

use super::options::PublisherOptions;
use super::stats::{PublisherStats, SlotStats, TopicCounters};
use super::window::WindowSpan;
use crate::acquire::{Guests, Rung, Server, Station, StepDown, Tap};
use crate::bus::{
    Announced, Announcement, Bus, EventfdRef, Handle, MemfdRef, Overflow, Record, Token, TopicMemory,
    TopicRecord, new_id,
};
use crate::error::{Error, Result};
use crate::segment::{self, MappedData, PrivateBuffer, ProxySlots, Segments, SlotLock};
use crate::sys::clock::monotonic_ns;
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::sys::generation::Home;
use crate::sys::prctl;

/// How long a publisher that waits for room sleeps before it looks for dead and stalled subscribers again: a death
/// wakes nobody, and an eviction needs a clock.
pub(super) const SWEEP: Duration = Duration::from_millis(50);

/// The writing side of one topic instance.
pub struct Publisher {
    /// First, so that it is withdrawn first: what a record announces stays open as long as the record is locked.
    announced: Announced,
    producer: Producer,
    segments: Segments,
    /// The slots of those that are streamed to.
    proxies: Arc<ProxySlots>,
    /// Why the memory is not shared, where it was meant to be.
    step_downs: Vec<StepDown>,
    /// Announced and watched; it only has to stay open.
    _room: Arc<EventFd>,
    doorbells: Arc<[EventFd]>,
    /// Subscribers of other users, if any are let in.
    guests: Option<Hosting>,
    epoll: Epoll,
    /// Where the segments are mapped: in a forked child they are not.
    home: Home,
    overflow: Overflow,
    window: Option<WindowSpan>,
    pub(super) buffer: Option<Arc<PrivateBuffer>>,
    pub(super) lengths: Vec<u32>,
    waits: u64,
}

/// Guests, and what serves them on the bus thread for as long as the publisher is there.
struct Hosting {
    guests: Arc<Guests>,
    thread: Handle,
    keeper: Token,
}

impl Drop for Hosting {
    fn drop(&mut self) {
        self.guests.end();
        self.thread.remove(self.keeper);
    }
}

/// Asks the kernel which slots' owners live.
pub(super) struct SlotLocks<'a> {
    segments: &'a Segments,
    proxies: &'a ProxySlots,
}

impl Peers for SlotLocks<'_> {
    fn alive(&mut self, slot: usize) -> bool {
        match self.segments.own() {
            // A guest that is gone is not asked about: its connection's end has told. A probe that fails proves nothing, and
            // only a proof of death may free a slot.
            _ if slot >= self.segments.control().memory().max_slots() => true,
            Some(own) => SlotLock::is_held(&own.control_own, slot).unwrap_or(true),
            None => self.proxies.holds(slot),
        }
    }
}

impl Bus {
    /// Announces a topic and makes this process its publisher.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, and what announcing can answer.
    pub fn publisher(&self, service: &str, mut options: PublisherOptions) -> Result<Publisher> {
        options.check()?;
        let slots = usize::from(options.max_subscribers);
        let (segments, step_downs) = memory(&mut options, slots)?;
        let nonce = new_id()?;
        let identity = Identity {
            capacity: options.capacity,
            max_slots: slots,
            overflow: options.overflow.into(),
            nonce: segment::nonce_words(&nonce)?,
        };
        let evict_after =
            options.evict_after.map_or(0, |after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        let mut producer = Producer::create(
            segments.data().memory(),
            segments.control().memory(),
            Config { identity, evict_after },
        );
        let room = Arc::new(EventFd::new()?.shared());
        let doorbells: Arc<[EventFd]> = (0..ringbell_ring::layout::doorbells(slots))
            .map(|_| EventFd::new().map(EventFd::shared))
            .collect::<Result<Vec<_>>>()?
            .into();
        let topic = TopicRecord {
            capacity: options.capacity as u64,
            overflow: options.overflow,
            evict_after_ms: options
                .evict_after
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            max_subscribers: options.max_subscribers,
            max_guests: options.access.as_ref().map_or(0, |access| access.max_guests),
            nonce,
            memory: match segments.own() {
                Some(own) => Some(TopicMemory {
                    data: memfd_ref(&own.data_fd)?,
                    control: memfd_ref(&own.control_fd)?,
                    room: eventfd_ref(&room)?,
                    doorbells: doorbells.iter().map(eventfd_ref).collect::<Result<_>>()?,
                }),
                None => None,
            },
        };
        let epoll = Epoll::new()?;
        epoll.watch_edges(room.as_fd(), 0)?;
        if options.allow_direct {
            prctl::allow_any_tracer();
        }
        let proxies = Arc::new(ProxySlots::new(slots));
        let station = match options.offers.contains(&Rung::Stream) {
            true => Some(Station::new(
                Arc::new(Tap {
                    data: segments.data().clone(),
                    control: segments.control().clone(),
                    control_fd: segments.own().map(|own| copy(&own.control_fd)).transpose()?,
                    proxies: proxies.clone(),
                    room: room.clone(),
                    doorbells: doorbells.clone(),
                    overflow: options.overflow.into(),
                    breached: AtomicBool::new(false),
                }),
                self.handle()?,
            )),
            false => None,
        };
        let mut server = Server::new(segments.own(), slots, room.clone(), doorbells.clone(), station)?;
        let mut hosting = None;
        if let Some(access) = &options.access {
            let granted = access.grant(self.dir().group())?;
            let guests = Guests::new(access.max_guests.into(), identity, room.clone())?;
            let (places, admitted) = guests.for_producer();
            let patience = u64::try_from(access.evict_after.as_nanos()).unwrap_or(u64::MAX);
            producer = producer.with_guests(places, admitted, patience);
            server = server.with_guests(granted, guests.clone());
            let thread = self.handle()?;
            let keeper = thread.add(guests.keeper(), None);
            hosting = Some(Hosting { guests, thread, keeper });
        }
        let announced = self.announce(Announcement {
            kind: "topic".into(),
            offers: options.offers,
            topic: Some(topic),
            metadata: options.metadata,
            endpoints: options.endpoints,
            codec: options.codec,
            payload_schema: options.schema,
            access: options.access,
            server: Some(server.serve()),
            ..Announcement::new(service)
        })?;
        Ok(Publisher {
            announced,
            producer,
            segments,
            proxies,
            step_downs,
            _room: room,
            doorbells,
            guests: hosting,
            epoll,
            home: Home::here(),
            overflow: options.overflow,
            window: None,
            buffer: None,
            lengths: Vec::new(),
            waits: 0,
        })
    }
}

/// The topic's memory: shared if anybody is to share it and it can be had. What cannot is no longer offered.
fn memory(options: &mut PublisherOptions, slots: usize) -> Result<(Segments, Vec<StepDown>)> {
    let streams = options.offers.contains(&Rung::Stream);
    if options.offers.iter().all(|rung| *rung == Rung::Stream) {
        return Ok((Segments::local(options.capacity, slots)?, Vec::new()));
    }
    let (segments, refused) = Segments::shared(options.capacity, slots, streams)?;
    let mut step_downs = Vec::new();
    if let Some(error) = refused {
        step_downs.extend(
            options
                .offers
                .iter()
                .filter(|rung| **rung != Rung::Stream)
                .map(|rung| StepDown::by(*rung, &error)),
        );
        options.offers.retain(|rung| *rung == Rung::Stream);
    }
    Ok((segments, step_downs))
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE));
        Error::os("fcntl", errno, "cannot copy a segment's descriptor")
    })
}

fn memfd_ref(fd: &OwnedFd) -> Result<MemfdRef> {
    let stat = nix::sys::stat::fstat(fd)
        .map_err(|errno| Error::os("fstat", errno, "cannot look at a new segment"))?;
    Ok(MemfdRef { fd: fd.as_raw_fd(), inode: stat.st_ino, size: stat.st_size as u64 })
}

fn eventfd_ref(bell: &EventFd) -> Result<EventfdRef> {
    Ok(EventfdRef { fd: bell.as_fd().as_raw_fd(), id: bell.id()? })
}

impl Publisher {
    /// Sends one message. `false`: there was no room; under `block` nothing happened, wait for room and send it
    /// again; under `drop-newest` it was dropped and counted. Under `drop-oldest` it is always sent. What is larger than
    /// [`max_message`](Self::max_message) is sent by [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN`, `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub fn send(&mut self, payload: &[u8]) -> Result<bool> {
        self.ensure_ready()?;
        self.ensure_fits(payload.len())?;
        let now = monotonic_ns();
        let (producer, mut locks) = self.parts();
        match producer.send(payload, now, &mut locks) {
            Sent::Committed { ring } => {
                self.ring(ring);
                Ok(true)
            }
            Sent::Full => {
                self.show_out();
                Ok(false)
            }
        }
    }

    /// Largest payload of one message, in bytes: half of the ring less the headers.
    pub fn max_message(&self) -> usize {
        self.producer.max_message()
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> usize {
        self.producer.data().capacity()
    }

    /// What happens when there is no room.
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// The record as it is announced now.
    pub fn record(&self) -> Arc<Record> {
        self.announced.record()
    }

    /// Replaces the record's metadata, in place: there is no moment without a record.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_RECORD` when it gets too long, `ERR_RINGBELL_RESOURCE`.
    pub fn update(&mut self, metadata: Map<String, Value>) -> Result<()> {
        self.announced.update(metadata)
    }

    /// Whether a message of `bytes` would find room; while one is sent in pieces, whether the next of those would. Makes no
    /// system call.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        // There is nothing to wait for in a forked child: whatever is tried next tells why.
        self.is_foreign() || self.producer.has_room(padded(bytes.min(self.max_message())), monotonic_ns())
    }

    /// Looks for room for a message of `bytes`, at most `turns` times, with pause instructions in between.
    pub fn spin_room(&mut self, bytes: usize, turns: u32) -> bool {
        for _ in 0..turns {
            if self.has_room(bytes) {
                return true;
            }
            for _ in 0..16 {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Announces that this publisher waits for room for a message of `bytes`. True: there is none; sleep on `as_fd`,
    /// call [`sweep`](Self::sweep) every 50 ms.
    pub fn arm_room(&mut self, bytes: usize) -> bool {
        self.waits += 1;
        if self.is_foreign() {
            return false;
        }
        if let Some(Hosting { guests, .. }) = &self.guests {
            guests.wait();
        }
        let waits = self.producer.arm(padded(bytes.min(self.max_message())), monotonic_ns());
        if let Some(Hosting { guests, .. }) = &self.guests
            && !waits
        {
            guests.wait_no_more();
        }
        waits
    }

    /// Frees the slots of dead subscribers, and evicts those that have left no room for longer than `evict_after`.
    pub fn sweep(&mut self) {
        if self.is_foreign() {
            return;
        }
        let (producer, mut locks) = self.parts();
        producer.sweep(monotonic_ns(), &mut locks);
        self.show_out();
    }

    /// Takes what woke the sleeper on `as_fd`, so that it can sleep again. False: there was nothing.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child; else none in practice: what `epoll_wait` can answer.
    pub fn harvest(&mut self) -> Result<bool> {
        self.ensure_home()?;
        let mut ready = Vec::new();
        self.epoll.wait(Some(Instant::now()), &mut ready)?;
        Ok(!ready.is_empty())
    }

    /// Sleeps until a message of `bytes` finds room, or `timeout` passes. Says whether there is room.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_MESSAGE_TOO_LARGE`: there will never be. `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn wait_room(&mut self, bytes: usize, timeout: Option<Duration>) -> Result<bool> {
        self.ensure_home()?;
        self.ensure_fits(bytes)?;
        self.wait_until(bytes, timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    pub(super) fn wait_until(&mut self, bytes: usize, deadline: Option<Instant>) -> Result<bool> {
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

    /// The frames area, mapped twice in a row, for a binding that fills windows in place.
    pub fn frames_memory(&self) -> Arc<MappedData> {
        self.segments.data().clone()
    }

    /// How many subscribers are attached and alive; durable positions that nobody holds just now are not among them.
    pub fn subscribers(&self) -> usize {
        if self.is_foreign() {
            return 0;
        }
        let mut locks = self.locks();
        self.producer.slots().filter(|slot| locks.alive(slot.index)).count()
    }

    /// Counters, and what each attached subscriber has still to read. In a forked child nothing is counted.
    pub fn stats(&self) -> PublisherStats {
        let mut stats = PublisherStats {
            counters: TopicCounters::default(),
            capacity: self.capacity() as u64,
            free: self.producer.free(),
            waits: self.waits,
            offers: self.record().offers.clone(),
            step_downs: self.step_downs.clone(),
            subscribers: Vec::new(),
        };
        if !self.is_foreign() {
            let mut locks = self.locks();
            let slots = self.producer.slots();
            stats.subscribers =
                slots.filter_map(|slot| self.slot_stats(slot, locks.alive(slot.index))).collect();
            stats.counters = self.producer.data().counters().into();
        }
        stats
    }

    fn slot_stats(&self, slot: SlotView, alive: bool) -> Option<SlotStats> {
        let place = slot.index.checked_sub(self.segments.control().slots());
        let guests = self.guests.as_ref().map(|hosting| &hosting.guests);
        let uid = place.and_then(|place| guests?.uid(place));
        Some(SlotStats { uid, ..SlotStats::of(slot, alive)? })
    }

    /// Closes the topic; the same as dropping it.
    pub fn close(self) {}

    /// Whether this is a forked child, where the segments are not mapped and nothing is this publisher's to do.
    #[inline]
    pub(super) fn is_foreign(&self) -> bool {
        self.home.is_foreign()
    }

    #[inline]
    pub(super) fn ensure_home(&self) -> Result<()> {
        if self.is_foreign() { Err(Error::Closed { what: "publisher" }) } else { Ok(()) }
    }

    #[inline]
    pub(super) fn ensure_ready(&self) -> Result<()> {
        self.ensure_home()?;
        if self.window.is_some() { Err(Error::WindowOpen) } else { Ok(()) }
    }

    pub(super) fn ensure_fits(&self, size: usize) -> Result<()> {
        let limit = self.max_message();
        if size > limit { Err(Error::MessageTooLarge { size, limit }) } else { Ok(()) }
    }

    pub(super) fn window(&self) -> Option<WindowSpan> {
        self.window
    }

    pub(super) fn set_window(&mut self, window: Option<WindowSpan>) {
        self.window = window;
    }

    pub(super) fn parts(&mut self) -> (&mut Producer, SlotLocks<'_>) {
        (&mut self.producer, SlotLocks { segments: &self.segments, proxies: &self.proxies })
    }

    fn locks(&self) -> SlotLocks<'_> {
        SlotLocks { segments: &self.segments, proxies: &self.proxies }
    }

    /// Guests that the ring gave up are to leave.
    #[cold]
    fn show_out(&mut self) {
        if let Some(Hosting { guests, .. }) = &self.guests
            && self.producer.take_dismissed()
        {
            guests.dismissed();
        }
    }

    /// Rings the doorbells whose bits are set, and those guests' that are to be woken.
    #[inline]
    pub(super) fn ring(&mut self, bells: u64) {
        if let Some(Hosting { guests, .. }) = &self.guests {
            let sleepers = self.producer.take_guest_bells();
            if sleepers != 0 {
                guests.ring(sleepers);
            }
            if self.producer.take_dismissed() {
                guests.dismissed();
            }
        }
        self.ring_shared(bells);
    }

    fn ring_shared(&self, mut bells: u64) {
        while bells != 0 {
            // A peer may have set bits for doorbells that there are none of.
            if let Some(bell) = self.doorbells.get(bells.trailing_zeros() as usize) {
                bell.ring();
            }
            bells &= bells - 1;
        }
    }
}

impl AsFd for Publisher {
    /// Readable when subscribers made room while the publisher waited. See [`Publisher::arm_room`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if self.is_foreign() {
            return;
        }
        let bells = self.producer.close();
        self.ring(bells);
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("record", &self.record().file_name()).finish_non_exhaustive()
    }
}
