/** Bytes as they are: the default, and no work at all. A message's `value` is its `data`. */
import type { Codec } from './codec.js'

/** The codec `bytes`: a `Uint8Array` as it is. The default. */
export const bytes: Codec<Uint8Array> = {
  id: 'bytes',
  encode: (value) => value,
  decode: (data) => data,
}
