//! Events: what happens to the instances of services. Sinks: what receives the events on the bus thread.
//!
//! The registry makes [`ServiceEvent`]s and gives them to each [`Sink`]. A watch and a topic's follower are sinks.

use std::sync::Arc;

use crate::error::Error;
use crate::reactor::Thread;
use crate::record::Record;

/// What happened to one instance of a service.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceEvent {
    /// The instance is there: its record is whole and believed, and its owner lives.
    Added(Arc<Record>),
    /// The record's content has changed.
    Updated(Arc<Record>),
    /// The instance is gone: it was withdrawn, its owner died, or the bus directory vanished. Holds the last known
    /// record.
    Removed(Arc<Record>),
}

impl ServiceEvent {
    /// The record that the event is about.
    pub fn record(&self) -> &Arc<Record> {
        match self {
            ServiceEvent::Added(record) | ServiceEvent::Updated(record) | ServiceEvent::Removed(record) => {
                record
            }
        }
    }
}

/// Takes registry events on the bus thread. The present records come first, as `Added`. It must not block.
pub(crate) trait Sink: Send {
    /// Takes one event that the filter lets through.
    fn event(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>);

    /// The directory, or the record of a service that the filter lets through, cannot be read for some time now, so
    /// events may be missing. It is told once until that can be read again.
    fn unreadable(&mut self, error: &Error);
}
