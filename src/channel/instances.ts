/**
 * Keeps connections to the instances of a service. It follows the records of one name and connects to as many instances
 * as the route needs. After a failure it tries again, as long as the record says that the instance lives. A dead
 * instance is not tried again. Its successor has another id, and is connected to at once.
 */
import { kindMismatch } from '../bus/kind-mismatch.js'
import type { Service } from '../bus/service.js'
import { newsOf, type ServiceEvent } from '../bus/services-view.js'
import { inSteps } from '../closing.js'
import { debug } from '../diagnostics.js'
import { fromNative, isRingbellError, reason, RingbellError, translated } from '../errors.js'
import type { NativeChannel, NativeWatch } from '../native.js'
import { Backoff, type ReconnectOptions } from '../wait/backoff.js'
import { poller, type Poller } from '../wait/poller.js'

/** What the record of an instance must have. */
export interface Expectation {
  readonly kind: string
  /** `undefined`: any. */
  readonly codec: string | undefined
  readonly schemaId: string | undefined
  /** The id of the one instance that counts; absent: every one. */
  readonly instance?: string | undefined
}

export interface InstancesParts {
  readonly native: NativeChannel
  /** A watch of this service only. */
  readonly watch: NativeWatch
  readonly expected: Expectation
  /** Whether to connect to all instances, or to one at a time. */
  readonly all: boolean
  readonly reconnect: ReconnectOptions | undefined
}

export interface InstancesHost {
  /** No connection could be made, or without a service: the bus directory cannot be read. More tries may follow. */
  failed(service: Service | undefined, error: RingbellError): void
  /** It does not try this instance again until its record changes. */
  gaveUp(service: Service, error: RingbellError): void
  /** Records of instances have come or changed. They are told together, because their order is not always that of the changes. */
  told(services: readonly Service[]): void
  /** The watch is broken. */
  broken(error: unknown): void
}

/** Errors that another try cannot fix. */
const FINAL = new Set<string>([
  'ERR_RINGBELL_PROTOCOL_VERSION',
  'ERR_RINGBELL_NO_PERMISSION',
  'ERR_RINGBELL_CORRUPT_PEER',
])

interface Instance {
  service: Service
  readonly backoff: Backoff
  /** The connection that is made or being made. */
  connection: number | undefined
  timer: NodeJS.Timeout | undefined
  /** It is not tried again until its record changes. */
  hopeless: boolean
  /** It takes no new requests, so it does not count. */
  leaving: boolean
}

export class Instances {
  readonly #parts: InstancesParts
  readonly #host: InstancesHost
  readonly #poller: Poller
  #id: number | undefined
  readonly #byId = new Map<string, Instance>()
  /** Services of the same name and of another kind. */
  readonly #otherKinds = new Map<string, Service>()
  readonly #byConnection = new Map<number, Instance>()
  #closed = false

  constructor(parts: InstancesParts, host: InstancesHost) {
    this.#parts = parts
    this.#host = host
    this.#poller = poller()
  }

  /** @throws {RingbellError} if the poller cannot watch. */
  begin(): void {
    this.#id = this.#poller.add(this.#parts.watch, { wake: () => this.#wake() })
    // Later, so that the user can add listeners first.
    setImmediate(() => this.#wake())
  }

  /** All services of the name and of the expected kind. */
  get services(): Service[] {
    return [...this.#byId.values()].map(({ service }) => service)
  }

  /** Which service has the name and another kind, in words. */
  get mismatch(): string | undefined {
    return kindMismatch([...this.services, ...this.#otherKinds.values()], this.#parts.expected.kind)
  }

  /** The service that a connection leads to. */
  serviceOf(connection: number): Service | undefined {
    return this.#byConnection.get(connection)?.service
  }

  opened(connection: number): void {
    this.#byConnection.get(connection)?.backoff.succeeded()
  }

  /** The server of this connection takes no new requests. */
  leaving(connection: number): void {
    const instance = this.#byConnection.get(connection)
    if (instance !== undefined) instance.leaving = true
    this.#connectMore()
  }

  /** The connection could not be made. */
  failed(connection: number, error: RingbellError): void {
    const instance = this.#let(connection)
    if (instance === undefined) return
    this.#host.failed(instance.service, error)
    if (FINAL.has(error.code)) this.#giveUp(instance, error)
    else this.#later(instance, error)
    this.#connectMore()
  }

  /** The connection has ended. The instance may still live; the watch will show that soon. */
  ended(connection: number, error: RingbellError): void {
    const instance = this.#let(connection)
    if (instance !== undefined && this.#byId.has(instance.service.id)) this.#later(instance, error)
    this.#connectMore()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { timer } of this.#byId.values()) clearTimeout(timer)
    this.#byId.clear()
    this.#byConnection.clear()
    inSteps(
      () => this.#id !== undefined && this.#poller.remove(this.#id),
      () => this.#parts.watch.close(),
    )
  }

  #wake(): void {
    if (this.#closed) return
    try {
      const { events, unreadable } = translated(() => newsOf(this.#parts.watch))
      const told = events.filter((event) => this.#apply(event)).map(({ service }) => service)
      if (told.length > 0) this.#host.told(told)
      if (unreadable !== undefined) this.#host.failed(undefined, unreadable)
    } catch (error) {
      this.#host.broken(fromNative(error))
      return
    }
    this.#connectMore()
  }

  /** Whether the record is of an instance that is there. */
  #apply({ type, service }: ServiceEvent): boolean {
    const known = this.#byId.get(service.id)
    if (type === 'removed') {
      clearTimeout(known?.timer)
      this.#byId.delete(service.id)
      this.#otherKinds.delete(service.id)
      return false
    }
    if (known !== undefined) {
      known.service = service
      if (known.hopeless) {
        known.hopeless = false
        known.backoff.succeeded()
      }
      return true
    }
    if (service.kind !== this.#parts.expected.kind) {
      debug('%s %s is a %s, no %s', service.name, service.id, service.kind, this.#parts.expected.kind)
      this.#otherKinds.set(service.id, service)
      return false
    }
    const { instance: only = service.id } = this.#parts.expected
    if (only !== service.id) return false
    const instance: Instance = {
      service,
      backoff: new Backoff(this.#parts.reconnect),
      connection: undefined,
      timer: undefined,
      hopeless: false,
      leaving: false,
    }
    this.#byId.set(service.id, instance)
    const error = mismatch(service, this.#parts.expected)
    if (error !== undefined) {
      this.#host.failed(service, error)
      instance.hopeless = true
    }
    return true
  }

  /**
   * Connects to as many instances as the route needs. An instance that waits for its next try does not count. If one is enough, a
   * remote one is not: as soon as there is an instance on this bus, it is connected to that as well.
   */
  #connectMore(): void {
    if (this.#closed) return
    let connected = 0
    let near = 0
    const count = ({ origin }: Service): void => {
      connected++
      if (origin === undefined) near++
    }
    for (const { leaving, service } of this.#byConnection.values()) if (!leaving) count(service)
    for (const instance of this.#inOrder()) {
      const enough = instance.service.origin === undefined ? near : connected
      if (!this.#parts.all && enough > 0) continue
      if (instance.connection === undefined && instance.timer === undefined && !instance.hopeless)
        if (this.#connect(instance)) count(instance.service)
    }
  }

  #inOrder(): Iterable<Instance> {
    const remote: Instance[] = []
    const near: Instance[] = []
    for (const one of this.#byId.values()) (one.service.origin === undefined ? near : remote).push(one)
    return remote.length === 0 ? near : [...near, ...remote]
  }

  #connect(instance: Instance): boolean {
    const { native } = this.#parts
    try {
      const record = JSON.stringify(instance.service.record)
      const connection = translated(() => native.connect(record))
      instance.connection = connection
      this.#byConnection.set(connection, instance)
      return true
    } catch (error) {
      const told = isRingbellError(error)
        ? error
        : new RingbellError('ERR_RINGBELL_ACQUIRE', `Connecting failed: ${reason(error)}`, { cause: error })
      this.#host.failed(instance.service, told)
      this.#later(instance, told)
      return false
    }
  }

  #let(connection: number): Instance | undefined {
    const instance = this.#byConnection.get(connection)
    this.#byConnection.delete(connection)
    if (instance !== undefined) {
      instance.connection = undefined
      instance.leaving = false
    }
    return instance
  }

  #later(instance: Instance, error: RingbellError): void {
    const pause = instance.backoff.failed()
    if (pause === undefined) {
      this.#giveUp(instance, error)
      return
    }
    instance.timer = setTimeout(() => {
      instance.timer = undefined
      this.#connectMore()
    }, pause).unref()
  }

  #giveUp(instance: Instance, error: RingbellError): void {
    instance.hopeless = true
    this.#host.gaveUp(instance.service, error)
  }
}

function mismatch({ name, codec, schemaId, pid }: Service, expected: Expectation): RingbellError | undefined {
  const told = (what: string, theirs: string | undefined, ours: string): RingbellError =>
    new RingbellError(
      'ERR_RINGBELL_REFUSED',
      `'${name}' of process ${pid} has the ${what} ${theirs ?? '(none)'}, but this side expects ${ours}; give both the same ${what}.`,
    )
  // A server in Rust that names no codec takes and gives bytes.
  if (expected.codec !== undefined && (codec ?? 'bytes') !== expected.codec) return told('codec', codec, expected.codec)
  if (expected.schemaId !== undefined && schemaId !== expected.schemaId)
    return told('schema id', schemaId, expected.schemaId)
  return undefined
}
