//! What travels over a stream after STREAM was received, byte by byte. Every number is little endian.
//!
//! ```text
//! all       0  u32  kind     4  u32  detail     8  u64  position
//! BYTES     1  from the publisher; detail 0; the ring's bytes from the position on follow: a multiple of 8,
//!              at most 65,520
//! END       2  from the publisher; detail: 0 closed, 1 evicted, 2 expelled; the position is where the stream ends
//! COUNTERS  3  from the publisher; detail: how many slots follow; the position is `head` (see `counters`)
//! REPORT    4  from the subscriber; detail: 1 asks for COUNTERS, 2 gives up the durable position; the position is
//!              its cursor
//!              16  u64  messages received     24  u64  messages missed     32  u64  wake-ups
//!              40  u64  sequence after the last message delivered
//!              48  u64  sequence of the first message not acknowledged, 2^64 - 1 if unknown
//!              56  u64  times that it acknowledged apart from reading     64  u64  messages delivered again
//! ```
//!
//! The position of BYTES is where the BYTES before it ended, or later. If it is later, what lies between was
//! overwritten, and a batch begins at the position. A datagram of another kind or length ends the connection.

use ringbell_ring::Report;

/// Length of the head that every datagram begins with.
pub(super) const HEAD: usize = 16;
/// The longest datagram.
pub(super) const LONGEST: usize = 64 << 10;
/// The most bytes of the ring in one datagram.
pub(super) const PIECE: usize = LONGEST - HEAD;
/// Bytes of REPORT.
pub(super) const REPORT: usize = 72;

pub(super) const BYTES: u32 = 1;
pub(super) const END: u32 = 2;
pub(super) const COUNTERS: u32 = 3;
const KIND_REPORT: u32 = 4;
const UNKNOWN: u64 = u64::MAX;

/// What a REPORT asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Request {
    Nothing = 0,
    Counters = 1,
    /// That the durable position is given up, because the subscriber leaves.
    Forget = 2,
}

impl Request {
    fn of(detail: u32) -> Option<Request> {
        [Request::Nothing, Request::Counters, Request::Forget]
            .into_iter()
            .find(|request| *request as u32 == detail)
    }
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Ending {
    Closed = 0,
    Evicted = 1,
    Expelled = 2,
}

impl Ending {
    pub(super) fn of(detail: u32) -> Option<Ending> {
        [Ending::Closed, Ending::Evicted, Ending::Expelled]
            .into_iter()
            .find(|ending| *ending as u32 == detail)
    }
}

/// The first bytes of every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: u32,
    pub(super) detail: u32,
    pub(super) position: u64,
}

impl Head {
    pub(super) fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.detail.to_le_bytes());
        bytes[8..].copy_from_slice(&self.position.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEAD]) -> Head {
        let first = number(bytes, 0);
        Head { kind: first as u32, detail: (first >> 32) as u32, position: number(bytes, 8) }
    }
}

/// A REPORT.
pub(super) fn encode_report(report: &Report, request: Request) -> [u8; REPORT] {
    let mut bytes = [0; REPORT];
    let head = Head { kind: KIND_REPORT, detail: request as u32, position: report.cursor }.encode();
    bytes[..HEAD].copy_from_slice(&head);
    let figures = [
        report.received,
        report.missed,
        report.wakeups,
        report.delivered,
        report.acknowledged.unwrap_or(UNKNOWN),
        report.flushed,
        report.redelivered,
    ];
    for (at, figure) in figures.into_iter().enumerate() {
        bytes[HEAD + 8 * at..HEAD + 8 * at + 8].copy_from_slice(&figure.to_le_bytes());
    }
    bytes
}

/// Decodes a REPORT. `None`: the bytes are not a REPORT.
pub(super) fn decode_report(bytes: &[u8]) -> Option<(Report, Request)> {
    let bytes: &[u8; REPORT] = bytes.try_into().ok()?;
    let head = Head::decode(bytes.first_chunk()?);
    let request = Request::of(head.detail).filter(|_| head.kind == KIND_REPORT)?;
    let report = Report {
        cursor: head.position,
        received: number(bytes, 16),
        missed: number(bytes, 24),
        wakeups: number(bytes, 32),
        delivered: number(bytes, 40),
        acknowledged: Some(number(bytes, 48)).filter(|sequence| *sequence != UNKNOWN),
        flushed: number(bytes, 56),
        redelivered: number(bytes, 64),
    };
    Some((report, request))
}

/// The word at `at`, or 0 behind the end.
pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            cursor: 0x0102,
            received: 3,
            missed: 4,
            wakeups: 5,
            delivered: 9,
            acknowledged: Some(6),
            flushed: 7,
            redelivered: 8,
        }
    }

    #[test]
    fn encoded_values_decode_to_themselves() {
        let head = Head { kind: BYTES, detail: 7, position: 1 << 40 };
        assert_eq!(Head::decode(&head.encode()), head);
        for request in [Request::Nothing, Request::Counters, Request::Forget] {
            for acknowledged in [None, Some(4)] {
                let report = Report { acknowledged, ..report() };
                assert_eq!(decode_report(&encode_report(&report, request)), Some((report, request)));
            }
        }
        assert_eq!(Ending::of(1), Some(Ending::Evicted));
        assert_eq!(Ending::of(3), None);
    }

    #[test]
    fn the_bytes_are_those_of_the_page() {
        let bytes = encode_report(&report(), Request::Counters);
        assert_eq!(&bytes[..10], &[4, 0, 0, 0, 1, 0, 0, 0, 2, 1]);
        assert_eq!((bytes[16], bytes[24], bytes[32]), (3, 4, 5));
        assert_eq!((bytes[40], bytes[48], bytes[56], bytes[64], bytes.len()), (9, 6, 7, 8, 72));
        let unknown = encode_report(&Report { acknowledged: None, ..report() }, Request::Forget);
        assert_eq!((unknown[4], &unknown[48..56]), (2, &[0xff; 8][..]));
    }

    #[test]
    fn a_malformed_report_is_not_decoded() {
        let report = encode_report(&Report::default(), Request::Nothing);
        assert_eq!(decode_report(&report[..REPORT - 1]), None);
        assert_eq!(decode_report(&[&report[..], &[0]].concat()), None);
        let mut other = report;
        other[0] = 1;
        assert_eq!(decode_report(&other), None);
        other = report;
        other[4] = 3;
        assert_eq!(decode_report(&other), None);
    }
}
