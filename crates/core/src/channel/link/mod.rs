//! One connection: its two ports, and the socket that tells of the peer's end (`fd_socket`).
//!
//! Made on the bus thread once a handshake is done, used by the endpoint alone. Dropping it closes it in good order: the peer reads what
//! was sent and then knows that nothing will follow. Dying does not, and the socket's end says the rest.
//!
//! A link is *awake* while it is looked at whether or not its doorbell rang. A link that is not is announced as asleep in its
//! ring: the peer rings, which wakes it.

mod large;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;
use ringbell_ring::{Entry, Fault, Read};

use super::duplex::Duplex;
use super::fd_socket::FdSocket;
use super::header::{HEADER, Header};
use super::parcel::{self, Parcel};
use super::quota::Permit;
use super::stats::ConnectionStats;
use crate::error::{Error, Result};
use crate::port::{End, WriterState};
use crate::reactor::Inbox;
use crate::record::{Fallback, Record, Rung};
use crate::sys::generation::Home;
use crate::sys::seqpacket::Peer;
use large::Arriving;

pub(super) use large::Progress;

/// Who is at the other end, and how it was reached.
pub(super) struct PeerInfo {
    pub(super) peer: Peer,
    pub(super) rung: Rung,
    pub(super) fallbacks: Vec<Fallback>,
    /// The server's, on the client's side.
    pub(super) record: Option<Arc<Record>>,
    /// On the server's side, until the connection is gone.
    pub(super) _permit: Option<Permit>,
}

/// A connection.
pub(super) struct Link {
    pub(super) number: u32,
    pub(super) peer_info: PeerInfo,
    duplex: Duplex,
    fd_socket: FdSocket,
    /// Where the rings are mapped: in a forked child they are not.
    home: Home,
    /// Whether it is among those that are looked at.
    pub(super) awake: bool,
    /// Looks in a row that found nothing.
    pub(super) idle: u32,
    /// Bytes that somebody waits for room for.
    wanted: Option<usize>,
    /// Nobody will ring any more: the peer has let go of the doorbell or of one of two streams, or sent what is no ring.
    silent: bool,
    /// The large message that is going out: its header, and the length of its data.
    sending: Option<(Header, usize)>,
    /// The large message that is coming in.
    arriving: Option<Arriving>,
    fault: Option<Error>,
}

/// Numbers under which a connection's descriptors are watched; 0 and 1 are the inbox's.
fn watched(number: u32) -> [u64; 2] {
    [u64::from(number) << 1, u64::from(number) << 1 | 1]
}

/// What a number of the epoll means: which connection, and whether it is its socket.
pub(super) fn rang(number: u64) -> (u32, bool) {
    ((number >> 1) as u32, number & 1 == 1)
}

impl Link {
    /// Makes a connection of what the handshake brought, and has it wake the endpoint.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when `fs.epoll.max_user_watches` or memory ran out.
    pub(super) fn new<A>(
        number: u32,
        peer_info: PeerInfo,
        duplex: Duplex,
        fd_socket: FdSocket,
        inbox: &Inbox<A>,
    ) -> Result<Link> {
        let [bell, socket] = watched(number);
        let watched = inbox.watch(&fd_socket, socket).and_then(|()| duplex.watch(inbox, bell));
        if let Err(error) = watched {
            // Others hold copies of both.
            inbox.forget(&fd_socket);
            duplex.unwatch(inbox);
            return Err(error);
        }
        Ok(Link {
            number,
            peer_info,
            duplex,
            fd_socket,
            home: Home::here(),
            awake: true,
            idle: 0,
            wanted: None,
            silent: false,
            sending: None,
            arriving: None,
            fault: None,
        })
    }

    /// Must be called before it is dropped, unless the inbox goes as well.
    pub(super) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        inbox.forget(&self.fd_socket);
        self.duplex.unwatch(inbox);
    }

    /// Sends one message. False: there is no room.
    #[inline]
    pub(super) fn send(&mut self, header: Header, data: &[u8]) -> Result<bool> {
        let (size, limit) = (HEADER.saturating_add(data.len()), self.duplex.writer.max_message());
        if size > limit {
            return Err(Error::MessageTooLarge { size: data.len(), limit: limit - HEADER });
        }
        self.ensure_there()?;
        let sent = self.duplex.writer.send_parts([&header.encode(), data]);
        self.judge_reader()?;
        if sent {
            self.wanted = None;
        }
        Ok(sent)
    }

    /// Nobody reads what is sent to a peer that has gone, or makes room for it.
    #[inline]
    fn ensure_there(&mut self) -> Result<()> {
        if self.duplex.is_unread() {
            self.cut();
        }
        if self.hung_up() { Err(Error::PeerGone { service: self.peer_name() }) } else { Ok(()) }
    }

    /// A peer whose cursor broke the rules no longer holds anything back, and must not be sent to for ever.
    fn judge_reader(&mut self) -> Result<()> {
        if self.duplex.writer.evicted() == 0 {
            return Ok(());
        }
        let error = Error::CorruptPeer { what: "invalid cursor: unaligned or ahead of head".into() };
        self.fault = Some(error.clone());
        Err(error)
    }

    /// Largest data of one message.
    pub(super) fn max_message(&self) -> usize {
        self.duplex.writer.max_message() - HEADER
    }

    pub(super) fn has_room(&mut self, data: usize) -> bool {
        self.duplex.writer.has_room(HEADER.saturating_add(data))
    }

    /// Announces that somebody waits for room. False: there is some now.
    pub(super) fn arm_room(&mut self, data: usize) -> bool {
        let none = self.duplex.writer.arm(HEADER.saturating_add(data));
        self.wanted = none.then_some(data);
        none
    }

    #[inline]
    pub(super) fn read(
        &mut self,
        slab: &mut [u8],
        fill: usize,
        table: &mut [Entry],
    ) -> std::result::Result<Read, Fault> {
        let read = self.duplex.reader.read(slab, fill, table)?;
        if read == Read::Empty && self.duplex.is_breached() {
            self.fault.get_or_insert(Error::CorruptPeer { what: "it reported what cannot be".into() });
        }
        if read == Read::Empty && self.duplex.is_severed() {
            self.cut();
        }
        Ok(read)
    }

    /// Whether there may be something to do: to be read, to be told, or room that was waited for.
    #[inline]
    pub(super) fn pending(&mut self) -> bool {
        self.duplex.reader.pending() || self.at_end() || self.room_came()
    }

    fn room_came(&mut self) -> bool {
        self.wanted.is_some_and(|bytes| self.has_room(bytes))
    }

    #[inline]
    pub(super) fn spin(&mut self, turns: u32) -> bool {
        self.duplex.reader.spin(turns) || self.pending()
    }

    /// Announces that nobody looks any more. False: there is something to do now.
    pub(super) fn arm<A>(&mut self, inbox: &Inbox<A>) -> bool {
        let quiet = self.duplex.reader.arm();
        self.duplex.reader.watch_room(inbox, watched(self.number)[0]);
        let room = self.room_came();
        if room {
            // Told once: the caller that waited may have given up meanwhile, and would never take it.
            self.wanted = None;
        }
        quiet && !self.at_end() && !room
    }

    /// Takes what was rung, where it has to be taken: room for further rings.
    pub(super) fn hear(&mut self) {
        self.silent |= !self.duplex.reader.drain_doorbell();
        self.duplex.reader.note_wakeup();
    }

    /// One direction has ended without a word: so that the other does not outlive it, on neither side.
    fn cut(&mut self) {
        if !std::mem::replace(&mut self.silent, true) {
            self.fd_socket.shutdown();
        }
    }

    /// Takes from the socket what is in it.
    pub(super) fn look_at_socket(&mut self) {
        self.fd_socket.look();
    }

    /// What came before the end, and was not taken.
    pub(super) fn leftovers(&mut self) -> Option<FdSocket> {
        self.fd_socket.left()
    }

    /// The peer has gone, or what it does counts no more.
    #[inline]
    fn hung_up(&self) -> bool {
        self.silent || self.fd_socket.ended()
    }

    /// The oldest parcel that has come.
    pub(super) fn take_parcel(&mut self) -> Option<Parcel> {
        self.fd_socket.take()
    }

    pub(super) fn has_parcels(&self) -> bool {
        self.fd_socket.has_parcels()
    }

    /// Sends descriptors. False: the socket is full, or too many descriptors of this user are in flight.
    pub(super) fn send_fds(&mut self, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<bool> {
        parcel::check(data, fds)?;
        match self.fd_socket.send(data, fds) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS) => Ok(false),
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => {
                Err(Error::PeerGone { service: self.peer_name() })
            }
            Err(Errno::EBADF) => Err(parcel::not_open(fds)),
            Err(errno) => Err(Error::os("sendmsg", errno, "cannot send descriptors")),
        }
    }

    /// How errors call the peer.
    pub(super) fn peer_name(&self) -> String {
        match &self.peer_info.record {
            Some(record) => record.service.clone(),
            None => format!("process {}", self.peer_info.peer.pid),
        }
    }

    /// What broke the protocol, if anything did.
    pub(super) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref().or(self.fd_socket.fault())
    }

    /// Whether its end can be told, one way or the other. What a peer had sent before it closed may still be on its way over a
    /// stream when its socket has ended.
    fn at_end(&self) -> bool {
        self.fault().is_some() || (self.hung_up() && self.end().is_some())
    }

    /// How it ends, once everything was read; `None` while something can still come.
    pub(super) fn end(&self) -> Option<End> {
        let writer = if self.hung_up() { WriterState::Gone } else { WriterState::Present };
        self.duplex.reader.end(writer)
    }

    /// How many of our messages the peer has taken out of its ring, by its own account, though it be gone; `None` over a stream,
    /// where it may have taken more than it had time to report.
    pub(super) fn delivered(&self) -> Option<u64> {
        if self.peer_info.rung == Rung::Stream {
            return None;
        }
        // Large messages that it passed over were taken as well; those that were given up on the way make it too many, which
        // is the safe side.
        self.duplex.writer.taken(0)
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        let counters = self.duplex.writer.counters();
        let read = self.duplex.reader.counters();
        // Over a stream those are reports.
        let rings = if self.peer_info.rung == Rung::Stream { 0 } else { read.rings };
        let unread = self.duplex.writer.slots().next().map_or(0, |(slot, _)| slot.backlog);
        ConnectionStats {
            connection: self.number,
            pid: self.peer_info.peer.pid,
            uid: self.peer_info.peer.uid,
            rung: self.peer_info.rung,
            fallbacks: self.peer_info.fallbacks.clone(),
            send_capacity: self.duplex.writer.capacity() as u64,
            receive_capacity: self.duplex.reader.capacity() as u64,
            sent: counters.messages,
            sent_bytes: counters.bytes,
            unread,
            received: read.received,
            backlog: self.duplex.reader.backlog(),
            high_water: counters.high_water,
            full: counters.full,
            rings: self.duplex.writer.rings() + rings,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.home.is_foreign() {
            return;
        }
        self.duplex.writer.close();
    }
}
