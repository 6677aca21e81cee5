//! The publisher's side of one handshake.
//!
//! Invariants: nothing is sent before the kernel's word on the peer was checked; a request is always read before the
//! connection is closed in order, and a reply is followed by a wait for ACK or the end, so that no honest
//! client sees a reset; descriptors that a client sends are never taken in; one deadline bounds it all.
//! Driven by `server`: `advance` when its socket is readable or the time has come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::Start;
use ringbell_ring::layout::{SLOTS_PER_DOORBELL, VERSION};

use super::client::NO_DURABLE_GUESTS;
use super::guests::{Outside, Ticket};
use super::protocol::{Datagram, Fault, GUEST, LENGTH, Refusal, SHARED_MEMORY, STREAM};
use super::server::{Standing, Terms};
use super::stream::Seat;
use super::visitor::{Fate, SILENCE, STALL, Visitor};
use crate::Error;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket::{self, Peer};

/// How long a client may take for all of it.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
/// When to try again what the kernel would not send at the moment.
const RETRY: Duration = Duration::from_millis(20);

/// One accepted connection.
pub(super) struct Session {
    /// Not in a forked child: an epoll forgets a socket only when its last copy is closed.
    socket: ForkGuarded,
    stage: Stage,
    uid: u32,
    standing: Standing,
    /// A guest's place, until it takes its seat.
    ticket: Option<Ticket>,
    accepted: Instant,
    /// When it was answered last.
    answered: Instant,
}

enum Stage {
    /// Nothing has come yet.
    Hello,
    /// SEGMENTS is sent.
    Claimed,
    /// A reply that could not be sent yet, for want of room for descriptors in flight.
    Owing { reply: Reply, next: Instant },
    /// STREAM is sent: the rest is no longer this session's.
    Streams(Box<Seat>),
    /// The last reply is sent: waits for ACK, or for the client to close.
    Farewell,
    /// The last reply to a guest is sent: the connection stays.
    Seated,
}

#[derive(Clone, Copy)]
enum Reply {
    /// To a client that asked for this instance.
    Segments([u8; 16]),
    /// Of this slot.
    Doorbell(u32),
}

impl Visitor for Session {
    type Terms = Terms;

    fn new(socket: OwnedFd, peer: Peer, terms: &Terms, now: Instant) -> Session {
        seqpacket::refuse_rights(socket.as_fd());
        Session {
            socket: ForkGuarded::new(socket),
            stage: Stage::Hello,
            uid: peer.uid,
            standing: terms.standing(&peer),
            ticket: None,
            accepted: now,
            answered: now,
        }
    }

    fn uid(&self) -> u32 {
        self.uid
    }

    fn gives_way(&self) -> Option<Instant> {
        match self.stage {
            Stage::Hello => Some(self.accepted + SILENCE),
            Stage::Claimed | Stage::Farewell => Some(self.answered + STALL),
            _ => None,
        }
    }

    fn advance(&mut self, terms: &Terms, now: Instant) -> Fate {
        if now >= self.accepted + DEADLINE {
            return Fate::Finished;
        }
        if let Stage::Owing { reply, next } = self.stage
            && next <= now
        {
            if !self.reply(reply, terms, now) {
                return Fate::Finished;
            }
            if matches!(self.stage, Stage::Seated) {
                return Fate::Admitted;
            }
        }
        loop {
            let mut buffer = [0; LENGTH];
            match scm::receive_plain(&self.socket, &mut buffer) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => return Fate::Open,
                Ok(length) if length > 0 && self.hear(&buffer[..length], terms, now) => {
                    if matches!(self.stage, Stage::Seated | Stage::Streams(_)) {
                        // What follows in the socket is the guest's, or the stream's.
                        return Fate::Admitted;
                    }
                }
                // The end, an error, a datagram that is too long, or descriptors that nobody asked for.
                _ => return Fate::Finished,
            }
        }
    }

    fn until(&self) -> Instant {
        let deadline = self.accepted + DEADLINE;
        if let Stage::Owing { next, .. } = self.stage { next.min(deadline) } else { deadline }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// A guest takes its seat, and its connection with it; whoever is to be streamed to takes its own.
    fn admit(self, terms: &Terms) {
        if let Stage::Streams(seat) = self.stage {
            terms.stream(self.socket, *seat);
        } else if let Some(ticket) = self.ticket {
            ticket.seat(self.socket);
        }
    }
}

impl Session {
    /// Takes one datagram; false ends the connection.
    fn hear(&mut self, bytes: &[u8], terms: &Terms, now: Instant) -> bool {
        if matches!(self.stage, Stage::Farewell) {
            return false;
        }
        if self.standing == Standing::Stranger {
            return self.refuse(Refusal::NotPermitted, "this topic is not for processes of this user");
        }
        match (&self.stage, Datagram::decode(bytes)) {
            (Stage::Hello, Ok(Datagram::Hello { id, .. })) if !terms.is_instance(id) => {
                self.refuse(Refusal::WrongInstance, "another instance listens here")
            }
            (Stage::Hello, Ok(Datagram::Hello { id, capabilities, pid, start, name })) => {
                if capabilities & SHARED_MEMORY != 0 && terms.has_memory() {
                    self.welcome(id, capabilities, terms, now)
                } else if capabilities & STREAM != 0 && terms.streams() {
                    self.stream(id, (pid, name), start, terms, now)
                } else {
                    self.refuse(Refusal::NothingInCommon, terms.on_offer())
                }
            }
            (Stage::Hello, Err(Fault::Version(theirs))) => self
                .refuse(Refusal::Version, &format!("this publisher speaks version {VERSION}, not {theirs}")),
            (Stage::Claimed, Ok(Datagram::Claimed { slot })) => {
                let claimed = if self.ticket.is_some() { slot == 0 } else { terms.is_claimed(slot) };
                if claimed {
                    self.reply(Reply::Doorbell(slot), terms, now)
                } else {
                    self.refuse(Refusal::Breach, "a slot was claimed without its lock")
                }
            }
            _ => false,
        }
    }

    /// Decides on which terms a client is served, and serves it; false when it is gone.
    fn welcome(&mut self, id: [u8; 16], capabilities: u64, terms: &Terms, now: Instant) -> bool {
        let asks = capabilities & GUEST != 0;
        let admitted = match (self.standing, terms.guests()) {
            // Root may have everything; but it may not want the doorbells of a user that it does not trust.
            (Standing::Root | Standing::Guest, Some(guests)) if asks => guests.admit(self.uid, now).map(Some),
            (Standing::Own | Standing::Root, _) => Ok(None),
            _ => {
                let text = "to other users this publisher offers a guest's terms alone";
                return self.refuse(Refusal::NothingInCommon, text);
            }
        };
        match admitted {
            Ok(ticket) => {
                self.ticket = ticket;
                self.reply(Reply::Segments(id), terms, now)
            }
            Err(outside) => self.leave_outside(outside),
        }
    }

    fn leave_outside(&mut self, outside: Outside) -> bool {
        match outside {
            Outside::Full => self.refuse(Refusal::Full, "all places for other users are taken"),
            Outside::Busy => self.refuse(Refusal::Busy, "no place can be made at the moment"),
            Outside::Penalty(seconds) => {
                let text = format!("a subscriber of this user was put out; it may come again in {seconds} s");
                self.refuse(Refusal::NotPermitted, &text)
            }
        }
    }

    /// Sends a reply, now or in a while; false when the client is gone.
    fn reply(&mut self, reply: Reply, terms: &Terms, now: Instant) -> bool {
        let (datagram, fds, stage) = match (reply, &self.ticket) {
            (Reply::Segments(id), None) => {
                let datagram = Datagram::Segments { id, capabilities: terms.capabilities() };
                (datagram, terms.segments(), Stage::Claimed)
            }
            (Reply::Segments(id), Some(ticket)) => {
                let datagram = Datagram::Segments { id, capabilities: SHARED_MEMORY | GUEST };
                (datagram, terms.data().into_iter().chain([ticket.control()]).collect(), Stage::Claimed)
            }
            (Reply::Doorbell(slot), Some(_)) => (Datagram::Doorbell { slot }, Vec::new(), Stage::Seated),
            (Reply::Doorbell(slot), None) => {
                let doorbell = terms.doorbell(slot as usize / SLOTS_PER_DOORBELL);
                (Datagram::Doorbell { slot }, doorbell.into_iter().collect(), Stage::Farewell)
            }
        };
        match scm::send(&self.socket, &datagram.encode(), &fds) {
            Ok(()) => (self.stage, self.answered) = (stage, now),
            // This user has too many descriptors in flight, or the kernel is short of memory: others will finish.
            Err(Errno::ETOOMANYREFS | Errno::EAGAIN | Errno::ENOMEM | Errno::ENOBUFS) => {
                self.stage = Stage::Owing { reply, next: now + RETRY };
            }
            Err(_) => return false,
        }
        true
    }

    /// `who`: a process id and the hash of a durable name, 0 for none.
    fn stream(&mut self, id: [u8; 16], who: (u32, u64), start: u32, terms: &Terms, now: Instant) -> bool {
        let start = match start {
            0 => Start::Latest,
            1 => Start::Earliest,
            _ => return self.refuse(Refusal::Breach, "a stream starts at the latest or at the earliest"),
        };
        let guest = self.standing == Standing::Guest;
        let seat = if guest {
            if who.1 != 0 {
                return self.refuse(Refusal::Other, NO_DURABLE_GUESTS);
            }
            match terms.admit_guest((self.uid, who.0), start, now) {
                Ok(seat) => seat,
                Err(outside) => return self.leave_outside(outside),
            }
        } else {
            match terms.admit(who, start) {
                Ok(seat) => seat,
                Err(Error::NoSlot { .. }) => return self.refuse(Refusal::NoSlot, "all slots are taken"),
                Err(Error::NameTaken { .. }) => {
                    return self.refuse(Refusal::NameTaken, "somebody holds this durable name");
                }
                Err(error) => return self.refuse(Refusal::Busy, &error.to_string()),
            }
        };
        let capabilities = STREAM | if guest { GUEST } else { 0 };
        let datagram = Datagram::Stream { id, capabilities, begin: seat.begin() };
        self.stage = Stage::Streams(Box::new(seat));
        // Nothing was sent before: there is room, or the client is gone.
        scm::send(&self.socket, &datagram.encode(), &[]).is_ok()
    }

    fn refuse(&mut self, refusal: Refusal, text: &str) -> bool {
        (self.stage, self.answered) = (Stage::Farewell, Instant::now());
        let refused = Datagram::Refused { refusal, version: VERSION, text: text.to_owned() };
        scm::send(&self.socket, &refused.encode(), &[]).is_ok()
    }
}
