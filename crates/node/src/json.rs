//! The values that cross as JSON text: records, statistics and notices. Only cold calls use it, with one `JSON.parse`
//! in JS.
//!
//! The field names come from the core's serde attributes. Where the core has no such form, `notice` defines it.

use ringbell::Error;
use ringbell::channel;
use ringbell::state::StateNotice;
use ringbell::topic::{EndReason, Notice, Position, PublisherNotice, SubscriberEnd};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::errors::{Failure, Result, errno_name, sentence};

/// Writes a value.
pub fn write(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Failure::Internal(format!("cannot write JSON: {error}")))
}

/// A publisher's notice as a JSON value. `None`: a newer one of the core, which this binding does not know.
pub fn publisher_notice(notice: &PublisherNotice) -> Option<Value> {
    Some(match notice {
        PublisherNotice::Attached { subscriber } => json!({ "type": "attached", "subscriber": subscriber }),
        PublisherNotice::Stalled { subscriber, stalled_for } => json!({
            "type": "stalled",
            "subscriber": subscriber,
            "milliseconds": stalled_for.as_millis() as u64,
        }),
        PublisherNotice::Evicted { subscriber, reason } => {
            json!({ "type": "evicted", "subscriber": subscriber, "reason": reason })
        }
        PublisherNotice::Ended { subscriber, reason } => {
            let reason = match reason {
                SubscriberEnd::Closed => "closed",
                SubscriberEnd::Died => "died",
                SubscriberEnd::Evicted(_) => "evicted",
                _ => "unknown",
            };
            json!({ "type": "ended", "subscriber": subscriber, "reason": reason })
        }
        _ => return None,
    })
}

/// A notice as JSON values. A source that ended by its own fault is first reported with that fault.
pub fn notice(notice: &Notice) -> Vec<Value> {
    match notice {
        Notice::Attached { source, record, rung, fallbacks, position, redelivered_below } => {
            let position = position.map(|position| match position {
                Position::New => "new",
                Position::Resumed => "resumed",
                Position::Lost => "lost",
            });
            vec![json!({
                "type": "attached",
                "source": source,
                "record": record,
                "rung": rung,
                "fallbacks": fallbacks,
                "position": position,
                "redeliveredBelow": redelivered_below,
            })]
        }
        Notice::Missed { source, messages } => {
            vec![json!({ "type": "missed", "source": source, "messages": messages })]
        }
        Notice::GivenUp { record, tries, error: problem } => {
            vec![json!({ "type": "gaveUp", "record": record, "tries": tries, "error": error(problem) })]
        }
        Notice::Failed { record, error: problem } => {
            vec![json!({ "type": "failed", "record": record, "error": error(problem) })]
        }
        Notice::Unreadable { error: problem } => vec![json!({ "type": "failed", "error": error(problem) })],
        Notice::Ended { source, record, reason } => match reason {
            EndReason::Failed(Error::Evicted { .. }) => {
                vec![json!({ "type": "evicted", "source": source }), ended(*source, "evicted")]
            }
            EndReason::Failed(problem) => vec![
                json!({ "type": "failed", "record": record, "error": error(problem) }),
                ended(*source, "failed"),
            ],
            EndReason::Died => vec![ended(*source, "died")],
            _ => vec![ended(*source, "closed")],
        },
        // The core may have a newer notice that this binding does not know.
        _ => Vec::new(),
    }
}

/// The notices of a reader of a state as a JSON array; empty text if there are none.
pub fn state_notices(notices: &[StateNotice]) -> Result<String> {
    let values: Vec<_> = notices.iter().filter_map(state_notice).collect();
    if values.is_empty() { Ok(String::new()) } else { write(&values) }
}

/// `None`: a newer one of the core, which this binding does not know.
fn state_notice(notice: &StateNotice) -> Option<Value> {
    Some(match notice {
        StateNotice::Attached { record, rung, fallbacks } => {
            json!({ "type": "attached", "record": record, "rung": rung, "fallbacks": fallbacks })
        }
        StateNotice::Ended { record, reason } => {
            let (reason, problem) = match reason {
                EndReason::Failed(problem) => ("failed", Some(error(problem))),
                EndReason::Died => ("died", None),
                _ => ("closed", None),
            };
            json!({ "type": "ended", "record": record, "reason": reason, "error": problem })
        }
        StateNotice::Failed { record, error: problem } => {
            json!({ "type": "failed", "record": record, "error": error(problem) })
        }
        StateNotice::GivenUp { record, tries, error: problem } => {
            json!({ "type": "gaveUp", "record": record, "tries": tries, "error": error(problem) })
        }
        _ => return None,
    })
}

/// A notice about a connection. `None` for a notice of the core that this binding does not know yet.
pub fn connection_notice(notice: &channel::Notice) -> Option<Value> {
    use channel::{CloseReason, Notice};
    match notice {
        Notice::Opened { connection, pid, uid, record, rung, fallbacks } => {
            let mut value = json!({ "type": "opened", "connection": connection, "pid": pid, "uid": uid, "rung": rung, "fallbacks": fallbacks });
            if let Some(record) = record {
                value["record"] = json!(record);
            }
            Some(value)
        }
        Notice::Closed { connection, reason, delivered } => {
            let (reason, problem) = match reason {
                CloseReason::Failed(problem) => ("failed", Some(error(problem))),
                CloseReason::Died => ("died", None),
                _ => ("closed", None),
            };
            let mut value = json!({ "type": "closed", "connection": connection, "reason": reason });
            if let Some(problem) = problem {
                value["error"] = problem;
            }
            if let Some(delivered) = delivered {
                value["delivered"] = json!(delivered);
            }
            Some(value)
        }
        Notice::Failed { connection, error: problem } => {
            Some(json!({ "type": "failed", "connection": connection, "error": error(problem) }))
        }
        Notice::Descriptors { connection } => Some(json!({ "type": "fds", "connection": connection })),
        _ => None,
    }
}

fn ended(source: u32, reason: &str) -> Value {
    json!({ "type": "ended", "source": source, "reason": reason })
}

pub fn error(error: &Error) -> Value {
    let mut fields = Map::new();
    fields.insert("code".to_owned(), error.code().into());
    fields.insert("message".to_owned(), sentence(&error.to_string()).into());
    for (name, value) in [("syscall", error.syscall().map(str::to_owned)), ("errno", errno_name(error))] {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.into());
        }
    }
    Value::Object(fields)
}
