/**
 * A server: answers the calls of any number of clients with one handler, and talks to each of them by its connection. This
 * file is what users hold; requests in hand live in handling.ts. As a listening socket does, an open server keeps the
 * process alive, unless it is `unref`ed.
 */
import { EventEmitter } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { channels } from '../diagnostics.js'
import { closedError, RingbellError, translated } from '../errors.js'
import type { NativeChannel } from '../native.js'
import { metadataJson } from '../bus/options.js'
import { serviceOf, type RecordJson, type Service } from '../bus/service.js'
import type { WaitOption } from '../wait/policy.js'
import type { Connection } from './connection.js'
import { Endpoint, type EndpointHost } from './endpoint.js'
import { Handling, type AnyHandler, type CallContext } from './handling.js'
import type { EndReason } from './link.js'
import { checkClose } from './options.js'
import { connectionOf, Peers } from './peers.js'
import type { Speech } from '../codec/payload-codec.js'
import { coreStats, type ServerStats } from './stats.js'
import { EventQueue } from '../wait/event-queue.js'
import { ABOUT, KIND } from './wire.js'
import { EMPTY } from '../codec/bytes.js'

/**
 * Answers a request: returns the reply, a promise of it, or for `client.stream()` an async iterable. What it throws reaches
 * the caller with `code` and `message`. Returning nothing is a reply, too.
 */
export type Handler<Q, R, M = Uint8Array> = (
  request: Q,
  context: CallContext<Connection<M>>,
) => R | void | Promise<R | void> | AsyncIterable<R> | Promise<AsyncIterable<R>>

/** The events of a server. None after `close()`. */
export interface ServerEvents<M> {
  /** A client has connected. */
  connected: [connection: Connection<M>]
  /** It has gone: `'closed'`, `'died'` or `'failed'`. */
  disconnected: [connection: Connection<M>, reason: EndReason]
  /** Something went wrong outside of any call: a client that broke the protocol, for one. Others are not affected. */
  failed: [error: RingbellError, connection: Connection<M> | undefined]
}

export interface CloseOptions {
  /** Milliseconds in which the requests in hand may be answered yet, 0 by default. New ones go to other instances meanwhile. */
  grace?: number | undefined
}

/** @internal What a bus makes a server of. */
export interface ServerParts {
  readonly native: NativeChannel
  readonly speech: Speech
  readonly handler: AnyHandler | undefined
  readonly maxMessage: number
  readonly maxRequests: number
  readonly wait: WaitOption | undefined
  readonly closed: (server: { closeNow(): void }) => void
}

export class Server<M = Uint8Array> extends EventEmitter<ServerEvents<M>> implements AsyncDisposable {
  readonly #native: NativeChannel
  readonly #speech: Speech
  readonly #events: EventQueue<ServerEvents<unknown>>
  readonly #peers: Peers
  readonly #endpoint: Endpoint
  readonly #handling: Handling
  readonly #onClose: ServerParts['closed']
  #leaving = false
  #closed = false

  /** @internal Use `bus.serve()`. */
  constructor(parts: ServerParts) {
    super()
    this.#native = parts.native
    this.#speech = parts.speech
    this.#onClose = parts.closed
    this.#events = new EventQueue(this, 'server', channels.server)
    this.#peers = new Peers(parts.speech, this.#events)
    this.#endpoint = new Endpoint(parts.native, this.#hostOf(parts.maxMessage), parts.wait)
    this.#handling = new Handling(this.#handlingHostOf(parts.maxRequests), parts.handler ?? noHandler)
    this.#endpoint.want()
    if (channels.server['opened'].hasSubscribers) channels.server['opened'].publish({ server: this })
  }

  /** This server as others see it. */
  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** The clients that are connected. */
  get connections(): Connection<M>[] {
    return this.#peers.all as Connection<M>[]
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  stats(): ServerStats {
    return {
      connections: this.#peers.size,
      accepted: this.#peers.accepted,
      ...this.#handling.counters,
      inHand: this.#handling.inHand,
      core: coreStats(translated(() => this.#native.stats())),
    }
  }

  /** An open server keeps the process alive (the default). */
  ref(): this {
    this.#endpoint.referenced = true
    return this
  }

  /** An open server does not keep the process alive. It sleeps between requests, then, whatever the option `wait` says. */
  unref(): this {
    this.#endpoint.referenced = false
    return this
  }

  /**
   * Withdraws the record and ends every connection. Clients whose calls are in hand learn that the outcome is unknown, unless
   * there is a `grace` in which they are answered; handlers' signals fire. Idempotent.
   */
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
    this.#end(closedError('server'))
  }

  /** No new requests, and time for those in hand. */
  async #drain(grace: number): Promise<void> {
    this.#leaving = true
    translated(() => this.#native.withdraw())
    for (const link of this.#endpoint.links.values()) link.post(KIND.goodbye, 0, 0, EMPTY, true)
    const over = new AbortController()
    const late = sleep(grace, undefined, { signal: over.signal }).catch(() => {})
    await Promise.race([this.#handling.idle().then(() => this.#sent()), late])
    over.abort()
  }

  /** Everything that waits for room is on its way. */
  async #sent(): Promise<void> {
    for (const link of this.#endpoint.links.values()) await link.whenClear()
  }

  #end(error: RingbellError): void {
    if (this.#closed) return
    this.#closed = true
    this.#leaving = true
    try {
      this.#endpoint.close(error)
      this.#events.clear()
    } finally {
      this.#onClose(this)
    }
    if (channels.server['closed'].hasSubscribers) channels.server['closed'].publish({ server: this })
  }

  #hostOf(maxMessage: number): EndpointHost {
    return {
      what: 'server',
      maxMessage,
      opened: (link, notice) => {
        this.#peers.open(this.#endpoint, link, notice)
        if (this.#leaving) link.post(KIND.goodbye, 0, 0, EMPTY, true)
      },
      ended: (link, reason, error) => this.#peers.ended(link, reason, error),
      failed: (_connection, error) => this.#events.add('failed', error, undefined),
      request: (link, flags, id, aux, data) => {
        if ((flags & ABOUT) === 0) this.#handling.take(link, flags, id, aux, data)
        else link.post(KIND.reply, id, 0, Buffer.from(JSON.stringify(this.stats())), true)
      },
      message: (link, data) => connectionOf(link)?.arrived(data),
      credit: (link, amount) => link.addCredit(amount),
      goodbye: () => {},
      fds: (link) => connectionOf(link)?.descriptors.arrived(),
      trouble: (error, link) => {
        this.#events.add('failed', error, link && connectionOf(link))
        // The endpoint itself is broken, and closes.
        if (link === undefined && !this.#closed) {
          this.#closed = true
          this.#onClose(this)
        }
      },
    }
  }

  #handlingHostOf(maxRequests: number): Handling['host'] {
    return {
      endpoint: this.#endpoint,
      speech: this.#speech,
      maxRequests,
      leaving: () => this.#leaving,
      connectionOf,
    }
  }
}

function noHandler(): never {
  throw new RingbellError('ERR_RINGBELL_NOT_FOUND', 'This server takes messages, but no calls: it has no handler.')
}
