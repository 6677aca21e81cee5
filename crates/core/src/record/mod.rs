//! What is announced, as plain data: the record and its parts. All higher folders share these types.
//!
//! A record is the JSON file that announces one instance. Invariant: a [`Record`] that [`Record::parse`] returns obeys
//! every rule of `docs/protocol.md`. Each name keeps its grammar and each number its range. Service, id and uid equal
//! those in the file's name and the file's owner. Callers: `bus::scan` (which opens files) and `bus::publish` (which
//! writes them). This folder touches no file, and knows no thread, no socket and no memory.

mod access;
mod group;
mod names;
mod overflow;
mod rung;

use std::collections::BTreeMap;

use ringbell_ring::MAX_GUESTS;
use ringbell_ring::layout::{self, MAX_CAPACITY, MAX_SLOTS, MIN_CAPACITY};
use ringbell_ring::table::{MAX_CELLS, MAX_MEMBERS, MAX_PERMITS};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub(crate) use access::Granted;
pub use access::{Access, AccessRecord, Group};
pub use group::{GroupRecord, Role};
pub use names::{MAX_NAME, check_name, valid_name};
pub(crate) use names::{RecordName, socket_name, valid_id};
pub use overflow::{Overflow, parse_overflow};
pub use rung::{Fallback, Rung};

use crate::error::{Error, Result};

/// The kind of a topic's record, and of a state's.
pub(crate) const TOPIC_KIND: &str = "topic";
pub(crate) const STATE_KIND: &str = "state";
/// The version of the record's format.
pub const SCHEMA: u32 = 1;
/// The largest record in bytes.
pub const MAX_RECORD: usize = 64 * 1024;
const MAX_LABEL: usize = 256;

/// What one instance of a service announces about itself. Field names in the file are in camelCase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Record {
    /// The format of this record, [`SCHEMA`].
    pub schema: u32,
    /// The name that other processes look for.
    pub service: String,
    /// 128 random bits in hex. They identify this instance and are never reused.
    pub id: String,
    /// `topic`, `state`, `server`, or `service` for a general record.
    pub kind: String,
    /// The pid of the process in its own pid namespace. It has no meaning outside of that namespace.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot; 0 where unknown.
    #[serde(default)]
    pub start_time: u64,
    /// The machine's boot id; empty where unknown.
    #[serde(default)]
    pub boot_id: String,
    /// The inode of `/proc/self/ns/pid`; 0 where unknown.
    #[serde(default)]
    pub pid_namespace: u64,
    /// The user of the owner. It equals the file's owner.
    pub uid: u32,
    /// The version of the shared-memory and handshake protocol.
    pub protocol: u32,
    /// The rungs that this instance offers. Unknown rungs are left out when the record is read.
    #[serde(default, deserialize_with = "known_rungs")]
    pub offers: Vec<Rung>,
    /// What a topic's subscribers need, and the readers of a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicRecord>,
    /// What the readers of a state need besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateRecord>,
    /// What a server's clients need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelRecord>,
    /// What the other members of a lock, semaphore, flag or sharded mutex need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncRecord>,
    /// The role of the member of a service group that announces it. `None`: it is of no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupRecord>,
    /// Free data of the owner.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name: `unix:…`, `http://…`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoints: BTreeMap<String, String>,
    /// The codec's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// The id of the payload's schema (not of this record's format).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_schema: Option<String>,
    /// Which other users may use the instance. `None`: root only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessRecord>,
}

/// The topic part of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicRecord {
    /// Bytes of the ring, a power of two.
    pub capacity: u64,
    /// What happens when the ring is full.
    #[serde(with = "overflow")]
    pub overflow: Overflow,
    /// A subscriber that stalls a `block` topic for longer is evicted. `None`: it is never evicted for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evict_after_ms: Option<u64>,
    /// Slots in the control segment.
    pub max_subscribers: u16,
    /// Guest slots: places for subscribers of other users, each with a control segment of its own. 0: no guest is let
    /// in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_guests: u8,
    /// 128 random bits in hex that also stand in the segments' headers.
    pub nonce: String,
    /// Where the topic's memory is. `None` for a topic that is only streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<TopicMemory>,
}

/// The memory of a topic, and its doorbells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopicMemory {
    /// The data segment.
    pub data: MemfdRef,
    /// The control segment.
    pub control: MemfdRef,
    /// The room doorbell. A subscriber rings it when it has made room.
    pub room: EventfdRef,
    /// The doorbells that the publisher rings, one per 16 slots.
    pub doorbells: Vec<EventfdRef>,
}

/// The state part of a state's record. Its values are the messages of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateRecord {
    /// Whether there is a value for each key, or one value.
    pub kind: StateKind,
    /// Grows with each writer of the name. Readers follow the writer with the greatest.
    pub epoch: u64,
    /// The largest value in bytes; with keys, the key counts, too.
    pub size: u64,
}

/// What a state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    /// One value.
    Value,
    /// A value for each key.
    Keyed,
}

/// The channel part of a server's record. Everything else is made for each client at the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelRecord {
    /// The largest size in bytes of each ring of a connection, a power of two.
    pub capacity: u64,
    /// The largest number of connections at a time.
    pub max_connections: u32,
}

/// The table of a lock, semaphore, flag or sharded mutex, as one of its members has it. The record's kind says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncRecord {
    /// Number of cells; 1 unless it is sharded.
    pub cells: u16,
    /// How many members there can be.
    pub members: u16,
    /// Permits of a semaphore; otherwise 0.
    pub permits: u32,
    /// 128 random bits in hex that also stand in the table's header.
    pub nonce: String,
    /// Where the table is.
    pub memory: MemfdRef,
}

/// A memfd of the announcing process, with the values that identify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemfdRef {
    /// Its descriptor number in the announcing process.
    pub fd: i32,
    /// Its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// An eventfd of the announcing process, with the value that identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventfdRef {
    /// Its descriptor number in the announcing process.
    pub fd: i32,
    /// `eventfd-id` from fdinfo. All eventfds share one inode, so the inode does not identify one. 0 where the kernel
    /// does not tell the id (before 5.2).
    pub id: u64,
}

impl Record {
    /// The name of the record's file.
    pub fn file_name(&self) -> String {
        format!("{}@{}.json", self.service, self.id)
    }

    /// The name of the record's socket, in the same directory.
    pub fn socket_name(&self) -> String {
        socket_name(&self.id)
    }

    /// What a topic's subscribers need. Fails if the record announces no topic.
    pub(crate) fn topic(&self) -> Result<&TopicRecord> {
        self.topic.as_ref().ok_or_else(|| Error::Record {
            file: self.file_name(),
            reason: "it announces no topic, so there is nothing to attach to".into(),
        })
    }

    /// Whether another user than this process's announces it.
    pub(crate) fn is_of_other_user(&self) -> bool {
        self.uid != nix::unistd::geteuid().as_raw()
    }

    /// The file's content. Fails if it would be longer than [`MAX_RECORD`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let refused = |reason: String| Error::Record { file: self.file_name(), reason };
        let mut bytes = serde_json::to_vec(self).map_err(|error| refused(error.to_string()))?;
        bytes.push(b'\n');
        if bytes.len() > MAX_RECORD {
            return Err(refused(format!(
                "it has {} bytes and may have {MAX_RECORD}; put less into metadata",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// Reads a record from the bytes of the file `file_name`, owned by `owner`, and checks every rule.
    pub fn parse(file_name: &str, owner: u32, bytes: &[u8]) -> Result<Record> {
        let refused = |reason: String| Error::Record { file: file_name.to_owned(), reason };
        let name = RecordName::parse(file_name)
            .ok_or_else(|| refused("its name is not <service>@<id>.json".into()))?;
        if bytes.len() > MAX_RECORD {
            return Err(refused(format!("it is longer than {MAX_RECORD} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".into()))?;
        let record: Record = serde_json::from_str(text).map_err(|error| {
            // An error about a newer format names the format, not a field that it lacks.
            match serde_json::from_str(text) {
                Ok(Form { schema }) if schema != SCHEMA => refused(unknown_schema(schema)),
                _ => refused(format!("bad JSON: {error}")),
            }
        })?;
        if record.schema != SCHEMA {
            return Err(refused(unknown_schema(record.schema)));
        }
        record.check(&name, owner).map_err(|reason| refused(reason.into()))?;
        Ok(record)
    }

    /// Checks an own record by the same rules, so that this process announces no record that its peers would refuse.
    pub(crate) fn check_own(&self) -> Result<()> {
        let name = RecordName { service: &self.service, id: &self.id };
        self.check(&name, self.uid)
            .map_err(|reason| Error::Record { file: self.file_name(), reason: reason.to_owned() })
    }

    fn check(&self, name: &RecordName<'_>, owner: u32) -> std::result::Result<(), &'static str> {
        ensure(self.service == name.service, "service differs from the file's name")?;
        ensure(self.id == name.id, "id differs from the file's name")?;
        ensure(self.uid == owner, "uid differs from the file's owner")?;
        ensure(valid_name(&self.kind), "kind is not a valid name")?;
        ensure((1..=i32::MAX as u32).contains(&self.pid), "pid is out of range")?;
        ensure(self.boot_id.len() <= MAX_LABEL, "bootId is too long")?;
        ensure(self.codec.as_ref().is_none_or(|label| valid_label(label)), "codec is empty or too long")?;
        ensure(
            self.payload_schema.as_ref().is_none_or(|label| valid_label(label)),
            "payloadSchema is empty or too long",
        )?;
        ensure(self.endpoints.keys().all(|key| valid_label(key)), "an endpoint's name is empty or too long")?;
        self.channel.as_ref().map_or(Ok(()), ChannelRecord::check)?;
        self.group.map_or(Ok(()), GroupRecord::check)?;
        self.state.as_ref().map_or(Ok(()), |state| state.check(self.topic.as_ref()))?;
        self.sync.as_ref().map_or(Ok(()), SyncRecord::check)?;
        self.topic.as_ref().map_or(Ok(()), TopicRecord::check)
    }
}

impl ChannelRecord {
    fn check(&self) -> std::result::Result<(), &'static str> {
        ensure(self.capacity.is_power_of_two(), "capacity is not a power of two")?;
        ensure(
            (MIN_CAPACITY as u64..=MAX_CAPACITY as u64).contains(&self.capacity),
            "capacity is not between 4 KiB and 1 GiB",
        )?;
        ensure(self.max_connections > 0, "maxConnections is 0")
    }
}

impl StateRecord {
    fn check(&self, topic: Option<&TopicRecord>) -> std::result::Result<(), &'static str> {
        let topic = topic.ok_or("a state without a topic")?;
        ensure(topic.overflow == Overflow::DropOldest, "a state whose topic does not drop the oldest")?;
        ensure(self.size > 0 && self.size <= topic.capacity / 4, "a state's size does not fit its capacity")
    }
}

impl SyncRecord {
    fn check(&self) -> std::result::Result<(), &'static str> {
        ensure((1..=MAX_CELLS).contains(&usize::from(self.cells)), "cells is not between 1 and 1024")?;
        ensure((1..=MAX_MEMBERS).contains(&usize::from(self.members)), "members is not between 1 and 512")?;
        ensure(self.permits <= MAX_PERMITS, "permits is too large")?;
        ensure(valid_id(&self.nonce), "nonce is not 32 hex digits")?;
        ensure(self.memory.fd >= 0 && self.memory.size > 0, "a descriptor number or size is out of range")
    }
}

impl TopicRecord {
    fn check(&self) -> std::result::Result<(), &'static str> {
        ensure(self.capacity.is_power_of_two(), "capacity is not a power of two")?;
        ensure(
            (MIN_CAPACITY as u64..=MAX_CAPACITY as u64).contains(&self.capacity),
            "capacity is not between 4 KiB and 1 GiB",
        )?;
        let slots = usize::from(self.max_subscribers);
        ensure((1..=MAX_SLOTS).contains(&slots), "maxSubscribers is not between 1 and 1024")?;
        ensure(usize::from(self.max_guests) <= MAX_GUESTS, "maxGuests is more than 64")?;
        ensure(valid_id(&self.nonce), "nonce is not 32 hex digits")?;
        self.memory.as_ref().map_or(Ok(()), |memory| memory.check(self.capacity, slots))
    }
}

impl TopicMemory {
    fn check(&self, capacity: u64, slots: usize) -> std::result::Result<(), &'static str> {
        ensure(self.doorbells.len() == layout::doorbells(slots), "there is not one doorbell per 16 slots")?;
        let fds = [self.data.fd, self.control.fd, self.room.fd];
        ensure(
            fds.iter().all(|fd| *fd >= 0) && self.doorbells.iter().all(|bell| bell.fd >= 0),
            "a descriptor number is negative",
        )?;
        ensure(
            self.data.size > capacity && self.control.size > 0,
            "a segment's size does not fit its capacity",
        )
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn unknown_schema(schema: u32) -> String {
    format!("schema {schema} is unknown, this version reads schema {SCHEMA}")
}

/// The part that every format has.
#[derive(Deserialize)]
struct Form {
    schema: u32,
}

fn known_rungs<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Rung>, D::Error> {
    let offers = Vec::<Value>::deserialize(deserializer)?;
    Ok(offers.into_iter().filter_map(|offer| serde_json::from_value(offer).ok()).collect())
}

fn ensure(holds: bool, reason: &'static str) -> std::result::Result<(), &'static str> {
    if holds { Ok(()) } else { Err(reason) }
}

fn valid_label(label: &str) -> bool {
    !label.is_empty() && label.len() <= MAX_LABEL && !label.contains('\0')
}

/// An error that shows the label and the rule, unless it may stand in a record.
pub(crate) fn check_label(option: &'static str, label: Option<&str>) -> Result<()> {
    match label.filter(|label| !valid_label(label)) {
        None => Ok(()),
        Some(label) => Err(Error::InvalidOption {
            option,
            value: format!("{label:?}"),
            rule: format!("it must be text of 1 to {MAX_LABEL} bytes without NUL"),
        }),
    }
}
