/** A codec that has only an id: the bytes are encoded already, and pass unchanged. */
import type { Codec } from '../index.js'

export function rawCodec(id: string): Codec<Uint8Array> {
  return { id, encode: (bytes) => bytes, decode: (bytes) => bytes }
}
