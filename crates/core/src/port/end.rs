//! How one directed flow ends, and what its reader has to know of the writer to tell.
//!
//! The one answer to "is it at its end?": `Reader::end` gives it, topics and channels turn it into their notices. Plain data.

/// What is known of the writer by other ways than the flow itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WriterState {
    /// It lives, as far as is known.
    #[default]
    Present,
    /// Its stream was cut off, and the bus thread was asked what became of it.
    Asked,
    /// It lives, and its stream is lost.
    Unreachable,
    /// It has closed or died: nothing will follow.
    Gone,
}

/// How a flow has ended, once everything that can be read was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The writer closed it.
    Closed,
    /// The writer is gone, without having closed it.
    Died,
    /// The stream was cut off, and the writer lives.
    Disconnected,
    /// The stream was cut off, and what became of the writer is not known yet.
    Severed,
    /// The writer is gone, and what it left cannot be read.
    Unreadable,
}
