//! How a table comes from one member to another: what a newcomer wants, and what a member gives.
//!
//! Invariants: what came is checked before it is used (`segment::attach_table`), on every rung. Only processes of the same
//! user, and root's, get a table: whoever has it can write all of it. `handshake` calls this, on the bus thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use ringbell_ring::table::Kind;

use super::member::Spec;
use crate::bus::Directory;
use crate::error::{Error, Result};
use crate::handshake::wire::{Datagram, Refusal, id_bytes};
use crate::handshake::{
    Answer, Attempt, Next, PeerClass, Service, Then, Verdict, Want, check_alive, same_world, verdict_for,
};
use crate::record::{Granted, Record, Rung, SyncRecord};
use crate::segment::{OwnTable, attach_table};
use crate::sys::fork::ForkGuarded;
use crate::sys::memfd;
use crate::sys::pidfd::PidFd;
use crate::sys::seqpacket::Peer;

/// A newcomer that wants the table.
pub(super) struct WantTable(pub(super) Spec);

fn section(record: &Record) -> Result<&SyncRecord> {
    record.sync.as_ref().ok_or_else(|| Error::Record {
        file: record.file_name(),
        reason: "it announces no table, so there is nothing to join".into(),
    })
}

impl WantTable {
    fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl Want for WantTable {
    type Partial = ();
    type Parts = OwnTable;
    type Port = OwnTable;

    const ROLE: &'static str = "member";
    const RUNGS: &'static [Rung] = &[Rung::Direct, Rung::Handshake];

    fn check(&self, record: &Record) -> Result<()> {
        section(record).map(drop)
    }

    fn direct(&mut self, directory: &Directory, record: &Record, _forced: bool) -> Result<OwnTable, Verdict> {
        let sync = section(record)?;
        same_world(record)?;
        let process = PidFd::open(record.pid);
        check_alive(directory, record)?;
        let fd = copy(process, record.pid, sync.memory.fd)?;
        let attached = attach_table(fd, self.kind(), sync);
        // A process that has gone meanwhile is not to blame for what came from its number.
        check_alive(directory, record)?;
        attached.map_err(Verdict::of)
    }

    fn request(&self, attempt: &Attempt) -> Datagram {
        Datagram::Join { id: attempt.id }
    }

    fn on_datagram(
        &mut self,
        attempt: &Attempt,
        _partial: Option<()>,
        datagram: Datagram,
        mut fds: Vec<OwnedFd>,
    ) -> Result<Next<(), OwnTable>, Verdict> {
        let sync = section(&attempt.record)?;
        match (datagram, fds.pop(), fds.len()) {
            (Datagram::Table { id }, Some(fd), 0) if id_bytes(&sync.nonce) == Some(id) => {
                let table = attach_table(fd, self.kind(), sync).map_err(Verdict::of)?;
                Ok(Next::Acknowledge(table))
            }
            (datagram, ..) => Err(Verdict::unexpected(datagram)),
        }
    }

    fn finish(&mut self, _: &Attempt, table: OwnTable, _socket: ForkGuarded) -> Result<OwnTable, Verdict> {
        Ok(table)
    }
}

/// The kernel's copy, or the same file opened again where a copy is refused.
fn copy(process: nix::Result<PidFd>, pid: u32, number: i32) -> Result<OwnedFd, Verdict> {
    match process.and_then(|process| process.getfd(number)) {
        Ok(fd) => Ok(fd),
        Err(refused @ (Errno::EPERM | Errno::ENOSYS | Errno::EACCES)) => {
            memfd::open_of(pid, number).map_err(|errno| match errno {
                Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => verdict_for("open", errno),
                _ => verdict_for("pidfd_getfd", refused),
            })
        }
        Err(errno) => Err(verdict_for("pidfd_getfd", errno)),
    }
}

/// A member that gives the table to newcomers.
pub(super) struct GiveTable {
    pub(super) fd: OwnedFd,
    pub(super) nonce: [u8; 16],
}

impl Service for GiveTable {
    type Offer = ();

    const ROLE: &'static str = "member";
    const TAKES_DESCRIPTORS: bool = false;

    fn granted(&self) -> Option<&Granted> {
        None
    }

    fn open(&self, _peer: &Peer, _class: PeerClass, request: Datagram, _now: Instant) -> Answer<()> {
        match request {
            Datagram::Join { .. } => Answer::Offer(()),
            Datagram::Hello { .. } | Datagram::Connect(_) => {
                let text = "this is a member of a lock, semaphore, flag or mutex";
                Answer::Refuse(Refusal::NothingInCommon, text.into())
            }
            _ => Answer::HangUp,
        }
    }

    fn proceed(&self, (): (), datagram: Datagram) -> Answer<()> {
        if datagram == Datagram::Ack { Answer::Admit(()) } else { Answer::HangUp }
    }

    fn message<'a>(&'a self, (): &'a ()) -> (Datagram, Vec<BorrowedFd<'a>>, Then) {
        (Datagram::Table { id: self.nonce }, vec![self.fd.as_fd()], Then::Expect)
    }

    /// The newcomer has the table. The connection has served its purpose.
    fn admit(&self, _socket: ForkGuarded, _peer: Peer, (): ()) {}
}
