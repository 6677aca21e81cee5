//! The shared-memory protocol of ringbell: one publisher, many subscribers, no operating system.
//!
//! This crate knows two pieces of memory and nothing else. Only the publisher writes the *data segment*, which holds the
//! frames. Subscribers write the *control segment*, too. It holds a slot for each of them, the word that says which
//! doorbells have sleepers, and the flag that says whether the publisher waits for room. The crate above maps the
//! segments, knows which processes are alive, and wakes sleepers. [`Producer`] asks a [`Peers`] whether a slot's
//! owner is alive, and returns a mask of the doorbells that must be rung.
//!
//! # What is guaranteed
//!
//! * A frame exists once `head` has moved past it, and not before. So a publisher that dies while it writes leaves
//!   nothing torn, and what it had committed can still be read.
//! * `floor` is stored before the first byte that it gives up is overwritten. A reader copies, then loads `floor`
//!   again, then parses its private copy. So it never interprets bytes that may have changed in the meantime.
//! * Under [`Overflow::Block`] no frame that a live subscriber must still read is overwritten. There a message can be
//!   larger than the ring: it goes through in pieces, and a reader gets all of it or nothing.
//! * No call waits for another process. There is no lock in shared memory, so a dead process cannot leave one behind.
//! * Every word that a peer can write is read once, checked, then used. Every loop is bounded by a local number.
//!
//! # What is not guaranteed
//!
//! * A subscriber of [`Overflow::DropOldest`] that falls behind by almost the capacity misses messages. It learns
//!   exactly how many.
//! * Subscribers that share a control segment trust each other: one of them can pretend to be another. A subscriber that
//!   is not trusted is a guest, and has a control segment of its own.
//!
//! `docs/protocol.md` has the layout, the protocol, and the numbered invariants that the `SAFETY` comments cite.

#![no_std]

extern crate alloc;

mod account;
mod consumer;
mod error;
mod feed;
mod frame;
mod guests;
pub mod layout;
mod memory;
mod pieces;
mod producer;
mod read;
mod slot;
mod sync;
pub mod table;
mod wake;
mod walk;

pub use account::Report;
pub use consumer::{Consumer, Position, Start, Stretch};
pub use error::Error;
pub use feed::Feed;
pub use frame::{BATCH_OVERHEAD, MAX_LARGE, MESSAGE_OVERHEAD, max_message, padded};
pub use guests::{Admitted, MAX_GUESTS};
pub use layout::Overflow;
pub use memory::{ControlMemory, DataMemory, Identity, PublisherCounters};
pub use producer::{Config, Departure, Ending, Occupant, Peers, Producer, Pushed, Sent, Span};
pub use read::{Entry, Fault, Large, Newest, Piece, Read};
pub use slot::{SlotState, SlotView, Vacancy};
