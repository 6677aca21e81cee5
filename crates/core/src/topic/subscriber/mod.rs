//! The subscriber: every publisher of a topic, merged.
//!
//! It looks at its sources in turn, and takes one batch of one source at a time. Invariant: messages are in order for
//! each publisher; between publishers there is no order. The bus thread reports publishers that come and go through
//! the [`Inbox`]; they become [`Notice`]s, between batches. One thread uses it. Nothing here may wait, except `recv`
//! and its variants, which are for Rust programs without an event loop of their own.

mod receive;

use std::collections::VecDeque;
use std::ops::Add;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::{Entry, Fault, Read};

use super::acks::{AckMode, Pending};
use super::follower::{Follower, PublisherEvent, Severed};
use super::gathering::Gathered;
use super::notice::{Drained, EndReason, Notice};
use super::options::SubscriberOptions;
use super::source::{Source, fault_error};
use super::stats::{AckStats, SubscriberStats};
use crate::bus::{Bus, Filter, SinkGuard};
use crate::error::{Error, Result};
use crate::handshake::Acquirer;
use crate::port::stream::ANSWER;
use crate::port::{End, WriterState};
use crate::reactor::Inbox;
use crate::segment::MappedData;
use crate::sys::generation::Home;

use receive::ReceiveBuffer;

pub use receive::Message;

/// At most this many messages are passed over in one call. Then the caller gets its turn.
const MOST_GONE: usize = 64;

/// The reading side of the topics that match a name or pattern.
pub struct Subscriber {
    sources: Vec<Source>,
    /// Index of the source that is looked at next.
    next: usize,
    next_number: u32,
    inbox: Arc<Inbox<PublisherEvent>>,
    notices: VecDeque<Notice>,
    /// The bus was closed. What is attached can be drained; nothing else will come.
    closed: bool,
    /// Where the segments are mapped. In a forked child they are not.
    home: Home,
    /// Totals of sources that have ended.
    past: Past,
    /// Largest message in pieces that is taken, in bytes.
    max_message: usize,
    /// A large message that is complete, and the answer that told of it.
    large: Option<(Drained, Vec<u8>)>,
    wakeups: u64,
    /// Kept only so that waiting does not allocate.
    ready: Vec<u64>,
    received: ReceiveBuffer,
    /// Acknowledgements for what `recv` and its variants hand out, under [`AckMode::Batch`].
    pending: Pending,
    severed: Severed,
    _sink: SinkGuard,
    bus: Bus,
}

#[derive(Default)]
struct Past {
    received: u64,
    missed: u64,
    rings: u64,
    acks: AckStats,
}

impl Bus {
    /// Subscribes to every topic whose service name matches `pattern` (a name, or `sensors.*`), now and in future.
    ///
    /// Returns at once. Publishers attach as they are found, each with a [`Notice::Attached`].
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`.
    pub fn subscriber(&self, pattern: &str, options: SubscriberOptions) -> Result<Subscriber> {
        options.check()?;
        let max_message = options.max_message;
        let filter = Filter::parse(pattern)?;
        let inbox = Inbox::new()?;
        let pending = Pending::new(options.ack, options.ack_batch.into(), options.ack_interval);
        let (acquirer, durable) = (Acquirer::new(self)?, options.durable_name()?);
        let follower = Follower::new(acquirer, durable, inbox.clone(), options);
        let severed = follower.severed();
        let sink = self.subscribe(filter, Box::new(follower))?;
        Ok(Subscriber {
            sources: Vec::new(),
            next: 0,
            next_number: 0,
            inbox,
            notices: VecDeque::new(),
            closed: false,
            home: Home::here(),
            past: Past::default(),
            max_message,
            large: None,
            wakeups: 0,
            ready: Vec::new(),
            received: ReceiveBuffer::default(),
            pending,
            severed,
            _sink: sink,
            bus: self.clone(),
        })
    }
}

impl Subscriber {
    /// Copies one batch of one source, headers included, to `slab[fill..]`. `table` says where its messages lie. If
    /// `slab[fill..]` is empty, no message is taken of any source: such a call only asks for notices.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` when the bus was closed and everything was read, and in a forked child. When one source
    /// fails, that is a [`Notice`], and the others go on.
    #[inline]
    pub fn drain(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Drained> {
        let gather = fill < slab.len();
        self.next_batch(gather, |source| source.read(slab, fill, table))
    }

    /// Finds one batch of one source in place. `table` says where its messages lie in
    /// [`source_memory`](Self::source_memory). The bytes stay there until [`release`](Self::release). Do not ask for
    /// anything else of that source before.
    ///
    /// # Errors
    ///
    /// As [`drain`](Self::drain). `ERR_RINGBELL_INVALID_OPTION` when a source may overwrite what is leased. Leases
    /// need a `block` topic without `evict_after`, in shared memory.
    pub fn lease_batch(&mut self, table: &mut [Entry]) -> Result<Drained> {
        let refused = |source: &Source| Some((source.not_leasable()?, source.record().service.clone()));
        if let Some((why, service)) = self.sources.iter().find_map(refused) {
            let rule = format!("{why} ('{service}'); borrowed batches do without");
            return Err(Error::InvalidOption { option: "lifetime", value: "lease".into(), rule });
        }
        self.next_batch(true, |source| source.lease(table))
    }

    /// Gives the leased batch of a source back. Under [`AckMode::Immediate`] its memory may be overwritten from now
    /// on. Under the other modes it may be overwritten when it is acknowledged.
    pub fn release(&mut self, source: u32) {
        if self.home.is_foreign() {
            return;
        }
        if let Some(source) = self.sources.iter_mut().find(|candidate| candidate.number == source) {
            source.reader_mut().release();
            if source.writer == WriterState::Gone {
                self.inbox.nudge();
            }
        }
    }

    /// The bytes of the message that [`Drained::Large`] told of. After this call, what comes behind it can be
    /// drained.
    pub fn take_large(&mut self) -> Option<Vec<u8>> {
        self.large.take().map(|(_, message)| message)
    }

    /// Acknowledges all messages of a source up to and including the one with this sequence. `false` means that they
    /// were acknowledged before, or that the source has ended. It is for [`AckMode::Deferred`]. Under
    /// [`AckMode::Batch`] it acknowledges at once and does not wait for a batch to fill.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{AckMode, PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let mut publisher = bus.publisher("jobs", PublisherOptions::default())?;
    /// let mut options = SubscriberOptions::default();
    /// options.ack = AckMode::Deferred;
    /// let mut subscriber = bus.subscriber("jobs", options)?;
    /// # subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    /// publisher.send(b"job 1")?;
    /// publisher.send(b"job 2")?;
    ///
    /// subscriber.recv()?;
    /// let message = subscriber.recv()?;
    /// let (source, sequence) = (message.source, message.sequence);
    /// // The work is done. The publisher keeps both messages until now.
    /// assert!(subscriber.ack(source, sequence)?);
    /// assert!(!subscriber.ack(source, sequence)?); // acknowledged before
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_INVALID_OPTION` under [`AckMode::Immediate`], and for a message that was not delivered yet.
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub fn ack(&mut self, source: u32, sequence: u64) -> Result<bool> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "subscriber" });
        }
        if self.pending.mode() == AckMode::Immediate {
            return Err(Error::InvalidOption {
                option: "ack",
                value: "immediate".into(),
                rule: "ack() needs a subscriber with ack: 'deferred' or 'batch'".into(),
            });
        }
        let Some(source) = self.sources.iter_mut().find(|candidate| candidate.number == source) else {
            return Ok(false);
        };
        source.acknowledge_through(sequence, &self.inbox).map_err(|last| Error::InvalidOption {
            option: "upTo",
            value: sequence.to_string(),
            rule: match last {
                Some(last) => format!("a message that was delivered; the last one has sequence {last}"),
                None => "a message that was delivered; none was".to_owned(),
            },
        })
    }

    /// Messages of a source before this sequence may have been delivered to an earlier holder of the durable name.
    fn redelivered_below(&self, source: u32) -> u64 {
        let source = self.sources.iter().find(|candidate| candidate.number == source);
        source.map_or(0, Source::redelivered_below)
    }

    /// Acknowledges the messages that `Pending` found due.
    fn acknowledge_due(&mut self, due: Option<(u32, u64)>) {
        if let Some((source, sequence)) = due {
            // If the source has ended, its publisher no longer needs the acknowledgement.
            let _ = self.ack(source, sequence);
        }
    }

    /// The memory that leased messages of this source lie in. `None` when the source has ended, when it is a stream,
    /// and in a forked child.
    pub fn source_memory(&self, source: u32) -> Option<Arc<MappedData>> {
        if self.home.is_foreign() {
            return None;
        }
        self.sources.iter().find(|candidate| candidate.number == source).and_then(Source::memory)
    }

    #[inline]
    fn next_batch(
        &mut self,
        gather: bool,
        read: impl FnMut(&mut Source) -> Result<Read, Fault>,
    ) -> Result<Drained> {
        self.take_news()?;
        if !self.notices.is_empty() {
            return Ok(Drained::Notice);
        }
        self.next_messages(gather, read)
    }

    /// As `drain`, but notices do not come first: they stay queued until the caller asks for them.
    #[inline]
    fn drain_messages(&mut self, slab: &mut [u8], table: &mut [Entry]) -> Result<Drained> {
        self.take_news()?;
        self.next_messages(true, |source| source.read(slab, 0, table))
    }

    #[inline]
    fn next_messages(
        &mut self,
        gather: bool,
        mut read: impl FnMut(&mut Source) -> Result<Read, Fault>,
    ) -> Result<Drained> {
        if let Some((drained, _)) = self.large {
            return Ok(drained);
        }
        let (mut looked, mut gone, mut more) = (0, 0, false);
        while looked < self.sources.len() {
            let index = if self.next < self.sources.len() { self.next } else { 0 };
            let source = &mut self.sources[index];
            match read(source) {
                Ok(Read::Messages { count, bytes, batch_sequence, batch_time }) => {
                    let source = self.received_from(index);
                    return Ok(Drained::Batch { source, count, bytes, batch_sequence, batch_time });
                }
                Ok(Read::Large(large)) if !gather => {
                    self.next = index;
                    if source.reader_mut().consumed_wakeup() {
                        self.inbox.nudge();
                    }
                    return Ok(Drained::NeedSlab(large.total));
                }
                Ok(Read::Large(large)) => match source.gather(large, self.max_message) {
                    Ok(Gathered::Whole(message)) => {
                        let (sequence, time) = (large.sequence, large.time);
                        let source = self.received_from(index);
                        let drained = Drained::Large { source, bytes: large.total, sequence, time };
                        self.large = Some((drained, message));
                        return Ok(drained);
                    }
                    Ok(Gathered::Part) => {
                        more |= source.pending();
                        self.next = index + 1;
                        looked += 1;
                    }
                    Ok(Gathered::Gone) => {
                        more |= source.pending();
                        gone += 1;
                        looked += gone / MOST_GONE;
                        self.report_missed(index);
                    }
                    Err(fault) => {
                        let error = fault_error(fault, &source.record().service);
                        self.end(index, EndReason::Failed(error));
                    }
                },
                Ok(Read::Needs(bytes)) => {
                    self.next = index;
                    if source.reader_mut().consumed_wakeup() {
                        self.inbox.nudge();
                    }
                    return Ok(Drained::NeedSlab(bytes));
                }
                Ok(Read::Empty) => match source.end() {
                    Some(End::Closed) => self.end(index, EndReason::Closed),
                    Some(End::Died) => self.end(index, EndReason::Died),
                    Some(End::Disconnected) => {
                        let service = source.record().service.clone();
                        self.end(index, EndReason::Failed(Error::Disconnected { service }));
                    }
                    Some(End::Unreadable) => {
                        let error = Error::CorruptPeer { what: "what it left behind cannot be read".into() };
                        self.end(index, EndReason::Failed(error));
                    }
                    end @ (Some(End::Severed) | None) => {
                        if end.is_some() && source.writer == WriterState::Present {
                            source.writer = WriterState::Asked;
                            let next = source.reader().delivered();
                            self.severed.ask(&self.bus, &source.record().id, next);
                        }
                        self.next = index + 1;
                        looked += 1;
                    }
                },
                Err(fault) => {
                    let error = fault_error(fault, &source.record().service);
                    self.end(index, EndReason::Failed(error));
                }
            }
        }
        match self.notices.is_empty() {
            false => Ok(Drained::Notice),
            true if self.closed && !more => Err(Error::Closed { what: "bus" }),
            true => Ok(Drained::Empty),
        }
    }

    /// Notes that messages of this source are handed out.
    #[inline]
    fn received_from(&mut self, index: usize) -> u32 {
        self.next = index + 1;
        // The end of this source was reported while these messages were unread. The caller may never look again by
        // itself, and would not learn of the end. So the bell is rung again.
        if self.sources[index].writer == WriterState::Gone {
            self.inbox.nudge();
        }
        self.report_missed(index);
        self.sources[index].number
    }

    #[inline]
    fn report_missed(&mut self, index: usize) {
        let source = &mut self.sources[index];
        let messages = source.newly_missed();
        if messages > 0 {
            self.notices.push_back(Notice::Missed { source: source.number, messages });
        }
    }

    fn end(&mut self, index: usize, reason: EndReason) {
        self.report_missed(index);
        let source = self.sources.remove(index);
        // The publisher has the same doorbell open, so closing this descriptor would leave the registration in the
        // epoll.
        source.unwatch(&self.inbox);
        let counters = source.reader().counters();
        self.past.received += counters.received;
        self.past.missed += counters.missed;
        self.past.rings += counters.rings;
        self.past.acks = self.past.acks + AckStats { pending: 0, ..source.acks() };
        self.notices.push_back(Notice::Ended {
            source: source.number,
            record: source.record().clone(),
            reason,
        });
    }

    /// Takes what the bus thread has reported.
    #[inline]
    fn take_news(&mut self) -> Result<()> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "subscriber" });
        }
        if self.inbox.has_news() {
            self.take_events();
        }
        Ok(())
    }

    #[cold]
    fn take_events(&mut self) {
        for event in self.inbox.take() {
            match event {
                PublisherEvent::Joined(joined) => {
                    let number = self.next_number;
                    self.next_number += 1;
                    self.notices.push_back(Notice::Attached {
                        source: number,
                        record: joined.record.clone(),
                        rung: joined.rung,
                        fallbacks: joined.fallbacks.clone(),
                        position: joined.position(),
                        redelivered_below: joined.redelivered_below(),
                    });
                    self.sources.push(Source::new(joined, number));
                }
                PublisherEvent::Gone(id) => {
                    // A lost stream whose end was not reported yet may be there beside the one that replaced it.
                    let last = self.sources.iter_mut().rfind(|source| source.record().id == id);
                    if let Some(source) = last.filter(|source| source.writer != WriterState::Unreachable) {
                        source.writer = WriterState::Gone;
                    }
                }
                PublisherEvent::Lost(id) => {
                    let last = self.sources.iter_mut().rfind(|source| source.record().id == id);
                    if let Some(source) = last {
                        source.writer = WriterState::Unreachable;
                    }
                }
                PublisherEvent::GivenUp(record, tries, error) => {
                    self.notices.push_back(Notice::GivenUp { record, tries, error });
                }
                PublisherEvent::Failed(record, error) => {
                    self.notices.push_back(Notice::Failed { record, error })
                }
                PublisherEvent::Closed => self.closed = true,
            }
        }
    }

    /// Takes all queued notices, in the order in which things happened.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ringbell::bus::{Bus, BusOptions};
    /// use ringbell::topic::{Notice, PublisherOptions, SubscriberOptions};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let bus = Bus::open(BusOptions { path: Some(folder.path().join("bus")), ..BusOptions::default() })?;
    /// let publisher = bus.publisher("ticks", PublisherOptions::default())?;
    /// let mut subscriber = bus.subscriber("ticks", SubscriberOptions::default())?;
    /// subscriber.wait_attached(1, Some(Duration::from_secs(30)))?;
    ///
    /// for notice in subscriber.notices() {
    ///     match notice {
    ///         Notice::Attached { record, .. } => assert_eq!(record.service, "ticks"),
    ///         other => panic!("unexpected: {other:?}"),
    ///     }
    /// }
    /// assert!(subscriber.notices().is_empty()); // each notice is told once
    /// # drop(publisher);
    /// # Ok::<(), ringbell::Error>(())
    /// ```
    pub fn notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }

    /// Looks for something to do, about `iterations` times. It executes pause instructions between two looks. Says
    /// whether it found something.
    pub fn spin(&self, iterations: u32) -> bool {
        !self.notices.is_empty() || self.spin_sources(iterations)
    }

    /// Whether there may be messages, or news of publishers.
    fn pending(&self) -> bool {
        self.home.is_foreign() || self.inbox.has_news() || self.sources.iter().any(Source::pending)
    }

    fn spin_sources(&self, iterations: u32) -> bool {
        if self.home.is_foreign() || self.inbox.has_news() {
            return true;
        }
        match self.sources.as_slice() {
            [only] => only.spin(iterations),
            sources => {
                for _ in 0..iterations / (sources.len().max(1) as u32) {
                    if sources.iter().any(Source::pending) {
                        return true;
                    }
                    std::hint::spin_loop();
                }
                self.inbox.has_news()
            }
        }
    }

    /// Announces to every publisher that this subscriber is about to sleep. True means that there is nothing to do:
    /// sleep on `as_fd`, and call [`harvest`](Self::harvest) when it is readable. False means: look again.
    pub fn arm(&mut self) -> bool {
        self.arm_sources() && self.notices.is_empty()
    }

    /// As `arm`, but queued notices do not keep it from sleeping.
    fn arm_sources(&mut self) -> bool {
        if self.home.is_foreign() {
            return false;
        }
        // Acknowledgements that are due go out first: a publisher must not wait for room because its subscriber
        // sleeps.
        let due = self.pending.take();
        self.acknowledge_due(due);
        let mut quiet = !self.closed;
        for source in &mut self.sources {
            // Every source is armed, even if an earlier one has something to do: the caller may sleep after its next
            // call.
            quiet &= source.arm(&self.inbox);
        }
        quiet && !self.inbox.has_news()
    }

    /// Takes the event that woke the sleeper on `as_fd`, so that it can sleep again, and counts the wake-up. False
    /// means that there was none.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child. An error of `epoll_wait`, which does not occur in practice.
    pub fn harvest(&mut self) -> Result<bool> {
        self.sleep(Some(Instant::now()))?;
        Ok(!self.ready.is_empty())
    }

    fn note_wakeup(&mut self) {
        self.wakeups += 1;
        for source in &mut self.sources {
            source.reader_mut().note_wakeup();
        }
    }

    /// Sleeps until something happens, or until `deadline`.
    fn sleep(&mut self, deadline: Option<Instant>) -> Result<()> {
        if self.home.is_foreign() {
            // The parent uses the same epoll. If the child took an event, the parent would sleep through it.
            return Err(Error::Closed { what: "subscriber" });
        }
        self.inbox.sleep(deadline, &mut self.ready)?;
        if !self.ready.is_empty() {
            self.note_wakeup();
        }
        Ok(())
    }

    /// How many publishers this subscriber is attached to.
    pub fn publishers(&self) -> usize {
        self.sources.len()
    }

    /// Counters, and what this subscriber knows of each publisher. In a forked child it knows none. Publishers of
    /// streams are asked, and get a short time to answer.
    pub fn stats(&mut self) -> SubscriberStats {
        let sources = if self.home.is_foreign() { &mut [] } else { self.sources.as_mut_slice() };
        let mut consumed_wakeup = false;
        // One deadline for all of them: a hundred stopped publishers cost no more time than one.
        let deadline = Instant::now() + ANSWER;
        let asked = |source: &mut Source| {
            let stats = source.stats(deadline);
            consumed_wakeup |= source.reader_mut().consumed_wakeup();
            stats
        };
        let sources = sources.iter_mut().map(asked).collect();
        if consumed_wakeup {
            self.inbox.nudge();
        }
        let counters = || self.sources.iter().map(|source| source.reader().counters());
        let acks = self.sources.iter().map(Source::acks).fold(self.past.acks, AckStats::add);
        SubscriberStats {
            received: self.past.received + counters().map(|counters| counters.received).sum::<u64>(),
            missed: self.past.missed + counters().map(|counters| counters.missed).sum::<u64>(),
            rings: self.past.rings + counters().map(|counters| counters.rings).sum::<u64>(),
            wakeups: self.wakeups,
            acks,
            sources,
        }
    }

    /// Leaves every topic. Dropping the subscriber does the same. Durable positions are kept. Publishers of streams
    /// get a short time to store them.
    pub fn close(self) {}

    /// Leaves every topic, and gives its durable positions up. The publishers that it is attached to no longer keep
    /// messages for this name.
    pub fn forget(mut self) {
        if !self.home.is_foreign() {
            let deadline = Instant::now() + ANSWER;
            self.sources.iter_mut().for_each(|source| source.reader_mut().leave(true, deadline));
        }
    }
}

impl AsFd for Subscriber {
    /// Readable when something happened after [`Subscriber::arm`]. It stays readable until [`Subscriber::harvest`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // In a forked child a lock of the inbox may be held by a thread that does not exist there. And the child must
        // not leave for its parent.
        if !self.home.is_foreign() {
            let due = self.pending.take();
            self.acknowledge_due(due);
            // So that the next holder of a durable name finds the position that this one has left, on any rung.
            let deadline = Instant::now() + ANSWER;
            self.sources.iter_mut().for_each(|source| source.reader_mut().leave(false, deadline));
            self.sources.iter_mut().for_each(|source| source.reader_mut().wait_for_park(deadline));
            self.inbox.close();
        }
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("publishers", &self.publishers()).finish_non_exhaustive()
    }
}
