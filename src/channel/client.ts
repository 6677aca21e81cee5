/**
 * A client: calls to a service by name, wherever its instances are. This file is what users hold; calls live in call.ts and
 * reply-stream.ts, their way in switchboard.ts, connecting in instances.ts. A call waits for a server if there is none:
 * give it a `timeout` where that must end.
 */
import { Waiters } from '../wait/waiting.js'
import { EventEmitter } from 'node:events'
import { type SignalOptions, checkSignal, throwIfAborted } from '../wait/abort.js'
import { invalid } from '../check.js'
import { channels } from '../diagnostics.js'
import { closedError, fromNative, RingbellError, translated } from '../errors.js'
import type { NativeChannel, NativeWatch } from '../native.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import type { Service } from '../bus/service.js'
import { withStrangers } from '../bus/kind-mismatch.js'
import type { WaitOption } from '../wait/policy.js'
import { Call, outcome } from './call.js'
import type { Connection } from './connection.js'
import { Endpoint, type EndpointHost, type OpenedNotice } from './endpoint.js'
import { Instances, type Expectation } from './instances.js'
import type { EndReason, Link } from './link.js'
import { checkCall, type CallOptions } from './options.js'
import { connectionOf, Peers } from './peers.js'
import { ReplyStream } from './reply-stream.js'
import type { Route } from './routing.js'
import { INQUIRY, whenThere, type Speech } from '../codec/payload-codec.js'
import { coreStats, type ClientStats, type ServerStats } from './stats.js'
import { Switchboard } from './call-dispatcher.js'
import { EventQueue } from '../wait/event-queue.js'
import { ABOUT } from './wire.js'

/** The events of a client. None after `close()`. */
export interface ClientEvents<M> {
  /** A server was connected to. */
  connected: [connection: Connection<M>]
  /** It has ended: `'closed'`, `'died'` or `'failed'`. */
  disconnected: [connection: Connection<M>, reason: EndReason]
  /** A server could not be connected to (another codec, for one); `error.code` says why. Tries may follow. */
  failed: [service: Service | undefined, error: RingbellError]
  /** No more tries with this instance, until its record changes. Others are not affected. */
  gaveUp: [service: Service, error: RingbellError]
}

export interface ServerStatsOptions<M = Uint8Array> extends SignalOptions {
  timeout?: number | undefined
  /** One of the client's `connections`. */
  connection?: Connection<M> | undefined
}

/** @internal What a bus makes a client of. */
export interface ClientParts {
  readonly name: string
  readonly native: NativeChannel
  readonly watch: NativeWatch
  readonly speech: Speech
  readonly expected: Expectation
  readonly route: Route
  readonly timeout: number
  readonly maxMessage: number
  readonly wait: WaitOption | undefined
  readonly reconnect: ReconnectOptions | undefined
  readonly closed: (client: { closeNow(): void }) => void
}

export class Client<Q = Uint8Array, R = Uint8Array, M = Uint8Array>
  extends EventEmitter<ClientEvents<M>>
  implements AsyncDisposable
{
  /** The service that it calls. */
  readonly name: string
  readonly #speech: Speech
  readonly #timeout: number
  readonly #events: EventQueue<ClientEvents<unknown>>
  readonly #peers: Peers
  readonly #endpoint: Endpoint
  readonly #board: Switchboard
  readonly #instances: Instances
  readonly #waiters = new Waiters<Connection<M>>({
    began: () => this.#endpoint.want(),
    ended: () => this.#endpoint.unwant(),
  })
  readonly #onClose: ClientParts['closed']
  #closed = false

  /** @internal Use `bus.connect()`. */
  constructor(parts: ClientParts) {
    super()
    this.name = parts.name
    this.#speech = parts.speech
    this.#timeout = parts.timeout
    this.#onClose = parts.closed
    this.#events = new EventQueue(this, 'client', channels.client)
    this.#peers = new Peers(parts.speech, this.#events)
    this.#endpoint = new Endpoint(parts.native, this.#hostOf(parts.maxMessage), parts.wait)
    this.#board = new Switchboard(this.#endpoint, parts.route, () => this.#instances.strangers)
    this.#instances = new Instances(
      {
        native: parts.native,
        watch: parts.watch,
        expected: parts.expected,
        all: parts.route !== 'first',
        reconnect: parts.reconnect,
      },
      {
        failed: (service, error) => {
          this.#board.trouble = error
          this.#events.add('failed', service, error)
        },
        gaveUp: (service, error) => this.#events.add('gaveUp', service, error),
        broken: (error) => this.#broken(error),
      },
    )
    if (channels.client['opened'].hasSubscribers) channels.client['opened'].publish({ client: this })
    // Whoever gets this object has not had time to listen yet.
    setImmediate(() => this.#instances.look())
  }

  /** The servers that it is connected to. */
  get connections(): Connection<M>[] {
    return this.#peers.all as Connection<M>[]
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * Calls the service, and resolves with its reply. Many may be in flight. The request must not be changed until the call has
   * ended. The signal and the timeout end it at any moment, and tell the handler.
   *
   * Rejects with what the handler threw, as a `RemoteError`; `ERR_RINGBELL_NOT_SENT` (its server is gone, calling again is
   * safe) or `ERR_RINGBELL_OUTCOME_UNKNOWN` (nobody knows whether it was handled); `ERR_RINGBELL_TIMEOUT`, whose `cause` is one of
   * those two; an `AbortError`; `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_CLOSED`.
   */
  call(request: Q, options?: CallOptions): Promise<R> {
    const board = this.#board
    const call = new Call(board, this.#speech, request)
    board.begin()
    try {
      if (options !== undefined) this.#adjust(call, options)
      else if (this.#timeout > 0) call.limit(this.#timeout, undefined)
      if (this.#speech.requests === undefined) board.place(call)
      else this.#placeChecked(call, request)
    } catch (error) {
      call.fail(error)
    }
    return call.promise as Promise<R>
  }

  /**
   * Calls a handler that answers with a stream (an async generator, for one). The call is made with the first step of the
   * iteration, the handler runs at the reader's pace, and leaving the loop cancels it. There is no timeout but the `signal`
   * (`AbortSignal.timeout`).
   *
   * @throws {RingbellError} and rejects, as `call` does.
   */
  stream(request: Q, options: SignalOptions = {}): AsyncIterableIterator<R, undefined> {
    checkSignal(options)
    if (this.#closed) throw closedError('client')
    const want = (waits: boolean): void => (waits ? this.#endpoint.want() : this.#endpoint.unwant())
    return new ReplyStream(this.#board, this.#speech, request, want, options.signal) as AsyncIterableIterator<
      R,
      undefined
    >
  }

  /**
   * A connection, as soon as there is one. Rejects with `ERR_RINGBELL_CLOSED`, or an `AbortError`, whose message says so when the
   * name is announced by what is no server.
   */
  async connected(options: SignalOptions = {}): Promise<Connection<M>> {
    checkSignal(options)
    const { signal } = options
    throwIfAborted(signal)
    if (this.#closed) throw closedError('client')
    const connected = this.#waiters.wait(() => this.#connected(), {
      signal,
      explain: (error) => withStrangers(error, this.#instances.strangers),
    })
    this.#waiters.check()
    return connected
  }

  /** The counters of a server: of the one that a call would go to now, or at the other end of a `connection`. Rejects as `call` does. */
  async serverStats(options: ServerStatsOptions<M> = {}): Promise<ServerStats> {
    const { connection, ...rest } = options
    checkCall(rest)
    throwIfAborted(rest.signal)
    const call = new Call(this.#board, INQUIRY, undefined, ABOUT)
    this.#board.begin()
    call.limit(rest.timeout ?? this.#timeout, rest.signal)
    if (connection === undefined) this.#board.place(call)
    else {
      const link = this.#board.links.find((one) => one.owner === connection)
      if (link === undefined || !call.place(link)) call.fail(outcome(false, 'the connection has ended.'))
    }
    return (await call.promise) as ServerStats
  }

  stats(): ClientStats {
    const board = this.#board
    return {
      connections: this.#peers.size,
      calls: board.made,
      inFlight: board.inFlight,
      waiting: board.waiting,
      repeated: board.repeated,
      core: coreStats(translated(() => this.#endpoint.native.stats())),
    }
  }

  /** Waiting keeps the process alive (the default). */
  ref(): this {
    this.#endpoint.referenced = true
    return this
  }

  /** Waiting does not keep the process alive. It sleeps, then, whatever the option `wait` says. */
  unref(): this {
    this.#endpoint.referenced = false
    return this
  }

  /** Ends every connection; calls and streams that are under way reject with `ERR_RINGBELL_CLOSED`. Idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** @internal */
  closeNow(): void {
    this.#end(closedError('client'))
  }

  #adjust(call: Call, options: CallOptions): void {
    checkCall(options)
    const { timeout = this.#timeout, signal, idempotent, into } = options
    throwIfAborted(signal)
    if (into !== undefined) {
      if (!this.#speech.own) throw invalid('into', into, 'is for the codec bytes alone')
      call.into(into)
    }
    if (idempotent === true) call.repeatable()
    call.limit(timeout, signal)
  }

  #placeChecked(call: Call, request: Q): void {
    whenThere(
      this.#speech.request(request),
      (checked) => {
        call.request = checked
        if (!call.settled) this.#board.place(call)
      },
      (error) => call.fail(error),
    )
  }

  #end(error: RingbellError): void {
    if (this.#closed) return
    this.#closed = true
    try {
      this.#events.clear()
      this.#board.close(error)
      this.#waiters.fail(error)
      this.#instances.close()
    } finally {
      this.#onClose(this)
      this.#endpoint.close(error)
      this.#events.clear()
    }
    if (channels.client['closed'].hasSubscribers) channels.client['closed'].publish({ client: this })
  }

  #broken(error: unknown): void {
    const told = fromNative(error)
    this.#end(
      told instanceof RingbellError
        ? told
        : new RingbellError('ERR_RINGBELL_INTERNAL', `This client failed: ${String(told)}`, { cause: told }),
    )
  }

  #hostOf(maxMessage: number): EndpointHost {
    return {
      what: 'client',
      maxMessage,
      opened: (link, notice) => this.#opened(link, notice),
      ended: (link, reason, error) => {
        this.#board.leave(link)
        this.#peers.ended(link, reason, error)
        this.#instances.ended(link.number, error)
      },
      failed: (connection, error) => this.#instances.failed(connection, error),
      // A server has nothing to ask of its clients.
      request: (link) => this.#endpoint.breach(link, 'it sent a request to a client'),
      message: (link, data) => connectionOf(link)?.arrived(data),
      credit: (link, amount) => link.addCredit(amount),
      goodbye: (link) => this.#instances.leaving(link.number),
      fds: (link) => connectionOf(link)?.descriptors.arrived(),
      trouble: (error, link) => {
        if (link === undefined) this.#end(error)
        else this.#events.add('failed', this.#instances.serviceOf(link.number), error)
      },
    }
  }

  #connected(): Connection<M> | undefined {
    const link = this.#board.links.find((one) => one.gone === undefined)
    return link && (connectionOf(link) as Connection<M>)
  }

  #opened(link: Link, notice: OpenedNotice): void {
    this.#peers.open(this.#endpoint, link, notice)
    this.#instances.opened(link.number)
    this.#board.join(link)
    this.#waiters.check()
  }
}
