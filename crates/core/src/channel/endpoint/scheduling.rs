//! Which connection is looked at next, which connections sleep, and how the endpoint sleeps and is woken.
//!
//! Invariant: `awake` holds exactly the numbers of those connections whose `awake` is true. Every other connection was
//! announced as asleep in its ring, so its peer rings the doorbell. One call takes one batch of one connection; the
//! next call takes one of another connection's. The other files of this folder call it. Only `sleep` may wait: its
//! caller learned from `arm_connections` that there is nothing to do.

use std::time::Instant;

use ringbell_ring::{Entry, Read};

use super::Channel;
use crate::channel::connection::decode_token;
use crate::channel::notice::{CloseReason, Drained, Notice};
use crate::error::{Error, Result};
use crate::port::End;
use crate::reactor::NEWS;

/// After this many looks in a row that found nothing, a connection falls asleep, if others are awake.
const IDLE_LOOKS: u32 = 256;
/// Calls between two looks at doorbells and sockets, while the endpoint is too busy to sleep.
const BUSY: u32 = 64;

impl Channel {
    /// Copies one batch of one connection to `slab[fill..]`. `table` says where its messages lie. Each message begins
    /// with a [`Header`](crate::channel::Header).
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` when the bus was closed and everything was read, and in a forked child. What happens to
    /// one connection is a [`Notice`], and the others go on.
    #[inline]
    pub fn drain(&mut self, slab: &mut [u8], fill: usize, table: &mut [Entry]) -> Result<Drained> {
        self.take_news()?;
        if !self.notices.is_empty() {
            return Ok(Drained::Notice);
        }
        self.next_messages(slab, fill, table)
    }

    #[inline]
    pub(super) fn next_messages(
        &mut self,
        slab: &mut [u8],
        fill: usize,
        table: &mut [Entry],
    ) -> Result<Drained> {
        self.poll_sleepers()?;
        let mut looked = 0;
        while looked < self.awake.len() {
            let at = if self.next < self.awake.len() { self.next } else { 0 };
            let Ok(index) = self.find(self.awake[at]) else {
                self.awake.swap_remove(at);
                continue;
            };
            let connection = &mut self.connections[index];
            if let Some(error) = connection.fault().cloned() {
                self.end(index, CloseReason::Failed(error));
                continue;
            }
            match connection.read(slab, fill, table) {
                Ok(Read::Messages { count, bytes, .. }) => {
                    connection.idle = 0;
                    self.next = at + 1;
                    return Ok(Drained::Batch { connection: connection.number, count, bytes });
                }
                Ok(Read::Needs(bytes)) => {
                    self.next = at;
                    return Ok(Drained::NeedSlab(bytes));
                }
                Ok(Read::Large(large)) => {
                    let number = connection.number;
                    match connection.arriving(large) {
                        Ok(Some((header, bytes, headers))) => {
                            connection.idle = 0;
                            self.next = at + 1;
                            return Ok(Drained::Large { connection: number, header, bytes, headers });
                        }
                        Ok(None) => {
                            looked += 1;
                            self.next = at + 1;
                        }
                        Err(fault) => self.end(index, CloseReason::Failed(fault.into())),
                    }
                }
                Ok(Read::Empty) => match connection.end() {
                    Some(End::Closed) => self.end(index, CloseReason::Closed),
                    Some(End::Died | End::Disconnected) => self.end(index, CloseReason::Died),
                    Some(End::Unreadable) => {
                        self.end(index, CloseReason::Failed(End::unreadable()));
                    }
                    Some(End::Severed) | None => {
                        looked += 1;
                        self.next = at + 1;
                        connection.idle += 1;
                        if connection.idle > IDLE_LOOKS
                            && self.awake.len() > 1
                            && connection.arm(self.registrar.inbox())
                        {
                            connection.awake = false;
                            self.awake.swap_remove(at);
                            looked -= 1;
                        }
                    }
                },
                Err(fault) => self.end(index, CloseReason::Failed(fault.into())),
            }
        }
        match self.notices.is_empty() {
            false => Ok(Drained::Notice),
            true if self.closed && self.connections.is_empty() => Err(Error::Closed { what: "bus" }),
            true => Ok(Drained::Empty),
        }
    }

    /// Looks at doorbells and sockets once in a while. A peer rings a sleeping connection, and a peer that dies ends
    /// its socket; both wake a caller that sleeps on `as_fd`. A busy endpoint never sleeps there, so it would see
    /// neither.
    fn poll_sleepers(&mut self) -> Result<()> {
        self.batches = self.batches.wrapping_add(1);
        if self.batches.is_multiple_of(BUSY) {
            self.take_rings(Some(Instant::now()))?;
        }
        Ok(())
    }

    /// Makes a connection one of those that are looked at.
    #[inline]
    pub(super) fn wake(&mut self, number: u32) {
        if let Ok(index) = self.find(number) {
            let connection = &mut self.connections[index];
            connection.idle = 0;
            if !connection.awake {
                connection.awake = true;
                self.awake.push(number);
            }
        }
    }

    /// Looks for something to do, about `iterations` times. It executes pause instructions between two looks. Says
    /// whether it found something.
    pub fn spin(&mut self, iterations: u32) -> bool {
        !self.notices.is_empty() || self.spin_connections(iterations)
    }

    pub(super) fn spin_connections(&mut self, iterations: u32) -> bool {
        if self.home.is_foreign() || self.registrar.inbox().has_news() {
            return true;
        }
        if let [only] = self.awake[..] {
            return self.find(only).is_ok_and(|index| self.connections[index].spin(iterations));
        }
        for _ in 0..iterations / self.awake.len().max(1) as u32 {
            for at in 0..self.awake.len() {
                if self.find(self.awake[at]).is_ok_and(|index| self.connections[index].pending()) {
                    return true;
                }
            }
            std::hint::spin_loop();
        }
        self.registrar.inbox().has_news()
    }

    /// Announces to every awake peer that this endpoint is about to sleep. True means that there is nothing to do:
    /// sleep on `as_fd`, and call [`harvest`](Self::harvest) when it is readable. False means: look again.
    pub fn arm(&mut self) -> bool {
        self.arm_connections() && self.notices.is_empty()
    }

    /// As `arm`, but queued notices do not keep it from sleeping.
    pub(super) fn arm_connections(&mut self) -> bool {
        if self.home.is_foreign() {
            return false;
        }
        let (connections, inbox) = (&mut self.connections, self.registrar.inbox());
        self.awake.retain(|number| {
            let Ok(index) = connections.binary_search_by_key(number, |connection| connection.number) else {
                return false;
            };
            let connection = &mut connections[index];
            connection.awake = !connection.arm(inbox);
            connection.awake
        });
        self.awake.is_empty()
            && !self.registrar.inbox().has_news()
            && !(self.closed && self.connections.is_empty())
    }

    /// Takes the event that woke the sleeper on `as_fd`, so that it can sleep again, and counts the wake-up. False
    /// means that there was none.
    ///
    /// # Errors
    ///
    /// `ERR_RINGBELL_CLOSED` in a forked child. An error of `epoll_wait`, which does not occur in practice.
    pub fn harvest(&mut self) -> Result<bool> {
        self.sleep(Some(Instant::now()))?;
        Ok(!self.ready.is_empty())
    }

    /// Sleeps until something happens, or until `deadline`.
    pub(super) fn sleep(&mut self, deadline: Option<Instant>) -> Result<()> {
        self.ensure_home()?;
        self.take_rings(deadline)?;
        self.past.wakeups += u64::from(!self.ready.is_empty());
        Ok(())
    }

    fn take_rings(&mut self, deadline: Option<Instant>) -> Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        let slept = self.registrar.inbox().sleep(deadline, &mut ready);
        for token in ready.iter().filter(|token| **token != NEWS) {
            let (number, socket) = decode_token(*token);
            if let Ok(index) = self.find(number) {
                let connection = &mut self.connections[index];
                if !socket {
                    connection.on_ring();
                } else {
                    connection.poll_socket();
                    if connection.has_parcels() {
                        self.notify(Notice::Descriptors { connection: number });
                    }
                }
            }
            self.wake(number);
        }
        self.ready = ready;
        slept
    }

    /// Whether there may be messages, or news of connections.
    pub(super) fn pending(&mut self) -> bool {
        self.home.is_foreign()
            || self.registrar.inbox().has_news()
            || self.awake.iter().any(|number| {
                self.connections
                    .binary_search_by_key(number, |connection| connection.number)
                    .is_ok_and(|index| self.connections[index].pending())
            })
    }
}
