/**
 * A name that is announced, but as another kind than is waited for: as a topic where a server is to be called, for one. It ends no wait,
 * because the right one may come yet. A wait that ends in vain says so in its error.
 */
import type { AbortError } from '../errors.js'
import type { Service } from './service.js'

/** `process 12 announces 'ticks' as a topic, and not as a server`; nothing if somebody is what is wanted, or nobody is there. */
export function kindMismatch(services: Iterable<Service>, kind: string): string | undefined {
  const all = [...services]
  const [first] = all
  if (first === undefined || all.some((one) => one.kind === kind)) return undefined
  return `process ${first.pid} announces '${first.name}' as a ${first.kind}, and not as a ${kind}`
}

/** The same error, which says so. */
export function withMismatch(error: AbortError, mismatch: string | undefined): AbortError {
  if (mismatch !== undefined) error.message += `: ${mismatch}`
  return error
}
