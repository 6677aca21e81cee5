/**
 * Payloads as text, for a shell. A `structured` value is JSON here, or the output of Node's `inspect` if JSON cannot carry
 * it. The bytes of every other codec pass unchanged: JSON is text already.
 */
import { isUtf8 } from 'node:buffer'
import { inspect, isDeepStrictEqual } from 'node:util'
import { type Codec, structured } from '../index.js'
import { CommandError } from './exit-codes.js'

/** A codec of this id whose values are text. */
export function shellCodec(id: string): Codec<Uint8Array> {
  if (id !== structured.id) return { id, encode: (text) => text, decode: (bytes) => bytes }
  return {
    id,
    encode: (text) => structured.encode(checkJson(text, structured.id)),
    decode: (bytes) => textOf(structured.decode(bytes)),
  }
}

/** For `--json`: the value if the text is JSON of such a codec, the text if it is UTF-8, otherwise base64. */
export function payloadFields(text: Buffer, codec: string): { value: unknown } | { text: string } | { base64: string } {
  if (!isUtf8(text)) return { base64: text.toString('base64') }
  const string = text.toString('utf8')
  if (codec !== 'json' && codec !== structured.id) return { text: string }
  try {
    return { value: JSON.parse(string) as unknown }
  } catch {
    return { text: string }
  }
}

/** The value of text that must be JSON, because others decode it with this codec. */
export function checkJson(text: Uint8Array, codec: string): unknown {
  try {
    return JSON.parse(Buffer.from(text).toString('utf8')) as unknown
  } catch (cause) {
    throw new CommandError('ERR_INVALID_JSON', `A value of the codec ${codec} must be given as JSON`, { cause })
  }
}

function textOf(value: unknown): Buffer {
  const json = jsonText(value)
  return Buffer.from(json ?? inspect(value, { ...WHOLE, breakLength: Infinity, compact: true }))
}

const WHOLE = { depth: Infinity, maxArrayLength: null, maxStringLength: null }

/** A value as JSON, if JSON carries all of it. */
function jsonText(value: unknown): string | undefined {
  try {
    const text = JSON.stringify(value) as string | undefined
    return text !== undefined && isDeepStrictEqual(JSON.parse(text), value) ? text : undefined
  } catch {
    // A BigInt or a cycle.
    return undefined
  }
}
