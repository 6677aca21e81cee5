//! What `server` has of whoever connects: one accepted connection, from its first datagram to the end of the handshake.
//!
//! Topics and channels shake hands in their own words, and share the door: how many may stand in it, for how long, and what
//! happens when descriptors run out. Nothing here blocks, and no visitor outlives its deadline.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::sys::seqpacket::Peer;

/// A handshake on the serving side. What is on offer, and to whom, stands in its terms.
pub(crate) trait Visitor: Send + Sized + 'static {
    /// What every handshake on one socket shares.
    type Terms: Send + 'static;

    /// Begins with a connection that was just accepted.
    fn new(socket: OwnedFd, peer: Peer, terms: &Self::Terms, now: Instant) -> Self;

    /// Its user, by the kernel's word.
    fn uid(&self) -> u32;

    /// Since when it has said nothing at all, if it has not.
    fn silent_since(&self) -> Option<Instant>;

    /// When it is to be advanced at the latest.
    fn until(&self) -> Instant;

    /// Does what can be done without waiting.
    fn advance(&mut self, terms: &Self::Terms, now: Instant) -> Fate;

    /// What to wait for.
    fn socket(&self) -> BorrowedFd<'_>;

    /// What becomes of one that is [`Fate::Admitted`]; its socket is no longer waited for here.
    fn admit(self, _terms: &Self::Terms) {}
}

/// What `advance` leads to.
pub(crate) enum Fate {
    /// Wait for the socket, at most until [`Visitor::until`].
    Open,
    /// The connection is to be closed.
    Finished,
    /// The handshake is done, and the connection stays.
    Admitted,
}
