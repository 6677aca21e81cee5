//! Segments: what is made, what is refused, and which process owns a slot.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::SealFlag;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use ringbell_ring::{Config, Producer};

use super::slots::{self, FileLocks};
use super::{GuestSegments, OwnSegments, attach, attach_as_guest, create, identity};
use crate::record::{EventfdRef, MemfdRef, Overflow, TopicMemory, TopicRecord};
use crate::sys::eventfd::EventFd;
use crate::sys::memfd;
use crate::{Error, Result};

const CAPACITY: usize = 8192;
const DATA: SealFlag = super::create::DATA_SEALS;
const CONTROL: SealFlag = super::create::CONTROL_SEALS;

struct Topic {
    own: OwnSegments,
    record: TopicRecord,
    _producer: Producer,
}

fn topic() -> Topic {
    let own = create(CAPACITY, 32).unwrap();
    let eventfd = EventfdRef { fd: 0, id: 0 };
    let record = TopicRecord {
        capacity: CAPACITY as u64,
        overflow: Overflow::Block,
        evict_after_ms: None,
        max_subscribers: 32,
        max_guests: 0,
        nonce: "000102030405060708090a0b0c0d0e0f".into(),
        memory: Some(TopicMemory {
            data: announced(&own.data_fd),
            control: announced(&own.control_fd),
            room: eventfd,
            doorbells: vec![eventfd; 2],
        }),
    };
    let config = Config { identity: identity(&record).unwrap(), evict_after: 0 };
    let producer = Producer::create(own.data.memory(), own.control.memory(), config);
    Topic { own, record, _producer: producer }
}

impl Topic {
    fn memory(&self) -> &TopicMemory {
        self.record.memory.as_ref().unwrap()
    }
}

fn memory_of(record: &mut TopicRecord) -> &mut TopicMemory {
    record.memory.as_mut().unwrap()
}

fn announced(fd: &OwnedFd) -> MemfdRef {
    let identity = memfd::identity(fd).unwrap().unwrap();
    MemfdRef { fd: fd.as_raw_fd(), inode: identity.inode, size: identity.size }
}

fn dup(fd: impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

/// Attaches with `fd` in the place of the data segment, and announces `fd` as such.
fn with_data(topic: &Topic, fd: impl AsFd) -> Result<()> {
    let mut record = topic.record.clone();
    if let Ok(Some(identity)) = memfd::identity(&fd) {
        memory_of(&mut record).data.inode = identity.inode;
    }
    attach(dup(fd), dup(&topic.own.control_fd), &record).map(drop)
}

fn with_control(topic: &Topic, fd: impl AsFd) -> Result<()> {
    let mut record = topic.record.clone();
    if let Ok(Some(identity)) = memfd::identity(&fd) {
        memory_of(&mut record).control.inode = identity.inode;
    }
    attach(dup(&topic.own.data_fd), dup(fd), &record).map(drop)
}

fn sealed(size: u64, seals: SealFlag) -> OwnedFd {
    let fd = memfd::create(c"ringbell-hostile", size).unwrap();
    memfd::add_seals(&fd, seals).unwrap();
    fd
}

/// The reason why a peer was found to be corrupt.
fn reason(result: Result<()>) -> String {
    match result.unwrap_err() {
        Error::CorruptPeer { what } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn capacities_and_slots_follow_the_rule() {
    for wrong in [0, 1, 2048, 4095, 4097, 6000, 12288, (1 << 30) + 1, 1 << 31, usize::MAX] {
        assert_eq!(create(wrong, 4).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION", "{wrong}");
    }
    for wrong in [0, 1025, usize::MAX] {
        assert_eq!(create(4096, wrong).unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION", "{wrong}");
    }
    for (capacity, slots) in [(4096, 1), (1 << 16, 1024)] {
        let own = create(capacity, slots).unwrap();
        assert_eq!((own.data.capacity(), own.control.memory().max_slots()), (capacity, slots));
    }
}

#[test]
fn a_new_segment_stays_sealed() {
    let own = create(CAPACITY, 4).unwrap();
    assert!(memfd::seals(&own.data_fd).unwrap().contains(DATA));
    assert!(memfd::seals(&own.control_fd).unwrap().contains(CONTROL));
    let size = memfd::identity(&own.data_fd).unwrap().unwrap().size as i64;
    for fd in [&own.data_fd, &own.control_fd] {
        assert_eq!(nix::unistd::ftruncate(fd, 0), Err(Errno::EPERM));
        assert_eq!(nix::unistd::ftruncate(fd, size * 2), Err(Errno::EPERM));
        assert!(memfd::add_seals(fd, SealFlag::F_SEAL_WRITE).is_err());
    }
    assert_eq!(nix::unistd::write(&own.data_fd, b"x"), Err(Errno::EPERM));
    // Even when it is opened again for writing, it cannot be mapped for writing.
    let again = memfd::reopen(&own.data_fd).unwrap();
    let (length, writable) =
        (std::num::NonZeroUsize::new(4096).unwrap(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
    // SAFETY: a new mapping at an address that the kernel chooses. It is expected to fail.
    #[allow(unsafe_code)]
    let mapped = unsafe { mmap(None, length, writable, MapFlags::MAP_SHARED, &again, 0) };
    assert_eq!(mapped, Err(Errno::EPERM));
}

#[test]
fn an_honest_peer_is_attached_to_for_reading() {
    let topic = topic();
    let peer = attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &topic.record).unwrap();
    assert_eq!((peer.data.capacity(), peer.control.memory().max_slots()), (CAPACITY, 32));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let address = format!("{:x}-", peer.data.header_ptr().addr());
    let line = maps.lines().find(|line| line.starts_with(&address)).unwrap();
    assert!(line.contains(" r--s "), "{line}");
}

#[test]
fn descriptors_without_sealed_memory_are_refused() {
    let topic = topic();
    let (pipe, _write) = nix::unistd::pipe().unwrap();
    let directory: OwnedFd = std::fs::File::open("/").unwrap().into();
    let zero: OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
    let path: OwnedFd = {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/etc/passwd").unwrap().into()
    };
    let eventfd = EventFd::new().unwrap();
    for (what, fd) in [
        ("a pipe", pipe.as_fd()),
        ("a directory", directory.as_fd()),
        ("/dev/zero", zero.as_fd()),
        ("an eventfd", eventfd.as_fd()),
    ] {
        assert!(reason(with_data(&topic, fd)).contains("not shared memory"), "{what}");
        assert!(reason(with_control(&topic, fd)).contains("not shared memory"), "{what}");
    }
    let file = tempfile::tempfile().unwrap();
    file.set_len(topic.memory().data.size).unwrap();
    for fd in [path.as_fd(), file.as_fd()] {
        assert_eq!(with_data(&topic, fd).unwrap_err().code(), "ERR_RINGBELL_CORRUPT_PEER");
    }
}

#[test]
fn wrong_inode_size_or_seals_are_refused() {
    let topic = topic();
    let (data, control) = (topic.memory().data.size, topic.memory().control.size);
    let mut other = topic.record.clone();
    memory_of(&mut other).data.inode += 1;
    assert!(
        reason(attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &other).map(drop))
            .contains("inode")
    );

    assert!(reason(with_data(&topic, sealed(data - 4096, DATA))).contains("bytes"));
    assert!(reason(with_data(&topic, sealed(data + 4096, DATA))).contains("bytes"));
    assert!(reason(with_data(&topic, sealed(0, DATA))).contains("bytes"));
    assert!(reason(with_control(&topic, sealed(control * 2, CONTROL))).contains("bytes"));
    let mut too_small = topic.record.clone();
    memory_of(&mut too_small).data.size = 4096;
    assert!(
        reason(attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &too_small).map(drop))
            .contains("layout")
    );

    for lacking in
        [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_FUTURE_WRITE, SealFlag::F_SEAL_SEAL]
    {
        assert!(
            reason(with_data(&topic, sealed(data, DATA.difference(lacking)))).contains("seals"),
            "{lacking:?}"
        );
        if CONTROL.contains(lacking) {
            assert!(
                reason(with_control(&topic, sealed(control, CONTROL.difference(lacking)))).contains("seals")
            );
        }
    }
    assert!(reason(with_data(&topic, memfd::create(c"ringbell-hostile", data).unwrap())).contains("seals"));
    assert!(
        !std::fs::read_to_string("/proc/self/maps").unwrap().contains("ringbell-hostile"),
        "nothing was mapped"
    );
}

#[test]
fn well_sealed_memory_of_another_topic_is_refused() {
    let topic = topic();
    let empty = create(CAPACITY, 32).unwrap();
    assert!(reason(with_data(&topic, &empty.data_fd)).contains("magic"));
    assert!(reason(with_control(&topic, &empty.control_fd)).contains("magic"));
    let spoilt: [fn(&mut TopicRecord); 2] = [
        |record| record.nonce = "ffffffffffffffffffffffffffffffff".into(),
        |record| record.overflow = Overflow::DropOldest,
    ];
    for spoil in spoilt {
        let mut record = topic.record.clone();
        spoil(&mut record);
        let result = attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &record).map(drop);
        assert!(reason(result).contains("differs"));
    }
}

#[test]
fn another_version_in_the_header_is_named() {
    let topic = topic();
    // SAFETY: the version stands behind the magic number, in a header page that is mapped writable here.
    #[allow(unsafe_code)]
    unsafe {
        topic.own.data.header_ptr().add(8).cast::<u32>().write_volatile(9);
    }
    let error =
        attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &topic.record).map(drop).unwrap_err();
    assert_eq!(error, Error::ProtocolVersion { ours: 3, theirs: 9 });
}

#[test]
fn records_that_announce_nonsense_are_refused() {
    let topic = topic();
    let nonsense: [fn(&mut TopicRecord); 6] = [
        |record| record.capacity = 0,
        |record| record.capacity = 12288,
        |record| record.capacity = u64::MAX,
        |record| record.max_subscribers = 0,
        |record| record.max_subscribers = 2000,
        |record| record.nonce = "+00102030405060708090a0b0c0d0e0f".into(),
    ];
    for spoil in nonsense {
        let mut record = topic.record.clone();
        spoil(&mut record);
        let result = attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &record).map(drop);
        assert!(reason(result).contains("record"));
    }
}

#[test]
fn slots_are_claimed_by_lock_in_order_of_doorbells() {
    let topic = topic();
    let control = topic.own.control.memory();
    let peers: Vec<_> = (0..33).map(|_| memfd::reopen(&topic.own.control_fd).unwrap()).collect();
    let claimed: Vec<_> =
        peers.iter().take(32).map(|own| slots::claim(&control, &mut FileLocks(own), None).unwrap()).collect();
    assert_eq!(claimed[..16], (0..16).collect::<Vec<_>>());
    let mut all = claimed.clone();
    all.sort_unstable();
    assert_eq!(all, (0..32).collect::<Vec<_>>(), "each once");
    assert!(all.iter().all(|slot| slots::is_held(&topic.own.control_own, *slot).unwrap()));
    assert_eq!(
        slots::claim(&control, &mut FileLocks(&peers[32]), None).unwrap_err(),
        Error::NoSlot { max: 32 }
    );
    let mut peers = peers;
    drop(peers.remove(5));
    assert!(!slots::is_held(&topic.own.control_own, 5).unwrap());
    assert_eq!(slots::claim(&control, &mut FileLocks(&peers[31]), None).unwrap(), 5);
}

#[test]
fn the_publishers_lock_lives_as_long_as_its_own_description() {
    let topic = topic();
    let own = memfd::reopen(&topic.own.control_fd).unwrap();
    assert!(slots::publisher_lives(&own).unwrap());
    let handed_out = dup(&topic.own.control_fd);
    drop(topic);
    assert!(!slots::publisher_lives(&own).unwrap(), "a copy of what is handed out proves nothing");
    drop(handed_out);
}

#[test]
fn a_mapping_that_is_kept_keeps_no_lock() {
    let topic = topic();
    let peer = attach(dup(&topic.own.data_fd), dup(&topic.own.control_fd), &topic.record).unwrap();
    let slot = slots::claim(&peer.control.memory(), &mut FileLocks(peer.control_own.as_ref().unwrap()), None)
        .unwrap();
    assert!(slots::is_held(&topic.own.control_own, slot).unwrap());
    let kept = peer.control;
    drop(peer.control_own);
    assert!(!slots::is_held(&topic.own.control_own, slot).unwrap());
    drop(kept);
}

#[test]
fn a_guest_attaches_to_memory_of_its_own_and_to_no_other() {
    let topic = topic();
    let segments = GuestSegments::reserve(2, identity(&topic.record).unwrap()).unwrap();
    let (one, other) = (segments.create(0, 1 << 20).unwrap(), segments.create(1, 2 << 20).unwrap());
    let inode = |fd: &OwnedFd| memfd::identity(fd).unwrap().unwrap().inode;
    assert_ne!(inode(&one), inode(&other));
    assert!(memfd::seals(&one).unwrap().contains(CONTROL));
    let data = || dup(&topic.own.data_fd);
    let peer = attach_as_guest(data(), dup(&one), &topic.record).unwrap();
    assert_eq!((peer.control.slots(), peer.control_own.is_none()), (1, true));
    // A shared control segment does not pass for a guest's, nor does one that is too large or unsealed.
    for wrong in [dup(&topic.own.control_fd), sealed(8192, CONTROL), memfd::create(c"x", 4096).unwrap()] {
        assert!(attach_as_guest(data(), wrong, &topic.record).is_err());
    }
    let mut another = topic.record.clone();
    another.nonce = "ffffffffffffffffffffffffffffffff".into();
    assert!(reason(attach_as_guest(data(), dup(&one), &another).map(drop)).contains("differs"));
    // The next guest in this slot gets other memory. The first guest keeps what it had, and reaches no other guest
    // by it.
    segments.empty(0);
    let next = segments.create(0, 3 << 20).unwrap();
    assert_ne!(inode(&one), inode(&next));
}
