//! The server's side of one handshake, from a client's first datagram until the connection stays or ends.
//!
//! Invariants: nothing is made or sent before the peer was checked, as the kernel knows it. A request is always
//! read before its connection is closed in order. After a reply, the server waits for the client's next datagram or
//! for its end, so that no honest client sees a reset. Descriptors that a client sends are never accepted. One
//! deadline limits the whole handshake. Only a [`Service`] knows what a client is given. `listener` drives it: it
//! calls `advance` when the socket is readable or the time has come.

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

/// How long a client may take for the whole handshake.
const DEADLINE: Duration = Duration::from_secs(2);
/// The pause before another try, when the kernel would not send at the moment.
const RETRY: Duration = Duration::from_millis(20);
/// After this time, a client that has sent nothing may be dropped for others. An honest client sends with its next
/// system call after `connect`.
const IDLE_TIMEOUT: Duration = Duration::from_millis(25);
/// After this time, a client that was answered and owes the next datagram may be dropped for others. It may have to
/// wait for a processor.
const REPLY_TIMEOUT: Duration = Duration::from_millis(50);

/// The class of a peer, as seen by the process that serves. The kernel tells its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerClass {
    /// The same user.
    Own,
    /// Root, which could take everything anyway.
    Root,
    /// Another user, which is let in.
    Other,
    /// Another user, which is not let in.
    Stranger,
}

/// What an endpoint gives to clients over the socket of its record.
pub(crate) trait Service: Send + Sync + 'static {
    /// What was made for a client and does not belong to it yet.
    type Offer: Send;

    /// What the endpoint is called in a refusal: `publisher`, `server`.
    const ROLE: &'static str;
    /// Whether descriptors may come in over a connection once its handshake is done.
    const TAKES_DESCRIPTORS: bool;

    /// Which other users are let in.
    fn granted(&self) -> Option<&Granted>;

    /// Answers the first datagram of a client that is let in and that asked for this instance.
    fn open(&self, peer: &Peer, class: PeerClass, request: Datagram, now: Instant) -> Answer<Self::Offer>;

    /// Answers the next datagram of a client that was sent an offer.
    fn proceed(&self, offer: Self::Offer, datagram: Datagram) -> Answer<Self::Offer>;

    /// What is sent with an offer, and what follows then.
    fn message<'a>(&'a self, offer: &'a Self::Offer) -> (Datagram, Vec<BorrowedFd<'a>>, Then);

    /// The handshake is done, and the connection stays. If anything fails here, the client sees the end of its
    /// connection, and tries again.
    fn admit(&self, socket: ForkGuarded, peer: Peer, offer: Self::Offer);
}

/// The answer to a client's datagram.
pub(crate) enum Answer<O> {
    /// Send this offer.
    Offer(O),
    /// The handshake is done.
    Admit(O),
    /// Refuse, for this reason. Then the client closes.
    Refuse(Refusal, String),
    /// The client has broken the protocol.
    HangUp,
}

/// What follows after an offer was sent.
pub(crate) enum Then {
    /// The client has to answer.
    Expect,
    /// The handshake is done, and the connection stays.
    Admit,
    /// The handshake is done, and the client closes.
    Close,
}

/// What all handshakes on one socket share.
pub(crate) struct Terms<S> {
    service: Arc<S>,
    /// The instance that the socket is named after. None: it has another kind of name.
    instance: Option<[u8; 16]>,
    uid: u32,
}

impl<S: Service> Terms<S> {
    pub(crate) fn new(service: Arc<S>, listener: BorrowedFd<'_>) -> Terms<S> {
        let name = seqpacket::bound_name(listener);
        let instance = name.and_then(|name| id_bytes(name.strip_suffix(".sock")?));
        Terms { service, instance, uid: nix::unistd::geteuid().as_raw() }
    }

    /// Whether a user may have any number of handshakes.
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
    /// It is not in a forked child: an epoll forgets a socket only when its last copy is closed.
    socket: ForkGuarded,
    peer: Peer,
    stage: Stage<S::Offer>,
    accepted: Instant,
    /// The time of the last answer.
    answered: Instant,
}

enum Stage<O> {
    /// Nothing has come yet.
    Silent,
    /// An offer that could not be sent yet: there are too many descriptors in flight.
    Owing { offer: O, next: Instant },
    /// An offer was sent. The client owes the next datagram.
    Offered(O),
    /// The handshake is done, and the connection stays.
    Admitted(O),
    /// The last datagram was sent. The client has to close.
    Farewell,
}

/// The result of `advance`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandshakeStatus {
    /// Wait for the socket, but not longer than [`ServerHandshake::until`].
    Open,
    /// The connection has to be closed.
    Finished,
    /// The handshake is done, and the connection stays.
    Admitted,
}

impl<S: Service> ServerHandshake<S> {
    pub(crate) fn new(socket: OwnedFd, peer: Peer, now: Instant) -> ServerHandshake<S> {
        // What a socket inherits from its listener is not relied on.
        if S::TAKES_DESCRIPTORS {
            seqpacket::allow_rights(socket.as_fd());
        } else {
            seqpacket::refuse_rights(socket.as_fd());
        }
        let socket = ForkGuarded::new(socket);
        ServerHandshake { socket, peer, stage: Stage::Silent, accepted: now, answered: now }
    }

    pub(super) fn uid(&self) -> u32 {
        self.peer.uid
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// From when on this handshake may be dropped for others, if all places are taken and the client owes a
    /// datagram.
    pub(super) fn droppable_from(&self) -> Option<Instant> {
        match self.stage {
            Stage::Silent => Some(self.accepted + IDLE_TIMEOUT),
            Stage::Offered(_) | Stage::Farewell => Some(self.answered + REPLY_TIMEOUT),
            Stage::Owing { .. } | Stage::Admitted(_) => None,
        }
    }

    /// The latest time for the next `advance`.
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
                // What follows in the socket belongs to the connection.
                return HandshakeStatus::Admitted;
            }
            let mut buffer = [0; LENGTH];
            match scm::receive_plain(&self.socket, &mut buffer) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => return HandshakeStatus::Open,
                Ok(length) if length > 0 && self.on_datagram(&buffer[..length], terms, now) => {}
                // The end, an error, a datagram that is too long, or descriptors, which are not allowed here.
                _ => return HandshakeStatus::Finished,
            }
        }
    }

    /// Takes over an admitted connection. Its socket is no longer waited for here.
    pub(super) fn admit(self, terms: &Terms<S>) {
        if let Stage::Admitted(offer) = self.stage {
            terms.service.admit(self.socket, self.peer, offer);
        }
    }

    /// Takes one datagram. False: the connection has to end.
    fn on_datagram(&mut self, bytes: &[u8], terms: &Terms<S>, now: Instant) -> bool {
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

    /// Sends an offer, now or later. False: the client is gone.
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
            // This user has too many descriptors in flight, or the kernel is short of memory. Other handshakes will
            // finish and make room.
            Err(Errno::ETOOMANYREFS | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.stage = Stage::Owing { offer, next: now + RETRY };
            }
            Err(_) => return false,
        }
        true
    }
}
