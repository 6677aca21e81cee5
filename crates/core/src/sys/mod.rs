//! The kernel objects, one in each file. Only this folder and the mappings of `segment` contain `unsafe` in this crate.
//!
//! Every function here is safe to call, and returns owned descriptors. Every descriptor is close-on-exec. Nothing here
//! knows what a record, a topic or a peer is.

#![allow(unsafe_code)]

pub(crate) mod aio;
pub(crate) mod clock;
pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod fork;
pub(crate) mod generation;
pub(crate) mod inotify;
pub(crate) mod lock;
pub(crate) mod memfd;
pub(crate) mod mmap;
pub(crate) mod pidfd;
pub(crate) mod prctl;
pub(crate) mod proc;
pub(crate) mod random;
pub(crate) mod scm;
pub(crate) mod seqpacket;
pub(crate) mod tmpfile;
