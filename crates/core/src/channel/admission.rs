//! The server's side of a channel's handshake, and the book in which both sides enter their connections.
//!
//! Invariants: nothing is made for a client before its uid was checked and its request understood; a request is always read
//! before the connection is closed in order, so that no honest client sees a reset; one deadline bounds it all. What was
//! made is the client's once it has said ACK: then the connection is entered, and never before. On the bus thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::layout::VERSION;

use super::ends::{Ends, Flow, Sizes, Sockets, Streamed};
use super::link::{Link, Meeting, PeerBell, Wires};
use crate::acquire::Rung;
use crate::acquire::protocol::{Connect, Connected, Datagram, Fault, LENGTH, Refusal, SHARED_MEMORY, STREAM};
use crate::acquire::server::{Listening, instance_of};
use crate::acquire::visitor::{Fate, Visitor};
use crate::bus::thread::{Step, Thread, Watched};
use crate::bus::{Handle, Serve};
use crate::error::{Error, Result};
use crate::inbox::Inbox;
use crate::segment::{PairFds, PairShape, check_capacity, create_pair};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket::Peer;
use crate::sys::{random, seqpacket};

/// How long a client may take for all of it.
const DEADLINE: Duration = Duration::from_secs(2);
/// When to try again what the kernel would not send at the moment.
const RETRY: Duration = Duration::from_millis(20);

/// News from the bus thread.
pub(super) enum Arrival {
    /// A connection is there, and its descriptors are watched.
    Opened(Box<Link>),
    /// A connection could not be had.
    Failed(u32, Error),
    /// The bus was closed: nobody will arrive any more.
    Closed,
}

/// Where new connections are entered: their numbers, their count, and the way to the endpoint.
pub(super) struct Reception {
    inbox: Arc<Inbox<Arrival>>,
    next: AtomicU32,
    open: AtomicU32,
    most: u32,
}

impl Reception {
    pub(super) fn new(inbox: Arc<Inbox<Arrival>>, most: u32) -> Arc<Reception> {
        Arc::new(Reception { inbox, next: AtomicU32::new(1), open: AtomicU32::new(0), most })
    }

    pub(super) fn inbox(&self) -> &Inbox<Arrival> {
        &self.inbox
    }

    /// A number that no connection of this endpoint has had. Relaxed: it carries nothing.
    pub(super) fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a place, if there is one. Relaxed, as all of the count: it carries nothing.
    fn enter(self: &Arc<Self>) -> Option<Place> {
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < self.most).then(|| open + 1))
            .is_ok()
            .then(|| Place { reception: Some(Arc::clone(self)) })
    }

    /// Gives a place back.
    pub(super) fn left(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Enters a connection under its number.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when its descriptors cannot be watched.
    pub(super) fn open(&self, number: u32, meeting: Meeting, ends: Ends, wires: Wires) -> Result<()> {
        let link = Link::new(number, meeting, ends, wires, &self.inbox)?;
        self.inbox.put(Arrival::Opened(Box::new(link)));
        Ok(())
    }

    /// Takes the place of a connection that its own side has made.
    pub(super) fn enter_own(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// What the bus calls with each listening socket of the record.
    pub(super) fn serve(self: Arc<Self>, capacity: usize, offers: Vec<Rung>, handle: Handle) -> Serve {
        let uid = nix::unistd::geteuid().as_raw();
        Box::new(move |listener| {
            seqpacket::allow_rights(listener.as_fd());
            let id = instance_of(listener.as_fd());
            let (reception, offers, handle) = (Arc::clone(&self), offers.clone(), handle.clone());
            let terms = Terms { reception, id, uid, capacity, offers, handle };
            Ok(Box::new(Listening::<Admission>::new(listener, terms)?) as Box<dyn Watched>)
        })
    }
}

/// A place among a server's connections, given back when dropped.
struct Place {
    /// `None` once it is the connection's, which gives it back when it ends.
    reception: Option<Arc<Reception>>,
}

impl Place {
    fn keep(mut self) {
        self.reception = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(reception) = &self.reception {
            reception.left();
        }
    }
}

/// Tells the endpoint that the bus thread has ended.
pub(super) struct Sentinel(pub(super) Arc<Reception>);

impl Watched for Sentinel {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(None)
    }

    fn failed(&mut self, _error: &Error) {
        self.0.inbox.put(Arrival::Closed);
    }
}

/// What every handshake on one socket shares.
pub(super) struct Terms {
    reception: Arc<Reception>,
    /// The instance that the socket is named after.
    id: Option<[u8; 16]>,
    uid: u32,
    capacity: usize,
    offers: Vec<Rung>,
    handle: Handle,
}

/// A connection that was made for a client and is not entered yet.
struct Made {
    place: Place,
    ends: Ends,
    own_bell: Arc<EventFd>,
    peer_bell: PeerBell,
    /// Over streams: what begins once the connection is there.
    flow: Option<Flow>,
    /// Goes with the reply, before the bells.
    fds: Vec<OwnedFd>,
    reply: Datagram,
}

impl Made {
    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        if let PeerBell::Shared(bell) = &self.peer_bell {
            fds.extend([self.own_bell.as_fd(), bell.as_fd()]);
        }
        fds
    }
}

enum Stage {
    /// Nothing has come yet.
    Connect,
    /// CONNECTED could not be sent yet, for want of room for descriptors in flight.
    Owing { made: Box<Made>, next: Instant },
    /// CONNECTED is sent.
    Offered(Box<Made>),
    /// ACK has come.
    Done(Box<Made>),
    /// REFUSED is sent: waits for the client to close.
    Farewell,
}

/// One accepted connection on its way to be one.
pub(super) struct Admission {
    socket: ForkGuarded,
    peer: Peer,
    stage: Stage,
    accepted: Instant,
}

impl Visitor for Admission {
    type Terms = Terms;

    fn new(socket: OwnedFd, peer: Peer, _terms: &Terms, now: Instant) -> Admission {
        Admission { socket: ForkGuarded::new(socket), peer, stage: Stage::Connect, accepted: now }
    }

    fn uid(&self) -> u32 {
        self.peer.uid
    }

    fn silent_since(&self) -> Option<Instant> {
        matches!(self.stage, Stage::Connect).then_some(self.accepted)
    }

    fn until(&self) -> Instant {
        let deadline = self.accepted + DEADLINE;
        if let Stage::Owing { next, .. } = self.stage { next.min(deadline) } else { deadline }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn advance(&mut self, terms: &Terms, now: Instant) -> Fate {
        if now >= self.accepted + DEADLINE {
            return Fate::Finished;
        }
        if matches!(self.stage, Stage::Owing { next, .. } if next <= now)
            && let Stage::Owing { made, .. } = std::mem::replace(&mut self.stage, Stage::Farewell)
            && !self.offer(made, now)
        {
            return Fate::Finished;
        }
        loop {
            let mut buffer = [0; LENGTH];
            match scm::receive_plain(&self.socket, &mut buffer) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => return Fate::Open,
                Ok(length) if length > 0 && self.hear(&buffer[..length], terms, now) => {}
                // The end, an error, a datagram that is too long, or descriptors that nobody asked for.
                _ => return Fate::Finished,
            }
            if matches!(self.stage, Stage::Done(_)) {
                // What follows in the socket is the connection's.
                return Fate::Admitted;
            }
        }
    }

    fn admit(self, terms: &Terms) {
        let Stage::Done(made) = self.stage else { return };
        let peer = self.peer;
        let Made { place, ends, own_bell, peer_bell, flow, .. } = *made;
        let rung = if flow.is_some() { Rung::Stream } else { Rung::Handshake };
        let meeting = Meeting { peer, rung, step_downs: Vec::new(), record: None };
        let wires = Wires { socket: self.socket, own_bell, peer_bell };
        let number = terms.reception.number();
        // Else the client sees its connection end, and finds another server or tries again.
        if flow.is_none_or(|flow| flow.begin().is_ok())
            && terms.reception.open(number, meeting, ends, wires).is_ok()
        {
            place.keep();
        }
    }
}

impl Admission {
    /// Takes one datagram; false ends the connection.
    fn hear(&mut self, bytes: &[u8], terms: &Terms, now: Instant) -> bool {
        if matches!(self.stage, Stage::Farewell) {
            return false;
        }
        let permitted = self.peer.uid == terms.uid || self.peer.uid == 0;
        if !permitted {
            return self.refuse(Refusal::NotPermitted, "this server is for processes of its own user");
        }
        match (std::mem::replace(&mut self.stage, Stage::Farewell), Datagram::decode(bytes)) {
            (Stage::Connect, Ok(Datagram::Connect(connect))) => self.consider(connect, terms, now),
            (Stage::Connect, Err(Fault::Version(theirs))) => {
                self.refuse(Refusal::Version, &format!("this server speaks version {VERSION}, not {theirs}"))
            }
            (Stage::Connect, Ok(Datagram::Hello { .. })) => {
                self.refuse(Refusal::NothingInCommon, "this is a server, not a topic")
            }
            (Stage::Offered(made), Ok(Datagram::Ack)) => {
                self.stage = Stage::Done(made);
                true
            }
            _ => false,
        }
    }

    fn consider(&mut self, connect: Connect, terms: &Terms, now: Instant) -> bool {
        if terms.id.is_some_and(|ours| ours != connect.id) {
            return self.refuse(Refusal::WrongInstance, "another instance listens here");
        }
        let common =
            |capability, rung| connect.capabilities & capability != 0 && terms.offers.contains(&rung);
        let shared = common(SHARED_MEMORY, Rung::Handshake);
        if !shared && !common(STREAM, Rung::Stream) {
            let text = match terms.offers.contains(&Rung::Stream) {
                true => "this server only has streams to offer",
                false => "this server only has shared memory to offer",
            };
            return self.refuse(Refusal::NothingInCommon, text);
        }
        let Some(place) = terms.reception.enter() else {
            return self
                .refuse(Refusal::Busy, "all of this server's connections are taken; raise maxConnections");
        };
        let made = if shared { make(connect, terms, place) } else { make_streams(connect, terms, place) };
        match made {
            Ok(made) => self.offer(Box::new(made), now),
            Err(error) => self.refuse(Refusal::Busy, &error.to_string()),
        }
    }

    fn offer(&mut self, made: Box<Made>, now: Instant) -> bool {
        match scm::send(&self.socket, &made.reply.encode(), &made.fds()) {
            Ok(()) => self.stage = Stage::Offered(made),
            // This user has too many descriptors in flight, or the kernel is short of memory: others will finish.
            Err(Errno::ETOOMANYREFS | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.stage = Stage::Owing { made, next: now + RETRY };
            }
            Err(_) => return false,
        }
        true
    }

    fn refuse(&mut self, refusal: Refusal, text: &str) -> bool {
        self.stage = Stage::Farewell;
        let refused = Datagram::Refused { refusal, version: VERSION, text: text.to_owned() };
        scm::send(&self.socket, &refused.encode(), &[]).is_ok()
    }
}

/// Makes both rings and both doorbells.
fn make(connect: Connect, terms: &Terms, place: Place) -> Result<Made> {
    let Sizes { outgoing, incoming } = sizes(connect, terms);
    let nonce = random::bytes128()?;
    let shape = PairShape { client_ring: incoming, server_ring: outgoing, nonce: nonce_words(nonce) };
    let (pair, fds) = create_pair(shape)?;
    let (own_bell, peer_bell) = (EventFd::new()?.guarded(), EventFd::new()?.guarded());
    let reply = Connected {
        nonce,
        client_ring: incoming as u64,
        server_ring: outgoing as u64,
        server_bell: own_bell.id()?,
        client_bell: peer_bell.id()?,
    };
    let PairFds { client_data, server_data, control } = fds;
    Ok(Made {
        place,
        ends: pair.into(),
        own_bell: Arc::new(own_bell),
        peer_bell: PeerBell::Shared(peer_bell),
        flow: None,
        fds: vec![client_data, server_data, control],
        reply: Datagram::Connected(reply),
    })
}

/// Makes the ring that this side writes, and the sockets that both are forwarded over.
fn make_streams(connect: Connect, terms: &Terms, place: Place) -> Result<Made> {
    let sizes = sizes(connect, terms);
    let pair = || seqpacket::pair().map_err(|errno| Error::os("socketpair", errno, "cannot make a stream"));
    let ((outgoing, down), (incoming, up)) = (pair()?, pair()?);
    let reply = Datagram::Streamed { client_ring: sizes.incoming as u64, server_ring: sizes.outgoing as u64 };
    let sockets = Sockets { outgoing, incoming };
    let Streamed { ends, flow, room, tap } =
        Ends::streamed(&sizes, sockets, connect.pid, terms.handle.clone())?;
    Ok(Made {
        place,
        ends,
        own_bell: room,
        peer_bell: PeerBell::Pump(tap),
        flow: Some(flow),
        fds: vec![down, up],
        reply,
    })
}

fn sizes(connect: Connect, terms: &Terms) -> Sizes {
    Sizes {
        outgoing: size_for(connect.server_ring, terms.capacity),
        incoming: size_for(connect.client_ring, terms.capacity),
    }
}

/// The nonce as both headers hold it: the upper 64 bits first.
pub(super) fn nonce_words(nonce: [u8; 16]) -> [u64; 2] {
    let number = u128::from_be_bytes(nonce);
    [(number >> 64) as u64, number as u64]
}

/// What the client wants if it is a capacity and not more than the server gives, else what the server gives.
fn size_for(wanted: u64, most: usize) -> usize {
    let wanted = usize::try_from(wanted).ok().filter(|wanted| *wanted < most);
    wanted.filter(|wanted| check_capacity(*wanted).is_ok()).unwrap_or(most)
}
