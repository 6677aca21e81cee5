//! The writing end of a port: the ring, the doorbells of both sides, and the readers that room is made for.
//!
//! A topic's publisher and each side of a channel write through it. It judges other processes only by their locks.
//! A send makes no system call while every reader is awake. The writer itself announces what was written to the
//! readers, so no caller rings. It never touches the memory in a forked child, where it is not mapped: callers ask
//! [`Writer::is_foreign`] first.

use std::sync::Arc;

use ringbell_ring::{
    Config, Ending, Identity, Peers, Producer, PublisherCounters, Sent, SlotState, SlotView, Span, layout,
    padded,
};

use super::send_clock::SendClock;
use super::{Doorbell, Guests, Mapped};
use crate::error::Result;
use crate::reactor::{Handle, Token};
use crate::segment::{PairMemory, ProxySlots, Segments};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::generation::Home;
use crate::sys::membarrier;

/// The doorbells of a ring that its writer made.
#[derive(Clone)]
pub(crate) struct Doorbells {
    /// Rung by readers when there is room again.
    pub(crate) room: Arc<EventFd>,
    /// Rung by the writer. Several slots share each one.
    pub(crate) readers: Arc<[EventFd]>,
}

impl Doorbells {
    /// Makes the doorbells for this number of slots. `shared`: other processes get them. Those of a ring in private
    /// memory stay in this process, so no other process can tamper with them.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn new(slots: usize, shared: bool) -> Result<Doorbells> {
        let hold = if shared { EventFd::shared } else { EventFd::guarded };
        let doorbell = || EventFd::new().map(hold);
        let readers = (0..layout::doorbells(slots)).map(|_| doorbell()).collect::<Result<Vec<_>>>()?;
        Ok(Doorbells { room: Arc::new(doorbell()?), readers: readers.into() })
    }
}

/// The writing end of a port.
pub(crate) struct Writer {
    producer: Producer,
    readers: Readers,
    doorbells: ReaderDoorbells,
    guests: Option<Hosting>,
    rings: u64,
    /// Gives the messages that are sent one by one their times.
    clock: SendClock,
    /// The process in which the memory is mapped. It is not mapped in a forked child.
    home: Home,
}

/// The doorbells that are rung when something was written.
enum ReaderDoorbells {
    /// The doorbells that this process made.
    Own(Doorbells),
    /// The doorbell of the only reader.
    Peer(Doorbell),
}

/// The memory that the ring lies in, and which of its readers live.
struct Readers {
    mapped: Mapped<Segments>,
    /// The slots of the readers that are streamed to.
    proxies: Arc<ProxySlots>,
}

impl Peers for Readers {
    /// A guest and the other side of a channel are not asked about: the end of their connection tells.
    fn alive(&self, slot: usize) -> bool {
        let Some(segments) = self.mapped.segments() else { return true };
        slot >= segments.control().slots()
            || self.proxies.is_alive(segments.own().map(|own| &own.control_own), slot)
    }
}

/// The guests, and the object that serves them on the bus thread while the writer exists.
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

impl Writer {
    /// Makes the writer of a ring in memory that this process made. `proxies`: the slots of readers that are
    /// streamed to. `evict_after`: for how long a reader may leave no room, in nanoseconds; 0 means without limit.
    pub(crate) fn create(
        segments: Segments,
        doorbells: Doorbells,
        proxies: Arc<ProxySlots>,
        identity: Identity,
        evict_after: u64,
    ) -> Writer {
        let (data, control) = (segments.data().memory(), segments.control().memory());
        let mut producer = Producer::create(data, control, Config { identity, evict_after });
        if membarrier::available() {
            producer = producer.with_barriers();
        }
        let readers = Readers { mapped: Mapped::Topic(segments), proxies };
        Writer::new(producer, readers, ReaderDoorbells::Own(doorbells))
    }

    /// Makes the writer of a channel's ring in shared memory. The ring's reader has a doorbell of its own.
    pub(crate) fn of_pair(producer: Producer, memory: Arc<PairMemory>, peer: Doorbell) -> Writer {
        let readers = Readers { mapped: Mapped::Pair { _memory: memory }, proxies: Arc::default() };
        Writer::new(producer, readers, ReaderDoorbells::Peer(peer))
    }

    fn new(producer: Producer, readers: Readers, doorbells: ReaderDoorbells) -> Writer {
        Writer {
            producer,
            readers,
            doorbells,
            guests: None,
            rings: 0,
            clock: SendClock::default(),
            home: Home::here(),
        }
    }

    /// Whether all messages that are sent one by one get their exact time.
    pub(crate) fn with_exact_time(mut self, exact_time: bool) -> Writer {
        self.clock.exact = exact_time;
        self
    }

    /// Lets guests in. `patience`: for how long a guest may leave no room, in nanoseconds.
    pub(crate) fn with_guests(mut self, guests: Arc<Guests>, patience: u64, thread: Handle) -> Writer {
        let (segments, admitted) = guests.for_producer();
        self.producer = self.producer.with_guests(segments, admitted, patience);
        let keeper = thread.add(guests.keeper(), None);
        self.guests = Some(Hosting { guests, thread, keeper });
        self
    }

    /// Whether this is a forked child, in which the writer must do nothing.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.home.is_foreign()
    }

    /// Sends one message that lies in parts. The last `headers` bytes of it are its headers. False: there is no room.
    #[inline]
    pub(crate) fn send_parts<const N: usize>(&mut self, parts: [&[u8]; N], headers: u16) -> bool {
        let sent = self.producer.send_parts(parts, headers, self.clock.now(), &mut self.readers);
        self.committed(sent)
    }

    /// Sends one message. False: there is no room.
    #[inline]
    pub(crate) fn send(&mut self, payload: &[u8]) -> bool {
        let sent = self.producer.send(payload, self.clock.now(), &mut self.readers);
        self.committed(sent)
    }

    #[inline]
    fn committed(&mut self, sent: Sent) -> bool {
        match sent {
            Sent::Committed { ring } => {
                self.ring(ring);
                true
            }
            Sent::Full => {
                self.evict_dismissed();
                false
            }
        }
    }

    /// Room in the ring for messages that take `bytes`, and for up to `most`. `commit` sends what is filled in.
    pub(crate) fn reserve(&mut self, bytes: usize, most: usize) -> Option<Span> {
        self.producer.reserve(bytes, most, monotonic_ns(), &mut self.readers)
    }

    /// The bytes that were reserved.
    #[inline]
    pub(crate) fn reserved_bytes(&mut self) -> &mut [u8] {
        self.producer.reserved_bytes()
    }

    /// Counts that there was no room.
    pub(crate) fn note_full(&mut self) {
        self.producer.note_full();
    }

    /// Sends what was filled into the reserved bytes. `lengths` has one length for each message.
    pub(crate) fn commit(&mut self, lengths: &[u32]) {
        if let Some(Sent::Committed { ring }) = self.producer.commit_span(lengths, monotonic_ns()) {
            self.ring(ring);
        }
    }

    /// Begins a message of any size, which is sent in pieces. The last `headers` bytes of it are its headers. False: such
    /// a message is not possible.
    pub(crate) fn begin_large(&mut self, total: usize, headers: u16) -> bool {
        self.producer.begin_large_with(total, headers)
    }

    /// How many bytes of the message in pieces are left. `None`: there is no such message.
    pub(crate) fn large_left(&self) -> Option<usize> {
        self.producer.large_left()
    }

    /// Sends the next piece of what is left of the message that lies in these parts. Returns how many bytes it sent; 0:
    /// there is no room.
    pub(crate) fn push_large(&mut self, parts: &[&[u8]]) -> usize {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = total - self.large_left().unwrap_or(0).min(total);
        let mut rest: &[u8] = &[];
        for part in parts {
            if let Some(left) = part.get(sent..).filter(|left| !left.is_empty()) {
                rest = left;
                break;
            }
            sent -= part.len();
        }
        let pushed = self.producer.push_large(rest, monotonic_ns(), &mut self.readers);
        self.ring(pushed.ring);
        pushed.bytes
    }

    /// Gives up the message in pieces.
    pub(crate) fn abandon_large(&mut self) {
        self.producer.abandon_large();
    }

    /// Whether a message of `bytes` would find room. It makes no system call.
    pub(crate) fn has_room(&mut self, bytes: usize) -> bool {
        self.producer.has_room(padded(bytes.min(self.max_message())), monotonic_ns())
    }

    /// Announces that the writer waits for room for a message of `bytes`. False: there is room now.
    pub(crate) fn arm(&mut self, bytes: usize) -> bool {
        if let Some(Hosting { guests, .. }) = &self.guests {
            guests.announce_wait();
        }
        let waits = self.producer.arm(padded(bytes.min(self.max_message())), monotonic_ns());
        if let Some(Hosting { guests, .. }) = &self.guests
            && !waits
        {
            guests.cancel_wait();
        }
        waits
    }

    /// Announces that the writer wants to hear of readers that come and leave. The next one rings its room doorbell.
    pub(crate) fn listen(&mut self) {
        if let Some(Hosting { guests, .. }) = &self.guests {
            guests.set_listening(true);
        }
        self.producer.listen();
    }

    /// Takes the announcement back.
    pub(crate) fn stop_listening(&mut self) {
        if let Some(Hosting { guests, .. }) = &self.guests {
            guests.set_listening(false);
        }
        self.producer.stop_listening();
    }

    /// Whether no reader has come or left since `listen`.
    pub(crate) fn is_listening(&self) -> bool {
        self.producer.is_listening()
            && self.guests.as_ref().is_none_or(|Hosting { guests, .. }| guests.is_listening())
    }

    /// Frees the slots of dead readers, and evicts the readers that have left no room for too long.
    pub(crate) fn sweep(&mut self) {
        self.producer.sweep(monotonic_ns(), &mut self.readers);
        self.evict_dismissed();
    }

    /// Says that nothing will follow, and wakes every reader.
    pub(crate) fn close(&mut self) {
        let bells = self.producer.close();
        self.ring(bells);
    }

    /// Makes the bus thread evict the guests that the ring gave up, if there are some.
    #[inline]
    fn evict_dismissed(&mut self) {
        if let Some(Hosting { guests, .. }) = &self.guests
            && self.producer.take_dismissed()
        {
            guests.dismissed();
        }
    }

    /// Rings the doorbells whose bits are set, and those of the guests that have to be woken.
    #[inline]
    fn ring(&mut self, bells: u64) {
        if self.guests.is_some() {
            self.ring_guests();
        }
        if bells != 0 {
            self.ring_readers(bells);
        }
    }

    fn ring_guests(&mut self) {
        let sleepers = self.producer.take_guest_bells();
        if let Some(Hosting { guests, .. }) = &self.guests
            && sleepers != 0
        {
            guests.ring(sleepers);
        }
        self.evict_dismissed();
    }

    fn ring_readers(&mut self, mut bells: u64) {
        self.rings += 1;
        match &self.doorbells {
            ReaderDoorbells::Peer(doorbell) => doorbell.ring(),
            ReaderDoorbells::Own(doorbells) => {
                while bells != 0 {
                    // A peer may have set bits for which there is no doorbell.
                    if let Some(doorbell) = doorbells.readers.get(bells.trailing_zeros() as usize) {
                        doorbell.ring();
                    }
                    bells &= bells - 1;
                }
            }
        }
    }

    /// Largest payload of one message, in bytes.
    #[inline]
    pub(crate) fn max_message(&self) -> usize {
        self.producer.max_message()
    }

    /// Bytes of the ring.
    pub(crate) fn capacity(&self) -> usize {
        self.producer.data().capacity()
    }

    /// Bytes that can be written now.
    pub(crate) fn free(&self) -> u64 {
        self.producer.free()
    }

    /// Times that readers were rung.
    pub(crate) fn rings(&self) -> u64 {
        self.rings
    }

    pub(crate) fn counters(&self) -> PublisherCounters {
        self.producer.data().counters()
    }

    /// Readers that were evicted or expelled.
    pub(crate) fn evicted(&self) -> u64 {
        self.producer.evicted()
    }

    /// How many messages the owner of a slot, or its last owner, has read, as it reported itself.
    pub(crate) fn taken(&self, slot: usize) -> Option<u64> {
        self.producer.taken(slot)
    }

    /// The slots in use, and whether their owners live.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SlotView, bool)> + '_ {
        self.producer.slots().map(|slot| (slot, self.readers.alive(slot.index)))
    }

    /// Whether no slot is in use: there is no reader.
    #[inline]
    pub(crate) fn is_unread(&self) -> bool {
        self.producer.slots().next().is_none()
    }

    /// Whether so many readers are there and live. Their locks are asked for only if enough slots are in use.
    pub(crate) fn are_read_by(&self, count: usize) -> bool {
        self.producer.slots().take(count).count() == count && self.live().take(count).count() == count
    }

    /// The slots of readers that are there and live. One that was evicted is not there, even if it does not know it yet.
    pub(crate) fn live(&self) -> impl Iterator<Item = SlotView> + '_ {
        let reading =
            |(slot, alive): (SlotView, bool)| (alive && slot.state == SlotState::Active).then_some(slot);
        self.slots().filter_map(reading)
    }

    /// The user of the guest in a slot, as the kernel reports it.
    pub(crate) fn guest_uid(&self, slot: usize) -> Option<u32> {
        let (guests, slot) = self.guest(slot)?;
        guests.uid(slot)
    }

    /// The guests, and the guest slot of a slot. `None`: it is a slot that readers of this user share.
    pub(crate) fn guest(&self, slot: usize) -> Option<(&Guests, usize)> {
        let guest_slot = slot.checked_sub(self.readers.mapped.segments()?.control().slots())?;
        Some((&self.guests.as_ref()?.guests, guest_slot))
    }

    /// The ring's own side, for a look at who is in which slot. It asks the kernel nothing.
    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// How this side ended the stay of the slot's last reader: [`Producer::take_ending`].
    pub(crate) fn take_ending(&mut self, slot: usize) -> Option<(u64, Ending)> {
        self.producer.take_ending(slot)
    }

    /// The doorbell that is rung when there is room again, if the writer has one for that alone.
    pub(crate) fn room(&self) -> Option<&Arc<EventFd>> {
        match &self.doorbells {
            ReaderDoorbells::Own(doorbells) => Some(&doorbells.room),
            ReaderDoorbells::Peer(_) => None,
        }
    }
}
