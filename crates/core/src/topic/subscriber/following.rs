//! Following the primary of a service group: only the sources of one term are read at a time.
//!
//! Invariant: terms are read in the order of their epochs. What the primary of a term has committed is read before anything of
//! the next term, and nothing that it commits later: then another process was primary, and it had not noticed. A source
//! of a standby is held back, because it may be primary already and this process may not know. The record of a publisher
//! says with which message its term begins, so one that is primary again is read up to there. A subscriber that follows
//! nobody holds nothing back. `arrivals` and `sources` call this.

use ringbell_ring::{Entry, Read};

use super::Subscriber;
use crate::port::WriterState;
use crate::record::{GroupRecord, Role, Rung};
use crate::sys::clock;
use crate::topic::notice::EndReason;
use crate::topic::source::{Source, fault_error};

/// Reads of one source that is passed over. More than a ring can hold in batches.
const MOST_READS: usize = 1 << 16;
/// Memory for what is passed over.
const SLAB: usize = 64 << 10;
const ENTRIES: usize = 1024;

/// How far a subscriber has followed its group.
#[derive(Default)]
pub(super) struct Following {
    /// The epoch whose messages are read. 0: none yet.
    term: u64,
    /// The next epoch, and when this process learned that there is a later one.
    next: Option<(u64, u64)>,
}

impl Following {
    /// Whether the member was primary in an earlier term and has not noticed its end.
    fn is_superseded(&self, group: GroupRecord) -> bool {
        group.term().is_some_and(|epoch| epoch < self.term)
    }

    fn reads(&self, source: &Source, group: GroupRecord) -> bool {
        if source.terms.front().is_some_and(|(epoch, _)| *epoch == self.term) {
            return true;
        }
        // Over a stream, what was committed arrives later. And what a dead member left was of a term, if there is any.
        group.role == Role::Standby && (source.rung() == Rung::Stream || source.writer == WriterState::Gone)
    }
}

impl Subscriber {
    /// Looks at the roles of all sources again, after news.
    pub(super) fn regroup(&mut self) {
        let Some(following) = &mut self.following else { return };
        // The earliest one, because its term may be over already, and unread.
        let epochs = self.sources.iter().flat_map(|source| &source.terms).map(|(epoch, _)| *epoch);
        let learned = following.next.map(|(_, learned)| learned);
        following.next = (epochs.filter(|epoch| *epoch > following.term).min())
            .map(|epoch| (epoch, learned.unwrap_or_else(clock::monotonic_ns)));
        let mut over = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            let Some(group) = source.group else { continue };
            let later = source.terms.iter().find(|(epoch, _)| *epoch > following.term);
            source.stop = later.map(|(_, first)| *first);
            let spent = following.is_superseded(group) || (source.stale && later.is_none());
            source.held = spent || !following.reads(source, group);
            if spent && source.writer == WriterState::Gone {
                over.push(index);
            }
        }
        for index in over.into_iter().rev() {
            self.end(index, EndReason::Died);
        }
    }

    /// Everything of this term was read. Says whether there is a later one, which is read from now on.
    #[inline]
    pub(super) fn advance(&mut self) -> bool {
        let Some((epoch, _)) = self.following.as_mut().and_then(|following| following.next.take()) else {
            return false;
        };
        self.begin_term(epoch);
        true
    }

    #[cold]
    fn begin_term(&mut self, term: u64) {
        if let Some(following) = &mut self.following {
            following.term = term;
        }
        for index in (0..self.sources.len()).rev() {
            let source = &mut self.sources[index];
            while source.terms.front().is_some_and(|(epoch, _)| *epoch < term) {
                source.terms.pop_front();
            }
            if let Some((epoch, first)) = source.terms.front().copied()
                && source.stale
                && epoch == term
            {
                source.stop = Some(first);
                source.stale = false;
                self.pass_over(index);
            }
        }
        self.regroup();
    }

    /// Whether this batch was committed by a primary after this process had learned of the next one.
    #[inline]
    pub(super) fn is_late(&self, index: usize, batch_time: u64) -> bool {
        let next = self.following.as_ref().and_then(|following| following.next);
        let primary = || self.sources[index].group.is_some_and(|group| group.role == Role::Primary);
        next.is_some_and(|(_, learned)| batch_time > learned) && primary()
    }

    /// The record of a source has another role.
    pub(super) fn role_changed(&mut self, id: &str, group: Option<GroupRecord>) {
        let Some(source) = self.sources.iter_mut().rfind(|source| source.record().id == id) else { return };
        let superseded =
            |group| self.following.as_ref().is_some_and(|following| following.is_superseded(group));
        source.stale |= source.group != group && source.group.is_some_and(superseded);
        source.note_role(group);
    }

    /// Passes over what was committed after a term and before the next one of the same source, which begins at `stop`.
    fn pass_over(&mut self, index: usize) {
        let source = &mut self.sources[index];
        let (mut slab, mut table) = (vec![0; SLAB], vec![Entry::default(); ENTRIES]);
        for _ in 0..MOST_READS {
            match source.read(&mut slab, 0, &mut table) {
                Ok(Read::Messages { .. }) => {}
                Ok(Read::Large(_)) => source.reader_mut().skip_large(),
                Ok(Read::Needs(bytes)) => slab.resize(bytes, 0),
                Ok(Read::Empty) => break,
                Err(fault) => {
                    let error = fault_error(fault, &source.record().service);
                    return self.end(index, EndReason::Failed(error));
                }
            }
        }
        if let Some(last) = source.reader().delivered().and_then(|next| next.checked_sub(1)) {
            let _ = source.acknowledge_through(last, &self.inbox);
        }
        source.newly_missed();
    }
}
