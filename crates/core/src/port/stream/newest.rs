//! The newest message of a stream, for readers that want no other: the readers of a state.
//!
//! In shared memory such a reader looks at the ring. Here every message arrives, so all that have come are taken in, and the
//! last one is kept. The reader calls it on its own thread. It must never wait for the writer.

use ringbell_ring::{Entry, Fault, Newest, Read};

use super::reader::StreamReader;

/// The most batches that one call takes in. What is left is taken in by the next call.
const MOST_BATCHES: usize = 1024;
/// Messages that are taken in at once.
const ENTRIES: usize = 64;
const SLAB: usize = 16 << 10;

/// The newest message that has arrived, and the memory that messages arrive in.
pub(super) struct Kept {
    message: Option<(Vec<u8>, u64, u64)>,
    slab: Vec<u8>,
    table: [Entry; ENTRIES],
}

impl Default for Kept {
    fn default() -> Self {
        Self { message: None, slab: vec![0; SLAB], table: [Entry::default(); ENTRIES] }
    }
}

impl Kept {
    /// Keeps the last of the messages that were read into the slab.
    fn keep(&mut self, count: usize, begun: (u64, u64)) {
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

    fn copy(&self, target: &mut [u8]) -> Newest {
        let Some((message, sequence, time)) = &self.message else { return Newest::Nothing };
        let length = message.len();
        match target.get_mut(..length) {
            Some(target) => target.copy_from_slice(message),
            None => return Newest::Needs(length),
        }
        Newest::Message { length, sequence: *sequence, time: *time }
    }
}

impl StreamReader {
    /// As [`ringbell_ring::Consumer::newest`], of the messages that have arrived.
    pub(crate) fn newest(&mut self, target: &mut [u8]) -> Result<Newest, Fault> {
        let mut kept = self.kept.take().unwrap_or_default();
        let taken = self.take_in(&mut kept);
        let newest = kept.copy(target);
        self.kept = Some(kept);
        taken.map(|()| newest)
    }

    fn take_in(&mut self, kept: &mut Kept) -> Result<(), Fault> {
        for _ in 0..MOST_BATCHES {
            match self.read(&mut kept.slab, 0, &mut kept.table)? {
                Read::Messages { count, batch_sequence, batch_time, .. } => {
                    kept.keep(count, (batch_sequence, batch_time));
                }
                Read::Needs(bytes) => kept.slab = vec![0; bytes.next_multiple_of(SLAB)],
                Read::Large(_) => self.skip_large(),
                Read::Empty => break,
            }
        }
        Ok(())
    }
}
