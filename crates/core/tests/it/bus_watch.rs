//! Finding and watching: events in order, nothing twice, the same by inotify and by polling.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::harness::*;
use ringbell::bus::{Announcement, Bus, BusOptions, Filter, ServiceEvent};

#[test]
fn names_are_checked_everywhere() {
    let place = Place::new();
    let bus = place.bus();
    for name in ["", ".hidden", "-x", "a/b", "a b", "é", "a@b", &"x".repeat(65)] {
        assert_eq!(bus.find(name).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME", "{name}");
        assert_eq!(bus.find_all(name).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME", "{name}");
        let error = bus.announce(Announcement::new(name)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_INVALID_NAME", "{name}");
        assert!(error.to_string().contains(name));
    }
    assert!(place.names().is_empty());
    for name in ["a", "9", "A.b_c-d", &"x".repeat(64)] {
        bus.announce(Announcement::new(name)).unwrap();
    }
}

#[test]
fn found_by_name_and_group() {
    let place = Place::new();
    let (bus, other) = (place.bus(), place.bus());
    let _announced: Vec<_> =
        ["audio", "audio.left", "audio2"].map(|name| bus.announce(Announcement::new(name)).unwrap()).into();
    // The first look-up scans, the later ones ask the view: all answers are the same.
    for _ in 0..4 {
        assert_eq!(other.find("audio").unwrap().unwrap().service, "audio");
        assert_eq!(other.find("audio3").unwrap(), None);
        let group: Vec<String> =
            other.find_all("audio").unwrap().iter().map(|record| record.service.clone()).collect();
        assert_eq!(group, ["audio", "audio.left"]);
        assert_eq!(other.list().unwrap().len(), 3);
    }
}

#[test]
fn own_changes_are_visible_at_once() {
    let place = Place::new();
    for bus in [place.bus(), place.polling()] {
        let _watch = bus.watch(Filter::All).unwrap();
        for round in 0..50 {
            let announced = bus.announce(Announcement::new("mine")).unwrap();
            assert_eq!(bus.find("mine").unwrap(), Some(announced.record()), "{round}");
            announced.update(metadata("round", round)).unwrap();
            assert_eq!(bus.find("mine").unwrap().unwrap().metadata["round"], round);
            drop(announced);
            assert_eq!(bus.find("mine").unwrap(), None, "{round}");
        }
    }
}

#[test]
fn earlier_changes_of_another_bus_are_found() {
    let place = Place::new();
    let other = place.bus();
    for bus in [place.bus(), place.polling()] {
        let _watch = bus.watch(Filter::All).unwrap();
        for round in 0..50 {
            let announced = other.announce(Announcement::new("theirs")).unwrap();
            assert_eq!(bus.find("theirs").unwrap(), Some(announced.record()), "{round}");
            drop(announced);
            until("it is gone", || bus.find("theirs").unwrap().is_none());
        }
    }
}

fn metadata(key: &str, value: i32) -> serde_json::Map<String, serde_json::Value> {
    [(key.to_owned(), value.into())].into_iter().collect()
}

#[test]
fn events_come_in_order_and_once() {
    let place = Place::new();
    for bus in [place.bus(), place.polling()] {
        let other = place.bus();
        let first = other.announce(Announcement::new("a")).unwrap();
        let mut watch = bus.watch(Filter::All).unwrap();
        assert_eq!(next(&mut watch), ("added", "a".into()));
        let second = other.announce(Announcement::new("b")).unwrap();
        assert_eq!(next(&mut watch), ("added", "b".into()));
        first.update(metadata("load", 7)).unwrap();
        let event = watch.next(Some(PATIENCE)).unwrap().unwrap();
        assert!(matches!(&event, ServiceEvent::Updated(record) if record.metadata["load"] == 7), "{event:?}");
        drop(second);
        assert_eq!(next(&mut watch), ("removed", "b".into()));
        first.close();
        assert_eq!(next(&mut watch), ("removed", "a".into()));
        assert_eq!(watch.next(Some(Duration::from_millis(60))).unwrap(), None);
    }
}

#[test]
fn a_filter_lets_through_what_it_names() {
    let place = Place::new();
    let bus = place.bus();
    let mut watch = bus.watch(Filter::parse("sensors.*").unwrap()).unwrap();
    let _others =
        [bus.announce(Announcement::new("sensors")).unwrap(), bus.announce(Announcement::new("x")).unwrap()];
    let _cpu = bus.announce(Announcement::new("sensors.cpu")).unwrap();
    assert_eq!(next(&mut watch), ("added", "sensors.cpu".into()));
    assert_eq!(watch.try_next(), None);
}

#[test]
fn waiting_for_a_service() {
    let place = Place::new();
    let (bus, other) = (place.bus(), place.bus());
    let error = bus.wait_for("late", Some(Duration::from_millis(30))).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_TIMEOUT");
    let waiting = std::thread::spawn(move || bus.wait_for("late", Some(PATIENCE)).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    let announced = other.announce(Announcement::new("late")).unwrap();
    assert_eq!(waiting.join().unwrap(), announced.record());
}

#[test]
fn domains_are_apart() {
    let place = Place::new();
    let lab = Bus::open(BusOptions { domain: Some("lab".into()), ..place.options() }).unwrap();
    let bus = place.bus();
    let _inside = lab.announce(Announcement::new("inside")).unwrap();
    let _outside = bus.announce(Announcement::new("outside")).unwrap();
    assert_eq!(lab.path(), place.path.join("lab"));
    assert_eq!(lab.list().unwrap().len(), 1);
    assert_eq!(bus.list().unwrap().len(), 1);
    assert_eq!(bus.gc().unwrap().alive, 1);
}

#[test]
fn inotify_and_polling_see_the_same() {
    let place = Place::new();
    let (watching, polling) = (place.bus(), place.polling());
    let mut watches = [watching.watch(Filter::All).unwrap(), polling.watch(Filter::All).unwrap()];
    let mut views = [BTreeSet::new(), BTreeSet::new()];
    let publisher = place.bus();
    let mut alive = Vec::new();
    for round in 0..400u32 {
        alive.push(publisher.announce(Announcement::new(format!("s{}", round % 17))).unwrap());
        if round % 3 == 2 {
            alive.swap_remove((round as usize * 7) % alive.len());
        }
        if round % 5 == 0 {
            alive[(round as usize * 3) % alive.len()].update(metadata("round", round as i32)).unwrap();
        }
    }
    let expected: BTreeSet<String> =
        alive.iter().map(|one| serde_json::to_string(&*one.record()).unwrap()).collect();
    assert_eq!(watching.watching().mode, "inotify");
    assert_eq!(polling.watching().mode, "polling");
    for (watch, view) in watches.iter_mut().zip(&mut views) {
        let mut known = std::collections::HashMap::new();
        until("the view is the truth", || {
            while let Some(event) = watch.try_next() {
                let (id, text) =
                    (event.record().id.clone(), serde_json::to_string(&**event.record()).unwrap());
                match event {
                    ServiceEvent::Added(_) => assert_eq!(known.insert(id, text), None, "added twice"),
                    ServiceEvent::Updated(_) => {
                        let before = known.insert(id, text.clone());
                        assert!(before.is_some_and(|before| before != text), "updated, but not changed");
                    }
                    ServiceEvent::Removed(_) => assert!(known.remove(&id).is_some(), "removed twice"),
                }
            }
            *view = known.values().cloned().collect();
            *view == expected
        });
    }
    assert_eq!(watching.list().unwrap(), polling.list().unwrap());
    assert_eq!(watching.list().unwrap(), place.bus().list().unwrap());
}

#[test]
fn a_removed_directory_comes_back_with_what_is_announced() {
    let place = Place::new();
    for bus in [place.bus(), place.polling()] {
        let other = place.bus();
        let announced = other.announce(Announcement::new("phoenix")).unwrap();
        let mut watch = bus.watch(Filter::All).unwrap();
        assert_eq!(next(&mut watch), ("added", "phoenix".into()));
        for round in 0..5 {
            let at_once = lose(&place.path);
            assert_eq!(next(&mut watch), ("removed", "phoenix".into()), "{round}");
            assert_eq!(next(&mut watch), ("added", "phoenix".into()), "{round}");
            while !at_once && watch.next(Some(Duration::from_secs(1))).unwrap().is_some() {}
        }
        announced.update(metadata("still", 1)).unwrap();
        assert_eq!(next(&mut watch), ("updated", "phoenix".into()));
        // Moved away, and not removed: what is there no longer counts, and nothing of ours stays behind.
        let elsewhere = place.folder.path().join("elsewhere");
        fs::rename(&place.path, &elsewhere).unwrap();
        assert_eq!(next(&mut watch), ("removed", "phoenix".into()));
        assert_eq!(next(&mut watch), ("added", "phoenix".into()));
        until("the old place is empty", || names(&elsewhere).is_empty());
        fs::remove_dir(&elsewhere).unwrap();
        drop(announced);
        assert_eq!(next(&mut watch), ("removed", "phoenix".into()));
        assert!(place.names().is_empty());
    }
}

#[test]
fn a_directory_that_cannot_come_back_is_tried_again() {
    let place = Place::new();
    let bus = place.bus();
    let announced = bus.announce(Announcement::new("patient")).unwrap();
    let away = place.folder.path().with_extension("away");
    // The parent vanishes too, as a runtime directory does at logout.
    fs::rename(place.folder.path(), &away).unwrap();
    fs::remove_dir_all(away.join("bus")).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    announced.update(metadata("while", 1)).unwrap();
    fs::rename(&away, place.folder.path()).unwrap();
    until("it is announced again", || place.path.exists() && !place.names().is_empty());
    assert_eq!(place.bus().find("patient").unwrap().unwrap().metadata["while"], 1);
}

#[test]
fn a_removed_record_is_announced_again() {
    let place = Place::new();
    let bus = place.bus();
    let announced = bus.announce(Announcement::new("swept")).unwrap();
    let mut watch = bus.watch(Filter::All).unwrap();
    assert_eq!(next(&mut watch), ("added", "swept".into()));
    fs::remove_file(place.path.join(announced.record().file_name())).unwrap();
    assert_eq!(next(&mut watch), ("removed", "swept".into()));
    assert_eq!(next(&mut watch), ("added", "swept".into()));
}

#[test]
fn ten_thousand_records() {
    let place = Place::new();
    let publisher = place.bus();
    let announced: Vec<_> = (0..10_000)
        .map(|number| publisher.announce(Announcement::new(format!("s{number}"))).unwrap())
        .collect();
    let bus = place.bus();
    let mut watch = bus.watch(Filter::All).unwrap();
    for _ in 0..10_000 {
        assert_eq!(next(&mut watch).0, "added");
    }
    assert_eq!(bus.list().unwrap().len(), 10_000);
    assert_eq!(bus.find("s9999").unwrap(), Some(announced[9999].record()));
    assert_eq!(place.bus().list().unwrap().len(), 10_000);
}

#[test]
fn a_closed_bus_says_so_and_leaves_nothing() {
    let place = Place::new();
    let bus = place.bus();
    let announced = bus.announce(Announcement::new("closing")).unwrap();
    let mut watch = bus.watch(Filter::All).unwrap();
    assert_eq!(next(&mut watch), ("added", "closing".into()));
    bus.close();
    assert!(place.names().is_empty());
    assert_eq!(bus.find("closing").unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    assert_eq!(bus.announce(Announcement::new("x")).unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    assert_eq!(announced.update(metadata("x", 1)).unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    while let Ok(event) = watch.next(Some(PATIENCE)) {
        assert!(event.is_some(), "it hangs");
    }
}
