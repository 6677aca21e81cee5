/** The arguments `(callback)` and `(options, callback)`. */
import { invalid } from '../invalid.js'

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION` unless the last one is a function. */
export function callbackOf<O extends object, A>(
  first: unknown,
  second: unknown,
): [options: O, callback: (value: A) => unknown] {
  const [options, callback] = typeof first === 'function' && second === undefined ? [{}, first] : [first ?? {}, second]
  if (typeof callback !== 'function') throw invalid('callback', callback, 'must be a function')
  return [options as O, callback as (value: A) => unknown]
}
