//! The tests of the crate from outside. They are one program, because linking takes longer than most of them. So many of them
//! run in one process at once: a test that changes or counts something of the whole process (its descriptors, its umask, a
//! fork) does so in a role, which is this program again. The role of a file is its test `role`. What takes all that a process
//! may have (`channel_storm`) is a program of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod bus_death;
mod bus_hostile;
mod bus_limits;
mod bus_publish;
mod bus_umask;
mod bus_watch;
mod channel;
mod claims;
mod headers;
mod hostile_stream_peers;
mod idle;
mod listen;
mod state;
mod state_faults;
mod state_keyed;
mod state_keyed_kills;
mod sync;
mod sync_unheard;
mod topic_acks;
mod topic_audience;
mod topic_bells;
mod topic_faults;
mod topic_large;
mod topic_stream;
mod turns;
