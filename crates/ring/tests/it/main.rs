//! The tests of the crate from outside, without loom. They are one program, because linking takes longer than most of them.
#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod barrier_model;
mod basics;
mod durable;
mod feed;
mod guests;
mod hostile;
mod large;
mod model;
mod occupants;
mod stress;
mod table_hostile;
mod table_stress;
