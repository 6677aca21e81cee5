//! How one object of the bus thread takes part: it keeps the file open and current, hears of changes, and knows when to
//! look again.
//!
//! Invariant: a file is followed before it is looked at, so no change is missed. The death of a holder shows as the
//! closing of its file, which the kernel reports just before it frees the lock, and by its pidfd, which comes after. A
//! pidfd only says when to look. After each piece of news the object looks again for a second, at growing intervals.
//! Where the holder has no pidfd, it then goes on once a second.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::Arbiter;
use super::file::{ArbiterFile, Content, Hold};
use super::news::Followed;
use crate::error::{Error, Result};
use crate::reactor::Token;
use crate::sys::pidfd::PidFd;

/// The shortest pause before the next look at a byte whose holder is not watched.
const SOON: Duration = Duration::from_millis(1);
/// The longest one.
const PASS: Duration = Duration::from_secs(1);
/// The longest pause between two looks for a lost file, and between two polls: a fraction of the grace.
pub(crate) const OFTEN: Duration = Duration::from_millis(20);
const TRIES: usize = 16;

pub(crate) struct Presence {
    arbiter: Arbiter,
    token: Token,
    // Declared before `file`: it must stop following while the file is still open.
    followed: Option<Followed>,
    file: Option<ArbiterFile>,
    /// The holder's process.
    process: Option<(u32, PidFd)>,
    pause: Duration,
    /// When the next look is due.
    planned: Option<Instant>,
}

impl Presence {
    pub(super) fn new(arbiter: Arbiter, token: Token) -> Presence {
        Presence { arbiter, token, followed: None, file: None, process: None, pause: SOON, planned: None }
    }

    pub(crate) fn arbiter(&self) -> &Arbiter {
        &self.arbiter
    }

    /// The file that the name leads to now. It is made if there is none.
    pub(crate) fn current(&mut self) -> Result<&ArbiterFile> {
        for _ in 0..TRIES {
            if self.file.as_ref().is_some_and(ArbiterFile::is_current) {
                break;
            }
            let file = self.arbiter.open()?;
            self.attend(file);
        }
        // A file that is lost again and again is as good as any: what counts is asked again when its lock was taken.
        self.file.as_ref().ok_or(Error::Closed { what: "bus" })
    }

    /// Uses this file from now on, and follows it.
    pub(crate) fn attend(&mut self, file: ArbiterFile) {
        self.followed = None;
        self.process = None;
        self.followed = self.arbiter.news.follow(&file, &self.arbiter.directory, self.token);
        self.file = Some(file);
    }

    /// Whether the file that is in use is still the one that counts.
    pub(crate) fn is_current(&self) -> bool {
        self.file.as_ref().is_some_and(ArbiterFile::is_current)
    }

    /// The file in use.
    pub(crate) fn file(&self) -> Option<&ArbiterFile> {
        self.file.as_ref()
    }

    /// Tries to take the byte, as one that never held it. `Err` with when to try again.
    pub(crate) fn try_take(&mut self, byte: u64) -> Result<std::result::Result<(), Option<Instant>>> {
        for _ in 0..TRIES {
            let file = self.current()?;
            let content = file.read()?;
            if let Some(left) = content.grace_left() {
                return Ok(Err(Some(Instant::now() + left)));
            }
            if file.try_take(byte)? {
                if file.is_current() {
                    return Ok(Ok(()));
                }
                file.release(byte);
            } else if !self.watch_holder(&content) {
                return Ok(Err(self.next_look()));
            }
        }
        Ok(Err(Some(Instant::now() + SOON)))
    }

    /// Watches the process that the content names. True: it is watched only since now, so the byte must be tried again.
    pub(crate) fn watch_holder(&mut self, content: &Content) -> bool {
        if self.process.as_ref().is_some_and(|(_, pidfd)| !pidfd.is_alive()) {
            self.process = None;
        }
        let pid = content.pid_here();
        if self.process.as_ref().map(|(pid, _)| *pid) == pid {
            return false;
        }
        self.process =
            pid.and_then(|pid| Some((pid, PidFd::open(pid).ok()?))).filter(|(_, pidfd)| pidfd.is_alive());
        self.process.is_some()
    }

    /// When to look again at a byte that somebody holds. `None`: news and the holder's pidfd suffice.
    pub(crate) fn next_look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.planned.is_none_or(|planned| now < planned) {
            // It was called because of news.
            self.pause = SOON;
        }
        self.planned = if self.followed.is_none() {
            self.try_to_follow();
            Some(now + self.arbiter.news.poll_interval())
        } else if self.process.is_some() && self.pause > PASS {
            None
        } else {
            Some(now + self.pause.min(PASS))
        };
        self.pause = (self.pause * 2).min(PASS * 2);
        self.planned
    }

    /// When a holder looks again whether its file is still the one that counts. `None`: news suffices.
    pub(crate) fn next_check(&mut self) -> Option<Instant> {
        self.process = None;
        if self.followed.is_none() {
            self.try_to_follow();
        }
        let polls = self.followed.is_none();
        polls.then(|| Instant::now() + self.arbiter.news.poll_interval().min(OFTEN))
    }

    /// inotify may have become available.
    fn try_to_follow(&mut self) {
        if let Some(file) = &self.file {
            self.followed = self.arbiter.news.follow(file, &self.arbiter.directory, self.token);
        }
    }

    /// The holder's pidfd, for the bus thread to wait on.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    /// Gives the file away with the byte that was taken of it.
    pub(crate) fn into_hold(mut self, byte: u64) -> Option<Hold> {
        self.followed = None;
        self.file.take().map(|file| Hold::new(file, byte))
    }

    /// Gives the byte back.
    pub(crate) fn let_go(&mut self, byte: u64) {
        self.followed = None;
        drop(self.file.take().map(|file| Hold::new(file, byte)));
    }
}
