/** Names of services, the rule in one place. Patterns are the core's to judge. */
import { inspect } from 'node:util'
import { RingbellError } from './errors.js'

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/**
 * Only that it is text: the core says what is wrong with it.
 *
 * @throws {RingbellError} `ERR_RINGBELL_INVALID_NAME`.
 */
export function checkPattern(pattern: unknown): asserts pattern is string {
  if (typeof pattern === 'string') return
  throw new RingbellError('ERR_RINGBELL_INVALID_NAME', `${inspect(pattern)} is no name or pattern of topics.`)
}

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_NAME` with the name and the rule. */
export function checkName(name: unknown, what: string): asserts name is string {
  if (typeof name === 'string' && NAME.test(name)) return
  throw new RingbellError(
    'ERR_RINGBELL_INVALID_NAME',
    `${inspect(name, { maxStringLength: 100 })} is no ${what}: it has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit.`,
  )
}
