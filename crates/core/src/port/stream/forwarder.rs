//! One subscriber that is streamed to: its bytes go from its slot in the ring to its socket.
//!
//! `server` drives it: it waits for the socket and for the ring's doorbell. A forwarder never blocks. Every byte
//! that it sends was in a whole frame above `floor` when it was copied. A socket that takes no more stops this
//! forwarder and nothing else. A subscriber that breaks the protocol loses its own connection. What a subscriber of
//! another user sends is rationed. The end is always sent and always waited for, so that a subscriber that reads to
//! the end never sees a reset. A banned guest is told only if its socket has room.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use ringbell_ring::Fault;

use super::counters;
use super::proxy::ProxyReader;
use super::shortage::{Shortage, Unsent};
use super::wire::{BYTES, COUNTERS, END, Ending, HEAD, Head, REPORT, Request, decode_report};
use crate::port::budget::Budget;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm::{self, ReceiveError};

/// The most datagrams of one poll. One subscriber then does not keep the bus thread from the others.
const MAX_DATAGRAMS: usize = 16;
/// The most reports of one poll.
const MAX_REPORTS: usize = 64;
/// How long a subscriber may take to go after it was told that the topic is closed.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the rest of a closed topic is kept for a subscriber that takes nothing of it.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// The shortest time for which the reports of another user's subscriber are not looked at.
const TICK: Duration = Duration::from_millis(1);
/// The pause before another try when the kernel had no memory.
const PAUSE: Duration = Duration::from_millis(20);

/// A subscriber that is streamed to.
pub(super) struct Forwarder {
    // It stands before `socket`: when the peer sees that end, the slot is already given back.
    proxy: ProxyReader,
    socket: ForkGuarded,
    phase: Phase,
    /// COUNTERS are owed.
    asked: bool,
    /// Set while the socket takes nothing: the time at which that is checked again.
    patience: Option<Instant>,
    /// The socket has taken something, or the subscriber has reported, since `patience` was set.
    progressed: bool,
    /// The kernel has no memory, and when sending is tried again.
    shortage: Shortage,
    retry_at: Option<Instant>,
    /// The time from which the ration counts.
    created: Instant,
    /// For another user's subscriber: how often its reports are looked at, and until when they are not.
    ration: Budget,
    paused_until: Option<Instant>,
    /// For a guest of a closed topic: until when it may take what is left.
    drain_deadline: Option<Instant>,
}

enum Phase {
    Open,
    /// END is to be sent.
    Ending(Ending),
    /// END was sent. The forwarder waits until this time, if it is set.
    Over(Option<Instant>),
}

/// What to wait for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// Wait until the socket has data, and for the doorbell.
    Idle,
    /// Wait until the socket has room, too.
    Full,
    /// Wait for the time and for the doorbell. Data in the socket is left there.
    Paused,
    /// The same, and wait until the socket has room.
    PausedFull,
    /// The subscriber is gone.
    Gone,
}

impl Forwarder {
    pub(super) fn new(socket: ForkGuarded, proxy: ProxyReader) -> Forwarder {
        // COUNTERS are sent first, so that statistics are there from the start.
        Forwarder {
            proxy,
            socket,
            phase: Phase::Open,
            asked: true,
            patience: None,
            progressed: false,
            shortage: Shortage::default(),
            retry_at: None,
            created: Instant::now(),
            ration: Budget::default(),
            paused_until: None,
            drain_deadline: None,
        }
    }

    /// Number of the doorbell that wakes this forwarder.
    pub(super) fn bell(&self) -> usize {
        self.proxy.bell().0
    }

    /// The latest time for the next call.
    pub(super) fn until(&self) -> Option<Instant> {
        let phase = if let Phase::Over(until) = self.phase { until } else { self.patience };
        [phase, self.paused_until, self.drain_deadline, self.retry_at].into_iter().flatten().min()
    }

    /// Whether everything that the subscriber will ever get is on its way.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Does what can be done without waiting. `last`: nothing will follow, whatever the topic says.
    pub(super) fn poll(&mut self, scratch: &mut [u8], last: bool, now: Instant) -> Interest {
        if !self.take_reports(now) {
            return Interest::Gone;
        }
        if self.proxy.is_lost() && matches!(self.phase, Phase::Open) {
            (self.phase, self.asked) = (Phase::Ending(Ending::Evicted), false);
        }
        if matches!(self.phase, Phase::Over(Some(until)) if until <= now) {
            return Interest::Gone;
        }
        // A guest whose publisher has gone is given up here and nowhere else.
        if self.proxy.is_guest() && self.proxy.is_closed() {
            let until = *self.drain_deadline.get_or_insert(now + PATIENCE);
            if until <= now {
                return Interest::Gone;
            }
        }
        if self.patience.is_some_and(|until| until <= now) {
            if !self.progressed && self.proxy.is_closed() {
                return Interest::Gone;
            }
            (self.patience, self.progressed) = (None, false);
        }
        self.retry_at = None;
        let sent = self.answer().and_then(|()| self.flow(scratch, last, now));
        match self.outcome(sent, now) {
            // Its socket may hold reports that are not taken yet. They would wake the thread at once.
            Interest::Idle if self.paused_until.is_some() => Interest::Paused,
            Interest::Full if self.paused_until.is_some() => Interest::PausedFull,
            interest => interest,
        }
    }

    /// What to wait for after a poll.
    fn outcome(&mut self, sent: nix::Result<Interest>, now: Instant) -> Interest {
        match sent {
            Ok(Interest::Idle) => {
                self.patience = None;
                Interest::Idle
            }
            Ok(interest) => interest,
            // A guest that takes nothing is not told either.
            Err(Errno::EAGAIN) if self.proxy.is_lost() => Interest::Gone,
            Err(errno) => match self.shortage.judge(errno, now) {
                Unsent::Full => {
                    self.patience.get_or_insert(now + PATIENCE);
                    Interest::Full
                }
                // The socket has room, so waiting for room would end at once, again and again.
                Unsent::Short => {
                    self.retry_at = Some(now + PAUSE);
                    Interest::Idle
                }
                Unsent::Lost => {
                    // The reports that a subscriber of the own user sent before it went still count. There are no
                    // more of them than a socket holds.
                    let _ = (0..MAX_REPORTS).all(|_| self.take_reports(now));
                    Interest::Gone
                }
            },
        }
    }

    /// Takes the reports that have come. False: the subscriber has gone, or has to go.
    fn take_reports(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| until > now) {
            return true;
        }
        self.paused_until = None;
        let Some(taken) = self.receive(now) else { return false };
        let age = now.saturating_duration_since(self.created).as_nanos() as u64;
        if taken > 0
            && let Some(interval) = self.proxy.interval()
            && !self.ration.take(age, interval)
        {
            self.paused_until = Some(now + TICK.max(Duration::from_nanos(interval)));
        }
        true
    }

    /// Takes what has come, and returns how many reports that was. None: the subscriber has gone, or has to go.
    fn receive(&mut self, now: Instant) -> Option<usize> {
        for count in 0..MAX_REPORTS {
            let mut buffer = [0; REPORT];
            let request = match scm::receive_plain(&self.socket, &mut buffer) {
                Err(ReceiveError::Os(Errno::EAGAIN)) => return Some(count),
                // The subscriber went before it had read everything. Its earlier reports are still in the socket.
                Err(ReceiveError::Os(Errno::ECONNRESET)) => continue,
                Ok(0) | Err(ReceiveError::Os(_)) => return None,
                Ok(length) => self.take(&buffer[..length]),
                // A datagram that is too long, or one with descriptors, which are not allowed here.
                Err(_) => None,
            };
            match request {
                Some(Request::Nothing) => {}
                Some(Request::Counters) => self.asked = true,
                Some(Request::Forget) => {
                    self.proxy.forget();
                    return None;
                }
                None => {
                    self.proxy.breach(now);
                    return None;
                }
            }
        }
        Some(MAX_REPORTS)
    }

    /// Takes one report. None: it is not a report, or its values are impossible.
    fn take(&mut self, bytes: &[u8]) -> Option<Request> {
        let (report, request) = decode_report(bytes)?;
        self.progressed = true;
        if self.proxy.consumer.report(report).ok()? {
            self.proxy.source.room.ring();
        }
        Some(request)
    }

    fn answer(&mut self) -> nix::Result<()> {
        if self.asked && !self.is_over() {
            let counters = self.proxy.source.data.memory().counters();
            let slots = self.proxy.slots(counters.head);
            let head = Head { kind: COUNTERS, detail: slots.len() as u32, position: counters.head };
            self.send(head, &counters::encode(&counters, &slots))?;
        }
        self.asked = false;
        Ok(())
    }

    fn send(&mut self, head: Head, body: &[u8]) -> nix::Result<()> {
        scm::send_parts(&self.socket, &head.encode(), body)?;
        self.shortage.over();
        Ok(())
    }

    fn flow(&mut self, scratch: &mut [u8], last: bool, now: Instant) -> nix::Result<Interest> {
        for _ in 0..MAX_DATAGRAMS {
            match self.phase {
                Phase::Open => {}
                Phase::Ending(ending) => {
                    let position = self.proxy.consumer.forwarded_to();
                    let head = Head { kind: END, detail: ending as u32, position };
                    self.send(head, &[])?;
                    // An evicted subscriber may be stopped. It keeps its slot as long as it keeps its connection. A
                    // guest does not keep it.
                    self.phase = Phase::Over(match ending {
                        Ending::Closed => Some(now + FAREWELL),
                        _ => self.proxy.is_guest().then_some(now),
                    });
                }
                Phase::Over(_) => return Ok(Interest::Idle),
            }
            if self.is_over() {
                return Ok(Interest::Idle);
            }
            match self.proxy.consumer.forward(scratch) {
                Ok(piece) if piece.length > 0 => {
                    let head = Head { kind: BYTES, detail: 0, position: piece.position };
                    self.send(head, &scratch[..piece.length])?;
                    self.proxy.consumer.forwarded(piece);
                    self.progressed = true;
                }
                Ok(_) if self.proxy.consumer.ended() || (last && self.proxy.consumer.drained()) => {
                    self.phase = Phase::Ending(Ending::Closed);
                }
                Ok(_) if self.proxy.consumer.arm() => return Ok(Interest::Idle),
                Ok(_) => {}
                Err(Fault::Evicted) => self.phase = Phase::Ending(Ending::Evicted),
                Err(_) => self.phase = Phase::Ending(Ending::Expelled),
            }
        }
        // The other forwarders come next. This one is called again as soon as its socket has room.
        Ok(Interest::Full)
    }
}

impl AsFd for Forwarder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const _: () = assert!(counters::LONGEST + HEAD <= super::wire::LONGEST);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use ringbell_ring::{Config, Identity, Overflow, Producer, Report, Sent, Start};

    use super::*;
    use crate::harness::Everybody;
    use crate::port::guests::Guests;
    use crate::port::stream::proxy::StreamSource;
    use crate::port::stream::wire::{PIECE, encode_report};
    use crate::segment::Segments;
    use crate::sys::eventfd::EventFd;
    use crate::sys::seqpacket;

    /// A topic in this process only.
    fn topic(capacity: usize) -> (Arc<StreamSource>, Producer, Identity) {
        let segments = Segments::local(capacity, 1).unwrap();
        let (data, control) = (segments.data().clone(), segments.control().clone());
        let identity = Identity { capacity, max_slots: 1, overflow: Overflow::Block, nonce: [1, 2] };
        let producer = Producer::create(data.memory(), control.memory(), Config { identity, evict_after: 0 });
        let source = StreamSource {
            data,
            control,
            control_fd: None,
            proxies: Arc::default(),
            room: Arc::new(EventFd::new().unwrap()),
            doorbells: [EventFd::new().unwrap()].into(),
            overflow: Overflow::Block,
            breached: AtomicBool::new(false),
        };
        (Arc::new(source), producer, identity)
    }

    /// No publisher is left that could evict it.
    #[test]
    fn a_guest_cannot_keep_the_rest_of_a_closed_topic() {
        let (source, producer, identity) = topic(1 << 20);
        let guests = Guests::new(1, identity, Arc::clone(&source.room)).unwrap();
        let (guest_slots, admitted) = guests.for_producer();
        let mut producer = producer.with_guests(guest_slots, admitted, 0);
        let mut now = Instant::now();
        let slot = guests.admit_to_stream(7, now).ok().unwrap();
        let proxy = ProxyReader::claim_guest(&source, slot, 1, Start::Latest).unwrap();
        let (ours, theirs) = seqpacket::pair().unwrap();
        let mut forwarder = Forwarder::new(ForkGuarded::new(ours), proxy);
        // This is more than the socket takes.
        for _ in 0..7 {
            assert!(matches!(producer.send(&[1; 100_000], 1, &mut Everybody), Sent::Committed { .. }));
        }
        producer.close();
        let mut scratch = vec![0; PIECE];
        let report = encode_report(&Report::default(), Request::Nothing);
        let end = now + PATIENCE;
        while now < end {
            scm::send(&theirs, &report, &[]).unwrap();
            assert_eq!(forwarder.poll(&mut scratch, false, now), Interest::Full);
            now += PATIENCE / 10;
        }
        assert_eq!(forwarder.poll(&mut scratch, false, now), Interest::Gone);
        drop(forwarder);
        assert_eq!(guests.uid(0), None, "it has left its slot");
    }

    /// A guest may report as often as it likes. This tests how often its reports are looked at, and when the next
    /// time is.
    #[test]
    fn reports_of_another_user_are_rationed() {
        for rationed in [false, true] {
            let (source, producer, _) = topic(4096);
            let proxy = ProxyReader::claim(&source, (1, 0), Start::Latest).unwrap().rationed(rationed);
            let (ours, theirs) = seqpacket::pair().unwrap();
            let mut forwarder = Forwarder::new(ForkGuarded::new(ours), proxy);
            let (mut scratch, now) = (vec![0; PIECE], Instant::now());
            let report = |received| {
                let report = Report { received, ..Report::default() };
                scm::send(&theirs, &encode_report(&report, Request::Nothing), &[]).unwrap();
            };
            let received = || producer.slots().next().unwrap().received;
            for number in 1..=100 {
                report(number);
                let interest = forwarder.poll(&mut scratch, false, now);
                assert_eq!(received(), number);
                if interest == Interest::Paused {
                    break;
                }
            }
            // The reports that come at once, and one report too many.
            assert_eq!(received(), if rationed { 34 } else { 100 });
            report(200);
            let interest = forwarder.poll(&mut scratch, false, now);
            assert_eq!(
                (interest, received()),
                if rationed { (Interest::Paused, 34) } else { (Interest::Idle, 200) }
            );
            if let Some(until) = forwarder.until() {
                forwarder.poll(&mut scratch, false, until);
            }
            assert_eq!(received(), 200);
        }
    }
}
