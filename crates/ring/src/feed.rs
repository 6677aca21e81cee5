//! The reading side without the memory: the bytes of a ring that come by another way, walked as `Consumer` walks its copy.
//!
//! What comes is put behind what is held, by whoever receives it ([`Feed::space`], [`Feed::fed`]), and only while no whole
//! message is held: so the buffer grows to the largest message and a piece, as far as bytes have really come, and a gap
//! only ever cuts off a message of which the rest was overwritten. All of it is hostile until the walk has passed.

use alloc::vec::Vec;

use crate::consumer::{Entry, Fault, Read, is_position, private_word};
use crate::frame::{BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD, padded};
use crate::layout::Overflow;
use crate::walk::{Current, Step, Walk};

/// The reading side of a topic whose bytes are fed to it.
pub struct Feed {
    capacity: usize,
    overflow: Overflow,
    /// Where the publisher began to wait for this subscriber; what lies before may be missing.
    joined: u64,
    buffer: Vec<u8>,
    /// What is held lies in `buffer[start..end]`; both are multiples of 8.
    start: usize,
    end: usize,
    /// Position of what lies at `start`: up to here everything was handed out.
    position: u64,
    current: Current,
    next_sequence: Option<u64>,
    received: u64,
    missed: u64,
    fault: Option<Fault>,
}

impl Feed {
    /// A reader of a topic with this capacity and policy, that begins at `position` with the message that has
    /// `next_sequence`, if that is known.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] when the positions are none.
    pub fn new(
        capacity: usize,
        overflow: Overflow,
        position: u64,
        joined: u64,
        next_sequence: Option<u64>,
    ) -> Result<Self, Fault> {
        if !is_position(position) || !is_position(joined) || position > joined {
            return Err(Fault::Corrupt("a stream begins at a position that is none"));
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
            received: 0,
            missed: 0,
            fault: None,
        })
    }

    /// Room for the next piece, of `most` bytes.
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

    /// The first `length` bytes of the last [`space`](Self::space) are those of the ring from `position` on.
    ///
    /// # Errors
    ///
    /// [`Fault::Corrupt`] when they cannot be, from then on at every call.
    pub fn fed(&mut self, position: u64, length: usize) -> Result<(), Fault> {
        if length == 0 || !length.is_multiple_of(8) || length > self.buffer.len() - self.end {
            return Err(self.corrupt("a piece of a stream is empty, too long or not aligned"));
        }
        let expected = self.fed_to();
        if !is_position(position) || position < expected {
            return Err(self.corrupt("a stream went backwards or to a position that is none"));
        }
        if position > expected {
            if self.overflow != Overflow::DropOldest && position > self.joined {
                return Err(self.corrupt("a stream left out what should have waited"));
            }
            // What is held is the beginning of a message whose rest was overwritten; the walk counts it as missed.
            self.buffer.copy_within(self.end..self.end + length, 0);
            (self.start, self.end) = (0, 0);
            self.position = position;
            self.current = Current::default();
        }
        self.end += length;
        Ok(())
    }

    /// As [`Consumer::read`](crate::Consumer::read), of what was fed. [`Read::Empty`]: no whole message is held, more is
    /// to be fed.
    ///
    /// # Errors
    ///
    /// A [`Fault`], from then on at every call.
    pub fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some(first) = self.first() else { return Ok(Read::Empty) };
        let room = slab.len().min(u32::MAX as usize).saturating_sub(fill) & !7;
        if first > room {
            return Ok(Read::Needs(first));
        }
        let held = &self.buffer[self.start..self.end];
        let present = held.len().min(room);
        let mut walk = Walk::new(self.current, self.next_sequence, 0);
        let mut at = 0;
        while walk.count < table.len() && present - at >= MESSAGE_OVERHEAD {
            let word = |offset| private_word(held, at + offset as usize);
            // The end of a batch may be still to come.
            match walk.step(word, present - at, usize::MAX, fill + at, table, self.capacity) {
                Step::Taken(bytes) => at += bytes,
                Step::Short => break,
                Step::Wrong(what) => return Err(self.corrupt(what)),
            }
        }
        slab[fill..fill + at].copy_from_slice(&held[..at]);
        let read = walk.result(at);
        self.current = walk.current;
        self.next_sequence = walk.next_sequence;
        self.received += walk.count as u64;
        self.missed = self.missed.saturating_add(walk.missed);
        self.start += at;
        self.position += at as u64;
        Ok(read)
    }

    /// Bytes that the next message takes, with the header of its batch; `None` while it is not whole.
    fn first(&self) -> Option<usize> {
        let held = &self.buffer[self.start..self.end];
        let before = if self.current.remaining == 0 { BATCH_OVERHEAD } else { 0 };
        if held.len() < before + MESSAGE_OVERHEAD {
            return None;
        }
        let whole = match Header::decode(private_word(held, before), self.capacity) {
            Some(Header::Message { payload }) => before + padded(payload),
            // The walk finds out what is wrong.
            _ => before + MESSAGE_OVERHEAD,
        };
        (whole <= held.len()).then_some(whole)
    }

    /// Whether a whole message is held, or a fault is to be told.
    pub fn pending(&self) -> bool {
        self.fault.is_some() || self.first().is_some()
    }

    /// Up to where everything was handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Up to where the ring was fed.
    pub fn fed_to(&self) -> u64 {
        self.position + (self.end - self.start) as u64
    }

    /// Sequence of the message that is handed out next, if that is known.
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

    fn corrupt(&mut self, what: &'static str) -> Fault {
        *self.fault.insert(Fault::Corrupt(what))
    }
}
