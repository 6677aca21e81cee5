//! The handshake, byte by byte: one `SOCK_SEQPACKET` connection, in two steps. Every number is little endian.
//!
//! Invariant: [`Datagram::decode`] takes any bytes and trusts no length, and every value that it returns is in
//! range. A change here is a change of the protocol (`docs/protocol.md`). Both sides of the handshake call this. It
//! never touches a socket.
//!
//! ```text
//!  client                                             publisher (its bus thread)
//!  connect, HELLO  ────────────────────────────────▶  peer's uid is checked before anything is sent
//!                  ◀────────────────────────────────  SEGMENTS + 3 descriptors: data, control, room doorbell
//!  checks, maps, locks a slot
//!  CLAIMED         ────────────────────────────────▶  probes the slot's lock
//!                  ◀────────────────────────────────  DOORBELL + 1 descriptor: the slot's doorbell
//!  ACK, closes     ────────────────────────────────▶  closes
//!  any time        ◀────────────────────────────────  REFUSED: code and text, then closes
//!
//!  without shared memory:
//!  connect, HELLO  ────────────────────────────────▶  claims a slot and joins the ring for the client
//!                  ◀────────────────────────────────  STREAM, then the ring's bytes (see `stream::wire`)
//! ```
//!
//! A channel's connection begins with CONNECT in the place of HELLO. The answer is CONNECTED, or STREAMED without
//! shared memory. The socket stays open after ACK.
//!
//! ```text
//!  client                                             server (its bus thread)
//!  CONNECT         ────────────────────────────────▶  makes both rings
//!                  ◀────────────────────────────────  CONNECTED + 5 descriptors: the client's ring, the server's
//!  checks, maps                                       ring, control, the server's doorbell, the client's doorbell
//!  ACK             ────────────────────────────────▶  the connection is there
//!
//!  without shared memory:
//!  CONNECT         ────────────────────────────────▶  makes the ring that it writes
//!                  ◀────────────────────────────────  STREAMED + 2 descriptors: the socket that the server's ring is
//!  makes its own                                      forwarded over (see `stream::wire`), that of the client's
//!  ACK             ────────────────────────────────▶  the connection is there
//! ```
//!
//! A member of a lock, semaphore, flag or sharded mutex gets its table from another member:
//!
//! ```text
//!  JOIN            ────────────────────────────────▶  a living member (its bus thread)
//!                  ◀────────────────────────────────  TABLE + 1 descriptor
//!  checks, maps
//!  ACK, closes     ────────────────────────────────▶  closes
//! ```
//!
//! A client of another user asks for a guest's terms. In the place of both doorbells it gets one end of a socket
//! pair.
//!
//! Every datagram has 64 bytes, except STREAM with 80 and REFUSED with 256. Unused bytes are zero. The first 8
//! bytes of every datagram, and all of REFUSED, are the same in every version. So two versions can tell each other
//! that they differ.
//!
//! ```text
//! all       0  u32  magic, "RBHS"            REFUSED   8  u32  code (see `Refusal`)
//!           4  u16  version                           12  u32  length of the text, at most 240
//!           6  u16  kind, 1 to 8 as above, 10 STREAM,   16  text, UTF-8
//!                   11 STREAMED, 12 JOIN, 13 TABLE
//! HELLO     8  [16] id of the instance wanted          24  u64  capabilities   32  u32  pid, for logs only
//!           36 u32  where a stream starts: 0 latest, 1 earliest   40  u64  hash of a stream's durable name, 0 for none
//! SEGMENTS  8  [16] id of the instance                 24  u64  capabilities
//! CLAIMED   8  u32  slot      DOORBELL  8  u32  slot   ACK  nothing more
//! CONNECT   8  [16] id of the instance wanted          24  u64  capabilities   32  u32  pid, for logs only
//!          40  u64  bytes wanted of the client's ring  48  u64  bytes wanted of the server's ring
//!                   (0 in either: the server's choice)
//! CONNECTED 8  [16] nonce of both rings                24  u64  bytes of the client's ring   32  u64  of the server's
//!          40  u64  eventfd-id of the server's doorbell   48  u64  of the client's   56  u64  capabilities
//! STREAM    8  [16] id of the instance                 24  u64  capabilities   32  u64  position of the first byte
//!           40 u64  position from which on the publisher waits for this client
//!           48 u64  sequence of the first message, 2^64 - 1 if unknown   56  u32  slot
//!           60 u32  what was found under the durable name: 0 no name came, 1 nothing, 2 a position, 3 that it was lost
//!           64 u64  sequence of the first message wanted under it   72  u64  those before this one may have been seen
//! STREAMED 24  u64  bytes of the client's ring         32  u64  of the server's
//! ```
//!
//! A datagram of another length, magic or kind, or one that is out of turn, ends the connection.

use ringbell_ring::Position;
use ringbell_ring::layout::VERSION;

/// Bytes of every datagram except STREAM and REFUSED.
pub(crate) const LENGTH: usize = 64;
/// Bytes of STREAM.
const STREAM_LENGTH: usize = 80;
/// Bytes of REFUSED, which is also the size of the buffer that a client needs.
pub(crate) const LONGEST: usize = 256;
/// Capability: segments and doorbells are sent as descriptors.
pub(crate) const SHARED_MEMORY: u64 = 1;
/// Capability: the ring's bytes are sent over the connection. A client that asks for both capabilities gets shared
/// memory.
pub(crate) const STREAM: u64 = 2;
/// Capability: a guest's terms. The client gets a control segment of its own, and this connection stays open as the
/// doorbell of both sides. A channel's connection has a socket pair for that. A client asks for these terms when
/// the other side belongs to another user. The other side confirms them if it gives them.
pub(crate) const GUEST: u64 = 4;

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"RBHS");
const TEXT: usize = 16;

/// Why a publisher refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Refusal {
    /// It speaks another version of the protocol. The datagram's own version is the publisher's.
    Version = 1,
    /// This user may not connect.
    NotPermitted = 2,
    /// Try again: there are too many at once, or no descriptors at the moment.
    Busy = 3,
    /// Another instance than the wanted one listens here.
    WrongInstance = 4,
    /// A datagram broke the protocol, or claimed a slot without holding its lock.
    Breach = 5,
    /// There is no capability that both sides have.
    NothingInCommon = 6,
    /// All guest slots are taken.
    Full = 7,
    /// All slots are taken.
    NoSlot = 8,
    /// Another subscriber holds the durable name.
    NameTaken = 9,
    /// A code that this version does not know.
    Other = 0,
}

/// A decoded datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datagram {
    Hello { id: [u8; 16], capabilities: u64, pid: u32, start: u32, name: u64 },
    Segments { id: [u8; 16], capabilities: u64 },
    Claimed { slot: u32 },
    Doorbell { slot: u32 },
    Ack,
    Refused { refusal: Refusal, version: u32, text: String },
    Connect(Connect),
    Connected(Connected),
    Streamed { client_ring: u64, server_ring: u64 },
    Stream { id: [u8; 16], capabilities: u64, begin: Begin },
    Join { id: [u8; 16] },
    Table { id: [u8; 16] },
}

/// What a client asks a server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) id: [u8; 16],
    pub(crate) capabilities: u64,
    pub(crate) pid: u32,
    /// How many bytes the client wants for the ring that it writes. 0: the server chooses.
    pub(crate) client_ring: u64,
    /// How many bytes the client wants for the ring that the server writes. 0: the server chooses.
    pub(crate) server_ring: u64,
}

/// What a server made for a client. The descriptors come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) nonce: [u8; 16],
    pub(crate) client_ring: u64,
    pub(crate) server_ring: u64,
    /// It is 0 on a guest's terms, and so is the next one.
    pub(crate) server_bell: u64,
    pub(crate) client_bell: u64,
    /// The terms on which it was made.
    pub(crate) capabilities: u64,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) slot: u32,
    pub(crate) position: u64,
    pub(crate) joined: u64,
    pub(crate) next_sequence: Option<u64>,
    /// Set if the client gave a durable name.
    pub(crate) kept: Option<Kept>,
}

/// What a publisher has kept under a durable name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) found: Position,
    /// Messages before this sequence are not wanted.
    pub(crate) wanted_from: u64,
    /// Messages before this sequence may have been seen.
    pub(crate) redelivered_below: u64,
}

impl Kept {
    fn code(self) -> u32 {
        match self.found {
            Position::New => 1,
            Position::Resumed => 2,
            Position::Lost => 3,
        }
    }
}

/// Why a datagram could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not one of this protocol. It is dropped without an answer.
    Garbage,
    /// It is one of this protocol, in another version.
    Version(u32),
}

impl Datagram {
    /// The bytes to send.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = match self {
            Datagram::Refused { .. } => LONGEST,
            Datagram::Stream { .. } => STREAM_LENGTH,
            _ => LENGTH,
        };
        let mut bytes = vec![0; length];
        put(&mut bytes, 0, &MAGIC.to_le_bytes());
        put(&mut bytes, 4, &(VERSION as u16).to_le_bytes());
        put(&mut bytes, 6, &self.kind().to_le_bytes());
        match self {
            Datagram::Hello { id, capabilities, pid, start, name } => {
                put(&mut bytes, 8, id);
                put(&mut bytes, 24, &capabilities.to_le_bytes());
                put(&mut bytes, 32, &pid.to_le_bytes());
                put(&mut bytes, 36, &start.to_le_bytes());
                put(&mut bytes, 40, &name.to_le_bytes());
            }
            Datagram::Stream { id, capabilities, begin } => {
                put(&mut bytes, 8, id);
                put(&mut bytes, 24, &capabilities.to_le_bytes());
                put(&mut bytes, 32, &begin.position.to_le_bytes());
                put(&mut bytes, 40, &begin.joined.to_le_bytes());
                put(&mut bytes, 48, &begin.next_sequence.unwrap_or(u64::MAX).to_le_bytes());
                put(&mut bytes, 56, &begin.slot.to_le_bytes());
                if let Some(kept) = begin.kept {
                    put(&mut bytes, 60, &kept.code().to_le_bytes());
                    put(&mut bytes, 64, &kept.wanted_from.to_le_bytes());
                    put(&mut bytes, 72, &kept.redelivered_below.to_le_bytes());
                }
            }
            Datagram::Segments { id, capabilities } => {
                put(&mut bytes, 8, id);
                put(&mut bytes, 24, &capabilities.to_le_bytes());
            }
            Datagram::Claimed { slot } | Datagram::Doorbell { slot } => {
                put(&mut bytes, 8, &slot.to_le_bytes())
            }
            Datagram::Ack => {}
            Datagram::Join { id } | Datagram::Table { id } => put(&mut bytes, 8, id),
            Datagram::Connect(connect) => {
                put(&mut bytes, 8, &connect.id);
                put(&mut bytes, 24, &connect.capabilities.to_le_bytes());
                put(&mut bytes, 32, &connect.pid.to_le_bytes());
                put(&mut bytes, 40, &connect.client_ring.to_le_bytes());
                put(&mut bytes, 48, &connect.server_ring.to_le_bytes());
            }
            Datagram::Connected(connected) => {
                put(&mut bytes, 8, &connected.nonce);
                put(&mut bytes, 24, &connected.client_ring.to_le_bytes());
                put(&mut bytes, 32, &connected.server_ring.to_le_bytes());
                put(&mut bytes, 40, &connected.server_bell.to_le_bytes());
                put(&mut bytes, 48, &connected.client_bell.to_le_bytes());
                put(&mut bytes, 56, &connected.capabilities.to_le_bytes());
            }
            Datagram::Streamed { client_ring, server_ring } => {
                put(&mut bytes, 24, &client_ring.to_le_bytes());
                put(&mut bytes, 32, &server_ring.to_le_bytes());
            }
            Datagram::Refused { refusal, text, .. } => {
                let end = (0..=text.len().min(LONGEST - TEXT))
                    .rev()
                    .find(|end| text.is_char_boundary(*end))
                    .unwrap_or(0);
                put(&mut bytes, 8, &(*refusal as u32).to_le_bytes());
                put(&mut bytes, 12, &(end as u32).to_le_bytes());
                put(&mut bytes, TEXT, &text.as_bytes()[..end]);
            }
        }
        bytes
    }

    /// Decodes a datagram. It trusts no length. A text keeps no byte that could move a terminal's cursor.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Datagram, Fault> {
        if bytes.len() < 8 || number::<4>(bytes, 0) != u64::from(MAGIC) {
            return Err(Fault::Garbage);
        }
        let (version, kind) = (number::<2>(bytes, 4) as u32, number::<2>(bytes, 6) as u16);
        if kind == 6 && bytes.len() == LONGEST {
            return Ok(Datagram::Refused {
                refusal: Refusal::of(number::<4>(bytes, 8) as u32),
                version,
                text: text(&bytes[TEXT..], number::<4>(bytes, 12) as usize),
            });
        }
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        if bytes.len() != if kind == 10 { STREAM_LENGTH } else { LENGTH } {
            return Err(Fault::Garbage);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[8..24]);
        let (capabilities, slot) = (number::<8>(bytes, 24), number::<4>(bytes, 8) as u32);
        match kind {
            1 => {
                let (pid, start) = (number::<4>(bytes, 32) as u32, number::<4>(bytes, 36) as u32);
                let name = number::<8>(bytes, 40);
                Ok(Datagram::Hello { id, capabilities, pid, start, name })
            }
            2 => Ok(Datagram::Segments { id, capabilities }),
            3 => Ok(Datagram::Claimed { slot }),
            4 => Ok(Datagram::Doorbell { slot }),
            5 => Ok(Datagram::Ack),
            7 => Ok(Datagram::Connect(Connect {
                id,
                capabilities,
                pid: number::<4>(bytes, 32) as u32,
                client_ring: number::<8>(bytes, 40),
                server_ring: number::<8>(bytes, 48),
            })),
            8 => Ok(Datagram::Connected(Connected {
                nonce: id,
                client_ring: number::<8>(bytes, 24),
                server_ring: number::<8>(bytes, 32),
                server_bell: number::<8>(bytes, 40),
                client_bell: number::<8>(bytes, 48),
                capabilities: number::<8>(bytes, 56),
            })),
            10 => {
                let next_sequence = Some(number::<8>(bytes, 48)).filter(|sequence| *sequence != u64::MAX);
                let (position, joined) = (number::<8>(bytes, 32), number::<8>(bytes, 40));
                let slot = number::<4>(bytes, 56) as u32;
                let (wanted_from, redelivered_below) = (number::<8>(bytes, 64), number::<8>(bytes, 72));
                let kept = |found| Some(Kept { found, wanted_from, redelivered_below });
                let kept = match number::<4>(bytes, 60) {
                    0 => None,
                    1 => kept(Position::New),
                    2 => kept(Position::Resumed),
                    3 => kept(Position::Lost),
                    _ => return Err(Fault::Garbage),
                };
                let begin = Begin { slot, position, joined, next_sequence, kept };
                Ok(Datagram::Stream { id, capabilities, begin })
            }
            11 => Ok(Datagram::Streamed {
                client_ring: number::<8>(bytes, 24),
                server_ring: number::<8>(bytes, 32),
            }),
            12 => Ok(Datagram::Join { id }),
            13 => Ok(Datagram::Table { id }),
            _ => Err(Fault::Garbage),
        }
    }

    /// Whether the datagram asks for another instance than this one. A socket whose name has no instance serves any
    /// instance.
    pub(super) fn wants_another(&self, instance: Option<[u8; 16]>) -> bool {
        match self {
            Datagram::Hello { id, .. } | Datagram::Connect(Connect { id, .. }) | Datagram::Join { id } => {
                instance.is_some_and(|instance| instance != *id)
            }
            _ => false,
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Datagram::Hello { .. } => 1,
            Datagram::Segments { .. } => 2,
            Datagram::Claimed { .. } => 3,
            Datagram::Doorbell { .. } => 4,
            Datagram::Ack => 5,
            Datagram::Refused { .. } => 6,
            Datagram::Connect(_) => 7,
            Datagram::Connected(_) => 8,
            Datagram::Stream { .. } => 10,
            Datagram::Streamed { .. } => 11,
            Datagram::Join { .. } => 12,
            Datagram::Table { .. } => 13,
        }
    }
}

impl Refusal {
    fn of(code: u32) -> Refusal {
        use Refusal::{
            Breach, Busy, Full, NameTaken, NoSlot, NotPermitted, NothingInCommon, Other, Version,
            WrongInstance,
        };
        [Version, NotPermitted, Busy, WrongInstance, Breach, NothingInCommon, Full, NoSlot, NameTaken]
            .into_iter()
            .find(|refusal| *refusal as u32 == code)
            .unwrap_or(Other)
    }
}

/// The 16 bytes of an instance's id, which is written as 32 hex digits.
pub(crate) fn id_bytes(id: &str) -> Option<[u8; 16]> {
    let digits = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(id, 16).ok())?.map(u128::to_be_bytes)
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn number<const SIZE: usize>(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + SIZE].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn text(bytes: &[u8], length: usize) -> String {
    let lossy = String::from_utf8_lossy(&bytes[..length.min(bytes.len())]);
    lossy.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Datagram> {
        vec![
            Datagram::Hello { id: [7; 16], capabilities: SHARED_MEMORY, pid: 42, start: 1, name: u64::MAX },
            Datagram::Segments { id: [9; 16], capabilities: u64::MAX },
            Datagram::Claimed { slot: 3 },
            Datagram::Doorbell { slot: 1023 },
            Datagram::Ack,
            Datagram::Refused { refusal: Refusal::Busy, version: VERSION, text: "später".into() },
            Datagram::Connect(Connect {
                id: [7; 16],
                capabilities: SHARED_MEMORY,
                pid: 42,
                client_ring: 4096,
                server_ring: 1 << 30,
            }),
            Datagram::Connected(Connected {
                nonce: [9; 16],
                client_ring: 65_536,
                server_ring: 4096,
                server_bell: 3,
                client_bell: u64::MAX,
                capabilities: SHARED_MEMORY | GUEST,
            }),
            Datagram::Stream {
                id: [9; 16],
                capabilities: STREAM,
                begin: Begin {
                    slot: 7,
                    position: 8,
                    joined: 1 << 40,
                    next_sequence: Some(3),
                    kept: Some(Kept { found: Position::Lost, wanted_from: 5, redelivered_below: 1 << 50 }),
                },
            },
            Datagram::Streamed { client_ring: 4096, server_ring: 1 << 30 },
            Datagram::Join { id: [5; 16] },
            Datagram::Table { id: [6; 16] },
            Datagram::Stream {
                id: [9; 16],
                capabilities: STREAM,
                begin: Begin { slot: 0, position: 0, joined: 0, next_sequence: None, kept: None },
            },
        ]
    }

    #[test]
    fn encoded_values_decode_to_themselves() {
        for datagram in all() {
            assert_eq!(Datagram::decode(&datagram.encode()), Ok(datagram));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let hello = Datagram::Hello { id: [0xab; 16], capabilities: 1, pid: 0x0102, start: 1, name: 0x0304 };
        let bytes = hello.encode();
        assert_eq!(&bytes[..8], b"RBHS\x03\0\x01\0");
        assert_eq!((&bytes[8..24], bytes[24], &bytes[32..34]), (&[0xab; 16][..], 1, &[2, 1][..]));
        assert_eq!((bytes[36], &bytes[40..42]), (1, &[4, 3][..]));
        assert_eq!(bytes.len(), 64);
    }

    #[test]
    fn another_version_is_named_and_its_refusal_understood() {
        let mut hello = all()[0].encode();
        hello[4] = 9;
        assert_eq!(Datagram::decode(&hello), Err(Fault::Version(9)));
        assert_eq!(Datagram::decode(&hello[..8]), Err(Fault::Version(9)));
        let mut refused = all()[5].encode();
        refused[4] = 9;
        assert!(matches!(Datagram::decode(&refused), Ok(Datagram::Refused { version: 9, .. })));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = "ä".repeat(200);
        let refused = Datagram::Refused { refusal: Refusal::Breach, version: VERSION, text };
        let Ok(Datagram::Refused { text, .. }) = Datagram::decode(&refused.encode()) else { panic!() };
        assert_eq!(text, "ä".repeat(120));
    }

    #[test]
    fn ids_are_32_hex_digits() {
        assert_eq!(id_bytes("000102030405060708090a0b0c0d0e0f").unwrap()[15], 15);
        assert_eq!(id_bytes("+0102030405060708090a0b0c0d0e0f"), None);
        assert_eq!(id_bytes("ä"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Datagram::decode(&bytes);
        }

        #[test]
        fn no_body_is_too_strange(kind in 0u8..13, length in 0usize..3, body in proptest::collection::vec(any::<u8>(), 248)) {
            let mut bytes = b"RBHS\x03\0".to_vec();
            bytes.extend([kind, 0]);
            bytes.extend(&body);
            bytes.truncate([LENGTH, STREAM_LENGTH, LONGEST][length]);
            if let Ok(Datagram::Refused { text, .. }) = Datagram::decode(&bytes) {
                prop_assert!(text.chars().all(|c| !c.is_control()));
            }
        }
    }
}
