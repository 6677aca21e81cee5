//! Reads the options that JavaScript passes as JSON, as the user wrote them, into the options of the core.
//!
//! This module checks only the form: an unknown field or a value of the wrong type is an error that names the path
//! and the value of the option. The core decides which values are allowed, and what the defaults are. Times are
//! milliseconds, and may have fractions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringbell::Error;
use ringbell::acquire::Rung;
use ringbell::bus::{self, Announcement, BusOptions, GroupRecord, Record, parse_overflow};
use ringbell::channel::{ConnectOptions, ServerOptions};
use ringbell::state::{StateOptions, StateReaderOptions};
use ringbell::topic::{self, PublisherOptions, Reconnect, SubscriberOptions};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::errors::{Failure, Result};

/// The longest time in milliseconds that JavaScript's own timers accept.
const MOST_MILLISECONDS: f64 = 2_147_483_647.0;
/// The largest number up to which JavaScript represents every whole number.
const MOST_COUNTED: u64 = (1 << 53) - 1;
/// How many characters of a wrong value an error shows.
const SHOWN: usize = 100;
/// No option has this name. Under it, JavaScript passes the names of the options that it checks itself.
const OTHERS: &str = "";

/// Defines a struct for one JSON object, whose fields are in camelCase there, and its `put`. `put` stores the given
/// fields in the core's options: in the field of the same name, or in the one behind the arrow.
macro_rules! options {
    ($name:ident for $core:ty { $($field:ident $(=> $other:ident)?: $type:ty),* $(,)? }) => {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
        struct $name { $(#[serde(default, deserialize_with = "given")] $field: Option<$type>),* }

        impl $name {
            fn put(self, core: &mut $core) {
                $(if let Some(value) = self.$field { options!(@target core $field $($other)?) = value.into(); })*
            }
        }
    };
    (@target $core:ident $field:ident) => { $core.$field };
    (@target $core:ident $field:ident $other:ident) => { $core.$other };
}

options! { Bus for BusOptions {
    path: PathBuf,
    domain: String,
    system: bool,
    create: bool,
    allow_sticky: bool,
    group: Group,
    trusted_uids: Vec<u32>,
    watch => inotify: Watch,
    poll_interval: Millis,
    acquire: Acquire,
    safe_doorbells: bool,
} }

options! { General for Announcement {
    kind: String,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    codec: String,
    schema => payload_schema: String,
    access: Access,
} }

options! { Publisher for PublisherOptions {
    capacity: usize,
    overflow: Overflow,
    max_subscribers: u16,
    evict_after: Millis,
    exact_time: bool,
    group: GroupRecord,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    codec: String,
    schema: String,
    allow_direct: bool,
    offers: Vec<Rung>,
    access: Access,
} }

options! { Subscriber for SubscriberOptions {
    from: Start,
    route: Route,
    codec: String,
    schema: String,
    acquire: Acquire,
    max_message: usize,
    ack: AckMode,
    ack_batch: u16,
    ack_interval: Millis,
    durable: String,
    instance: String,
    reconnect: Reconnecting,
} }

options! { State for StateOptions {
    size: usize,
    capacity: usize,
    max_readers: u16,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    codec: String,
    schema: String,
    allow_direct: bool,
    offers: Vec<Rung>,
    access: Access,
    epoch: u64,
} }

options! { StateReader for StateReaderOptions {
    codec: String,
    acquire: Acquire,
    reconnect: Reconnecting,
} }

options! { Server for ServerOptions {
    capacity: usize,
    offers: Vec<Rung>,
    max_connections: u32,
    group: GroupRecord,
    metadata: Map<String, Value>,
    endpoints: BTreeMap<String, String>,
    codec: String,
    schema: String,
    access: Access,
} }

options! { Connection for ConnectOptions {
    send_capacity: usize,
    receive_capacity: usize,
    acquire: Acquire,
} }

options! { Access for bus::Access {
    mode: u32,
    group: Group,
    uids: Vec<u32>,
    gids: Vec<u32>,
    max_guests: u8,
    evict_after: Millis,
} }

options! { Reconnecting for Reconnect {
    tries: u32,
    delay => first: Millis,
    max_delay => longest: Millis,
} }

/// Options of a bus.
pub fn bus(json: &str) -> Result<BusOptions> {
    let mut options = BusOptions::default();
    read::<Bus>(json)?.put(&mut options);
    Ok(options)
}

/// A general record.
pub fn announcement(service: String, json: &str) -> Result<Announcement> {
    let mut announcement = Announcement::new(service);
    read::<General>(json)?.put(&mut announcement);
    Ok(announcement)
}

/// Options of a publisher.
pub fn publisher(json: &str) -> Result<PublisherOptions> {
    let mut options = PublisherOptions::default();
    read::<Publisher>(json)?.put(&mut options);
    Ok(options)
}

/// Options of a subscriber.
pub fn subscriber(json: &str) -> Result<SubscriberOptions> {
    let mut options = SubscriberOptions::default();
    read::<Subscriber>(json)?.put(&mut options);
    Ok(options)
}

/// Options of a state.
pub fn state(json: &str) -> Result<StateOptions> {
    let mut options = StateOptions::default();
    read::<State>(json)?.put(&mut options);
    Ok(options)
}

/// Options of a reader of a state.
pub fn state_reader(json: &str) -> Result<StateReaderOptions> {
    let mut options = StateReaderOptions::default();
    read::<StateReader>(json)?.put(&mut options);
    Ok(options)
}

/// Options of a server whose record is of this kind.
pub fn server(kind: String, json: &str) -> Result<ServerOptions> {
    let mut options = ServerOptions::default();
    options.kind = Some(kind);
    read::<Server>(json)?.put(&mut options);
    Ok(options)
}

/// Options of every connection that an endpoint makes.
pub fn connection(json: &str) -> Result<ConnectOptions> {
    let mut options = ConnectOptions::default();
    read::<Connection>(json)?.put(&mut options);
    options.check()?;
    Ok(options)
}

/// The role of a member, as its servers and publishers announce it.
pub fn group(json: &str) -> Result<GroupRecord> {
    serde_json::from_str(json).map_err(|error| Failure::argument(format!("the role is wrong: {error}")))
}

/// Parses the JSON object for the option of this name.
pub fn object(option: &str, json: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(value) => Err(wrong(option, &value, "it must be an object")),
        Err(error) => Err(Failure::argument(format!("option {option} is not JSON: {error}"))),
    }
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T> {
    let mut options: Value = serde_json::from_str(json)
        .map_err(|error| Failure::argument(format!("options are not JSON: {error}")))?;
    let others = options.as_object_mut().and_then(|fields| fields.remove(OTHERS));
    serde_path_to_error::deserialize(&options).map_err(|error| {
        let value = error.path().iter().try_fold(&options, |value, segment| match segment {
            Segment::Seq { index } => value.get(index),
            Segment::Map { key } => value.get(key),
            _ => None,
        });
        // They are options beside the core's own, not fields of one of these.
        let others = others.as_ref().and_then(Value::as_array).filter(|_| error.path().iter().len() == 1);
        let others = others.into_iter().flatten().filter_map(Value::as_str);
        let rule = in_words(&error.inner().to_string(), others);
        wrong(&error.path().to_string(), value.unwrap_or(&options), &rule)
    })
}

/// Puts what serde says of a value into words that users know. `others` are the names of options that serde does not know.
fn in_words<'a>(rule: &'a str, others: impl Iterator<Item = &'a str>) -> String {
    let Some((found, expected)) = rule.rsplit_once(", expected ") else { return rule.into() };
    let mut names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if found.starts_with("unknown field") {
        for other in others {
            if !names.contains(&other) {
                names.push(other);
            }
        }
        return format!("it is not an option here; the options are {}", names.join(", "));
    }
    let whole = |most: u64| format!("a whole number from 0 to {most}");
    let allowed = match expected {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "usize" => whole(MOST_COUNTED),
        // Only times have fractions.
        "f64" => return Millis::rule(),
        "a boolean" => "true or false".into(),
        "a map" => "an object".into(),
        "a sequence" => "a list".into(),
        "path string" => "a string".into(),
        _ if names.is_empty() => expected.into(),
        _ => format!("one of '{}'", names.join("', '")),
    };
    format!("it must be {allowed}")
}

/// An error in the form of the core's own.
fn wrong(path: &str, value: &Value, rule: &str) -> Failure {
    let value: String = value.to_string().chars().take(SHOWN).collect();
    Failure::argument(format!("option {path} has the wrong value {value}: {rule}"))
}

/// A field that is not given keeps its default. `null` is a value, and for most options a wrong one.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The rule of the core for a value. Option and value are added later.
fn rule_of<E: serde::de::Error>(error: Error) -> E {
    match error {
        Error::InvalidOption { rule, .. } => E::custom(rule),
        other => E::custom(other),
    }
}

struct Millis(Duration);

impl Millis {
    fn rule() -> String {
        format!("it must be milliseconds from 0 to {MOST_MILLISECONDS}")
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let milliseconds = f64::deserialize(deserializer)?;
        if (0.0..=MOST_MILLISECONDS).contains(&milliseconds) {
            return Ok(Self(Duration::from_secs_f64(milliseconds / 1000.0)));
        }
        Err(D::Error::custom(Self::rule()))
    }
}

impl From<Millis> for Duration {
    fn from(Millis(time): Millis) -> Self {
        time
    }
}

impl From<Millis> for Option<Duration> {
    fn from(Millis(time): Millis) -> Self {
        Some(time)
    }
}

struct Overflow(bus::Overflow);

impl<'de> Deserialize<'de> for Overflow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        parse_overflow(&String::deserialize(deserializer)?).map(Self).map_err(rule_of)
    }
}

impl From<Overflow> for bus::Overflow {
    fn from(Overflow(overflow): Overflow) -> Self {
        overflow
    }
}

/// A rung to force; `auto` forces none.
struct Acquire(Option<Rung>);

impl<'de> Deserialize<'de> for Acquire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Rung::parse_option(&String::deserialize(deserializer)?).map(Self).map_err(rule_of)
    }
}

impl From<Acquire> for Option<Rung> {
    fn from(Acquire(rung): Acquire) -> Self {
        rung
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Watch {
    Inotify,
    Poll,
}

impl From<Watch> for bool {
    fn from(watch: Watch) -> Self {
        matches!(watch, Watch::Inotify)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Start {
    Latest,
    Earliest,
}

impl From<Start> for topic::Start {
    fn from(start: Start) -> Self {
        match start {
            Start::Latest => Self::Latest,
            Start::Earliest => Self::Earliest,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Route {
    All,
    Primary,
}

impl From<Route> for topic::Route {
    fn from(route: Route) -> Self {
        match route {
            Route::All => Self::All,
            Route::Primary => Self::Primary,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AckMode {
    Immediate,
    Batch,
    Deferred,
}

impl From<AckMode> for topic::AckMode {
    fn from(mode: AckMode) -> Self {
        match mode {
            AckMode::Immediate => Self::Immediate,
            AckMode::Batch => Self::Batch,
            AckMode::Deferred => Self::Deferred,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be the name of a group, or its number")]
enum Group {
    Id(u32),
    Name(String),
}

impl From<Group> for Option<bus::Group> {
    fn from(group: Group) -> Self {
        Some(match group {
            Group::Id(id) => bus::Group::Id(id),
            Group::Name(name) => bus::Group::Name(name),
        })
    }
}

impl From<Access> for Option<bus::Access> {
    fn from(access: Access) -> Self {
        let mut core = bus::Access::default();
        access.put(&mut core);
        Some(core)
    }
}

impl From<Reconnecting> for Reconnect {
    fn from(reconnect: Reconnecting) -> Self {
        let mut core = Self::default();
        let limited = reconnect.max_delay.is_some();
        reconnect.put(&mut core);
        // As src/wait/backoff.ts does for clients: only a limit of the user's own shortens the user's first pause.
        if limited {
            core.first = core.first.min(core.longest);
        } else {
            core.longest = core.longest.max(core.first);
        }
        core
    }
}

/// Parses a record that JS got from the bus. The rules are those for a record that is read from the bus.
pub fn record(json: &str) -> Result<Arc<Record>> {
    let fields = object("record", json)?;
    let text = |name| fields.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let owner = fields.get("uid").and_then(|uid| uid.as_u64()).and_then(|uid| u32::try_from(uid).ok());
    let name = format!("{}@{}.json", text("service"), text("id"));
    Ok(Arc::new(Record::parse(&name, owner.unwrap_or(u32::MAX), json.as_bytes())?))
}
