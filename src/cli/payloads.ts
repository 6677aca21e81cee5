/**
 * Payloads as a shell sees them: text. What a peer encodes as `structured` is JSON here, or what Node's `inspect` makes of it where
 * JSON cannot carry it. The bytes of every other codec come and go as they are: JSON is text already.
 */
import { isUtf8 } from 'node:buffer'
import { inspect, isDeepStrictEqual } from 'node:util'
import { type Codec, structured } from '../index.js'
import { CommandError } from './exit-codes.js'

/** The codec of this id, between text and what the peer speaks. */
export function shellCodec(id: string): Codec<Uint8Array> {
  if (id !== structured.id) return { id, encode: (text) => text, decode: (bytes) => bytes }
  return { id, encode: (text) => structured.encode(parsed(text)), decode: (bytes) => textOf(structured.decode(bytes)) }
}

/** For `--json`: the value where the text is JSON, the text where it is some, base64 otherwise. */
export function jsonOf(text: Buffer, codec: string): { value: unknown } | { text: string } | { base64: string } {
  if (!isUtf8(text)) return { base64: text.toString('base64') }
  const string = text.toString('utf8')
  if (codec !== 'json' && codec !== structured.id) return { text: string }
  try {
    return { value: JSON.parse(string) as unknown }
  } catch {
    return { text: string }
  }
}

function parsed(text: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(text).toString('utf8')) as unknown
  } catch (cause) {
    throw new CommandError('ERR_INVALID_JSON', `Values of the codec ${structured.id} are given as JSON`, { cause })
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
    // BigInts and circles.
    return undefined
  }
}
