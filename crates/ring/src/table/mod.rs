//! A table of requests: turns that members of many processes take, and that survive the death of any of them.
//!
//! Locks, semaphores, flags and sharded mutexes are all this table. A *cell* is what is taken. A *member* is a process
//! (one opening of the name); a lock on its bytes of the memory proves that it lives. A *request* lies in a place of its
//! member's, and is waiting or granted.
//!
//! # How it works
//!
//! The *gate* of a cell (`words`) is one word. It names who holds the cell alone, and who *combines*: looks at all
//! requests and grants, in the order of their tickets, what fits (`combine`). Nobody waits for a combiner. Who finds
//! one at work marks the gate as dirty and goes on; the combiner then looks again before it gives the gate back.
//!
//! A cell that nobody else wants is taken and given back by one compare-and-swap each (`seat`). When a holder gives a
//! cell back, a process that runs may take it before a waiter that has to be woken first: that is what makes a
//! contended lock fast. A waiter that lost so a few times gets the cell handed over. Permits and shared holds never
//! pass a waiter.
//!
//! # Death
//!
//! A process may die between any two stores. What it held is in the gate (alone) or in its own words (permits, shared
//! holds), so whoever has found it dead ([`TableMemory::reap`]) gives that back, takes over the gate if it died while it
//! combined, and goes on. Every step of that can be begun again by somebody else. What a combiner knows besides is
//! computed anew in each look.
//!
//! # Hostile words
//!
//! Every member can write every word, so one that breaks the rules can break this table: grant itself everything, or
//! nobody anything. It cannot do more. Every number is checked, every loop has a bound, and no address comes from here.

mod combine;
mod layout;
mod members;
mod memory;
mod reap;
mod seat;
mod words;

#[cfg(loom)]
pub use crate::sync::mortal::{Died, lives, stands_still};
pub use layout::{TABLE_MAGIC, member_lock_byte, table_len};
pub use members::Members;
pub use memory::{Kind, Shape, TableMemory};
pub use seat::{Seat, Taken};
pub use words::{MAX_CELLS, MAX_MEMBERS, MAX_PERMITS, REQUESTS, Want};
