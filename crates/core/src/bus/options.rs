//! The options with which a caller opens a bus or announces an instance.
//!
//! Plain values. `directory`, `publish` and `record` check them where they use them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::reactor::Watched;
use crate::record::{Access, ChannelRecord, Group, GroupRecord, Rung, StateRecord, SyncRecord, TopicRecord};

/// Makes the handler of a new listening socket. Called once for each socket, and again when the directory was lost.
pub(crate) type Serve = Box<dyn FnMut(OwnedFd) -> Result<Box<dyn Watched>> + Send>;

/// Which bus, and how to use it.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// The directory. Without it, in this order: `IPC_BUS_DIR`; `/run/ipc-bus` for root; `$XDG_RUNTIME_DIR/ipc-bus`;
    /// `/tmp/ipc-bus-$UID`.
    pub path: Option<PathBuf>,
    /// A separate name space on this bus: a sub-directory.
    pub domain: Option<String>,
    /// Use the machine's bus, `/run/ipc-bus`. It is for every user, and `IPC_BUS_DIR` does not change it. Not together
    /// with `path`.
    pub system: bool,
    /// Make the directory, and the domain's, if there is none. With `false` a missing one is an error
    /// (`ERR_RINGBELL_SYSTEM`, errno `ENOENT`). This is for programs that only look: they must not make an empty bus from
    /// a mistyped path.
    pub create: bool,
    /// Accept a directory that other users may write to, if it is sticky.
    pub allow_sticky: bool,
    /// Share the directory with this group. The directory is setgid, sticky and writable by the group (mode 3770). A
    /// missing directory is made so; a directory with another mode is refused. The [`Access`] of each announcement
    /// decides what other users may read and use in it.
    pub group: Option<Group>,
    /// Users whose records are believed and whose directory is used, besides this user and root.
    pub trusted_uids: Vec<u32>,
    /// Watch with inotify where the kernel permits it. `false`, or `IPC_BUS_WATCH=poll`, forces polling.
    pub inotify: bool,
    /// The interval of polling: from 1 ms to 1 h.
    pub poll_interval: Duration,
    /// Forces one rung of acquisition. Without it, `IPC_BUS_ACQUIRE` decides.
    pub acquire: Option<Rung>,
    /// No process of this user can block a thread of this process through a doorbell, not even with exact timing. Also
    /// `IPC_BUS_SAFE_DOORBELLS=1`. The option holds for the whole process, from the first bus that is opened with it.
    /// It needs Linux AIO. The price: other processes notice the death of this process about 30 ms later.
    pub safe_doorbells: bool,
}

impl Default for BusOptions {
    fn default() -> BusOptions {
        BusOptions {
            path: None,
            domain: None,
            system: false,
            create: true,
            allow_sticky: false,
            group: None,
            trusted_uids: Vec::new(),
            inotify: true,
            poll_interval: Duration::from_millis(250),
            acquire: None,
            safe_doorbells: false,
        }
    }
}

/// What to announce. Build it with [`Announcement::new`] and set the fields that apply.
pub struct Announcement {
    /// The service's name.
    pub service: String,
    /// `service`, or an application's own kind.
    pub kind: String,
    /// The rungs offered.
    pub offers: Vec<Rung>,
    /// What a topic's subscribers need.
    pub topic: Option<TopicRecord>,
    /// What a server's clients need.
    pub channel: Option<ChannelRecord>,
    /// What a state's readers need, beside the topic.
    pub state: Option<StateRecord>,
    /// What the other members of a lock, semaphore, flag or sharded mutex need.
    pub sync: Option<SyncRecord>,
    /// The role of the member of a service group that announces it.
    pub group: Option<GroupRecord>,
    /// Free data for the reader.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// The codec's id.
    pub codec: Option<String>,
    /// The id of the payload's schema.
    pub payload_schema: Option<String>,
    /// Which other users may read the record and use what it announces. Without it, every user that can enter the
    /// directory can read the record's file, and the socket is for this user and root.
    pub access: Option<Access>,
    /// Serves the instance's socket. Without it there is no socket.
    pub(crate) server: Option<Serve>,
}

impl Announcement {
    /// A general record of this service.
    pub fn new(service: impl Into<String>) -> Announcement {
        Announcement {
            service: service.into(),
            kind: "service".to_owned(),
            offers: Vec::new(),
            topic: None,
            channel: None,
            state: None,
            sync: None,
            group: None,
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            payload_schema: None,
            access: None,
            server: None,
        }
    }
}
