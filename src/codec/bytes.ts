/** The codec for bytes as they are. It is the default and does no work: the `value` of a message is its `data`. */
import { untransferable } from '../untransferable.js'
import { reason, RingbellError } from '../errors.js'
import type { Codec } from './codec.js'

/** The payload of messages without data. */
export const EMPTY = untransferable(new Uint8Array(0))

/**
 * A copy of bytes that must not change any more. Not by `slice()`: that of a Buffer makes a view.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for memory that was transferred, or is out of bounds.
 */
export function copied(data: Uint8Array): Uint8Array {
  try {
    return new Uint8Array(data)
  } catch (cause) {
    throw new RingbellError('ERR_RINGBELL_INVALID_OPTION', `The bytes cannot be read: ${reason(cause)}`, { cause })
  }
}

/** The codec `bytes`: a `Uint8Array` as it is. The default. */
export const bytes: Codec<Uint8Array> = {
  id: 'bytes',
  encode: (value) => value,
  decode: (data) => data,
}
