//! The subscriber's end of a stream: what comes is fed to the ring's own walk, what was read is reported.
//!
//! Invariants: nothing is received while a whole message is unread, so the memory is bounded by the largest message of the
//! topic; everything read is reported before the subscriber can sleep, or the socket is watched until it is; under a durable
//! name the report is on its way before anything is handed out, so that whoever gets it again is told so; descriptors
//! that the publisher sends never arrive. Belongs to the subscriber's thread, but for the socket, which the bus thread
//! only asks whether it is connected.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringbell_ring::{Entry, Fault, Feed, Piece, Position, PublisherCounters, Read, Report, SlotView};

use super::counters;
use super::wire::{BYTES, COUNTERS, END, Ending, HEAD, Head, PIECE, Request, encode_report};
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket;

/// Datagrams that a read takes in before it gives its turn back, whatever they bring.
const TURN: usize = 64;
/// How long statistics wait for the publisher's own, and whoever leaves a durable position until the publisher has parked it. A
/// bus thread answers at once, a stopped one never.
pub(crate) const ANSWER: Duration = Duration::from_millis(20);

/// A stream that is read.
pub(crate) struct Link {
    socket: Arc<ForkGuarded>,
    slot: usize,
    /// The publisher is another user's, and says that this one is its guest.
    guest: bool,
    feed: Feed,
    /// What there was under the durable name, if there is one.
    found: Option<Position>,
    /// Under a durable name: everything is acknowledged as it is handed out.
    immediate: bool,
    /// What the publisher knows of `feed.cursor()`.
    reported: u64,
    /// What it knows of `feed.received()`.
    told: u64,
    /// Unreported bytes at which it is told at once.
    threshold: u64,
    /// A report is due that the socket did not take.
    owed: bool,
    /// Something is held that may not be handed out until the socket takes more.
    held: bool,
    /// The socket had nothing more when it was last looked at, and has not woken anybody since.
    dry: bool,
    /// The subscriber may be asleep, relying on the socket to wake it.
    armed: bool,
    /// The publisher has closed the topic.
    closed: bool,
    /// The connection has ended.
    ended: bool,
    /// It was this end's doing.
    left: bool,
    wakeups: u64,
    reports: u64,
    counters: PublisherCounters,
    slots: Vec<SlotView>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("slot", &self.slot).finish_non_exhaustive()
    }
}

enum Came {
    /// Bytes of the ring.
    Bytes,
    /// The publisher's counters.
    Counters,
    /// Nothing yet.
    Nothing,
    /// Nothing will.
    End,
}

impl Link {
    /// What begins behind the publisher's STREAM.
    pub(crate) fn new(socket: ForkGuarded, slot: usize, capacity: usize, feed: Feed) -> Link {
        seqpacket::refuse_rights(socket.as_fd());
        Link {
            socket: Arc::new(socket),
            slot,
            guest: false,
            reported: feed.cursor(),
            told: 0,
            feed,
            found: None,
            immediate: false,
            threshold: capacity as u64 / 8,
            owed: false,
            held: false,
            dry: false,
            armed: false,
            closed: false,
            ended: false,
            left: false,
            wakeups: 0,
            reports: 0,
            counters: PublisherCounters::default(),
            slots: Vec::new(),
        }
    }

    /// What there was under the durable name, if there is one.
    pub(crate) fn under(mut self, found: Option<Position>) -> Link {
        self.found = found;
        self
    }

    /// Whether the publisher took it in as a guest.
    pub(crate) fn of_guest(mut self, guest: bool) -> Link {
        self.guest = guest;
        self
    }

    pub(crate) fn is_guest(&self) -> bool {
        self.guest
    }

    /// As [`ringbell_ring::Consumer::read`].
    pub(crate) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        for _ in 0..TURN {
            if self.withholds() {
                return Ok(Read::Empty);
            }
            match self.feed.read(slab, fill, table)? {
                Read::Empty => {}
                read => {
                    self.hand_out();
                    return Ok(read);
                }
            }
            match self.receive()? {
                Came::Bytes | Came::Counters => {}
                Came::Nothing | Came::End => {
                    self.report(Request::Nothing);
                    return Ok(Read::Empty);
                }
            }
        }
        Ok(Read::Empty)
    }

    /// As [`ringbell_ring::Consumer::read_large`].
    pub(crate) fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        for _ in 0..TURN {
            if self.withholds() {
                return Ok(Piece::Nothing);
            }
            match self.feed.read_large(target)? {
                Piece::Nothing => {}
                piece => {
                    self.feed.give_back();
                    self.hand_out();
                    return Ok(piece);
                }
            }
            match self.receive()? {
                Came::Bytes | Came::Counters => {}
                Came::Nothing | Came::End => {
                    self.report(Request::Nothing);
                    return Ok(Piece::Nothing);
                }
            }
        }
        Ok(Piece::Nothing)
    }

    /// Whether what there is may not be handed out yet, because the publisher cannot be told of it.
    fn withholds(&mut self) -> bool {
        self.held = self.found.is_some()
            && !self.ended
            && self.feed.pending()
            && !seqpacket::is_writable(&*self.socket);
        self.held
    }

    fn hand_out(&mut self) {
        if self.immediate {
            self.feed.acknowledge_below(u64::MAX);
        }
        self.report(Request::Nothing);
    }

    /// As [`ringbell_ring::Consumer::skip_large`].
    pub(crate) fn skip_large(&mut self) {
        self.feed.skip_large();
    }

    fn receive(&mut self) -> Result<Came, Fault> {
        if self.ended {
            return Ok(Came::End);
        }
        let mut head = [0; HEAD];
        let space = self.feed.space(PIECE);
        let length = loop {
            match scm::receive_parts(&*self.socket, &mut head, space) {
                Ok(length) => break length,
                Err(ReceiveError::Os(Errno::EAGAIN)) => {
                    self.dry = true;
                    return Ok(Came::Nothing);
                }
                // The publisher went without having read all reports; what it had sent before is still to come.
                Err(ReceiveError::Os(Errno::ECONNRESET)) => {}
                Err(ReceiveError::Os(_)) => break 0,
                Err(ReceiveError::Truncated) => return Err(Fault::Corrupt("a datagram is too long")),
                Err(ReceiveError::DescriptorsLost) => {
                    return Err(Fault::Corrupt("descriptors came with a stream"));
                }
            }
        };
        self.dry = false;
        if length == 0 {
            self.ended = true;
            return Ok(Came::End);
        }
        let Some(length) = length.checked_sub(HEAD) else {
            return Err(Fault::Corrupt("a datagram is too short"));
        };
        let Head { kind, detail, position } = Head::decode(&head);
        match kind {
            BYTES if detail == 0 => {
                self.feed.fed(position, length)?;
                Ok(Came::Bytes)
            }
            COUNTERS => match counters::decode(position, detail, &space[..length]) {
                Some((counters, slots)) => {
                    (self.counters, self.slots) = (counters, slots);
                    Ok(Came::Counters)
                }
                None => Err(Fault::Corrupt("counters of the wrong length")),
            },
            END if length == 0 => match Ending::of(detail) {
                Some(Ending::Closed) if position == self.feed.fed_to() => {
                    (self.closed, self.ended) = (true, true);
                    Ok(Came::End)
                }
                Some(Ending::Evicted) => Err(Fault::Evicted),
                Some(Ending::Expelled) => Err(Fault::Expelled),
                _ => Err(Fault::Corrupt("a stream ended elsewhere than it was")),
            },
            _ => Err(Fault::Corrupt("a datagram is of no kind of the protocol")),
        }
    }

    /// Tells the publisher how far everything was read: as soon as nothing whole is left, or much is new.
    fn report(&mut self, request: Request) {
        let read = self.feed.cursor() - self.reported;
        let due = read > 0 && (read >= self.threshold || !self.feed.pending());
        let news = self.found.is_some() && self.feed.received() != self.told;
        if self.ended || !(due || news || self.owed || request != Request::Nothing) {
            return;
        }
        // Any other error means that it has ended: the next receive finds out how.
        if let Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) = self.send(request) {
            self.owed = true;
        }
    }

    fn send(&mut self, request: Request) -> nix::Result<()> {
        let report = Report { wakeups: self.wakeups, ..self.feed.report() };
        scm::send(&*self.socket, &encode_report(&report, request), &[])?;
        (self.reported, self.told, self.owed) = (report.cursor, report.received, false);
        self.reports += 1;
        Ok(())
    }

    /// Leaves a durable position to the next holder of its name, or gives it up (`forget`). Without one the end of the connection
    /// says it all. What can be told until the deadline is.
    pub(crate) fn leave(&mut self, forget: bool, deadline: Instant) {
        if self.found.is_none() || self.ended {
            return;
        }
        let request = if forget { Request::Forget } else { Request::Nothing };
        while let Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) = self.send(request) {
            if !self.wait(PollFlags::POLLOUT, deadline) {
                break;
            }
        }
        (self.left, self.ended) = (true, true);
        seqpacket::end_sending(&*self.socket);
    }

    /// After `leave`, waits until the publisher has put the position down, at most until then.
    pub(crate) fn see_off(&mut self, deadline: Instant) {
        while self.left && Instant::now() < deadline {
            match scm::receive_plain(&*self.socket, &mut []) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => self.left = self.wait(PollFlags::POLLIN, deadline),
                // Whatever it had sent before it heard.
                Err(
                    ReceiveError::Truncated
                    | ReceiveError::DescriptorsLost
                    | ReceiveError::Os(Errno::ECONNRESET),
                ) => {}
                Ok(_) | Err(ReceiveError::Os(_)) => self.left = false,
            }
        }
    }

    /// Whether the socket is ready before the deadline.
    fn wait(&self, wanted: PollFlags, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.socket.as_fd(), wanted)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        !left.is_zero() && matches!(poll(&mut fds, timeout), Ok(1) | Err(Errno::EINTR))
    }

    /// Goes on at this message, as [`Feed::go_on_at`].
    pub(crate) fn go_on_at(&mut self, sequence: u64) {
        self.feed.go_on_at(sequence);
    }

    /// From now on the publisher keeps what is not acknowledged. Under a durable name it does so from the start.
    pub(crate) fn acknowledge_apart(&mut self) {
        if self.found.is_none() {
            self.feed.acknowledge_apart();
        }
    }

    /// Under a durable name: from now on what is handed out is acknowledged.
    pub(crate) fn acknowledge_at_once(&mut self) {
        self.immediate = self.found.is_some();
    }

    /// As [`Feed::note_seen`].
    pub(crate) fn note_seen(&mut self, sequence: u64) {
        self.feed.note_seen(sequence);
    }

    /// What there was under the durable name, if there is one.
    pub(crate) fn position(&self) -> Option<Position> {
        self.found
    }

    /// Messages before this sequence may have been delivered to an earlier holder of the name.
    pub(crate) fn redelivered_below(&self) -> u64 {
        self.feed.redelivered_below()
    }

    /// All messages before `sequence` are done. Whether that is news, and was told to the publisher.
    pub(crate) fn acknowledge_below(&mut self, sequence: u64) -> bool {
        let news = self.feed.acknowledge_below(sequence);
        // Also where the cursor has not moved: the figures have.
        self.owed |= news;
        self.report(Request::Nothing);
        news
    }

    /// Sequence after the last message that was handed out as a whole, where it is known.
    pub(crate) fn delivered(&self) -> Option<u64> {
        self.feed.delivered()
    }

    pub(crate) fn unacknowledged(&self) -> u64 {
        self.feed.unacknowledged()
    }

    pub(crate) fn flushed(&self) -> u64 {
        self.feed.flushed()
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.feed.redelivered()
    }

    /// Whether there is something to read, or an end to tell. A system call if nothing is held.
    pub(crate) fn pending(&self) -> bool {
        if self.held {
            return seqpacket::is_writable(&*self.socket);
        }
        self.feed.pending() || self.ended || seqpacket::is_readable(&*self.socket)
    }

    /// Whether the subscriber may sleep until the socket wakes it. No system call, but when a report is due.
    pub(crate) fn arm(&mut self) -> bool {
        self.held = self.held && !seqpacket::is_writable(&*self.socket);
        if self.owed && !self.held {
            self.report(Request::Nothing);
        }
        self.armed = !self.ended && (self.held || (self.dry && !self.feed.pending()));
        self.armed
    }

    /// Whether something was taken from the socket, by a look that was not a reader's, that would have woken the one who
    /// sleeps: what is taken wakes nobody any more.
    pub(crate) fn unnoticed(&mut self) -> bool {
        let unnoticed = self.armed && ((self.feed.pending() && !self.held) || self.ended);
        self.armed &= !unnoticed;
        unnoticed
    }

    /// Whether it must be woken when the socket takes something again.
    pub(crate) fn owes(&self) -> bool {
        self.owed || self.held
    }

    /// Something woke the subscriber: the socket is to be looked at again.
    pub(crate) fn note_wakeup(&mut self) {
        self.wakeups += 1;
        self.dry = false;
        self.held = false;
        self.armed = false;
    }

    /// Everything was read, and the publisher has said that nothing follows.
    pub(crate) fn closed(&self) -> bool {
        self.closed && !self.feed.pending()
    }

    /// Everything whole was read, and the connection has ended without a word.
    pub(crate) fn severed(&self) -> bool {
        self.ended && !self.closed && !self.feed.pending()
    }

    /// Has the publisher tell its counters, if it does at once and no message is in the way.
    pub(crate) fn refresh(&mut self, deadline: Instant) {
        if self.feed.pending() || self.ended {
            return;
        }
        self.report(Request::Counters);
        // At least one look, and not for ever at a publisher that sends without end.
        let mut looks = 0;
        while !self.feed.pending() && (looks == 0 || Instant::now() < deadline) {
            looks += 1;
            match self.receive() {
                Ok(Came::Bytes) => {}
                Ok(Came::Nothing) => {
                    if !self.wait(PollFlags::POLLIN, deadline) {
                        return;
                    }
                }
                // A fault is told again by the next read, but for an end that was taken from the socket just now.
                Ok(Came::Counters | Came::End) => return,
                Err(fault) => return self.feed.fail(fault),
            }
        }
    }

    /// The publisher's counters, as it told them last, and what the stream itself shows.
    pub(crate) fn counters(&self) -> PublisherCounters {
        let mut counters = self.counters;
        counters.messages = counters.messages.max(self.feed.next_sequence().unwrap_or(0));
        counters.head = counters.head.max(self.feed.fed_to());
        counters.closed = self.closed;
        counters
    }

    /// All subscribers of the publisher, as it told them last.
    pub(crate) fn slots(&self) -> &[SlotView] {
        &self.slots
    }

    /// Index of the slot that the publisher holds for this subscriber.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Bytes that are still to be read, as far as is known here.
    pub(crate) fn backlog(&self) -> u64 {
        self.counters().head - self.feed.position()
    }

    pub(crate) fn received(&self) -> u64 {
        self.feed.received()
    }

    pub(crate) fn missed(&self) -> u64 {
        self.feed.missed()
    }

    /// Reports sent.
    pub(crate) fn reports(&self) -> u64 {
        self.reports
    }

    /// For the bus thread, to ask whether it is connected.
    pub(crate) fn socket(&self) -> Weak<ForkGuarded> {
        Arc::downgrade(&self.socket)
    }
}

/// Looks about `turns` times whether something is pending. A look at a socket is a system call, as dear as many at memory.
pub(crate) fn spin_socket(turns: u32, pending: impl Fn() -> bool) -> bool {
    const TURNS_PER_LOOK: u32 = 64;
    for _ in 0..turns.div_ceil(TURNS_PER_LOOK) {
        if pending() {
            return true;
        }
        for _ in 0..TURNS_PER_LOOK {
            std::hint::spin_loop();
        }
    }
    false
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
