/** Bytes as they are: the default, and no work at all. A message's `value` is its `data`. */
import type { Codec } from './codec.js'

export const bytes: Codec<Uint8Array> = {
  id: 'bytes',
  encode: (value) => value,
  decode: (data) => data,
}
