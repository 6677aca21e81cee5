//! The handshake alone, with a service and a want of the tests' own. A third kind of endpoint would need nothing
//! more.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::ladder::Ladder;
use super::server::ServerHandshake;
use super::wire::{Connect, Datagram, Refusal};
use super::{Acquired, Acquirer, Answer, Ask, Attempt, Climb, Next, PeerClass, Service, Then, Verdict, Want};
use crate::bus::{Announcement, Bus};
use crate::harness::{PATIENCE, Place, Raw};
use crate::record::{Granted, Record, Rung};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::ForkGuarded;
use crate::sys::scm;
use crate::sys::seqpacket::{self, Peer};
use crate::{Error, Result};

/// Gives each client the same eventfd, and keeps its connection.
struct Lender {
    eventfd: EventFd,
    /// This number of clients is told to come again.
    busy: AtomicU32,
    kept: Sender<ForkGuarded>,
}

impl Service for Lender {
    type Offer = ();

    const ROLE: &'static str = "lender";
    const TAKES_DESCRIPTORS: bool = false;

    fn granted(&self) -> Option<&Granted> {
        None
    }

    fn open(&self, _peer: &Peer, class: PeerClass, request: Datagram, _now: Instant) -> Answer<()> {
        let count = |busy: u32| busy.checked_sub(1);
        match request {
            _ if self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok() => {
                Answer::Refuse(Refusal::Busy, "later".into())
            }
            Datagram::Connect(_) if class == PeerClass::Own => Answer::Offer(()),
            _ => Answer::HangUp,
        }
    }

    fn proceed(&self, (): (), datagram: Datagram) -> Answer<()> {
        if datagram == Datagram::Ack { Answer::Admit(()) } else { Answer::HangUp }
    }

    fn message<'a>(&'a self, (): &'a ()) -> (Datagram, Vec<BorrowedFd<'a>>, Then) {
        (Datagram::Doorbell { slot: 0 }, vec![self.eventfd.as_fd()], Then::Expect)
    }

    fn admit(&self, socket: ForkGuarded, _peer: Peer, (): ()) {
        let _ = self.kept.send(socket);
    }
}

/// Wants the eventfd and the connection.
struct Loan;

impl Want for Loan {
    type Partial = Infallible;
    type Parts = OwnedFd;
    type Port = (OwnedFd, ForkGuarded);

    const ROLE: &'static str = "lender";
    const RUNGS: &'static [Rung] = &[Rung::Handshake];

    fn check(&self, _record: &Record) -> Result<()> {
        Ok(())
    }

    fn request(&self, attempt: &Attempt) -> Datagram {
        let (id, pid) = (attempt.id, std::process::id());
        Datagram::Connect(Connect { id, capabilities: 0, pid, client_ring: 0, server_ring: 0 })
    }

    fn on_datagram(
        &mut self,
        _attempt: &Attempt,
        _partial: Option<Infallible>,
        datagram: Datagram,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Next<Infallible, OwnedFd>, Verdict> {
        match (datagram, fds.pop()) {
            (Datagram::Doorbell { .. }, Some(fd)) => Ok(Next::Confirm(fd)),
            (other, _) => Err(Verdict::unexpected(other)),
        }
    }

    fn finish(
        &mut self,
        _attempt: &Attempt,
        fd: OwnedFd,
        socket: ForkGuarded,
    ) -> Result<(OwnedFd, ForkGuarded), Verdict> {
        Ok((fd, socket))
    }
}

type Borrowed = Acquired<(OwnedFd, ForkGuarded)>;

/// Climbs the ladder on this thread.
pub(crate) fn climb_to_the_end<W: Want>(
    mut ladder: Ladder<W>,
    forget: &mut dyn FnMut(BorrowedFd<'_>),
) -> Result<Box<Acquired<W::Port>>> {
    loop {
        match ladder.climb(Instant::now(), forget) {
            Climb::Ended(result) => return result,
            Climb::Pending(until) => {
                let left = until.saturating_duration_since(Instant::now()).as_millis() as u16 + 1;
                match ladder.fd() {
                    Some(fd) => drop(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], left)),
                    None => std::thread::park_timeout(Duration::from_millis(left.into())),
                }
            }
        }
    }
}

/// Also returns the descriptors that must not be waited for any more.
fn borrow(bus: &Bus, record: Arc<Record>, forced: Option<Rung>) -> (Result<Box<Borrowed>>, Vec<RawFd>) {
    let ladder = Acquirer::new(bus).ladder(Loan, Ask { record, forced, patience: PATIENCE });
    let mut forgotten = Vec::new();
    (climb_to_the_end(ladder, &mut |fd| forgotten.push(fd.as_raw_fd())), forgotten)
}

/// Encodes and decodes the datagrams of a raw peer with the library.
impl Raw {
    pub(crate) fn say(&self, datagram: &Datagram) {
        assert!(self.send(&datagram.encode()), "{datagram:?} comes too late");
    }

    /// The answer of the other end; `None` when it closes.
    pub(crate) fn answer(&self) -> Option<(Datagram, Vec<OwnedFd>)> {
        let (bytes, fds) = self.receive_with_fds();
        (!bytes.is_empty()).then(|| (Datagram::decode(&bytes).unwrap(), fds))
    }

    /// The refusal of the other end, which must come without descriptors.
    pub(crate) fn refusal(&self) -> (Refusal, String) {
        match self.answer() {
            Some((Datagram::Refused { refusal, text, .. }, fds)) if fds.is_empty() => (refusal, text),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_third_kind_of_thing_needs_a_service_and_a_want_alone() {
    let place = Place::new();
    let bus = place.bus();
    let (kept, connections) = channel();
    let eventfd = EventFd::new().unwrap();
    let id = eventfd.id().unwrap();
    let lender = Lender { eventfd, busy: AtomicU32::new(2), kept };
    let announcement = Announcement {
        offers: vec![Rung::Handshake],
        server: Some(super::serve(lender)),
        ..Announcement::new("lender")
    };
    let announced = bus.announce(announcement).unwrap();
    for (forced, fallbacks) in [(None, vec![]), (Some(Rung::Direct), vec![Rung::Direct])] {
        let (acquired, forgotten) = borrow(&bus, announced.record(), forced);
        let Acquired { port: (eventfd, socket), rung, fallbacks: left, .. } = *acquired.unwrap();
        assert_eq!(EventFd::from_peer(eventfd, id).unwrap().id().unwrap(), id);
        assert_eq!((rung, left.iter().map(|left| left.rung).collect()), (Rung::Handshake, fallbacks));
        // The bus thread must stop watching a connection before the port has it. Otherwise data for the port would
        // wake it.
        assert_eq!(forgotten, [socket.as_raw_fd()]);
        assert!(connections.recv_timeout(PATIENCE).is_ok(), "the connection stays");
    }
    let record = announced.record();
    drop(announced);
    assert!(matches!(borrow(&bus, record, None).0, Err(Error::PeerGone { .. })));
}

#[test]
fn a_service_without_descriptors_refuses_them_whatever_its_listener_does() {
    let gift = tempfile::tempfile().unwrap();
    let give = |socket: &OwnedFd| scm::send(socket, b"x", &[gift.as_fd()]);
    let (one, _other) = seqpacket::pair().unwrap();
    if give(&one) != Err(Errno::EPERM) {
        return; // Before Linux 6.16, no socket refuses.
    }
    let folder = tempfile::tempdir().unwrap();
    let directory: OwnedFd = std::fs::File::open(folder.path()).unwrap().into();
    let (at, name) = (directory.as_fd(), "x.sock".as_ref());
    let listener = seqpacket::listen_at(at, folder.path(), name, None).unwrap();
    seqpacket::allow_rights(listener.as_fd());
    let client = seqpacket::endpoint().unwrap();
    seqpacket::connect_at(client.as_fd(), at, folder.path(), name).unwrap();
    give(&client).unwrap();
    let accepted = seqpacket::accept(listener.as_fd()).unwrap();
    let peer = seqpacket::peer(&accepted).unwrap();
    let _handshake = ServerHandshake::<Lender>::new(accepted, peer, Instant::now());
    assert_eq!(give(&client), Err(Errno::EPERM));
}
