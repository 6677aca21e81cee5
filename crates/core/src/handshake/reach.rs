//! Reaching a peer's socket: it connects without blocking, again and again, until the peer answers or the time has
//! run out.
//!
//! Invariants: the process that listens has the uid of the process that announced. If there is no connection yet,
//! it tries again after a growing pause: a full backlog (EAGAIN), a peer that is short of descriptors, and a peer
//! that has dropped this client cannot be told apart. It stops when the record's lock says that the peer is dead.
//! Called by `client`. It sends nothing over the connection itself.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::backoff::Backoff;
use super::proof;
use super::verdict::Verdict;
use super::wire::id_bytes;
use crate::Error;
use crate::bus::directory::Directory;
use crate::record::Record;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket;

/// Takes the place of a time limit that no clock can hold.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The socket of one peer, and how long it may take to reach it.
pub(super) struct Reach {
    directory: Arc<Directory>,
    record: Arc<Record>,
    patience: Duration,
    give_up: Instant,
    backoff: Backoff,
}

/// The result of one try.
pub(super) enum Reached {
    /// Connected. The process at the other end has the right uid.
    Connected(ForkGuarded),
    /// Try again at that time, with the same socket if there is one.
    Later { socket: Option<ForkGuarded>, until: Instant },
}

impl Reach {
    pub(super) fn new(
        directory: Arc<Directory>,
        record: Arc<Record>,
        now: Instant,
        patience: Duration,
    ) -> Reach {
        Reach {
            directory,
            record,
            patience,
            give_up: now.checked_add(patience).unwrap_or(now + LONGEST),
            backoff: Backoff::new(),
        }
    }

    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// Goes on with a newer record of the same instance, if there is one.
    pub(super) fn follow(&mut self, record: Option<Arc<Record>>) {
        self.record = record.unwrap_or_else(|| Arc::clone(&self.record));
    }

    /// The id of the instance, as datagrams carry it.
    pub(super) fn instance(&self) -> Result<[u8; 16], Verdict> {
        id_bytes(&self.record.id).ok_or_else(|| Verdict::corrupt("its record has an invalid id"))
    }

    pub(super) fn give_up(&self) -> Instant {
        self.give_up
    }

    /// Tries once.
    pub(super) fn connect(&mut self, socket: Option<ForkGuarded>, now: Instant) -> Result<Reached, Verdict> {
        let failed = |call, errno| Verdict::Fail(Error::os(call, errno, "cannot reach a peer's socket"));
        let socket = match socket {
            Some(socket) => socket,
            None => ForkGuarded::new(seqpacket::endpoint().map_err(|errno| failed("socket", errno))?),
        };
        let (dir, name) = (self.directory.fd(), self.record.socket_name());
        match seqpacket::connect_at(socket.as_fd(), dir.as_fd(), self.directory.path(), OsStr::new(&name)) {
            Ok(()) => self.recognise(socket, now),
            // The backlog is full, and poll does not tell when there is room again.
            Err(Errno::EAGAIN) => Ok(Reached::Later { until: self.again(now)?, socket: Some(socket) }),
            // No process listens at the moment: the peer is dead, or is about to announce itself again.
            Err(Errno::ECONNREFUSED | Errno::ENOENT | Errno::ECONNRESET) => self.later(now),
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => Err(Verdict::closed(
                errno,
                "its socket is not open to this user: its option access must name other users that may connect",
            )),
            Err(errno @ (Errno::ENAMETOOLONG | Errno::EPROTOTYPE)) => {
                Err(Verdict::closed(errno, "its socket cannot be reached"))
            }
            Err(errno) => Err(failed("connect", errno)),
        }
    }

    fn recognise(&mut self, socket: ForkGuarded, now: Instant) -> Result<Reached, Verdict> {
        match seqpacket::peer(&socket) {
            Ok(peer) if peer.uid == self.record.uid => Ok(Reached::Connected(socket)),
            Ok(peer) => Err(Verdict::corrupt(format!(
                "uid {} listens where uid {} announced",
                peer.uid, self.record.uid
            ))),
            Err(_) => self.later(now),
        }
    }

    fn later(&mut self, now: Instant) -> Result<Reached, Verdict> {
        Ok(Reached::Later { socket: None, until: self.again(now)? })
    }

    /// The time of the next try. It is an error if the peer is dead.
    pub(super) fn again(&mut self, now: Instant) -> Result<Instant, Verdict> {
        proof::check_alive(&self.directory, &self.record)?;
        Ok(now + self.backoff.next())
    }

    /// The reason why it has taken too long.
    pub(super) fn late(&self) -> Verdict {
        let timeout = || Error::Timeout {
            what: format!("the handshake with '{}' (process {})", self.record.service, self.record.pid),
            milliseconds: self.patience.as_millis() as u64,
        };
        proof::check_alive(&self.directory, &self.record).err().unwrap_or_else(|| Verdict::Fail(timeout()))
    }
}
