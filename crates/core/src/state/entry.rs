//! One entry of the log of a keyed state: what a message of its topic holds.
//!
//! ```text
//!  0 u64 sequence of the oldest entry that counts, after this one    8 u64 version
//! 16 u32 length of the key    20 u32 kind: 1 set, 2 delete, 3 mark    24 key, value
//! ```
//!
//! The first word tells a reader when its table is whole: it has read every entry from there on. All of it is hostile until
//! it was decoded. Used by `log` and `keyed`.

use ringbell_ring::{BATCH_OVERHEAD, padded};

/// Bytes of an entry besides its key and value.
pub(super) const HEADER: usize = 24;

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Set = 1,
    Delete = 2,
    /// Nothing. It only says that the log is whole.
    Mark = 3,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    /// Sequence of the oldest entry that counts, once this one is written.
    pub(super) oldest: u64,
    /// How many changes the writer had made with this one. An entry that is written again keeps its own.
    pub(super) version: u64,
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.oldest.to_le_bytes());
        into.extend_from_slice(&self.version.to_le_bytes());
        into.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        into.extend_from_slice(&(self.kind as u32).to_le_bytes());
        into.extend_from_slice(self.key.as_bytes());
        into.extend_from_slice(self.value);
    }

    /// `None`: these bytes are no entry.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (oldest, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let kind = match u32::from_le_bytes(*kind) {
            1 => Kind::Set,
            2 if value.is_empty() => Kind::Delete,
            3 if key.is_empty() && value.is_empty() => Kind::Mark,
            _ => return None,
        };
        let (oldest, version) = (u64::from_le_bytes(*oldest), u64::from_le_bytes(*version));
        Some(Self { kind, oldest, version, key: std::str::from_utf8(key).ok()?, value })
    }
}

/// Bytes that an entry takes in the ring.
pub(super) fn space(key: &str, value: usize) -> usize {
    BATCH_OVERHEAD + padded(HEADER + key.len() + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_and_nothing_else_is_one() {
        let mut bytes = Vec::new();
        for (kind, key, value) in
            [(Kind::Set, "a key", &b"value"[..]), (Kind::Delete, "é", b""), (Kind::Mark, "", b"")]
        {
            let entry = Entry { kind, oldest: 3, version: u64::MAX, key, value };
            entry.encode(&mut bytes);
            assert_eq!(Entry::decode(&bytes), Some(entry));
            assert_eq!(space(key, value.len()), BATCH_OVERHEAD + padded(bytes.len()));
            for short in 0..HEADER + key.len() {
                assert_eq!(Entry::decode(&bytes[..short]), None, "{short} bytes of {key}");
            }
        }
        Entry { kind: Kind::Set, oldest: 0, version: 1, key: "ab", value: b"" }.encode(&mut bytes);
        for (at, byte) in [(16, 3), (19, 1), (20, 0), (20, 3), (20, 4), (23, 1), (24, 0xff)] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            assert_eq!(Entry::decode(&wrong), None, "byte {at}");
        }
    }
}
