//! What readers report besides values: writers that come and go. Plain values.

use std::sync::Arc;

use crate::error::Error;
use crate::record::{Fallback, Record, Rung};
use crate::topic::{EndReason, Notice};

/// What a reader of a state reports besides values.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StateNotice {
    /// A writer was found. Its values are read once it has set one.
    Attached {
        /// Its record.
        record: Arc<Record>,
        /// How its memory was acquired.
        rung: Rung,
        /// Why no better rung was used.
        fallbacks: Vec<Fallback>,
    },
    /// A writer has ended. The last value stays readable, unless the writer broke the shared memory.
    Ended {
        /// Its record.
        record: Arc<Record>,
        /// Why it ended.
        reason: EndReason,
    },
    /// A writer could not be attached, or the bus directory cannot be read (without a record). If time can help, it is
    /// tried again.
    Failed {
        /// Its record.
        record: Option<Arc<Record>>,
        /// Why.
        error: Error,
    },
    /// The stream of a writer that lives was lost, and could not be connected again.
    GivenUp {
        /// Its record.
        record: Arc<Record>,
        /// How many tries there were.
        tries: u32,
        /// The error of the last try.
        error: Error,
    },
}

impl StateNotice {
    /// The notice of a subscriber in the words of a state. Messages are missed all the time, so that is no news.
    pub(super) fn of(notice: Notice) -> Option<StateNotice> {
        Some(match notice {
            Notice::Attached { record, rung, fallbacks, .. } => {
                StateNotice::Attached { record, rung, fallbacks }
            }
            Notice::Ended { record, reason, .. } => StateNotice::Ended { record, reason },
            Notice::GivenUp { record, tries, error } => StateNotice::GivenUp { record, tries, error },
            Notice::Failed { record, error } => StateNotice::Failed { record: Some(record), error },
            Notice::Unreadable { error } => StateNotice::Failed { record: None, error },
            Notice::Missed { .. } => return None,
        })
    }
}
