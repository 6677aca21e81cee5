//! The arbiter: a byte of a file in the bus directory that one process at a time may hold. The kernel decides who.
//!
//! A claim is one byte of a file of its own. What many names share may use one file with a byte for each. Invariants:
//! the file is made once and never unlinked by us. A lock counts only while its file is the one that its name leads to
//! ([`ArbiterFile::is_current`], asked after the lock was taken). A process that makes the file again, because it was
//! lost, lets [`GRACE`] pass before anybody new is let in. So a process that held the lost file comes first. Byte 0
//! belongs to the making of the file ([`crate::sys::tmpfile`]), so a holder's byte is never 0.
//!
//! [`Presence`] keeps a file open and says when to look again; [`Turn`] waits for a byte on the bus thread.

mod file;
mod news;
mod presence;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use super::directory::Directory;
use crate::reactor::{Handle, Token};

pub(crate) use file::{ArbiterFile, Content};
pub(crate) use news::News;
pub(crate) use presence::{Attempt, Found, Presence};
pub(crate) use {file::Hold, turn::Turn};

/// How long a new file lets nobody in. Processes that held a lost file look for a new one at least five times as often.
pub(crate) const GRACE: Duration = Duration::from_millis(100);

/// A file in the bus directory, by name, and the thread that waits for it.
#[derive(Clone)]
pub(crate) struct Arbiter {
    directory: Arc<Directory>,
    name: String,
    news: News,
    handle: Handle,
}

impl Arbiter {
    pub(in crate::bus) fn new(
        directory: Arc<Directory>,
        name: String,
        news: News,
        handle: Handle,
    ) -> Arbiter {
        Arbiter { directory, name, news, handle }
    }

    /// Opens the file, and makes it if it is missing.
    pub(crate) fn open(&self) -> crate::Result<ArbiterFile> {
        ArbiterFile::open(&self.directory, &self.name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The file as one object of the bus thread uses it.
    pub(crate) fn presence(&self, token: Token) -> Presence {
        Presence::new(self.clone(), token)
    }
}
