//! Publishing: whole or not at all, replaced without a gap, withdrawn without a trace, by each way that the kernel offers.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::*;
use ringbell::bus::{Announcement, Bus, BusOptions, Filter, MAX_RECORD};
use serde_json::{Map, Value};

/// The methods that need no root. `empty-path` needs CAP_DAC_READ_SEARCH before Linux 6.10.
const WAYS: [&str; 3] = ["", "proc", "rename"];

/// A record large enough to be seen half-written, if that were possible: `round` at its beginning and its end.
fn metadata(round: usize) -> Map<String, Value> {
    let filling = Value::from("x".repeat(16 * 1024));
    let entries = [("round", Value::from(round)), ("filling", filling), ("same", Value::from(round))];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn announcement(service: &str, metadata: Map<String, Value>) -> Announcement {
    let mut announcement = Announcement::new(service);
    announcement.metadata = metadata;
    announcement
}

/// The round that a record's file shows. Panics if it is not whole.
fn whole(bytes: &[u8]) -> usize {
    let record: Value = serde_json::from_slice(bytes).expect("a torn record");
    assert_eq!(record["metadata"]["round"], record["metadata"]["same"]);
    assert_eq!(record["metadata"]["filling"].as_str().map(str::len), Some(16 * 1024));
    record["metadata"]["round"].as_u64().unwrap() as usize
}

/// Runs `writer` while readers run `look` until it is done. How often they looked.
fn while_readers_look(look: impl Fn() -> usize + Sync, writer: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                looks += look();
            }
            looks
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        writer();
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    })
}

fn no_reader_sees_a_part(bus: &Bus) {
    let look = || {
        let entries = fs::read_dir(bus.path()).unwrap().map(|entry| entry.unwrap().path());
        let records = entries.filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
        let read = records.filter_map(|path| fs::read(path).ok());
        read.filter(|bytes| whole(bytes) < usize::MAX).count()
    };
    let looks = while_readers_look(look, || {
        // Two live at a time, so that there is always one to read.
        let mut last = None;
        for round in 0..400 {
            drop(last.replace(bus.announce(announcement("whole", metadata(round))).unwrap()));
        }
    });
    assert!(looks > 0, "nobody looked");
}

fn a_replaced_record_is_never_missing(bus: &Bus) {
    let announced = bus.announce(announcement("steady", metadata(0))).unwrap();
    let path = bus.path().join(announced.record().file_name());
    let last = std::sync::atomic::AtomicUsize::new(0);
    let look = || {
        let before = last.load(Ordering::SeqCst);
        let round = whole(&fs::read(&path).expect("it is missing"));
        assert!(round >= before, "it went back from {before} to {round}");
        last.fetch_max(round, Ordering::SeqCst);
        1
    };
    let looks =
        while_readers_look(look, || (1..400).for_each(|round| announced.update(metadata(round)).unwrap()));
    assert!(looks > 0, "nobody looked");
    assert_eq!(whole(&fs::read(&path).unwrap()), 399);
}

fn ends_without_a_trace(path: &Path) {
    assert_eq!(names(path), Vec::<String>::new());
}

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    if role == "unwritable" {
        without_root();
        let bus = open(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
        let error = bus.announce(Announcement::new("nowhere")).unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::EACCES as i32), "{error}");
        assert_eq!(fs::read(path.join("x")).unwrap_err().kind(), ErrorKind::NotFound);
        return;
    }
    if role == "where" || role == "where without root" {
        if role != "where" {
            without_root();
        }
        match Bus::open(BusOptions::default()) {
            Ok(bus) => {
                let _watch = bus.watch(Filter::All).unwrap();
                say(&format!("{} {}", bus.path().display(), bus.watching().mode));
            }
            Err(error) => say(error.code()),
        }
        return;
    }
    let bus = open(&path);
    match role.as_str() {
        "suite" => {
            no_reader_sees_a_part(&bus);
            a_replaced_record_is_never_missing(&bus);
            ends_without_a_trace(&path);
            say("passed");
        }
        "loop" => {
            say("going");
            for round in 0.. {
                let announced = bus.announce(Announcement::new(format!("s{}", round % 3))).unwrap();
                announced.update(metadata(round)).unwrap();
                announced.update(metadata(round)).unwrap();
            }
        }
        _ => unreachable!(),
    }
}

fn records_are_whole(way: &str) {
    let place = Place::new();
    let mut suite = Role::start("suite", &place.path, &[("IPC_BUS_PUBLISH", way)]);
    assert_eq!(suite.heard(), "passed", "by way '{way}'");
}

#[test]
fn every_way_gives_whole_records_that_are_never_missing() {
    WAYS.into_iter().for_each(records_are_whole);
}

#[test]
fn an_empty_path_gives_whole_records_that_are_never_missing() {
    if !needs_root("link by an empty path") {
        records_are_whole("empty-path");
    }
}

fn killed_anywhere(way: &str) {
    let place = Place::new();
    let bus = place.bus();
    for round in 0..12u64 {
        let mut publisher = Role::start("loop", &place.path, &[("IPC_BUS_PUBLISH", way)]);
        publisher.heard();
        std::thread::sleep(std::time::Duration::from_micros(200 * round * round));
        publisher.kill();
    }
    bus.gc().unwrap();
    ends_without_a_trace(&place.path);
}

#[test]
fn a_publisher_killed_anywhere_leaves_only_what_gc_removes() {
    WAYS.into_iter().for_each(killed_anywhere);
}

#[test]
fn a_publisher_killed_while_it_links_by_an_empty_path_leaves_only_what_gc_removes() {
    if !needs_root("link by an empty path") {
        killed_anywhere("empty-path");
    }
}

#[test]
fn a_record_identifies_its_process_and_namespaces() {
    let place = Place::new();
    let bus = place.bus();
    let mut announcement = Announcement::new("told");
    announcement.endpoints = [("http".to_owned(), "http://localhost:80".to_owned())].into();
    announcement.codec = Some("json".into());
    announcement.payload_schema = Some("urn:x".into());
    let announced = bus.announce(announcement).unwrap();
    let record = announced.record();
    let found = place.bus().find("told").unwrap().unwrap();
    assert_eq!(found, record);
    assert_eq!((found.schema, found.pid), (1, std::process::id()));
    assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
    assert!(found.start_time > 0 && found.pid_namespace > 0);
    assert_eq!((found.boot_id.len(), found.id.len()), (36, 32));
    let text = fs::read_to_string(place.path.join(found.file_name())).unwrap();
    for key in ["startTime", "bootId", "pidNamespace", "payloadSchema", "http://localhost:80"] {
        assert!(text.contains(key), "{key} in {text}");
    }
}

#[test]
fn too_long_a_record_is_refused_and_the_old_one_stays() {
    let place = Place::new();
    let bus = place.bus();
    let long = |size| [("x".to_owned(), Value::from("y".repeat(size)))].into_iter().collect::<Map<_, _>>();
    let error = bus.announce(announcement("long", long(MAX_RECORD))).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_RECORD");
    ends_without_a_trace(&place.path);
    let announced = bus.announce(announcement("long", long(60_000))).unwrap();
    assert_eq!(announced.update(long(MAX_RECORD)).unwrap_err().code(), "ERR_RINGBELL_RECORD");
    assert_eq!(place.bus().find("long").unwrap(), Some(announced.record()));
    assert_eq!(place.names().len(), 1);
}

/// A place where a user without special rights can open a bus.
fn open_place() -> Place {
    let place = Place::new();
    fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    place
}

#[test]
fn an_unwritable_directory_is_an_error_with_its_errno() {
    Role::start("unwritable", &open_place().path, &[]).succeed();
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error() {
    let place = Place::new();
    let bus = place.bus();
    fs::remove_dir(&place.path).unwrap();
    fs::write(&place.path, "").unwrap();
    let error = bus.announce(Announcement::new("nowhere")).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_BUS_DIRECTORY", "{error}");
    assert_eq!(fs::read(place.path.join("x")).unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn the_environment_says_where_and_how() {
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let heard = |environment: &[(&str, &str)]| Role::start("where", &place.path, environment).heard();
    assert_eq!(heard(&[("IPC_BUS_DIR", path), ("IPC_BUS_WATCH", "inotify")]), format!("{path} inotify"));
    assert_eq!(heard(&[("IPC_BUS_DIR", path), ("IPC_BUS_WATCH", "poll")]), format!("{path} polling"));
    for (name, wrong) in [("IPC_BUS_WATCH", "often"), ("IPC_BUS_PUBLISH", "somehow")] {
        assert_eq!(heard(&[("IPC_BUS_DIR", path), (name, wrong)]), "ERR_RINGBELL_INVALID_OPTION");
    }
}

#[test]
fn a_user_without_rights_has_its_bus_in_its_runtime_directory() {
    let place = open_place();
    let folder = place.folder.path().to_str().unwrap();
    let environment = [("IPC_BUS_DIR", ""), ("XDG_RUNTIME_DIR", folder), ("IPC_BUS_WATCH", "inotify")];
    let mut role = Role::start("where without root", &place.path, &environment);
    assert_eq!(role.heard(), format!("{folder}/ipc-bus inotify"));
}

#[test]
fn a_removed_record_comes_back_when_polling_without_a_watch() {
    for polling in [false, true] {
        let place = Place::new();
        let bus = if polling { place.polling() } else { place.bus() };
        let announced = bus.announce(Announcement::new("kept")).unwrap();
        let path = place.path.join(announced.record().file_name());
        let forced = std::env::var("IPC_BUS_WATCH").is_ok_and(|watch| watch == "poll");
        let mode = if polling || forced { "polling" } else { "inotify" };
        until("it is looked after", || bus.watching().mode == mode);
        fs::remove_file(&path).unwrap();
        until("it is back", || path.exists());
    }
}

#[test]
fn a_poll_interval_that_is_none_is_refused() {
    let place = Place::new();
    for interval in [Duration::ZERO, Duration::from_secs(3601), Duration::MAX] {
        let options = BusOptions { poll_interval: interval, ..place.options() };
        assert_eq!(Bus::open(options).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    }
}
