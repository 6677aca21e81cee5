/** The codec for bytes as they are. It is the default and does no work: the `value` of a message is its `data`. */
import { isBytes } from '../brand.js'
import { reason, RingbellError } from '../errors.js'
import { shownValue } from '../invalid.js'
import { untransferable } from '../untransferable.js'
import type { Codec } from './codec.js'

/** The payload of messages without data. */
export const EMPTY: Uint8Array = untransferable(new Uint8Array(0))

/**
 * The one check of what is sent without a codec: on topics, in calls, in queues.
 *
 * @throws {RingbellError} `ERR_RINGBELL_CODEC` for everything but a `Uint8Array`.
 */
export function checkBytes(value: unknown): asserts value is Uint8Array {
  // A proxy of bytes is an instance of their class, and cannot be read.
  if (isBytes(value)) return
  throw new RingbellError(
    'ERR_RINGBELL_CODEC',
    `Without a codec only a Uint8Array can be sent, not ${shownValue(value)}. Give both sides a codec, such as codec: 'json'.`,
  )
}

/**
 * A copy of bytes that must not change any more. Not by `slice()`: that of a Buffer makes a view.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for memory that was transferred, or is out of bounds.
 */
export function copied(data: Uint8Array): Uint8Array {
  try {
    return new Uint8Array(data)
  } catch (cause) {
    throw unreadable(cause)
  }
}

function unreadable(cause: unknown): RingbellError {
  return new RingbellError('ERR_RINGBELL_INVALID_OPTION', `The bytes cannot be read: ${reason(cause)}`, { cause })
}

/**
 * A message, and the headers behind it.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`, as `copied`.
 */
export function joined(data: Uint8Array, headers: Uint8Array): Uint8Array {
  const both = new Uint8Array(data.byteLength + headers.byteLength)
  try {
    both.set(data)
  } catch (cause) {
    throw unreadable(cause)
  }
  both.set(headers, data.byteLength)
  return both
}

/** The codec `bytes`: a `Uint8Array` as it is. The default. */
export const bytes: Codec<Uint8Array> = {
  id: 'bytes',
  encode: (value) => value,
  decode: (data) => data,
}
