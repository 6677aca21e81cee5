//! The shared-memory protocol of ringbell: one publisher, many subscribers, no operating system.
//!
//! This crate knows two pieces of memory and nothing else. The *data segment* is written by the publisher alone and
//! holds the frames; the *control segment* is written by the subscribers too and holds a slot for each of them, the
//! word that says who sleeps, and the flag that says whether the publisher waits for room. Who maps them, who is
//! alive and how a sleeper is woken are questions for the crate above: [`Producer`] asks a [`Peers`] whether a slot's
//! owner lives, and hands back a mask of the doorbells that are to be rung.
//!
//! # What is guaranteed
//!
//! * A frame exists once `head` has moved past it, not before: a publisher that dies while it writes leaves nothing
//!   torn, and what it had committed can still be read.
//! * `floor` is stored before the first byte that it gives up is overwritten. A reader copies, then looks at `floor`
//!   again, then parses its private copy: it never interprets bytes that may have changed under it.
//! * Under [`Overflow::Block`] no frame that a live subscriber has still to read is overwritten. There a message can be
//!   larger than the ring: it goes through in pieces, and whoever reads gets all of it or none.
//! * No call waits for another process. There is no lock in shared memory, so none can be left behind.
//! * Every word that a peer can write is read once, checked, then used; every loop is bounded by a local number.
//!
//! # What is not
//!
//! * A subscriber of [`Overflow::DropOldest`] that falls behind by almost the capacity misses messages. It is told
//!   exactly how many.
//! * Subscribers that share a control segment trust each other: one of them can pretend to be another. Whoever is not
//!   trusted is a guest, and has a control segment of its own.
//!
//! The layout and the protocol, with numbered invariants that the `SAFETY` comments cite, are in `docs/protocol.md`.

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
pub use producer::{Config, Peers, Producer, Pushed, Sent, Span};
pub use read::{Entry, Fault, Large, Piece, Read};
pub use slot::{SlotState, SlotView, Vacancy};
