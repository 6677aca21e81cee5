/**
 * The built-in codecs by name, and the two calls through which the library uses a codec. They turn a codec's exception
 * into a `RingbellError`.
 */
import { types } from 'node:util'
import { isBytes } from '../brand.js'
import { reason, RingbellError } from '../errors.js'
import { invalid } from '../invalid.js'
import { bytes } from './bytes.js'
import type { Codec } from './codec.js'
import { json } from './json.js'
import { structured } from './structured.js'

export type { Codec } from './codec.js'
export { bytes, json, structured }

/** A built-in codec by its name. */
export type CodecName = 'bytes' | 'json' | 'structured'

/** The type of the option `codec`: a name, or a codec of your own. */
export type CodecOption<T = unknown> = CodecName | Codec<T>

/** A codec for values that are not bytes. The types of the values come from the schema beside it. */
export type ValueCodec = Exclude<CodecName, 'bytes'> | Codec<unknown>

const BUILT_IN: Readonly<Record<CodecName, Codec<unknown>>> = { bytes, json, structured }

const ID = /^[\x21-\x7e]{1,64}$/

/** The option `codec` of options that are not checked yet and may be anything. */
export function codecOf(options: unknown): CodecOption | undefined {
  return (options as { codec?: CodecOption } | null | undefined)?.codec
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` for an unknown name or an object that is not a codec. */
export function resolveCodec(option: CodecOption | undefined): Codec<unknown> {
  if (option === undefined) return bytes
  if (typeof option === 'string') {
    if (Object.hasOwn(BUILT_IN, option)) return BUILT_IN[option]
    throw invalid('codec', option, "must be 'bytes', 'json', 'structured' or an object { id, encode, decode }")
  }
  if (
    typeof option !== 'object' ||
    option === null ||
    typeof option.encode !== 'function' ||
    typeof option.decode !== 'function' ||
    typeof option.id !== 'string' ||
    !ID.test(option.id)
  ) {
    throw invalid(
      'codec',
      option,
      'must have encode(value), decode(bytes) and an id of 1 to 64 printable ASCII characters without spaces',
    )
  }
  return option
}

/** @throws {RingbellError} `ERR_RINGBELL_CODEC` with the codec's own error as `cause`. */
export function encodeWith(codec: Codec<unknown>, value: unknown): Uint8Array {
  let encoded: Uint8Array
  try {
    encoded = codec.encode(value)
  } catch (cause) {
    throw new RingbellError('ERR_RINGBELL_CODEC', `Codec ${codec.id} could not encode a value: ${reason(cause)}`, {
      cause,
    })
  }
  if (isBytes(encoded)) return encoded
  refusePromise(codec, encoded)
  throw new RingbellError(
    'ERR_RINGBELL_CODEC',
    `Codec ${codec.id} encoded a value as something else than a Uint8Array.`,
  )
}

/** @throws {RingbellError} `ERR_RINGBELL_CODEC` with the codec's own error as `cause`. */
export function decodeWith(codec: Codec<unknown>, data: Uint8Array): unknown {
  let value: unknown
  try {
    value = codec.decode(data)
  } catch (cause) {
    throw new RingbellError(
      'ERR_RINGBELL_CODEC',
      `Codec ${codec.id} could not decode ${data.byteLength} bytes: ${reason(cause)}`,
      { cause },
    )
  }
  if (typeof value === 'object') refusePromise(codec, value)
  return value
}

/** An asynchronous codec. Its promise is not awaited, so a rejection would end the process as an unhandled one. */
function refusePromise(codec: Codec<unknown>, value: unknown): void {
  if (!types.isPromise(value)) return
  value.catch(() => {})
  throw new RingbellError('ERR_RINGBELL_CODEC', `Codec ${codec.id} must answer at once, not with a promise.`)
}
