/** Bytes as they are: the default, and no work at all. A message's `value` is its `data`. */
import { untransferable } from '../untransferable.js'
import type { Codec } from './codec.js'

/** Where there is nothing to say. */
export const EMPTY = untransferable(new Uint8Array(0))

/** The codec `bytes`: a `Uint8Array` as it is. The default. */
export const bytes: Codec<Uint8Array> = {
  id: 'bytes',
  encode: (value) => value,
  decode: (data) => data,
}
