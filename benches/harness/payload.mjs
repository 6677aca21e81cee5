// The payload that every benchmark sends, and the check that every receiver makes of every message:
// its length, its sequence number, its first and its last byte. benches/rust/src/payload.rs is the same.
//
// byte 0: low byte of the number · bytes 4..8: the number, little endian · last byte: low byte × 31 + 7.

export function template(size) {
  return new Uint8Array(size).fill(7)
}

export function stamp(bytes, offset, length, sequence) {
  bytes[offset] = sequence
  bytes[offset + 4] = sequence
  bytes[offset + 5] = sequence >>> 8
  bytes[offset + 6] = sequence >>> 16
  bytes[offset + 7] = sequence >>> 24
  bytes[offset + length - 1] = (sequence & 0xff) * 31 + 7
}

/** The number of a whole message; -1: it is damaged. */
export function numberOf(bytes, length) {
  const low = bytes[4]
  if (bytes.length !== length || bytes[0] !== low || bytes[length - 1] !== ((low * 31 + 7) & 0xff)) return -1
  return (low | (bytes[5] << 8) | (bytes[6] << 16) | (bytes[7] << 24)) >>> 0
}

export class Check {
  count = 0
  bad = 0
  lost = 0
  #expected = 0
  #size

  constructor(size) {
    this.#size = size
  }

  take(bytes, offset, length) {
    this.count++
    if (length !== this.#size) {
      this.bad++
      return
    }
    const low = bytes[offset + 4]
    const sequence = (low | (bytes[offset + 5] << 8) | (bytes[offset + 6] << 16) | (bytes[offset + 7] << 24)) >>> 0
    if (sequence !== this.#expected) this.lost += (sequence - this.#expected) >>> 0
    this.#expected = (sequence + 1) >>> 0
    if (bytes[offset] !== low || bytes[offset + length - 1] !== ((low * 31 + 7) & 0xff)) this.bad++
  }
}
