//! Descriptors as messages: each parcel is one datagram on a connection's socket, with its descriptors attached.
//!
//! ```text
//! 0  u32 magic "RBHS"  4  u16 version  6  u16 kind = 9  8  u32 number of descriptors  12  u32 bytes of data  16  data
//! ```
//!
//! `fd_socket` calls this. Invariant: a parcel arrives complete or not at all. The announced numbers are compared
//! with what came: if the receiver runs out of descriptors, only a flag says so, and a security module may remove
//! some of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ringbell_ring::layout::VERSION;

use crate::error::{Error, Result};
use crate::handshake::wire::MAGIC;
use crate::sys::scm;

/// Most bytes of data that can go with descriptors.
pub const MOST_PARCEL_BYTES: usize = 32 << 10;
/// Most descriptors in one parcel.
pub const MOST_DESCRIPTORS: usize = scm::MAX_FDS;

const KIND: u16 = 9;
const HEAD: usize = 16;
/// Bytes of a buffer that takes any parcel.
pub(super) const LONGEST: usize = HEAD + MOST_PARCEL_BYTES;

/// Descriptors that a peer has sent. They belong to the receiver, and are close-on-exec.
#[derive(Debug)]
pub struct Parcel {
    /// The data that came with them.
    pub data: Vec<u8>,
    /// The descriptors, in the sender's order.
    pub fds: Vec<OwnedFd>,
}

/// Refuses what no datagram can carry.
pub(super) fn check(data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    if !(1..=MOST_DESCRIPTORS).contains(&fds.len()) {
        return Err(Error::InvalidOption {
            option: "fds",
            value: fds.len().to_string(),
            rule: format!("it must be from 1 to {MOST_DESCRIPTORS} descriptors at a time"),
        });
    }
    if data.len() > MOST_PARCEL_BYTES {
        return Err(Error::MessageTooLarge { size: data.len(), limit: MOST_PARCEL_BYTES });
    }
    Ok(())
}

/// The error for descriptors that are not open: the kernel answers EBADF, but does not say for which one.
pub(super) fn not_open(fds: &[BorrowedFd<'_>]) -> Error {
    // All of them are named if the closed one was opened again in the meantime.
    let closed = fds.iter().find(|fd| !scm::is_open(**fd)).map_or(fds, std::slice::from_ref);
    let numbers: Vec<_> = closed.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    Error::InvalidOption {
        option: "fds",
        value: numbers.join(", "),
        rule: "it must be open file descriptors".into(),
    }
}

/// Sends a parcel without waiting.
///
/// # Errors
/// As [`scm::send`].
pub(super) fn send(socket: impl AsFd, data: &[u8], fds: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let mut bytes = Vec::with_capacity(HEAD + data.len());
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend((VERSION as u16).to_le_bytes());
    bytes.extend(KIND.to_le_bytes());
    bytes.extend((fds.len() as u32).to_le_bytes());
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    scm::send(socket, &bytes, fds)
}

/// Parses what came, or answers which rule it breaks.
pub(super) fn decode(bytes: &[u8], fds: Vec<OwnedFd>) -> std::result::Result<Parcel, &'static str> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk));
    let kind = u32::from(KIND) << 16 | VERSION & 0xffff;
    if number(0) != Some(MAGIC) || number(4) != Some(kind) {
        return Err("a datagram on its socket is no parcel");
    }
    let data = bytes.get(HEAD..).unwrap_or_default();
    if number(8) != Some(fds.len() as u32) || number(12) != Some(data.len() as u32) {
        return Err("a parcel did not arrive as it was sent");
    }
    Ok(Parcel { data: data.to_vec(), fds })
}
