//! What `server` has of whoever connects: one accepted connection, from its first datagram to the end of the handshake.
//!
//! Topics and channels shake hands in their own words, and share the door: how many may stand in it, for how long, and what
//! happens when descriptors run out. Nothing here blocks, and no visitor outlives its deadline.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::sys::seqpacket::Peer;

/// After this, a client that has said nothing gives way. An honest one says it with the next system call after `connect`.
pub(crate) const SILENCE: Duration = Duration::from_millis(25);
/// After this, one that was answered and owes the next word. It may have to wait for a processor.
pub(crate) const STALL: Duration = Duration::from_millis(50);

/// A handshake on the serving side. What is on offer, and to whom, stands in its terms.
pub(crate) trait Visitor: Send + Sized + 'static {
    /// What every handshake on one socket shares.
    type Terms: Send + 'static;

    /// Begins with a connection that was just accepted.
    fn new(socket: OwnedFd, peer: Peer, terms: &Self::Terms, now: Instant) -> Self;

    /// Its user, by the kernel's word.
    fn uid(&self) -> u32;

    /// When it gives way to others, if all places are taken and it is its turn to speak: [`SILENCE`] or [`STALL`] from then on.
    fn gives_way(&self) -> Option<Instant>;

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
