/** JSON text in UTF-8. Encoding writes into one scratch buffer, which `send` copies before the next call. */
import { Buffer } from 'node:buffer'
import { untransferable } from '../untransferable.js'
import type { Codec } from './codec.js'

const SCRATCH_BYTES = 64 * 1024
/** A UTF-16 code unit takes at most three bytes of UTF-8. */
const MOST_BYTES_A_UNIT = 3

let scratch: Buffer | undefined

/** The codec `json`: every value that `JSON.stringify` can carry, as UTF-8. */
export const json: Codec<unknown> = {
  id: 'json',
  encode(value) {
    const text = JSON.stringify(value) as string | undefined
    if (text === undefined) throw new TypeError(`JSON cannot carry a value of type ${typeof value}`)
    if (text.length * MOST_BYTES_A_UNIT > SCRATCH_BYTES) return Buffer.from(text, 'utf8')
    scratch ??= untransferable(Buffer.allocUnsafeSlow(SCRATCH_BYTES))
    return scratch.subarray(0, scratch.write(text, 'utf8'))
  },
  decode(data) {
    return JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('utf8'))
  },
}
