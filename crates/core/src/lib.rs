//! Processes on one Linux machine find each other without a broker and stream messages through shared memory.

pub mod bus;
pub mod channel;
pub mod doctor;
mod error;
mod handshake;
mod port;
mod reactor;
mod record;
pub mod segment;
mod sys;
pub mod topic;

pub use error::{CODES, Error, Result};

/// How a peer was acquired: the rungs of the ladder, and what stood in the way of the better ones.
pub mod acquire {
    pub use crate::record::{Fallback, Rung};
    pub use crate::sys::eventfd::EventFd;
}
