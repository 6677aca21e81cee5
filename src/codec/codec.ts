/**
 * The interface of a codec. Its `id` is in the publisher's record. A subscriber that expects another id does not attach
 * (`'failed'` event), so bytes are never decoded by the wrong codec.
 */

/** Turns values into bytes and back. */
export interface Codec<T> {
  /** The id in the record, 1 to 64 characters. Codecs with the same id must be able to decode each other's bytes. */
  readonly id: string
  /**
   * The bytes of a value. They are copied into the ring before the next call, so an encoder may return the same
   * buffer each time.
   */
  encode(value: T): Uint8Array
  /** The value of some bytes. No process writes to them while this runs. */
  decode(bytes: Uint8Array): T
}
