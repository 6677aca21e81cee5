/** The options of `bus.announce` that the core does not know: servers among the endpoints, tags, and the health check. */
import type { Server } from 'node:net'
import { anything, duration, integer, LONGEST_MS, nested, type Rule, type Rules } from '../check.js'
import { invalid } from '../invalid.js'
import { addressOf, isServer } from './address.js'

/** Where an endpoint is: a server of `node:net` or `node:http`, a path (`/…` or `./…`), a URL, or any other text. */
export type EndpointAddress = Server | string

/** How an announced service is checked, again and again. */
export interface HealthOptions {
  /**
   * Says whether the service is well, by `true` or nothing. `false`, an error, and no answer in time say that it is not. By
   * default: every endpoint with a path or a port accepts a connection.
   */
  check?: ((signal: AbortSignal) => unknown) | undefined
  /** Milliseconds between two checks, 5,000 by default. */
  interval?: number | undefined
  /** Milliseconds that a check may take, 2,000 by default. */
  timeout?: number | undefined
  /** After so many failures in a row others do not choose it any more; 2 by default. */
  failures?: number | undefined
}

/** What the record's `metadata.health` says of an announcement with a health check. */
export type Health = 'passing' | 'failing'

const MILLISECONDS = duration(1, LONGEST_MS, 'milliseconds')
const HEALTH = nested('health', {
  check: (value) => (typeof value === 'function' ? undefined : 'must be a function'),
  interval: MILLISECONDS,
  timeout: MILLISECONDS,
  failures: integer(1, 1000),
})
const TAG = /^\S{1,64}$/

const tags: Rule = (value) =>
  Array.isArray(value) && value.every((tag) => typeof tag === 'string' && TAG.test(tag))
    ? undefined
    : 'must be a list of words of 1 to 64 characters'

/** The core checks the texts. */
export const OFFER: Rules = {
  endpoints: anything,
  tags,
  health: (value) => (typeof value === 'boolean' ? undefined : HEALTH(value)),
}

/** The endpoints apart: texts as addresses, and servers. @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function endpointsOf(endpoints: unknown): { addresses: Record<string, unknown>; servers: [string, Server][] } {
  const addresses: Record<string, unknown> = {}
  const servers: [string, Server][] = []
  if (endpoints === undefined) return { addresses, servers }
  if (typeof endpoints !== 'object' || endpoints === null || Array.isArray(endpoints) || isServer(endpoints))
    throw invalid('endpoints', endpoints, 'must be an object of servers, paths or URLs by name')
  for (const [name, value] of Object.entries(endpoints)) {
    if (isServer(value)) servers.push([name, value])
    else addresses[name] = typeof value === 'string' ? addressOf(value) : value
  }
  return { addresses, servers }
}
