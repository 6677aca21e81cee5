//! The subscriber: every publisher of a topic, merged.
//!
//! It looks at its sources in turn, and takes one batch of one source at a time. Invariant: messages are in order for
//! each publisher; between publishers there is no order. The bus thread reports publishers that come and go through
//! the [`Inbox`]; they become [`Notice`]s, between batches. One thread uses it. Nothing here may wait, except `recv`
//! and its variants, which are for Rust programs without an event loop of their own.

mod acks;
mod arrivals;
mod following;
mod newest;
mod receive;
mod sources;
mod waiting;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use ringbell_ring::Entry;

use super::acks::Pending;
use super::follower::{Follower, PublisherEvent, Severed};
use super::notice::{Drained, Notice};
use super::options::SubscriberOptions;
use super::source::Source;
use super::stats::{Past, SubscriberStats};
use crate::bus::{Bus, Filter, SinkGuard};
use crate::error::{Error, Result};
use crate::handshake::Acquirer;
use crate::port::WriterState;
use crate::port::stream::ANSWER;
use crate::reactor::Inbox;
use crate::segment::MappedData;
use crate::sys::generation::Home;

use following::Following;
use receive::ReceiveBuffer;

pub use receive::Message;

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
    /// Set if only the primary of a service group is read.
    following: Option<Following>,
    _sink: SinkGuard,
    bus: Bus,
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
        let following = options.following(&filter)?.then(Following::default);
        let inbox = Inbox::new()?;
        let pending = Pending::new(options.ack, options.ack_batch.into(), options.ack_interval);
        let (acquirer, durable) = (Acquirer::new(self), options.durable_name()?);
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
            following,
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

    /// Gives the leased batch of a source back. Under [`AckMode::Immediate`](crate::topic::AckMode::Immediate) its
    /// memory may be overwritten from now on. Under the other modes it may be overwritten when it is acknowledged.
    pub fn release(&mut self, source: u32) {
        if self.home.is_foreign() {
            return;
        }
        if let Some(index) = self.index_of(source) {
            let source = &mut self.sources[index];
            source.reader_mut().release();
            if source.writer == WriterState::Gone {
                self.inbox.nudge();
            }
        }
    }

    /// The bytes of the message that [`Drained::Large`] told of, and then those of its headers. After this call, what comes behind it can be
    /// drained.
    pub fn take_large(&mut self) -> Option<Vec<u8>> {
        self.large.take().map(|(_, message)| message)
    }

    /// The memory that leased messages of this source lie in. `None` when the source has ended, when it is a stream,
    /// and in a forked child.
    pub fn source_memory(&self, source: u32) -> Option<Arc<MappedData>> {
        if self.home.is_foreign() {
            return None;
        }
        self.sources[self.index_of(source)?].reader().memory()
    }

    /// Where the source with this number is. `None` if it has ended.
    #[inline]
    fn index_of(&self, number: u32) -> Option<usize> {
        self.sources.iter().position(|source| source.number == number)
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
        let mut total = self.past;
        self.sources.iter().for_each(|source| total.add(source.reader().counters(), source.acks()));
        SubscriberStats {
            received: total.received,
            missed: total.missed,
            rings: total.rings,
            wakeups: self.wakeups,
            acks: total.acks,
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
