//! The reasons for which a segment is refused. The crate above turns them into its own typed errors.

use core::fmt;

/// Why a subscriber refused a segment when it attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The memory does not begin with ringbell's magic number.
    NotRingbell,
    /// The segment speaks another version of the protocol.
    Version {
        /// The version that this crate speaks.
        ours: u32,
        /// The version that the segment names.
        theirs: u32,
    },
    /// A word of the header differs from what the record announced.
    Mismatch {
        /// The header field that differs.
        field: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRingbell => f.write_str("the segment does not begin with ringbell's magic number"),
            Self::Version { ours, theirs } => {
                write!(f, "the segment speaks protocol version {theirs}, this side speaks {ours}")
            }
            Self::Mismatch { field } => write!(f, "the segment's {field} differs from what was announced"),
        }
    }
}

impl core::error::Error for Error {}
