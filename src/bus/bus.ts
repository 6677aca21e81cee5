/**
 * A bus: the directory that processes share. Everything else is opened through it, and closed with it. `open` creates
 * the directory if need be, and refuses one that other users could tamper with. No thread runs before the first
 * endpoint needs it.
 */
import type { Target } from '../announce/address.js'
import { Offered } from '../announce/offered.js'
import { type Endpoint, EndpointBook } from '../announce/offers.js'
import { checkResolve, type ResolveOptions } from '../announce/resolve-options.js'
import { Client } from '../channel/client.js'
import type { Connection } from '../channel/connection.js'
import { askForCounters, type ServiceCounters } from '../channel/counters.js'
import type { AnyHandler } from '../channel/handling.js'
import {
  connectJson,
  type ConnectOptions,
  DEFAULT_ATTEMPTS,
  DEFAULT_DEAD_LETTERS,
  DEFAULT_LIMIT,
  DEFAULT_MAX_MESSAGE,
  DEFAULT_MAX_REQUESTS,
  QUEUE_KIND,
  queueJson,
  type QueueOptions,
  serveJson,
  type ServeOptions,
  SERVER_KIND,
  workerJson,
  type WorkerOptions,
} from '../channel/options.js'
import { Queue } from '../channel/queue.js'
import { type Handler, Server } from '../channel/server.js'
import { Worker, type WorkHandler } from '../channel/worker.js'
import { controlName, type ControlRequest, listenName } from '../group/control.js'
import { Member } from '../group/member.js'
import { checkJoin, type JoinOptions } from '../group/options.js'
import { invalid } from '../invalid.js'
import { type Codec, codecOf, resolveCodec, type CodecName, type ValueCodec } from '../codec/index.js'
import { PayloadCodec } from '../codec/payload-codec.js'
import type { InputSchema, Schema } from '../codec/schema.js'
import { closedAfter } from '../closing.js'
import { channels, debug } from '../diagnostics.js'
import { closedError, fromNative, heldByAnother, translated } from '../errors.js'
import { binding, type NativeBus, type NativeChannel, type NativeWatch } from '../native.js'
import {
  ackPolicy,
  publisherJson,
  type PublisherOptions,
  subscriberJson,
  type SubscriberOptions,
} from '../topic/options.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { KeyedStateReader } from '../state/keyed-reader.js'
import { KeyedState } from '../state/keyed-state.js'
import { stateJson, type StateOptions, stateReaderJson, type StateReaderOptions } from '../state/options.js'
import { StateReader } from '../state/reader.js'
import { State } from '../state/state.js'
import { AtomicFlag } from '../sync/flag.js'
import { LockHandle } from '../sync/lock-handle.js'
import { Locks } from '../sync/locks.js'
import type { Place } from '../sync/member.js'
import {
  checkSemaphore,
  checkShardedMutex,
  checkTake,
  type SemaphoreOptions,
  type ShardedMutexOptions,
} from '../sync/options.js'
import { type Kind, Requests } from '../sync/requests.js'
import { Semaphore } from '../sync/semaphore.js'
import { ShardedMutex } from '../sync/sharded-mutex.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { Publisher } from '../topic/publisher.js'
import { Subscriber } from '../topic/subscriber.js'
import { Announced } from './announced.js'
import { checkClaim, Claim, type ClaimOptions } from './claim.js'
import { Claims } from './claims.js'
import { checkName, checkText } from './names.js'
import { announceJson, type AnnounceOptions, busJson, type BusOptions, checkAnnounce, checkWaitFor } from './options.js'
import type { Doctor, GcReport } from './reports.js'
import { Services, type WaitForOptions } from './services.js'

interface Closable {
  closeNow(): void
}

/** The record's kind, with which the name of a lock's service begins. */
const LOCK_KIND = 'lock'
const DEFAULT_SHARDS = 64
const STATE_WORDS = { message: 'value' }

/** A directory that processes share, and everything that is opened through it. */
export class Bus implements AsyncDisposable {
  /** The services on the bus. */
  readonly services: Services
  /** Who holds the names that `claim` gives. */
  readonly claims: Claims
  /** Locks by name, in the shape of `navigator.locks`. */
  readonly locks: Locks
  /** The path of the directory, with the domain. */
  readonly path: string
  /** What decided the path, in words: `'as given'`, `'from IPC_BUS_DIR'`. */
  readonly pathSource: string
  readonly #native: NativeBus
  readonly #open = new Set<Closable>()
  /** Made for the first lock, semaphore, flag or mutex. */
  #requests: Requests | undefined
  /** Made for the first look at endpoints. */
  #book: EndpointBook | undefined
  #closed = false

  /**
   * Opens a bus.
   *
   * Rejects with `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_BUS_DIRECTORY` (the directory is refused; the message
   * says why), `ERR_RINGBELL_UNSUPPORTED_PLATFORM`, `ERR_RINGBELL_BINDING`.
   */
  static async open(options: BusOptions = {}): Promise<Bus> {
    const json = busJson(options)
    return translated(() => new Bus(binding().NativeBus.open(json)))
  }

  private constructor(native: NativeBus) {
    this.path = native.path
    this.pathSource = native.pathSource
    this.#native = native
    this.services = new Services(native)
    this.claims = new Claims(native)
    this.locks = new Locks({
      open: (name, limits) => this.#member('lock', name, 0, limits, (place) => new LockHandle(place)),
      names: () => this.#lockNames(),
    })
    debug('bus opened at %s (%s)', this.path, this.pathSource)
    if (channels.bus.opened.hasSubscribers) channels.bus.opened.publish({ bus: this })
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#closed
  }

  /** @internal What was opened through it and is not closed, for those who ask everything for its counters. */
  get opened(): Iterable<object> {
    return this.#open
  }

  /**
   * Announces a topic and returns its one writer.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE` (names the limit), `ERR_RINGBELL_CLOSED`.
   */
  publisher<T>(
    service: string,
    options: PublisherOptions<T, unknown> & { codec: ValueCodec; schema: InputSchema<T> },
  ): Promise<Publisher<T>>
  publisher<T = unknown>(
    service: string,
    options: PublisherOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<Publisher<T>>
  publisher<T>(service: string, options: PublisherOptions<T> & { codec: Codec<T> }): Promise<Publisher<T>>
  publisher(service: string, options?: PublisherOptions & { codec?: 'bytes' | undefined }): Promise<Publisher>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  publisher<T>(service: string, options: PublisherOptions<T>): Promise<Publisher<T>>
  async publisher(service: string, options: PublisherOptions<unknown> = {}): Promise<Publisher<unknown>> {
    this.#assertOpen()
    checkText(service)
    const codec = resolveCodec(codecOf(options))
    const json = publisherJson(options, codec.id)
    const payloads = new PayloadCodec(codec, { messages: options.schema })
    return this.#opened(
      translated(() => this.#native.publisher(service, json)),
      (native, closed) =>
        new Publisher<unknown>({ native, payloads, wait: options.wait, member: options.member, closed }),
    )
  }

  /**
   * Subscribes to a topic by name, or to several by a pattern such as `sensors.*`. Resolves at once, even if there is
   * no publisher: see `attached()`.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`,
   * `ERR_RINGBELL_CLOSED`.
   */
  subscriber<T>(
    pattern: string,
    options: SubscriberOptions<T, unknown> & { codec: ValueCodec; schema: Schema<T> },
  ): Promise<Subscriber<T>>
  subscriber<T = unknown>(
    pattern: string,
    options: SubscriberOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<Subscriber<T>>
  subscriber<T>(pattern: string, options: SubscriberOptions<T> & { codec: Codec<T> }): Promise<Subscriber<T>>
  subscriber(pattern: string, options?: SubscriberOptions & { codec?: 'bytes' | undefined }): Promise<Subscriber>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  subscriber<T>(pattern: string, options: SubscriberOptions<T>): Promise<Subscriber<T>>
  async subscriber(pattern: string, options: SubscriberOptions<unknown> = {}): Promise<Subscriber<unknown>> {
    this.#assertOpen()
    checkText(pattern, 'name or pattern')
    const option = codecOf(options)
    const codec = resolveCodec(option)
    const json = subscriberJson(options, option === undefined ? undefined : codec.id)
    return this.#opened(
      translated(() => this.#native.subscriber(pattern, json)),
      (native, closed) =>
        new Subscriber<unknown>({
          native,
          pattern,
          payloads: new PayloadCodec(codec, { messages: options.schema }),
          wait: options.wait,
          acks: ackPolicy(options),
          mismatch: () => this.services.mismatch(pattern, 'topic'),
          closed,
        }),
    )
  }

  /**
   * Announces a state and returns its one writer: a value that any process reads at once, and is told about when it changes.
   * While another process writes it, the option `standby` waits for its turn.
   *
   * Rejects as `publisher` does, and with `ERR_RINGBELL_REFUSED` (another process writes it) or an `AbortError`.
   */
  state<T>(
    name: string,
    options: StateOptions<T, unknown> & { codec: ValueCodec; schema: InputSchema<T> },
  ): Promise<State<T>>
  state<T = unknown>(name: string, options: StateOptions<T> & { codec: Exclude<CodecName, 'bytes'> }): Promise<State<T>>
  state<T>(name: string, options: StateOptions<T> & { codec: Codec<T> }): Promise<State<T>>
  state(name: string, options?: StateOptions & { codec?: 'bytes' | undefined }): Promise<State>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  state<T>(name: string, options: StateOptions<T>): Promise<State<T>>
  async state(name: string, options: StateOptions<unknown> = {}): Promise<State<unknown>> {
    this.#assertOpen()
    checkName(name)
    const codec = resolveCodec(codecOf(options))
    // Wrong options are refused before the name is claimed.
    stateJson(options, codec.id, 0)
    const payloads = new PayloadCodec(codec, { messages: options.schema }, STATE_WORDS)
    return this.#claimed(name, options, (claim) =>
      this.#opened(
        translated(() => this.#native.state(name, stateJson(options, codec.id, claim.epoch))),
        (native, closed) => new State<unknown>({ native, claim, payloads, closed }),
      ),
    )
  }

  /**
   * The same with keys: a value for each key, which can be watched one by one, by prefix, or all.
   *
   * Rejects as `state` does.
   */
  keyedState<T>(
    name: string,
    options: StateOptions<T, unknown> & { codec: ValueCodec; schema: InputSchema<T> },
  ): Promise<KeyedState<T>>
  keyedState<T = unknown>(
    name: string,
    options: StateOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<KeyedState<T>>
  keyedState<T>(name: string, options: StateOptions<T> & { codec: Codec<T> }): Promise<KeyedState<T>>
  keyedState(name: string, options?: StateOptions & { codec?: 'bytes' | undefined }): Promise<KeyedState>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  keyedState<T>(name: string, options: StateOptions<T>): Promise<KeyedState<T>>
  async keyedState(name: string, options: StateOptions<unknown> = {}): Promise<KeyedState<unknown>> {
    this.#assertOpen()
    checkName(name)
    const codec = resolveCodec(codecOf(options))
    // Wrong options are refused before the name is claimed.
    stateJson(options, codec.id, 0)
    const payloads = new PayloadCodec(codec, { messages: options.schema }, STATE_WORDS)
    return this.#claimed(name, options, (claim) =>
      this.#opened(
        translated(() => this.#native.keyedState(name, stateJson(options, codec.id, claim.epoch))),
        (native, closed) => new KeyedState<unknown>({ native, claim, payloads, closed }),
      ),
    )
  }

  /**
   * Reads the state of this name, whoever writes it. Resolves at once, even if there is no writer.
   *
   * Rejects as `subscriber` does.
   */
  watchState<T>(
    name: string,
    options: StateReaderOptions<T, unknown> & { codec: ValueCodec; schema: Schema<T> },
  ): Promise<StateReader<T>>
  watchState<T = unknown>(
    name: string,
    options: StateReaderOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<StateReader<T>>
  watchState<T>(name: string, options: StateReaderOptions<T> & { codec: Codec<T> }): Promise<StateReader<T>>
  watchState(name: string, options?: StateReaderOptions & { codec?: 'bytes' | undefined }): Promise<StateReader>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  watchState<T>(name: string, options: StateReaderOptions<T>): Promise<StateReader<T>>
  async watchState(name: string, options: StateReaderOptions<unknown> = {}): Promise<StateReader<unknown>> {
    this.#assertOpen()
    checkText(name)
    const option = codecOf(options)
    const codec = resolveCodec(option)
    const json = stateReaderJson(options, option === undefined ? undefined : codec.id)
    return this.#opened(
      translated(() => this.#native.watchState(name, json)),
      (native, closed) =>
        new StateReader<unknown>({
          native,
          name,
          payloads: new PayloadCodec(codec, { messages: options.schema }, STATE_WORDS),
          wait: options.wait,
          mismatch: () => this.services.mismatch(name, 'state'),
          closed,
        }),
    )
  }

  /**
   * Reads the state with keys of this name, whoever writes it. Resolves at once: see `ready()`.
   *
   * Rejects as `subscriber` does.
   */
  watchKeyedState<T>(
    name: string,
    options: StateReaderOptions<T, unknown> & { codec: ValueCodec; schema: Schema<T> },
  ): Promise<KeyedStateReader<T>>
  watchKeyedState<T = unknown>(
    name: string,
    options: StateReaderOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<KeyedStateReader<T>>
  watchKeyedState<T>(name: string, options: StateReaderOptions<T> & { codec: Codec<T> }): Promise<KeyedStateReader<T>>
  watchKeyedState(
    name: string,
    options?: StateReaderOptions & { codec?: 'bytes' | undefined },
  ): Promise<KeyedStateReader>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  watchKeyedState<T>(name: string, options: StateReaderOptions<T>): Promise<KeyedStateReader<T>>
  async watchKeyedState(name: string, options: StateReaderOptions<unknown> = {}): Promise<KeyedStateReader<unknown>> {
    this.#assertOpen()
    checkText(name)
    const option = codecOf(options)
    const codec = resolveCodec(option)
    const json = stateReaderJson(options, option === undefined ? undefined : codec.id)
    return this.#opened(
      translated(() => this.#native.watchKeyedState(name, json)),
      (native, closed) =>
        new KeyedStateReader<unknown>({
          native,
          name,
          payloads: new PayloadCodec(codec, { messages: options.schema }, STATE_WORDS),
          wait: options.wait,
          mismatch: () => this.services.mismatch(name, 'state'),
          closed,
        }),
    )
  }

  /**
   * Offers a service that others call. One handler answers all calls; without a handler the server accepts only
   * messages. `bus.connect()` is the other side.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`,
   * `ERR_RINGBELL_CLOSED`.
   */
  serve(service: string, handler: Handler<Uint8Array, Uint8Array>): Promise<Server>
  serve(
    service: string,
    options?: ServeOptions & { codec?: 'bytes' | undefined },
    handler?: Handler<Uint8Array, Uint8Array>,
  ): Promise<Server>
  serve<Q, R = unknown, M = Q | R, S = M>(
    service: string,
    options: ServeOptions<Q, R, M, S, unknown> & { codec: ValueCodec; requests: Schema<Q> },
    handler?: Handler<Q, R, M, S>,
  ): Promise<Server<M, S>>
  serve<Q = unknown, R = unknown, M = Q | R, S = M>(
    service: string,
    options: ServeOptions<Q, R, M, S> & { codec: Exclude<CodecName, 'bytes'> },
    handler?: Handler<Q, R, M, S>,
  ): Promise<Server<M, S>>
  serve<Q, R = Q, M = Q | R, S = M>(
    service: string,
    options: ServeOptions<Q, R, M, S> & { codec: Codec<Q | R> },
    handler?: Handler<Q, R, M, S>,
  ): Promise<Server<M, S>>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  serve<Q, R, M, S>(
    service: string,
    options: ServeOptions<Q, R, M, S>,
    handler?: Handler<Q, R, M, S>,
  ): Promise<Server<M, S>>
  async serve(service: string, first: object = {}, second?: unknown): Promise<object> {
    this.#assertOpen()
    checkText(service)
    const [options, handler] = optionsAndHandler<ServeOptions<unknown, unknown>>(first, second)
    return this.#serve(service, options, handler)
  }

  #serve(service: string, options: ServeOptions<unknown, unknown>, handler: AnyHandler | undefined): Server<unknown> {
    const codec = resolveCodec(codecOf(options))
    const json = serveJson(options, codec.id)
    const { maxMessage = DEFAULT_MAX_MESSAGE, maxRequests = DEFAULT_MAX_REQUESTS, wait, member } = options
    const payloads = new PayloadCodec(codec, options)
    return this.#opened(
      translated(() => this.#native.serve(service, SERVER_KIND, json)),
      (native, closed) =>
        new Server<unknown>({ native, payloads, handler, maxMessage, maxRequests, wait, member, closed }),
    )
  }

  /**
   * Makes a client of a service by name. It follows the instances of the service as they come and go. Resolves at once,
   * even if there is no server: see `connected()`.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`,
   * `ERR_RINGBELL_CLOSED`.
   */
  connect<Q, R = unknown, M = Q | R, S = M>(
    service: string,
    options: ConnectOptions<Q, R, M, S, unknown> & { codec: ValueCodec; requests: InputSchema<Q> },
  ): Promise<Client<Q, R, M, S>>
  connect<Q = unknown, R = unknown, M = Q | R, S = M>(
    service: string,
    options: ConnectOptions<Q, R, M, S> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<Client<Q, R, M, S>>
  connect<Q, R = Q, M = Q | R, S = M>(
    service: string,
    options: ConnectOptions<Q, R, M, S> & { codec: Codec<Q | R> },
  ): Promise<Client<Q, R, M, S>>
  connect(service: string, options?: ConnectOptions & { codec?: 'bytes' | undefined }): Promise<Client>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  connect<Q, R, M, S>(service: string, options: ConnectOptions<Q, R, M, S>): Promise<Client<Q, R, M, S>>
  async connect(service: string, options: ConnectOptions<unknown, unknown> = {}): Promise<object> {
    this.#assertOpen()
    checkName(service)
    const json = connectJson(options)
    const codec = resolveCodec(codecOf(options))
    const {
      route = 'first',
      timeout = 0,
      maxMessage = DEFAULT_MAX_MESSAGE,
      wait,
      reconnect,
      schemaId,
      instance,
    } = options
    return this.#following(
      service,
      json,
      (native, watch, closed) =>
        new Client<unknown, unknown, unknown>({
          name: service,
          native,
          watch,
          payloads: new PayloadCodec(codec, options),
          expected: { kind: SERVER_KIND, codec: codec.id, schemaId, instance },
          route,
          timeout,
          maxMessage,
          wait,
          reconnect,
          closed,
        }),
    )
  }

  /**
   * Makes a work queue: each message goes to one of the workers, until one acknowledges it. `bus.worker()` is the other
   * side.
   *
   * Rejects as `serve` does.
   */
  queue<T>(
    service: string,
    options: QueueOptions<T, unknown> & { codec: ValueCodec; schema: InputSchema<T> },
  ): Promise<Queue<T>>
  queue<T = unknown>(
    service: string,
    options: QueueOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
  ): Promise<Queue<T>>
  queue<T>(service: string, options: QueueOptions<T> & { codec: Codec<T> }): Promise<Queue<T>>
  queue(service: string, options?: QueueOptions & { codec?: 'bytes' | undefined }): Promise<Queue>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  queue<T>(service: string, options: QueueOptions<T>): Promise<Queue<T>>
  async queue(service: string, options: QueueOptions<unknown> = {}): Promise<object> {
    this.#assertOpen()
    checkText(service)
    const codec = resolveCodec(codecOf(options))
    const json = queueJson(options, codec.id)
    const {
      maxMessage = DEFAULT_MAX_MESSAGE,
      limit = DEFAULT_LIMIT,
      attempts = DEFAULT_ATTEMPTS,
      timeout = 0,
      deadLetters = DEFAULT_DEAD_LETTERS,
      backoff,
      wait,
    } = options
    const payloads = new PayloadCodec(codec, { messages: options.schema })
    const own = { payloads, maxMessage, wait, limit, attempts, timeout, backoff, deadLetters }
    return this.#opened(
      translated(() => this.#native.serve(service, QUEUE_KIND, json)),
      (native, closed) => new Queue<unknown>({ native, closed, ...own }),
    )
  }

  /**
   * Works for every queue of that name: `handler` is called with each message, and acknowledges it by returning.
   * Resolves at once, even if there is no queue. Rejects as `connect` does.
   */
  worker(service: string, handler: WorkHandler<Uint8Array>): Promise<Worker>
  worker(
    service: string,
    options: WorkerOptions & { codec?: 'bytes' | undefined },
    handler: WorkHandler<Uint8Array>,
  ): Promise<Worker>
  worker<T>(
    service: string,
    options: WorkerOptions<T, unknown> & { codec: ValueCodec; schema: Schema<T> },
    handler: WorkHandler<T>,
  ): Promise<Worker<T>>
  worker<T = unknown>(
    service: string,
    options: WorkerOptions<T> & { codec: Exclude<CodecName, 'bytes'> },
    handler: WorkHandler<T>,
  ): Promise<Worker<T>>
  worker<T>(
    service: string,
    options: WorkerOptions<T> & { codec: Codec<T> },
    handler: WorkHandler<T>,
  ): Promise<Worker<T>>
  /** Options from a variable: the type of the values comes from the type of the variable. */
  worker<T>(service: string, options: WorkerOptions<T>, handler: WorkHandler<T>): Promise<Worker<T>>
  async worker(service: string, first: object, second?: unknown): Promise<object> {
    this.#assertOpen()
    checkName(service)
    const [options, handler] = optionsAndHandler<WorkerOptions<unknown>>(first, second)
    const json = workerJson(options)
    if (handler === undefined) throw invalid('handler', handler, 'must be a function')
    const codec = resolveCodec(codecOf(options))
    const { concurrency = 1, maxMessage = DEFAULT_MAX_MESSAGE, wait, reconnect, schema, schemaId } = options
    return this.#following(
      service,
      json,
      (native, watch, closed) =>
        new Worker<unknown>({
          name: service,
          native,
          watch,
          payloads: new PayloadCodec(codec, { requests: schema }, { request: 'message' }),
          expected: { kind: QUEUE_KIND, codec: codec.id, schemaId },
          handler,
          concurrency,
          maxMessage,
          wait,
          reconnect,
          closed,
        }),
    )
  }

  /**
   * The counters of every server and every work queue of that name, in any process. Those of a topic are in its shared memory: see
   * `subscriber.stats()`. Asking takes one connection of each instance for a moment. An instance that cannot be asked, or does not answer
   * within `timeout` (2,000 ms by default), has an `error`.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_RESOURCE`, `ERR_RINGBELL_CLOSED` or an
   * `AbortError`.
   */
  async counters(service: string, options: WaitForOptions = {}): Promise<ServiceCounters[]> {
    this.#assertOpen()
    checkName(service)
    checkWaitFor(options)
    const { timeout = 2000, signal } = options
    throwIfAborted(signal)
    const all = this.services.list().filter(({ name }) => name === service)
    const answers = [SERVER_KIND, QUEUE_KIND].map(async (kind) => {
      const some = all.filter((one) => one.kind === kind)
      const open = (ended: () => void): Client => this.#inquirer(service, kind, ended)
      return some.length === 0 ? [] : askForCounters(open, some, timeout, signal)
    })
    return (await Promise.all(answers)).flat()
  }

  /**
   * Announces a record that is not a topic: a name, endpoints, metadata. If there are servers among the endpoints, the record appears when
   * they listen, and goes when one of them has closed.
   *
   * Rejects as `publisher` does, and with what a server that cannot listen fails with.
   */
  async announce(service: string, options: AnnounceOptions = {}): Promise<Announced> {
    this.#assertOpen()
    checkText(service)
    checkAnnounce(options)
    const offered = new Offered(options)
    // Otherwise it is announced before this function returns.
    if (offered.waits) {
      checkName(service)
      await this.#ready(offered)
      this.#assertOpen()
    }
    const { metadata = {} } = options
    const json = announceJson(options, offered.endpoints, offered.fields)
    return this.#opened(
      translated(() => this.#native.announce(service, json)),
      (native, closed) => new Announced(native, offered, metadata, closed),
    )
  }

  /**
   * Where an endpoint of this name can be reached, `http` by default: `{ socketPath }` or `{ host, port }`, as `http.request` takes it.
   * Each call gives the next instance, of those whose health check passes; one of another machine (`service.origin`) only while this bus
   * has none. The first call begins to follow the bus, and the
   * following ones take no system call.
   *
   * @throws {RingbellError} `ERR_RINGBELL_NOT_FOUND` (the message says what is there instead), `ERR_RINGBELL_INVALID_NAME`,
   * `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_CLOSED`.
   */
  resolve(service: string, endpoint = 'http', options?: ResolveOptions): Target {
    checkText(service)
    if (options !== undefined || typeof endpoint !== 'string') checkResolve(endpoint, options)
    return this.book.next(service, endpoint, options?.route ?? 'round-robin').target
  }

  /**
   * All endpoints of this name, or those called `endpoint`: those of this bus first, in the order in which their instances came. `[]`: there
   * are none.
   *
   * @throws {RingbellError} as `resolve`, except for `ERR_RINGBELL_NOT_FOUND`.
   */
  endpoints(service: string, endpoint?: string): Endpoint[] {
    if (endpoint !== undefined) checkResolve(endpoint, {})
    return this.book.list(service, endpoint)
  }

  /** @internal For those who choose among endpoints. */
  get book(): EndpointBook {
    this.#assertOpen()
    return (this.#book ??= new EndpointBook(this.services))
  }

  /**
   * Claims a name that one process on the bus holds at a time: resolves when this process holds it. The order of those
   * who wait is not promised. The first claim of a name since the machine started takes a tenth of a second.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_BUS_DIRECTORY` (the name's file
   * is none that can be used), `ERR_RINGBELL_NO_PERMISSION` (it belongs to another user), `ERR_RINGBELL_RESOURCE`,
   * `ERR_RINGBELL_CLOSED` or an `AbortError`.
   */
  claim(name: string, options: ClaimOptions & { ifAvailable: true }): Promise<Claim | undefined>
  claim(name: string, options?: ClaimOptions & { ifAvailable?: false | undefined }): Promise<Claim>
  /** Options from a variable. */
  claim(name: string, options: ClaimOptions): Promise<Claim | undefined>
  async claim(name: string, options: ClaimOptions = {}): Promise<Claim | undefined> {
    this.#assertOpen()
    checkText(name)
    checkClaim(options)
    const { signal, ifAvailable = false } = options
    return this.#claim(name, !ifAvailable, signal)
  }

  async #claim(name: string, patient: boolean, signal?: AbortSignal, holds = true): Promise<Claim | undefined> {
    this.#assertOpen()
    throwIfAborted(signal)
    const claim = this.#opened(
      translated(() => this.#native.claim(name, patient)),
      (native, ended) => new Claim(native, name, ended),
    )
    return claim.granted(signal, holds)
  }

  /**
   * Joins a service group, of which one member is primary at a time. The member contends for the claim of that name, so
   * `claims.watch(group)` shows who is primary. Others find members as the service `<group>.member`. Resolves at once:
   * see `member.primary`.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION`, `ERR_RINGBELL_BUS_DIRECTORY` (the claim's file is
   * none that can be used), `ERR_RINGBELL_NO_PERMISSION`, `ERR_RINGBELL_RESOURCE` or `ERR_RINGBELL_CLOSED`.
   */
  async join(group: string, options: JoinOptions = {}): Promise<Member> {
    this.#assertOpen()
    checkText(group)
    checkJoin(options)
    const control = controlName(group)
    // A name that cannot be claimed is refused now. Later errors are events.
    checkName(control)
    this.claims.query(group)
    const { access } = options
    const member = new Member({
      group,
      options,
      serve: (metadata, handler) =>
        this.#serve(control, { codec: 'json', metadata, access }, (request, { connection }) =>
          handler(request as ControlRequest, connection as Connection<unknown>),
        ),
      claim: (signal) => this.#claim(group, true, signal, false) as Promise<Claim>,
      watch: (signal) => this.claims.watch(group, { signal }),
      // The view may not have heard yet of a member that holds a socket.
      others: (own) => this.services.scan().filter(({ name, id }) => name === control && id !== own.id),
      sockets: {
        claim: () => this.#claim(listenName(group), true, undefined, false) as Promise<Claim>,
        connect: () => this.connect(control, { codec: 'json', route: 'round-robin' }),
      },
      closed: (one) => this.#open.delete(one),
    })
    this.#open.add(member)
    return member
  }

  /**
   * Opens a semaphore: a number of permits that processes share, for instance the calls at a time that a service allows.
   *
   * Rejects with `ERR_RINGBELL_INVALID_NAME`, `ERR_RINGBELL_INVALID_OPTION` (also if other processes have it open with another
   * number), `ERR_RINGBELL_ACQUIRE` (they cannot be reached), `ERR_RINGBELL_TIMEOUT`, `ERR_RINGBELL_RESOURCE`,
   * `ERR_RINGBELL_CLOSED` or an `AbortError`.
   */
  async semaphore(name: string, options: SemaphoreOptions): Promise<Semaphore> {
    this.#assertOpen()
    checkSemaphore(options)
    const { permits, signal } = options ?? {}
    if (permits === undefined) throw invalid('permits', permits, 'must be given: how many there are in all')
    return this.#member('semaphore', name, permits, { signal }, (place) => new Semaphore(place, permits))
  }

  /** Opens a flag: true or false, which processes change at once and wait for. Rejects as `semaphore` does. */
  async flag(name: string, options: SignalOptions = {}): Promise<AtomicFlag> {
    this.#assertOpen()
    checkTake(options)
    return this.#member('flag', name, 0, { signal: options.signal }, (place) => new AtomicFlag(place))
  }

  /** Opens a mutex with many keys, which share a number of shards. Rejects as `semaphore` does. */
  async shardedMutex(name: string, options: ShardedMutexOptions = {}): Promise<ShardedMutex> {
    this.#assertOpen()
    checkShardedMutex(options)
    const { shards = DEFAULT_SHARDS, signal } = options
    return this.#member('mutex', name, shards, { signal }, (place) => new ShardedMutex(place, shards))
  }

  /** Removes what dead processes left, and never what belongs to a living one. Any process may call it at any time. */
  async gc(): Promise<GcReport> {
    this.#assertOpen()
    return JSON.parse(translated(() => this.#native.gc())) as GcReport
  }

  /** Checks what this machine allows, and how ringbell works with that. */
  async doctor(): Promise<Doctor> {
    this.#assertOpen()
    return JSON.parse(translated(() => this.#native.doctor())) as Doctor
  }

  /** Closes everything that was opened through it, even if a part of it fails to close. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const errors: unknown[] = []
    const attempt = (close: () => void): void => {
      try {
        close()
      } catch (error) {
        errors.push(fromNative(error))
      }
    }
    for (const one of this.#open) attempt(() => one.closeNow())
    attempt(() => this.#book?.close())
    attempt(() => this.services.close())
    attempt(() => this.claims.close())
    attempt(() => this.locks.close())
    attempt(() => this.#requests?.close())
    attempt(() => this.#native.close())
    if (channels.bus.closed.hasSubscribers) channels.bus.closed.publish({ bus: this })
    if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'Closing a bus failed')
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Bus', membersOf(this, 'path', 'pathSource', 'closed'), depth, options)
  }

  /** A client of all instances of this kind, for requests about themselves. `ended`: the bus is closed, and the client with it. */
  #inquirer(service: string, kind: string, ended: () => void): Client {
    return this.#following(
      service,
      connectJson({}),
      (native, watch, closed) =>
        new Client({
          name: service,
          native,
          watch,
          payloads: new PayloadCodec(resolveCodec(undefined)),
          expected: { kind, codec: undefined, schemaId: undefined },
          route: 'round-robin',
          timeout: 0,
          maxMessage: DEFAULT_MAX_MESSAGE,
          wait: undefined,
          reconnect: undefined,
          closed: (one) => {
            closed(one)
            if (this.#closed) ended()
          },
        }),
    )
  }

  /** A client or worker needs an endpoint, and a watch of its own for the instances of its service. */
  #following<C extends Closable>(
    service: string,
    json: string,
    make: (native: NativeChannel, watch: NativeWatch, closed: (one: Closable) => void) => C,
  ): C {
    const watch = translated(() => this.#native.watch(service))
    try {
      return this.#opened(
        translated(() => this.#native.channel(json)),
        (native, closed) => make(native, watch, closed),
      )
    } catch (error) {
      throw closedAfter(error, watch)
    }
  }

  async #ready(offered: Offered): Promise<void> {
    const waiting = { closeNow: () => offered.giveUp(closedError('bus')) }
    this.#open.add(waiting)
    try {
      await offered.ready()
    } finally {
      this.#open.delete(waiting)
    }
  }

  /** The writer of a state holds a claim on its name. If `make` throws, the name is released. */
  async #claimed<S>(
    name: string,
    { standby = false, signal }: StateOptions<unknown>,
    make: (claim: Claim) => S,
  ): Promise<S> {
    const claim = await this.claim(name, { ifAvailable: !standby, signal })
    if (claim === undefined) throw heldByAnother(name)
    try {
      this.#assertOpen()
      return make(claim)
    } catch (error) {
      await claim.release()
      throw error
    }
  }

  /** Opens a lock, semaphore, flag or mutex. */
  async #member<M extends Closable>(
    kind: Kind,
    name: string,
    size: number,
    limits: SignalOptions,
    make: (place: Place) => M,
  ): Promise<M> {
    checkText(name)
    throwIfAborted(limits.signal)
    const requests = (this.#requests ??= new Requests(this.#native))
    const member = await requests.open(kind, name, size, limits)
    // It may have been closed before this promise job ran.
    this.#assertOpen()
    const one = make({ requests, member, name, closed: () => this.#open.delete(one) })
    this.#open.add(one)
    return one
  }

  #lockNames(): string[] {
    const names = this.services.list().flatMap(({ kind, name }) => (kind === LOCK_KIND ? [name] : []))
    return [...new Set(names)].map((name) => name.slice(LOCK_KIND.length + 1))
  }

  /** If `make` throws, the native object is closed, so that it does not stay open or announced. */
  #opened<N extends { close(): void }, C extends Closable>(
    native: N,
    make: (native: N, closed: (one: Closable) => void) => C,
  ): C {
    try {
      const one = make(native, (closed) => this.#open.delete(closed))
      this.#open.add(one)
      return one
    } catch (error) {
      throw closedAfter(error, native)
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('bus')
  }
}

/** `(handler)`, `(options)` or `(options, handler)`. */
function optionsAndHandler<O extends object>(first: object, second: unknown): [options: O, handler?: AnyHandler] {
  if (typeof first === 'function') {
    if (second !== undefined) throw invalid('handler', second, 'must be last, after the options')
    return [{} as O, first as AnyHandler]
  }
  if (second !== undefined && typeof second !== 'function') throw invalid('handler', second, 'must be a function')
  return [first as O, second as AnyHandler]
}
