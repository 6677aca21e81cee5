/**
 * The structured clone format of `node:v8`: Map, Set, Date, BigInt, typed arrays, cycles. The receiver must run Node,
 * and its V8 must know the format of the sender's V8. Do not use it for bytes from a process that you do not trust.
 */
import { deserialize, serialize } from 'node:v8'
import type { Codec } from './codec.js'

/** The codec `structured`: every value that the structured clone algorithm of `node:v8` can carry. */
export const structured: Codec<unknown> = {
  id: 'structured',
  encode: (value) => serialize(value),
  decode: (data) => deserialize(data) as unknown,
}
