//! Reads the options that TypeScript sends as JSON. Every wrong value is named together with its rule.
//!
//! Translation only: defaults are the core's, ranges too. A field that nobody reads is an error, so that the two
//! sides cannot drift apart in silence. Times are milliseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use ringbell::Error;
use ringbell::acquire::Rung;
use ringbell::bus::{Access, Announcement, BusOptions, Group, parse_overflow};
use ringbell::channel::{ChannelOptions, ConnectOptions, ServerOptions};
use ringbell::topic::{AckMode, PublisherOptions, Start, SubscriberOptions};
use serde_json::{Map, Value};

use crate::errors::{Failure, Result};

/// Options of a bus.
pub fn bus(json: &str) -> Result<BusOptions> {
    let mut fields = Fields::parse(json)?;
    let mut options = BusOptions::default();
    fields.text("path", &mut options.path)?;
    fields.text("domain", &mut options.domain)?;
    fields.flag("system", &mut options.system)?;
    fields.flag("allowSticky", &mut options.allow_sticky)?;
    fields.group(&mut options.group)?;
    fields.numbers("trustedUids", &mut options.trusted_uids)?;
    fields.flag("inotify", &mut options.inotify)?;
    fields.time("pollIntervalMs", &mut options.poll_interval)?;
    fields.rung("acquire", &mut options.acquire)?;
    fields.done()?;
    Ok(options)
}

/// A general record.
pub fn announcement(json: &str) -> Result<Announcement> {
    let mut fields = Fields::parse(json)?;
    let mut service = None::<String>;
    fields.text("service", &mut service)?;
    let mut announcement = Announcement::new(service.unwrap_or_default());
    fields.value("kind", "a string", &mut announcement.kind)?;
    fields.value("offers", RUNGS, &mut announcement.offers)?;
    fields.object("metadata", &mut announcement.metadata)?;
    fields.addresses("endpoints", &mut announcement.endpoints)?;
    fields.text("codec", &mut announcement.codec)?;
    fields.text("schema", &mut announcement.payload_schema)?;
    announcement.access = fields.access()?;
    fields.done()?;
    Ok(announcement)
}

/// Options of a publisher.
pub fn publisher(json: &str) -> Result<PublisherOptions> {
    let mut fields = Fields::parse(json)?;
    let mut options = PublisherOptions::default();
    fields.number("capacity", &mut options.capacity)?;
    fields.put("overflow", "'block', 'drop-oldest' or 'drop-newest'", &mut options.overflow, |value| {
        parse_overflow(value.as_str()?).ok()
    })?;
    fields.number("maxSubscribers", &mut options.max_subscribers)?;
    fields.optional_time("evictAfterMs", &mut options.evict_after)?;
    fields.object("metadata", &mut options.metadata)?;
    fields.addresses("endpoints", &mut options.endpoints)?;
    fields.text("codec", &mut options.codec)?;
    fields.text("schema", &mut options.schema)?;
    fields.flag("allowDirect", &mut options.allow_direct)?;
    fields.value("offers", RUNGS, &mut options.offers)?;
    options.access = fields.access()?;
    fields.done()?;
    Ok(options)
}

/// Options of a subscriber.
pub fn subscriber(json: &str) -> Result<SubscriberOptions> {
    let mut fields = Fields::parse(json)?;
    let mut options = SubscriberOptions::default();
    fields.put("from", "'latest' or 'earliest'", &mut options.from, |value| match value.as_str()? {
        "latest" => Some(Start::Latest),
        "earliest" => Some(Start::Earliest),
        _ => None,
    })?;
    fields.text("codec", &mut options.codec)?;
    fields.rung("acquire", &mut options.acquire)?;
    fields.number("maxMessage", &mut options.max_message)?;
    fields.put("ack", "'immediate', 'batch' or 'deferred'", &mut options.ack, |value| {
        match value.as_str()? {
            "immediate" => Some(AckMode::Immediate),
            "batch" => Some(AckMode::Batch),
            "deferred" => Some(AckMode::Deferred),
            _ => None,
        }
    })?;
    fields.number("ackBatch", &mut options.ack_batch)?;
    fields.time("ackIntervalMs", &mut options.ack_interval)?;
    fields.text("durable", &mut options.durable)?;
    fields.number("reconnectTries", &mut options.reconnect.tries)?;
    fields.time("reconnectFirstMs", &mut options.reconnect.first)?;
    fields.time("reconnectLongestMs", &mut options.reconnect.longest)?;
    fields.done()?;
    Ok(options)
}

/// Options of a server.
pub fn server(json: &str) -> Result<ServerOptions> {
    let mut fields = Fields::parse(json)?;
    let mut options = ServerOptions::default();
    fields.text("kind", &mut options.kind)?;
    fields.number("capacity", &mut options.capacity)?;
    fields.value("offers", RUNGS, &mut options.offers)?;
    fields.number("maxConnections", &mut options.max_connections)?;
    fields.object("metadata", &mut options.metadata)?;
    fields.addresses("endpoints", &mut options.endpoints)?;
    fields.text("codec", &mut options.codec)?;
    fields.text("schema", &mut options.schema)?;
    options.access = fields.access()?;
    fields.done()?;
    Ok(options)
}

/// Options of an endpoint that connects.
pub fn channel(json: &str) -> Result<ChannelOptions> {
    let mut fields = Fields::parse(json)?;
    let mut options = ChannelOptions::default();
    fields.text("codec", &mut options.codec)?;
    fields.done()?;
    Ok(options)
}

/// Options of one connection.
pub fn connect(json: &str) -> Result<ConnectOptions> {
    let mut fields = Fields::parse(json)?;
    let mut options = ConnectOptions::default();
    fields.optional_number("sendCapacity", &mut options.send_capacity)?;
    fields.optional_number("receiveCapacity", &mut options.receive_capacity)?;
    fields.rung("acquire", &mut options.acquire)?;
    fields.time("timeoutMs", &mut options.timeout)?;
    fields.done()?;
    Ok(options)
}

const RUNGS: &str = "a list of 'direct', 'handshake' and 'stream'";

/// The fields of one JSON object; each is taken once.
struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a JSON object.
    fn parse(json: &str) -> Result<Self> {
        match serde_json::from_str(json) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Failure::argument("options must be a JSON object")),
            Err(error) => Err(Failure::argument(format!("options are not JSON: {error}"))),
        }
    }

    /// The field `name`, unless it is missing or null.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Stores what `read` makes of the field, if it is there.
    fn put<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        into: &mut T,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<()> {
        if let Some(value) = self.take(name) {
            *into = read(&value).ok_or_else(|| wrong(name, &value, rule))?;
        }
        Ok(())
    }

    /// A boolean.
    fn flag(&mut self, name: &'static str, into: &mut bool) -> Result<()> {
        self.put(name, "true or false", into, Value::as_bool)
    }

    /// A whole number that fits `T`.
    fn number<T: TryFrom<u64>>(&mut self, name: &'static str, into: &mut T) -> Result<()> {
        self.put(name, "a whole number that is not negative, and not too large", into, whole)
    }

    /// A whole number that fits `T` and may be absent.
    fn optional_number<T: TryFrom<u64>>(&mut self, name: &'static str, into: &mut Option<T>) -> Result<()> {
        self.put(name, "a whole number that is not negative, and not too large", into, |value| {
            whole(value).map(Some)
        })
    }

    /// A list of whole numbers.
    fn numbers<T: TryFrom<u64>>(&mut self, name: &'static str, into: &mut Vec<T>) -> Result<()> {
        self.put(name, "a list of whole numbers", into, |value| value.as_array()?.iter().map(whole).collect())
    }

    /// A string, or something made of one.
    fn text<T: From<String>>(&mut self, name: &'static str, into: &mut Option<T>) -> Result<()> {
        self.put(name, "a string", into, |value| Some(Some(T::from(value.as_str()?.to_owned()))))
    }

    /// A map of strings.
    fn addresses(&mut self, name: &'static str, into: &mut BTreeMap<String, String>) -> Result<()> {
        self.value(name, "an object whose values are strings", into)
    }

    /// Anything that JSON can hold, by name.
    fn object(&mut self, name: &'static str, into: &mut Map<String, Value>) -> Result<()> {
        self.value(name, "an object", into)
    }

    /// A time in milliseconds; fractions count.
    fn time(&mut self, name: &'static str, into: &mut Duration) -> Result<()> {
        self.put(name, "a number of milliseconds", into, milliseconds)
    }

    /// A time in milliseconds that may be absent.
    fn optional_time(&mut self, name: &'static str, into: &mut Option<Duration>) -> Result<()> {
        self.put(name, "a number of milliseconds", into, |value| milliseconds(value).map(Some))
    }

    /// Anything that the core reads by itself.
    fn value<T: serde::de::DeserializeOwned>(
        &mut self,
        name: &'static str,
        rule: &str,
        into: &mut T,
    ) -> Result<()> {
        self.put(name, rule, into, |value| serde_json::from_value(value.clone()).ok())
    }

    /// A group, by name or number.
    fn group(&mut self, into: &mut Option<Group>) -> Result<()> {
        self.put("group", "the name of a group, or its number", into, |value| {
            serde_json::from_value(value.clone()).ok().map(Some)
        })
    }

    /// Which other users may use what is announced.
    fn access(&mut self) -> Result<Option<Access>> {
        let Some(value) = self.take("access") else { return Ok(None) };
        let Value::Object(fields) = value else { return Err(wrong("access", &value, "an object")) };
        let mut fields = Self(fields);
        let mut access = Access::default();
        fields.put("mode", "0o660 or 0o666", &mut access.mode, |value| whole(value).map(Some))?;
        fields.group(&mut access.group)?;
        fields.numbers("uids", &mut access.uids)?;
        fields.numbers("gids", &mut access.gids)?;
        fields.number("maxGuests", &mut access.max_guests)?;
        fields.time("evictAfterMs", &mut access.evict_after)?;
        fields.done()?;
        Ok(Some(access))
    }

    /// A rung to force; `auto` forces none.
    fn rung(&mut self, name: &'static str, into: &mut Option<Rung>) -> Result<()> {
        self.put(name, "'auto', 'direct', 'handshake' or 'stream'", into, |value| match value.as_str()? {
            "auto" => Some(None),
            _ => serde_json::from_value(value.clone()).ok().map(Some),
        })
    }

    /// Fails if a field was left.
    fn done(self) -> Result<()> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Failure::argument(format!("option {name} is unknown"))),
        }
    }
}

fn whole<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    T::try_from(value.as_u64()?).ok()
}

fn milliseconds(value: &Value) -> Option<Duration> {
    Duration::try_from_secs_f64(value.as_f64()? / 1000.0).ok()
}

fn wrong(option: &'static str, value: &Value, rule: &str) -> Failure {
    Failure::Core(Error::InvalidOption { option, value: value.to_string(), rule: rule.to_owned() })
}
