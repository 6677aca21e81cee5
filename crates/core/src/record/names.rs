//! The names on a bus: of services, of records' files and of sockets.
//!
//! Invariant: a name that [`RecordName::parse`] or [`valid_name`] accepts contains no slash, no NUL and no leading dot.
//! So it names a file in the bus directory and nothing else. Called by all code that takes a name from a caller or the
//! directory.

use crate::error::{Error, Result};

/// The longest service name in bytes.
pub const MAX_NAME: usize = 64;

const NAME_RULE: &str = "letters, digits, '.', '_' and '-', 1 to 64 of them, the first a letter or digit ([A-Za-z0-9][A-Za-z0-9._-]{0,63})";

/// Whether `name` may name a service.
pub fn valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=MAX_NAME).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// An error that shows the name and the rule, unless `name` may name a service.
pub fn check_name(what: &'static str, name: &str) -> Result<()> {
    if valid_name(name) {
        return Ok(());
    }
    Err(Error::InvalidName { what, name: name.chars().take(2 * MAX_NAME).collect(), rule: NAME_RULE })
}

pub(crate) fn valid_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn socket_name(id: &str) -> String {
    format!("{id}.sock")
}

/// The two parts of a record's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordName<'a> {
    pub service: &'a str,
    pub id: &'a str,
}

impl<'a> RecordName<'a> {
    /// `<service>@<id>.json`, and nothing else.
    pub fn parse(file_name: &'a str) -> Option<RecordName<'a>> {
        let (service, id) = file_name.strip_suffix(".json")?.rsplit_once('@')?;
        (valid_name(service) && valid_id(id)).then_some(RecordName { service, id })
    }
}
