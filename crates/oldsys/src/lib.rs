//! System calls that fail, for tests: those that an older kernel or Docker's profile lacks, as a table ([`compile`]), and
//! the n-th call of a kind ([`nth`]). The program `oldsys` runs any command under a table. The core's test `nth` uses the
//! other. Nothing here needs a privilege.

pub mod nth;
mod program;
pub mod table;

pub use program::compile;
