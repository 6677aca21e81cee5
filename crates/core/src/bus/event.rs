//! What happens to the instances of services, and what hears of it on the bus thread.
//!
//! The registry makes [`ServiceEvent`]s and gives them to each [`Sink`]; a watch and a topic's follower are sinks.

use std::sync::Arc;

use crate::reactor::Thread;
use crate::record::Record;

/// What happened to one instance of a service.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceEvent {
    /// It is there: whole, believed, its owner alive.
    Added(Arc<Record>),
    /// It says something else now.
    Updated(Arc<Record>),
    /// It is gone: withdrawn, dead, or the bus directory vanished. The last record that was known.
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

/// Takes registry events, on the bus thread: first the present records as `Added`. Must not block.
pub(crate) trait Sink: Send {
    /// One event that the filter lets through.
    fn event(&mut self, event: &ServiceEvent, thread: &mut Thread<'_>);
}
