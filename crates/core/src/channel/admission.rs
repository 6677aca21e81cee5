//! The server's side of a channel's handshake, and the book in which both sides enter their connections.
//!
//! Invariants: nothing is made for a client before its uid was checked and its request understood; no client of another user
//! gets a doorbell that could be turned against who rings it; a request is always read
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
use super::mailbox::Mailbox;
use super::places::{Place, Places};
use crate::acquire::protocol::{
    Connect, Connected, Datagram, Fault, GUEST, LENGTH, Refusal, SHARED_MEMORY, STREAM,
};
use crate::acquire::server::{Listening, instance_of};
use crate::acquire::visitor::{Fate, SILENCE, STALL, Visitor};
use crate::acquire::{Bell, Cord, Rung};
use crate::bus::thread::{Step, Thread, Watched};
use crate::bus::{Granted, Handle, Serve};
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

/// Where new connections are entered: their numbers, and the way to the endpoint.
pub(super) struct Reception {
    inbox: Arc<Inbox<Arrival>>,
    next: AtomicU32,
}

impl Reception {
    pub(super) fn new(inbox: Arc<Inbox<Arrival>>) -> Arc<Reception> {
        Arc::new(Reception { inbox, next: AtomicU32::new(1) })
    }

    pub(super) fn inbox(&self) -> &Inbox<Arrival> {
        &self.inbox
    }

    /// A number that no connection of this endpoint has had. Relaxed: it carries nothing.
    pub(super) fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
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

    /// What the bus calls with each listening socket of the record.
    pub(super) fn serve(self: Arc<Self>, offer: Offer) -> Serve {
        let offer = Arc::new(offer);
        Box::new(move |listener| {
            seqpacket::allow_rights(listener.as_fd());
            let id = instance_of(listener.as_fd());
            let terms = Terms::new(Arc::clone(&self), id, Arc::clone(&offer));
            Ok(Box::new(Listening::<Admission>::new(listener, terms)?) as Box<dyn Watched>)
        })
    }
}

/// What a server has for its clients, and who they may be.
pub(super) struct Offer {
    uid: u32,
    rungs: Vec<Rung>,
    capacity: usize,
    places: Arc<Places>,
    /// Which other users may connect.
    granted: Option<Granted>,
    /// Of the bus thread, which forwards what is streamed.
    handle: Handle,
}

impl Offer {
    pub(super) fn new(
        rungs: Vec<Rung>,
        capacity: usize,
        max_connections: u32,
        granted: Option<Granted>,
        handle: Handle,
    ) -> Offer {
        let uid = nix::unistd::geteuid().as_raw();
        Offer { uid, rungs, capacity, places: Places::new(max_connections), granted, handle }
    }

    /// What a peer is to this server, by the kernel's word.
    fn standing(&self, peer: &Peer) -> Standing {
        match &self.granted {
            // Root could take everything anyway.
            _ if peer.uid == self.uid || peer.uid == 0 => Standing::Own,
            Some(granted) if granted.permits(peer) => Standing::Other,
            _ => Standing::Stranger,
        }
    }
}

/// What a peer is to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its own user, or root.
    Own,
    /// Another user that is let in.
    Other,
    /// Another user.
    Stranger,
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
    offer: Arc<Offer>,
}

impl Terms {
    pub(super) fn new(reception: Arc<Reception>, id: Option<[u8; 16]>, offer: Arc<Offer>) -> Terms {
        Terms { reception, id, offer }
    }
}

/// A connection that was made for a client and is not entered yet.
struct Made {
    place: Place,
    ends: Ends,
    own_bell: Bell,
    peer_bell: PeerBell,
    /// Over streams: what begins once the connection is there.
    flow: Option<Flow>,
    /// The client is another user's, or does not trust this one.
    guest: bool,
    /// Goes with the reply.
    fds: Vec<ForkGuarded>,
    /// And these, of which this side keeps its own.
    bells: Vec<Arc<EventFd>>,
    reply: Datagram,
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
    /// When it was answered last.
    answered: Instant,
}

impl Visitor for Admission {
    type Terms = Terms;

    fn new(socket: OwnedFd, peer: Peer, _terms: &Terms, now: Instant) -> Admission {
        Admission {
            socket: ForkGuarded::new(socket),
            peer,
            stage: Stage::Connect,
            accepted: now,
            answered: now,
        }
    }

    fn uid(&self) -> u32 {
        self.peer.uid
    }

    fn gives_way(&self) -> Option<Instant> {
        match self.stage {
            Stage::Connect => Some(self.accepted + SILENCE),
            Stage::Offered(_) | Stage::Farewell => Some(self.answered + STALL),
            _ => None,
        }
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
        let Made { place, ends, own_bell, peer_bell, flow, guest, .. } = *made;
        let meeting = Meeting {
            peer: self.peer,
            rung: if flow.is_some() { Rung::Stream } else { Rung::Handshake },
            step_downs: Vec::new(),
            record: None,
            _place: Some(place),
        };
        let wires = Wires { mailbox: Mailbox::new(self.socket, !guest), own_bell, peer_bell };
        let number = terms.reception.number();
        // If it cannot be entered, the client sees its connection end, and finds another server or tries again; what cannot
        // flow ends it as well, because its seat is given back. In this order: a flow whose ring nobody closes never ends.
        if terms.reception.open(number, meeting, ends, wires).is_ok()
            && let Some(flow) = flow
        {
            let _ = flow.begin();
        }
    }
}

impl Admission {
    /// Takes one datagram; false ends the connection.
    fn hear(&mut self, bytes: &[u8], terms: &Terms, now: Instant) -> bool {
        if matches!(self.stage, Stage::Farewell) {
            return false;
        }
        let standing = terms.offer.standing(&self.peer);
        if standing == Standing::Stranger {
            return self.refuse(Refusal::NotPermitted, "this server is not for processes of this user");
        }
        match (std::mem::replace(&mut self.stage, Stage::Farewell), Datagram::decode(bytes)) {
            (Stage::Connect, Ok(Datagram::Connect(connect))) => self.consider(connect, standing, terms, now),
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

    fn consider(&mut self, connect: Connect, standing: Standing, terms: &Terms, now: Instant) -> bool {
        if terms.id.is_some_and(|ours| ours != connect.id) {
            return self.refuse(Refusal::WrongInstance, "another instance listens here");
        }
        let common =
            |capability, rung| connect.capabilities & capability != 0 && terms.offer.rungs.contains(&rung);
        let shared = common(SHARED_MEMORY, Rung::Handshake);
        if !shared && !common(STREAM, Rung::Stream) {
            let text = match terms.offer.rungs.contains(&Rung::Stream) {
                true => "this server only has streams to offer",
                false => "this server only has shared memory to offer",
            };
            return self.refuse(Refusal::NothingInCommon, text);
        }
        let other = (standing == Standing::Other).then_some(self.peer.uid);
        if shared && other.is_some() && connect.capabilities & GUEST == 0 {
            let text = "to other users this server offers a guest's terms alone";
            return self.refuse(Refusal::NothingInCommon, text);
        }
        let Some(place) = terms.offer.places.enter(other) else {
            let text = match other {
                None => "all of this server's connections are taken; raise maxConnections",
                Some(_) => "this user has its share of the server's connections, or comes too often",
            };
            return self.refuse(Refusal::Busy, text);
        };
        let made = match shared {
            true => make(connect, &terms.offer, place),
            false => make_streams(connect, other.is_some(), &terms.offer, place),
        };
        match made {
            Ok(made) => self.offer(Box::new(made), now),
            Err(error) => self.refuse(Refusal::Busy, &error.to_string()),
        }
    }

    fn offer(&mut self, made: Box<Made>, now: Instant) -> bool {
        let bells = made.bells.iter().map(|bell| bell.as_fd());
        let fds: Vec<_> = made.fds.iter().map(AsFd::as_fd).chain(bells).collect();
        match scm::send(&self.socket, &made.reply.encode(), &fds) {
            Ok(()) => (self.stage, self.answered) = (Stage::Offered(made), now),
            // This user has too many descriptors in flight, or the kernel is short of memory: others will finish.
            Err(Errno::ETOOMANYREFS | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.stage = Stage::Owing { made, next: now + RETRY };
            }
            Err(_) => return false,
        }
        true
    }

    fn refuse(&mut self, refusal: Refusal, text: &str) -> bool {
        (self.stage, self.answered) = (Stage::Farewell, Instant::now());
        let refused = Datagram::Refused { refusal, version: VERSION, text: text.to_owned() };
        scm::send(&self.socket, &refused.encode(), &[]).is_ok()
    }
}

/// Makes both rings and the doorbells, on the terms that the client asks for: whoever does not trust this server may ask for a
/// guest's.
fn make(connect: Connect, offer: &Offer, place: Place) -> Result<Made> {
    let Sizes { outgoing, incoming } = sizes(connect, offer);
    let nonce = random::bytes128()?;
    let shape = PairShape { client_ring: incoming, server_ring: outgoing, nonce: nonce_words(nonce) };
    let (pair, PairFds { client_data, server_data, control }) = create_pair(shape)?;
    let mut fds: Vec<_> = [client_data, server_data, control].into_iter().map(ForkGuarded::new).collect();
    let mut reply = Connected {
        nonce,
        client_ring: incoming as u64,
        server_ring: outgoing as u64,
        server_bell: 0,
        client_bell: 0,
        capabilities: SHARED_MEMORY,
    };
    let guest = connect.capabilities & GUEST != 0;
    let (own_bell, peer_bell, bells);
    if guest {
        let (cord, theirs) = Cord::pair()?;
        let cord = Arc::new(cord);
        (own_bell, peer_bell, bells) = (Bell::Cord(Arc::clone(&cord)), Bell::Cord(cord), Vec::new());
        fds.push(theirs);
        reply.capabilities |= GUEST;
    } else {
        let (own, peer) = (Arc::new(EventFd::new()?.shared()), Arc::new(EventFd::new()?.shared()));
        (reply.server_bell, reply.client_bell) = (own.id()?, peer.id()?);
        bells = vec![Arc::clone(&own), Arc::clone(&peer)];
        (own_bell, peer_bell) = (Bell::Shared(own), Bell::Shared(peer));
    }
    let (peer_bell, reply) = (PeerBell::Peer(peer_bell), Datagram::Connected(reply));
    Ok(Made { place, ends: pair.into(), own_bell, peer_bell, flow: None, guest, fds, bells, reply })
}

/// Makes the ring that this side writes, and the sockets that both are forwarded over.
fn make_streams(connect: Connect, other_user: bool, offer: &Offer, place: Place) -> Result<Made> {
    let sizes = sizes(connect, offer);
    let pair = || seqpacket::pair().map_err(|errno| Error::os("socketpair", errno, "cannot make a stream"));
    let ((outgoing, down), (incoming, up)) = (pair()?, pair()?);
    let reply = Datagram::Streamed { client_ring: sizes.incoming as u64, server_ring: sizes.outgoing as u64 };
    let sockets = Sockets { outgoing, incoming };
    let Streamed { ends, flow, room, tap } =
        Ends::streamed(&sizes, sockets, (connect.pid, other_user), offer.handle.clone())?;
    Ok(Made {
        place,
        ends,
        own_bell: Bell::Shared(room),
        peer_bell: PeerBell::Pump(tap),
        flow: Some(flow),
        guest: other_user || connect.capabilities & GUEST != 0,
        fds: [down, up].into_iter().map(ForkGuarded::new).collect(),
        bells: Vec::new(),
        reply,
    })
}

fn sizes(connect: Connect, offer: &Offer) -> Sizes {
    Sizes {
        outgoing: size_for(connect.server_ring, offer.capacity),
        incoming: size_for(connect.client_ring, offer.capacity),
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
