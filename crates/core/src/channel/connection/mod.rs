//! One connection, with its two ports and the socket that reports the peer's end (`fd_socket`).
//!
//! The bus thread makes it once a handshake is done. After that only the endpoint uses it. Dropping a connection
//! closes it in good order: the peer reads what was sent, and then knows that nothing will follow. A process that dies
//! closes nothing; the peer sees the end of the socket instead. Invariant: a connection is *awake* while the endpoint
//! looks at it, rung or not. A connection that is not awake is announced as asleep in its ring, so the peer rings, and
//! that wakes it. Nothing here may wait.

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
use crate::headers::Headers;
use crate::port::{End, WriterState};
use crate::reactor::Inbox;
use crate::record::{Fallback, Record, Rung};
use crate::sys::seqpacket::Peer;
use large::Arriving;

pub(super) use large::LargeProgress;

/// The peer, and how it was reached.
pub(super) struct PeerInfo {
    pub(super) peer: Peer,
    pub(super) rung: Rung,
    pub(super) fallbacks: Vec<Fallback>,
    /// The server's record. Only the client's side has one.
    pub(super) record: Option<Arc<Record>>,
    /// Only the server's side has one. It is held until the connection is gone.
    pub(super) _permit: Option<Permit>,
}

/// An open connection.
pub(super) struct Connection {
    pub(super) number: u32,
    pub(super) peer_info: PeerInfo,
    duplex: Duplex,
    fd_socket: FdSocket,
    /// Whether it is one of those that are looked at.
    pub(super) awake: bool,
    /// How many looks in a row found nothing.
    pub(super) idle: u32,
    /// The caller waits for room for this many bytes.
    wanted: Option<usize>,
    /// The doorbell will not ring any more: the peer has let go of it or of one of two streams, or has sent something
    /// that is no ring of a doorbell.
    doorbell_closed: bool,
    /// The large message that is being sent: its header, and the length of its data and headers in bytes.
    sending: Option<(Header, usize)>,
    /// The large message that is coming in.
    arriving: Option<Arriving>,
    fault: Option<Error>,
}

/// Tokens under which a connection's descriptors are watched. 0 and 1 belong to the inbox.
fn watched(number: u32) -> [u64; 2] {
    [u64::from(number) << 1, u64::from(number) << 1 | 1]
}

/// What a token of the epoll means: which connection, and whether it is the socket.
pub(super) fn decode_token(token: u64) -> (u32, bool) {
    ((token >> 1) as u32, token & 1 == 1)
}

impl Connection {
    /// Makes a connection of what the handshake brought, and lets it wake the endpoint.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when `fs.epoll.max_user_watches` or memory ran out.
    pub(super) fn new<A>(
        number: u32,
        peer_info: PeerInfo,
        duplex: Duplex,
        fd_socket: FdSocket,
        inbox: &Inbox<A>,
    ) -> Result<Connection> {
        let [bell, socket] = watched(number);
        let watched = inbox.watch(&fd_socket, socket).and_then(|()| duplex.watch(inbox, bell));
        if let Err(error) = watched {
            // Other processes hold copies of these descriptors, so closing them would not end the registration.
            inbox.forget(&fd_socket);
            duplex.unwatch(inbox);
            return Err(error);
        }
        Ok(Connection {
            number,
            peer_info,
            duplex,
            fd_socket,
            awake: true,
            idle: 0,
            wanted: None,
            doorbell_closed: false,
            sending: None,
            arriving: None,
            fault: None,
        })
    }

    /// Call this before the connection is dropped, unless the inbox goes as well.
    pub(super) fn unwatch<A>(&self, inbox: &Inbox<A>) {
        inbox.forget(&self.fd_socket);
        self.duplex.unwatch(inbox);
    }

    /// Sends one message. False means that there is no room.
    #[inline]
    pub(super) fn send(&mut self, header: Header, data: &[u8], headers: &Headers<'_>) -> Result<bool> {
        let size = data.len().saturating_add(headers.as_bytes().len());
        let limit = self.max_message();
        if size > limit {
            return Err(Error::MessageTooLarge { size, limit });
        }
        self.ensure_there()?;
        let parts = [&header.encode(), data, headers.as_bytes()];
        let sent = self.duplex.writer.send_parts(parts, headers.size());
        let checked = self.check_peer_cursor();
        if !sent {
            return checked.map(|()| false);
        }
        // The message is in the ring, and the peer may read it. So it counts as sent, whatever the cursor says: its
        // caller must not send it to another peer. The next look reports the fault.
        self.wanted = None;
        Ok(true)
    }

    /// Refuses to send to a peer that broke the rules, or has gone: it reads nothing any more, and makes no room.
    #[inline]
    fn ensure_there(&mut self) -> Result<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.duplex.is_unread() {
            self.cut();
        }
        if self.hung_up() { Err(Error::PeerGone { service: self.peer_name() }) } else { Ok(()) }
    }

    /// Ends sending to a peer whose cursor broke the rules. Such a cursor holds nothing back any more, so sends would
    /// succeed without end.
    fn check_peer_cursor(&mut self) -> Result<()> {
        if self.duplex.writer.evicted() == 0 {
            return Ok(());
        }
        let error = Error::CorruptPeer { what: "invalid cursor: unaligned or ahead of head".into() };
        self.fault = Some(error.clone());
        Err(error)
    }

    /// Largest data of one message, headers included, in bytes.
    #[inline]
    pub(super) fn max_message(&self) -> usize {
        self.duplex.writer.max_message() - HEADER
    }

    pub(super) fn has_room(&mut self, data: usize) -> bool {
        self.duplex.writer.has_room(HEADER.saturating_add(data))
    }

    /// Announces that the caller waits for room. False means that there is some now.
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

    /// Whether there may be something to do: messages, an end to report, or room that the caller waited for.
    #[inline]
    pub(super) fn pending(&mut self) -> bool {
        self.duplex.reader.pending() || self.at_end() || self.room_came()
    }

    fn room_came(&mut self) -> bool {
        self.wanted.is_some_and(|bytes| self.has_room(bytes))
    }

    #[inline]
    pub(super) fn spin(&mut self, iterations: u32) -> bool {
        self.duplex.reader.spin(iterations) || self.pending()
    }

    /// Announces that this connection is not looked at any more. False means that there is something to do now.
    pub(super) fn arm<A>(&mut self, inbox: &Inbox<A>) -> bool {
        let quiet = self.duplex.reader.arm();
        self.duplex.reader.watch_room(inbox, watched(self.number)[0]);
        let room = self.room_came();
        if room {
            // Reported once: the caller that waited may have given up in the meantime, and would never use the room.
            self.wanted = None;
        }
        quiet && !self.at_end() && !room
    }

    /// Drains the doorbell, if it has to be drained to take further rings.
    pub(super) fn on_ring(&mut self) {
        self.doorbell_closed |= !self.duplex.reader.drain_doorbell();
        self.duplex.reader.note_wakeup();
    }

    /// One direction broke off. Ends the other one, too, on both sides.
    fn cut(&mut self) {
        if !std::mem::replace(&mut self.doorbell_closed, true) {
            self.fd_socket.shutdown();
        }
    }

    /// Takes what is in the socket.
    pub(super) fn poll_socket(&mut self) {
        self.fd_socket.poll();
    }

    /// The descriptors that came before the end and were not taken.
    pub(super) fn leftovers(&mut self) -> Option<FdSocket> {
        self.fd_socket.left()
    }

    /// Whether the peer has gone, or has broken the rules so that its messages no longer count.
    #[inline]
    fn hung_up(&self) -> bool {
        self.doorbell_closed || self.fd_socket.ended()
    }

    /// The oldest parcel that has come.
    pub(super) fn take_parcel(&mut self) -> Option<Parcel> {
        self.fd_socket.take()
    }

    pub(super) fn has_parcels(&self) -> bool {
        self.fd_socket.has_parcels()
    }

    /// Sends descriptors. False means that the socket is full, or that too many descriptors of this user are in
    /// flight.
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

    /// The name of the peer in errors.
    pub(super) fn peer_name(&self) -> String {
        match &self.peer_info.record {
            Some(record) => record.service.clone(),
            None => format!("process {}", self.peer_info.peer.pid),
        }
    }

    /// The error that broke the protocol, if there is one.
    pub(super) fn fault(&self) -> Option<&Error> {
        self.fault.as_ref().or(self.fd_socket.fault())
    }

    /// Whether the end of this connection can be reported, whatever it is. When the socket has ended, messages that
    /// the peer sent before it closed may still be on their way over a stream.
    fn at_end(&self) -> bool {
        self.fault().is_some() || (self.hung_up() && self.end().is_some())
    }

    /// How it ended, once everything was read. `None` while something can still come.
    pub(super) fn end(&self) -> Option<End> {
        let writer = if self.hung_up() { WriterState::Gone } else { WriterState::Present };
        self.duplex.reader.end(writer)
    }

    /// How many of our messages the peer has taken out of its ring, as the peer's own cursor says, even if the peer
    /// is gone. `None` over a stream, because the peer may have taken more than it had time to report, and for a peer
    /// that broke the rules, because its cursor may say anything.
    pub(super) fn delivered(&self) -> Option<u64> {
        if self.peer_info.rung == Rung::Stream || self.fault().is_some() {
            return None;
        }
        // Large messages that the peer passed over count as taken. Large messages that were given up on the way are
        // counted, too. That makes the number too high, which is the safe side.
        self.duplex.writer.taken(0)
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        let counters = self.duplex.writer.counters();
        let read = self.duplex.reader.counters();
        // Over a stream, these are reports and not rings.
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

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.duplex.writer.is_foreign() {
            self.duplex.writer.close();
        }
    }
}
