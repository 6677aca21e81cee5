//! Two and more real users: which of them are let in, what a guest gets, and that it can hold up neither its publisher
//! nor other subscribers.
//!
//! Children become other users with `setresuid`, which only root can do. Without root these tests count as skipped. CI runs
//! as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::guest_roles::become_and_play;
use crate::bus::{Bus, BusOptions};
use crate::error::Error;
use crate::harness::{PATIENCE, Place, Role, my_role, needs_root, open, until, without_root};
use crate::record::{Access, Group, Overflow, Rung};
use crate::topic::{
    AttachedSubscriber, EndReason, Eviction, Notice, Publisher, PublisherNotice, PublisherOptions,
    SubscriberEnd, SubscriberOptions,
};

pub(super) const HOST: u32 = 40_001;
pub(super) const GUEST_USER: u32 = 40_002;
const OTHER_GUEST: u32 = 40_003;
const STRANGER: u32 = 40_004;
pub(super) const CLUB: u32 = 40_100;
/// How a guest reads: in shared memory, and over a stream.
const WAYS: [&str; 2] = ["", "streamed "];

#[test]
#[ignore = "a child of the other tests"]
fn play() {
    let Some((role, path)) = my_role() else { return };
    match role.as_str() {
        "foreign group" => give_a_foreign_group(&path),
        user_and_what => become_and_play(user_and_what, &path),
    }
}

/// A bus of root that every user can read, in a folder that every user can enter. `None` without root.
struct OpenHouse {
    bus: Bus,
    place: Place,
}

impl OpenHouse {
    fn open() -> Option<OpenHouse> {
        if needs_root("become another user") {
            return None;
        }
        let place = Place::watched(240);
        let bus = place.bus();
        for path in [place.folder.path(), bus.path()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Some(OpenHouse { bus, place })
    }

    /// A child that is another user.
    fn child(&self, uid: u32, what: &str) -> Role {
        role(&self.place, &format!("{uid} 0 {what}"))
    }
}

fn role(place: &Place, role: &str) -> Role {
    Role::of("topic::tests::guests::play", role, &place.path, &[])
}

fn for_users(uids: &[u32]) -> Access {
    Access { uids: uids.to_vec(), ..Access::default() }
}

pub(super) fn topic(bus: &Bus, overflow: Overflow, access: Access) -> Publisher {
    let options = PublisherOptions {
        capacity: 64 << 10,
        overflow,
        access: Some(access),
        ..PublisherOptions::default()
    };
    bus.publisher("topic", options).unwrap()
}

/// Sends the number of each message in it, waiting for room.
pub(super) fn send_all(publisher: &mut Publisher, count: u64) {
    let first = publisher.stats().counters.messages;
    for number in first..first + count {
        let mut message = [0; 40];
        message[..8].copy_from_slice(&number.to_le_bytes());
        while !publisher.send(&message).unwrap() {
            assert!(publisher.wait_room(40, Some(PATIENCE)).unwrap(), "nobody makes room");
        }
    }
}

#[test]
fn a_refused_user_gets_a_refusal_and_nothing_else() {
    let Some(house) = OpenHouse::open() else { return };
    let publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let record = publisher.record();
    let mode = |name: String| std::fs::symlink_metadata(house.bus.path().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode(record.file_name()), mode(record.socket_name())), (0o644, 0o666));
    assert_eq!(record.access.as_ref().unwrap().uids, [GUEST_USER]);
    for (uid, how) in [(STRANGER, "full"), (GUEST_USER, "plain")] {
        let mut stranger = house.child(uid, &format!("refused {how}"));
        assert_eq!(stranger.heard(), "refused");
        stranger.succeed();
    }
    assert_eq!(publisher.subscribers(), 0);
}

#[test]
fn a_guest_gets_every_message_and_is_waited_for() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let mut own = house.bus.subscriber("topic", SubscriberOptions::default()).unwrap();
    assert!(own.wait_attached(1, Some(PATIENCE)).unwrap());
    let mut dark = house.child(GUEST_USER, "read undumpable");
    assert_eq!(dark.heard(), "attached handshake true 0");
    let mut streamed = house.child(GUEST_USER, "streamed read");
    assert_eq!(streamed.heard(), "attached stream true 65");
    let reader = std::thread::spawn(move || {
        let mut count = 0;
        while count < 30_000 {
            assert_eq!(own.recv().unwrap().sequence, count);
            count += 1;
        }
        own
    });
    let mut guest = house.child(GUEST_USER, "read");
    assert_eq!(guest.heard(), "attached handshake true 0");
    let subscribers = publisher.stats().subscribers;
    let uids: Vec<_> = subscribers.iter().map(|slot| (slot.slot, slot.uid)).collect();
    assert_eq!(uids, [(0, None), (64, Some(GUEST_USER)), (65, Some(GUEST_USER)), (66, Some(GUEST_USER))]);
    assert_eq!(subscribers[2].rung, Some(Rung::Stream));
    // Many more than the ring holds, one by one at first, so that it sleeps in between.
    for _ in 0..200 {
        send_all(&mut publisher, 1);
        until("it was read", || publisher.stats().subscribers.iter().all(|slot| slot.backlog == 0));
    }
    send_all(&mut publisher, 29_800);
    drop(reader.join().unwrap());
    publisher.close();
    for mut guest in [guest, dark, streamed] {
        assert_eq!(guest.heard(), "30000 closed");
        guest.succeed();
    }
}

#[test]
fn a_guest_holds_no_descriptor_that_can_harm_its_publisher() {
    let Some(house) = OpenHouse::open() else { return };
    let publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let mut guest = house.child(GUEST_USER, "holdings");
    assert_eq!(guest.heard(), "harmless");
    guest.succeed();
    until("it is forgotten", || publisher.subscribers() == 0);
}

#[test]
fn a_guest_that_floods_the_doorbell_is_banned() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER, OTHER_GUEST]));
    let mut honest = house.child(OTHER_GUEST, "read");
    assert!(honest.heard().starts_with("attached"));
    let mut hostile = house.child(GUEST_USER, "flood");
    assert_eq!(hostile.heard(), "seated");
    hostile.tell("now");
    assert_eq!(hostile.heard(), "put out true");
    hostile.succeed();
    send_all(&mut publisher, 10_000);
    publisher.close();
    assert_eq!(honest.heard(), "10000 closed");
    honest.succeed();
}

#[test]
fn a_hostile_guest_affects_neither_publisher_nor_guests() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        let Some(house) = OpenHouse::open() else { return };
        let access =
            Access { evict_after: Duration::from_millis(20), ..for_users(&[GUEST_USER, OTHER_GUEST]) };
        let mut publisher = topic(&house.bus, overflow, access);
        let mut hostile = house.child(GUEST_USER, "scribble");
        assert_eq!(hostile.heard(), "seated");
        let mut honest = house.child(OTHER_GUEST, "read");
        assert!(honest.heard().starts_with("attached"));
        // In steps that the ring holds, so that the honest one loses nothing under any policy.
        for step in 1..=50u64 {
            let mut tries = 0;
            while publisher.stats().counters.messages < step * 200 {
                if !publisher.send(&number(&publisher)).unwrap() {
                    publisher.wait_room(40, Some(Duration::from_millis(5))).unwrap();
                    tries += 1;
                    assert!(tries < 1000, "{overflow:?}: a guest is in the way for ever");
                }
            }
            until("the honest guest has read", || {
                let slots = publisher.stats().subscribers;
                slots.iter().any(|slot| slot.uid == Some(OTHER_GUEST) && slot.backlog == 0)
            });
        }
        publisher.close();
        assert_eq!(honest.heard(), "10000 closed");
        honest.succeed();
        drop(hostile);
    }
}

fn number(publisher: &Publisher) -> [u8; 40] {
    let mut message = [0; 40];
    message[..8].copy_from_slice(&publisher.stats().counters.messages.to_le_bytes());
    message
}

#[test]
fn a_guest_that_is_killed_gives_way_to_a_publisher_that_waits() {
    let Some(house) = OpenHouse::open() else { return };
    let access = Access { evict_after: Duration::from_secs(3600), ..for_users(&[GUEST_USER]) };
    let mut publisher = topic(&house.bus, Overflow::Block, access);
    for round in 0..20 {
        let mut guest = house.child(GUEST_USER, &format!("{}stall", WAYS[round % 2]));
        assert_eq!(guest.heard(), "attached");
        while publisher.send(&[1; 1000]).unwrap() {}
        let waits = publisher.stats().waits;
        let waiting = std::thread::spawn(move || {
            assert!(publisher.wait_room(1000, Some(PATIENCE)).unwrap(), "nobody told it");
            publisher
        });
        guest.kill_unreaped();
        publisher = waiting.join().unwrap();
        assert!(publisher.stats().waits > waits);
        assert!(publisher.send(&[1; 1000]).unwrap());
        assert_eq!(publisher.subscribers(), 0);
    }
}

#[test]
fn a_guest_that_makes_no_room_is_evicted_and_told_so() {
    let Some(house) = OpenHouse::open() else { return };
    let users = [GUEST_USER, OTHER_GUEST];
    let access = Access { evict_after: Duration::from_millis(50), ..for_users(&users) };
    let mut publisher = topic(&house.bus, Overflow::Block, access);
    let mut guests = [0, 1].map(|which| house.child(users[which], &format!("{}stall", WAYS[which])));
    for guest in &mut guests {
        assert_eq!(guest.heard(), "attached");
    }
    send_all(&mut publisher, 5_000);
    assert_eq!((publisher.subscribers(), publisher.stats().counters.evicted), (0, 2));
    for mut guest in guests {
        guest.tell("look");
        assert_eq!(guest.heard(), "ERR_RINGBELL_EVICTED");
        guest.succeed();
    }
}

#[test]
fn guests_of_a_closed_bus_hear_of_its_end() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let mut guests = WAYS.map(|way| house.child(GUEST_USER, &format!("{way}read")));
    for guest in &mut guests {
        assert!(guest.heard().starts_with("attached"));
    }
    house.bus.close();
    // Who is streamed to has had all there was.
    for (mut guest, told) in guests.into_iter().zip(["0 ERR_RINGBELL_EVICTED", "0 closed"]) {
        assert_eq!(guest.heard(), told);
        guest.succeed();
    }
    // Nor does the publisher: nobody serves guests any more.
    for _ in 0..1000 {
        assert!(publisher.send(&[1; 1000]).unwrap());
    }
}

#[test]
fn no_position_is_kept_for_a_guest() {
    let Some(house) = OpenHouse::open() else { return };
    let _publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    for way in WAYS {
        let mut guest = house.child(GUEST_USER, &format!("{way}durable"));
        assert!(guest.heard().contains("keeps no durable positions"));
        guest.succeed();
    }
}

#[test]
fn a_message_of_any_size_reaches_a_guest() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let mut guests = WAYS.map(|way| house.child(GUEST_USER, &format!("{way}read")));
    for guest in &mut guests {
        assert!(guest.heard().starts_with("attached"));
    }
    let mut message = vec![7; 3 << 20];
    message[..8].copy_from_slice(&0u64.to_le_bytes());
    assert!(publisher.write(&message, Some(PATIENCE)).unwrap());
    publisher.close();
    for mut guest in guests {
        assert_eq!(guest.heard(), "1 closed");
        guest.succeed();
    }
}

#[test]
fn one_user_cannot_take_all_places() {
    for greedy in WAYS {
        for modest in WAYS {
            let Some(house) = OpenHouse::open() else { return };
            shares(&house, greedy, modest);
        }
    }
}

fn shares(house: &OpenHouse, greedy: &str, modest: &str) {
    let access = Access { max_guests: 4, ..for_users(&[GUEST_USER, OTHER_GUEST]) };
    let publisher = topic(&house.bus, Overflow::Block, access);
    let users = || {
        let mut uids: Vec<_> = publisher.stats().subscribers.iter().filter_map(|slot| slot.uid).collect();
        uids.sort_unstable();
        uids
    };
    let mut greedy = house.child(GUEST_USER, &format!("{greedy}crowd 7"));
    assert_eq!(greedy.heard(), "4 ERR_RINGBELL_NO_SLOT");
    assert_eq!(users(), [GUEST_USER; 4]);
    let mut modest = house.child(OTHER_GUEST, &format!("{modest}crowd 3"));
    assert_eq!(modest.heard(), "2 ERR_RINGBELL_NO_SLOT");
    until("both have their share", || users() == [GUEST_USER, GUEST_USER, OTHER_GUEST, OTHER_GUEST]);
    drop(greedy);
    drop(modest);
    until("all are gone", || publisher.subscribers() == 0);
    // Their own user never paid for any of it.
    let mut own = house.bus.subscriber("topic", SubscriberOptions::default()).unwrap();
    assert!(own.wait_attached(1, Some(PATIENCE)).unwrap());
}

#[test]
fn endless_connection_attempts_keep_no_guest_out() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let mut hostile: Vec<_> = [STRANGER, GUEST_USER].map(|uid| house.child(uid, "knock")).into();
    for knocker in &mut hostile {
        assert_eq!(knocker.heard(), "knocking");
    }
    let mut guest = house.child(GUEST_USER, "read");
    assert!(guest.heard().starts_with("attached"));
    send_all(&mut publisher, 1000);
    publisher.close();
    assert_eq!(guest.heard(), "1000 closed");
    guest.succeed();
}

#[test]
fn a_guest_without_its_directory_hears_of_the_publishers_end() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    let mut guests = WAYS.map(|way| house.child(GUEST_USER, &format!("{way}read")));
    for guest in &mut guests {
        assert!(guest.heard().starts_with("attached"));
    }
    // Who is slow finds the record there again before the directory is empty.
    until("the directory is gone", || std::fs::remove_dir_all(house.bus.path()).is_ok());
    until("the record is back", || house.bus.path().join(publisher.record().file_name()).exists());
    std::fs::set_permissions(house.bus.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    send_all(&mut publisher, 5_000);
    publisher.close();
    for mut guest in guests {
        assert_eq!(guest.heard(), "5000 closed");
        guest.succeed();
    }
}

/// Memory that cannot be shared, or is not meant to be, keeps nobody out.
#[test]
fn guests_of_a_topic_without_shared_memory_are_streamed_to() {
    let Some(house) = OpenHouse::open() else { return };
    let options = PublisherOptions {
        capacity: 64 << 10,
        overflow: Overflow::Block,
        offers: vec![Rung::Stream],
        access: Some(for_users(&[GUEST_USER])),
        ..PublisherOptions::default()
    };
    let mut publisher = house.bus.publisher("topic", options).unwrap();
    // Comes and goes, and the place is another's.
    for round in 0..70 {
        let mut guest = house.child(GUEST_USER, if round == 0 { "read" } else { "streamed stall" });
        assert!(guest.heard().starts_with("attached"));
        if round > 0 {
            continue;
        }
        send_all(&mut publisher, 10_000);
        until("it was read", || publisher.stats().subscribers.iter().all(|slot| slot.backlog == 0));
        guest.kill_unreaped();
    }
    until("all are forgotten", || publisher.subscribers() == 0);
}

#[test]
fn invalid_reports_ban_a_guest_and_endless_ones_are_rationed() {
    let Some(house) = OpenHouse::open() else { return };
    let users = [GUEST_USER, OTHER_GUEST];
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&users));
    let mut hostile = house.child(GUEST_USER, "nonsense");
    let told = hostile.heard();
    assert!(told.starts_with("NotPermitted a subscriber of this user was put out"), "{told}");
    hostile.succeed();
    until("it is forgotten", || publisher.subscribers() == 0);
    let mut hostile = house.child(OTHER_GUEST, "reports");
    assert_eq!(hostile.heard(), "reporting");
    let mut own = house.bus.subscriber("topic", SubscriberOptions::default()).unwrap();
    assert!(own.wait_attached(1, Some(PATIENCE)).unwrap());
    let options = SubscriberOptions { acquire: Some(Rung::Stream), ..SubscriberOptions::default() };
    let mut streamed = house.bus.subscriber("topic", options).unwrap();
    assert!(streamed.wait_attached(1, Some(PATIENCE)).unwrap());
    for number in 0..300 {
        assert!(publisher.send(&[1; 40]).unwrap());
        for subscriber in [&mut own, &mut streamed] {
            assert_eq!(subscriber.recv().unwrap().sequence, number);
        }
    }
    assert_eq!(publisher.subscribers(), 3, "reports are no breach, however many");
    drop(hostile);
    until("it is forgotten", || publisher.subscribers() == 2);
}

/// Neither of them root, in a directory that their group shares.
#[test]
fn a_group_shares_a_directory() {
    if needs_root("become another user") {
        return;
    }
    let place = Place::new();
    std::fs::set_permissions(place.folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let member = |uid: u32, what: &str| role(&place, &format!("{uid} {CLUB} {what}"));
    let mut host = member(HOST, "publish shared");
    assert_eq!(host.heard(), "ready");
    let path = place.path.clone();
    let shown = |path: &Path| {
        let found = std::fs::symlink_metadata(path).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid())
    };
    assert_eq!(shown(&path), (0o3770, HOST, CLUB));
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap().path();
        let mode = if entry.extension().unwrap() == "sock" { 0o660 } else { 0o640 };
        assert_eq!(shown(&entry), (mode, HOST, CLUB), "{entry:?}");
    }
    // A user of another group does not even get in.
    let mut stranger = role(&place, &format!("{STRANGER} 0 enter shared"));
    assert_eq!(stranger.heard(), "ERR_RINGBELL_SYSTEM Some(EACCES)");
    stranger.succeed();

    let mut watcher = member(GUEST_USER, "watch shared");
    assert_eq!(watcher.heard(), "added");
    let mut guest = member(GUEST_USER, "read shared");
    assert_eq!(guest.heard(), "attached handshake true 0");
    // Root takes a guest's place as well: the doorbells of a user that it does not know are not for it.
    let root = BusOptions {
        path: Some(path.clone()),
        group: Some(Group::Id(CLUB)),
        trusted_uids: vec![HOST],
        ..BusOptions::default()
    };
    let bus = Bus::open(root).unwrap();
    let mut by_root = bus.subscriber("topic", SubscriberOptions::default()).unwrap();
    assert!(by_root.wait_attached(1, Some(PATIENCE)).unwrap());
    let source = by_root.stats().sources.remove(0);
    assert_eq!((source.rung, source.guest), (Rung::Handshake, true));
    assert_eq!(source.fallbacks[0].code, "OTHER_USER");

    host.tell("send 300");
    assert_eq!(host.heard(), "done");
    host.kill_unreaped();
    assert_eq!(guest.heard(), "300 died");
    guest.succeed();
    for number in 0..300 {
        assert_eq!(by_root.recv().unwrap().sequence, number);
    }
    // Everybody sees that it is gone; what it left, its own user or root removes.
    assert_eq!(watcher.heard(), "removed");
    let told = watcher.heard();
    assert!(["0 1", "0 0"].contains(&told.as_str()), "{told}");
    watcher.succeed();
    until("nothing is left", || {
        bus.gc().unwrap();
        std::fs::read_dir(&path).unwrap().count() == 0
    });
    until("root's source has ended", || {
        let _ = by_root.wait(Some(Instant::now() + Duration::from_millis(10)));
        by_root.notices().iter().any(|notice| matches!(notice, Notice::Ended { reason: EndReason::Died, .. }))
    });
}

fn publish_for(bus: &Bus, access: Access) -> Result<(), Error> {
    let options = PublisherOptions { access: Some(access), ..PublisherOptions::default() };
    bus.publisher("topic", options).map(drop)
}

#[test]
fn a_right_that_cannot_be_given_is_an_error() {
    let place = Place::new();
    let bus = place.bus();
    let refused = publish_for(&bus, Access::default());
    assert!(matches!(refused, Err(Error::InvalidOption { option: "access", .. })));
    let options = PublisherOptions {
        access: Some(for_users(&[1])),
        offers: vec![Rung::Direct],
        ..PublisherOptions::default()
    };
    let refused = bus.publisher("topic", options).map(drop);
    assert!(matches!(refused, Err(Error::InvalidOption { option: "offers", .. })), "{refused:?}");
    assert!(place.names().is_empty());
}

#[test]
fn a_group_that_its_user_is_not_in_gets_no_right() {
    let place = Place::new();
    std::fs::set_permissions(place.folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    role(&place, "foreign group").succeed();
    assert!(place.names().is_empty());
}

/// Played in a process that is not root.
fn give_a_foreign_group(path: &Path) {
    without_root();
    let foreign = Access { group: Some(Group::Id(0)), ..Access::default() };
    assert_eq!(publish_for(&open(path), foreign).unwrap_err().syscall(), Some("fchown"));
}

/// The next notice, which must be that a guest has attached.
fn attached_guest(publisher: &mut Publisher, uid: u32) -> AttachedSubscriber {
    let mut notices = publisher.wait_notices(Some(PATIENCE)).unwrap();
    match (notices.pop(), notices.is_empty()) {
        (Some(PublisherNotice::Attached { subscriber }), true) if subscriber.uid == Some(uid) => subscriber,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publisher_hears_of_guests_that_come_close_and_die() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER]));
    for way in WAYS {
        let known = |end| if way.is_empty() { end } else { SubscriberEnd::Unknown };
        let mut guest = house.child(GUEST_USER, &format!("{way}read"));
        assert!(guest.heard().starts_with("attached"));
        assert!(publisher.wait_attached(1, Some(PATIENCE)).unwrap());
        let subscriber = attached_guest(&mut publisher, GUEST_USER);
        assert_eq!(subscriber.pid, guest.child.id());
        guest.kill();
        let ended = PublisherNotice::Ended { subscriber, reason: known(SubscriberEnd::Died) };
        assert_eq!(publisher.wait_notices(Some(PATIENCE)).unwrap(), [ended]);

        let mut guest = house.child(GUEST_USER, &format!("{way}visit"));
        assert_eq!(guest.heard(), "attached");
        let subscriber = attached_guest(&mut publisher, GUEST_USER);
        guest.succeed();
        let ended = PublisherNotice::Ended { subscriber, reason: known(SubscriberEnd::Closed) };
        assert_eq!(publisher.wait_notices(Some(PATIENCE)).unwrap(), [ended]);
    }
}

#[test]
fn a_publisher_hears_of_guests_that_stall() {
    let Some(house) = OpenHouse::open() else { return };
    let mut publisher = topic(&house.bus, Overflow::Block, for_users(&[GUEST_USER, OTHER_GUEST]));
    // The user of a guest that was evicted is banned for a while.
    for (way, uid) in WAYS.into_iter().zip([GUEST_USER, OTHER_GUEST]) {
        let mut guest = house.child(uid, &format!("{way}stall"));
        assert_eq!(guest.heard(), "attached");
        let subscriber = attached_guest(&mut publisher, uid);
        while publisher.send(&[1; 1000]).unwrap() {}
        let mut notices = Vec::new();
        while notices.len() < 2 {
            notices.extend(publisher.wait_notices(Some(PATIENCE)).unwrap());
            // Half of the time before the eviction it is told of the stall, if the machine lets it look then.
            notices.retain(|notice| !matches!(notice, PublisherNotice::Stalled { .. }));
        }
        let reason = Eviction::Stalled;
        let evicted = PublisherNotice::Evicted { subscriber: subscriber.clone(), reason };
        let ended = PublisherNotice::Ended { subscriber, reason: SubscriberEnd::Evicted(reason) };
        assert_eq!(notices, [evicted, ended]);
    }
}
