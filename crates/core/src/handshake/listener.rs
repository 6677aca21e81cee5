//! The socket of a record, and the handshakes that came of it.
//!
//! Invariants: at most 64 handshakes at once, each with a deadline; more wait in the backlog. When this process is out of
//! descriptors, a reserved one still serves one client at a time, and the listener rests instead of spinning. A client that breaks
//! the protocol costs itself its connection, and costs others nothing; another user can take but a share of the handshakes. Lives on
//! the bus thread behind one epoll of its own; never calls into JS, never blocks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::server::{HandshakeStatus, ServerHandshake, Service, Terms};
use crate::bus::Serve;
use crate::reactor::{Step, Thread, Watched};
use crate::sys::epoll::Epoll;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket;
use crate::{Error, Result};

/// Most handshakes at once. Each may have three descriptors in flight, or five for a channel, and a user may have RLIMIT_NOFILE of them.
pub(crate) const MOST: usize = 64;
/// Most handshakes at once of one user other than one's own and root.
const SHARE: usize = 16;
/// How long the listener rests when no descriptor was to be had, or a tenth of it when too many came that had no share left.
const REST: Duration = Duration::from_millis(100);

const LISTENER: u64 = 0;

/// What the bus calls with each listening socket of a record.
pub(crate) fn serve<S: Service>(service: S) -> Serve {
    let service = Arc::new(service);
    Box::new(move |listener| {
        service.prepare(listener.as_fd());
        let terms = Terms::new(Arc::clone(&service), listener.as_fd());
        Ok(Box::new(Listener::new(listener, terms)?) as Box<dyn Watched>)
    })
}

/// A listening socket with the handshakes that came of it.
struct Listener<S: Service> {
    epoll: Epoll,
    listener: ForkGuarded,
    accepting: bool,
    /// Until when it rests.
    rest: Option<Instant>,
    /// Given up to serve one more client when descriptors have run out, and taken back afterwards.
    reserve: Option<ForkGuarded>,
    handshakes: HashMap<u64, ServerHandshake<S>>,
    next: u64,
    terms: Terms<S>,
}

impl<S: Service> Listener<S> {
    fn new(listener: OwnedFd, terms: Terms<S>) -> Result<Listener<S>> {
        let epoll = Epoll::new()?;
        epoll.watch(listener.as_fd(), LISTENER)?;
        Ok(Listener {
            epoll,
            reserve: Some(ForkGuarded::new(duplicate(listener.as_fd())?)),
            listener: ForkGuarded::new(listener),
            accepting: true,
            rest: None,
            handshakes: HashMap::new(),
            next: LISTENER + 1,
            terms,
        })
    }

    /// Does what can be done without waiting. The time at which it wants to be called again at the latest.
    fn turn(&mut self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // Cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
        let _ = self.epoll.wait(Some(now), &mut ready);
        for number in ready {
            if number == LISTENER { self.accept(now) } else { self.advance(number, now) }
        }
        for number in self.due(now) {
            self.advance(number, now);
        }
        self.shed_idle(now);
        self.update_listener(now);
        self.deadline()
    }

    fn accept(&mut self, now: Instant) {
        // Bounded by its own count too: what comes and goes faster than this turns is left for the next turn.
        let mut turned_away = 0;
        for _ in 0..MOST {
            if self.handshakes.len() >= MOST {
                return;
            }
            if turned_away >= MOST / 2 {
                self.rest = Some(now + REST / 10);
                return;
            }
            let socket = match seqpacket::accept(self.listener.as_fd()) {
                Ok(socket) => socket,
                Err(Errno::EAGAIN) => return,
                Err(Errno::ECONNABORTED) => continue,
                // Room for one: the reserve.
                Err(Errno::EMFILE | Errno::ENFILE) if self.reserve.take().is_some() => continue,
                // EPERM among them: that is a filter's answer, and it stays the same for as long as it is asked.
                Err(_) => {
                    self.rest = Some(now + REST);
                    return;
                }
            };
            let Ok(peer) = seqpacket::peer(&socket) else { continue };
            if self.has_its_share(peer.uid) {
                // Closed unheard: an honest one tries again.
                turned_away += 1;
                continue;
            }
            let number = self.next;
            self.next += 1;
            if self.epoll.watch(socket.as_fd(), number).is_ok() {
                self.handshakes.insert(number, ServerHandshake::new(socket, peer, now));
                // The request usually is there already.
                self.advance(number, now);
            }
        }
    }

    /// Whether a user has as many handshakes under way as it may.
    fn has_its_share(&self, uid: u32) -> bool {
        !self.terms.is_trusted(uid)
            && self.handshakes.values().filter(|handshake| handshake.uid() == uid).count() >= SHARE
    }

    fn advance(&mut self, number: u64, now: Instant) {
        let Some(handshake) = self.handshakes.get_mut(&number) else { return };
        match handshake.advance(&self.terms, now) {
            HandshakeStatus::Open => {}
            // Closing its socket takes it out of the epoll.
            HandshakeStatus::Finished => drop(self.handshakes.remove(&number)),
            HandshakeStatus::Admitted => {
                if let Some(handshake) = self.handshakes.remove(&number) {
                    self.epoll.forget(handshake.socket());
                    handshake.admit(&self.terms);
                }
            }
        }
    }

    fn due(&self, now: Instant) -> Vec<u64> {
        self.handshakes
            .iter()
            .filter(|(_, handshake)| handshake.until() <= now)
            .map(|(number, _)| *number)
            .collect()
    }

    /// When there are as many handshakes as there may be, those end that keep the others waiting for too long; an honest client tries
    /// again.
    fn shed_idle(&mut self, now: Instant) {
        if self.handshakes.len() < MOST {
            return;
        }
        let keeps = |handshake: &ServerHandshake<S>| handshake.gives_way().is_none_or(|when| when > now);
        let late = self.handshakes.iter().filter(|(_, handshake)| !keeps(handshake));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            // Its word may have come just now.
            self.advance(number, now);
            if self.handshakes.get(&number).is_some_and(|handshake| !keeps(handshake)) {
                self.handshakes.remove(&number);
            }
        }
    }

    /// Opens the listener when there is a place and a descriptor, and closes it when not: a listener that is
    /// ready and not accepted from would wake the thread for ever.
    fn update_listener(&mut self, now: Instant) {
        if self.rest.is_some_and(|until| until <= now) {
            self.rest = None;
        }
        if self.reserve.is_none() {
            self.reserve = duplicate(self.listener.as_fd()).ok().map(ForkGuarded::new);
        }
        let open = self.rest.is_none() && self.handshakes.len() < MOST;
        if open && !self.accepting {
            self.accepting = self.epoll.watch(self.listener.as_fd(), LISTENER).is_ok();
            if !self.accepting {
                self.rest = Some(now + REST);
            }
        } else if !open && self.accepting {
            self.epoll.forget(self.listener.as_fd());
            self.accepting = false;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let full = self.handshakes.len() >= MOST;
        let handshakes = self.handshakes.values().map(|handshake| {
            let way = handshake.gives_way().filter(|_| full);
            way.map_or(handshake.until(), |way| way.min(handshake.until()))
        });
        handshakes.chain(self.rest).min()
    }
}

impl<S: Service> Watched for Listener<S> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(self.turn(Instant::now()))
    }

    /// Without it no peer could attach by the handshake any more: until it can be waited for, it is looked at.
    fn retry(&self) -> Option<Duration> {
        Some(REST)
    }
}

/// A descriptor of this process's own for the same file.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EMFILE));
        Error::os("fcntl", errno, "cannot copy a descriptor")
    })
}
