//! The listening socket of a record, and the handshakes that began on it.
//!
//! Invariants: there are at most 64 handshakes at once, each with a deadline. More clients wait in the backlog.
//! When this process has no descriptor left, a reserved one still serves one client at a time, and the listener
//! pauses instead of spinning. A client that breaks the protocol loses its own connection and costs other clients
//! nothing. Another user gets only a share of the handshakes. The listener lives on the bus thread, behind one
//! epoll of its own. It never calls into JS and never blocks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::server::{HandshakeStatus, ServerHandshake, Service, Terms};
use crate::Result;
use crate::bus::Serve;
use crate::reactor::{Step, Thread, Watched};
use crate::sys::epoll::Epoll;
use crate::sys::fork::ForkGuarded;
use crate::sys::{duplicate, seqpacket};

/// Most handshakes at once. Each may have three descriptors in flight, or five for a channel, and the kernel allows
/// a user RLIMIT_NOFILE of them.
pub(crate) const MOST: usize = 64;
/// Most handshakes at once of one user, other than the own user and root.
const SHARE: usize = 16;
/// How long the listener pauses when no descriptor was left. It pauses a tenth of that when too many clients came
/// whose users had no share left.
const PAUSE: Duration = Duration::from_millis(100);

const LISTENER: u64 = 0;

/// Makes the function that the bus calls with each listening socket of a record.
pub(crate) fn serve<S: Service>(service: S) -> Serve {
    let service = Arc::new(service);
    Box::new(move |listener| {
        let terms = Terms::new(Arc::clone(&service), listener.as_fd());
        Ok(Box::new(Listener::new(listener, terms)?) as Box<dyn Watched>)
    })
}

/// A listening socket, with the handshakes that began on it.
struct Listener<S: Service> {
    epoll: Epoll,
    listener: ForkGuarded,
    accepting: bool,
    /// The listener is paused until this time.
    paused_until: Option<Instant>,
    /// A spare descriptor. It is closed to serve one more client when descriptors have run out, and made again later.
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
            reserve: Some(ForkGuarded::new(duplicate(&listener)?)),
            listener: ForkGuarded::new(listener),
            accepting: true,
            paused_until: None,
            handshakes: HashMap::new(),
            next: LISTENER + 1,
            terms,
        })
    }

    /// Does what can be done without waiting. Returns the latest time for the next call.
    fn poll(&mut self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // This cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
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
        // The number of tries is limited, too: if clients come and go faster than this loop runs, the rest is left
        // for the next poll.
        let mut turned_away = 0;
        for _ in 0..MOST {
            if self.handshakes.len() >= MOST {
                return;
            }
            if turned_away >= MOST / 2 {
                self.paused_until = Some(now + PAUSE / 10);
                return;
            }
            let socket = match seqpacket::accept(self.listener.as_fd()) {
                Ok(socket) => socket,
                Err(Errno::EAGAIN) => return,
                Err(Errno::ECONNABORTED) => continue,
                // The reserve makes room for one.
                Err(Errno::EMFILE | Errno::ENFILE) if self.reserve.take().is_some() => continue,
                // EPERM is one of these errors. A filter answers it, and answers the same as long as it is asked.
                Err(_) => {
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
            };
            let Ok(peer) = seqpacket::peer(&socket) else { continue };
            if self.has_its_share(peer.uid) {
                // It is closed unheard. An honest client tries again.
                turned_away += 1;
                continue;
            }
            let number = self.next;
            self.next += 1;
            if self.epoll.watch(socket.as_fd(), number).is_ok() {
                self.handshakes.insert(number, ServerHandshake::new(socket, peer, now));
                // Usually the request is already there.
                self.advance(number, now);
            }
        }
    }

    /// Whether a user has as many handshakes in progress as it may have.
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

    /// When there are as many handshakes as possible, ends those that keep the others waiting for too long. An
    /// honest client tries again.
    fn shed_idle(&mut self, now: Instant) {
        if self.handshakes.len() < MOST {
            return;
        }
        let keeps = |handshake: &ServerHandshake<S>| handshake.droppable_from().is_none_or(|when| when > now);
        let late = self.handshakes.iter().filter(|(_, handshake)| !keeps(handshake));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            // Its datagram may have come just now.
            self.advance(number, now);
            if self.handshakes.get(&number).is_some_and(|handshake| !keeps(handshake)) {
                self.handshakes.remove(&number);
            }
        }
    }

    /// Watches the listener while there is room for a handshake and a descriptor, and stops watching it otherwise.
    /// A listener that is ready but not accepted from would wake the thread again and again.
    fn update_listener(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        if self.reserve.is_none() {
            self.reserve = duplicate(&self.listener).ok().map(ForkGuarded::new);
        }
        let open = self.paused_until.is_none() && self.handshakes.len() < MOST;
        if open && !self.accepting {
            self.accepting = self.epoll.watch(self.listener.as_fd(), LISTENER).is_ok();
            if !self.accepting {
                self.paused_until = Some(now + PAUSE);
            }
        } else if !open && self.accepting {
            self.epoll.forget(self.listener.as_fd());
            self.accepting = false;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let full = self.handshakes.len() >= MOST;
        let handshakes = self.handshakes.values().map(|handshake| {
            let from = handshake.droppable_from().filter(|_| full);
            from.map_or(handshake.until(), |from| from.min(handshake.until()))
        });
        handshakes.chain(self.paused_until).min()
    }
}

impl<S: Service> Watched for Listener<S> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(self.poll(Instant::now()))
    }

    /// If the epoll cannot be waited for, no peer could attach by the handshake any more. Until it can be, it is
    /// looked at from time to time.
    fn retry(&self) -> Option<Duration> {
        Some(PAUSE)
    }
}
