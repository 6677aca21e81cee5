//! All subscribers that one publisher streams to, on the bus thread, behind one epoll.
//!
//! Invariants: the pumps outlive the listener that admitted them (it is replaced when the directory was lost) and the publisher
//! (what it had committed is still handed over); the station is on the bus thread while there is a pump, and only
//! then. The ring's doorbells are watched edge-triggered and never read: subscribers that share memory sleep behind them too.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringbell_ring::Start;

use super::pump::{Pump, Turn};
use super::seat::{Seat, Tap};
use super::wire::PIECE;
use crate::Result;
use crate::acquire::guests::GuestPlace;
use crate::reactor::{Handle, Step, Thread, Watched};
use crate::sys::epoll::Epoll;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket;

/// Numbers from here on are doorbells; below, pumps.
const BELLS: u64 = 1 << 32;
/// How long before it is looked at again when it cannot be waited for.
const REST: Duration = Duration::from_millis(20);
/// What may be on its way to a subscriber: a few datagrams, so that neither side waits for the other.
pub(super) const ON_THE_WAY: usize = 256 << 10;

/// The pumps of one publisher.
#[derive(Clone)]
pub(crate) struct Station {
    tap: Arc<Tap>,
    handle: Handle,
    pumps: Arc<Mutex<Option<Pumps>>>,
}

impl Station {
    pub(crate) fn new(tap: Arc<Tap>, handle: Handle) -> Station {
        Station { tap, handle, pumps: Arc::default() }
    }

    /// A slot for a subscriber, joined.
    ///
    /// # Errors
    /// As [`Seat::take`].
    pub(crate) fn admit(&self, who: (u32, u64), start: Start) -> Result<Seat> {
        Seat::take(&self.tap, who, start)
    }

    /// The same for another user, in the place that it was let into.
    ///
    /// # Errors
    /// As [`Seat::take_place`].
    pub(crate) fn admit_guest(&self, place: GuestPlace, pid: u32, start: Start) -> Result<Seat> {
        Seat::take_place(&self.tap, place, pid, start)
    }

    /// Streams from the seat to the socket from now on, until either end goes.
    ///
    /// # Errors
    /// `ERR_RINGBELL_RESOURCE` when descriptors or watches ran out.
    pub(crate) fn adopt(&self, socket: ForkGuarded, seat: Seat) -> Result<()> {
        let mut place = self.pumps();
        if let Some(pumps) = place.as_mut() {
            return pumps.add(socket, seat);
        }
        let mut pumps = Pumps::new()?;
        pumps.add(socket, seat)?;
        let driver = Driver { epoll: Arc::clone(&pumps.epoll), station: self.clone() };
        *place = Some(pumps);
        drop(place);
        self.handle.add(Box::new(driver), None);
        Ok(())
    }

    fn pumps(&self) -> MutexGuard<'_, Option<Pumps>> {
        self.pumps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pumps {
    epoll: Arc<Epoll>,
    pumps: HashMap<u64, Place>,
    next: u64,
    scratch: Vec<u8>,
    /// The thread is about to end.
    last: bool,
}

struct Place {
    pump: Pump,
    /// What its socket is watched for.
    watched: Turn,
}

impl Pumps {
    fn new() -> Result<Pumps> {
        let (epoll, scratch) = (Arc::new(Epoll::new()?), vec![0; PIECE]);
        Ok(Pumps { epoll, pumps: HashMap::new(), next: 0, scratch, last: false })
    }

    fn add(&mut self, socket: ForkGuarded, seat: Seat) -> Result<()> {
        let (bell, doorbell) = seat.bell();
        self.epoll.watch_edges(doorbell.as_fd(), BELLS + bell as u64)?;
        seqpacket::widen(&socket, ON_THE_WAY);
        // It is writable, so its first turn comes at once.
        self.epoll.watch_writable(socket.as_fd(), self.next)?;
        self.pumps.insert(self.next, Place { pump: Pump::new(socket, seat), watched: Turn::Full });
        self.next = (self.next + 1) % BELLS;
        Ok(())
    }

    /// Does what can be done without waiting. The time at which it wants to be called again at the latest.
    fn turn(&mut self, now: Instant) -> Option<Instant> {
        let mut ready = Vec::new();
        // Cannot fail: see `Epoll::wait`. What is still ready then wakes the bus thread again.
        let _ = self.epoll.wait(Some(now), &mut ready);
        for number in ready {
            match number.checked_sub(BELLS) {
                None => self.advance(number, now),
                Some(bell) => {
                    self.advance_all(now, |pump| pump.bell() as u64 == bell);
                }
            }
        }
        self.advance_all(now, |pump| pump.until().is_some_and(|until| until <= now));
        self.pumps.values().filter_map(|place| place.pump.until()).min()
    }

    fn advance_all(&mut self, now: Instant, chosen: impl Fn(&Pump) -> bool) {
        let chosen = self.pumps.iter().filter(|(_, place)| chosen(&place.pump));
        let numbers: Vec<u64> = chosen.map(|(number, _)| *number).collect();
        for number in numbers {
            self.advance(number, now);
        }
    }

    fn advance(&mut self, number: u64, now: Instant) {
        let Some(place) = self.pumps.get_mut(&number) else { return };
        let turn = place.pump.turn(&mut self.scratch, self.last, now);
        if std::mem::replace(&mut place.watched, turn) == turn {
            return;
        }
        let socket = place.pump.as_fd();
        let watched = match turn {
            Turn::Idle => self.epoll.watch(socket, number),
            Turn::Full => self.epoll.watch_writable(socket, number),
            Turn::Rest => {
                self.epoll.forget(socket);
                Ok(())
            }
            Turn::RestFull => self.epoll.watch_room(socket, number),
            // Closing its socket takes it out of the epoll.
            Turn::Gone => return drop(self.pumps.remove(&number)),
        };
        if watched.is_err() {
            self.pumps.remove(&number);
        }
    }

    /// Nothing will follow, whatever the topic says: hands over the rest. False when that is done.
    fn finish(&mut self, now: Instant) -> bool {
        if !std::mem::replace(&mut self.last, true) {
            self.advance_all(now, |_| true);
        }
        self.pumps.values().any(|place| !place.pump.is_over())
    }
}

/// A station on its bus thread.
struct Driver {
    epoll: Arc<Epoll>,
    station: Station,
}

impl Watched for Driver {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        let mut place = self.station.pumps();
        let Some(pumps) = place.as_mut() else { return Step::Finished };
        let again = pumps.turn(Instant::now());
        if pumps.pumps.is_empty() {
            *place = None;
            return Step::Finished;
        }
        Step::Again(again)
    }

    /// Without it nobody would get anything any more: until it can be waited for, it is looked at.
    fn retry(&self) -> Option<Duration> {
        Some(REST)
    }

    fn linger(&mut self) -> bool {
        self.station.pumps().as_mut().is_some_and(|pumps| pumps.finish(Instant::now()))
    }
}

impl Drop for Driver {
    /// Whatever ended it: who comes next is to find a station that is not driven.
    fn drop(&mut self) {
        let pumps = self.station.pumps().take();
        // Outside of the lock: it leaves topics, which rings.
        drop(pumps);
    }
}
