/**
 * What a value is, whatever realm it comes from. `instanceof` asks for the constructor of this realm, so it does not know a
 * `Uint8Array` of `node:vm` or of a test under Jest, nor an error that the binding made while such a test ran. These functions
 * recognise everything that a caller or the binding passes in.
 */
import { types } from 'node:util'

/** A `Uint8Array`, also a `Buffer` or another subclass. Neither a proxy of one nor an array of other elements. */
export function isBytes(value: unknown): value is Uint8Array {
  return types.isUint8Array(value)
}

/** An error. For a proxy this may run user code, and throw. */
export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error
}

/** Whether it is an `AbortSignal`: also one of jsdom, which is a class of its own. */
export function isSignal(value: unknown): value is AbortSignal {
  if (typeof value !== 'object' || value === null) return false
  const { aborted, addEventListener } = value as Partial<AbortSignal>
  return typeof aborted === 'boolean' && typeof addEventListener === 'function'
}
