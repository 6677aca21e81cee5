//! Reading only the newest message of a source, in place of all of them. The readers of a state are subscribers that do so.
//!
//! Invariant: a source that has ended is removed only after its caller has read the newest message once more. `state` calls this, and nothing else of a subscriber that reads messages. It never waits.

use ringbell_ring::{Fault, Newest};

use super::Subscriber;
use crate::error::{Error, Result};
use crate::port::{End, WriterState};
use crate::topic::notice::EndReason;
use crate::topic::source::{Source, fault_error};

impl Subscriber {
    /// Copies the newest message of a source. `None`: the source has ended.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    #[inline]
    pub(crate) fn newest(&mut self, source: u32, target: &mut [u8]) -> Result<Option<Result<Newest, Fault>>> {
        if self.home.is_foreign() {
            return Err(Error::Closed { what: "subscriber" });
        }
        let Some(index) = self.index_of(source) else { return Ok(None) };
        Ok(Some(self.sources[index].reader_mut().newest(target)))
    }

    /// The same for the message that the last call found, while it is the newest one: its length and sequence.
    /// `None`: call [`newest`](Self::newest).
    #[inline]
    pub(crate) fn newest_again(&mut self, source: u32, target: &mut [u8]) -> Option<(usize, u64)> {
        if self.home.is_foreign() {
            return None;
        }
        let index = self.index_of(source)?;
        self.sources[index].reader_mut().newest_again(target)
    }

    /// Takes what the bus thread has reported.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child.
    pub(crate) fn take_in(&mut self) -> Result<()> {
        self.take_news()
    }

    /// The sources that have ended, or may have. The caller reads the newest message of each once more, and then calls
    /// [`end_if_over`](Self::end_if_over).
    pub(crate) fn endings(&self) -> Vec<u32> {
        let over = |source: &&Source| source.end().is_some() || source.writer == WriterState::Gone;
        self.sources.iter().filter(over).map(|source| source.number).collect()
    }

    /// Removes a source if it has ended. Asks the bus thread about a stream that has broken off.
    pub(crate) fn end_if_over(&mut self, source: u32) {
        let Some(index) = self.index_of(source) else { return };
        let source = &mut self.sources[index];
        let end = source.end();
        if let Some(reason) = end.and_then(|end| EndReason::of(end, source.record())) {
            self.end(index, reason);
        } else if end == Some(End::Severed) && source.writer == WriterState::Present {
            source.writer = WriterState::Asked;
            let next = source.reader().delivered();
            self.severed.ask(&self.bus, &source.record().id, next);
        }
    }

    /// Removes a source that broke the protocol or was evicted.
    pub(crate) fn fail(&mut self, source: u32, fault: Fault) {
        if let Some(index) = self.index_of(source) {
            let error = fault_error(fault, &self.sources[index].record().service);
            self.end(index, EndReason::Failed(error));
        }
    }

    /// Whether the bus thread has reported something that was not taken.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.inbox.has_news()
    }

    /// Whether no publisher will come any more: the bus is closed.
    pub(crate) fn is_over(&self) -> bool {
        self.closed
    }

    /// Announces that the caller is about to sleep, and sleeps if there is nothing to do.
    pub(crate) fn sleep_if_quiet(&mut self, deadline: Option<std::time::Instant>) -> Result<()> {
        if self.arm_sources() { self.sleep(deadline) } else { Ok(()) }
    }
}
