//! System calls that fail, for tests: an older kernel's, or Docker's, as a table ([`compile`]), and the n-th call of a
//! kind ([`nth`]). The program `oldsys` runs any command under either. Nothing here needs a privilege.

pub mod nth;
mod program;
pub mod table;

pub use program::compile;
