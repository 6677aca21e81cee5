/** A codec by its id alone: what comes from the outside is encoded already, and goes out as it came. */
import type { Codec } from '../index.js'

export function rawCodec(id: string): Codec<Uint8Array> {
  return { id, encode: (bytes) => bytes, decode: (bytes) => bytes }
}
