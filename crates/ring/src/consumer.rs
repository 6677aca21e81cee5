//! The reading side of a ring. There is one `Consumer` for each subscriber and publisher. It owns one slot.
//!
//! `head`, `floor` and every byte of a frame come from another process. `read` first copies, then reads `floor`
//! again, and interprets only its private copy. `lease` reads each header once, in place; it is for topics whose
//! frames cannot be overwritten before the cursor moves. Anything that breaks the rules is a [`Fault`]: the
//! publisher is dropped, and nothing else happens. `Reader` in the core calls this. A consumer never waits.

mod acknowledging;
mod forwarding;
mod joining;
mod large;
mod newest;

use core::cell::Cell;

use crate::account::Account;
use crate::frame::{BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD, padded};
use crate::layout::{Overflow, is_position};
use crate::memory::{ControlMemory, DataMemory};
use crate::pieces::Partial;
use crate::read::{Entry, Fault, Read};
use crate::slot::{Slot, SlotState};
use crate::sync::{Ordering, fence, spin_loop};
use crate::wake;
use crate::walk::{Current, Step, Walk, private_word};
use acknowledging::Passed;
pub use forwarding::Stretch;

/// Where a subscriber starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first message that is committed after it joined.
    Latest,
    /// With the oldest message that the ring still holds, best effort.
    Earliest,
}

/// What a subscriber with a durable name found when it joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Nothing. It begins where [`Start`] says, like a subscriber without a name.
    New,
    /// The position of the last holder of its name. It goes on there.
    Resumed,
    /// That the publisher has given up that position. It begins where [`Start`] says, and counts what lies between
    /// as missed.
    Lost,
}

/// What a subscriber has last reported.
#[derive(Clone, Copy)]
struct Reported {
    cursor: u64,
    delivered: u64,
}

/// How often a reader that is lapped while it copies starts again at the floor. After that it returns to its
/// caller.
const LAPS: usize = 4;

/// After how many looks in a row that found a little at once a reader lets messages gather. A reader of single messages and
/// replies looks in vain between two of them. One that is slower than its publisher finds much.
const STREAK: u32 = 4;
/// How many bytes are a little.
const LITTLE: u64 = 2048;
/// For how many pause instructions. They take from a few hundredths of a microsecond to a quarter of one.
const GATHERING: u32 = 4;

/// The reading side of a topic.
pub struct Consumer {
    data: DataMemory,
    control: ControlMemory,
    slot: usize,
    generation: u64,
    overflow: Overflow,
    /// Where to read next.
    tail: u64,
    /// The value of `head` at the last look.
    head: u64,
    /// The value of the slot's cursor.
    published: u64,
    /// What was last reported by the subscriber that this reader forwards to.
    reported: Reported,
    /// Where the publisher began to wait for this subscriber. History before it is read without protection.
    joined: u64,
    current: Current,
    /// Sequence of the message that begins next.
    next_sequence: Option<u64>,
    /// The large message that is being read. While there is one, a batch comes next.
    partial: Option<Partial>,
    received: u64,
    missed: u64,
    wakeups: u64,
    position: Position,
    /// Hash of the durable name, or 0.
    name: u64,
    /// Messages before this sequence are not wanted: an earlier holder of the name acknowledged them.
    resume: u64,
    account: Account,
    passed: Option<Passed>,
    /// How many bytes a message has taken lately. It limits a copy to what the table has entries for.
    frame_hint: usize,
    fault: Option<Fault>,
    /// Makes every processor that runs the publisher execute a full fence. False: it cannot. `None`: this publisher always
    /// makes its own.
    barrier: Option<fn() -> bool>,
    /// How often in a row a look at `head` found a little at once.
    streak: Cell<u32>,
    /// The message that [`newest`](Self::newest) has found.
    latest: Option<newest::Found>,
}

impl Consumer {
    /// Copies whole messages, headers included, to `slab[fill..]`. `table` says where they lie, counted from the
    /// start of `slab`. The slot's cursor does not move until [`acknowledge`](Self::acknowledge).
    ///
    /// # Errors
    ///
    /// A [`Fault`], and the same one at every later call.
    pub fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        self.check()?;
        for _ in 0..LAPS {
            let available = self.available()?;
            if available == 0 {
                return Ok(Read::Empty);
            }
            if available > self.data.capacity() as u64 {
                self.skip_to_floor()?;
                continue;
            }
            let Some(first) = self.peek() else {
                match self.large_ahead()? {
                    Some(large) => return Ok(Read::Large(large)),
                    None => continue,
                }
            };
            let room = slab.len().min(u32::MAX as usize).saturating_sub(fill) & !7;
            if first > room {
                // SYNC: as below the copy. The peeked word may have been overwritten, and then it is not a length.
                fence(Ordering::Acquire);
                if self.data.header().floor.load(Ordering::Acquire) > self.tail {
                    self.skip_to_floor()?;
                    continue;
                }
                // The word was not overwritten, so it was committed; and a batch is committed as a whole. The check
                // is here because the caller is about to allocate that many bytes.
                if first as u64 > available {
                    return Err(self.corrupt("a message reaches beyond head"));
                }
                return Ok(Read::Needs(first));
            }
            let worth =
                if first * 8 > room { first } else { first.max(table.len().saturating_mul(self.frame_hint)) };
            let copied = (available as usize).min(room).min(worth.next_multiple_of(8));
            let target = slab.get_mut(fill..fill + copied).unwrap_or_default();
            if target.len() < copied || copied == 0 {
                return Ok(Read::Needs(first.max(BATCH_OVERHEAD)));
            }
            self.copy_out(target);
            // SYNC: pairs with the release fence in `Producer::advance_floor`: if any byte of the copy was written
            // after the floor had passed it, this load sees that floor (I5). The load's own acquire pairs with the
            // release there: `lapped` then sees whether this subscriber was evicted before.
            fence(Ordering::Acquire);
            let floor = self.data.header().floor.load(Ordering::Acquire);
            let mut skip = 0;
            if floor > self.tail {
                let lost = floor - self.tail;
                self.lapped(floor)?;
                if lost >= copied as u64 {
                    self.skip_to_floor()?;
                    continue;
                }
                skip = lost as usize;
                self.current = Current::default();
            }
            let read = self.parse(&slab[..fill + copied], fill, skip, table)?;
            if !matches!(read, Read::Messages { count: 0, .. }) {
                return Ok(read);
            }
        }
        // The reader was lapped again and again. There is still something to read, so a caller that arms will not
        // sleep.
        Ok(Read::Empty)
    }

    /// Finds whole messages in place, without a copy. `table` says where they lie, counted from the start of the
    /// frames area, which is mapped twice in a row. The caller gives them back with
    /// [`acknowledge`](Self::acknowledge).
    ///
    /// The frames are safe from being overwritten only on a [`Overflow::Block`] topic that evicts no reader.
    ///
    /// # Errors
    ///
    /// A [`Fault`], and the same one at every later call.
    pub fn lease(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        self.check()?;
        // History below `joined` can be overwritten at any time.
        if self.tail < self.joined {
            self.tail = self.joined;
            self.current = Current::default();
            self.partial = None;
            // Messages that are passed over here were not missed: this subscriber was promised only those after its
            // join.
            self.next_sequence = None;
        }
        for _ in 0..LAPS {
            let available = self.available()?;
            if available == 0 {
                break;
            }
            if available > self.data.capacity() as u64 {
                return Err(self.corrupt("head is more than the capacity ahead"));
            }
            if self.peek().is_some() {
                return self.walk_in_place(table);
            }
            if let Some(large) = self.large_ahead()? {
                return Ok(Read::Large(large));
            }
        }
        Ok(Read::Empty)
    }

    fn walk_in_place(&mut self, table: &mut [Entry]) -> Result<Read, Fault> {
        let frames = self.data.frames;
        let start = self.tail;
        let mut walk = Walk::new(self.current, self.next_sequence, self.resume);
        let mut position = start;
        while walk.count < table.len() && position < self.head {
            let left = (self.head - position) as usize;
            let word = |at| frames.load(position + at);
            match walk.step(word, left, left, frames.offset(position), table, self.data.capacity()) {
                Step::Taken(bytes) => position += bytes as u64,
                Step::Piece => break,
                Step::Short => return Err(self.corrupt("a frame reaches beyond head")),
                Step::Wrong(what) => return Err(self.corrupt(what)),
            }
        }
        let read = walk.result((position - start) as usize);
        self.advance(&walk, position);
        Ok(if walk.count == 0 { Read::Empty } else { read })
    }

    fn parse(&mut self, slab: &[u8], fill: usize, skip: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        let copied = slab.len() - fill;
        let committed = (self.head - self.tail) as usize;
        let mut walk = Walk::new(self.current, self.next_sequence, self.resume);
        let mut at = skip;
        while walk.count < table.len() && copied - at >= MESSAGE_OVERHEAD {
            let word = |offset| private_word(slab, fill + at + offset as usize);
            match walk.step(word, copied - at, committed - at, fill + at, table, self.data.capacity()) {
                Step::Taken(bytes) => at += bytes,
                Step::Short | Step::Piece => break,
                Step::Wrong(what) => return Err(self.corrupt(what)),
            }
        }
        let read = walk.result(at);
        let position = self.tail + at as u64;
        self.advance(&walk, position);
        Ok(read)
    }

    fn advance(&mut self, walk: &Walk, position: u64) {
        if walk.count > 0 {
            let bytes = (position - self.tail) as usize;
            self.frame_hint = bytes.div_ceil(walk.count).next_multiple_of(8);
        }
        self.current = walk.current;
        self.next_sequence = walk.next_sequence;
        self.received += walk.count as u64;
        self.missed = self.missed.saturating_add(walk.missed);
        self.tail = position;
        if self.name != 0 {
            self.note_delivered(walk.count as u64);
        }
    }

    /// How many bytes the next message takes, with the header of its batch. `None`: a piece of a large message
    /// comes next, or should come. This is only a hint: the word is read again, from a private copy, before any
    /// decision depends on it.
    fn peek(&self) -> Option<usize> {
        let (at, header) = if self.current.remaining == 0 {
            (self.tail + BATCH_OVERHEAD as u64, BATCH_OVERHEAD)
        } else {
            (self.tail, 0)
        };
        let word = self.data.frames.load(at);
        if self.partial.is_some() || (self.current.remaining == 0 && Header::is_fragment(word)) {
            return None;
        }
        Some(match Header::decode(word, self.data.capacity()) {
            Some(Header::Message { length, .. }) => header + padded(length),
            _ => BATCH_OVERHEAD + MESSAGE_OVERHEAD,
        })
    }

    #[allow(unsafe_code)]
    fn copy_out(&self, target: &mut [u8]) {
        // SAFETY: `target` is private memory of that length, and `read` made it no longer than the capacity. Its
        // contents count only above the floor that is read next (I5).
        unsafe { self.data.frames.read(self.tail, target.as_mut_ptr(), target.len()) }
    }

    /// How many bytes can be read. It looks at `head` if there seem to be none.
    fn available(&mut self) -> Result<u64, Fault> {
        // `head` is below `tail` only if it went backwards.
        if self.head <= self.tail {
            self.let_gather();
            // SYNC: pairs with the release of `head` in `Producer::publish`.
            let head = self.data.header().head.end.load(Ordering::Acquire);
            if !is_position(head) || head < self.tail {
                return Err(self.corrupt("head went backwards or is not a valid position"));
            }
            let found = head - self.tail;
            let little = (1..=LITTLE).contains(&found);
            self.streak.set(if little { self.streak.get().saturating_add(1) } else { 0 });
            self.head = head;
        }
        Ok(self.head - self.tail)
    }

    /// Leaves `head` alone for a moment, while message after message comes. Each look takes the line of `head` away from
    /// the publisher, and a reader that is quicker than its publisher would do so for every message.
    #[inline]
    fn let_gather(&self) {
        if self.streak.get() >= STREAK {
            for _ in 0..GATHERING {
                spin_loop();
            }
        }
    }

    /// Goes on at the start of the oldest whole batch.
    fn skip_to_floor(&mut self) -> Result<(), Fault> {
        let header = self.data.header();
        // SYNC: the acquires pair with the releases of `head` in `Producer::publish` and of `floor` in
        // `advance_floor`. A floor that is stored before a `head` is at most a capacity behind that `head`. A
        // `head` that is stored before a floor is not below that floor.
        let before = header.head.end.load(Ordering::Acquire);
        let floor = header.floor.load(Ordering::Acquire);
        let head = header.head.end.load(Ordering::Acquire);
        self.lapped(floor)?;
        let too_far = before.saturating_sub(floor) > self.data.capacity() as u64;
        if too_far || floor < self.tail || floor > head || !is_position(head) {
            return Err(self.corrupt("floor does not lie between what was read and head"));
        }
        self.head = head;
        self.tail = floor;
        self.current = Current::default();
        self.give_up_partial();
        Ok(())
    }

    /// Frames were given up before this subscriber had read them. That is right for a topic that drops the oldest,
    /// for history, and for an evicted subscriber. Everywhere else it breaks a promise.
    fn lapped(&mut self, floor: u64) -> Result<(), Fault> {
        if !is_position(floor) {
            return Err(self.corrupt("floor is not a valid position"));
        }
        if self.overflow == Overflow::DropOldest || floor <= self.joined {
            return Ok(());
        }
        self.check()?;
        Err(self.corrupt("frames were overwritten before this subscriber had read them"))
    }

    /// Checks that the slot still belongs to this subscriber.
    fn check(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let word = self.slot().word();
        let fault = match word.state() {
            SlotState::Active if word.generation() == self.generation => return Ok(()),
            SlotState::Evicted if word.generation() == self.generation => Fault::Evicted,
            SlotState::Expelled if word.generation() == self.generation => Fault::Expelled,
            _ => Fault::Corrupt("the slot was given to another subscriber"),
        };
        self.fault = Some(fault);
        Err(fault)
    }

    fn corrupt(&mut self, what: &'static str) -> Fault {
        self.latest = None;
        *self.fault.insert(Fault::Corrupt(what))
    }

    fn slot(&self) -> &Slot {
        match self.control.slot(self.slot) {
            Some(slot) => slot,
            None => unreachable!("`join` found the slot, and a segment's number of slots never changes"),
        }
    }

    /// Publishes how far this subscriber has read. What lies below may then be overwritten. True: the publisher
    /// waits for room, so the caller must ring its doorbell.
    pub fn acknowledge(&mut self) -> bool {
        if self.name != 0 {
            return self.acknowledge_below(u64::MAX);
        }
        if self.fault.is_some() {
            // The slot may belong to another subscriber by now.
            return false;
        }
        self.publish_read(self.tail)
    }

    /// Whether there is something to read, or a fault to report.
    pub fn pending(&self) -> bool {
        // SYNC: only a hint. `available` reads it again with acquire.
        let new = self.data.header().head.end.load(Ordering::Relaxed) != self.tail;
        if !new {
            self.streak.set(0);
        }
        new || self.fault.is_some() || self.slot().word().state() != SlotState::Active
    }

    /// Looks for something to read, at most `iterations` times, with a pause instruction between two looks.
    pub fn spin(&self, iterations: u32) -> bool {
        let head = &self.data.header().head.end;
        for _ in 0..iterations {
            if head.load(Ordering::Relaxed) != self.tail {
                return true;
            }
            self.streak.set(0);
            spin_loop();
        }
        self.pending()
    }

    /// Gives this consumer the barrier that [`Producer::with_barriers`](crate::Producer::with_barriers) asks of readers:
    /// every processor that runs a thread of the publisher's process executes a full fence. It returns false if it cannot.
    #[must_use]
    pub fn with_barrier(mut self, barrier: fn() -> bool) -> Self {
        self.barrier = self.barrier.map(|_| barrier);
        self
    }

    /// Announces that this subscriber is about to sleep. False: there is something to read now, so it must not
    /// sleep.
    pub fn arm(&mut self) -> bool {
        wake::announce_sleep(self.data.header(), &self.control, self.slot, self.barrier)
            && !self.pending()
            && !self.data.closed()
    }

    /// Whether the publisher has closed the topic and everything was read. It looks at the state first, then at
    /// `head`.
    pub fn ended(&self) -> bool {
        // SYNC: the acquire in `closed` brings the last `head`, by the release in `Producer::close`.
        self.data.closed() && self.data.header().head.end.load(Ordering::Acquire) == self.tail
    }

    /// Whether everything that was committed was read.
    pub fn drained(&self) -> bool {
        // SYNC: pairs with the release of `head` in `Producer::publish`. After a publisher's death its `head` does
        // not change any more.
        self.data.header().head.end.load(Ordering::Acquire) == self.tail
    }

    /// Counts a wake-up, for the statistics that the publisher can see.
    pub fn note_wakeup(&mut self) {
        self.wakeups += 1;
        self.slot().wakeups.store(self.wakeups, Ordering::Relaxed);
    }

    /// Messages received so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Messages missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Committed bytes that this subscriber has not read yet.
    pub fn backlog(&self) -> u64 {
        self.data.header().head.end.load(Ordering::Relaxed).saturating_sub(self.tail)
    }

    /// Bytes of the frames area.
    pub fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// Index of the slot.
    pub fn slot_index(&self) -> usize {
        self.slot
    }

    /// Writes into the slot over which rung its owner reads, for the statistics that the publisher can see.
    pub fn note_way(&self, rung: u32) {
        self.slot().rung.store(rung, Ordering::Relaxed);
    }

    /// Gives the slot back, or leaves it to the next holder of its durable name. True: the caller must ring the
    /// publisher. The caller still holds the slot's lock.
    pub fn leave(&mut self) -> bool {
        if self.name != 0 {
            self.slot().park(self.generation);
            return wake::take_listening(&self.control);
        }
        self.forget()
    }

    /// Gives back the slot, and gives up its durable position. Otherwise as [`leave`](Self::leave).
    pub fn forget(&mut self) -> bool {
        self.slot().leave(self.generation);
        // Both, and not only the first that is set: each flag that stays set promises another ring.
        wake::take_waiting(&self.control) | wake::take_listening(&self.control)
    }

    /// Once, after [`join`](Self::join): true if the publisher wants to hear of it, and its doorbell must be rung.
    pub fn arrived(&self) -> bool {
        wake::take_listening(&self.control)
    }
}
