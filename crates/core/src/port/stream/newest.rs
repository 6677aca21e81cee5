//! The newest message of a stream, for readers that want no other: the readers of a state.
//!
//! In shared memory such a reader looks at the ring. Here every message arrives, so all that have come are taken in, and the
//! last one is kept. `reader` calls it. It only holds memory.

use ringbell_ring::{Entry, Newest};

/// Messages that are taken in at once.
const ENTRIES: usize = 64;
const SLAB: usize = 16 << 10;

/// The newest message that has arrived, and the memory that messages arrive in.
pub(super) struct Kept {
    message: Option<(Vec<u8>, u64, u64)>,
    pub(super) slab: Vec<u8>,
    pub(super) table: [Entry; ENTRIES],
}

impl Default for Kept {
    fn default() -> Self {
        Self { message: None, slab: vec![0; SLAB], table: [Entry::default(); ENTRIES] }
    }
}

impl Kept {
    /// Keeps the last of the messages that were read into the slab.
    pub(super) fn keep(&mut self, count: usize, begun: (u64, u64)) {
        let Some(entry) = count.checked_sub(1).map(|last| self.table[last]) else { return };
        let word = |at: usize| {
            let bytes = self.slab.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (first, time) = match entry.batch {
            Entry::CONTINUED => begun,
            batch => (word(batch as usize + 8), word(batch as usize + 16)),
        };
        let payload = self.slab.get(entry.offset as usize..);
        let payload = payload.and_then(|rest| rest.get(..entry.length as usize)).unwrap_or_default();
        let mut bytes = self.message.take().map_or_else(Vec::new, |(bytes, ..)| bytes);
        bytes.clear();
        bytes.extend_from_slice(payload);
        self.message = Some((bytes, first.wrapping_add(entry.index.into()), time));
    }

    /// Makes the slab large enough for a message that takes this many bytes.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.slab = vec![0; bytes.next_multiple_of(SLAB)];
    }

    /// Copies the message that is kept.
    pub(super) fn copy(&self, target: &mut [u8]) -> Newest {
        let Some((message, sequence, time)) = &self.message else { return Newest::Nothing };
        let length = message.len();
        match target.get_mut(..length) {
            Some(target) => target.copy_from_slice(message),
            None => return Newest::Needs(length),
        }
        Newest::Message { length, sequence: *sequence, time: *time }
    }
}
