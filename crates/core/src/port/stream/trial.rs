//! Whether a connection can carry a stream at all. The doctor calls this, with both ends in hand. An endpoint never
//! does.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::server::ON_THE_WAY;
use super::wire::{HEAD, LONGEST, PIECE};
use crate::error::{Error, Result};
use crate::sys::{scm, seqpacket};

/// Sends a stream's longest datagram from the publisher's end to the subscriber's.
///
/// # Errors
/// The errors of `sendmsg` and `recvmsg`: EMSGSIZE if `net.core.wmem_max` is too small for such a datagram.
pub(crate) fn carries_a_stream(publisher: impl AsFd, subscriber: impl AsFd) -> Result<()> {
    seqpacket::widen(&publisher, ON_THE_WAY);
    scm::send_parts(&publisher, &[0; HEAD], &[0; PIECE])
        .map_err(|errno| Error::os("sendmsg", errno, "cannot send a stream's longest datagram"))?;
    let received = match scm::receive_plain(&subscriber, &mut [0; LONGEST]) {
        Ok(LONGEST) => return Ok(()),
        Err(scm::ReceiveError::Os(errno)) => errno,
        Ok(_) | Err(_) => Errno::EMSGSIZE,
    };
    Err(Error::os("recvmsg", received, "a stream's longest datagram does not come whole"))
}
