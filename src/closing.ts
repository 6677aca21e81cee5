/**
 * Ending something takes several steps: readers are told, the poller forgets it, its native object is closed. A step may
 * throw, because the binding or user code does, and the others must run all the same: a wait that is skipped would never
 * end, and a native object that is skipped would stay announced. Everything that closes uses this.
 */
import { debug } from './diagnostics.js'
import { fromNative } from './errors.js'

/** Runs every step, in order. Then it throws the first error, as an error of the library; further ones are logged. */
export function inSteps(...steps: readonly (() => void)[]): void {
  const errors = steps.map(failureOf).filter((error) => error !== undefined)
  const [first, ...others] = errors
  for (const other of others) debug('closing: %s', other)
  if (errors.length > 0) throw first
}

/** What `step` throws, as an error of the library; `undefined` if it throws nothing. User code may throw `undefined` itself. */
export function failureOf(step: () => void): unknown {
  try {
    step()
    return undefined
  } catch (error) {
    return error === undefined ? new TypeError('undefined was thrown') : fromNative(error)
  }
}

/** Closes what was opened for something that then failed with this error. The error of closing must not replace it. */
export function closedAfter(error: unknown, opened: { close(): void }): unknown {
  const second = failureOf(() => opened.close())
  if (second !== undefined) debug('closing after a failure: %s', second)
  return fromNative(error)
}
