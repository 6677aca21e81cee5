//! The reading side without the memory. The bytes of a ring come in another way, and are walked as `Consumer` walks
//! its copy.
//!
//! The receiver puts new bytes behind those that are held ([`Feed::space`], [`Feed::fed`]), and only while no whole
//! message is held. So the buffer grows to the largest message and one piece at most, and only as bytes really
//! come. A gap can only cut off a message whose rest was overwritten. All bytes are hostile until the walk has
//! passed them. `StreamReader` in the core calls this. A feed never touches shared memory.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::account::{Account, Report};
use crate::frame::{BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD, padded};
use crate::layout::{Overflow, is_position};
use crate::pieces::{Partial, PieceHeader, Pieces};
use crate::read::{Entry, Fault, Piece, Read};
use crate::walk::{Current, Step, Walk, private_word};

/// The reading side of a topic whose bytes are fed to it.
pub struct Feed {
    capacity: usize,
    overflow: Overflow,
    /// Where the publisher began to wait for this subscriber. What lies before may be missing.
    joined: u64,
    buffer: Vec<u8>,
    /// The held bytes lie in `buffer[start..end]`. Both are multiples of 8.
    start: usize,
    end: usize,
    /// Position in the ring of the byte at `start`. Everything before it was handed out.
    position: u64,
    current: Current,
    /// Sequence of the message that begins next.
    next_sequence: Option<u64>,
    /// The large message that is being read. While there is one, a batch comes next.
    partial: Option<Partial>,
    received: u64,
    missed: u64,
    /// Messages before this sequence are passed over: they came in another way, or were acknowledged under the
    /// durable name.
    resume: u64,
    account: Account,
    /// The messages that were handed out and not acknowledged. `None`: everything that is read counts as
    /// acknowledged.
    marks: Option<Marks>,
    fault: Option<Fault>,
}

/// The end of each message that was handed out and not acknowledged. There are no more of them than a ring has room
/// for messages.
#[derive(Default)]
struct Marks(VecDeque<Mark>);

/// The end of one message.
#[derive(Clone, Copy)]
struct Mark {
    /// The message's sequence plus one.
    after: u64,
    position: u64,
    /// Sequence of the message that begins there, or will begin there. It is a later one if some were passed over.
    next: u64,
}

impl Marks {
    /// Notes that the message `sequence`, or what follows it, begins at `position`.
    fn mark(&mut self, account: &mut Account, sequence: u64, position: u64) {
        // The first sequence may become known only now.
        account.sequence.get_or_insert(sequence);
        if self.0.back().is_none_or(|last| last.next < sequence) {
            self.0.push_back(Mark { after: sequence, position, next: sequence });
        }
    }

    /// Nothing up to `position` will be acknowledged. The message after it is `sequence`.
    fn pass_over(&mut self, account: &mut Account, sequence: u64, position: u64) {
        match self.0.back_mut() {
            Some(last) if Some(last.after) > account.sequence => {
                (last.position, last.next) = (position, sequence);
            }
            // All messages before it are acknowledged, or were never handed out.
            _ => {
                self.0.clear();
                account.set(sequence, position);
            }
        }
    }

    /// Acknowledges all messages before `sequence`.
    fn acknowledge(&mut self, account: &mut Account, sequence: u64) {
        let mut done = (sequence, account.position);
        while let Some(Mark { after, position, next }) = self.0.front().copied()
            && after <= sequence
        {
            done = (sequence.max(next), position);
            self.0.pop_front();
        }
        account.acknowledge(done.0, done.1);
    }
}

/// What lies at the start of the held bytes.
enum NextBatch {
    /// Nothing, or the beginning of a message or piece.
    Part,
    /// A message of this number of bytes, with the header of its batch; or bytes that are not a message.
    Message(usize),
    /// A batch that is a piece of a large message.
    Piece(PieceHeader),
}

impl Feed {
    /// A reader of a topic with this capacity and policy. It begins at `position`, with the message `next_sequence`
    /// if that is known.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] when the positions are invalid.
    pub fn new(
        capacity: usize,
        overflow: Overflow,
        position: u64,
        joined: u64,
        next_sequence: Option<u64>,
    ) -> Result<Self, Fault> {
        if !is_position(position) || !is_position(joined) || position > joined {
            return Err(Fault::Corrupt("a stream begins at an invalid position"));
        }
        Ok(Self {
            capacity,
            overflow,
            joined,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            position,
            current: Current::default(),
            next_sequence,
            partial: None,
            received: 0,
            missed: 0,
            resume: 0,
            account: Account::new(position, None, 0),
            marks: None,
            fault: None,
        })
    }

    /// Goes on at the message `sequence`. What comes before it is passed over. What lies in between was missed.
    pub fn go_on_at(&mut self, sequence: u64) {
        self.resume = self.resume.max(sequence);
        self.next_sequence = self.next_sequence.map(|next| next.min(sequence));
    }

    /// From now on [`cursor`](Self::cursor) is what was acknowledged, not what was read.
    pub fn acknowledge_apart(&mut self) {
        // Messages that are passed over were acknowledged before.
        let sequence = self.next_sequence.max((self.resume > 0).then_some(self.resume));
        (self.account.sequence, self.account.position) = (sequence, self.position);
        self.marks = Some(Marks::default());
    }

    /// Reads under a durable name. The publisher said two things about it: messages before `wanted_from` are not
    /// wanted, and those before `redelivered_below` may have been seen. Everything is acknowledged apart from
    /// reading.
    pub fn keep(&mut self, wanted_from: u64, redelivered_below: u64) {
        if wanted_from > 0 {
            self.go_on_at(wanted_from);
        }
        self.account.redelivered_below = redelivered_below;
        self.acknowledge_apart();
    }

    /// As [`Consumer::note_seen`](crate::Consumer::note_seen).
    pub fn note_seen(&mut self, sequence: u64) {
        self.account.note_seen(sequence);
    }

    /// Room for the next piece, of at most `most` bytes.
    pub fn space(&mut self, most: usize) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + most {
            self.buffer.resize(self.end + most, 0);
        }
        &mut self.buffer[self.end..self.end + most]
    }

    /// Says that the first `length` bytes of the last [`space`](Self::space) are the ring's bytes from `position`
    /// on.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] when that is impossible, and the same at every later call.
    pub fn fed(&mut self, position: u64, length: usize) -> Result<(), Fault> {
        if length == 0 || !length.is_multiple_of(8) || length > self.buffer.len() - self.end {
            return Err(self.corrupt("a piece of a stream is empty, too long or not aligned"));
        }
        let expected = self.fed_to();
        if !is_position(position) || position < expected {
            return Err(self.corrupt("a stream went backwards or to an invalid position"));
        }
        if position > expected {
            if self.overflow != Overflow::DropOldest && position > self.joined {
                return Err(self.corrupt("a stream left out bytes that this subscriber had not read"));
            }
            // The held bytes are the beginning of a message whose rest was overwritten. The walk counts it as
            // missed.
            self.buffer.copy_within(self.end..self.end + length, 0);
            (self.start, self.end) = (0, 0);
            self.position = position;
            self.current = Current::default();
            self.pieces().give_up();
        }
        self.end += length;
        Ok(())
    }

    /// As [`Consumer::read`](crate::Consumer::read), from what was fed. [`Read::Empty`]: no whole message is held,
    /// and more must be fed.
    ///
    /// # Errors
    ///
    /// A [`Fault`], and the same one at every later call.
    pub fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        loop {
            let first = match self.next_batch()? {
                NextBatch::Part => return Ok(Read::Empty),
                NextBatch::Message(first) => first,
                NextBatch::Piece(found) => {
                    let large = self.pieces().accept(found);
                    if let Some(large) = large.map_err(|what| self.corrupt(what))? {
                        if self.marks.is_some() {
                            self.account.sequence.get_or_insert(large.sequence);
                        }
                        return Ok(Read::Large(large));
                    }
                    self.pass(found.batch as usize);
                    if let (Some(sequence), Some(marks)) = (self.next_sequence, &mut self.marks) {
                        marks.pass_over(&mut self.account, sequence, self.position);
                    }
                    continue;
                }
            };
            // Another kind of batch came in the place of the next piece.
            self.pieces().give_up();
            let room = slab.len().min(u32::MAX as usize).saturating_sub(fill) & !7;
            if first > room {
                return Ok(Read::Needs(first));
            }
            let read = self.walk(slab, fill, room, table)?;
            // The read has no messages if all of it was passed over.
            if table.is_empty() || !matches!(read, Read::Messages { count: 0, .. }) {
                return Ok(read);
            }
        }
    }

    fn walk(
        &mut self,
        slab: &mut [u8],
        fill: usize,
        room: usize,
        table: &mut [Entry],
    ) -> Result<Read, Fault> {
        let held = &self.buffer[self.start..self.end];
        let present = held.len().min(room);
        let mut walk = Walk::new(self.current, self.next_sequence, self.resume);
        let mut at = 0;
        while walk.count < table.len() && present - at >= MESSAGE_OVERHEAD {
            let word = |offset| private_word(held, at + offset as usize);
            // The end of a batch may not have come yet.
            match walk.step(word, present - at, usize::MAX, fill + at, table, self.capacity) {
                Step::Taken(bytes) => at += bytes,
                Step::Short | Step::Piece => break,
                Step::Wrong(what) => return Err(self.corrupt(what)),
            }
            if let (Some(marks), Some(sequence)) = (&mut self.marks, walk.next_sequence) {
                marks.mark(&mut self.account, sequence, self.position + at as u64);
            }
        }
        slab[fill..fill + at].copy_from_slice(&held[..at]);
        let read = walk.result(at);
        self.current = walk.current;
        self.next_sequence = walk.next_sequence;
        self.received += walk.count as u64;
        self.missed = self.missed.saturating_add(walk.missed);
        self.count_redelivered(walk.count as u64);
        self.pass(at);
        Ok(read)
    }

    /// Notes that the `count` messages before the next one are handed out, and counts those that may have been seen.
    fn count_redelivered(&mut self, count: u64) {
        let first = self.next_sequence.map_or(u64::MAX, |next| next.saturating_sub(count));
        self.account.hand_out(first, count);
    }

    /// As [`Consumer::read_large`](crate::Consumer::read_large). [`Piece::Nothing`]: more must be fed.
    ///
    /// # Errors
    ///
    /// A [`Fault`], and the same one at every later call.
    pub fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.partial.is_none() {
            return Ok(Piece::Gone);
        }
        let found = match self.next_batch()? {
            NextBatch::Part => return Ok(Piece::Nothing),
            _ if target.is_empty() => return Ok(Piece::Nothing),
            NextBatch::Piece(found) => found,
            NextBatch::Message(_) => {
                self.pieces().give_up();
                return Ok(Piece::Gone);
            }
        };
        let next = self.pieces().next(found, target.len());
        let Some((from, bytes)) = next.map_err(|what| self.corrupt(what))? else {
            self.pieces().give_up();
            return Ok(Piece::Gone);
        };
        let at = self.start + PieceHeader::OFFSET + from;
        target[..bytes].copy_from_slice(&self.buffer[at..at + bytes]);
        let (all, left) = self.pieces().copied(found, bytes);
        if all {
            self.pass(found.batch as usize);
        }
        if left == 0 {
            self.received += 1;
            self.count_redelivered(1);
            let (sequence, position) = (found.sequence().wrapping_add(1), self.position);
            if let Some(marks) = &mut self.marks {
                marks.mark(&mut self.account, sequence, position);
            }
        }
        Ok(Piece::Copied { bytes, left })
    }

    /// Drops the large message that [`read`](Self::read) found.
    pub fn skip_large(&mut self) {
        self.pieces().give_up();
    }

    fn pieces(&mut self) -> Pieces<'_> {
        Pieces {
            partial: &mut self.partial,
            next_sequence: &mut self.next_sequence,
            missed: &mut self.missed,
            resume: self.resume,
        }
    }

    fn pass(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
    }

    /// The sequence after the last message that was handed out as a whole, if it is known.
    pub fn delivered(&self) -> Option<u64> {
        match self.partial {
            Some(partial) => Some(partial.sequence()),
            None => self.next_sequence,
        }
    }

    /// Acknowledges all messages before `sequence` that were handed out. False: as much was acknowledged before.
    pub fn acknowledge_below(&mut self, sequence: u64) -> bool {
        let (Some(delivered), Some(marks)) = (self.delivered(), &mut self.marks) else { return false };
        let Some(sequence) = self.account.new_acknowledgement(sequence, delivered) else { return false };
        marks.acknowledge(&mut self.account, sequence);
        self.give_back();
        true
    }

    /// For use after pieces of a large message were read. The pieces of a message that is too large to be kept are
    /// given back as they are read, once everything before the message is acknowledged.
    pub fn give_back(&mut self) {
        if let (Some(marks), Some(partial)) = (&mut self.marks, &self.partial)
            && self.account.releases(partial, self.capacity)
        {
            self.account.position = self.position;
            marks.0.clear();
        }
    }

    /// The publisher need not keep anything before this position.
    pub fn cursor(&self) -> u64 {
        if self.marks.is_some() { self.account.position } else { self.position }
    }

    /// Messages handed out and not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.account.unacknowledged(self.delivered())
    }

    /// Times that [`acknowledge_below`](Self::acknowledge_below) had something new.
    pub fn flushed(&self) -> u64 {
        self.account.flushed
    }

    /// The report for the publisher, without what the feed does not know.
    pub fn report(&self) -> Report {
        let delivered = self.delivered().unwrap_or(0);
        let acknowledged = if self.marks.is_some() { self.account.sequence } else { Some(delivered) };
        Report {
            cursor: self.cursor(),
            received: self.received,
            missed: self.missed,
            wakeups: 0,
            // A message below `redelivered_below` was delivered before, by this subscriber or an earlier holder of
            // the name. An acknowledged message was delivered, too.
            delivered: delivered.max(self.account.redelivered_below).max(acknowledged.unwrap_or(0)),
            acknowledged,
            flushed: self.flushed(),
            redelivered: self.account.redelivered,
        }
    }

    /// Messages before this sequence may have been seen by an earlier holder of the durable name. 0: there are
    /// none.
    pub fn redelivered_below(&self) -> u64 {
        self.account.redelivered_below
    }

    /// How many of those messages were handed out.
    pub fn redelivered(&self) -> u64 {
        self.account.redelivered
    }

    fn next_batch(&mut self) -> Result<NextBatch, Fault> {
        self.peek_batch().map_err(|what| self.corrupt(what))
    }

    /// Looks at the start of the held bytes. Only a whole message or piece counts.
    fn peek_batch(&self) -> Result<NextBatch, &'static str> {
        let held = &self.buffer[self.start..self.end];
        let before = if self.current.remaining == 0 { BATCH_OVERHEAD } else { 0 };
        if held.len() < before + MESSAGE_OVERHEAD {
            return Ok(NextBatch::Part);
        }
        let word = private_word(held, before);
        if before > 0 && Header::is_fragment(word) {
            if held.len() < PieceHeader::OFFSET {
                return Ok(NextBatch::Part);
            }
            let words = core::array::from_fn(|index| private_word(held, 8 * index));
            // The end of the piece may not have come yet.
            return match PieceHeader::decode(words, self.capacity, self.overflow, u64::MAX)? {
                Some(found) if found.batch > held.len() as u64 => Ok(NextBatch::Part),
                Some(found) => Ok(NextBatch::Piece(found)),
                None => Err("a fragment was expected"),
            };
        }
        let whole = match Header::decode(word, self.capacity) {
            Some(Header::Message { length, .. }) => before + padded(length),
            // The walk will find out what is wrong.
            _ => before + MESSAGE_OVERHEAD,
        };
        Ok(if whole <= held.len() { NextBatch::Message(whole) } else { NextBatch::Part })
    }

    /// Whether a read has something to return: a whole message or piece is held, or there is a fault to report.
    pub fn pending(&self) -> bool {
        self.fault.is_some() || !matches!(self.peek_batch(), Ok(NextBatch::Part))
    }

    /// Everything before this position was handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The ring was fed up to this position.
    pub fn fed_to(&self) -> u64 {
        self.position + (self.end - self.start) as u64
    }

    /// Sequence of the message that is handed out next, if it is known.
    pub fn next_sequence(&self) -> Option<u64> {
        self.next_sequence
    }

    /// Messages handed out so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Messages missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Notes that something beside the ring's bytes broke a rule, or ended the stream. The next read reports it.
    pub fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn corrupt(&mut self, what: &'static str) -> Fault {
        *self.fault.insert(Fault::Corrupt(what))
    }
}
