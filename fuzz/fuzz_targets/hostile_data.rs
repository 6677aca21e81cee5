//! See `fuzz/README.md`. The driver is shared with `crates/ring/tests/it/hostile.rs`.
#![no_main]

#[path = "../../crates/ring/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| support::hostile::data(bytes));
