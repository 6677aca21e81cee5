/**
 * What a codec is. Its `id` stands in the publisher's record, and a subscriber that expects another one never attaches
 * (`'failed'` event), so bytes are never decoded by the wrong rules.
 */

/** Turns values into bytes and back. */
export interface Codec<T> {
  /** Stands in the record, 1 to 64 characters. Two codecs with one id must understand each other. */
  readonly id: string
  /**
   * The bytes of a value. They are copied into the ring before the next call, so an encoder may return the same
   * buffer each time.
   */
  encode(value: T): Uint8Array
  /** The value of some bytes. They are the caller's own: nobody writes to them while this runs. */
  decode(bytes: Uint8Array): T
}
