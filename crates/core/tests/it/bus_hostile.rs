//! Hostile and broken things in the directory: nothing is believed, nothing hangs, the others are found as ever.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::*;
use nix::sys::stat::Mode;
use ringbell::bus::{Announcement, Filter};
use serde_json::{Value, json};

const ID: &str = "00112233445566778899aabbccddeeff";

/// A file of any content, locked like a living owner's, under a name that looks like a record's.
fn plant(place: &Place, service: &str, content: &[u8]) -> (PathBuf, fs::File) {
    let staged = place.folder.path().join("staged");
    fs::write(&staged, content).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&staged).unwrap();
    let range =
        nix::libc::flock { l_type: nix::libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
    place.bus();
    let path = place.path.join(format!("{service}@{ID}.json"));
    fs::rename(&staged, &path).unwrap();
    (path, file)
}

/// A good record in JSON, to be broken.
fn good(service: &str) -> Value {
    json!({
        "schema": 1, "service": service, "id": ID, "kind": "service", "pid": std::process::id(),
        "startTime": 1, "bootId": "x", "pidNamespace": 1, "uid": nix::unistd::geteuid().as_raw(),
        "protocol": 1, "offers": ["direct", "carrier-pigeon"], "unknown": {"future": [1, 2]},
    })
}

fn bell() -> Value {
    json!({"fd": 5, "id": 1})
}

fn topic() -> Value {
    json!({
        "capacity": 65536, "overflow": "block", "maxSubscribers": 20, "nonce": ID,
        "memory": {
            "data": {"fd": 3, "inode": 1, "size": 69632}, "control": {"fd": 4, "inode": 2, "size": 8192},
            "room": bell(), "doorbells": [bell(), bell()],
        },
    })
}

/// A fresh look, a watch and a gc all come to the same result: only `expected` is there.
fn everyone_sees(place: &Place, expected: &[&str]) {
    for bus in [place.bus(), place.polling()] {
        let listed: Vec<String> = bus.list().unwrap().iter().map(|record| record.service.clone()).collect();
        assert_eq!(listed, expected);
        let mut watch = bus.watch(Filter::All).unwrap();
        let mut seen: Vec<String> = expected.iter().map(|_| next(&mut watch).1).collect();
        seen.sort();
        assert_eq!(seen, expected);
        assert_eq!(watch.next(Some(Duration::from_millis(20))).unwrap(), None);
        bus.gc().unwrap();
    }
}

#[test]
fn things_that_are_no_files() {
    let place = Place::new();
    let bus = place.bus();
    let _honest = bus.announce(Announcement::new("honest")).unwrap();
    let name = |service: &str| place.path.join(format!("{service}@{ID}.json"));
    symlink("/etc/passwd", name("link")).unwrap();
    symlink(name("loop"), name("loop")).unwrap();
    nix::unistd::mkfifo(&name("fifo"), Mode::S_IRWXU).unwrap();
    fs::create_dir(name("folder")).unwrap();
    let _listener = UnixListener::bind(name("socket")).unwrap();
    fs::write(place.path.join("README"), "no record").unwrap();
    fs::write(place.path.join(format!("..@{ID}.json")), "").unwrap();
    fs::write(place.path.join("x@short.json"), "").unwrap();
    everyone_sees(&place, &["honest"]);
    assert_eq!(place.names().len(), 9, "a gc leaves alone what is not a record");
}

#[test]
fn a_gibibyte_of_nothing_is_not_read() {
    let place = Place::new();
    let bus = place.bus();
    let _honest = bus.announce(Announcement::new("honest")).unwrap();
    let (_path, file) = plant(&place, "huge", b"");
    file.set_len(1 << 30).unwrap();
    everyone_sees(&place, &["honest"]);
}

#[test]
fn contents_that_break_the_rules() {
    let place = Place::new();
    let bus = place.bus();
    let _honest = bus.announce(Announcement::new("honest")).unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), vec![]),
        ("not UTF-8".into(), b"{\"schema\":1,\"service\":\"\xff\xfe\"}".to_vec()),
        ("zeroes".into(), vec![0; 4096]),
        ("no object".into(), b"[1]".to_vec()),
        ("deep".into(), b"[".repeat(60_000)),
        ("two values".into(), format!("{}{}", good("evil"), good("evil")).into_bytes()),
        ("too long".into(), format!("{}{}", good("evil"), " ".repeat(64 * 1024)).into_bytes()),
    ];
    let changes = [
        ("schema", json!(2)),
        ("schema", json!("1")),
        ("service", json!("other")),
        ("service", json!("../evil")),
        ("id", json!("ffffffffffffffffffffffffffffffff")),
        ("kind", json!("")),
        ("pid", json!(0)),
        ("pid", json!(-1)),
        ("pid", json!(4_294_967_295u32)),
        ("pid", json!(1e300)),
        ("uid", json!(12345)),
        ("bootId", json!("x".repeat(1000))),
        ("codec", json!("")),
        ("endpoints", json!({"": "x"})),
        ("endpoints", json!({"x": 1})),
        ("offers", json!("direct")),
        ("metadata", json!([1])),
        ("topic", json!({})),
    ];
    for (key, value) in changes {
        let mut record = good("evil");
        record[key] = value;
        cases.push((format!("{key}: {}", record[key]), record.to_string().into_bytes()));
    }
    let in_topic = [
        ("capacity", json!(65537)),
        ("capacity", json!(0)),
        ("capacity", json!(1u64 << 40)),
        ("overflow", json!("explode")),
        ("maxSubscribers", json!(0)),
        ("maxSubscribers", json!(2000)),
        ("maxSubscribers", json!(100)),
        ("nonce", json!("short")),
        ("memory", json!({})),
    ];
    let in_memory = [
        ("data", json!({"fd": -1, "inode": 1, "size": 69632})),
        ("data", json!({"fd": 1, "inode": 1, "size": 64})),
        ("room", json!({"fd": -5, "id": 1})),
        ("doorbells", json!([])),
    ];
    for (key, value) in in_memory {
        let mut record = good("evil");
        record["topic"] = topic();
        record["topic"]["memory"][key] = value;
        let what = format!("topic.memory.{key}: {}", record["topic"]["memory"][key]);
        cases.push((what, record.to_string().into_bytes()));
    }
    for (key, value) in in_topic {
        let mut record = good("evil");
        record["topic"] = topic();
        record["topic"][key] = value;
        cases.push((format!("topic.{key}: {}", record["topic"][key]), record.to_string().into_bytes()));
    }
    let watcher = place.bus();
    let mut watch = watcher.watch(Filter::All).unwrap();
    assert_eq!(next(&mut watch).1, "honest");
    for (what, content) in &cases {
        let (path, _file) = plant(&place, "evil", content);
        assert_eq!(place.bus().find("evil").unwrap(), None, "{what}");
        assert_eq!(watcher.find("evil").unwrap(), None, "{what}");
        fs::remove_file(path).unwrap();
    }
    assert_eq!(watch.try_next(), None);
    // The same, unbroken, is believed: so it was the change that made the difference.
    for with_topic in [false, true] {
        let mut record = good("evil");
        if with_topic {
            record["topic"] = topic();
        }
        let (path, _file) = plant(&place, "evil", record.to_string().as_bytes());
        let found = place.bus().find("evil").unwrap().expect("a good record");
        assert_eq!(found.offers, [ringbell::acquire::Rung::Direct], "unknown rungs are left out");
        assert_eq!(next(&mut watch), ("added", "evil".into()));
        fs::remove_file(path).unwrap();
        assert_eq!(next(&mut watch), ("removed", "evil".into()));
    }
}

#[test]
fn a_record_that_turns_bad_is_removed() {
    let place = Place::new();
    let bus = place.bus();
    let mut watch = bus.watch(Filter::All).unwrap();
    let (_path, first) = plant(&place, "turncoat", good("turncoat").to_string().as_bytes());
    assert_eq!(next(&mut watch), ("added", "turncoat".into()));
    let (path, _second) = plant(&place, "turncoat", b"nonsense");
    assert_eq!(next(&mut watch), ("removed", "turncoat".into()));
    drop(first);
    let (_path, _third) = plant(&place, "turncoat", good("turncoat").to_string().as_bytes());
    assert_eq!(next(&mut watch), ("added", "turncoat".into()));
    assert!(path.exists());
}

#[test]
fn a_strangers_record_is_not_believed_unless_trusted() {
    if needs_root("give a file to another user") {
        return;
    }
    let place = Place::new();
    let mut record = good("stranger");
    record["uid"] = 4242.into();
    let (path, _file) = plant(&place, "stranger", record.to_string().as_bytes());
    chown(&path, Some(4242), None).unwrap();
    everyone_sees(&place, &[]);
    assert!(path.exists());
    let trusting =
        ringbell::bus::Bus::open(ringbell::bus::BusOptions { trusted_uids: vec![4242], ..place.options() })
            .unwrap();
    assert_eq!(trusting.list().unwrap().len(), 1);
}

#[test]
fn a_strangers_file_that_cannot_be_opened_disturbs_nobody() {
    if needs_root("give a file to another user") {
        return;
    }
    let place = Place::new();
    let bus = place.bus();
    let _honest = bus.announce(Announcement::new("honest")).unwrap();
    let file = leased(&place.path, "stranger");
    std::os::unix::fs::fchown(&file, Some(4242), None).unwrap();
    everyone_sees(&place, &["honest"]);
    assert_eq!(bus.gc().unwrap().foreign, 1);
}

#[test]
fn a_record_that_cannot_be_read_hides_its_own_service_only() {
    let place = Place::new();
    let announcing = place.bus();
    let _honest = announcing.announce(Announcement::new("honest")).unwrap();
    let _file = leased(&place.path, "own");
    let refused = Some(nix::libc::EAGAIN);
    for bus in [place.bus(), place.polling()] {
        // The first look-ups read the directory, and the later ones the view.
        for _ in 0..4 {
            assert!(bus.find("honest").unwrap().is_some());
            assert_eq!(bus.find_all("honest").unwrap().len(), 1);
            assert_eq!(bus.find("own").unwrap_err().errno(), refused);
            assert_eq!(bus.list().unwrap_err().errno(), refused);
        }
        // It cannot be known whether this service is there: a wait without a limit must not be silent.
        assert_eq!(bus.wait_for("own", None).unwrap_err().errno(), refused);
        bus.wait_for("honest", None).unwrap();
    }
}

#[test]
fn a_read_lock_of_a_stranger_is_no_sign_of_life() {
    let place = Place::new();
    let (path, owner) = plant(&place, "held", good("held").to_string().as_bytes());
    let reader = fs::File::open(&path).unwrap();
    drop(owner);
    let range =
        nix::libc::flock { l_type: nix::libc::F_RDLCK as i16, l_whence: 0, l_start: 0, l_len: 1, l_pid: 0 };
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
    assert!(place.bus().list().unwrap().is_empty());
    assert_eq!(place.bus().gc().unwrap().records, 1);
    assert!(!path.exists());
}
