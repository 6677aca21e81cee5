//! Whether the process behind a record lives. This is asked before and after each step that relies on it.
//!
//! Invariant: only the lock on the record's own file answers that. A pid never does. "No" is final for the record
//! in hand. "Yes" is true only at the moment of asking, so it is asked again afterwards. Called by the ladder, by
//! `reach`, and by direct acquisition. It never waits.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::verdict::Verdict;
use crate::Result;
use crate::bus::directory::Directory;
use crate::bus::scan::{Inspection, inspect};
use crate::record::Record;

/// Reads the record as it is on the bus now. `None`: its owner is dead or has withdrawn it.
///
/// # Errors
/// When that cannot be told: descriptors ran out, or the file with the record's name is not trustworthy.
pub(super) fn reread(directory: &Directory, record: &Record) -> Result<Option<Arc<Record>>> {
    let fd = directory.fd();
    match inspect(directory, fd.as_fd(), &record.file_name(), None) {
        Inspection::Alive(known) => Ok(known.record),
        Inspection::Dead | Inspection::Absent => Ok(None),
        Inspection::Bad(_, error) | Inspection::Later(error) => Err(error),
    }
}

/// Checks that the record is still there and that its owner lives.
pub(crate) fn check_alive(directory: &Directory, record: &Record) -> Result<(), Verdict> {
    match reread(directory, record)? {
        Some(now) if now.pid == record.pid => Ok(()),
        _ => Err(Verdict::Gone),
    }
}
