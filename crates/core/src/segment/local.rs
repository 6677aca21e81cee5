//! A topic's memory when none can or should be shared: anonymous memory of the publisher's own process.
//!
//! The layout is that of the segments, so the ring is the same. No other process can map it, and all subscribers
//! are streamed to. Invariant: a refusal (of memfd, its seals, or /proc) leads here; a resource that ran out does
//! not. Called when a publisher is made.

use std::sync::Arc;

use super::create::{OwnSegments, check_capacity, create};
use super::map::{MappedControl, MappedData};
use crate::{Error, Result};

/// Whether an error says that memory may not be shared here, and not that a resource ran out.
pub(crate) fn refused(error: &Error) -> bool {
    // A call that was interrupted, or found something busy, is no refusal: the next publisher would share again.
    let passing = [libc::EINTR, libc::EAGAIN, libc::EBUSY, libc::EIO];
    matches!(error, Error::Os { .. } | Error::UnsupportedPlatform { .. })
        && error.errno().is_none_or(|errno| !passing.contains(&errno))
}

/// What a publisher holds of a topic that is only streamed.
#[derive(Debug)]
pub(crate) struct LocalSegments {
    data: Arc<MappedData>,
    control: Arc<MappedControl>,
}

/// The memory of a publisher's topic.
#[derive(Debug)]
pub(crate) enum Segments {
    Shared(OwnSegments),
    Local(LocalSegments),
}

impl Segments {
    /// Makes shared memory. If that is refused and `local` is allowed, it makes local memory, and returns the
    /// reason, too.
    ///
    /// # Errors
    /// As [`create`].
    pub(crate) fn shared(capacity: usize, slots: usize, local: bool) -> Result<(Segments, Option<Error>)> {
        match create(capacity, slots) {
            Ok(own) => Ok((Segments::Shared(own), None)),
            Err(reason) if local && refused(&reason) => Ok((Segments::local(capacity, slots)?, Some(reason))),
            Err(error) => Err(error),
        }
    }

    /// Makes memory of this process alone.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` for a capacity that breaks the rule, `ERR_RINGBELL_RESOURCE`.
    pub(crate) fn local(capacity: usize, slots: usize) -> Result<Segments> {
        check_capacity(capacity)?;
        let data = Arc::new(MappedData::anonymous(capacity)?);
        let control = Arc::new(MappedControl::anonymous(slots)?);
        Ok(Segments::Local(LocalSegments { data, control }))
    }

    /// The frames, writable.
    pub(crate) fn data(&self) -> &Arc<MappedData> {
        match self {
            Segments::Shared(own) => &own.data,
            Segments::Local(local) => &local.data,
        }
    }

    /// The slots.
    pub(crate) fn control(&self) -> &Arc<MappedControl> {
        match self {
            Segments::Shared(own) => &own.control,
            Segments::Local(local) => &local.control,
        }
    }

    /// What peers can get of it.
    pub(crate) fn own(&self) -> Option<&OwnSegments> {
        match self {
            Segments::Shared(own) => Some(own),
            Segments::Local(_) => None,
        }
    }
}
