/**
 * The life of an endpoint with connections, the same for servers, clients, queues and workers. It is open, then perhaps
 * leaving (it accepts nothing new), then closed. If its core fails it is broken, and closes at once: pending work is
 * rejected, the bus forgets it, and `'failed'` is its last event. The four classes use `Life` inside; `EndpointOwner`
 * is their public part.
 */
import type { EventEmitter } from 'node:events'
import { metadataJson } from '../bus/options.js'
import { type RecordJson, type Service, serviceOf } from '../bus/service.js'
import { EMPTY } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { inSteps } from '../closing.js'
import { channels, debug } from '../diagnostics.js'
import { asRingbellError, closedError, type RingbellError, translated } from '../errors.js'
import type { NativeChannel } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { Emitter } from '../wait/emitter.js'
import { EventQueue } from '../wait/event-queue.js'
import { waitFor } from '../wait/waiting.js'
import type { WaitOption } from '../wait/policy.js'
import { Endpoint, type EndpointHost } from './endpoint.js'
import type { Link } from './link.js'
import { checkClose, type CloseOptions } from './options.js'
import { connectionOf, type PeerEvents, Peers } from './peers.js'
import { type CoreChannelStats, coreStats } from './stats.js'
import { KIND } from './wire.js'

/** Something that a bus closes, and forgets once it is closed. */
export interface Closable {
  closeNow(): void
}

/** @internal What a bus passes to the constructor of any of the four. */
export interface LifeParts {
  readonly native: NativeChannel
  readonly payloads: PayloadCodec
  readonly maxMessage: number
  readonly wait: WaitOption | undefined
  readonly closed: (endpoint: Closable) => void
}

/** What the four do differently. */
export interface LifeHost extends Pick<
  EndpointHost,
  'unconnected' | 'request' | 'message' | 'credit' | 'goodbye' | 'refused'
> {
  /** Whether a connection is a peer as soon as it is open, which it is by default. Otherwise the host lets it join. */
  readonly joinsLater?: boolean
  opened?(link: Link): void
  ended?(link: Link, error: RingbellError): void
  /** The second argument of `'failed'` when this connection fails. */
  source(link: Link): unknown
  /** Begins to follow what it needs besides its connections. */
  begin?(): void
  /** Nothing new is accepted from now on. */
  leave?(): void
  /** Resolves when nothing is under way. */
  idle(): Promise<void>
  /** Rejects what is under way, before the connections end. */
  end?(error: RingbellError): void
}

/** The events that any of the four may emit. */
interface LifeEvents extends PeerEvents {
  failed: [error: RingbellError, source: unknown]
  gaveUp: [service: Service, error: RingbellError]
  deadLetter: [value: unknown, error: Error, letter: object]
}

/** @internal The part that the four classes have in common. */
export class Life {
  readonly events: EventQueue<LifeEvents>
  readonly peers: Peers
  readonly endpoint: Endpoint
  readonly kind: 'client' | 'server' | 'queue' | 'worker'
  /** Why nothing new is accepted, if that is so. */
  leaving: RingbellError | undefined = undefined
  /** Why it has ended, if it has. */
  closed: RingbellError | undefined = undefined
  readonly #owner: Closable
  readonly #native: NativeChannel
  readonly #host: LifeHost
  readonly #forget: LifeParts['closed']
  #referenced = true
  #needed = true

  constructor(owner: Closable & EventEmitter, kind: Life['kind'], parts: LifeParts, host: LifeHost) {
    this.#owner = owner
    this.kind = kind
    this.#native = parts.native
    this.#host = host
    this.#forget = parts.closed
    this.events = new EventQueue(owner, kind, channels[kind])
    this.peers = new Peers(parts.payloads, this.events)
    this.endpoint = new Endpoint(parts.native, this.#endpointHost(parts.maxMessage), parts.wait)
  }

  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  get coreStats(): CoreChannelStats {
    this.assertNotClosed()
    return coreStats(translated(() => this.#native.stats()))
  }

  /** Whether waiting keeps the process alive, as the user has set it. */
  set referenced(referenced: boolean) {
    this.#referenced = referenced
    this.endpoint.referenced = referenced && this.#needed
  }

  /** Whether there is a reason to keep the process alive. */
  set needed(needed: boolean) {
    if (needed === this.#needed) return
    this.#needed = needed
    this.endpoint.referenced = needed && this.#referenced
  }

  /** Call when the object is complete: publishes `opened`. An endpoint that fails to begin ends, and leaves nothing behind. */
  begin(): void {
    this.#publish('opened')
    try {
      this.#host.begin?.()
    } catch (error) {
      this.#fail(asRingbellError(error, this.kind))
      throw error
    }
  }

  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  /** Asks every peer to send no further requests. */
  sayGoodbye(): void {
    for (const link of this.endpoint.links.values()) link.post(KIND.goodbye, 0, 0, EMPTY, true)
  }

  /** @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  assertOpen(): void {
    if (this.leaving !== undefined) throw closedError(this.kind)
  }

  /** The same, but what is leaving may go on. */
  assertNotClosed(): void {
    if (this.closed !== undefined) throw closedError(this.kind)
  }

  async close({ grace = 0 }: CloseOptions): Promise<void> {
    try {
      if (grace > 0 && this.closed === undefined) await this.#drain(grace)
    } finally {
      this.closeNow()
    }
  }

  /** Its user closes it, and is told of nothing more. */
  closeNow(): void {
    if (this.closed !== undefined) return
    try {
      this.#end(closedError(this.kind))
    } finally {
      this.events.clear()
    }
  }

  /** The core, or what it is watched by, fails. */
  broken(cause: unknown): void {
    if (this.closed !== undefined) return
    const error = asRingbellError(cause, this.kind)
    this.#fail(error)
    this.events.add('failed', error, undefined)
  }

  #fail(error: RingbellError): void {
    try {
      this.#end(error)
    } catch (second) {
      // The first error is the one to be told.
      debug('closing a broken %s: %s', this.kind, second)
    }
  }

  #end(error: RingbellError): void {
    this.closed = error
    this.leaving = error
    inSteps(
      () => this.#host.end?.(error),
      () => this.endpoint.close(error),
      () => this.#forget(this.#owner),
      () => this.#publish('closed'),
    )
  }

  /** Waits at most `grace` milliseconds for pending work, and for messages that wait for room. */
  async #drain(grace: number): Promise<void> {
    this.leaving ??= closedError(this.kind)
    this.#host.leave?.()
    await waitFor(
      (waiting) => {
        this.#done().then(
          () => waiting.resolve(),
          (error) => waiting.reject(error),
        )
        return () => {}
      },
      { timeout: grace },
    ).catch((error: unknown) => {
      // Nothing: its time was up.
      if (error !== undefined) throw error
    })
  }

  /** Resolves when no message waits for room any more. */
  async clear(): Promise<void> {
    for (const link of this.endpoint.links.values()) await link.whenClear()
  }

  async #done(): Promise<void> {
    await this.#host.idle()
    await this.clear()
  }

  #publish(what: 'opened' | 'closed'): void {
    const channel = channels[this.kind][what]
    if (channel.hasSubscribers) channel.publish({ [this.kind]: this.#owner })
  }

  #endpointHost(maxMessage: number): EndpointHost {
    const host = this.#host
    return {
      // Requests are hot, so the methods of the host are called without a wrapper.
      ...host,
      what: this.kind,
      maxMessage,
      opened: (link, notice) => {
        this.peers.open(this.endpoint, link, notice)
        if (host.joinsLater !== true) this.peers.join(link)
        host.opened?.(link)
      },
      ended: (link, reason, error) => {
        this.peers.ended(link, reason, error)
        host.ended?.(link, error)
      },
      fds: (link) => connectionOf(link)?.descriptors.arrived(),
      failed: (error, link) => this.events.add('failed', error, host.source(link)),
      broken: (error) => this.broken(error),
    }
  }
}

const MEMBERS = ['name', 'service', 'closed', 'connections', 'workers', 'queues', 'size'] as const

/** What servers, clients, queues and workers have in common. */
export abstract class EndpointOwner<E extends Record<keyof E, unknown[]>>
  extends Emitter<E>
  implements AsyncDisposable
{
  #life!: Life

  /** @internal Called once, by the constructor. */
  protected live(kind: Life['kind'], parts: LifeParts, host: LifeHost): Life {
    return (this.#life = new Life(this as unknown as Closable & EventEmitter, kind, parts, host))
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#life.closed !== undefined
  }

  /**
   * Keeps the process alive (the default): a queue as long as a message is not acknowledged, a client while it waits, a
   * server or worker while it is open.
   */
  ref(): this {
    this.#life.referenced = true
    return this
  }

  /** Does not keep the process alive. It then sleeps whenever it waits, even if the option `wait` says otherwise. */
  unref(): this {
    this.#life.referenced = false
    return this
  }

  /**
   * Withdraws its record and ends every connection. With `grace`, pending work has that time to end, and nothing new is
   * accepted meanwhile. What is still pending is rejected with `ERR_RINGBELL_CLOSED`. Idempotent.
   */
  async close(options: CloseOptions = {}): Promise<void> {
    checkClose(options)
    await this.#life.close(options)
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows: those of these members that the class has. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    const members = membersOf(this as Partial<Record<(typeof MEMBERS)[number], unknown>>, ...MEMBERS)
    return shown(this.constructor.name, members, depth, options)
  }

  /** @internal */
  closeNow(): void {
    this.#life.closeNow()
  }
}
