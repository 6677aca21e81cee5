//! Tests that need the crate's internals: sinks on the bus thread, and sockets beside records.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::harness::{PATIENCE, Place, leased, lose, names, until};
use crate::reactor::tests::{Probe, heard};
use crate::reactor::{Step, Thread, Watched};
use serde_json::Map;

use super::*;

#[test]
fn a_sink_that_panics_is_dropped_and_the_others_go_on() {
    let place = Place::new();
    let bus = place.bus();
    struct Bad(Sender<&'static str>);
    impl Sink for Bad {
        fn event(&mut self, _event: &ServiceEvent, _thread: &mut Thread<'_>) {
            panic!("on purpose");
        }
        fn unreadable(&mut self, _error: &Error) {}
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (say, hear) = channel();
    let _guard = bus.subscribe(Filter::All, Box::new(Bad(say))).unwrap();
    let mut watch = bus.watch(Filter::All).unwrap();
    let _announced = bus.announce(Announcement::new("x")).unwrap();
    assert!(matches!(watch.next(Some(PATIENCE)), Ok(Some(ServiceEvent::Added(_)))));
    assert_eq!(heard(&hear), "dropped");
}

#[test]
fn a_bus_whose_registry_panics_is_closed() {
    let place = Place::new();
    let bus = place.bus();
    let announced = bus.announce(Announcement::new("x")).unwrap();
    let mut watch = bus.watch(Filter::All).unwrap();
    assert!(matches!(watch.next(Some(PATIENCE)), Ok(Some(ServiceEvent::Added(_)))));
    let (other, hear) = Probe::new(None, |_| Step::Finished);
    bus.handle().unwrap().add(other, None);
    assert!(bus.registry().unwrap().run(|_, _| panic!("on purpose")));
    // The registry is dropped before the listeners get the error.
    assert_eq!(heard(&hear), "ERR_RINGBELL_CLOSED");
    assert_eq!(watch.next(Some(PATIENCE)).unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    assert!(names(bus.path()).is_empty(), "no thread would restore the record");
    assert_eq!(announced.update(Map::new()).unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    assert_eq!(bus.find("x").unwrap(), None);
    // From now on every command is refused.
    assert_eq!(heard(&hear), "dropped");
    let (last, hear) = Probe::new(None, |_| Step::Finished);
    bus.handle().unwrap().add(last, Some(Instant::now()));
    assert_eq!(heard(&hear), "ERR_RINGBELL_CLOSED");
    let refused = bus.announce(Announcement::new("y")).map(drop);
    assert_eq!(refused.unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    assert!(names(bus.path()).is_empty());
    assert_eq!(bus.watch(Filter::All).map(drop).unwrap_err().code(), "ERR_RINGBELL_CLOSED");
}

#[test]
fn on_the_thread_one_can_add_remove_and_let_go_of_the_bus() {
    let place = Place::new();
    let bus = place.bus();
    let handle = bus.handle().unwrap();
    let (inner, hear_inner) = Probe::new(None, |_| Step::Finished);
    let (doomed, hear_doomed) = Probe::new(None, |_| Step::Finished);
    let doomed = handle.add(doomed, None);
    let mut inner = Some(inner);
    let mut last = Some(bus);
    let (outer, hear) = Probe::new(None, move |thread| {
        thread.add(inner.take().unwrap(), Some(Instant::now()));
        thread.remove(doomed);
        // This is the last value made from the bus. Ending the thread must not wait for itself.
        drop(last.take());
        Step::Again(None)
    });
    handle.add(outer, Some(Instant::now()));
    assert_eq!((heard(&hear), heard(&hear_doomed)), ("ready", "dropped"));
    assert_eq!(heard(&hear), "ERR_RINGBELL_CLOSED");
    assert_eq!(heard(&hear), "dropped");
    while heard(&hear_inner) != "dropped" {}
    let (late, hear_late) = Probe::new(None, |_| Step::Finished);
    handle.add(late, None);
    assert_eq!((heard(&hear_late), heard(&hear_late)), ("ERR_RINGBELL_CLOSED", "dropped"));
}

/// A handler that does nothing. The test counts the sockets that were given.
struct Idle(OwnedFd);

impl Watched for Idle {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn ready(&mut self, _thread: &mut Thread<'_>) -> Step {
        Step::Finished
    }
}

fn serving(served: &Arc<AtomicUsize>) -> Announcement {
    let served = Arc::clone(served);
    let serve: Serve = Box::new(move |listener| {
        served.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Idle(listener)))
    });
    Announcement { server: Some(serve), ..Announcement::new("served") }
}

#[test]
fn a_socket_lives_as_long_as_its_record_and_comes_back_with_it() {
    let place = Place::new();
    let bus = place.bus();
    let served = Arc::new(AtomicUsize::new(0));
    let announced = bus.announce(serving(&served)).unwrap();
    let record = announced.record();
    let expected = {
        let mut both = vec![record.file_name(), record.socket_name()];
        both.sort();
        both
    };
    assert_eq!(names(bus.path()), expected);
    assert_eq!(bus.gc().unwrap(), GcReport { alive: 1, ..GcReport::default() });
    announced.update(Map::new()).unwrap();
    assert_eq!(names(bus.path()), expected);
    let mut watch = bus.watch(Filter::All).unwrap();
    for round in 2..4 {
        assert!(matches!(watch.next(Some(PATIENCE)), Ok(Some(ServiceEvent::Added(_)))));
        lose(bus.path());
        assert!(matches!(watch.next(Some(PATIENCE)), Ok(Some(ServiceEvent::Removed(_)))));
        let deadline = Instant::now() + PATIENCE;
        while served.load(Ordering::SeqCst) < round {
            assert!(Instant::now() < deadline, "never served again");
            std::thread::yield_now();
        }
    }
    assert!(matches!(watch.next(Some(PATIENCE)), Ok(Some(ServiceEvent::Added(_)))));
    assert_eq!(names(bus.path()), expected);
    drop(announced);
    assert!(names(bus.path()).is_empty());
}

#[test]
fn a_server_that_cannot_be_made_leaves_nothing() {
    let place = Place::new();
    let bus = place.bus();
    let serve: Serve = Box::new(|_| Err(Error::NoSlot { max: 0 }));
    let announcement = Announcement { server: Some(serve), ..Announcement::new("x") };
    assert_eq!(bus.announce(announcement).unwrap_err().code(), "ERR_RINGBELL_NO_SLOT");
    assert!(names(bus.path()).is_empty());
}

#[test]
fn gc_finds_what_every_stage_of_a_crash_leaves() {
    let place = Place::new();
    let bus = place.bus();
    let living = bus.announce(serving(&Arc::default())).unwrap();
    let alive = names(bus.path());
    let id = |digit: char| digit.to_string().repeat(32);
    let at = |name: String| bus.path().join(name);
    // A dot-record before and after bind, a record with its socket, a temporary file, and an orphaned socket.
    fs::write(at(format!(".s@{}.json", id('1'))), "").unwrap();
    fs::write(at(format!(".s@{}.json", id('2'))), "").unwrap();
    drop(UnixListener::bind(at(format!("{}.sock", id('2')))).unwrap());
    fs::write(at(format!("s@{}.json", id('3'))), "half").unwrap();
    drop(UnixListener::bind(at(format!("{}.sock", id('3')))).unwrap());
    fs::write(at(".tmp-0123".into()), "").unwrap();
    drop(crate::sys::seqpacket::listen_at(
        bus.dir().fd().as_fd(),
        bus.path(),
        std::ffi::OsStr::new(&format!("{}.sock", id('4'))),
        None,
    ));
    let report = bus.gc().unwrap();
    assert_eq!(report, GcReport { alive: 1, records: 1, sockets: 3, temporaries: 3, foreign: 0 });
    assert_eq!(names(bus.path()), alive);
    // A record that was removed by hand: its owner lives and listens, and its socket stays.
    let kept = crate::sys::seqpacket::listen_at(
        bus.dir().fd().as_fd(),
        bus.path(),
        std::ffi::OsStr::new(&format!("{}.sock", id('5'))),
        None,
    );
    assert_eq!(bus.gc().unwrap().sockets, 0);
    drop(kept);
    assert_eq!(bus.gc().unwrap().sockets, 1);
    drop(living);
    assert!(names(bus.path()).is_empty());
}

#[test]
fn gc_of_a_dead_dot_record_keeps_the_living_records_socket() {
    let place = Place::new();
    let bus = place.bus();
    let living = bus.announce(serving(&Arc::default())).unwrap();
    let alive = names(bus.path());
    fs::write(bus.path().join(format!(".{}", living.record().file_name())), "").unwrap();
    assert_eq!(bus.gc().unwrap(), GcReport { alive: 1, temporaries: 1, ..GcReport::default() });
    assert_eq!(names(bus.path()), alive);
}

#[test]
fn sinks_get_present_records_first_and_nothing_after_the_guard() {
    struct List(Arc<Mutex<Vec<String>>>);
    impl Sink for List {
        fn event(&mut self, event: &ServiceEvent, _thread: &mut Thread<'_>) {
            let mut list = self.0.lock().unwrap();
            list.push(format!(
                "{}{}",
                if matches!(event, ServiceEvent::Added(_)) { "+" } else { "-" },
                event.record().service
            ));
        }
        fn unreadable(&mut self, _error: &Error) {}
    }
    let place = Place::new();
    let bus = place.bus();
    let a = bus.announce(Announcement::new("a")).unwrap();
    let _b = bus.announce(Announcement::new("b")).unwrap();
    let list = Arc::new(Mutex::new(Vec::new()));
    let guard = bus.subscribe(Filter::All, Box::new(List(Arc::clone(&list)))).unwrap();
    let second = bus.subscribe(Filter::Exact("b".into()), Box::new(List(Arc::clone(&list)))).unwrap();
    drop(second);
    drop(a);
    bus.list().unwrap();
    drop(guard);
    let _c = bus.announce(Announcement::new("c")).unwrap();
    bus.list().unwrap();
    assert_eq!(*list.lock().unwrap(), ["+a", "+b", "+b", "-a"]);
    assert_eq!(Arc::strong_count(&list), 1);
    assert_eq!(bus.watching().mode, "inotify", "list keeps the view after its second call");
}

#[test]
fn each_listener_hears_once_that_something_cannot_be_read() {
    struct Ear(Arc<AtomicUsize>);
    impl Sink for Ear {
        fn event(&mut self, _event: &ServiceEvent, _thread: &mut Thread<'_>) {}
        fn unreadable(&mut self, _error: &Error) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let place = Place::new();
    let bus = place.bus();
    let listen = |filter| {
        let heard = Arc::new(AtomicUsize::new(0));
        (bus.subscribe(filter, Box::new(Ear(Arc::clone(&heard)))).unwrap(), heard)
    };
    let times = |heard: &AtomicUsize| heard.load(Ordering::SeqCst);
    let file = leased(bus.path(), "x");
    let (_first, first) = listen(Filter::All);
    until("the first hears it, however often the view is used", || bus.list().is_err() && times(&first) == 1);
    let (_other, other) = listen(Filter::Exact("y".into()));
    let (_second, second) = listen(Filter::Exact("x".into()));
    until("the second hears it", || times(&second) == 1);
    assert_eq!((times(&first), times(&other)), (1, 0));
    drop(file);
    lose(bus.path());
    until("the directory is back", || bus.path().is_dir());
    let _file = leased(bus.path(), "x");
    until("both hear it again", || times(&first) == 2 && times(&second) == 2);
    assert_eq!(times(&other), 0);
}

#[test]
fn watching_anew_changes_nothing() {
    let place = Place::new();
    let bus = place.bus();
    let announced = bus.announce(Announcement::new("x")).unwrap();
    let mut watch = bus.watch(Filter::All).unwrap();
    assert!(matches!(watch.next(Some(PATIENCE)), Ok(Some(ServiceEvent::Added(_)))));
    // This simulates that inotify becomes available again after polling.
    let registry = bus.registry().unwrap();
    registry.ask(|registry, thread| registry.attach(thread)).unwrap();
    assert_eq!(bus.list().unwrap(), [announced.record()]);
    assert_eq!(watch.try_next(), None);
    bus.close();
    assert!(bus.inner.view.list(&Filter::All).is_empty());
}

#[test]
fn an_announcement_beside_a_close_is_withdrawn_or_refused() {
    let place = Place::new();
    for _ in 0..200 {
        let bus = place.bus();
        let _running = bus.handle().unwrap();
        let announced = std::thread::scope(|scope| {
            let announcing = scope.spawn(|| bus.announce(Announcement::new("late")));
            // Between the creation of the file and the thread that takes care of it.
            while names(bus.path()).is_empty() && !announcing.is_finished() {}
            bus.close();
            announcing.join().unwrap()
        });
        if let Err(error) = &announced {
            assert_eq!(error.code(), "ERR_RINGBELL_CLOSED");
        }
        assert!(names(bus.path()).is_empty(), "{announced:?}");
    }
}

/// A record may go between the view's look at the directory and the view's first use. Another caller may have seen by a
/// scan that it is gone.
#[test]
fn a_view_is_brought_up_to_date_before_it_is_first_used() {
    for inotify in [true, false] {
        let place = Place::new();
        let other = place.bus();
        let options = BusOptions { inotify, poll_interval: LONGEST_POLL, ..place.options() };
        let bus = Bus::open(options).unwrap();
        let announced = other.announce(Announcement::new("gone")).unwrap();
        bus.registry().unwrap().ask(|registry, thread| {
            registry.keep_view(thread);
            drop(announced);
        });
        assert_eq!(bus.find("gone").unwrap(), None);
    }
}
