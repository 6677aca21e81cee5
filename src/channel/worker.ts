/**
 * A worker takes messages of all work queues of one name, as many at once as its `concurrency` says. It acknowledges a
 * message when its handler has done the work. An error of the handler goes back to the queue, which delivers the
 * message again. An open worker keeps the process alive, unless it is `unref`ed.
 */
import type { Service } from '../bus/service.js'
import { EMPTY } from '../codec/bytes.js'
import type { RingbellError } from '../errors.js'
import type { NativeWatch } from '../native.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import type { Connection } from './connection.js'
import { type AnyHandler, type CallContext, Handling } from './handling.js'
import { type Expectation, Instances } from './instances.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import type { EndReason, Link } from './link.js'
import { connectionOf } from './peers.js'
import type { WorkerStats } from './stats.js'
import { KIND, RESULT } from './wire.js'

/**
 * Does the work of one message. Returning acknowledges the message, and what it returns is the result of `queue.run()`.
 * Throwing sends the message back.
 */
export type WorkHandler<T> = (value: T, context: CallContext<Connection<T>>) => unknown

/** The events of a worker. There are none after `close()`. */
export interface WorkerEvents<T> {
  /** It has connected to a queue. */
  connected: [queue: Connection<T>]
  /** A queue has gone: `'closed'`, `'died'` or `'failed'`. */
  disconnected: [queue: Connection<T>, reason: EndReason]
  /**
   * It could not connect to a queue, or a queue broke the protocol; `error.code` says why. More tries may follow. Without a
   * service, the bus directory cannot be read, so that queues may be missing (it is tried again, and the event comes once until
   * all of it can be read), or the worker itself is broken and closed (`closed`).
   */
  failed: [error: RingbellError, service: Service | undefined]
  /** It does not try this instance again until its record changes. */
  gaveUp: [service: Service, error: RingbellError]
}

/** @internal What a bus passes to the constructor. */
export interface WorkerParts extends LifeParts {
  readonly name: string
  readonly watch: NativeWatch
  readonly expected: Expectation
  readonly handler: AnyHandler
  readonly concurrency: number
  readonly reconnect: ReconnectOptions | undefined
}

/** Takes messages of the work queues of one name; `bus.worker()` makes it. */
export class Worker<T = Uint8Array> extends EndpointOwner<WorkerEvents<T>> {
  /** The name of the queues that it works for. */
  readonly name: string
  readonly #concurrency: number
  readonly #life: Life
  readonly #handling: Handling
  readonly #instances: Instances
  /** How many more jobs each queue may send. */
  readonly #credit = new Map<Link, number>()

  /** @internal Use `bus.worker()`. */
  constructor(parts: WorkerParts) {
    super()
    this.name = parts.name
    this.#concurrency = parts.concurrency
    this.#life = this.live('worker', parts, this.#host())
    const { handler } = parts
    this.#handling = new Handling(
      {
        endpoint: this.#life.endpoint,
        payloads: parts.payloads,
        // A job leaves two messages, its answer and the credit for another one, and credit limits the jobs.
        maxRequests: 2 * parts.concurrency + 2,
        leaving: () => this.#life.leaving !== undefined,
        connectionOf,
        silent: (flags) => (flags & RESULT) === 0,
        // Not earlier: a handler may still be busy after the queue has given up on it.
        handled: (link) => this.#takesMore(link, 1),
      },
      async (value, context) => handler(value, context),
    )
    this.#instances = new Instances(
      { ...parts, all: true },
      {
        failed: (service, error) => this.#life.events.add('failed', error, service),
        gaveUp: (service, error) => this.#life.events.add('gaveUp', service, error),
        told: () => {},
        broken: (error) => this.#life.broken(error),
      },
    )
    this.#life.endpoint.want()
    this.#life.begin()
  }

  /** The queues that it is connected to. */
  get queues(): Connection<T>[] {
    return this.#life.peers.all as Connection<T>[]
  }

  /** Counters of this worker. @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  stats(): WorkerStats {
    return {
      connections: this.#life.peers.size,
      ...this.#handling.counters,
      inHand: this.#handling.inHand,
      abandoned: this.#handling.abandoned,
      core: this.#life.coreStats,
    }
  }

  #host(): LifeHost {
    return {
      opened: (link) => {
        this.#instances.opened(link.number)
        this.#takesMore(link, this.#concurrency)
      },
      ended: (link, error) => {
        this.#credit.delete(link)
        this.#handling.places.ended(link)
        this.#instances.ended(link.number, error)
      },
      unconnected: (connection, error) => this.#instances.failed(connection, error),
      request: (link, flags, id, aux, data) => {
        if (this.#spend(link)) this.#handling.take(link, flags, id, aux, data)
      },
      message: (link) => this.#life.endpoint.breach(link, 'it sent a plain message to a worker'),
      credit: () => {},
      goodbye: (link) => this.#instances.leaving(link.number),
      refused: (link) => {
        if (this.#spend(link)) this.#takesMore(link, 1)
      },
      source: (link) => this.#instances.serviceOf(link.number),
      begin: () => this.#instances.begin(),
      leave: () => this.#life.sayGoodbye(),
      idle: () => this.#handling.idle(),
      end: () => this.#instances.close(),
    }
  }

  /** A job came. Without credit it is one too many, and its queue is disconnected: `false`. */
  #spend(link: Link): boolean {
    const credit = this.#credit.get(link) ?? 0
    if (credit > 0) {
      this.#credit.set(link, credit - 1)
      return true
    }
    this.#life.endpoint.breach(link, 'it sent more jobs than it had credit for')
    return false
  }

  /**
   * Lets a queue send so many more jobs. The credit of a job comes back once: when its handler has ended, or when none
   * will be called.
   */
  #takesMore(link: Link, jobs: number): void {
    if (this.#life.leaving !== undefined || link.over) return
    this.#credit.set(link, (this.#credit.get(link) ?? 0) + jobs)
    link.post(KIND.credit, 0, jobs, EMPTY, true)
  }
}
