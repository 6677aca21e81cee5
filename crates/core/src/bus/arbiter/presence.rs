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
use crate::error::Result;
use crate::reactor::Token;
use crate::sys::pidfd::PidFd;

/// The shortest pause before the next look at a byte whose holder is not watched.
const SOON: Duration = Duration::from_millis(1);
/// The longest one.
const PASS: Duration = Duration::from_secs(1);
/// The longest pause between two looks for a lost file, and between two polls: a fraction of the grace.
const OFTEN: Duration = Duration::from_millis(20);
/// How long a removed file stays away while its directory is there. As for records.
const REMOVAL: Duration = Duration::from_millis(250);
const TRIES: usize = 16;

/// Where the file is.
pub(crate) enum Found {
    /// It is the one in use.
    Same,
    /// Another one has its name now.
    Other(ArbiterFile),
    /// It was removed. Look again at this time.
    Later(Instant),
}

/// What an attempt to take a byte came to.
pub(crate) enum Attempt {
    Taken,
    /// Somebody holds it. When to try again; `None`: news will tell.
    Held(Option<Instant>),
    /// The file is too new, or just being replaced. When to try again.
    NotYet(Instant),
}

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
    /// The file is lost since then, and how long to wait before the next look for it.
    lost: Option<(Instant, Duration)>,
    last_epoch: u64,
}

impl Presence {
    pub(super) fn new(arbiter: Arbiter, token: Token) -> Presence {
        Presence {
            arbiter,
            token,
            followed: None,
            file: None,
            process: None,
            pause: SOON,
            planned: None,
            lost: None,
            last_epoch: 0,
        }
    }

    /// Looks for the file that counts now. It is made if there is none. But if it was just removed, it stays away for a
    /// moment: a program that removes the whole directory must not find it filled again half-way.
    pub(crate) fn find(&mut self) -> Result<Found> {
        if self.file.as_ref().is_some_and(ArbiterFile::is_current) {
            self.lost = None;
            return Ok(Found::Same);
        }
        let Arbiter { directory, name, .. } = &self.arbiter;
        let gone = directory.is_gone();
        if gone {
            directory.restore()?;
        }
        let now = Instant::now();
        let (since, pause) = self.lost.unwrap_or((now, SOON));
        let found = match ArbiterFile::open_existing(directory, name)? {
            Some(file) => file,
            None if gone || self.file.is_none() || now >= since + REMOVAL => self.arbiter.open()?,
            None => {
                self.lost = Some((since, (pause * 2).min(OFTEN)));
                return Ok(Found::Later(now + pause));
            }
        };
        self.lost = None;
        Ok(Found::Other(found))
    }

    /// Uses this file from now on, and follows it. The file before is closed, which gives back what was held of it.
    pub(crate) fn attend(&mut self, file: ArbiterFile) {
        self.followed = None;
        self.process = None;
        self.followed = self.arbiter.news.follow(&file, &self.arbiter.directory, self.token);
        self.file = Some(file);
    }

    /// The file in use.
    pub(crate) fn file(&self) -> Option<&ArbiterFile> {
        self.file.as_ref()
    }

    /// The largest epoch that was seen in any file of this name.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.last_epoch
    }

    /// What the file in use says.
    pub(crate) fn read(&mut self) -> Result<Content> {
        let content = self.file.as_ref().map(ArbiterFile::read).transpose()?.unwrap_or_default();
        self.last_epoch = self.last_epoch.max(content.epoch);
        Ok(content)
    }

    /// Tries to take the byte, as one that does not hold it yet.
    pub(crate) fn try_take(&mut self, byte: u64) -> Result<Attempt> {
        for _ in 0..TRIES {
            match self.find()? {
                Found::Same => {}
                Found::Other(file) => {
                    self.attend(file);
                    continue;
                }
                Found::Later(next) => return Ok(Attempt::NotYet(next)),
            }
            let content = self.read()?;
            if let Some(left) = content.grace_left() {
                return Ok(Attempt::NotYet(Instant::now() + left));
            }
            let Some(file) = &self.file else { break };
            if file.try_take(byte)? {
                if file.is_current() {
                    return Ok(Attempt::Taken);
                }
                file.release(byte);
            } else if !self.watch_holder(&content) {
                return Ok(Attempt::Held(self.next_look()));
            }
        }
        Ok(Attempt::NotYet(Instant::now() + OFTEN))
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

    /// When to look again while no other process holds the byte: whether the file is still the one that counts, and
    /// whether somebody took the byte. `None`: news suffices.
    pub(crate) fn next_check(&mut self) -> Option<Instant> {
        (self.process, self.planned) = (None, None);
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
