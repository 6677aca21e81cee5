//! The serving side of one handshake, from a client's first datagram until its connection stays or ends.
//!
//! Invariants: nothing is made or sent before the kernel's word on the peer was checked; a request is always read before the
//! connection is closed in order, and a reply is followed by a wait for the client's word or its end, so that no honest client sees
//! a reset; descriptors that a client sends are never taken in; one deadline bounds it all. What is given to a client is the
//! business of a [`Service`]. Driven by `listener`: `advance` when the socket is readable or the time has come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::layout::VERSION;

use super::wire::{Datagram, Fault, LENGTH, Refusal, id_bytes};
use crate::record::Granted;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket::{self, Peer};

/// How long a client may take for all of it.
const DEADLINE: Duration = Duration::from_secs(2);
/// When to try again what the kernel would not send at the moment.
const RETRY: Duration = Duration::from_millis(20);
/// After this, a client that has said nothing gives way. An honest one says it with the next system call after `connect`.
const IDLE_TIMEOUT: Duration = Duration::from_millis(25);
/// After this, one that was answered and owes the next word. It may have to wait for a processor.
const REPLY_TIMEOUT: Duration = Duration::from_millis(50);

/// What a peer is to the process that serves, by the kernel's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerClass {
    /// Its own user.
    Own,
    /// Could take everything anyway.
    Root,
    /// Another user that is let in.
    Other,
    /// Another user.
    Stranger,
}

/// What an endpoint gives to clients over the socket of its record.
pub(crate) trait Service: Send + Sync + 'static {
    /// What was made for a client and is not its own yet.
    type Offer: Send;

    /// What the endpoint is called in a refusal: `publisher`, `server`.
    const ROLE: &'static str;

    /// Prepares each socket that clients connect to.
    fn prepare(&self, _listener: BorrowedFd<'_>) {}

    /// Which other users may come.
    fn granted(&self) -> Option<&Granted>;

    /// Answers the first datagram of a client that may come and that means this instance.
    fn open(&self, peer: &Peer, class: PeerClass, request: Datagram, now: Instant) -> Answer<Self::Offer>;

    /// Answers the next datagram, after the client was sent an offer.
    fn proceed(&self, offer: Self::Offer, datagram: Datagram) -> Answer<Self::Offer>;

    /// What is sent with an offer, and what follows then.
    fn message<'a>(&'a self, offer: &'a Self::Offer) -> (Datagram, Vec<BorrowedFd<'a>>, Then);

    /// The handshake is done, and the connection stays. Whatever fails here, the client sees its connection end, and tries again.
    fn admit(&self, socket: ForkGuarded, peer: Peer, offer: Self::Offer);
}

/// What a client's datagram leads to.
pub(crate) enum Answer<O> {
    /// Send this offer.
    Offer(O),
    /// The handshake is done.
    Admit(O),
    /// No, for this reason; then the client closes.
    Refuse(Refusal, String),
    /// The client has broken the protocol.
    HangUp,
}

/// What follows once an offer was sent.
pub(crate) enum Then {
    /// The client answers.
    Expect,
    /// The handshake is done, and the connection stays.
    Admit,
    /// The handshake is done, and the client closes.
    Close,
}

/// What every handshake on one socket shares.
pub(crate) struct Terms<S> {
    service: Arc<S>,
    /// The instance that the socket is named after; none when it has another kind of name.
    instance: Option<[u8; 16]>,
    uid: u32,
}

impl<S: Service> Terms<S> {
    pub(crate) fn new(service: Arc<S>, listener: BorrowedFd<'_>) -> Terms<S> {
        let name = seqpacket::bound_name(listener);
        let instance = name.and_then(|name| id_bytes(name.strip_suffix(".sock")?));
        Terms { service, instance, uid: nix::unistd::geteuid().as_raw() }
    }

    /// Whether a user may take as many handshakes as it likes.
    pub(super) fn is_trusted(&self, uid: u32) -> bool {
        uid == self.uid || uid == 0
    }

    fn class(&self, peer: &Peer) -> PeerClass {
        match self.service.granted() {
            _ if peer.uid == self.uid => PeerClass::Own,
            _ if peer.uid == 0 => PeerClass::Root,
            Some(granted) if granted.permits(peer) => PeerClass::Other,
            _ => PeerClass::Stranger,
        }
    }
}

/// One accepted connection.
pub(crate) struct ServerHandshake<S: Service> {
    /// Not in a forked child: an epoll forgets a socket only when its last copy is closed.
    socket: ForkGuarded,
    peer: Peer,
    stage: Stage<S::Offer>,
    accepted: Instant,
    /// When it was answered last.
    answered: Instant,
}

enum Stage<O> {
    /// Nothing has come yet.
    Silent,
    /// An offer that could not be sent yet, for want of room for descriptors in flight.
    Owing { offer: O, next: Instant },
    /// An offer is sent: the client owes the next word.
    Offered(O),
    /// The handshake is done, and the connection stays.
    Admitted(O),
    /// The last word is sent: waits for the client to close.
    Farewell,
}

/// What `advance` leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandshakeStatus {
    /// Wait for the socket, at most until [`ServerHandshake::until`].
    Open,
    /// The connection is to be closed.
    Finished,
    /// The handshake is done, and the connection stays.
    Admitted,
}

impl<S: Service> ServerHandshake<S> {
    pub(crate) fn new(socket: OwnedFd, peer: Peer, now: Instant) -> ServerHandshake<S> {
        let socket = ForkGuarded::new(socket);
        ServerHandshake { socket, peer, stage: Stage::Silent, accepted: now, answered: now }
    }

    pub(super) fn uid(&self) -> u32 {
        self.peer.uid
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// When it gives way to others, if all places are taken and the client is to speak.
    pub(super) fn gives_way(&self) -> Option<Instant> {
        match self.stage {
            Stage::Silent => Some(self.accepted + IDLE_TIMEOUT),
            Stage::Offered(_) | Stage::Farewell => Some(self.answered + REPLY_TIMEOUT),
            Stage::Owing { .. } | Stage::Admitted(_) => None,
        }
    }

    /// When it is to be advanced at the latest.
    pub(super) fn until(&self) -> Instant {
        let deadline = self.accepted + DEADLINE;
        if let Stage::Owing { next, .. } = self.stage { next.min(deadline) } else { deadline }
    }

    /// Does what can be done without waiting.
    pub(crate) fn advance(&mut self, terms: &Terms<S>, now: Instant) -> HandshakeStatus {
        if now >= self.accepted + DEADLINE {
            return HandshakeStatus::Finished;
        }
        if matches!(self.stage, Stage::Owing { next, .. } if next <= now)
            && let Stage::Owing { offer, .. } = std::mem::replace(&mut self.stage, Stage::Farewell)
            && !self.send(offer, terms, now)
        {
            return HandshakeStatus::Finished;
        }
        loop {
            if matches!(self.stage, Stage::Admitted(_)) {
                // What follows in the socket is the connection's.
                return HandshakeStatus::Admitted;
            }
            let mut buffer = [0; LENGTH];
            match scm::receive_plain(&self.socket, &mut buffer) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => return HandshakeStatus::Open,
                Ok(length) if length > 0 && self.hear(&buffer[..length], terms, now) => {}
                // The end, an error, a datagram that is too long, or descriptors that nobody asked for.
                _ => return HandshakeStatus::Finished,
            }
        }
    }

    /// Takes over an admitted connection, whose socket is no longer waited for here.
    pub(super) fn admit(self, terms: &Terms<S>) {
        if let Stage::Admitted(offer) = self.stage {
            terms.service.admit(self.socket, self.peer, offer);
        }
    }

    /// Takes one datagram; false ends the connection.
    fn hear(&mut self, bytes: &[u8], terms: &Terms<S>, now: Instant) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Farewell);
        if matches!(stage, Stage::Farewell) {
            return false;
        }
        let class = terms.class(&self.peer);
        let answer = match (stage, Datagram::decode(bytes)) {
            _ if class == PeerClass::Stranger => {
                let text = format!("this {} is not for processes of this user", S::ROLE);
                Answer::Refuse(Refusal::NotPermitted, text)
            }
            (Stage::Silent, Err(Fault::Version(theirs))) => {
                let text = format!("this {} speaks version {VERSION}, not {theirs}", S::ROLE);
                Answer::Refuse(Refusal::Version, text)
            }
            (Stage::Silent, Ok(request)) if request.wants_another(terms.instance) => {
                Answer::Refuse(Refusal::WrongInstance, "another instance listens here".into())
            }
            (Stage::Silent, Ok(request)) => terms.service.open(&self.peer, class, request, now),
            (Stage::Offered(offer), Ok(datagram)) => terms.service.proceed(offer, datagram),
            _ => Answer::HangUp,
        };
        match answer {
            Answer::Offer(offer) => self.send(offer, terms, now),
            Answer::Admit(offer) => {
                self.stage = Stage::Admitted(offer);
                true
            }
            Answer::Refuse(refusal, text) => {
                self.answered = now;
                let refused = Datagram::Refused { refusal, version: VERSION, text };
                scm::send(&self.socket, &refused.encode(), &[]).is_ok()
            }
            Answer::HangUp => false,
        }
    }

    /// Sends an offer, now or in a while; false when the client is gone.
    fn send(&mut self, offer: S::Offer, terms: &Terms<S>, now: Instant) -> bool {
        let (datagram, fds, then) = terms.service.message(&offer);
        let sent = scm::send(&self.socket, &datagram.encode(), &fds);
        drop(fds);
        match sent {
            Ok(()) => {
                self.answered = now;
                self.stage = match then {
                    Then::Expect => Stage::Offered(offer),
                    Then::Admit => Stage::Admitted(offer),
                    Then::Close => Stage::Farewell,
                };
            }
            // This user has too many descriptors in flight, or the kernel is short of memory: others will finish.
            Err(Errno::ETOOMANYREFS | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.stage = Stage::Owing { offer, next: now + RETRY };
            }
            Err(_) => return false,
        }
        true
    }
}
