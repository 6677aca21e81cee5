/**
 * Finds a name that is announced as another kind than the wanted one: as a topic, for example, when a client waits for
 * a server. This ends no wait, because the right service may still come. If the wait ends without a result, its error
 * says so.
 */
import type { AbortError } from '../errors.js'
import type { Service } from './service.js'

/**
 * `process 12 announces 'ticks' as a topic, and not as a server`; `undefined` if a service has the wanted kind, or
 * there is none.
 */
export function kindMismatch(services: Iterable<Service>, kind: string): string | undefined {
  const all = [...services]
  const [first] = all
  if (first === undefined || all.some((one) => one.kind === kind)) return undefined
  return `process ${first.pid} announces '${first.name}' as a ${first.kind}, and not as a ${kind}`
}

/** Adds the mismatch, or another reason why nothing came, to the message of the error. */
export function withMismatch(error: AbortError, mismatch: string | undefined): AbortError {
  if (mismatch !== undefined) error.message += `: ${mismatch}`
  return error
}
