//! What a member and its managers say to each other: the control service `<group>.member`, in JSON.
//!
//! The requests of a peer are not trusted: what cannot be read is answered with an error. docs/protocol.md has the form.
//! `Member` calls this. Nothing here waits.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::bus::Role;
use crate::channel::{Channel, Header, Kind};
use crate::error::Result;

/// The fields of a member's metadata that it keeps itself.
pub(super) const OWN_FIELDS: [&str; 5] = ["group", "role", "epoch", "state", "heartbeat"];
/// Flag of a request that is for the library and not for the service.
const ABOUT: u8 = 4;

/// The name of the control service of a group's members.
pub(super) fn name(group: &str) -> String {
    format!("{group}.member")
}

/// What a manager asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum What {
    #[serde(alias = "beat")]
    Status,
    StepDown,
    Drain,
}

#[derive(Deserialize)]
struct Request {
    method: What,
}

/// A request, and where its answer goes.
pub(super) struct Asked {
    pub(super) what: What,
    connection: u32,
    id: u64,
}

impl Asked {
    pub(super) fn reply(&self, control: &mut Channel, bytes: &[u8]) -> Result<()> {
        // An answer has some hundred bytes. A manager that leaves no room for it reads no answers.
        control.send(self.connection, Header::new(Kind::Reply, self.id), bytes).map(|_| ())
    }
}

/// The next request that can be read, among at most `left` messages.
pub(super) fn next(control: &mut Channel, left: &mut usize) -> Result<Option<Asked>> {
    while *left > 0 {
        let Some(message) = control.try_recv()? else { return Ok(None) };
        *left -= 1;
        if message.header.kind != Kind::Request as u8 || message.header.flags & ABOUT != 0 {
            continue;
        }
        let (connection, id) = (message.connection, message.header.id);
        match serde_json::from_slice::<Request>(message.data) {
            Ok(Request { method }) => return Ok(Some(Asked { what: method, connection, id })),
            Err(error) => {
                let told = json!({
                    "code": "ERR_RINGBELL_NOT_FOUND",
                    "name": "RingbellError",
                    "message": format!("A member has status, beat, stepDown and drain: {error}"),
                });
                // If it cannot be sent, its caller has gone, or reads no answers.
                let _ = control.send(connection, Header::new(Kind::Error, id), told.to_string().as_bytes());
            }
        }
    }
    Ok(None)
}

/// What a member says of itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status<'a> {
    pub(super) group: &'a str,
    pub(super) pid: u32,
    pub(super) role: Role,
    pub(super) epoch: u64,
    pub(super) state: &'static str,
    /// Milliseconds.
    pub(super) beat_age: f64,
}

impl Status<'_> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The part of it that stands in the record.
    pub(super) fn metadata(&self, manual: bool) -> Map<String, Value> {
        let heartbeat = if manual { "manual" } else { "loop" };
        let fields = json!({
            "group": self.group, "role": self.role, "epoch": self.epoch, "state": self.state, "heartbeat": heartbeat,
        });
        fields.as_object().cloned().unwrap_or_default()
    }
}
