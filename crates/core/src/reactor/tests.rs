//! The reactor alone: an added object is called, visited, removed and told of the thread's end.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::{Owner, Resident, Step, Thread, Watched};
use crate::error::Error;
use crate::harness::PATIENCE;
use crate::sys::eventfd::EventFd;

/// Reports what happens to it.
pub(crate) struct Probe {
    bell: Option<Arc<EventFd>>,
    say: Sender<&'static str>,
    answer: Box<dyn FnMut(&mut Thread<'_>) -> Step + Send>,
}

impl Probe {
    pub(crate) fn new(
        bell: Option<Arc<EventFd>>,
        answer: impl FnMut(&mut Thread<'_>) -> Step + Send + 'static,
    ) -> (Box<Probe>, Receiver<&'static str>) {
        let (say, hear) = channel();
        (Box::new(Probe { bell, say, answer: Box::new(answer) }), hear)
    }
}

impl Watched for Probe {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.as_ref().map(|bell| bell.as_fd())
    }

    fn ready(&mut self, thread: &mut Thread<'_>) -> Step {
        if let Some(bell) = &self.bell {
            bell.drain();
        }
        // Last, because the test may ring again when it hears this.
        let _ = self.say.send("ready");
        (self.answer)(thread)
    }

    fn failed(&mut self, error: &Error) {
        let _ = self.say.send(error.code());
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.say.send("dropped");
    }
}

pub(crate) fn heard(hear: &Receiver<&'static str>) -> &'static str {
    hear.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn descriptor_and_deadline_call_a_watched_until_removed() {
    let owner = Owner::start().unwrap();
    let handle = owner.handle();
    let bell = Arc::new(EventFd::new().unwrap());
    let (probe, hear) = Probe::new(Some(Arc::clone(&bell)), |_| Step::Again(None));
    let token = handle.add(probe, Some(Instant::now()));
    assert_eq!(heard(&hear), "ready");
    bell.ring();
    assert_eq!(heard(&hear), "ready");
    handle.remove(token);
    assert_eq!(hear.try_recv(), Ok("dropped"), "removed means dropped");
    handle.remove(token);
    let (once, hear) = Probe::new(None, |_| Step::Finished);
    handle.add(once, Some(Instant::now()));
    assert_eq!((heard(&hear), heard(&hear)), ("ready", "dropped"));
}

#[test]
fn a_watched_that_panics_is_dropped_and_the_others_go_on() {
    let owner = Owner::start().unwrap();
    let handle = owner.handle();
    let (bad, hear_bad) = Probe::new(None, |_| panic!("on purpose"));
    handle.add(bad, Some(Instant::now()));
    assert_eq!((heard(&hear_bad), heard(&hear_bad)), ("ready", "dropped"));
    let (good, hear) = Probe::new(None, |_| Step::Finished);
    handle.add(good, Some(Instant::now()));
    assert_eq!((heard(&hear), heard(&hear)), ("ready", "dropped"));
}

/// Finishes or panics when it is first polled. It is essential for the thread.
struct Pillar;

impl Watched for Pillar {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Again(None)
    }

    fn is_essential(&self) -> bool {
        true
    }
}

#[test]
fn the_thread_ends_with_an_essential_watched() {
    for panics in [true, false] {
        let owner = Owner::start().unwrap();
        let handle = owner.handle();
        let pillar = handle.add_resident(Pillar);
        let (other, hear) = Probe::new(None, |_| Step::Finished);
        handle.add(other, None);
        assert!(handle.visit(pillar, move |_: &mut Pillar, _| {
            assert!(!panics, "on purpose");
            Step::Finished
        }));
        assert_eq!((heard(&hear), heard(&hear)), ("ERR_RINGBELL_CLOSED", "dropped"));
        let (late, hear) = Probe::new(None, |_| Step::Finished);
        handle.add(late, Some(Instant::now()));
        assert_eq!((heard(&hear), heard(&hear)), ("ERR_RINGBELL_CLOSED", "dropped"));
    }
}

/// Counts its visits and finishes at the third.
struct Counter {
    visits: u32,
    say: Sender<&'static str>,
}

impl Watched for Counter {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        let _ = self.say.send("ready");
        Step::Again(None)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.say.send("dropped");
    }
}

#[test]
fn a_visit_sets_what_the_resident_waits_for() {
    let owner = Owner::start().unwrap();
    let handle = owner.handle();
    let (say, hear) = channel();
    let resident: Resident<Counter> = handle.add_resident(Counter { visits: 0, say });
    let visit = |at: Option<Instant>| {
        let (answer, wait) = channel();
        assert!(handle.visit(resident, move |counter: &mut Counter, _| {
            counter.visits += 1;
            answer.send(counter.visits).unwrap();
            if counter.visits == 3 { Step::Finished } else { Step::Again(at) }
        }));
        wait.recv_timeout(PATIENCE).ok()
    };
    assert_eq!(visit(None), Some(1));
    assert_eq!(hear.try_recv().ok(), None);
    assert_eq!(visit(Some(Instant::now())), Some(2));
    assert_eq!(heard(&hear), "ready");
    assert_eq!(visit(None), Some(3));
    assert_eq!(heard(&hear), "dropped");
    assert_eq!(visit(None), None, "it is gone");
    let handle = handle.clone();
    drop(owner);
    assert!(!handle.visit(resident, |_, _| Step::Finished), "so is the thread");
}

#[test]
fn a_failed_wait_on_a_descriptor_is_retried() {
    struct Late {
        /// A regular file, which no epoll takes.
        file: Option<fs::File>,
        bell: Arc<EventFd>,
        say: Sender<&'static str>,
    }
    impl Watched for Late {
        fn fd(&self) -> Option<BorrowedFd<'_>> {
            Some(self.file.as_ref().map_or(self.bell.as_fd(), |file| file.as_fd()))
        }

        fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
            self.bell.drain();
            let _ = self.say.send(if self.file.take().is_some() { "again" } else { "ready" });
            Step::Again(None)
        }

        fn retry(&self) -> Option<Duration> {
            Some(Duration::from_millis(1))
        }
    }
    let owner = Owner::start().unwrap();
    let handle = owner.handle();
    let bell = Arc::new(EventFd::new().unwrap());
    let (say, hear) = channel();
    let file = Some(tempfile::tempfile().unwrap());
    let token = handle.add(Box::new(Late { file, bell: Arc::clone(&bell), say }), None);
    assert_eq!(heard(&hear), "again");
    bell.ring();
    assert_eq!(heard(&hear), "ready");
    handle.remove(token);
}
