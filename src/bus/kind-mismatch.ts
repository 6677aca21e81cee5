/**
 * Who announces a name, but as something else than what is waited for: a topic where a server is to be called, for one. It
 * ends no wait, since the right one may come yet; whoever has waited in vain is told.
 */
import type { AbortError } from '../errors.js'
import type { Service } from './service.js'

/** `process 12 announces 'ticks' as a topic, and not as a server`; nothing if somebody is what is wanted, or nobody is there. */
export function strangersAmong(services: Iterable<Service>, kind: string): string | undefined {
  const all = [...services]
  const [first] = all
  if (first === undefined || all.some((one) => one.kind === kind)) return undefined
  return `process ${first.pid} announces '${first.name}' as a ${first.kind}, and not as a ${kind}`
}

/** The same error, which says so. */
export function withStrangers(error: AbortError, strangers: string | undefined): AbortError {
  if (strangers !== undefined) error.message += `: ${strangers}`
  return error
}
