//! The models of loom: `npm test -- --only loom`, or one of them by its name:
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ringbell-ring --profile model --test loom wake::`
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod data;
mod guests;
mod slots;
mod table;
mod wake;
