//! Claims between real processes: one holder at a time whatever dies, stops or is removed, and epochs that grow.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::*;
use nix::sys::signal::Signal;
use ringbell::bus::{Bus, BusOptions, Claim, ClaimWatch, Group};

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    match role.as_str() {
        // Says the epoch of each claim, and gives it back when it is told to.
        "holder" => {
            let bus = open(&path);
            loop {
                let claim = bus.claim("x", None).unwrap();
                say(&claim.epoch().to_string());
                loop {
                    match listen().as_deref() {
                        Some("lost?") => say(&format!("{:?}", claim.lost().map(|error| error.code()))),
                        Some(_) => break,
                        None => return,
                    }
                }
            }
        }
        // Claims and gives back all the time, and writes what it does.
        "busy" => {
            let bus = open(&path);
            let mut log = log_of(&path);
            loop {
                let claim = bus.claim("x", None).unwrap();
                act(&claim, &mut log);
            }
        }
        "fork" => {
            let bus = open(&path);
            let claim = bus.claim("x", Some(PATIENCE)).unwrap();
            // SAFETY: the bus thread holds no lock that the child takes: the claim is quiet.
            #[allow(unsafe_code)]
            if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
                let lost = claim.lost().map(|error| error.code());
                let again = bus.claim("x", None).map(drop).unwrap_err().code();
                drop((claim, bus));
                say(&format!("{} {again}", lost.unwrap()));
                std::thread::sleep(Duration::from_secs(60));
                std::process::exit(0);
            }
            listen();
        }
        "idle" => idle_role(&path),
        "other-user" => {
            become_user(40_010, &[nix::unistd::Gid::from_raw(40_100)]);
            let options =
                BusOptions { path: Some(path.clone()), trusted_uids: vec![0], ..BusOptions::default() };
            let group = std::env::var("GROUP").ok().map(|_| Group::Id(40_100));
            let bus = Bus::open(BusOptions { group, ..options }).unwrap();
            let claim = bus.claim("x", Some(PATIENCE));
            match &claim {
                Ok(claim) => say(&format!("held {}", claim.epoch())),
                Err(error) => say(&format!("{} {error}", error.code())),
            }
            listen();
        }
        _ => unreachable!(),
    }
}

/// What processes do while they hold.
fn log_of(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path.with_extension("log")).unwrap()
}

/// Writes some lines while the claim is held, each by one call, so that a kill leaves only whole lines.
fn act(claim: &Claim, log: &mut File) {
    for word in ["enter", "act", "act", "leave"] {
        if claim.is_lost() {
            return;
        }
        log.write_all(format!("{word} {}\n", claim.epoch()).as_bytes()).unwrap();
    }
}

/// Checks that epochs grow, and that nobody acts after the next holder entered. Returns the number of holders.
fn check_log(path: &Path) -> usize {
    let text = fs::read_to_string(path.with_extension("log")).unwrap();
    let (mut current, mut entered) = (0, 0);
    for line in text.lines() {
        let (word, epoch) = line.split_once(' ').unwrap();
        let epoch: u64 = epoch.parse().unwrap();
        if word == "enter" {
            assert!(epoch > current, "epoch {epoch} after {current}");
            (current, entered) = (epoch, entered + 1);
        } else {
            assert_eq!(epoch, current, "{word}: two holders");
        }
    }
    entered
}

fn epoch_of(role: &mut Role) -> u64 {
    role.heard().parse().unwrap()
}

/// The next state of the watch that has a holder (or none).
fn await_state(watch: &mut ClaimWatch, held: bool) -> u64 {
    loop {
        let state = watch.next(Some(PATIENCE)).unwrap().expect("a state in time");
        if state.holder.is_some() == held {
            return state.epoch;
        }
    }
}

#[test]
fn one_holds_at_a_time_and_epochs_grow() {
    let place = Place::new();
    for bus in [place.bus(), place.polling()] {
        let mut watch = bus.claims().watch("x").unwrap();
        let claim = bus.claim("x", Some(PATIENCE)).unwrap();
        assert_eq!(await_state(&mut watch, true), claim.epoch());
        assert!(bus.try_claim("x").unwrap().is_none());
        let late = bus.claim("x", Some(SHORT)).unwrap_err();
        assert_eq!(late.code(), "ERR_RINGBELL_TIMEOUT");
        let state = bus.claims().query("x").unwrap();
        assert_eq!((state.epoch, state.holder.unwrap().pid), (claim.epoch(), std::process::id()));
        assert!(bus.try_claim("y").unwrap().is_some(), "another name is free, and needs no second try");
        let waiting = std::thread::spawn({
            let bus = bus.clone();
            move || bus.claim("x", Some(PATIENCE)).unwrap()
        });
        assert!(!claim.is_lost() && claim.wait_lost(Some(SHORT)).unwrap().is_none());
        let epoch = claim.epoch();
        claim.release();
        let next = waiting.join().unwrap();
        assert!(next.epoch() > epoch && next.epoch() < 1 << 53);
        let epoch = next.epoch();
        drop(next);
        while await_state(&mut watch, false) < epoch {}
        assert_eq!(bus.claims().query("x").unwrap().holder, None);
        assert_eq!(bus.claims().query("never").unwrap().epoch, 0);
    }
    let bus = place.bus();
    assert_eq!(bus.claim("../x", None).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME");
    let claim = bus.claim("x", None).unwrap();
    bus.close();
    assert_eq!(claim.wait_lost(Some(PATIENCE)).unwrap().unwrap().code(), "ERR_RINGBELL_CLOSED");
    assert_eq!(bus.claims().query("x").unwrap_err().code(), "ERR_RINGBELL_CLOSED");
    assert_eq!(
        place.bus().claims().query("x").unwrap().holder,
        None,
        "closing the bus gives everything back"
    );
}

#[test]
fn the_death_of_the_holder_frees_it() {
    let place = Place::new();
    for bus in [place.bus(), place.polling()] {
        let mut watch = bus.claims().watch("x").unwrap();
        let mut holder = Role::start("holder", &place.path, &[]);
        let first = epoch_of(&mut holder);
        assert_eq!(await_state(&mut watch, true), first);
        let waiting = std::thread::spawn({
            let bus = bus.clone();
            move || bus.claim("x", Some(PATIENCE)).unwrap().epoch()
        });
        holder.kill_unreaped();
        assert!(waiting.join().unwrap() > first, "a zombie holds nothing");
    }
}

#[test]
fn a_stopped_holder_is_never_passed_by() {
    let place = Place::new();
    let bus = place.bus();
    let mut holder = Role::start("holder", &place.path, &[]);
    let epoch = epoch_of(&mut holder);
    holder.stop();
    assert_eq!(bus.claim("x", Some(SHORT)).unwrap_err().code(), "ERR_RINGBELL_TIMEOUT");
    assert!(bus.try_claim("x").unwrap().is_none());
    assert_eq!(bus.claims().query("x").unwrap().holder.unwrap().pid, holder.child.id());
    holder.signal(Signal::SIGCONT);
    holder.tell("lost?");
    assert_eq!(holder.heard(), "None");
    // It gives the name back, and claims it again behind this one.
    let waiting = std::thread::spawn(move || bus.claim("x", Some(PATIENCE)).unwrap());
    holder.kill();
    assert!(waiting.join().unwrap().epoch() > epoch);
}

/// `npm run soak` asks for more.
fn kills(usual: u32) -> u32 {
    std::env::var("CLAIM_KILLS").map_or(usual, |count| count.parse().unwrap())
}

/// Kills at random moments. Everybody does the same, so holders and those who wait are killed alike.
fn storm(path: &Path, rounds: u32, mut each: impl FnMut(u32)) {
    let mut busy: Vec<Role> = (0..4).map(|_| Role::start("busy", path, &[])).collect();
    let length = || fs::metadata(path.with_extension("log")).map_or(0, |meta| meta.len());
    for round in 0..rounds {
        let before = length();
        until("somebody holds", || length() > before);
        let victim = round as usize % busy.len();
        busy[victim].kill();
        busy[victim] = Role::start("busy", path, &[]);
        each(round);
    }
    for one in &mut busy {
        one.kill();
    }
}

#[test]
fn killed_at_random_there_is_never_more_than_one() {
    let kills = kills(60);
    let place = Place::watched(240 + u64::from(kills));
    storm(&place.path, kills, |_| {});
    assert!(check_log(&place.path) > kills as usize);
}

#[test]
fn killed_while_the_directory_is_lost_there_is_never_more_than_one() {
    let place = Place::watched(240);
    storm(&place.path, 20, |round| match round % 3 {
        0 => drop(lose(&place.path)),
        1 => fs::rename(&place.path, place.path.with_extension(format!("old{round}"))).unwrap(),
        _ => drop(fs::remove_file(place.path.join("x.claim"))),
    });
    assert!(check_log(&place.path) > 20);
}

#[test]
fn a_holder_keeps_its_claim_when_the_directory_is_lost() {
    let place = Place::watched(120);
    for polling in [false, true] {
        let bus = if polling { place.polling() } else { place.bus() };
        let mut holder = Role::start(
            "holder",
            &place.path,
            &if polling { vec![("IPC_BUS_WATCH", "poll")] } else { vec![] },
        );
        let epoch = epoch_of(&mut holder);
        for round in 0..6 {
            match round % 3 {
                0 => drop(lose(&place.path)),
                1 => fs::rename(&place.path, place.path.with_extension(format!("old{polling}{round}")))
                    .unwrap(),
                _ => fs::remove_file(place.path.join("x.claim")).unwrap(),
            }
            // Newcomers that know nothing of the holder, and come at once.
            let newcomer = place.bus();
            assert!(newcomer.claim("x", Some(Duration::from_millis(400))).is_err(), "round {round}");
            until("the holder is back", || {
                let state = bus.claims().query("x").unwrap();
                state.epoch == epoch && state.holder.is_some_and(|one| one.pid == holder.child.id())
            });
        }
        holder.tell("lost?");
        assert_eq!(holder.heard(), "None");
        holder.kill();
        assert!(bus.claim("x", Some(PATIENCE)).unwrap().epoch() > epoch);
    }
}

#[test]
fn a_holder_that_stood_still_while_the_directory_was_lost_loses_its_claim() {
    let place = Place::new();
    let mut holder = Role::start("holder", &place.path, &[]);
    let epoch = epoch_of(&mut holder);
    holder.stop();
    lose(&place.path);
    let bus = place.bus();
    let begun = Instant::now();
    let next = bus.claim("x", Some(PATIENCE)).unwrap();
    assert!(next.epoch() > epoch, "the file of the first one is gone, and its epoch is still smaller");
    assert!(begun.elapsed() >= Duration::from_millis(100), "an old holder comes first");
    drop(next);
    holder.signal(Signal::SIGCONT);
    // Free now, but another one held it since.
    until("it hears of it", || {
        holder.tell("lost?");
        holder.heard().contains("CLAIM_LOST")
    });
}

#[test]
fn hostile_files_are_named_and_garbage_is_overwritten() {
    let place = Place::new();
    let bus = place.bus();
    std::os::unix::fs::symlink("/etc/passwd", place.path.join("link.claim")).unwrap();
    fs::create_dir(place.path.join("folder.claim")).unwrap();
    nix::unistd::mkfifo(&place.path.join("fifo.claim"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["link", "folder", "fifo"] {
        for error in [
            bus.claim(name, Some(PATIENCE)).map(drop).unwrap_err(),
            bus.try_claim(name).map(drop).unwrap_err(),
            bus.claims().query(name).unwrap_err(),
            bus.claims().watch(name).unwrap().next(Some(PATIENCE)).unwrap_err(),
        ] {
            assert_eq!(error.code(), "ERR_RINGBELL_BUS_DIRECTORY", "{error}");
            assert!(error.to_string().contains(&format!("{name}.claim in it is")), "{error}");
        }
    }
    assert!(fs::read_to_string("/etc/passwd").is_ok());
    for text in [vec![], vec![0xff; 1 << 20], b"{\"schema\":1,\"epoch\":1e300}".to_vec()] {
        fs::write(place.path.join("text.claim"), text).unwrap();
        assert_eq!(bus.claims().query("text").unwrap().epoch, 0);
        let claim = bus.claim("text", Some(PATIENCE)).unwrap();
        assert_eq!(bus.claims().query("text").unwrap().epoch, claim.epoch());
        // It is overwritten while it is held: the lock decides, not the content.
        fs::write(place.path.join("text.claim"), "nonsense").unwrap();
        assert!(bus.try_claim("text").unwrap().is_none() && !claim.is_lost());
    }
}

#[test]
fn a_forked_child_holds_nothing() {
    let place = Place::new();
    let mut parent = Role::start("fork", &place.path, &[]);
    assert_eq!(parent.heard(), "ERR_RINGBELL_CLOSED ERR_RINGBELL_CLOSED");
    let bus = place.bus();
    assert!(bus.try_claim("x").unwrap().is_none(), "the child gave nothing back");
    parent.kill();
    bus.claim("x", Some(PATIENCE)).unwrap();
}

#[test]
fn other_users_need_a_group() {
    if needs_root("become another user") {
        return;
    }
    for group in [false, true] {
        let place = Place::new();
        fs::set_permissions(place.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let options = BusOptions { group: group.then_some(Group::Id(40_100)), ..place.options() };
        let bus = Bus::open(options).unwrap();
        if !group {
            fs::set_permissions(&place.path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let epoch = bus.claim("x", Some(PATIENCE)).unwrap().epoch();
        let mut other = Role::start("other-user", &place.path, if group { &[("GROUP", "")] } else { &[] });
        let heard = other.heard();
        if group {
            assert!(heard.strip_prefix("held ").unwrap().parse::<u64>().unwrap() > epoch, "{heard}");
            assert!(bus.try_claim("x").unwrap().is_none());
        } else {
            assert!(heard.contains("ERR_RINGBELL_NO_PERMISSION") && heard.contains("group"), "{heard}");
        }
    }
}

/// Holds, waits and watches. In a process of its own, because all of its bus threads are looked at.
fn idle_role(path: &Path) {
    let (bus, other) = (open(path), open(path));
    let mut holder = Role::start("holder", path, &[]);
    epoch_of(&mut holder);
    let _waiting = bus.claiming("x", true).unwrap();
    let _holding = other.claim("y", Some(PATIENCE)).unwrap();
    let _watch = other.claims().watch("x").unwrap();
    let switches = || -> Vec<String> {
        let mut all = Vec::new();
        for pid in [std::process::id(), holder.child.id()] {
            for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
                let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
                if status.contains("ringbell-bus") {
                    all.extend(status.lines().filter(|line| line.contains("_switches")).map(str::to_owned));
                }
            }
        }
        all
    };
    // Each piece of news is followed by a second of looks. Afterwards a bus thread that runs would be switched to.
    let mut before = switches();
    until("five quiet seconds", || {
        std::thread::sleep(Duration::from_secs(5));
        let quiet = switches() == before;
        before = switches();
        quiet
    });
    assert!(!before.is_empty());
    say("fine");
}

#[test]
fn nobody_does_anything_while_nothing_happens() {
    let place = Place::new();
    assert_eq!(Role::start("idle", &place.path, &[]).heard(), "fine");
}
