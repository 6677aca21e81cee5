//! The payload that every benchmark sends, in Rust and in Node: its sequence number is checked, and its
//! first and last byte, which depend on it. `benches/harness/payload.mjs` is the same in JavaScript.
//!
//! byte 0: low byte of the number · bytes 4..8: the number, little endian · last byte: low byte × 31 + 7.

/// Stamps `sequence` into a message of at least 16 bytes.
#[inline]
pub fn stamp(message: &mut [u8], sequence: u32) {
    let last = message.len() - 1;
    message[0] = sequence as u8;
    message[4..8].copy_from_slice(&sequence.to_le_bytes());
    message[last] = (sequence as u8).wrapping_mul(31).wrapping_add(7);
}

/// The number of a message of at least 16 bytes. `None`: it is damaged.
#[inline]
pub fn number(message: &[u8]) -> Option<u32> {
    let sequence = u32::from_le_bytes([message[4], message[5], message[6], message[7]]);
    let low = sequence as u8;
    let whole = message[0] == low && message[message.len() - 1] == low.wrapping_mul(31).wrapping_add(7);
    whole.then_some(sequence)
}

/// What a receiver found out.
pub struct Check {
    size: usize,
    expected: u32,
    pub count: u64,
    pub bad: u64,
    pub lost: u64,
}

impl Check {
    pub fn new(size: usize) -> Self {
        Self { size, expected: 0, count: 0, bad: 0, lost: 0 }
    }

    #[inline]
    pub fn take(&mut self, message: &[u8]) {
        self.count += 1;
        if message.len() != self.size {
            self.bad += 1;
            return;
        }
        let sequence = u32::from_le_bytes([message[4], message[5], message[6], message[7]]);
        if sequence != self.expected {
            self.lost += u64::from(sequence.wrapping_sub(self.expected));
        }
        self.expected = sequence.wrapping_add(1);
        let low = sequence as u8;
        if message[0] != low || message[self.size - 1] != low.wrapping_mul(31).wrapping_add(7) {
            self.bad += 1;
        }
    }
}
