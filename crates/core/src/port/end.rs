//! How one directed flow ends, and what its reader must know of the writer to tell that.
//!
//! `Reader::end` alone answers the question "has the flow ended?". Topics and channels turn its answer into their
//! notices. This file is plain data.

use crate::error::Error;

/// What is known of the writer from other sources than the flow itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WriterState {
    /// It lives, as far as is known.
    #[default]
    Present,
    /// Its stream was cut off. The bus thread was asked whether the writer lives.
    Asked,
    /// It lives, but its stream is lost.
    Unreachable,
    /// It has closed or died. Nothing will follow.
    Gone,
}

/// How a flow has ended. It ends only after everything that can be read was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The writer closed it.
    Closed,
    /// The writer is gone, and did not close the flow.
    Died,
    /// The stream was cut off, but the writer lives.
    Disconnected,
    /// The stream was cut off. It is not known yet whether the writer lives.
    Severed,
    /// The writer is gone, and what it left cannot be read.
    Unreadable,
}

impl End {
    /// The error that reports [`End::Unreadable`].
    pub(crate) fn unreadable() -> Error {
        Error::CorruptPeer { what: "what it left behind cannot be read".into() }
    }
}
