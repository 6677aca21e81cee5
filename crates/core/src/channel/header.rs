//! The 16 bytes that every message of a channel begins with.
//!
//! ```text
//! 0  u8  kind    1  u8  flags    2  u16  0    4  u32  aux    8  u64  id    16  data
//! ```
//!
//! Little endian. Only the layout is decided here. A peer may write any 16 bytes, so no field of a received header is
//! trusted.

/// Bytes of a header.
pub const HEADER: usize = 16;

/// Flag of a request: it asks for the server's counters (docs/protocol.md).
const ABOUT: u8 = 4;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// A message that belongs to no request.
    Message = 0,
    /// A request that wants a reply with the same id. `aux`: milliseconds that its caller waits, 0 for no limit.
    Request = 1,
    /// The reply to a request.
    Reply = 2,
    /// The reply of a request that failed: a JSON object with `code` and `message`.
    Error = 3,
    /// The caller of this request no longer waits.
    Cancel = 4,
    /// One piece of a streaming reply.
    Chunk = 5,
    /// The end of a streaming reply.
    End = 6,
    /// The caller takes `aux` more pieces of a streaming reply.
    Credit = 7,
    /// The sender is about to close: send it no new requests.
    Goodbye = 8,
}

/// The header of one message, decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// See [`Kind`]; a peer may send any number.
    pub kind: u8,
    /// Bits whose meaning depends on the kind.
    pub flags: u8,
    /// A number whose meaning depends on the kind.
    pub aux: u32,
    /// Which call it belongs to.
    pub id: u64,
}

impl Header {
    /// A header without flags and `aux`.
    pub fn new(kind: Kind, id: u64) -> Header {
        Header { kind: kind as u8, flags: 0, aux: 0, id }
    }

    /// Whether this is a request for the counters of the server, which is not for its handler.
    pub(super) fn is_inquiry(self) -> bool {
        self.kind == Kind::Request as u8 && self.flags & ABOUT != 0
    }

    /// The bytes to send.
    pub fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind;
        bytes[1] = self.flags;
        bytes[4..8].copy_from_slice(&self.aux.to_le_bytes());
        bytes[8..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// The header and the data behind it; `None` when the message is too short to have one.
    pub fn decode(message: &[u8]) -> Option<(Header, &[u8])> {
        let (head, data) = message.split_first_chunk::<HEADER>()?;
        let [kind, flags, _, _, a, b, c, d, id @ ..] = *head;
        Some((
            Header { kind, flags, aux: u32::from_le_bytes([a, b, c, d]), id: u64::from_le_bytes(id) },
            data,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let header = Header { kind: 7, flags: 3, aux: 0x0102_0304, id: u64::MAX - 5 };
        let mut message = header.encode().to_vec();
        assert_eq!(&message[..8], &[7, 3, 0, 0, 4, 3, 2, 1]);
        message.extend(b"data");
        assert_eq!(Header::decode(&message), Some((header, &b"data"[..])));
        assert_eq!(Header::decode(&message[..15]), None);
    }
}
