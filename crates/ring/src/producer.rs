//! The writing side. There is one `Producer` for each topic instance. It alone moves `head` and `floor` (I6, I10).
//!
//! A commit is one batch: the producer makes room, writes the payloads behind a batch header, stores `head`, and loads
//! the word of the sleepers. `limit` is a private number: up to there it may write without looking at a slot. Only when
//! it reaches `limit` does it scan the slots and move `floor` on, one batch at a time (I4).
//!
//! Nothing here trusts the control segment: an invalid cursor expels its slot. No call waits.
//!
//! Slot numbers: first the slots of the control segment that subscribers of the publisher's own user share, then one
//! for each guest slot. A guest that is evicted or expelled is dismissed as well, because it can write its own slot.

mod large;
mod occupants;

use alloc::boxed::Box;

use crate::frame::{BATCH_FIELDS, BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD, max_message, padded};
use crate::guests::{Admitted, Guests};
use crate::layout::{CLOSED, Overflow};
use crate::memory::{ControlMemory, DataMemory, Identity};
use crate::slot::{Reaped, Slot, SlotState, SlotView, Word};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::wake::{self, Fences};
pub use large::Pushed;
use large::Sending;
pub use occupants::{Departure, Ending, Occupant};

/// What the producer asks the crate above, which knows about processes.
pub trait Peers {
    /// Whether the owner of `slot` still holds the slot's lock. Numbers from `max_slots` on are guest slots.
    fn alive(&self, slot: usize) -> bool;
}

/// How a topic behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the headers of both segments will contain.
    pub identity: Identity,
    /// Nanoseconds after which a subscriber that leaves no room is evicted; 0: never.
    pub evict_after: u64,
}

/// The result of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// The message is in the ring. Ring the doorbells whose bits are set.
    Committed {
        /// One bit per doorbell.
        ring: u64,
    },
    /// There is no room. Under [`Overflow::DropNewest`] it was counted as dropped.
    Full,
}

/// Where a batch may be written. It is relative to the frames area, whose second mapping makes it contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first message's header from the start of the frames area.
    pub offset: usize,
    /// Bytes for messages, headers included.
    pub length: usize,
}

/// What the publisher remembers of a slot between two scans.
#[derive(Clone, Copy, Default)]
struct Seen {
    generation: u64,
    cursor: u64,
    /// Since when it has been in the way; 0: it is not in the way.
    stalled_since: u64,
    /// `head` at that time. If `head` has moved, there was a commit since then, and that shortage is over.
    stalled_at: u64,
    /// Of a guest: the cursor that the last scan counted, if it counted one. Only this decides what follows from a
    /// scan, because a guest may change its words between two looks.
    counted: Option<u64>,
    /// The last owner whose stay was ended here, by its generation, and how.
    ended: Option<(u64, Ending)>,
}

/// The shortest time between two probes of the locks, in nanoseconds, when a publisher is short of room. A probe is a
/// system call of half a microsecond. A publisher that spins on a full ring must not make one in each turn.
const PROBE_INTERVAL: u64 = 1_000_000;

/// The writing side of a topic.
pub struct Producer {
    data: DataMemory,
    control: ControlMemory,
    guests: Guests,
    dismissed: bool,
    config: Config,
    fences: Fences,
    head: u64,
    floor: u64,
    /// The producer may write up to here: `floor` plus the capacity. `floor` has passed no live cursor.
    limit: u64,
    next_sequence: u64,
    /// The time of the last batch. Times never go back.
    published_at: u64,
    /// Bytes that the last `reserve` gave, while no commit has used them.
    reserved: usize,
    seen: Box<[Seen]>,
    next_probe: u64,
    /// End of the batch that last found no room; 0 after a batch was accepted.
    wanted: u64,
    /// The large message that is on its way.
    sending: Option<Sending>,
}

impl Producer {
    /// Writes both headers. The segments are still private to the caller and zeroed.
    pub fn create(data: DataMemory, control: ControlMemory, config: Config) -> Self {
        debug_assert_eq!(data.capacity(), config.identity.capacity);
        debug_assert_eq!(control.max_slots(), config.identity.max_slots);
        data.initialise(&config.identity);
        control.initialise(&config.identity);
        Self {
            data,
            control,
            guests: Guests::default(),
            dismissed: false,
            config,
            fences: Fences::default(),
            head: 0,
            floor: 0,
            limit: data.capacity() as u64,
            next_sequence: 0,
            published_at: 0,
            reserved: 0,
            seen: alloc::vec![Seen::default(); config.identity.max_slots].into_boxed_slice(),
            next_probe: 0,
            wanted: 0,
            sending: None,
        }
    }

    /// Lets this producer commit without a full fence while no reader sleeps. A reader that is about to sleep calls for a
    /// barrier instead ([`Consumer::with_barrier`](crate::Consumer::with_barrier)), so only readers that can may join.
    /// The caller has registered its process for such barriers. The segments are still private to it.
    #[must_use]
    pub fn with_barriers(mut self) -> Self {
        self.data.header().fixed.barriers.store(1, Ordering::Relaxed);
        self.fences = Fences::with_barriers();
        self
    }

    /// Gives the topic guest slots, at most [`MAX_GUESTS`](crate::MAX_GUESTS). A guest may block one message for at
    /// most `patience` nanoseconds, however it moves its cursor; 0: without limit. The views stay valid for as long as
    /// this producer is used, whatever file is mapped there.
    #[must_use]
    pub fn with_guests(
        mut self,
        guest_slots: Box<[ControlMemory]>,
        admitted: Admitted,
        patience: u64,
    ) -> Self {
        self.seen =
            alloc::vec![Seen::default(); self.control.max_slots() + guest_slots.len()].into_boxed_slice();
        self.guests = Guests::new(guest_slots, admitted, patience);
        self
    }

    /// The guests that must be woken since the last call, one bit each.
    pub fn take_guest_bells(&mut self) -> u64 {
        self.guests.take_bells()
    }

    /// Whether a guest was evicted or expelled since the last call.
    #[inline]
    pub fn take_dismissed(&mut self) -> bool {
        core::mem::take(&mut self.dismissed)
    }

    /// Largest payload of one message, in bytes.
    pub fn max_message(&self) -> usize {
        max_message(self.data.capacity())
    }

    /// Sequence that the next message will have; the first has 0.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Commits one message as a batch of its own. `now` is monotonic time in nanoseconds. While a
    /// [large](Self::begin_large) message is on its way, there is no room for others.
    ///
    /// The caller has checked that the payload is at most [`max_message`](Self::max_message) long.
    #[inline]
    pub fn send(&mut self, payload: &[u8], now: u64, peers: &mut dyn Peers) -> Sent {
        self.send_parts([payload], 0, now, peers)
    }

    /// As [`send`](Self::send), for a message that lies in parts. The last `headers` bytes of it are its headers.
    #[allow(unsafe_code)]
    #[inline]
    pub fn send_parts<const N: usize>(
        &mut self,
        parts: [&[u8]; N],
        headers: u16,
        now: u64,
        peers: &mut dyn Peers,
    ) -> Sent {
        let length = parts.iter().map(|part| part.len()).sum();
        debug_assert!(usize::from(headers) <= length && length <= self.max_message());
        let frame = padded(length);
        if self.sending.is_some() || !self.make_room(BATCH_OVERHEAD + frame, now, Some(peers)) {
            self.note_full();
            return Sent::Full;
        }
        let mut at = self.head + BATCH_OVERHEAD as u64;
        self.data.frames.store(at, Header::Message { length, headers }.encode());
        at += MESSAGE_OVERHEAD as u64;
        for part in parts {
            // SAFETY: `make_room` moved `floor` past all bytes that are overwritten here (I4). A producer's mapping is
            // writable, and the message is at most half of the capacity.
            unsafe { self.data.frames.write(at, part) };
            at += part.len() as u64;
        }
        self.commit(frame, 1, length as u64, now)
    }

    /// Makes room for a batch whose messages take `bytes` (see [`padded`]), and says where they go. The span may be
    /// longer if more is free, up to `most`. `None`: there is no room.
    ///
    /// The caller leaves 8 bytes for each header and writes the payload behind them. Then it calls
    /// [`commit_span`](Self::commit_span), or does nothing. A [`send`](Self::send) in between takes the span back.
    pub fn reserve(&mut self, bytes: usize, most: usize, now: u64, peers: &mut dyn Peers) -> Option<Span> {
        self.reserved = 0;
        let bytes = bytes.checked_next_multiple_of(8)?;
        if self.sending.is_some() || !self.make_room(BATCH_OVERHEAD.saturating_add(bytes), now, Some(peers)) {
            return None;
        }
        let free = (self.limit - self.head) as usize - BATCH_OVERHEAD;
        let most = most.max(bytes).min(self.data.capacity() / 2 - BATCH_OVERHEAD);
        self.reserved = free.min(most) & !7;
        Some(Span {
            offset: self.data.frames.offset(self.head + BATCH_OVERHEAD as u64),
            length: self.reserved,
        })
    }

    /// The bytes that the last [`reserve`](Self::reserve) gave; none after a commit.
    #[cfg(not(any(loom, miri)))]
    #[allow(unsafe_code)]
    pub fn reserved_bytes(&mut self) -> &mut [u8] {
        // SAFETY: `make_room` moved `floor` past these bytes, and `head` does not reach them, so no reader relies on
        // them (I4). Only the publisher's process can write the segment (I1), and this borrow is its only writer (I6).
        unsafe { self.data.frames.slice_mut(self.head + BATCH_OVERHEAD as u64, self.reserved) }
    }

    /// Counts a refusal. The caller asked for room with [`reserve`](Self::reserve), and gives the message up.
    pub fn note_full(&mut self) {
        let counters = &self.data.header().counters;
        add(&counters.full, 1);
        if self.config.identity.overflow == Overflow::DropNewest {
            add(&counters.dropped, 1);
        }
    }

    /// Writes the headers for payloads that lie one behind the other, from the start of the last
    /// [`reserve`](Self::reserve)d span, and commits them as one batch. `None`, and nothing is committed: the
    /// lengths do not fit into that span, or there are none.
    pub fn commit_span(&mut self, lengths: &[u32], now: u64) -> Option<Sent> {
        let mut used = 0;
        let mut payloads = 0;
        let first = self.head + BATCH_OVERHEAD as u64;
        for &length in lengths {
            let frame = padded(length as usize);
            if frame > self.reserved - used {
                return None;
            }
            let header = Header::Message { length: length as usize, headers: 0 };
            self.data.frames.store(first + used as u64, header.encode());
            used += frame;
            payloads += u64::from(length);
        }
        (used > 0).then(|| self.commit(used, lengths.len() as u64, payloads, now))
    }

    fn commit(&mut self, messages_len: usize, count: u64, payload_bytes: u64, now: u64) -> Sent {
        let sequence = self.next_sequence;
        self.next_sequence += count;
        let ring = self.publish(sequence, messages_len, now);
        let counters = &self.data.header().counters;
        add(&counters.messages, count);
        add(&counters.bytes, payload_bytes);
        Sent::Committed { ring }
    }

    /// Makes a batch of the frames that were written behind the position of its header. Returns the doorbells to ring.
    fn publish(&mut self, sequence: u64, frames_len: usize, now: u64) -> u64 {
        let frames = self.data.frames;
        frames.store(self.head, Header::Batch { body: BATCH_FIELDS + frames_len }.encode());
        frames.store(self.head + 8, sequence);
        // A caller may pass the time of an earlier message, or a clock's last tick.
        self.published_at = self.published_at.max(now);
        frames.store(self.head + 16, self.published_at);
        let start = self.head;
        self.head += (BATCH_OVERHEAD + frames_len) as u64;
        self.reserved = 0;
        let header = self.data.header();
        header.head.before.store(self.next_sequence, Ordering::Relaxed);
        // SYNC: pairs with the acquire of `head` in `Consumer::available`: a load that sees this `head` also sees the
        // batch (I2). In `latest` it also sees `before` (I7).
        header.head.end.store(self.head, Ordering::Release);
        // SYNC: pairs with the acquire in `latest`: a load that sees this `after` also sees this `head`, or a later one
        // (I7).
        header.head.after.store(self.next_sequence, Ordering::Release);
        // SYNC: pairs with the acquire in `Consumer::newest`: a load that sees this `last` also sees the batch there, and
        // this `head` or a later one (I14).
        header.head.last.store(start, Ordering::Release);
        self.fences.after_commit(header);
        let ring = wake::take_sleepers(&self.control);
        self.guests.note_sleepers();
        self.fences.note_sleepers(header, ring != 0 || self.guests.has_bells());
        if ring != 0 {
            add(&header.counters.rings, u64::from(ring.count_ones()));
        }
        ring
    }

    /// Whether a batch of `bytes`, including its header, fits. Makes it fit if the policy and the slots allow it.
    /// Without `peers`, no lock is probed. A batch of more than half of the ring never fits.
    fn make_room(&mut self, bytes: usize, now: u64, peers: Option<&mut dyn Peers>) -> bool {
        if bytes > self.data.capacity() / 2 {
            return false;
        }
        let end = self.head + bytes as u64;
        if end <= self.limit {
            self.wanted = 0;
            return true;
        }
        let keep = self.slowest();
        self.advance_floor(end, keep);
        self.wanted = end;
        if end > self.limit
            && let Some(peers) = peers
            && now >= self.next_probe
        {
            self.next_probe = now.saturating_add(PROBE_INTERVAL);
            if self.evict_blockers(now, peers) {
                let keep = self.slowest();
                self.advance_floor(end, keep);
            }
        }
        if end <= self.limit {
            self.wanted = 0;
        }
        self.wanted == 0
    }

    /// Gives up the oldest batches until `end` is within reach. Gives up a sixteenth of the ring more, so that this is
    /// not needed for every message. Keeps all batches that end above `keep`.
    fn advance_floor(&mut self, end: u64, keep: u64) {
        let capacity = self.data.capacity() as u64;
        let floor = self.boundary((end + capacity / 16).saturating_sub(capacity), keep);
        if floor != self.floor {
            self.floor = floor;
            self.limit = floor + capacity;
            // SYNC: pairs with the acquires of `floor` in the consumer: a consumer that was lapped because it was
            // evicted also sees the eviction, and a `head` that is not below this `floor`.
            self.data.header().floor.store(floor, Ordering::Release);
            // SYNC: pairs with the acquire fence in `Consumer::read`: a reader that saw any byte written after this
            // also sees this `floor`, or a later one (I4).
            fence(Ordering::Release);
        }
    }

    /// The first end of a batch that is not below `target`. If that is above `keep`, the last one that is not above
    /// `keep`. `target` is at most `head`.
    fn boundary(&self, target: u64, keep: u64) -> u64 {
        let mut at = self.floor;
        while at < target {
            let next = self.batch_end(at);
            if next > keep {
                break;
            }
            at = next;
        }
        at
    }

    /// The end of the batch that starts at `start`. `head` if there is no valid header: JS can write all of the ring
    /// through a window, and the part that it spoilt is given up as a whole.
    fn batch_end(&self, start: u64) -> u64 {
        match Header::decode(self.data.frames.load(start), self.data.capacity()) {
            Some(Header::Batch { body }) => (start + 8 + body as u64).min(self.head),
            _ => self.head,
        }
    }

    /// The slowest live cursor, or `head` if no cursor counts. Expels slots that break the rules.
    ///
    /// A joiner whose slot is not seen here will see the last `head`, and start there (I3).
    fn slowest(&mut self) -> u64 {
        let mut slowest = self.head;
        if self.config.identity.overflow == Overflow::DropOldest {
            return slowest;
        }
        // SYNC: pairs with the fence in `Consumer::join`. It lies between the last store of `head` and the loads below.
        fence(Ordering::SeqCst);
        for index in 0..self.seen.len() {
            self.seen[index].counted = None;
            let Some(slot) = self.slot(index) else { continue };
            let word = slot.word();
            if !counts(word) {
                continue;
            }
            // SYNC: pairs with the release of the cursor in `Consumer::publish`: the reads below it are done (I4).
            let cursor = slot.cursor.load(Ordering::Acquire);
            match self.validate_cursor(index, word, cursor) {
                Some(cursor) => {
                    slowest = slowest.min(cursor);
                    self.seen[index].counted = Some(cursor);
                }
                None => self.expel(index, word, SlotState::Expelled),
            }
        }
        let high_water = &self.data.header().counters.high_water;
        if self.head - slowest > high_water.load(Ordering::Relaxed) {
            high_water.store(self.head - slowest, Ordering::Relaxed);
        }
        slowest
    }

    /// The cursor that counts for this slot. `None`: the cursor is invalid. It is not aligned, not between `floor` and
    /// `head`, or below what the same owner stored before.
    fn validate_cursor(&mut self, index: usize, word: Word, cursor: u64) -> Option<u64> {
        let guest = self.guest_slot(index).is_some();
        let seen = &mut self.seen[index];
        if seen.generation != word.generation() {
            let stalled = if guest { *seen } else { Seen { ended: seen.ended, ..Seen::default() } };
            *seen = Seen { generation: word.generation(), cursor: self.floor, ..stalled };
        }
        if word.state() == SlotState::Joining {
            // It may have loaded `head` long ago. But it will not start below `floor`.
            return Some(self.floor.max(cursor.min(self.head)));
        }
        if !cursor.is_multiple_of(8) || cursor > self.head || cursor < seen.cursor {
            return None;
        }
        if cursor != seen.cursor {
            seen.cursor = cursor;
            // A guest could move it by one word at a time, and so block a message without end.
            if !guest {
                seen.stalled_since = 0;
            }
        }
        Some(cursor)
    }

    fn expel(&mut self, index: usize, word: Word, why: SlotState) {
        let mut done = self.slot(index).is_some_and(|slot| slot.expel(word, why));
        if let Some(guest_slot) = self.guest_slot(index) {
            // The guest can write its own slot, but not the bit that decides whether it counts.
            done = self.guests.dismiss(guest_slot);
            self.dismissed |= done;
        }
        if done {
            add(&self.data.header().counters.evicted, 1);
            let ending = if why == SlotState::Evicted { Ending::Evicted } else { Ending::Expelled };
            self.seen[index].ended = Some((word.generation(), ending));
        }
    }

    /// `None` for a guest slot that is free.
    fn slot(&self, index: usize) -> Option<&Slot> {
        match self.guest_slot(index) {
            None => self.control.slot(index),
            Some(guest_slot) => self.guests.slot(guest_slot),
        }
    }

    /// The guest slot of a slot number. `None`: the number is that of a shared slot.
    fn guest_slot(&self, index: usize) -> Option<usize> {
        index.checked_sub(self.control.max_slots())
    }

    /// Frees or parks the slots of dead owners. If the last message found no room, it also evicts subscribers that have
    /// been in the way for too long. Call it every 50 ms while waiting for room, because a death rings no doorbell. An
    /// evicted subscriber learns of the eviction when it next reads. A subscriber that sleeps has read everything, so
    /// it is not in the way.
    pub fn sweep(&mut self, now: u64, peers: &mut dyn Peers) {
        self.slowest();
        self.evict_blockers(now, peers);
    }

    /// Looks at the slots that must still read what the wanted batch would overwrite. If no batch is wanted, it looks
    /// at all slots in use, and evicts none. True: at least one slot no longer counts.
    fn evict_blockers(&mut self, now: u64, peers: &mut dyn Peers) -> bool {
        let short = self.wanted > self.limit;
        let boundary = match short {
            true => self.boundary(self.wanted - self.data.capacity() as u64, self.head),
            false => u64::MAX,
        };
        let mut cleared = false;
        for index in 0..self.seen.len() {
            let Some(slot) = self.slot(index) else { continue };
            let mut word = slot.word();
            let cursor = slot.cursor.load(Ordering::Relaxed);
            let guest = self.guest_slot(index).is_some();
            let aside = match guest {
                true => short && self.seen[index].counted.is_none_or(|counted| counted >= boundary),
                false => word.state() == SlotState::Free || (short && (!counts(word) || cursor >= boundary)),
            };
            if aside {
                continue;
            }
            // A parked slot stays as it is, even if a next holder is about to take it: that one has not read on yet.
            // A guest's word cannot keep its slot: the guest slot is freed with its connection.
            if (guest || word.state() != SlotState::Parked) && !peers.alive(index) {
                match slot.reap(word, !guest) {
                    Reaped::Freed => {
                        self.seen[index].ended = Some((word.generation(), Ending::Died));
                        add(&self.data.header().counters.reaped, 1);
                        cleared = true;
                        continue;
                    }
                    Reaped::Left => continue,
                    Reaped::Parked(parked) => {
                        self.seen[index].ended = Some((word.generation(), Ending::Died));
                        word = parked;
                    }
                }
            }
            let patience = if guest { self.guests.patience } else { self.config.evict_after };
            let seen = &mut self.seen[index];
            // A slot with a new owner, or one that has read on since `validate_cursor` looked, has not stalled.
            let moved = seen.generation != word.generation()
                || (word.state() != SlotState::Joining && cursor != seen.cursor);
            if !short || (moved && !guest) {
                continue;
            }
            if seen.stalled_since == 0 || seen.stalled_at != self.head {
                seen.stalled_since = now.max(1);
                seen.stalled_at = self.head;
            } else if patience != 0 && now.saturating_sub(seen.stalled_since) >= patience {
                self.expel(index, word, SlotState::Evicted);
                cleared = true;
            }
        }
        cleared
    }

    /// Whether messages that take `bytes` would find room now. While a large message is on its way: whether its next
    /// piece would. Probes no lock.
    pub fn has_room(&mut self, bytes: usize, now: u64) -> bool {
        let bytes = match self.sending {
            Some(sending) => sending.next_batch(self.data.capacity()),
            None => BATCH_OVERHEAD.saturating_add(bytes),
        };
        self.make_room(bytes, now, None)
    }

    /// Announces that the publisher will sleep until there is room for `bytes`, or for the next piece, as
    /// [`has_room`](Self::has_room) defines it. False: there is room now, and nothing is announced.
    pub fn arm(&mut self, bytes: usize, now: u64) -> bool {
        self.guests.set_waiting(true);
        wake::announce_wait(&self.control);
        let room = self.has_room(bytes, now);
        if room {
            wake::retract_wait(&self.control);
            self.guests.set_waiting(false);
        }
        !room
    }

    /// Closes the topic. Subscribers read what is left, and then know that nothing will follow. Returns the doorbells
    /// to ring.
    pub fn close(&mut self) -> u64 {
        // SYNC: pairs with the acquire in `DataMemory::closed`.
        self.data.header().status.state.store(CLOSED, Ordering::Release);
        // SYNC: as after a commit, for the state in place of `head`.
        fence(Ordering::SeqCst);
        let ring = wake::take_sleepers(&self.control);
        self.guests.note_sleepers();
        ring
    }

    /// The slots in use, including those of guests, for statistics. Allocates nothing.
    pub fn slots(&self) -> impl Iterator<Item = SlotView> + '_ {
        let shared = self.control.max_slots();
        let guests = self.guests.present().filter_map(move |guest_slot| {
            let view = self.guests.control(guest_slot)?.view(0, self.head)?;
            Some(SlotView { index: shared + guest_slot, ..view })
        });
        self.control.slots(self.head).chain(guests)
    }

    /// How many messages the present or last reader of this slot has taken: [`ControlMemory::taken`].
    pub fn taken(&self, slot: usize) -> Option<u64> {
        self.control.taken(slot)
    }

    /// Bytes that may be written before the next scan of the slots.
    pub fn free(&self) -> u64 {
        self.limit - self.head
    }

    /// Subscribers evicted or expelled so far.
    pub fn evicted(&self) -> u64 {
        self.data.header().counters.evicted.load(Ordering::Relaxed)
    }

    /// The data segment's view.
    pub fn data(&self) -> DataMemory {
        self.data
    }

    /// The control segment's view.
    pub fn control(&self) -> ControlMemory {
        self.control
    }
}

/// Whether a slot's cursor holds the publisher back.
fn counts(word: Word) -> bool {
    matches!(word.state(), SlotState::Joining | SlotState::Active | SlotState::Parked)
}

/// Only the publisher writes its counters, so a load and a store are enough.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}
