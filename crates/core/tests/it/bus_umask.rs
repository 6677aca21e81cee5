//! The rights of a bus directory do not depend on the umask of the process. The umask is that of the whole process, so
//! a role has it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::stat::{Mode, umask};
use ringbell::bus::{Announcement, Bus, BusOptions};

use crate::harness::*;

#[test]
fn role() {
    let Some((_, path)) = my_role() else { return };
    umask(Mode::from_bits_truncate(0o177));
    let options =
        BusOptions { path: Some(path.clone()), domain: Some("lab".into()), ..BusOptions::default() };
    let bus = Bus::open(options).unwrap();
    for made in [&path, &path.join("lab")] {
        assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o7777, 0o700, "{}", made.display());
    }
    let _announced = bus.announce(Announcement::new("clock")).unwrap();
    assert_eq!(bus.list().unwrap().len(), 1);
    say("fine");
}

#[test]
fn the_umask_takes_no_right_from_the_bus_directory() {
    let place = Place::new();
    assert_eq!(Role::start("umask", &place.path, &[]).heard(), "fine");
}
