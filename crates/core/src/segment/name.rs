//! Durable names: the name under which a subscriber's position is kept, so that the subscriber finds it again.
//!
//! A name has one holder at a time. The holder has the lock on a byte that the name's hash selects (`slots`). A
//! slot holds only the hash: two names of one topic with the same 64 bits would share a position. Called by
//! subscribers, and by a publisher that streams.

use std::sync::Arc;

use crate::record::check_name;
use crate::{Error, Result};

/// A name that was checked, and its hash, which is never 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DurableName {
    name: Arc<str>,
    hash: u64,
}

impl DurableName {
    /// Takes any valid service name.
    ///
    /// # Errors
    /// `ERR_RINGBELL_INVALID_NAME`.
    pub(crate) fn parse(name: &str) -> Result<DurableName> {
        check_name("durable name", name)?;
        Ok(DurableName { name: name.into(), hash: hash(name) })
    }

    /// A name of which only the hash is known here. Its holder knows the name itself. `None` for 0, which means no
    /// name.
    pub(crate) fn from_hash(hash: u64) -> Option<DurableName> {
        (hash != 0).then(|| DurableName { name: format!("{hash:016x}").into(), hash })
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The error for a second subscriber under the same name.
    pub(crate) fn taken(&self) -> Error {
        Error::NameTaken { name: self.name.to_string() }
    }
}

/// Never 0.
fn hash(name: &str) -> u64 {
    fnv1a(name.as_bytes()).max(1)
}

/// FNV-1a, 64 bits: the hash of `docs/protocol.md` for names and keys.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(start, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_that_the_protocol_names() {
        // Test vectors of draft-eastlake-fnv.
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_name_follows_the_rule_of_names() {
        for wrong in ["", "-x", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(DurableName::parse(wrong).unwrap_err().code(), "ERR_RINGBELL_INVALID_NAME", "{wrong}");
        }
        assert_eq!(DurableName::parse("billing.1").unwrap().taken().code(), "ERR_RINGBELL_NAME_TAKEN");
    }
}
