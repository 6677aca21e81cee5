//! Sending a message that is too large for the ring. It goes in pieces, each a batch of its own, while readers make
//! room by reading the earlier ones.
//!
//! Invariant: all pieces carry the one sequence of the message, and nothing else is sent between the first and the
//! last. A publisher that gives up in between announces nothing: readers learn of it from the sequence of the next
//! batch. Called through `Producer` alone.

use super::{Peers, Producer, add};
use crate::frame::{
    BATCH_OVERHEAD, FRAGMENT_FIELDS, FRAGMENT_OVERHEAD, Header, MAX_LARGE, MESSAGE_OVERHEAD, max_piece,
};
use crate::layout::Overflow;

/// A large message on its way.
#[derive(Clone, Copy)]
pub(super) struct Sending {
    total: usize,
    headers: u16,
    done: usize,
}

impl Sending {
    /// Bytes that the batch of the next piece takes at most.
    pub(super) fn next_batch(self, capacity: usize) -> usize {
        BATCH_OVERHEAD + frame((self.total - self.done).min(max_piece(capacity)))
    }
}

fn frame(piece: usize) -> usize {
    FRAGMENT_OVERHEAD + piece.next_multiple_of(8)
}

/// The result of sending a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Pushed {
    /// Bytes that are in the ring now; 0: there is no room.
    pub bytes: usize,
    /// The doorbells to ring, one bit each.
    pub ring: u64,
}

impl Producer {
    /// Begins a message of `total` bytes that is sent in pieces. It is meant for messages larger than
    /// [`max_message`](Self::max_message). Nothing else can be sent until its last piece was pushed, or until it was
    /// [abandoned](Self::abandon_large). Writes nothing yet.
    ///
    /// False, and nothing begins: another large message is on its way, the policy is not [`Overflow::Block`], or
    /// `total` is 0 or above [`MAX_LARGE`].
    pub fn begin_large(&mut self, total: usize) -> bool {
        self.begin_large_with(total, 0)
    }

    /// As [`begin_large`](Self::begin_large). The last `headers` of the `total` bytes are the headers of the message. It
    /// does not begin with more headers than bytes either.
    pub fn begin_large_with(&mut self, total: usize, headers: u16) -> bool {
        let can = self.sending.is_none()
            && self.config.identity.overflow == Overflow::Block
            && (1..=MAX_LARGE).contains(&total)
            && usize::from(headers) <= total;
        if can {
            self.sending = Some(Sending { total, headers, done: 0 });
        }
        can
    }

    /// Sends the first bytes of `rest`. `rest` is what follows in the message, or as much of it as the caller has. Each
    /// call sends one piece, so that readers can be rung while the next one is written. The last byte ends the message.
    #[allow(unsafe_code)]
    pub fn push_large(&mut self, rest: &[u8], now: u64, peers: &mut dyn Peers) -> Pushed {
        let Some(Sending { total, headers, done }) = self.sending else { return Pushed::default() };
        let length = rest.len().min(total - done).min(max_piece(self.data.capacity()));
        if length == 0 || !self.make_room(BATCH_OVERHEAD + frame(length), now, Some(peers)) {
            return Pushed::default();
        }
        let at = self.head + BATCH_OVERHEAD as u64;
        let frames = self.data.frames;
        frames.store(at, Header::Fragment { body: FRAGMENT_FIELDS + length, headers }.encode());
        frames.store(at + MESSAGE_OVERHEAD as u64, total as u64);
        frames.store(at + MESSAGE_OVERHEAD as u64 + 8, done as u64);
        // SAFETY: `make_room` moved `floor` past all bytes that are overwritten here (I4). A producer's mapping is
        // writable, and a piece is at most a quarter of the capacity.
        unsafe { frames.write(at + FRAGMENT_OVERHEAD as u64, &rest[..length]) };
        // From the first piece on, the message has used its sequence: a subscriber that joins now begins after it.
        if done == 0 {
            self.next_sequence += 1;
        }
        let ring = self.publish(self.next_sequence - 1, frame(length), now);
        let whole = done + length == total;
        self.sending = (!whole).then_some(Sending { total, headers, done: done + length });
        let counters = &self.data.header().counters;
        add(&counters.messages, u64::from(whole));
        add(&counters.bytes, length as u64);
        add(&counters.fragments, 1);
        Pushed { bytes: length, ring }
    }

    /// Gives up the large message that is on its way. If a piece of it is in the ring, its sequence is used up. When
    /// something else is sent, readers drop what they have of it, and count it as missed.
    pub fn abandon_large(&mut self) {
        self.sending = None;
    }

    /// Bytes of the large message that were not pushed yet; `None`: no large message is on its way.
    pub fn large_left(&self) -> Option<usize> {
        self.sending.map(|sending| sending.total - sending.done)
    }
}
