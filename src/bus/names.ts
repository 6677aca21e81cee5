/** Names and patterns of services. This module checks that they are strings; the core checks the rest. */
import { inspect } from 'node:util'
import { failureOf } from '../closing.js'
import { RingbellError, translated } from '../errors.js'
import { binding } from '../native.js'

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_NAME`. */
export function checkText(name: unknown, what = 'name'): asserts name is string {
  if (typeof name === 'string') return
  throw new RingbellError('ERR_RINGBELL_INVALID_NAME', `${inspect(name)} is not a ${what}: it must be a string.`)
}

/**
 * For a name that is not passed to the core, or is passed to it as a pattern.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_NAME` with the name and the rule.
 */
export function checkName(name: unknown): asserts name is string {
  checkText(name)
  translated(() => binding().checkName(name))
}

/** Whether a service can have this name. */
export function isName(name: string): boolean {
  return failureOf(() => checkName(name)) === undefined
}
