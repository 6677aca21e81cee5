//! The rungs of the ladder by name, and the reason why a rung was not taken.
//!
//! [`Rung::LADDER`] is the only list of rungs. Options, records and the ladder use it, and so do slots, which show how
//! their owners read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const VARIABLE: &str = "IPC_BUS_ACQUIRE";

/// A way to get a peer's descriptors, or to work without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// `pidfd_getfd`: no round trip, and the publisher takes no part.
    Direct,
    /// A Unix socket and `SCM_RIGHTS`.
    Handshake,
    /// No shared memory: the bytes travel over the Unix socket.
    Stream,
}

impl Rung {
    /// All rungs, in the order in which they are tried.
    pub const LADDER: [Rung; 3] = [Rung::Direct, Rung::Handshake, Rung::Stream];

    /// The rung's name in options, records and `IPC_BUS_ACQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Direct => "direct",
            Rung::Handshake => "handshake",
            Rung::Stream => "stream",
        }
    }

    /// The number by which a slot shows how its owner reads. In a slot, 0 means that the owner did not say.
    pub(crate) fn code(self) -> u32 {
        match self {
            Rung::Direct => 1,
            Rung::Handshake => 2,
            Rung::Stream => 3,
        }
    }

    /// The rung for the number in a slot. `None` for a number that is no rung.
    pub(crate) fn from_code(code: u32) -> Option<Rung> {
        Rung::LADDER.into_iter().find(|rung| rung.code() == code)
    }

    /// Reads an option's value: a rung to force, or `auto` for the ladder.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` for any other word.
    pub fn parse_option(value: &str) -> Result<Option<Rung>> {
        Rung::parse("acquire", value)
    }

    /// The error names the place of a wrong word: the option or the variable.
    fn parse(option: &'static str, value: &str) -> Result<Option<Rung>> {
        match Rung::of_name(value) {
            _ if value == "auto" => Ok(None),
            Some(rung) => Ok(Some(rung)),
            None => Err(no_rung(option, value)),
        }
    }

    fn of_name(name: &str) -> Option<Rung> {
        Rung::LADDER.into_iter().find(|rung| rung.name() == name)
    }

    /// The rung that `IPC_BUS_ACQUIRE` forces; none when it is unset, empty or `auto`.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_OPTION` for a word that is no rung.
    pub fn from_env() -> Result<Option<Rung>> {
        match std::env::var(VARIABLE) {
            Ok(value) if !value.is_empty() => Rung::parse(VARIABLE, &value),
            _ => Ok(None),
        }
    }
}

fn no_rung(option: &'static str, value: &str) -> Error {
    let rule = "it must be 'auto', 'direct', 'handshake' or 'stream'".into();
    Error::InvalidOption { option, value: value.to_owned(), rule }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rung {
    type Err = Error;

    fn from_str(text: &str) -> Result<Rung> {
        Rung::of_name(text).ok_or_else(|| no_rung("acquire", text))
    }
}

/// A rung that was tried before the one that was taken, and the reason why it failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fallback {
    /// The rung.
    pub rung: Rung,
    /// The error's code, or the errno's name where the kernel refused.
    pub code: String,
    /// The reason in one sentence.
    pub reason: String,
}

impl Fallback {
    pub(crate) fn new(rung: Rung, code: impl Into<String>, reason: impl Into<String>) -> Fallback {
        Fallback { rung, code: code.into(), reason: reason.into() }
    }

    /// The error when no rung has led to the service.
    pub(crate) fn exhausted(service: &str, fallbacks: &[Fallback]) -> Error {
        let reasons = fallbacks.iter();
        let reasons = reasons.map(|Fallback { rung, code, reason }| format!("{rung}: {reason} ({code})"));
        Error::Acquire { service: service.to_owned(), reasons: reasons.collect() }
    }

    /// A rung that could not be offered.
    pub(crate) fn by(rung: Rung, error: &Error) -> Fallback {
        Fallback::new(rung, error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for rung in Rung::LADDER {
            assert_eq!(rung.name().parse::<Rung>().unwrap(), rung);
            assert_eq!(serde_json::to_string(&rung).unwrap(), format!("\"{rung}\""));
            assert_eq!(Rung::from_code(rung.code()), Some(rung));
        }
        assert_eq!(Rung::parse_option("auto").unwrap(), None);
        assert_eq!(Rung::parse_option("Direct").unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    }
}
