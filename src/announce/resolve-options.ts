/** The options of `bus.resolve`. */
import { check, checkArgument, oneOf, text } from '../check.js'
import type { EndpointRoute } from './offers.js'

/** How `bus.resolve` chooses. */
export interface ResolveOptions {
  /** `'round-robin'` (the default): one instance after the other. `'first'`: the one that has been there longest. */
  route?: EndpointRoute | undefined
}

const ENDPOINT = text(256)

/** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
export function checkResolve(endpoint: unknown, options: unknown): void {
  checkArgument('endpoint', endpoint, ENDPOINT)
  check(options, { route: oneOf('round-robin', 'first') })
}
