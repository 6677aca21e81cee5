//! The policy for a full ring, as records and options spell it. There is only one enum, in the ring crate.
//!
//! Callers: serde for the record (`#[serde(with = "overflow")]`), and bindings for an option ([`parse_overflow`]). The
//! ring crate depends on no other crate, so the words are defined here.

pub use ringbell_ring::Overflow;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;

use crate::error::{Error, Result};

const ALL: [Overflow; 3] = [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest];

fn name(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Block => "block",
        Overflow::DropOldest => "drop-oldest",
        Overflow::DropNewest => "drop-newest",
    }
}

/// Reads an option's value.
///
/// # Errors
/// `ERR_RINGBELL_INVALID_OPTION` for any other word.
pub fn parse_overflow(value: &str) -> Result<Overflow> {
    ALL.into_iter().find(|overflow| name(*overflow) == value).ok_or_else(|| Error::InvalidOption {
        option: "overflow",
        value: value.to_owned(),
        rule: "it must be 'block', 'drop-oldest' or 'drop-newest'".to_owned(),
    })
}

pub(super) fn serialize<S: Serializer>(
    overflow: &Overflow,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*overflow))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Overflow, D::Error> {
    parse_overflow(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for overflow in ALL {
            assert_eq!(parse_overflow(name(overflow)).unwrap(), overflow);
        }
        assert_eq!(parse_overflow("Block").unwrap_err().code(), "ERR_RINGBELL_INVALID_OPTION");
    }
}
