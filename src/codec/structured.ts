/**
 * The structured clone format of `node:v8`: Map, Set, Date, BigInt, typed arrays, cycles. Only for peers that run Node,
 * and no older than the sender's V8 expects; not for bytes from somebody you don't trust.
 */
import { deserialize, serialize } from 'node:v8'
import type { Codec } from './codec.js'

/** The codec `structured`: what the structured clone algorithm can carry, by `node:v8`. */
export const structured: Codec<unknown> = {
  id: 'structured',
  encode: (value) => serialize(value),
  decode: (data) => deserialize(data) as unknown,
}
