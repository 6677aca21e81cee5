//! Memory for the tests, and what all of them do with a topic.
//!
//! On a real machine the two segments are memfds, mapped as the crate above maps them: the frames twice in a row, and
//! read-only for the subscribers. Under loom and Miri they lie on the heap. Nothing here checks the protocol; the tests
//! do.

#![allow(unsafe_code, dead_code, clippy::unwrap_used, clippy::expect_used)]

#[cfg(not(any(loom, miri)))]
pub mod hostile;
#[cfg(not(any(loom, miri)))]
pub mod hunt;
#[cfg(not(any(loom, miri)))]
mod mapping;
#[cfg(not(loom))]
pub mod stream;

#[cfg(not(any(loom, miri)))]
pub use mapping::Memory;
use ringbell_ring::{
    Admitted, Config, Consumer, Entry, Fault, Identity, Large, Overflow, Peers, Piece, Producer, Read, Sent,
    Start, Vacancy,
};
#[cfg(any(loom, miri))]
use ringbell_ring::{ControlMemory, DataMemory};

/// Both segments on the heap, never freed.
#[cfg(any(loom, miri))]
pub struct Memory {
    pub data: DataMemory,
    pub view: DataMemory,
    pub control: ControlMemory,
}

#[cfg(any(loom, miri))]
impl Memory {
    pub fn new(capacity: usize, slots: usize) -> Self {
        let data = DataMemory::leaked(capacity);
        Self { data, view: data, control: ControlMemory::leaked(slots) }
    }
}

/// The test decides which owners are alive.
#[derive(Clone, Default)]
pub struct Alive(pub Vec<bool>);

impl Peers for Alive {
    fn alive(&self, slot: usize) -> bool {
        self.0.get(slot).copied().unwrap_or(true)
    }
}

/// Every owner is alive.
pub struct Everybody;

impl Peers for Everybody {
    fn alive(&self, _: usize) -> bool {
        true
    }
}

pub fn identity(capacity: usize, max_slots: usize, overflow: Overflow) -> Identity {
    Identity { capacity, max_slots, overflow, nonce: [1, 2] }
}

/// A topic: its memory and its publisher.
pub fn topic(capacity: usize, slots: usize, overflow: Overflow, evict_after: u64) -> (Memory, Producer) {
    let memory = Memory::new(capacity, slots);
    let config = Config { identity: identity(capacity, slots, overflow), evict_after };
    let producer = Producer::create(memory.data, memory.control, config);
    (memory, producer)
}

pub fn join(memory: &Memory, slot: usize, overflow: Overflow, start: Start) -> Result<Consumer, Fault> {
    Consumer::join(memory.view, memory.control, slot, overflow, start, (slot as u32, 0))
}

/// Joins a block topic under a durable name: in the slot that holds its position, or in the first one that may be
/// taken.
pub fn join_as(memory: &Memory, name: u64, start: Start) -> Result<Consumer, Fault> {
    let slot = memory.control.slot_of(name).unwrap_or_else(|| {
        let free = |slot: &usize| memory.control.vacancy(*slot) != Some(Vacancy::Kept);
        (0..memory.control.max_slots()).find(free).expect("a slot")
    });
    Consumer::join(memory.view, memory.control, slot, Overflow::Block, start, (slot as u32, name))
}

/// A topic with guest slots: its publisher, its memory, and the control segment of each guest slot.
pub fn topic_for_guests(
    capacity: usize,
    guests: usize,
    overflow: Overflow,
    patience: u64,
) -> (Memory, Vec<Memory>, Admitted, Producer) {
    let (memory, producer) = topic(capacity, 1, overflow, 0);
    let guest_slots: Vec<_> = (0..guests).map(|_| Memory::new(capacity, 1)).collect();
    let admitted = Admitted::new();
    let controls = guest_slots.iter().map(|guest_slot| guest_slot.control).collect();
    let producer = producer.with_guests(controls, admitted.clone(), patience);
    (memory, guest_slots, admitted, producer)
}

/// Admits a guest and joins as one, in the order in which a publisher and its guest do.
pub fn admit(
    memory: &Memory,
    guest_slot: (usize, &Memory),
    admitted: &Admitted,
    overflow: Overflow,
    start: Start,
) -> Result<Consumer, Fault> {
    let (index, own) = guest_slot;
    own.control.prepare_for_guest(&identity(own.data.capacity(), 1, overflow), 1 << 20);
    admitted.admit(index);
    Consumer::join(memory.view, own.control, 0, overflow, start, (7, 0))
}

pub fn committed(sent: Sent) -> bool {
    matches!(sent, Sent::Committed { .. })
}

/// Sends until there is no room. Returns how many messages were accepted.
pub fn fill(producer: &mut Producer, payload: &[u8], now: u64, peers: &mut dyn Peers) -> usize {
    let sent = (0..1000).take_while(|_| committed(producer.send(payload, now, peers))).count();
    assert!(sent < 1000, "the ring is never full");
    sent
}

/// A watchdog: ends the process, and so a test that hangs, after so many seconds, unless it is dropped before.
pub struct Watchdog(#[allow(dead_code)] std::sync::mpsc::Sender<()>);

impl Watchdog {
    pub fn new(seconds: u64) -> Self {
        let (alive, watched) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            let patience = std::time::Duration::from_secs(seconds);
            if watched.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the watchdog ends a test that hangs");
                std::process::abort();
            }
        });
        Self(alive)
    }
}

/// Numbers that look random and are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A message as a subscriber got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub sequence: u64,
    pub time: u64,
    pub payload: Vec<u8>,
    pub headers: Vec<u8>,
}

/// One read into a slab of `room` bytes with a table of `entries`.
pub fn read(consumer: &mut Consumer, room: usize, entries: usize) -> Result<(Read, Vec<Got>), Fault> {
    let mut slab = vec![0xa5; room];
    let mut table = vec![Entry::default(); entries];
    let read = consumer.read(&mut slab, 0, &mut table)?;
    Ok((read, got(read, &table, |at, len| slab[at..at + len].to_vec())))
}

/// The messages of a read or a lease, by its table.
pub fn got(read: Read, table: &[Entry], bytes: impl Fn(usize, usize) -> Vec<u8>) -> Vec<Got> {
    let Read::Messages { count, batch_sequence, batch_time, .. } = read else { return Vec::new() };
    let word = |at: usize| u64::from_le_bytes(bytes(at, 8).try_into().unwrap());
    table[..count]
        .iter()
        .map(|entry| {
            let (first, time) = if entry.batch == Entry::CONTINUED {
                (batch_sequence, batch_time)
            } else {
                (word(entry.batch as usize + 8), word(entry.batch as usize + 16))
            };
            let (offset, length) = (entry.offset as usize, entry.length as usize);
            let headers = (word(offset - 8) >> 48) as usize;
            Got {
                sequence: first + u64::from(entry.index),
                time,
                payload: bytes(offset, length),
                headers: bytes(offset + length, headers),
            }
        })
        .collect()
}

/// The part of a large message that was read.
#[derive(Default)]
pub struct Gathering(Vec<u8>);

impl Gathering {
    /// Adds bytes that were read in another way.
    pub fn restore(&mut self, mut bytes: Vec<u8>, total: usize) {
        bytes.resize(total, 0xa5);
        self.0 = bytes;
    }

    /// Reads all that is available of it, and acknowledges piece by piece. Returns the message once it is whole.
    pub fn take(&mut self, consumer: &mut Consumer, large: Large) -> Result<Option<Got>, Fault> {
        if large.done == 0 {
            self.0 = vec![0xa5; large.total];
        }
        assert_eq!(self.0.len(), large.total);
        let mut done = large.done;
        while let Piece::Copied { bytes, left } = consumer.read_large(&mut self.0[done..])? {
            let _ = consumer.acknowledge();
            done += bytes;
            assert_eq!(done + left, large.total);
            if left == 0 {
                let mut payload = std::mem::take(&mut self.0);
                let headers = payload.split_off(large.total - large.headers);
                return Ok(Some(Got { sequence: large.sequence, time: large.time, payload, headers }));
            }
        }
        Ok(None)
    }
}

/// Reads, with room for any message, until there is nothing more, and acknowledges.
pub fn drain(consumer: &mut Consumer) -> Result<Vec<Got>, Fault> {
    drain_into(consumer, &mut Gathering::default())
}

/// The same, where only a part of a large message may be in the ring.
pub fn drain_into(consumer: &mut Consumer, gathering: &mut Gathering) -> Result<Vec<Got>, Fault> {
    let mut all = Vec::new();
    loop {
        match read(consumer, 1 << 14, 64)? {
            (Read::Empty, _) => break,
            (Read::Needs(bytes), _) => panic!("{bytes} bytes do not fit into a slab that holds any frame"),
            (Read::Messages { .. }, messages) => all.extend(messages),
            (Read::Large(large), _) => all.extend(gathering.take(consumer, large)?),
        }
    }
    let _ = consumer.acknowledge();
    Ok(all)
}

/// Sends a large message in as many turns as needed. In between, `read` makes room.
pub fn send_large(producer: &mut Producer, payload: &[u8], now: u64, mut read: impl FnMut()) {
    assert!(producer.begin_large(payload.len()));
    let mut done = 0;
    while done < payload.len() {
        match producer.push_large(&payload[done..], now, &mut Everybody).bytes {
            0 => read(),
            bytes => done += bytes,
        }
    }
}
