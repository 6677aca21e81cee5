//! All subscribers that one publisher streams to. They are served on the bus thread, behind one epoll.
//!
//! The handshake hands over a [`ProxyReader`] and its socket; a [`Forwarder`] then serves them. The forwarders
//! outlive the listener that admitted them, which is replaced when the directory was lost. They also outlive the
//! publisher: what it had committed is still sent. The server is on the bus thread only while there is a forwarder.
//! It watches the ring's doorbells edge-triggered and never reads them, because subscribers that share memory sleep
//! behind them, too.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringbell_ring::Start;

use super::forwarder::{Forwarder, Interest};
use super::proxy::{ProxyReader, StreamSource};
use super::wire::PIECE;
use crate::Result;
use crate::port::guests::GuestSlot;
use crate::reactor::{Handle, Step, Thread, Watched};
use crate::sys::epoll::Epoll;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket;

/// Numbers from here on are doorbells. Numbers below are forwarders.
const BELLS: u64 = 1 << 32;
/// The pause between two looks when the epoll cannot be waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// The most bytes that may be on their way to a subscriber. It is a few datagrams, so that neither side waits for
/// the other.
pub(super) const ON_THE_WAY: usize = 256 << 10;

/// Streams one publisher's ring.
#[derive(Clone)]
pub(crate) struct StreamServer {
    source: Arc<StreamSource>,
    handle: Handle,
    forwarders: Arc<Mutex<Option<Forwarders>>>,
}

impl StreamServer {
    pub(crate) fn new(source: Arc<StreamSource>, handle: Handle) -> StreamServer {
        StreamServer { source, handle, forwarders: Arc::default() }
    }

    /// Claims a slot for a subscriber and joins the ring.
    ///
    /// # Errors
    /// As [`ProxyReader::claim`].
    pub(crate) fn admit(&self, who: (u32, u64), start: Start) -> Result<ProxyReader> {
        ProxyReader::claim(&self.source, who, start)
    }

    /// The same for a guest, in the slot that it was given.
    ///
    /// # Errors
    /// As [`ProxyReader::claim_guest`].
    pub(crate) fn admit_guest(&self, slot: GuestSlot, pid: u32, start: Start) -> Result<ProxyReader> {
        ProxyReader::claim_guest(&self.source, slot, pid, start)
    }

    /// Streams from the proxy to the socket from now on, until either end is gone.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors or watches ran out.
    pub(crate) fn adopt(&self, socket: ForkGuarded, proxy: ProxyReader) -> Result<()> {
        let mut forwarders = self.forwarders();
        if let Some(forwarders) = forwarders.as_mut() {
            return forwarders.add(socket, proxy);
        }
        let mut first = Forwarders::new()?;
        first.add(socket, proxy)?;
        let driver = Driver { epoll: Arc::clone(&first.epoll), server: self.clone() };
        *forwarders = Some(first);
        drop(forwarders);
        self.handle.add(Box::new(driver), None);
        Ok(())
    }

    fn forwarders(&self) -> MutexGuard<'_, Option<Forwarders>> {
        self.forwarders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forwarders {
    epoll: Arc<Epoll>,
    forwarders: HashMap<u64, Served>,
    next: u64,
    scratch: Vec<u8>,
    /// The thread is about to end.
    last: bool,
}

struct Served {
    forwarder: Forwarder,
    /// What its socket is watched for.
    watched: Interest,
}

impl Forwarders {
    fn new() -> Result<Forwarders> {
        let (epoll, scratch) = (Arc::new(Epoll::new()?), vec![0; PIECE]);
        Ok(Forwarders { epoll, forwarders: HashMap::new(), next: 0, scratch, last: false })
    }

    fn add(&mut self, socket: ForkGuarded, proxy: ProxyReader) -> Result<()> {
        let (bell, doorbell) = proxy.bell();
        self.epoll.watch_edges(doorbell.as_fd(), BELLS + bell as u64)?;
        seqpacket::widen(&socket, ON_THE_WAY);
        // The socket is writable, so the first poll comes at once.
        self.epoll.watch_writable(socket.as_fd(), self.next)?;
        self.forwarders
            .insert(self.next, Served { forwarder: Forwarder::new(socket, proxy), watched: Interest::Full });
        self.next = (self.next + 1) % BELLS;
        Ok(())
    }

    /// Does what can be done without waiting. Returns the latest time for the next call.
    fn poll(&mut self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // This cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
        let _ = self.epoll.wait(Some(now), &mut ready);
        for number in ready {
            match number.checked_sub(BELLS) {
                None => self.advance(number, now),
                Some(bell) => {
                    self.advance_all(now, |forwarder| forwarder.bell() as u64 == bell);
                }
            }
        }
        self.advance_all(now, |forwarder| forwarder.until().is_some_and(|until| until <= now));
        self.forwarders.values().filter_map(|served| served.forwarder.until()).min()
    }

    fn advance_all(&mut self, now: Instant, chosen: impl Fn(&Forwarder) -> bool) {
        let chosen = self.forwarders.iter().filter(|(_, served)| chosen(&served.forwarder));
        let numbers: Vec<u64> = chosen.map(|(number, _)| *number).collect();
        for number in numbers {
            self.advance(number, now);
        }
    }

    fn advance(&mut self, number: u64, now: Instant) {
        let Some(served) = self.forwarders.get_mut(&number) else { return };
        let interest = served.forwarder.poll(&mut self.scratch, self.last, now);
        if std::mem::replace(&mut served.watched, interest) == interest {
            return;
        }
        let socket = served.forwarder.as_fd();
        let watched = match interest {
            Interest::Idle => self.epoll.watch(socket, number),
            Interest::Full => self.epoll.watch_writable(socket, number),
            Interest::Paused => {
                self.epoll.forget(socket);
                Ok(())
            }
            Interest::PausedFull => self.epoll.watch_room(socket, number),
            // Closing its socket takes it out of the epoll.
            Interest::Gone => return drop(self.forwarders.remove(&number)),
        };
        if watched.is_err() {
            self.forwarders.remove(&number);
        }
    }

    /// Nothing will follow, whatever the topic says: sends the rest. False: that is done.
    fn finish(&mut self, now: Instant) -> bool {
        if !std::mem::replace(&mut self.last, true) {
            self.advance_all(now, |_| true);
        }
        self.forwarders.values().any(|served| !served.forwarder.is_over())
    }
}

/// A stream server on its bus thread.
struct Driver {
    epoll: Arc<Epoll>,
    server: StreamServer,
}

impl Watched for Driver {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        let mut driven = self.server.forwarders();
        let Some(forwarders) = driven.as_mut() else { return Step::Finished };
        let again = forwarders.poll(Instant::now());
        if forwarders.forwarders.is_empty() {
            *driven = None;
            return Step::Finished;
        }
        Step::Again(again)
    }

    /// If the epoll cannot be waited for, no subscriber would get anything more. Until it can be, it is looked at
    /// from time to time.
    fn retry(&self) -> Option<Duration> {
        Some(PAUSE)
    }

    fn linger(&mut self) -> bool {
        self.server.forwarders().as_mut().is_some_and(|forwarders| forwarders.finish(Instant::now()))
    }
}

impl Drop for Driver {
    /// For whatever reason it ended, the next subscriber must find a server that is not driven.
    fn drop(&mut self) {
        let forwarders = self.server.forwarders().take();
        // This is outside of the lock: dropping the forwarders leaves topics, which rings doorbells.
        drop(forwarders);
    }
}
