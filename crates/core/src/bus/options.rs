//! What a caller says when it opens a bus or announces an instance.
//!
//! Plain values: they are checked where they are used, by `directory`, `publish` and `record`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::Result;
use crate::reactor::Watched;
use crate::record::{Access, ChannelRecord, Group, Rung, TopicRecord};

/// Makes what serves a new listening socket. Called once for each socket: again when the directory was lost.
pub(crate) type Serve = Box<dyn FnMut(OwnedFd) -> Result<Box<dyn Watched>> + Send>;

/// Which bus, and how to use it.
#[derive(Debug, Clone)]
pub struct BusOptions {
    /// The directory. Else `IPC_BUS_DIR`, else `/run/ipc-bus` for root, else `$XDG_RUNTIME_DIR/ipc-bus`, else `/tmp/ipc-bus-$UID`.
    pub path: Option<PathBuf>,
    /// A name space of its own on this bus: a sub-directory.
    pub domain: Option<String>,
    /// The machine's bus, `/run/ipc-bus`, for every user and whatever `IPC_BUS_DIR` says; not together with `path`.
    pub system: bool,
    /// Accept a directory that others may write to, if it is sticky.
    pub allow_sticky: bool,
    /// Share the directory with this group: it is setgid, sticky and writable by the group (mode 3770), made so if there is none
    /// and refused if it is otherwise. What others may read and use in it is up to each announcement's [`Access`].
    pub group: Option<Group>,
    /// Users whose records are believed, and whose directory is used, beside this one and root.
    pub trusted_uids: Vec<u32>,
    /// Watch by inotify where the kernel lets us; `false`, or `IPC_BUS_WATCH=poll`, forces polling.
    pub inotify: bool,
    /// How often to look where it polls: from 1 ms to 1 h.
    pub poll_interval: Duration,
    /// Forces one way of acquisition; else `IPC_BUS_ACQUIRE`.
    pub acquire: Option<Rung>,
    /// No process of this user can block a thread of this process through a doorbell, not even for an instant that it has to hit.
    /// Also `IPC_BUS_SAFE_DOORBELLS=1`. It is for the whole process from the first bus on that is opened with it, and needs Linux
    /// AIO. Other processes then notice about 30 ms later that this one has died.
    pub safe_doorbells: bool,
}

impl Default for BusOptions {
    fn default() -> BusOptions {
        BusOptions {
            path: None,
            domain: None,
            system: false,
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

/// What to announce. Build it with [`Announcement::new`] and set what applies.
pub struct Announcement {
    /// The service's name.
    pub service: String,
    /// `service`, or a kind of its own.
    pub kind: String,
    /// The rungs offered.
    pub offers: Vec<Rung>,
    /// What a topic's subscribers need.
    pub topic: Option<TopicRecord>,
    /// What a server's clients need.
    pub channel: Option<ChannelRecord>,
    /// Whatever there is to say.
    pub metadata: Map<String, Value>,
    /// Addresses of any kind, by name.
    pub endpoints: BTreeMap<String, String>,
    /// The codec's id.
    pub codec: Option<String>,
    /// The id of the payload's schema.
    pub payload_schema: Option<String>,
    /// Which other users may read the record, and use what it announces. Default: the record's file is readable by every
    /// user that can enter the directory, its socket is for this user and root.
    pub access: Option<Access>,
    /// Serves the instance's socket; without it there is none.
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
            metadata: Map::new(),
            endpoints: BTreeMap::new(),
            codec: None,
            payload_schema: None,
            access: None,
            server: None,
        }
    }
}
