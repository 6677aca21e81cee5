//! The arbiter between two buses of one process: each has a thread and open files of its own, as two processes have.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{Arbiter, ArbiterFile, Content, GRACE, Hold, Turn};
use crate::bus::{Bus, BusOptions};
use crate::error::Result;

const PATIENCE: Duration = Duration::from_secs(60);

fn bus(path: &Path, inotify: bool) -> Bus {
    let options = BusOptions { path: Some(path.to_owned()), inotify, ..BusOptions::default() };
    Bus::open(BusOptions { poll_interval: Duration::from_millis(10), ..options }).unwrap()
}

fn wait(arbiter: &Arbiter, byte: u64) -> Receiver<Result<Hold>> {
    let (answer, answered) = channel();
    Turn::wait(arbiter, byte, Box::new(move |hold| drop(answer.send(hold))));
    answered
}

#[test]
fn one_after_the_other_with_and_without_inotify() {
    for inotify in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (bus(folder.path(), inotify), bus(folder.path(), inotify));
        let (one, other) =
            (first.arbiter("x.test".into()).unwrap(), second.arbiter("x.test".into()).unwrap());
        let begun = Instant::now();
        let hold = wait(&one, 1).recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(begun.elapsed() >= GRACE, "a new file lets nobody in at once");
        let waiting = wait(&other, 1);
        let another = wait(&other, 2).recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(waiting.try_recv().is_err(), "each byte is for one");
        drop(hold);
        let next = waiting.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(next.file().is_current() && another.file().is_current());
        drop(second);
    }
}

#[test]
fn a_lock_on_a_lost_file_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let bus = bus(&path, true);
    let arbiter = bus.arbiter("x.test".into()).unwrap();
    let hold = wait(&arbiter, 1).recv_timeout(PATIENCE).unwrap().unwrap();
    for lose in [
        |path: &Path| std::fs::remove_dir_all(path),
        |path: &Path| std::fs::rename(path, path.with_extension("old")),
    ] {
        lose(&path).unwrap();
        assert!(!hold.file().is_current());
        let waiting = wait(&arbiter, 1).recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(waiting.file().is_current(), "another file counts now");
    }
    bus.close();
    assert_eq!(wait(&arbiter, 1).recv().unwrap().unwrap_err().code(), "ERR_RINGBELL_CLOSED");
}

#[test]
fn hostile_files_are_refused_or_count_as_empty() {
    let folder = tempfile::tempdir().unwrap();
    let (path, bus) = (folder.path(), bus(folder.path(), true));
    let open = |name: &str| ArbiterFile::open(bus.dir(), name);
    symlink("/etc/passwd", path.join("symlink")).unwrap();
    symlink("nowhere", path.join("dangling")).unwrap();
    std::fs::create_dir(path.join("directory")).unwrap();
    nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["symlink", "dangling", "directory", "fifo"] {
        let error = open(name).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_BUS_DIRECTORY", "{name}: {error}");
        assert!(error.to_string().contains(name) && error.to_string().contains("remove it"), "{error}");
    }
    let huge = format!("{{\"schema\":1,\"epoch\":1,\"x\":\"{}\"}}", "x".repeat(1 << 20));
    let far = u64::MAX.to_string();
    let wrong = format!("{{\"schema\":1,\"epoch\":{far}}}");
    for text in
        ["", "{", "\0\0\0", "[]", "{\"schema\":2,\"epoch\":5}", "{\"schema\":1,\"epoch\":-1}", &huge, &wrong]
    {
        std::fs::write(path.join("text"), text).unwrap();
        let file = open("text").unwrap();
        assert_eq!(file.read().unwrap(), Content::default(), "{}", &text[..text.len().min(40)]);
        assert_eq!(file.read().unwrap().grace_left(), None);
        assert!(file.try_take(1).unwrap());
        let content = Content::held_by("a", file.read().unwrap().epoch).unwrap();
        file.write(&content).unwrap();
        assert_eq!(open("text").unwrap().read().unwrap(), content, "it is overwritten, whatever its size");
        assert!(content.pid_here() == Some(std::process::id()) && content.epoch > 0);
    }
}
