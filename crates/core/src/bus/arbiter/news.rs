//! News of the arbiter's files: one inotify instance for each bus, and the objects of the bus thread to call.
//!
//! Invariant: an object that follows a file is called after each change of the file, each closing by a process that could
//! write it, and each loss of the file or its directory. An object is never told what happened; it looks. The instance
//! exists only while somebody follows a file, because a user has 128 of them by default. Where none can be had,
//! following fails, and the object polls.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::inotify::WatchDescriptor;

use super::file::ArbiterFile;
use crate::bus::directory::Directory;
use crate::reactor::{Handle, Step, Thread, Token, Watched};
use crate::sys::inotify::FileInotify;

/// How often inotify is tried again after it was refused.
const RETRY: Duration = Duration::from_secs(10);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct News {
    shared: Arc<Shared>,
}

struct Shared {
    handle: Handle,
    use_inotify: bool,
    poll_interval: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Option<(Arc<FileInotify>, Token)>,
    followers: HashMap<WatchDescriptor, Vec<Token>>,
    refused_until: Option<Instant>,
}

impl News {
    pub(in crate::bus) fn new(handle: Handle, use_inotify: bool, poll_interval: Duration) -> News {
        let shared = Shared { handle, use_inotify, poll_interval, state: Mutex::default() };
        News { shared: Arc::new(shared) }
    }

    /// How often to look where there is no news.
    pub(super) fn poll_interval(&self) -> Duration {
        self.shared.poll_interval
    }

    /// Calls `follower` for each change from now on, until the result is dropped. `None`: it must poll.
    pub(super) fn follow(
        &self,
        file: &ArbiterFile,
        directory: &Directory,
        follower: Token,
    ) -> Option<Followed> {
        let mut state = self.shared.lock();
        let inotify = self.shared.running(&mut state)?;
        let watched = inotify.watch(file.as_fd(), false).and_then(|number| {
            state.followers.entry(number).or_default().push(follower);
            let followed = Followed { shared: Arc::clone(&self.shared), follower, numbers: vec![number] };
            Ok((followed, inotify.watch(directory.fd().as_fd(), true)?))
        });
        match watched {
            Ok((mut followed, number)) => {
                state.followers.entry(number).or_default().push(follower);
                followed.numbers.push(number);
                Some(followed)
            }
            Err(_) => {
                state.refused_until = Some(Instant::now() + RETRY);
                None
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance. It is opened if there is none.
    fn running(self: &Arc<Shared>, state: &mut State) -> Option<Arc<FileInotify>> {
        if let Some((inotify, _)) = &state.running {
            return Some(Arc::clone(inotify));
        }
        if !self.use_inotify || state.refused_until.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let Ok(inotify) = FileInotify::open() else {
            state.refused_until = Some(Instant::now() + RETRY);
            return None;
        };
        let inotify = Arc::new(inotify);
        let reader = Reader { inotify: Arc::clone(&inotify), shared: Arc::clone(self) };
        let token = self.handle.add(Box::new(reader), None);
        state.running = Some((Arc::clone(&inotify), token));
        Some(inotify)
    }
}

/// An object follows a file while this lives.
pub(super) struct Followed {
    shared: Arc<Shared>,
    follower: Token,
    numbers: Vec<WatchDescriptor>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        for number in &self.numbers {
            let Some(followers) = state.followers.get_mut(number) else { continue };
            if let Some(at) = followers.iter().position(|token| *token == self.follower) {
                followers.swap_remove(at);
            }
            if followers.is_empty() {
                state.followers.remove(number);
                if let Some((inotify, _)) = &state.running {
                    inotify.forget(*number);
                }
            }
        }
        if state.followers.is_empty()
            && let Some((_, token)) = state.running.take()
        {
            self.shared.handle.remove_soon(token);
        }
    }
}

/// Reads the instance, on the bus thread.
struct Reader {
    inotify: Arc<FileInotify>,
    shared: Arc<Shared>,
}

impl Watched for Reader {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.inotify.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        // What cannot be read may concern everybody.
        let touched = self.inotify.read().unwrap_or(None);
        let state = self.shared.lock();
        for (number, followers) in &state.followers {
            if touched.as_ref().is_none_or(|touched| touched.contains(number)) {
                followers.iter().for_each(|follower| self.shared.handle.call(*follower));
            }
        }
        Step::Again(None)
    }

    /// Only it knows when a byte is free.
    fn retry(&self) -> Option<Duration> {
        Some(super::GRACE)
    }
}
