/**
 * Which endpoints are measured, and how they are told apart: by their name, and by a number where one process has several of
 * a kind and name. The number of a closed endpoint is given to the next one, so that the number of series does not grow. Endpoints are
 * asked only when somebody looks at the metrics: nothing here runs when a message is sent.
 */
import { Client } from '../channel/client.js'
import { Queue } from '../channel/queue.js'
import { Server } from '../channel/server.js'
import { Worker } from '../channel/worker.js'
import { debug } from '../diagnostics.js'
import { Member } from '../group/member.js'
import { Bus } from '../index.js'
import { invalid } from '../invalid.js'
import { KeyedStateReader } from '../state/keyed-reader.js'
import { KeyedState } from '../state/keyed-state.js'
import { StateReader } from '../state/reader.js'
import { State } from '../state/state.js'
import { Publisher } from '../topic/publisher.js'
import { Subscriber } from '../topic/subscriber.js'
import type { EndpointKind, StatsOf } from './figures.js'

/** An endpoint with counters, as a bus opens it, or the member of a service group. */
export type Measured = { stats(): object } | { readonly role: 'primary' | 'standby' }

/** What is measured: everything that is opened through a bus, or single endpoints. An iterable is walked at each look. */
export type MetricsSource = Bus | Measured | Iterable<Bus | Measured>

/** The labels of an endpoint. `service` would be a bad name: that is what targets of Prometheus are told apart by. */
export interface Labels {
  readonly name: string
  readonly number: string
}

/** What one endpoint said. */
export interface Reading<S> {
  readonly labels: Labels
  readonly stats: S
}

/** What all of them said at one time. */
export class Readings {
  /** How many endpoints could not be read. */
  unreadable = 0
  readonly #byKind = new Map<EndpointKind, Reading<never>[]>()

  add(kind: EndpointKind, reading: Reading<StatsOf[EndpointKind]>): void {
    const some = this.#byKind.get(kind)
    if (some === undefined) this.#byKind.set(kind, [reading as Reading<never>])
    else some.push(reading as Reading<never>)
  }

  /** Those of this kind. */
  of<K extends EndpointKind>(kind: K): readonly Reading<StatsOf[K]>[] {
    return this.#byKind.get(kind) ?? []
  }
}

interface Known {
  readonly kind: EndpointKind
  readonly labels: Labels
  readonly read: () => StatsOf[EndpointKind]
}

/** How to measure an endpoint. */
type Kinship = Omit<Known, 'labels'> & { readonly name: string }

export class Endpoints {
  readonly #sources: MetricsSource
  readonly #known = new Map<object, Known>()
  /** The numbers that are in use, by kind and name. */
  readonly #numbers = new Map<string, Set<number>>()

  /** @throws {RingbellError} `ERR_RINGBELL_INVALID_OPTION`. */
  constructor(sources: MetricsSource) {
    this.#sources = sources
    this.#look()
  }

  read(): Readings {
    const readings = new Readings()
    readings.unreadable = this.#look()
    for (const { kind, labels, read } of this.#known.values())
      try {
        readings.add(kind, { labels, stats: read() })
      } catch (error) {
        // One broken endpoint must not hide the others.
        debug('the counters of %s %s: %s', kind, labels.name, error)
        readings.unreadable++
      }
    return readings
  }

  /** Says how many endpoints have no name, because they were closed before it was read. They are asked again. */
  #look(): number {
    let nameless = 0
    const there = new Set(endpointsOf(this.#sources))
    for (const [endpoint, known] of this.#known) if (!there.has(endpoint)) this.#forget(endpoint, known)
    for (const endpoint of there)
      try {
        if (!this.#known.has(endpoint)) this.#meet(endpoint)
      } catch (error) {
        debug('an endpoint that cannot be measured: %s', error)
        nameless++
      }
    return nameless
  }

  #meet(endpoint: object): void {
    const kin = kinshipOf(endpoint)
    if (kin === undefined) return
    const { kind, name, read } = kin
    const key = `${kind} ${name}`
    const used = this.#numbers.get(key) ?? new Set()
    this.#numbers.set(key, used)
    let number = 0
    while (used.has(number)) number++
    used.add(number)
    this.#known.set(endpoint, { kind, read, labels: { name, number: String(number) } })
  }

  #forget(endpoint: object, { kind, labels: { name, number } }: Known): void {
    this.#known.delete(endpoint)
    const key = `${kind} ${name}`
    const used = this.#numbers.get(key)
    used?.delete(Number(number))
    if (used?.size === 0) this.#numbers.delete(key)
  }
}

function* endpointsOf(sources: MetricsSource): Iterable<object> {
  if (typeof sources !== 'object' || sources === null) throw noSource(sources)
  const list: Iterable<Bus | Measured> = Symbol.iterator in sources ? sources : [sources]
  for (const source of list)
    if (source instanceof Bus) yield* source.opened
    else if (!CLASSES.some((one) => source instanceof one)) throw noSource(source)
    else yield source
}

function noSource(value: unknown): unknown {
  return invalid('sources', value, 'must be a bus, an endpoint of one, or an iterable of them')
}

const CLASSES = [
  Publisher,
  Subscriber,
  State,
  KeyedState,
  StateReader,
  KeyedStateReader,
  Server,
  Client,
  Queue,
  Worker,
  Member,
]

/** `undefined`: it has no counters. Throws if it is closed and says its name no more. */
function kinshipOf(endpoint: object): Kinship | undefined {
  if (endpoint instanceof Publisher) return ofService('publisher', endpoint)
  if (endpoint instanceof Subscriber)
    return { kind: 'subscriber', name: endpoint.pattern, read: () => endpoint.stats() }
  if (endpoint instanceof State || endpoint instanceof KeyedState) return ofService('state', endpoint)
  if (endpoint instanceof StateReader || endpoint instanceof KeyedStateReader) return named('state_reader', endpoint)
  if (endpoint instanceof Server) return ofService('server', endpoint)
  if (endpoint instanceof Client) return named('client', endpoint)
  if (endpoint instanceof Queue) return ofService('queue', endpoint)
  if (endpoint instanceof Worker) return named('worker', endpoint)
  if (endpoint instanceof Member) return { kind: 'member', name: endpoint.group, read: () => endpoint }
  return undefined
}

/** Its record is read once. */
function ofService<K extends EndpointKind>(
  kind: K,
  endpoint: { readonly service: { readonly name: string }; stats(): StatsOf[K] },
): Kinship {
  return { kind, name: endpoint.service.name, read: () => endpoint.stats() }
}

function named<K extends EndpointKind>(kind: K, endpoint: { readonly name: string; stats(): StatsOf[K] }): Kinship {
  return { kind, name: endpoint.name, read: () => endpoint.stats() }
}
