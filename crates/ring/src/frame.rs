//! Frames: what lies between `floor` and `head`. There are batches; a batch holds messages, or one piece of a large
//! message.
//!
//! ```text
//! batch    u32 length (16 + its messages, padded)  | u16 kind = 2 | u16 0                | u64 first sequence | u64 monotonic ns | messages…
//! message  u32 length of the payload and headers   | u16 kind = 1 | u16 bytes of headers | payload, headers, padded to 8
//! fragment u32 length (16 + its piece)             | u16 kind = 3 | u16 bytes of headers | u64 length of the message | u64 offset of the piece in it | piece, padded to 8
//! ```
//!
//! The headers of a message are bytes that follow its payload; what they say is the business of the crate above. A
//! message that is sent in pieces is the payload and then the headers, and each piece says how long the headers are.
//!
//! All numbers are little endian, all frames 8-byte aligned. Invariant: a commit is one batch. `head`, `floor` and a
//! joiner's first position are always the start of a batch, so every reader learns the sequence of its first message.
//! Used by both sides. Only headers are encoded and decoded here; nothing here touches shared memory.

/// Bytes that a batch adds to its messages.
pub const BATCH_OVERHEAD: usize = 24;
/// Bytes that a message adds to its payload, before padding.
pub const MESSAGE_OVERHEAD: usize = 8;
/// Most bytes of a message that is sent in pieces.
pub const MAX_LARGE: usize = 1 << 30;
/// Bytes of a batch's body that are not messages.
pub(crate) const BATCH_FIELDS: usize = 16;
/// Bytes that a fragment adds to its piece, before padding.
pub(crate) const FRAGMENT_OVERHEAD: usize = MESSAGE_OVERHEAD + FRAGMENT_FIELDS;
/// Bytes of a fragment's body that are not the piece.
pub(crate) const FRAGMENT_FIELDS: usize = 16;

const KIND_MESSAGE: u16 = 1;
const KIND_BATCH: u16 = 2;
const KIND_FRAGMENT: u16 = 3;

/// Most bytes that a piece takes in the ring. The limit lets the reader begin before the next piece is written.
const PIECE: usize = 64 << 10;

/// Bytes that a message with `payload` bytes, headers included, takes in the ring.
pub const fn padded(payload: usize) -> usize {
    MESSAGE_OVERHEAD + payload.next_multiple_of(8)
}

/// Largest payload of one message, headers included: with its batch it takes half of the ring.
pub const fn max_message(capacity: usize) -> usize {
    capacity / 2 - BATCH_OVERHEAD - MESSAGE_OVERHEAD
}

/// Most bytes of a large message that are sent at once. With their batch they take a quarter of the ring, at most 64
/// KiB.
pub(crate) const fn max_piece(capacity: usize) -> usize {
    let most = if capacity / 4 < PIECE { capacity / 4 } else { PIECE };
    most.saturating_sub(BATCH_OVERHEAD + FRAGMENT_OVERHEAD)
}

/// A frame's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// `headers`: how many of the bytes, at their end, are headers.
    Message {
        length: usize,
        headers: u16,
    },
    Batch {
        body: usize,
    },
    /// `headers`: how many bytes of the whole message are headers.
    Fragment {
        body: usize,
        headers: u16,
    },
}

impl Header {
    pub(crate) const fn encode(self) -> u64 {
        let (length, kind, headers) = match self {
            Self::Message { length, headers } => (length, KIND_MESSAGE, headers),
            Self::Batch { body } => (body, KIND_BATCH, 0),
            Self::Fragment { body, headers } => (body, KIND_FRAGMENT, headers),
        };
        length as u64 | (kind as u64) << 32 | (headers as u64) << 48
    }

    /// `None` for a word that is not a header, or whose frame cannot be in a ring of this capacity.
    pub(crate) const fn decode(word: u64, capacity: usize) -> Option<Self> {
        let length = (word & 0xffff_ffff) as usize;
        let headers = (word >> 48) as u16;
        match (word >> 32) as u16 {
            KIND_MESSAGE if headers as usize <= length && length <= max_message(capacity) => {
                Some(Self::Message { length, headers })
            }
            KIND_BATCH
                if headers == 0
                    && length >= BATCH_FIELDS
                    && length.is_multiple_of(8)
                    && length <= capacity - 8 =>
            {
                Some(Self::Batch { body: length })
            }
            KIND_FRAGMENT if length > FRAGMENT_FIELDS && length <= max_message(capacity) => {
                Some(Self::Fragment { body: length, headers })
            }
            _ => None,
        }
    }

    /// Whether this word is the header of a piece of a large message.
    pub(crate) const fn is_fragment(word: u64) -> bool {
        (word >> 32) as u16 == KIND_FRAGMENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        for header in [
            Header::Message { length: 0, headers: 0 },
            Header::Message { length: 2016, headers: 0 },
            Header::Message { length: 2016, headers: 2016 },
            Header::Batch { body: 16 },
            Header::Fragment { body: 17, headers: 0 },
            Header::Fragment { body: 2016, headers: u16::MAX },
        ] {
            assert_eq!(Header::decode(header.encode(), 4096), Some(header));
        }
    }

    #[test]
    fn words_that_are_no_header_are_refused() {
        for word in [
            0,
            u64::MAX,
            Header::Message { length: 2017, headers: 0 }.encode(),
            Header::Message { length: 7, headers: 8 }.encode(),
            Header::Batch { body: 8 }.encode(),
            Header::Batch { body: 17 }.encode(),
            Header::Batch { body: 4096 }.encode(),
            Header::Batch { body: 16 }.encode() | 1 << 48,
            Header::Fragment { body: 16, headers: 0 }.encode(),
            Header::Fragment { body: 2017, headers: 0 }.encode(),
            4 << 32 | 24,
        ] {
            assert_eq!(Header::decode(word, 4096), None, "{word:#x}");
        }
    }

    #[test]
    fn the_largest_message_takes_half_of_the_ring() {
        assert_eq!(BATCH_OVERHEAD + padded(max_message(4096)), 2048);
    }

    #[test]
    fn the_largest_piece_takes_a_quarter_of_the_ring() {
        for (capacity, most) in [(4096, 1024), (1 << 18, 1 << 16), (1 << 30, 1 << 16)] {
            assert_eq!(BATCH_OVERHEAD + FRAGMENT_OVERHEAD + max_piece(capacity), most);
        }
    }
}
