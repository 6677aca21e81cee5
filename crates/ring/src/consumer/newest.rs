//! Reading only the newest message, however many came before it. A state is read in this way.
//!
//! The reader loads `last`, then `head`, and walks from the one to the other: mostly that is the one batch at `last`. It
//! copies the batch's last message, and believes the copy only if `floor` has not passed it meanwhile (I5, I14). As long as
//! `head` stays the same, it copies that message again and looks at nothing else. So the writer never waits, a writer that
//! died in the middle of a message leaves the one before it readable, and a reader starts again only when the writer has
//! overwritten nearly the whole ring during one copy. `Reader` in the core calls this.

use super::Consumer;
use crate::frame::{BATCH_FIELDS, BATCH_OVERHEAD, Header, MESSAGE_OVERHEAD, padded};
use crate::layout::is_position;
use crate::read::{Fault, Newest};
use crate::sync::{Ordering, fence};
use crate::walk::Current;

/// How often a reader that was lapped starts again. Each time, the writer has written most of the ring anew.
const TRIES: usize = 64;
/// How many batches a reader walks over from `last` to `head`. There are more only if it stood still between two loads,
/// and then the next try finds a newer `last`.
const STEPS: usize = 16;

/// Where the newest message lies, before it is known whether that was overwritten.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// The end of the batch: `head`, while this is the newest message.
    end: u64,
    batch: u64,
    sequence: u64,
    time: u64,
    payload: usize,
}

/// What one look found.
enum Look {
    Found(Found),
    /// These words make no sense: the writer has overwritten them, or it breaks the protocol.
    Odd(u64, &'static str),
    /// Too many batches came between two loads.
    Late,
}

impl Consumer {
    /// Copies the newest message that was committed to the start of `target`. It counts as read, and everything before it,
    /// so [`pending`](Self::pending) tells whether there is a newer one. A message that was read before is copied again.
    ///
    /// Only for topics under [`Overflow::DropOldest`](crate::Overflow::DropOldest) whose batches have one message each.
    /// After an error, or if the answer is not [`Newest::Message`], the contents of `target` mean nothing.
    ///
    /// # Errors
    ///
    /// A [`Fault`], and the same one at every later call.
    pub fn newest(&mut self, target: &mut [u8]) -> Result<Newest, Fault> {
        self.latest = None;
        self.check()?;
        for _ in 0..TRIES {
            // SYNC: pairs with the release of `last` in `Producer::publish`: the batch there is visible, and the load of
            // `head` below sees the end of that batch or a later one (I14).
            let last = self.data.header().head.last.load(Ordering::Acquire);
            // SYNC: pairs with the release of `head` in `Producer::publish`, for the batches after `last`.
            let head = self.data.header().head.end.load(Ordering::Acquire);
            if head == 0 {
                return Ok(Newest::Nothing);
            }
            if !is_position(head) || head < self.tail || last >= head || !last.is_multiple_of(8) {
                return Err(self.corrupt("head or last went backwards or is not a valid position"));
            }
            if head - last > self.data.capacity() as u64 {
                continue;
            }
            let found = match self.look(last, head) {
                Look::Found(found) => found,
                Look::Late => continue,
                Look::Odd(batch, what) => {
                    if self.is_overwritten(batch) {
                        continue;
                    }
                    return Err(self.corrupt(what));
                }
            };
            if !self.copy_whole(found, target) {
                if found.payload > target.len() && !self.is_overwritten(found.batch) {
                    return Ok(Newest::Needs(found.payload));
                }
                continue;
            }
            let after = found.sequence.wrapping_add(1);
            if self.next_sequence.is_some_and(|next| after < next) {
                return Err(self.corrupt("a sequence went backwards"));
            }
            if head != self.tail {
                (self.tail, self.head) = (head, head);
                (self.current, self.partial) = (Current::default(), None);
                self.received += 1;
            }
            self.next_sequence = Some(after);
            self.latest = Some(found);
            return Ok(Newest::Message { length: found.payload, sequence: found.sequence, time: found.time });
        }
        Ok(Newest::Lapped)
    }

    /// Copies the message that [`newest`](Self::newest) found last to the start of `target`, if it is still the newest one.
    /// Answers its length and sequence. `None`: call `newest`. Most reads of a state need no more than this.
    #[inline]
    pub fn newest_again(&self, target: &mut [u8]) -> Option<(usize, u64)> {
        let found = self.latest.filter(|found| self.is_newest(*found))?;
        self.copy_whole(found, target).then_some((found.payload, found.sequence))
    }

    /// Looks for the batch that ends at `head`, from the one at `last` on. Each word is loaded once.
    #[inline]
    fn look(&self, last: u64, head: u64) -> Look {
        let frames = self.data.frames;
        let mut batch = last;
        for _ in 0..STEPS {
            let Some(Header::Batch { body }) = Header::decode(frames.load(batch), self.data.capacity())
            else {
                return Look::Odd(batch, "a batch was expected");
            };
            let end = batch + 8 + body as u64;
            if end < head {
                batch = end;
                continue;
            }
            let message = Header::decode(frames.load(batch + BATCH_OVERHEAD as u64), self.data.capacity());
            return match message {
                Some(Header::Message { length, headers })
                    if end == head && BATCH_FIELDS + padded(length) == body =>
                {
                    let payload = length - usize::from(headers);
                    let (sequence, time) = (frames.load(batch + 8), frames.load(batch + 16));
                    Look::Found(Found { end, batch, sequence, time, payload })
                }
                _ => Look::Odd(batch, "the newest batch is not one message that ends at head"),
            };
        }
        Look::Late
    }

    /// Whether nothing was committed after it.
    #[inline]
    fn is_newest(&self, found: Found) -> bool {
        // SYNC: pairs with the release of `head` in `Producer::publish`. The batch that ends there was visible before.
        self.data.header().head.end.load(Ordering::Acquire) == found.end
    }

    /// Copies a message. False: the target is too short, or the message was overwritten meanwhile.
    #[inline]
    fn copy_whole(&self, found: Found, target: &mut [u8]) -> bool {
        let Some(target) = target.get_mut(..found.payload) else { return false };
        self.copy_from(found.batch + (BATCH_OVERHEAD + MESSAGE_OVERHEAD) as u64, target);
        !self.is_overwritten(found.batch)
    }

    /// Whether what was loaded from `batch` on may have been overwritten by now.
    #[inline]
    fn is_overwritten(&self, batch: u64) -> bool {
        // SYNC: pairs with the release fence in `Producer::advance_floor`, as in `Consumer::read` (I5).
        fence(Ordering::Acquire);
        self.data.header().floor.load(Ordering::Acquire) > batch
    }

    #[allow(unsafe_code)]
    #[inline]
    fn copy_from(&self, position: u64, target: &mut [u8]) {
        // SAFETY: `target` is private memory of that length. `Header::decode` let no payload pass that is longer than half
        // of the capacity. The bytes count only if `floor`, which is loaded next, has not passed them (I5).
        unsafe { self.data.frames.read(position, target.as_mut_ptr(), target.len()) }
    }
}
