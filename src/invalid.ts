/** The error for a wrong option or argument: its path, the value and what is allowed, in the words of the core's own errors. */
import { inspect } from 'node:util'
import { RingbellError } from './errors.js'

/** How many characters of a wrong value an error shows. */
const MOST_SHOWN = 100

/** `rule` goes on after `it`, such as `must be a string`. */
export function invalid(name: string, value: unknown, rule: string, cause?: unknown): RingbellError {
  return new RingbellError(
    'ERR_RINGBELL_INVALID_OPTION',
    `Option ${name} has the wrong value ${shownValue(value)}: it ${rule}.`,
    cause === undefined ? {} : { cause },
  )
}

/** A value of the user, short and on one line. It may be a proxy or have getters that throw, so showing it must not throw. */
export function shownValue(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > MOST_SHOWN ? `${value.slice(0, MOST_SHOWN)}…` : value)
  try {
    const shown = inspect(value, { depth: 1, maxStringLength: MOST_SHOWN, maxArrayLength: 5, breakLength: Infinity })
    const [first = '', ...more] = shown.split('\n')
    return more.length === 0 ? first : `${first} …`
  } catch {
    return typeof value
  }
}
