/**
 * A dispatcher of undici that takes the host of a URL for the name of a service: each request goes to the next instance of it, over a
 * pool of connections for each. Where an instance does not accept a connection, nothing was sent, so the connection is made to another
 * one. Once a request is on its way it is never sent again.
 */
import type { Socket } from 'node:net'
import type { buildConnector as Connectors, Dispatcher as Dispatching, Pool as Pools } from 'undici'
import type { Target } from '../announce/address.js'
import type { Offer } from '../announce/offers.js'
import { isName } from '../bus/names.js'
import { check, duration, LONGEST_MS, oneOf, type Rules, text } from '../check.js'
import { debug } from '../diagnostics.js'
import { closedError } from '../errors.js'
import type { Bus, Route } from '../index.js'
import { invalid } from '../invalid.js'
import { buildConnector, Dispatcher, Pool } from './undici.js'

/** How requests find their way. */
export interface BusDispatcherOptions {
  /** The endpoint of the service; by default the scheme of the URL: `http` or `https`. */
  endpoint?: string | undefined
  /**
   * Which instance a request goes to: `'round-robin'` (the default) one after the other, `'least-busy'` the one with the fewest of our
   * requests under way, `'first'` the one that has been there longest.
   */
  route?: Exclude<Route, 'primary'> | undefined
  /** Milliseconds in which a connection must be made, 2,000 by default. Then another instance is tried. */
  connectTimeout?: number | undefined
  /** Takes requests to hosts with a dot or a port. Without it they are refused, unless a service has that name. */
  fallback?: Dispatching | undefined
}

/** The connections to one instance. */
interface Way {
  readonly pool: Pools
  readonly name: string
  readonly endpoint: string
  /** The key of its offer. */
  readonly offer: string
}

type Connector = Connectors.connector
type Handler = Dispatching.DispatchHandler
type Connected = (
  ...result: [error: null, made: { socket: Socket; offer: Offer }] | [error: Error, made: undefined]
) => void

const CONNECT_MS = 2000
const RULES: Rules = {
  endpoint: text(256),
  route: oneOf('round-robin', 'least-busy', 'first'),
  connectTimeout: duration(1, LONGEST_MS, 'milliseconds'),
  fallback: (value) =>
    typeof (value as Partial<Dispatching> | null)?.dispatch === 'function'
      ? undefined
      : 'must be a dispatcher of undici',
}

/**
 * Use it as `fetch('http://api/…', { dispatcher })`, or as any dispatcher of undici. It belongs to the bus: close it before the bus.
 *
 * A request to a name that nobody announces fails with `ERR_RINGBELL_NOT_FOUND`; `fetch` has it as the `cause` of its error.
 */
export class BusDispatcher extends Dispatcher {
  readonly #bus: Bus
  readonly #options: BusDispatcherOptions
  readonly #tcp: Connector
  /** By origin and offer. */
  readonly #ways = new Map<string, Way>()
  /** Pools that take no new requests. */
  readonly #retired = new Set<Pools>()
  #closed = false

  constructor(bus: Bus, options: BusDispatcherOptions = {}) {
    super()
    check(options, RULES)
    this.#bus = bus
    this.#options = options
    this.#tcp = buildConnector({ timeout: options.connectTimeout ?? CONNECT_MS })
  }

  /** Called by undici. @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND` and others of `bus.resolve`. */
  override dispatch(options: Dispatching.DispatchOptions, handler: Handler): boolean {
    if (this.#closed) throw closedError('dispatcher')
    const { origin = '' } = options
    const url = new URL(origin)
    const { fallback, route = 'round-robin', endpoint = url.protocol.slice(0, -1) } = this.#options
    if (this.#isForeign(url)) {
      if (fallback === undefined)
        throw invalid('origin', String(origin), 'must be the name of a service, without a port')
      return fallback.dispatch(options, handler)
    }
    const offer = this.#bus.book.next(url.hostname, endpoint, route)
    return this.#pool(offer, url, url.hostname, endpoint).dispatch(options, handler)
  }

  /** A host with a dot is a service only if it is announced. Not every one could be: `example.org.` is no name of a service. */
  #isForeign({ hostname, port }: URL): boolean {
    if (port !== '' || !/^[\w.-]+$/.test(hostname)) return true
    return hostname.includes('.') && (!isName(hostname) || this.#bus.endpoints(hostname).length === 0)
  }

  /** Resolves when all requests that are under way have ended. */
  override close(): Promise<void>
  override close(callback: () => void): void
  override close(callback?: () => void): Promise<void> | void {
    return answered(
      this.#end((pool) => pool.close()),
      callback,
    )
  }

  /** Ends all requests that are under way with this error. */
  override destroy(): Promise<void>
  override destroy(error: Error | null): Promise<void>
  override destroy(callback: () => void): void
  override destroy(error: Error | null, callback: () => void): void
  override destroy(first?: Error | null | (() => void), second?: () => void): Promise<void> | void {
    const [error, callback] = typeof first === 'function' ? [null, first] : [first ?? null, second]
    return answered(
      this.#end((pool) => pool.destroy(error)),
      callback,
    )
  }

  async #end(how: (pool: Pools) => Promise<void>): Promise<void> {
    this.#closed = true
    for (const { pool } of this.#ways.values()) this.#retired.add(pool)
    this.#ways.clear()
    // Each stays until it has ended, for a `destroy` that comes while a `close` waits.
    const ending = [...this.#retired].map(async (pool) => {
      await how(pool)
      this.#retired.delete(pool)
    })
    await Promise.all(ending)
  }

  #pool(offer: Offer, { origin }: URL, name: string, endpoint: string): Pools {
    // The origin says whether to speak TLS.
    const key = `${origin} ${offer.key}`
    const known = this.#ways.get(key)
    if (known !== undefined) return known.pool
    this.#prune(name, endpoint)
    const pool: Pools = new Pool(origin, {
      connect: (options, callback) =>
        this.#connect(offer, name, endpoint, options, (error, made) => {
          if (error !== null) return callback(error, null)
          callback(null, made.socket)
          // This pool leads to another instance now. The next request asks this one again.
          if (made.offer.key !== offer.key) this.#retire(key, way)
        }),
    })
    const way = { pool, name, endpoint, offer: offer.key }
    this.#ways.set(key, way)
    offer.calls = {
      get size() {
        return pool.stats.size
      },
    }
    return pool
  }

  /** Connects to this instance, or to another one that can be chosen. */
  #connect(first: Offer, name: string, endpoint: string, options: Connectors.Options, told: Connected): void {
    const tried = new Set<string>()
    const attempt = (offer: Offer): void => {
      tried.add(offer.key)
      this.#connector(offer.target)(targeted(options, offer.target), (error, socket) => {
        if (error === null) return told(null, { socket, offer })
        const next = this.#other(name, endpoint, tried)
        if (next === undefined) told(error, undefined)
        else attempt(next)
      })
    }
    attempt(first)
  }

  #other(name: string, endpoint: string, tried: ReadonlySet<string>): Offer | undefined {
    // The bus may be closed meanwhile. Then there is no other one.
    if (this.#bus.closed) return undefined
    return this.#bus.book.choices(name, endpoint).find(({ key }) => !tried.has(key))
  }

  #connector(target: Target): Connector {
    if (!('socketPath' in target)) return this.#tcp
    return buildConnector({ timeout: this.#options.connectTimeout ?? CONNECT_MS, socketPath: target.socketPath })
  }

  /** Lets go of the pools of instances that have gone. It looks when a new one has come. */
  #prune(name: string, endpoint: string): void {
    const there = new Set(this.#bus.book.choices(name, endpoint).map(({ key }) => key))
    for (const [key, way] of this.#ways)
      if (way.name === name && way.endpoint === endpoint && !there.has(way.offer)) this.#retire(key, way)
  }

  /** The pool ends after the requests that it has. */
  #retire(key: string, way: Way): void {
    // A second connection of the same pool may come after it was replaced.
    if (this.#ways.get(key) !== way) return
    this.#ways.delete(key)
    const { pool } = way
    this.#retired.add(pool)
    pool.close().then(
      () => this.#retired.delete(pool),
      // The dispatcher was destroyed meanwhile.
      (error: unknown) => debug('closing a pool: %s', error),
    )
  }
}

/** What undici's connector is to connect to. The name of the service stays the one that TLS asks for. */
function targeted(options: Connectors.Options, target: Target): Connectors.Options {
  if ('socketPath' in target) return options
  return { ...options, hostname: target.host, port: String(target.port) }
}

function answered(done: Promise<void>, callback: (() => void) | undefined): Promise<void> | void {
  if (callback === undefined) return done
  void tell(done, callback)
}

/** A callback hears of no error. */
async function tell(done: Promise<void>, callback: () => void): Promise<void> {
  await done.catch((error: unknown) => debug('ending a dispatcher: %s', error))
  callback()
}
