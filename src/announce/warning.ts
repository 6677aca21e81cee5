/** Tells of failures where nobody waits for the result: by a process warning, as everywhere in the library. */
import { reason } from '../errors.js'

export function warn(what: string, error: unknown): void {
  process.emitWarning(`${what}: ${reason(error)}`, { type: 'RingbellWarning', code: 'RINGBELL_FAILED' })
}
