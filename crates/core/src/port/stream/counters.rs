//! What the publisher counts, as a stream carries it. It is for `stats()` alone; no decision depends on it.
//!
//! ```text
//! 0  u64 × 10  messages, payload bytes, full, dropped, rings, evicted, reaped, high water, fragments, floor
//! then for each slot in use, 56 bytes:
//! 0  u16 slot   2  u8 state   3  u8 rung, 128 more under a durable name   4  u32 pid
//! 8  u64 × 6  backlog, received, missed, wake-ups, messages not acknowledged, times that some were acknowledged
//! ```

use ringbell_ring::layout::MAX_SLOTS;
use ringbell_ring::{PublisherCounters, SlotState, SlotView};

use super::wire::number;

const TOTALS: usize = 10 * 8;
const SLOT: usize = 56;
const DURABLE: u8 = 128;
/// Bytes of the longest COUNTERS.
pub(super) const LONGEST: usize = TOTALS + MAX_SLOTS * SLOT;

/// The body of COUNTERS.
pub(super) fn encode(counters: &PublisherCounters, slots: &[SlotView]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TOTALS + slots.len() * SLOT);
    let totals = [
        counters.messages,
        counters.bytes,
        counters.full,
        counters.dropped,
        counters.rings,
        counters.evicted,
        counters.reaped,
        counters.high_water,
        counters.fragments,
        counters.floor,
    ];
    bytes.extend(totals.into_iter().flat_map(u64::to_le_bytes));
    for slot in slots {
        let durable = if slot.name_hash == 0 { 0 } else { DURABLE };
        bytes.extend((slot.index as u16).to_le_bytes());
        bytes.extend([slot.state as u8, slot.way as u8 & !DURABLE | durable]);
        bytes.extend(slot.pid.to_le_bytes());
        let figures = [slot.backlog, slot.received, slot.missed, slot.wakeups, slot.pending, slot.flushed];
        bytes.extend(figures.into_iter().flat_map(u64::to_le_bytes));
    }
    bytes
}

/// `None` when the length is not that of `count` slots.
pub(super) fn decode(head: u64, count: u32, bytes: &[u8]) -> Option<(PublisherCounters, Vec<SlotView>)> {
    let count = count as usize;
    if count > MAX_SLOTS || bytes.len() != TOTALS + count * SLOT {
        return None;
    }
    let total = |index: usize| number(bytes, 8 * index);
    let counters = PublisherCounters {
        messages: total(0),
        bytes: total(1),
        full: total(2),
        dropped: total(3),
        rings: total(4),
        evicted: total(5),
        reaped: total(6),
        high_water: total(7),
        fragments: total(8),
        floor: total(9),
        head,
        closed: false,
    };
    let slots = bytes[TOTALS..].chunks_exact(SLOT).map(|slot| {
        let (first, rung) = (number(slot, 0), slot[3]);
        SlotView {
            index: first as u16 as usize,
            state: SlotState::of(first >> 16),
            backlog: number(slot, 8),
            received: number(slot, 16),
            missed: number(slot, 24),
            wakeups: number(slot, 32),
            // Only whether there is a name is told. The name itself is not for other subscribers.
            name_hash: (rung & DURABLE).into(),
            pending: number(slot, 40),
            flushed: number(slot, 48),
            redelivered: 0,
            pid: (first >> 32) as u32,
            way: (rung & !DURABLE).into(),
        }
    });
    Some((counters, slots.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_values_decode_to_themselves() {
        let counters = PublisherCounters { messages: 1, full: 3, floor: 9, head: 10, ..Default::default() };
        let slot = |index| SlotView {
            index,
            state: SlotState::Active,
            backlog: 2,
            received: 3,
            missed: 4,
            wakeups: 5,
            name_hash: if index == 0 { 0 } else { DURABLE.into() },
            pending: 7,
            flushed: 8,
            redelivered: 0,
            pid: 6,
            way: 3,
        };
        let slots = vec![slot(0), slot(1023)];
        let bytes = encode(&counters, &slots);
        assert!(bytes.len() <= LONGEST);
        assert_eq!(decode(10, 2, &bytes), Some((counters, slots)));
        assert_eq!(decode(10, 1, &bytes), None);
        assert_eq!(decode(10, u32::MAX, &bytes), None);
    }
}
