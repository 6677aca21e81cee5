//! Taking the next batch: from which source, and what the result of the read means for it and for the subscriber.
//!
//! Invariant: each call takes one batch of one source, and the next call begins with another source. A source that has
//! ended is removed once everything of it was read, never before. Drains, leases and `recv` call this. It never waits.

use ringbell_ring::{Entry, Fault, Read};

use super::Subscriber;
use crate::error::{Error, Result};
use crate::port::{End, WriterState};
use crate::topic::gathering::Gathered;
use crate::topic::notice::{Drained, EndReason, Notice};
use crate::topic::source::{Source, fault_error};
use crate::topic::stats::AckStats;

/// The most large messages that were given up and that one call skips. Then the caller runs again.
const MOST_GONE: usize = 64;

impl Subscriber {
    #[inline]
    pub(super) fn next_batch(
        &mut self,
        gather: bool,
        read: impl FnMut(&mut Source) -> Result<Read, Fault>,
    ) -> Result<Drained> {
        self.take_news()?;
        if !self.notices.is_empty() {
            return Ok(Drained::Notice);
        }
        self.next_messages(gather, read)
    }

    /// As `drain`, but notices do not come first: they stay queued until the caller asks for them.
    #[inline]
    pub(super) fn drain_messages(&mut self, slab: &mut [u8], table: &mut [Entry]) -> Result<Drained> {
        self.take_news()?;
        self.next_messages(true, |source| source.read(slab, 0, table))
    }

    #[inline]
    fn next_messages(
        &mut self,
        gather: bool,
        mut read: impl FnMut(&mut Source) -> Result<Read, Fault>,
    ) -> Result<Drained> {
        if let Some((told, _)) = self.large {
            return Ok(told);
        }
        let (mut looked, mut gone, mut more) = (0, 0, false);
        while looked < self.sources.len() || self.advance() {
            if looked >= self.sources.len() {
                looked = 0;
            }
            let index = if self.next < self.sources.len() { self.next } else { 0 };
            let Some(source) = self.sources.get_mut(index) else { break };
            if source.held {
                if let Some(reason) = source.end().and_then(|end| EndReason::of(end, source.record())) {
                    self.end(index, reason);
                    continue;
                }
                self.next = index + 1;
                looked += 1;
                continue;
            }
            match read(source) {
                Ok(Read::Messages { count, bytes, batch_sequence, batch_time }) => {
                    if self.is_late(index, batch_time) {
                        self.sources[index].reader_mut().release();
                        self.advance();
                        looked = 0;
                        continue;
                    }
                    let source = self.received_from(index);
                    return Ok(Drained::Batch { source, count, bytes, batch_sequence, batch_time });
                }
                Ok(Read::Large(large)) if !gather => {
                    self.next = index;
                    if source.reader_mut().consumed_wakeup() {
                        self.inbox.nudge();
                    }
                    return Ok(Drained::NeedSlab(large.total));
                }
                Ok(Read::Large(large)) => match source.gather(large, self.max_message) {
                    Ok(Gathered::Whole(message)) => {
                        let (sequence, time) = (large.sequence, large.time);
                        let source = self.received_from(index);
                        let bytes = large.total - large.headers;
                        let told = Drained::Large { source, bytes, sequence, time };
                        self.large = Some((told, message));
                        return Ok(told);
                    }
                    Ok(Gathered::Part) => {
                        more |= source.pending();
                        self.next = index + 1;
                        looked += 1;
                    }
                    Ok(Gathered::Gone) => {
                        more |= source.pending();
                        gone += 1;
                        looked += gone / MOST_GONE;
                        self.report_missed(index);
                    }
                    Err(fault) => {
                        let error = fault_error(fault, &source.record().service);
                        self.end(index, EndReason::Failed(error));
                    }
                },
                Ok(Read::Needs(bytes)) => {
                    self.next = index;
                    if source.reader_mut().consumed_wakeup() {
                        self.inbox.nudge();
                    }
                    return Ok(Drained::NeedSlab(bytes));
                }
                Ok(Read::Empty) => {
                    let end = source.end();
                    if let Some(reason) = end.and_then(|end| EndReason::of(end, source.record())) {
                        self.end(index, reason);
                        continue;
                    }
                    if end == Some(End::Severed) && source.writer == WriterState::Present {
                        source.writer = WriterState::Asked;
                        let next = source.reader().delivered();
                        self.severed.ask(&self.bus, &source.record().id, next);
                    }
                    self.next = index + 1;
                    looked += 1;
                }
                Err(fault) => {
                    let error = fault_error(fault, &source.record().service);
                    self.end(index, EndReason::Failed(error));
                }
            }
        }
        match self.notices.is_empty() {
            false => Ok(Drained::Notice),
            true if self.closed && !more => Err(Error::Closed { what: "bus" }),
            true => Ok(Drained::Empty),
        }
    }

    /// Notes that messages of this source are handed out.
    #[inline]
    fn received_from(&mut self, index: usize) -> u32 {
        self.next = index + 1;
        // The end of this source was reported while these messages were unread. The caller may never look again by
        // itself, and would not learn of the end. So the bell is rung again.
        if self.sources[index].writer == WriterState::Gone {
            self.inbox.nudge();
        }
        self.report_missed(index);
        self.sources[index].number
    }

    #[inline]
    fn report_missed(&mut self, index: usize) {
        let source = &mut self.sources[index];
        let messages = source.newly_missed();
        if messages > 0 {
            self.notices.push_back(Notice::Missed { source: source.number, messages });
        }
    }

    pub(super) fn end(&mut self, index: usize, reason: EndReason) {
        self.report_missed(index);
        let source = self.sources.remove(index);
        // The publisher has the same doorbell open, so closing this descriptor would leave the registration in the
        // epoll.
        source.reader().unwatch(&self.inbox);
        self.past.add(source.reader().counters(), AckStats { pending: 0, ..source.acks() });
        self.notices.push_back(Notice::Ended {
            source: source.number,
            record: source.record().clone(),
            reason,
        });
    }
}
