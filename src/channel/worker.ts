/**
 * A worker: takes messages of the work queues of one name, as many at once as it was told, and acknowledges each when its
 * handler has done its work. What the handler throws goes back to the queue, which delivers the message again. An open
 * worker keeps the process alive, unless it is `unref`ed.
 */
import { EventEmitter } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { closedError, fromNative, RingbellError, translated } from '../errors.js'
import type { NativeChannel, NativeWatch } from '../native.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import type { Service } from '../bus/service.js'
import type { WaitOption } from '../wait/policy.js'
import type { Connection } from './connection.js'
import { Endpoint, type EndpointHost, type OpenedNotice } from './endpoint.js'
import { Handling, type AnyHandler, type CallContext } from './handling.js'
import { Instances, type Expectation } from './instances.js'
import type { EndReason, Link } from './link.js'
import { checkClose } from './options.js'
import { connectionOf, Peers } from './peers.js'
import type { CloseOptions } from './server.js'
import type { Speech } from '../codec/payload-codec.js'
import { coreStats, type WorkerStats } from './stats.js'
import { EventQueue } from '../wait/event-queue.js'
import { KIND } from './wire.js'
import { EMPTY } from '../codec/bytes.js'

/** Does the work of one message; that it returns acknowledges it, that it throws sends it back. */
export type WorkHandler<T> = (value: T, context: CallContext<Connection<T>>) => unknown

/** The events of a worker. None after `close()`. */
export interface WorkerEvents<T> {
  /** A queue was connected to. */
  connected: [queue: Connection<T>]
  disconnected: [queue: Connection<T>, reason: EndReason]
  failed: [service: Service | undefined, error: RingbellError]
  gaveUp: [service: Service, error: RingbellError]
}

/** @internal What a bus makes a worker of. */
export interface WorkerParts {
  readonly name: string
  readonly native: NativeChannel
  readonly watch: NativeWatch
  readonly speech: Speech
  readonly expected: Expectation
  readonly handler: AnyHandler
  readonly concurrency: number
  readonly maxMessage: number
  readonly wait: WaitOption | undefined
  readonly reconnect: ReconnectOptions | undefined
  readonly closed: (worker: { closeNow(): void }) => void
}

export class Worker<T = Uint8Array> extends EventEmitter<WorkerEvents<T>> implements AsyncDisposable {
  /** The queues that it works for. */
  readonly name: string
  readonly #concurrency: number
  readonly #events: EventQueue<WorkerEvents<unknown>>
  readonly #peers: Peers
  readonly #endpoint: Endpoint
  readonly #handling: Handling
  readonly #instances: Instances
  readonly #onClose: WorkerParts['closed']
  #leaving = false
  #closed = false

  /** @internal Use `bus.worker()`. */
  constructor(parts: WorkerParts) {
    super()
    this.name = parts.name
    this.#concurrency = parts.concurrency
    this.#onClose = parts.closed
    this.#events = new EventQueue(this, 'worker', channels.worker)
    this.#peers = new Peers(parts.speech, this.#events)
    this.#endpoint = new Endpoint(parts.native, this.#hostOf(parts.maxMessage), parts.wait)
    const { handler } = parts
    // The acknowledgement says nothing but that.
    this.#handling = new Handling(this.#handlingHostOf(parts.speech), async (value, context) => {
      await handler(value, context)
    })
    this.#instances = new Instances(
      { ...parts, all: true },
      {
        failed: (service, error) => this.#events.add('failed', service, error),
        gaveUp: (service, error) => this.#events.add('gaveUp', service, error),
        broken: (error) => this.#broken(error),
      },
    )
    this.#endpoint.want()
    if (channels.worker['opened'].hasSubscribers) channels.worker['opened'].publish({ worker: this })
    // Whoever gets this object has not had time to listen yet.
    setImmediate(() => this.#instances.look())
  }

  /** The queues that it is connected to. */
  get queues(): Connection<T>[] {
    return this.#peers.all as Connection<T>[]
  }

  get closed(): boolean {
    return this.#closed
  }

  stats(): WorkerStats {
    return {
      connections: this.#peers.size,
      ...this.#handling.counters,
      inHand: this.#handling.inHand,
      core: coreStats(translated(() => this.#endpoint.native.stats())),
    }
  }

  /** An open worker keeps the process alive (the default). */
  ref(): this {
    this.#endpoint.referenced = true
    return this
  }

  unref(): this {
    this.#endpoint.referenced = false
    return this
  }

  /** Leaves its queues. What is in hand goes to other workers, unless it is done within the `grace`. Idempotent. */
  async close(options: CloseOptions = {}): Promise<void> {
    checkClose(options)
    const { grace = 0 } = options
    if (grace > 0 && !this.#closed) await this.#drain(grace)
    this.closeNow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** @internal */
  closeNow(): void {
    this.#end(closedError('worker'))
  }

  async #drain(grace: number): Promise<void> {
    this.#leaving = true
    for (const link of this.#endpoint.links.values()) link.post(KIND.goodbye, 0, 0, EMPTY, true)
    const over = new AbortController()
    const late = sleep(grace, undefined, { signal: over.signal }).catch(() => {})
    await Promise.race([this.#handling.idle(), late])
    over.abort()
  }

  #end(error: RingbellError): void {
    if (this.#closed) return
    this.#closed = true
    this.#leaving = true
    try {
      this.#instances.close()
      this.#endpoint.close(error)
      this.#events.clear()
    } finally {
      this.#onClose(this)
    }
    if (channels.worker['closed'].hasSubscribers) channels.worker['closed'].publish({ worker: this })
  }

  #broken(error: unknown): void {
    const told = fromNative(error)
    this.#end(
      told instanceof RingbellError
        ? told
        : new RingbellError('ERR_RINGBELL_INTERNAL', `This worker failed: ${String(told)}`, { cause: told }),
    )
  }

  #hostOf(maxMessage: number): EndpointHost {
    return {
      what: 'worker',
      maxMessage,
      opened: (link, notice) => this.#opened(link, notice),
      ended: (link, reason, error) => {
        this.#peers.ended(link, reason, error)
        this.#instances.ended(link.number, error)
      },
      failed: (connection, error) => this.#instances.failed(connection, error),
      request: (link, flags, id, aux, data) => this.#handling.take(link, flags, id, aux, data),
      message: (link) => this.#endpoint.breach(link, 'it sent a plain message to a worker'),
      credit: () => {},
      goodbye: (link) => this.#instances.leaving(link.number),
      refused: (link) => this.#takesOneMore(link),
      fds: () => {},
      trouble: (error, link) => {
        if (link === undefined) this.#end(error)
        else this.#events.add('failed', this.#instances.serviceOf(link.number), error)
      },
    }
  }

  #opened(link: Link, notice: OpenedNotice): void {
    this.#peers.open(this.#endpoint, link, notice)
    this.#instances.opened(link.number)
    if (!this.#leaving) link.post(KIND.credit, 0, this.#concurrency, EMPTY, true)
  }

  #handlingHostOf(speech: Speech): Handling['host'] {
    return {
      endpoint: this.#endpoint,
      speech,
      maxRequests: Infinity,
      leaving: () => this.#leaving,
      connectionOf,
      // Only now: a handler that was given up on may still be busy.
      handled: (link) => this.#takesOneMore(link),
    }
  }

  /** Each job that came gives its credit back once, whoever answered it. */
  #takesOneMore(link: Link): void {
    if (!this.#leaving) link.post(KIND.credit, 0, 1, EMPTY, true)
  }
}
