/**
 * A client: it calls a service by name, and follows the instances of the service as they come and go. Users hold this
 * object. Calls are in call.ts and reply-stream.ts, the choice of a connection is in call-dispatcher.ts, and connecting
 * is in instances.ts. Without a server a call waits for one: give it a `timeout` if that wait must end.
 */
import { withMismatch } from '../bus/kind-mismatch.js'
import type { Service } from '../bus/service.js'
import { invalid } from '../invalid.js'
import { INQUIRY, type PayloadCodec } from '../codec/payload-codec.js'
import { channels } from '../diagnostics.js'
import { closedError, type RingbellError } from '../errors.js'
import { encodeHeaders, type Envelope, type MessageHeaders, NO_HEADERS } from '../headers.js'
import type { NativeWatch } from '../native.js'
import { outgoing } from '../tracer.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import type { ReconnectOptions } from '../wait/backoff.js'
import { Waiters } from '../wait/waiting.js'
import { CallDispatcher } from './call-dispatcher.js'
import { Call, outcome } from './call.js'
import type { Connection } from './connection.js'
import { type Expectation, Instances } from './instances.js'
import { EndpointOwner, type Life, type LifeHost, type LifeParts } from './life.js'
import type { EndReason } from './link.js'
import { type CallOptions, checkCall, checkServerStats, checkStream, type StreamOptions } from './options.js'
import { connectionOf } from './peers.js'
import { ReplyStream } from './reply-stream.js'
import type { Route } from './routing.js'
import type { ClientStats, ServerStats } from './stats.js'
import { ABOUT } from './wire.js'

/** The events of a client. There are none after `close()`. */
export interface ClientEvents<M, S = M> {
  /** It has connected to a server. With `route: 'first'`, the default, that is one of several, until it is gone. */
  connected: [connection: Connection<M, S>]
  /** A connection has ended: `'closed'`, `'died'` or `'failed'`. */
  disconnected: [connection: Connection<M, S>, reason: EndReason]
  /**
   * It could not connect to a server (because of another codec, for example), or a server broke the protocol; `error.code` says
   * why. More tries may follow. Without a service, the bus directory cannot be read, so that servers may be missing (it is tried
   * again, and the event comes once until all of it can be read), or the client itself is broken and closed (`closed`).
   */
  failed: [error: RingbellError, service: Service | undefined]
  /** It does not try this instance again until its record changes. Other instances are not affected. */
  gaveUp: [service: Service, error: RingbellError]
}

/** Which server to ask, and how long to wait. */
export interface ServerStatsOptions<M = Uint8Array, S = M> extends SignalOptions {
  /** Milliseconds; by default the client's `timeout`. */
  timeout?: number | undefined
  /** One of the client's `connections`. */
  connection?: Connection<M, S> | undefined
}

/** @internal What a bus passes to the constructor. */
export interface ClientParts extends LifeParts {
  readonly name: string
  readonly watch: NativeWatch
  readonly expected: Expectation
  readonly route: Route
  readonly timeout: number
  readonly reconnect: ReconnectOptions | undefined
}

const { calling, called } = channels.client

type Heard = (headers: MessageHeaders) => void

/**
 * Calls a service by name and follows its instances; `bus.connect()` makes it. A call takes a `Q` and returns an `R`. Its connections
 * receive an `M` and send an `S`.
 */
export class Client<Q = Uint8Array, R = Uint8Array, M = Q | R, S = M> extends EndpointOwner<ClientEvents<M, S>> {
  /** The service that it calls. */
  readonly name: string
  readonly #payloads: PayloadCodec
  readonly #timeout: number
  readonly #life: Life
  readonly #dispatcher: CallDispatcher
  readonly #instances: Instances
  readonly #waiters = new Waiters<Connection<M, S>>({
    began: () => this.#life.endpoint.want(),
    ended: () => this.#life.endpoint.unwant(),
  })

  /** @internal Use `bus.connect()`. */
  constructor(parts: ClientParts) {
    super()
    this.name = parts.name
    this.#payloads = parts.payloads
    this.#timeout = parts.timeout
    this.#life = this.live('client', parts, this.#host())
    this.#dispatcher = new CallDispatcher(
      this.#life,
      parts.name,
      parts.route,
      () => this.#instances.mismatch,
      ({ number }) => this.#instances.serviceOf(number)?.group,
    )
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
          this.#dispatcher.lastFailure = error
          this.#life.events.add('failed', error, service)
        },
        gaveUp: (service, error) => this.#life.events.add('gaveUp', service, error),
        told: (services) => {
          this.#dispatcher.learn(services.map(({ group }) => group))
          this.#waiters.check()
        },
        broken: (error) => this.#life.broken(error),
      },
    )
    this.#life.begin()
  }

  /** The servers that it is connected to: at most one with `route: 'first'`, the default; every instance with the other routes. */
  get connections(): Connection<M, S>[] {
    return this.#life.peers.all as Connection<M, S>[]
  }

  /**
   * Calls the service, and resolves with its reply. Many calls may be in flight. Do not change the request until the
   * call has ended. The signal and the timeout end the call at any moment, and then the handler's signal fires.
   *
   * Rejects with a `RemoteError` if the handler threw; `ERR_RINGBELL_NOT_SENT` (its server is gone, calling again is
   * safe) or `ERR_RINGBELL_OUTCOME_UNKNOWN` (it is unknown whether it was handled); `ERR_RINGBELL_TIMEOUT`, whose
   * `cause` is one of those two; an `AbortError`; `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`,
   * `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_CLOSED`.
   */
  call(request: Q, options?: CallOptions): Promise<R> {
    return this.#publishedOrNot(request, options)
  }

  /** As `call`, for a caller that also wants the headers of the reply. */
  async exchange(request: Q, options?: CallOptions): Promise<Envelope<R>> {
    let headers = NO_HEADERS
    const value = await this.#publishedOrNot(request, options, (heard) => (headers = heard))
    return { value, headers }
  }

  #publishedOrNot(request: Q, options: CallOptions | undefined, heard?: Heard): Promise<R> {
    if (calling.hasSubscribers || called.hasSubscribers) return this.#published(request, options, heard)
    return this.#call(request, options, heard)
  }

  /** Calls, and publishes the beginning and the end of it. */
  async #published(request: Q, options: CallOptions | undefined, heard: Heard | undefined): Promise<R> {
    const message: { client: object; request: Q; reply?: R; error?: unknown } = { client: this, request }
    calling.publish(message)
    try {
      return (message.reply = await this.#call(request, options, heard))
    } catch (error) {
      message.error = error
      throw error
    } finally {
      called.publish(message)
    }
  }

  #call(request: Q, options: CallOptions | undefined, heard: Heard | undefined): Promise<R> {
    const dispatcher = this.#dispatcher
    const call = new Call(dispatcher, this.#payloads, request)
    if (heard !== undefined) call.hear(heard)
    dispatcher.begin()
    try {
      if (options !== undefined) this.#adjust(call, options)
      else if (this.#timeout > 0) call.limit(this.#timeout, undefined)
      const headers = outgoing(options?.headers)
      if (headers !== undefined) call.head(encodeHeaders(headers))
      if (this.#payloads.requests === undefined) dispatcher.dispatch(call)
      else dispatcher.dispatchChecked(call, this.#payloads.request(request))
    } catch (error) {
      call.fail(error)
    }
    return call.promise as Promise<R>
  }

  /**
   * Calls a handler that answers with a stream (an async generator, for example). The first step of the iteration makes
   * the call. The handler runs at the reader's pace, and leaving the loop cancels it. It has no timeout: use a `signal`
   * (`AbortSignal.timeout`).
   *
   * @throws {RingbellError} and rejects, as `call` does.
   */
  stream(request: Q, options: StreamOptions = {}): AsyncIteration<R> {
    checkStream(options)
    this.#life.assertOpen()
    const want = (waits: boolean): void => (waits ? this.#life.endpoint.want() : this.#life.endpoint.unwant())
    return new ReplyStream(this.#dispatcher, this.#payloads, request, want, options) as AsyncIteration<R>
  }

  /**
   * A connection, as soon as there is one; with `route: 'primary'`, the one to the primary. It does not wait for further instances: with `route: 'first'`, the default, the client
   * connects to one alone. Rejects with `ERR_RINGBELL_CLOSED` or an `AbortError`. If the name is
   * announced as another kind than a server, the message of the `AbortError` says so.
   */
  async connected(options: SignalOptions = {}): Promise<Connection<M, S>> {
    checkSignal(options)
    const { signal } = options
    throwIfAborted(signal)
    this.#life.assertOpen()
    const connected = this.#waiters.wait(() => this.#connected(), {
      signal,
      explain: (error) => withMismatch(error, this.#dispatcher.reason),
    })
    this.#waiters.check()
    return connected
  }

  /** The counters of the server that a call would go to now, or of the server of a `connection`. Rejects as `call` does. */
  async serverStats(options: ServerStatsOptions<M, S> = {}): Promise<ServerStats> {
    checkServerStats(options)
    const { connection, timeout = this.#timeout, signal } = options
    throwIfAborted(signal)
    const call = new Call(this.#dispatcher, INQUIRY, undefined, ABOUT)
    this.#dispatcher.begin()
    call.limit(timeout, signal)
    if (connection === undefined) this.#dispatcher.dispatch(call)
    else {
      const link = this.#dispatcher.links.find((one) => one.owner === connection)
      if (link === undefined || !call.sendOn(link)) call.fail(outcome(false, 'the connection has ended.'))
    }
    return (await call.promise) as ServerStats
  }

  /** Counters of this client. @throws {RingbellError} `ERR_RINGBELL_CLOSED`. */
  stats(): ClientStats {
    const dispatcher = this.#dispatcher
    return {
      connections: this.#life.peers.size,
      calls: dispatcher.made,
      inFlight: dispatcher.inFlight,
      waiting: dispatcher.waiting,
      repeated: dispatcher.repeated,
      core: this.#life.coreStats,
    }
  }

  #adjust(call: Call, options: CallOptions): void {
    checkCall(options)
    const { timeout = this.#timeout, signal, idempotent, into, instance } = options
    throwIfAborted(signal)
    if (into !== undefined) {
      if (!this.#payloads.own) throw invalid('into', into, 'works only with the codec bytes')
      call.into(into)
    }
    if (idempotent === true) call.repeatable()
    call.instance = instance
    call.limit(timeout, signal)
  }

  #connected(): Connection<M, S> | undefined {
    const { links, target, resends } = this.#dispatcher
    const link = resends ? target : links.find((one) => one.gone === undefined)
    return link && (connectionOf(link) as Connection<M, S>)
  }

  #host(): LifeHost {
    return {
      opened: (link) => {
        this.#instances.opened(link.number)
        this.#dispatcher.join(link)
        this.#waiters.check()
      },
      ended: (link, error) => {
        this.#dispatcher.lose(link)
        this.#instances.ended(link.number, error)
      },
      unconnected: (connection, error) => this.#instances.failed(connection, error),
      // A server must not send requests to its clients.
      request: (link) => this.#life.endpoint.breach(link, 'it sent a request to a client'),
      message: (link, data, headers) => connectionOf(link)?.arrived(data, headers),
      credit: (link, amount) => link.addCredit(amount),
      goodbye: (link) => this.#instances.leaving(link.number),
      source: (link) => this.#instances.serviceOf(link.number),
      begin: () => this.#instances.begin(),
      leave: () => this.#waiters.fail(closedError('client')),
      idle: () => this.#dispatcher.idle(),
      end: (error) => {
        this.#dispatcher.end(error)
        this.#waiters.fail(error)
        this.#instances.close()
      },
    }
  }
}
