/**
 * Where the endpoints of a name are, and which one comes next. An answer from the cache takes no system call: what was computed counts as
 * long as the view of the bus has not changed. Endpoints whose record says that their health check fails are not chosen; those of
 * other machines are chosen only while this bus has none.
 */
import { nearestFirst, type Origin, type Service } from '../bus/service.js'
import type { Services } from '../bus/services.js'
import { type Choice, type Route, Routing } from '../channel/routing.js'
import { RingbellError } from '../errors.js'
import { type Target, targetOf } from './address.js'
import { LongPaths } from './long-paths.js'

/** How `resolve` chooses: `'round-robin'` takes one instance after the other, `'first'` the one that has been there longest. */
export type EndpointRoute = Extract<Route, 'first' | 'round-robin'>

type EveryRoute = Exclude<Route, 'primary'>

/** One endpoint of one instance. */
export interface Endpoint {
  /** The instance that announces it. */
  readonly service: Service
  /** Its name, such as `http`. */
  readonly endpoint: string
  /** Its address, as the record has it. */
  readonly address: string
  /** What `net.connect` and `http.request` take; absent: the address is neither `unix:` nor a URL with a host and a port. */
  readonly target?: Target
  /** Whether its health check passes; `true` without one. */
  readonly healthy: boolean
}

/** An endpoint among which is chosen. */
export class Offer implements Choice {
  readonly leaving = false
  readonly gone = undefined
  /** The calls under way, for those who count them. */
  calls: { readonly size: number } = NO_CALLS
  /** The same from one look at the bus to the next. */
  readonly key: string
  /** As of the last look. */
  target: Target
  /** Where its instance is; absent: on this bus. */
  readonly origin: Origin | undefined

  constructor(key: string, target: Target, origin: Origin | undefined) {
    this.key = key
    this.target = target
    this.origin = origin
  }
}

const NO_CALLS = { size: 0 }

/** What was computed for one name, endpoint and route. */
class Offers {
  /** The version of the view that it was computed from. */
  version = -1
  list: readonly Offer[] = []
  readonly routing: Routing<Offer>

  constructor(route: EveryRoute) {
    this.routing = new Routing(route)
  }
}

export class EndpointBook {
  readonly #services: Services
  readonly #paths: LongPaths
  /** By name and endpoint, for each route. Strings that are made for a look-up would cost more than the look-up. */
  readonly #offers: Readonly<Record<EveryRoute, Map<string, Map<string, Offers>>>> = {
    first: new Map(),
    'round-robin': new Map(),
    'least-busy': new Map(),
  }

  constructor(services: Services) {
    this.#services = services
    this.#paths = new LongPaths(() =>
      services
        .list()
        .flatMap(({ endpoints }) => Object.values(endpoints).map((address) => address.replace(/^unix:/, ''))),
    )
  }

  /**
   * The next endpoint of this name.
   *
   * @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND`, which says what is there instead.
   */
  next(name: string, endpoint: string, route: EveryRoute): Offer {
    const offers = this.#offers[route].get(name)?.get(endpoint) ?? this.#begin(name, endpoint, route)
    if (offers.version < 0 || offers.version !== this.#services.version) this.#refresh(offers, name, endpoint)
    const found = offers.routing.pick(offers.list)
    if (found !== undefined) return found
    // The view may not have heard of it yet.
    this.#refresh(offers, name, endpoint)
    const late = offers.routing.pick(offers.list)
    if (late !== undefined) return late
    // Names that nobody has must not fill the memory.
    this.#offers[route].delete(name)
    throw this.#nothing(name, endpoint)
  }

  /** All that can be chosen now: those of this bus first, each in the order in which they came. */
  choices(name: string, endpoint: string): Offer[] {
    return this.list(name, endpoint).flatMap(({ service, address, target, healthy }) =>
      target === undefined || !healthy
        ? []
        : [new Offer(`${service.id} ${endpoint} ${address}`, target, service.origin)],
    )
  }

  /** Every endpoint of this name, also those that are not chosen, in the same order. */
  list(name: string, endpoint?: string): Endpoint[] {
    return nearestFirst(this.#services.named(name)).flatMap((service) =>
      Object.entries(service.endpoints).flatMap(([key, address]) => {
        if (endpoint !== undefined && key !== endpoint) return []
        const target = this.#targetOf(address)
        const healthy = isHealthy(service)
        return [{ service, endpoint: key, address, ...(target === undefined ? {} : { target }), healthy }]
      }),
    )
  }

  close(): void {
    for (const names of Object.values(this.#offers)) names.clear()
    this.#paths.close()
  }

  #begin(name: string, endpoint: string, route: EveryRoute): Offers {
    const names = this.#offers[route]
    let endpoints = names.get(name)
    if (endpoints === undefined) names.set(name, (endpoints = new Map()))
    const offers = new Offers(route)
    endpoints.set(endpoint, offers)
    return offers
  }

  #refresh(offers: Offers, name: string, endpoint: string): void {
    const before = new Map(offers.list.map((offer) => [offer.key, offer]))
    const choices = this.choices(name, endpoint)
    // Those of other machines come last.
    const far = choices.findIndex(({ origin }) => origin !== undefined)
    offers.list = (far > 0 ? choices.slice(0, far) : choices).map((offer) => {
      const known = before.get(offer.key)
      if (known === undefined) return offer
      known.target = offer.target
      return known
    })
    // Only now: looking may have brought the view up to date.
    offers.version = this.#services.version
  }

  #targetOf(address: string): Target | undefined {
    const target = targetOf(address)
    if (target === undefined || !('socketPath' in target)) return target
    try {
      return Object.freeze({ socketPath: this.#paths.shortened(target.socketPath) })
    } catch {
      // Its directory has gone, or is not for us: who connects to it gets the reason.
      return target
    }
  }

  #nothing(name: string, endpoint: string): RingbellError {
    const there = this.#services.named(name)
    const some = this.list(name, endpoint)
    const others = [...new Set(there.flatMap(({ endpoints }) => Object.keys(endpoints)))]
    const [first] = some
    const why =
      there.length === 0
        ? `No process announces '${name}'; does it run, and on the same bus and domain?`
        : first === undefined
          ? `'${name}' has no endpoint '${endpoint}'; it has ${others.length === 0 ? 'none' : others.map((one) => `'${one}'`).join(', ')}.`
          : some.every(({ healthy }) => !healthy)
            ? `The health check of every instance of '${name}' fails (${some.length}).`
            : `The address '${first.address}' of '${name}' is neither a Unix socket nor a URL with a host and a port.`
    return new RingbellError('ERR_RINGBELL_NOT_FOUND', why)
  }
}

function isHealthy({ metadata }: Service): boolean {
  return metadata['health'] !== 'failing'
}
