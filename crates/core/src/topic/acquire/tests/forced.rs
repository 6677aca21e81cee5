//! Every fallback, forced: by option, by environment, and by a seccomp filter that answers as an old kernel or a container.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::{Fake, Scene, climb, role};
use crate::bus::{Bus, BusOptions};
use crate::doctor::Status;
use crate::handshake::Acquirer;
use crate::harness::{Place, Raw, listen, needs_root, say};
use crate::record::Rung;
use crate::segment;
use crate::sys::epoll::Epoll;
use crate::sys::eventfd::EventFd;
use crate::topic::PublisherOptions;

/// From here on this thread gets `errno` from `call` (where `condition` holds).
fn forbid(call: libc::c_long, condition: Option<SeccompCondition>, errno: Errno) {
    let rules = condition.map(|condition| SeccompRule::new(vec![condition]).unwrap()).into_iter().collect();
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// Scenarios named `<call> <errno>`.
pub(super) fn by_seccomp(scenario: &str, bus: &Bus) {
    let record = || bus.find("topic").unwrap().unwrap();
    let falls_to_handshake = |code: &str| {
        let attachment = climb(bus, &record(), None).unwrap();
        assert_eq!(attachment.rung, Rung::Handshake);
        assert_eq!(
            (attachment.fallbacks[0].rung, attachment.fallbacks[0].code.as_str()),
            (Rung::Direct, code)
        );
        let error = climb(bus, &record(), Some(Rung::Direct)).unwrap_err();
        assert_eq!(error.code(), "ERR_RINGBELL_ACQUIRE", "{error}");
    };
    match scenario {
        "pidfd_getfd ENOSYS" => {
            forbid(libc::SYS_pidfd_getfd, None, Errno::ENOSYS);
            falls_to_handshake("ENOSYS");
        }
        "pidfd_getfd EPERM" => {
            forbid(libc::SYS_pidfd_getfd, None, Errno::EPERM);
            falls_to_handshake("EPERM");
        }
        "pidfd_open ENOSYS" => {
            forbid(libc::SYS_pidfd_open, None, Errno::ENOSYS);
            falls_to_handshake("ENOSYS");
        }
        "pidfd_getfd EMFILE" => {
            forbid(libc::SYS_pidfd_getfd, None, Errno::EMFILE);
            let error = climb(bus, &record(), None).unwrap_err();
            assert_eq!(
                error.code(),
                "ERR_RINGBELL_RESOURCE",
                "a resource that ran out is no reason to step down: {error}"
            );
        }
        "memfd_create ENOSYS" => {
            forbid(libc::SYS_memfd_create, None, Errno::ENOSYS);
            let error = segment::create(4096, 4).unwrap_err();
            assert_eq!(
                (error.code(), error.syscall(), error.errno()),
                ("ERR_RINGBELL_SYSTEM", Some("memfd_create"), Some(libc::ENOSYS))
            );
        }
        "memfd_create NOEXEC_SEAL" => {
            let flag = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(8), 8);
            forbid(libc::SYS_memfd_create, Some(flag.unwrap()), Errno::EINVAL);
            segment::create(4096, 4).unwrap();
        }
        "madvise POPULATE_WRITE" => {
            let advice = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 23);
            forbid(libc::SYS_madvise, Some(advice.unwrap()), Errno::EINVAL);
            let own = segment::create(1 << 20, 4).unwrap();
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let resident: u64 = maps.split("ringbell-data").skip(1).map(resident_kib).sum();
            assert!(
                resident >= 2 * own.data.capacity() as u64 / 1024,
                "both halves are populated: {resident} KiB"
            );
        }
        "RLIMIT_FSIZE" => {
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, 8192, 8192).unwrap();
            let error = segment::create(1 << 20, 4).unwrap_err();
            assert_eq!(
                (error.code(), error.errno()),
                ("ERR_RINGBELL_RESOURCE", Some(libc::EFBIG)),
                "{error}"
            );
        }
        "accept4 EPERM" => {
            // Before the bus thread is there, which inherits it.
            forbid(libc::SYS_accept4, None, Errno::EPERM);
            let _fake = Fake::publish(bus, "topic", 8, &[Rung::Handshake]).unwrap();
            say("ready");
            assert!(listen().is_some());
            // Answered by the thread that cannot accept.
            assert_ne!(bus.watching().mode, "off");
        }
        "bind EPERM" => {
            forbid(libc::SYS_bind, None, Errno::EPERM);
            cannot_listen(bus, "bind");
        }
        "listen EINVAL" => {
            forbid(libc::SYS_listen, None, Errno::EINVAL);
            cannot_listen(bus, "listen");
        }
        "io_setup EPERM" => {
            forbid(libc::SYS_io_setup, None, Errno::EPERM);
            let (bell, sleeper) = (EventFd::new().unwrap().shared(), Epoll::new().unwrap());
            sleeper.watch_edges(bell.as_fd(), 7).unwrap();
            let mut ready = Vec::new();
            for flags in [OFlag::empty(), OFlag::O_NONBLOCK, OFlag::empty()] {
                nix::unistd::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
                fcntl(&bell, FcntlArg::F_SETFL(flags)).unwrap();
                sleeper.wait(Some(Instant::now()), &mut ready).unwrap();
                bell.ring();
                sleeper.wait(Some(Instant::now()), &mut ready).unwrap();
                assert_eq!((&ready[..], bell.drain()), (&[7][..], 1));
            }
            let check = bus.doctor().checks.into_iter().find(|check| check.check == "doorbells").unwrap();
            assert!(check.status == Status::Warn && check.detail.contains("io_setup"), "{}", check.detail);
        }
        "membarrier EPERM" => {
            let _publisher = bus.publisher("topic", PublisherOptions::default()).unwrap();
            forbid(libc::SYS_membarrier, None, Errno::EPERM);
            let attachment = climb(bus, &record(), None).unwrap();
            assert_eq!(attachment.rung, Rung::Stream, "the publisher relies on barriers");
            for passed in &attachment.fallbacks {
                assert!(passed.reason.contains("memory barrier"), "{passed:?}");
            }
            let error = climb(bus, &record(), Some(Rung::Handshake)).unwrap_err();
            assert_eq!(error.code(), "ERR_RINGBELL_ACQUIRE", "{error}");
            // A publisher of this thread makes its fences itself, so everybody may join.
            let _fencing = bus.publisher("fencing", PublisherOptions::default()).unwrap();
            let attachment = climb(bus, &bus.find("fencing").unwrap().unwrap(), None).unwrap();
            assert_ne!(attachment.rung, Rung::Stream);
        }
        "sendmsg EMSGSIZE" => {
            forbid(libc::SYS_sendmsg, None, Errno::EMSGSIZE);
            let (status, detail) = sockets(bus);
            assert!(status == Status::Warn && detail.contains("EMSGSIZE"), "{detail}");
            forbid(libc::SYS_memfd_create, None, Errno::ENOSYS);
            assert_eq!(sockets(bus).0, Status::Fail, "there is nothing else to receive by");
        }
        other => panic!("no scenario {other}"),
    }
}

/// What the doctor finds, who leaves nothing behind.
fn sockets(bus: &Bus) -> (Status, String) {
    let check = bus.doctor().checks.into_iter().find(|check| check.check == "sockets").unwrap();
    assert_eq!(std::fs::read_dir(bus.path()).unwrap().count(), 0);
    (check.status, check.detail)
}

/// Neither the doctor nor a publisher can, and both name the call that failed.
fn cannot_listen(bus: &Bus, call: &str) {
    let (status, detail) = sockets(bus);
    assert!(status == Status::Fail && detail.contains(&format!("({call}: ")), "{detail}");
    let error = Fake::publish(bus, "topic", 8, &[Rung::Handshake]).err().unwrap();
    assert_eq!(error.syscall(), Some(call), "{error}");
}

fn resident_kib(mapping: &str) -> u64 {
    let line = mapping.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

fn with_a_publisher(scenario: &str) {
    let scene = Scene::in_a_process();
    role(scenario, &scene.place).succeed();
}

fn alone(scenario: &str) {
    role(scenario, &Place::new()).succeed();
}

#[test]
fn a_kernel_without_pidfd_getfd_shakes_hands() {
    with_a_publisher("pidfd_getfd ENOSYS");
}

#[test]
fn a_container_that_forbids_pidfd_getfd_shakes_hands() {
    with_a_publisher("pidfd_getfd EPERM");
}

#[test]
fn a_kernel_without_pidfds_shakes_hands() {
    with_a_publisher("pidfd_open ENOSYS");
}

/// The kernel's call is from Linux 4.16, so it is there outside of a filter.
#[test]
fn a_subscriber_that_may_not_call_for_barriers_gets_a_stream() {
    alone("membarrier EPERM");
}

#[test]
fn running_out_of_descriptors_is_no_step_down() {
    with_a_publisher("pidfd_getfd EMFILE");
}

#[test]
fn a_publisher_that_may_not_accept_does_not_spin() {
    let place = Place::new();
    let mut publisher = role("accept4 EPERM", &place);
    assert_eq!(publisher.heard(), "ready");
    let bus = place.bus();
    let _connected = Raw::to(&bus, &bus.find("topic").unwrap().unwrap());
    publisher.tell("connected");
    publisher.succeed();
}

#[test]
fn the_doctor_tells_where_no_socket_can_listen() {
    alone("bind EPERM");
    alone("listen EINVAL");
}

#[test]
fn the_doctor_tells_where_no_stream_gets_across() {
    alone("sendmsg EMSGSIZE");
}

#[test]
fn without_asynchronous_io_a_doorbell_is_made_fit_for_write() {
    alone("io_setup EPERM");
}

#[test]
fn without_memfd_there_is_a_typed_error() {
    alone("memfd_create ENOSYS");
}

#[test]
fn kernels_before_6_3_know_no_noexec_seal() {
    alone("memfd_create NOEXEC_SEAL");
}

#[test]
fn kernels_before_5_14_populate_by_mapping() {
    alone("madvise POPULATE_WRITE");
}

#[test]
fn a_small_file_size_limit_is_an_error_and_no_signal() {
    alone("RLIMIT_FSIZE");
}

/// In a child, because the environment belongs to the whole process.
pub(super) fn by_environment(bus: &Bus) {
    let opened = |acquire| {
        let options = BusOptions { acquire, path: Some(bus.path().into()), ..BusOptions::default() };
        Bus::open(options).map(|bus| Acquirer::new(&bus).forced())
    };
    assert_eq!(opened(None), Ok(None));
    for (value, rung) in
        [("direct", Some(Rung::Direct)), ("handshake", Some(Rung::Handshake)), ("auto", None), ("", None)]
    {
        set(value);
        assert_eq!(opened(None), Ok(rung), "{value}");
        assert_eq!(opened(Some(Rung::Stream)), Ok(Some(Rung::Stream)), "an option comes before the variable");
    }
    set("telepathy");
    let error = opened(None).unwrap_err();
    assert_eq!(error.code(), "ERR_RINGBELL_INVALID_OPTION");
    assert!(error.to_string().contains("IPC_BUS_ACQUIRE"), "it names what is wrong: {error}");
}

#[allow(unsafe_code)]
fn set(value: &str) {
    // SAFETY: this child runs one test; its other threads read no environment.
    unsafe { std::env::set_var("IPC_BUS_ACQUIRE", value) };
}

#[test]
fn the_environment_forces_a_rung() {
    alone("forced-by-environment");
}

/// As another user, who was let into the directory and up to the socket.
pub(super) fn as_a_stranger(bus: &Bus) {
    let stranger = nix::unistd::Uid::from_raw(65534);
    nix::unistd::setresuid(stranger, stranger, stranger).unwrap();
    let bus = Bus::open(BusOptions { path: Some(bus.path().into()), ..BusOptions::default() }).unwrap();
    let record = bus.find("topic").unwrap().unwrap();
    let error = climb(&bus, &record, None).unwrap_err();
    let crate::Error::Acquire { reasons, .. } = &error else { panic!("{error}") };
    assert!(reasons[0].contains("EPERM") && reasons[1].contains("ERR_RINGBELL_NO_PERMISSION"), "{error}");
}

#[test]
fn another_user_is_refused_by_its_credentials() {
    use std::os::unix::fs::PermissionsExt;
    if needs_root("become another user") {
        return;
    }
    let scene = Scene::in_a_process();
    let (folder, path) = (scene.place.folder.path(), scene.bus.path());
    let socket = path.join(scene.record.socket_name());
    for (path, mode) in [(folder, 0o755), (path, 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    role("stranger", &scene.place).succeed();
}

#[test]
fn a_forced_rung_has_no_fallbacks() {
    let scene = Scene::in_a_process();
    for rung in [Rung::Direct, Rung::Handshake] {
        let attachment = scene.climb(Some(rung)).unwrap();
        assert_eq!((attachment.rung, attachment.fallbacks), (rung, vec![]));
    }
}
