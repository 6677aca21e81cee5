//! Reaching a peer's socket: connecting without blocking, again and again until it answers or the time has run out.
//!
//! Invariants: who listens has the uid that announced; a connection that cannot be had yet is tried again after a
//! growing pause, because a full backlog (EAGAIN), a peer that is short of descriptors and one that has shed us all look
//! alike, unless the record's lock says that it is dead. Handshakes of topics and channels both begin here.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::backoff::Backoff;
use super::client::corrupt;
use super::proof;
use super::protocol::id_bytes;
use super::verdict::Verdict;
use crate::Error;
use crate::bus::directory::Directory;
use crate::record::Record;
use crate::sys::fork::ForkGuarded;
use crate::sys::seqpacket;

/// Longer than anybody waits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// One peer's socket, and how long it may take to reach it.
pub(crate) struct Reach {
    directory: Arc<Directory>,
    record: Arc<Record>,
    patience: Duration,
    give_up: Instant,
    backoff: Backoff,
}

/// How a try ended.
pub(crate) enum Reached {
    /// The other end has the right uid.
    Connected(ForkGuarded),
    /// To be tried again at that time, with the same socket if there is one.
    Later { socket: Option<ForkGuarded>, until: Instant },
}

impl Reach {
    pub(crate) fn new(
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

    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The instance, as datagrams name it.
    pub(crate) fn instance(&self) -> Result<[u8; 16], Verdict> {
        id_bytes(&self.record.id).ok_or_else(|| corrupt("its record has an id that is none".into()))
    }

    pub(crate) fn give_up(&self) -> Instant {
        self.give_up
    }

    /// Tries once.
    pub(crate) fn connect(&mut self, socket: Option<ForkGuarded>, now: Instant) -> Result<Reached, Verdict> {
        let failed = |call, errno| Verdict::Fail(Error::os(call, errno, "cannot reach a peer's socket"));
        let socket = match socket {
            Some(socket) => socket,
            None => ForkGuarded::new(seqpacket::endpoint().map_err(|errno| failed("socket", errno))?),
        };
        let (dir, name) = (self.directory.fd(), self.record.socket_name());
        match seqpacket::connect_at(socket.as_fd(), dir.as_fd(), self.directory.path(), OsStr::new(&name)) {
            Ok(()) => self.recognise(socket, now),
            // The backlog is full, and poll would not tell when it no longer is.
            Err(Errno::EAGAIN) => Ok(Reached::Later { until: self.again(now)?, socket: Some(socket) }),
            // Nobody listens at the moment: dead, or about to announce itself once more.
            Err(Errno::ECONNREFUSED | Errno::ENOENT | Errno::ECONNRESET) => self.later(now),
            Err(errno @ (Errno::EACCES | Errno::EPERM)) => Err(Verdict::closed(
                errno,
                "its socket is not open to this user: it names who else may by its option access",
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
            Ok(peer) => {
                Err(corrupt(format!("uid {} listens where uid {} announced", peer.uid, self.record.uid)))
            }
            Err(_) => self.later(now),
        }
    }

    fn later(&mut self, now: Instant) -> Result<Reached, Verdict> {
        Ok(Reached::Later { socket: None, until: self.again(now)? })
    }

    /// When to try once more; unless the peer is dead.
    pub(crate) fn again(&mut self, now: Instant) -> Result<Instant, Verdict> {
        proof::check(&self.directory, &self.record)?;
        Ok(now + self.backoff.next())
    }

    /// Why it has taken too long.
    pub(crate) fn late(&self) -> Verdict {
        let timeout = || Error::Timeout {
            what: format!("the handshake with '{}' (process {})", self.record.service, self.record.pid),
            milliseconds: self.patience.as_millis() as u64,
        };
        proof::check(&self.directory, &self.record).err().unwrap_or_else(|| Verdict::Fail(timeout()))
    }
}
