//! The reading end of a stream. It feeds the bytes that come to the ring's own walk, and reports what was read.
//!
//! The thread that reads calls it through [`port::Reader`](crate::port::Reader). The bus thread only asks whether
//! the socket is connected. Nothing is received while a whole message is unread, so the memory is bounded by the
//! topic's largest message. A report is sent before the reader can sleep; if the socket has no room for it, the
//! socket is watched until it has. Under a durable name the report is sent before any message is handed out, so
//! that the next holder of the name learns of it. It never takes descriptors from the other end.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringbell_ring::{Entry, Fault, Feed, Newest, Piece, Position, PublisherCounters, Read, Report, SlotView};

use super::counters;
use super::newest::Kept;
use super::shortage::{Shortage, Unsent};
use super::wire::{BYTES, COUNTERS, END, Ending, HEAD, Head, PIECE, Request, encode_report};

use crate::port::{Acknowledging, End, WriterState};
use crate::reactor::Inbox;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};
use crate::sys::seqpacket;

/// The most datagrams that a read takes before it returns, whatever they contain.
const MAX_DATAGRAMS: usize = 64;
/// The most batches that a look for the newest message takes in. The next look goes on.
const MAX_BATCHES: usize = 1024;
/// A look at a socket is a system call. It takes as long as this number of looks at memory.
const ITERATIONS_PER_SYSCALL: u32 = 64;
/// How long statistics wait for the publisher's counters, and how long a subscriber that leaves a durable position
/// waits until the publisher has parked it. A bus thread answers at once; a stopped one never answers.
pub(crate) const ANSWER: Duration = Duration::from_millis(20);

/// The reading end of a stream.
pub(crate) struct StreamReader {
    socket: Arc<ForkGuarded>,
    slot: usize,
    /// Bytes of the ring at the other end.
    capacity: usize,
    /// The publisher belongs to another user, and says that this reader is its guest.
    guest: bool,
    feed: Feed,
    /// What was found under the durable name, if there is a name.
    position: Option<Position>,
    acknowledging: Acknowledging,
    state: State,
    socket_state: SocketState,
    /// The reader may be asleep, and relies on the socket to wake it.
    asleep: bool,
    /// A report is due that the socket had no room for.
    owed: bool,
    /// The kernel has no memory for that report.
    shortage: Shortage,
    /// The socket also wakes the reader when it has room.
    watched_for_room: bool,
    /// The values of `feed.cursor()` and of `feed.received()` that the publisher knows.
    reported: u64,
    reported_received: u64,
    wakeups: u64,
    reports: u64,
    counters: PublisherCounters,
    slots: Vec<SlotView>,
    /// The newest message, for a reader that wants no other.
    kept: Option<Box<Kept>>,
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The publisher has said that nothing follows.
    Closed,
    /// The connection has ended without END.
    Cut,
    /// This end has left a durable position. The publisher has not parked it yet.
    Leaving,
    /// The publisher has parked the position, or is gone.
    Left,
}

/// What was last seen of the socket. It decides whether the socket is certain to wake a sleeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketState {
    /// There may be something in the socket.
    Stale,
    /// The socket was empty, and has woken no sleeper since.
    Empty,
    /// A message is held. It may not be handed out until the socket takes a report.
    Withheld,
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader")
            .field("slot", &self.slot)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What was received.
enum ReceivedKind {
    /// Bytes of the ring.
    Bytes,
    /// The publisher's counters.
    Counters,
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will follow.
    End,
}

impl StreamReader {
    /// Makes the reader for what follows the publisher's STREAM.
    pub(crate) fn new(socket: ForkGuarded, slot: usize, capacity: usize, feed: Feed) -> StreamReader {
        seqpacket::refuse_rights(socket.as_fd());
        StreamReader {
            socket: Arc::new(socket),
            slot,
            capacity,
            guest: false,
            reported: feed.cursor(),
            reported_received: 0,
            feed,
            position: None,
            acknowledging: Acknowledging::AtOnce,
            state: State::Open,
            socket_state: SocketState::Stale,
            asleep: false,
            owed: false,
            shortage: Shortage::default(),
            watched_for_room: false,
            wakeups: 0,
            reports: 0,
            counters: PublisherCounters::default(),
            slots: Vec::new(),
            kept: None,
        }
    }

    /// Sets what was found under the durable name, if there is a name.
    pub(crate) fn under(mut self, position: Option<Position>) -> StreamReader {
        self.position = position;
        self
    }

    /// Sets whether the publisher took this reader in as a guest.
    pub(crate) fn of_guest(mut self, guest: bool) -> StreamReader {
        self.guest = guest;
        self
    }

    pub(crate) fn is_guest(&self) -> bool {
        self.guest
    }

    /// Sets when a message counts as acknowledged. Under a durable name the publisher keeps every message that is
    /// not acknowledged, from the start.
    pub(crate) fn acknowledge(&mut self, when: Acknowledging) {
        self.acknowledging = when;
        if when == Acknowledging::Apart && self.position.is_none() {
            self.feed.acknowledge_apart();
        }
    }

    /// As [`ringbell_ring::Consumer::read`].
    pub(crate) fn read(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Read, Fault> {
        for _ in 0..MAX_DATAGRAMS {
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
                ReceivedKind::Bytes | ReceivedKind::Counters => {}
                ReceivedKind::Nothing | ReceivedKind::End => {
                    self.report(Request::Nothing);
                    return Ok(Read::Empty);
                }
            }
        }
        Ok(Read::Empty)
    }

    /// As [`ringbell_ring::Consumer::read_large`].
    pub(crate) fn read_large(&mut self, target: &mut [u8]) -> Result<Piece, Fault> {
        for _ in 0..MAX_DATAGRAMS {
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
                ReceivedKind::Bytes | ReceivedKind::Counters => {}
                ReceivedKind::Nothing | ReceivedKind::End => {
                    self.report(Request::Nothing);
                    return Ok(Piece::Nothing);
                }
            }
        }
        Ok(Piece::Nothing)
    }

    /// As [`ringbell_ring::Consumer::newest`], of the messages that have arrived.
    pub(crate) fn newest(&mut self, target: &mut [u8]) -> Result<Newest, Fault> {
        let mut kept = self.kept.take().unwrap_or_default();
        let taken = self.take_in(&mut kept);
        let newest = kept.copy(target);
        self.kept = Some(kept);
        taken.map(|()| newest)
    }

    fn take_in(&mut self, kept: &mut Kept) -> Result<(), Fault> {
        for _ in 0..MAX_BATCHES {
            match self.read(&mut kept.slab, 0, &mut kept.table)? {
                Read::Messages { count, batch_sequence, batch_time, .. } => {
                    kept.keep(count, (batch_sequence, batch_time));
                }
                Read::Needs(bytes) => kept.grow(bytes),
                Read::Large(_) => self.skip_large(),
                Read::Empty => break,
            }
        }
        Ok(())
    }

    /// Whether the message that is held may not be handed out yet, because the publisher cannot be told of it.
    fn withholds(&mut self) -> bool {
        let withheld = self.position.is_some()
            && self.state == State::Open
            && self.feed.pending()
            && !seqpacket::is_writable(&*self.socket);
        if withheld {
            self.socket_state = SocketState::Withheld;
        } else if self.socket_state == SocketState::Withheld {
            self.socket_state = SocketState::Stale;
        }
        withheld
    }

    fn hand_out(&mut self) {
        if self.position.is_some() && self.acknowledging == Acknowledging::AtOnce {
            self.feed.acknowledge_below(u64::MAX);
        }
        self.report(Request::Nothing);
    }

    /// As [`ringbell_ring::Consumer::skip_large`].
    pub(crate) fn skip_large(&mut self) {
        self.feed.skip_large();
    }

    fn receive(&mut self) -> Result<ReceivedKind, Fault> {
        if self.state != State::Open {
            return Ok(ReceivedKind::End);
        }
        let mut head = [0; HEAD];
        let space = self.feed.space(PIECE);
        let mut reset = false;
        let length = loop {
            match scm::receive_parts(&*self.socket, &mut head, space) {
                Ok(length) => break length,
                Err(ReceiveError::Os(Errno::EAGAIN)) => {
                    self.socket_state = SocketState::Empty;
                    return Ok(ReceivedKind::Nothing);
                }
                // The publisher went before it had read all reports. What it sent earlier is still in the socket. The
                // kernel says so once.
                Err(ReceiveError::Os(Errno::ECONNRESET)) if !reset => reset = true,
                Err(ReceiveError::Os(_)) => break 0,
                Err(ReceiveError::Truncated) => return Err(Fault::Corrupt("a datagram is too long")),
                Err(ReceiveError::DescriptorsLost) => {
                    return Err(Fault::Corrupt("descriptors came with a stream"));
                }
            }
        };
        self.socket_state = SocketState::Stale;
        if length == 0 {
            self.state = State::Cut;
            return Ok(ReceivedKind::End);
        }
        let Some(length) = length.checked_sub(HEAD) else {
            return Err(Fault::Corrupt("a datagram is too short"));
        };
        let Head { kind, detail, position } = Head::decode(&head);
        match kind {
            BYTES if detail == 0 => {
                self.feed.fed(position, length)?;
                Ok(ReceivedKind::Bytes)
            }
            COUNTERS => match counters::decode(position, detail, &space[..length]) {
                Some((counters, slots)) => {
                    (self.counters, self.slots) = (counters, slots);
                    Ok(ReceivedKind::Counters)
                }
                None => Err(Fault::Corrupt("counters of the wrong length")),
            },
            END if length == 0 => match Ending::of(detail) {
                Some(Ending::Closed) if position == self.feed.fed_to() => {
                    self.state = State::Closed;
                    Ok(ReceivedKind::End)
                }
                Some(Ending::Evicted) => Err(Fault::Evicted),
                Some(Ending::Expelled) => Err(Fault::Expelled),
                _ => Err(Fault::Corrupt("the end of a stream is not where its bytes ended")),
            },
            _ => Err(Fault::Corrupt("a datagram of an unknown kind")),
        }
    }

    /// Tells the publisher how far everything was read, as soon as no whole message is left, or much is new.
    fn report(&mut self, request: Request) {
        let read = self.feed.cursor() - self.reported;
        let due = read > 0 && (read >= self.capacity as u64 / 8 || !self.feed.pending());
        let news = self.position.is_some() && self.feed.received() != self.reported_received;
        if self.state != State::Open || !(due || news || self.owed || request != Request::Nothing) {
            return;
        }
        let Err(errno) = self.send(request) else { return };
        match self.shortage.judge(errno, Instant::now()) {
            Unsent::Full | Unsent::Short => self.owed = true,
            // The writer would wait for ever for the room that it is not told of. It learns of this by the end.
            Unsent::Lost if self.shortage.lasts() => {
                seqpacket::hang_up(&*self.socket);
                self.state = State::Cut;
            }
            // The connection has ended. The next receive finds out how.
            Unsent::Lost => {}
        }
    }

    fn send(&mut self, request: Request) -> nix::Result<()> {
        let report = Report { wakeups: self.wakeups, ..self.feed.report() };
        scm::send(&*self.socket, &encode_report(&report, request), &[])?;
        self.shortage.over();
        (self.reported, self.reported_received, self.owed) = (report.cursor, report.received, false);
        self.reports += 1;
        Ok(())
    }

    /// Leaves a durable position to the next holder of its name, or gives it up (`forget`). Without a name the end
    /// of the connection is enough. If the socket is full, this waits for it until the deadline.
    pub(crate) fn leave(&mut self, forget: bool, deadline: Instant) {
        if self.position.is_none() || self.state != State::Open {
            return;
        }
        let request = if forget { Request::Forget } else { Request::Nothing };
        while let Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) = self.send(request) {
            if !self.wait(PollFlags::POLLOUT, deadline) {
                break;
            }
        }
        self.state = State::Leaving;
        seqpacket::end_sending(&*self.socket);
    }

    /// After `leave`, waits until the publisher has parked the position, but not longer than the deadline.
    pub(crate) fn wait_for_park(&mut self, deadline: Instant) {
        while self.state == State::Leaving && Instant::now() < deadline {
            match scm::receive_plain(&*self.socket, &mut []) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => {
                    if !self.wait(PollFlags::POLLIN, deadline) {
                        self.state = State::Left;
                    }
                }
                // Data that the publisher sent before it read that this end leaves.
                Err(
                    ReceiveError::Truncated
                    | ReceiveError::DescriptorsLost
                    | ReceiveError::Os(Errno::ECONNRESET),
                ) => {}
                Ok(_) | Err(ReceiveError::Os(_)) => self.state = State::Left,
            }
        }
    }

    /// Whether the socket becomes ready before the deadline.
    fn wait(&self, wanted: PollFlags, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.socket.as_fd(), wanted)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        !left.is_zero() && matches!(poll(&mut fds, timeout), Ok(1) | Err(Errno::EINTR))
    }

    /// What was read of the stream, and how far it was acknowledged.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The feed, mutable: it is told what another reader has seen of the stream.
    pub(crate) fn feed_mut(&mut self) -> &mut Feed {
        &mut self.feed
    }

    /// What was found under the durable name, if there is a name.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Acknowledges all messages before `sequence`. Returns whether that is news, which was then reported to the
    /// publisher.
    pub(crate) fn acknowledge_below(&mut self, sequence: u64) -> bool {
        let news = self.feed.acknowledge_below(sequence);
        // A report is owed even if the cursor has not moved, because the counters have changed.
        self.owed |= news;
        self.report(Request::Nothing);
        news
    }

    /// Whether there is something to read, or an end to report. It costs a system call if nothing is held.
    pub(crate) fn pending(&self) -> bool {
        if self.socket_state == SocketState::Withheld {
            return seqpacket::is_writable(&*self.socket);
        }
        self.feed.pending() || self.state != State::Open || seqpacket::is_readable(&*self.socket)
    }

    /// As [`pending`](Self::pending), for as long as about `iterations` looks at memory take.
    pub(crate) fn spin(&self, iterations: u32) -> bool {
        for _ in 0..iterations.div_ceil(ITERATIONS_PER_SYSCALL) {
            if self.pending() {
                return true;
            }
            for _ in 0..ITERATIONS_PER_SYSCALL {
                std::hint::spin_loop();
            }
        }
        false
    }

    /// Whether the reader may sleep until the socket wakes it. It makes no system call, unless a report is due.
    pub(crate) fn arm(&mut self) -> bool {
        if self.socket_state == SocketState::Withheld && seqpacket::is_writable(&*self.socket) {
            self.socket_state = SocketState::Stale;
        }
        if self.owed && self.socket_state != SocketState::Withheld {
            self.report(Request::Nothing);
        }
        self.asleep = self.state == State::Open
            && match self.socket_state {
                SocketState::Stale => false,
                SocketState::Empty => !self.feed.pending(),
                SocketState::Withheld => true,
            };
        self.asleep
    }

    /// Whether a sleeper must be woken: a look that was not a read took from the socket the data that would have
    /// woken it.
    pub(crate) fn consumed_wakeup(&mut self) -> bool {
        let held = self.feed.pending() && self.socket_state != SocketState::Withheld;
        let consumed_wakeup = self.asleep && (held || self.state != State::Open);
        self.asleep &= !consumed_wakeup;
        consumed_wakeup
    }

    /// Registers the socket, so that data in it wakes a sleeper.
    pub(crate) fn watch<A>(&self, inbox: &Inbox<A>, number: u64) -> crate::Result<()> {
        inbox.watch_socket(self, false, number)
    }

    /// Lets the socket wake a sleeper also when it has room, while a report is owed.
    pub(crate) fn watch_room<A>(&mut self, inbox: &Inbox<A>, number: u64) {
        let wanted = self.owed || self.socket_state == SocketState::Withheld;
        // When the kernel has no memory, the socket has room all the time, and makes no edge. Watched anew, it wakes the
        // reader at once.
        if wanted != self.watched_for_room || (self.owed && self.shortage.lasts()) {
            self.watched_for_room = wanted;
            // This cannot fail for a socket that is watched.
            let _ = inbox.watch_socket(&*self, wanted, number);
        }
    }

    /// Notes that something woke the reader. The socket has to be looked at again.
    pub(crate) fn note_wakeup(&mut self) {
        self.wakeups += 1;
        self.socket_state = SocketState::Stale;
        self.asleep = false;
    }

    /// How the flow ends, after every whole message was read.
    pub(crate) fn end(&self, writer: WriterState) -> Option<End> {
        if self.feed.pending() {
            return None;
        }
        match (self.state, writer) {
            (State::Closed, _) => Some(End::Closed),
            // A message that is not whole when the stream was cut off never will be.
            (State::Cut, WriterState::Gone) => Some(End::Died),
            (State::Cut, WriterState::Unreachable) => Some(End::Disconnected),
            (State::Cut, _) => Some(End::Severed),
            (State::Open | State::Leaving | State::Left, _) => None,
        }
    }

    /// Asks the publisher for its counters, and takes them if they come before the deadline and no message is in
    /// the way.
    pub(crate) fn refresh(&mut self, deadline: Instant) {
        if self.feed.pending() || self.state != State::Open {
            return;
        }
        self.report(Request::Counters);
        // It looks at least once. It also stops at the deadline, because a publisher could send without end.
        let mut looks = 0;
        while !self.feed.pending() && (looks == 0 || Instant::now() < deadline) {
            looks += 1;
            match self.receive() {
                Ok(ReceivedKind::Bytes) => {}
                Ok(ReceivedKind::Nothing) => {
                    if !self.wait(PollFlags::POLLIN, deadline) {
                        return;
                    }
                }
                // The next read reports a fault again. But an end is not repeated: it was taken from the socket
                // just now.
                Ok(ReceivedKind::Counters | ReceivedKind::End) => return,
                Err(fault) => return self.feed.fail(fault),
            }
        }
    }

    /// The publisher's counters as last received, with what the stream itself shows.
    pub(crate) fn counters(&self) -> PublisherCounters {
        let mut counters = self.counters;
        counters.messages = counters.messages.max(self.feed.next_sequence().unwrap_or(0));
        counters.head = counters.head.max(self.feed.fed_to());
        counters.closed = self.state == State::Closed;
        counters
    }

    /// All subscribers of the publisher, as last received.
    pub(crate) fn slots(&self) -> &[SlotView] {
        &self.slots
    }

    /// Index of the slot that the publisher holds for this subscriber.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Bytes of the ring at the other end.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that are still to be read, as far as this end knows.
    pub(crate) fn backlog(&self) -> u64 {
        self.counters().head - self.feed.position()
    }

    /// Reports sent.
    pub(crate) fn reports(&self) -> u64 {
        self.reports
    }

    /// The socket, for the bus thread, which asks whether it is connected.
    pub(crate) fn socket(&self) -> Weak<ForkGuarded> {
        Arc::downgrade(&self.socket)
    }
}

impl AsFd for StreamReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
