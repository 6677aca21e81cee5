/** The codec for bytes as they are. It is the default and does no work: the `value` of a message is its `data`. */
import { untransferable } from '../untransferable.js'
import type { Codec } from './codec.js'

/** The payload of messages without data. */
export const EMPTY: Uint8Array = untransferable(new Uint8Array(0))

/** The codec `bytes`: a `Uint8Array` as it is. The default. */
export const bytes: Codec<Uint8Array> = {
  id: 'bytes',
  encode: (value) => value,
  decode: (data) => data,
}
