/**
 * A publisher: the one writer of a ring, announced under a service name. `send` never waits and never allocates.
 * `ready()` waits for room. `write()` waits and sends messages of any size. Batches and loans write into the ring
 * itself, one at a time. A message for which `send` returned `true` is not lost while both ends live (docs/caveats.md).
 */
import type { Writable } from 'node:stream'
import type { MemberPart, Membership } from '../bus/membership.js'
import { metadataJson } from '../bus/options.js'
import { type RecordJson, type Service, serviceOf } from '../bus/service.js'
import { check, integer } from '../check.js'
import { checkBytes, joined } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { closedAfter, inSteps } from '../closing.js'
import { channels } from '../diagnostics.js'
import { closedError, fromNative, tooLarge, translated } from '../errors.js'
import { HeaderTable, type HeadersOption, type MessageHeaders } from '../headers.js'
import { invalid } from '../invalid.js'
import type { NativePublisher, NativePublisherHot } from '../native.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { outgoing, tracer } from '../tracer.js'
import { type SignalOptions, throwIfAborted } from '../wait/abort.js'
import { Emitter } from '../wait/emitter.js'
import { type WaitOption, WaitPolicy } from '../wait/policy.js'
import { poller, type Poller } from '../wait/poller.js'
import { Audience, type PublisherEvents } from './audience.js'
import { writable, type WritableOptions } from './node-streams.js'
import { checkAttached, checkReady, checkSend, checkWrite } from './options.js'
import type { PublisherStats } from './stats.js'
import { type BatchHost, BatchWriter } from './writing/batch-writer.js'
import { Loan } from './writing/loan.js'
import { Room } from './writing/room.js'
import { Window } from './writing/window.js'

/** How much room to wait for. */
export interface ReadyOptions extends SignalOptions {
  /** Bytes of payload that must fit; by default those of the message that was refused last. */
  bytes?: number | undefined
}

/** What to send with a message. */
export interface SendOptions extends HeadersOption {}

/** What to send with a message, and how long to wait. */
export interface WriteOptions extends SendOptions, SignalOptions {}

/** How many subscribers to wait for. */
export interface AttachedSubscribersOptions extends SignalOptions {
  /** Subscribers to wait for, 1 by default. */
  count?: number | undefined
}

/** @internal What a bus passes to the constructor. */
export interface PublisherParts {
  native: NativePublisher
  payloads: PayloadCodec
  wait: WaitOption | undefined
  readonly member?: Membership | undefined
  readonly closed: (publisher: Publisher<unknown>) => void
}

/** The one writer of a topic; `bus.publisher()` makes it. */
export class Publisher<T = Uint8Array> extends Emitter<PublisherEvents> implements AsyncDisposable {
  /** The largest message in bytes that `send` takes; a larger one throws `ERR_RINGBELL_MESSAGE_TOO_LARGE`, and can be sent by `write`. */
  readonly maxMessage: number
  readonly #native: NativePublisher
  readonly #hot: NativePublisherHot
  readonly #send: NativePublisherHot['send']
  /** Absent if messages are bytes and stay as they are. */
  readonly #payloads: PayloadCodec | undefined
  readonly #poller: Poller
  readonly #id: number
  readonly #room: Room
  readonly #audience: Audience
  readonly #window: Window
  /** Made for the first message with headers. */
  #headers: HeaderTable | undefined
  readonly #host: BatchHost
  readonly #onClose: PublisherParts['closed']
  readonly #leaveMember: (() => void) | undefined
  #refused = 0
  #closed = false

  /** @internal Use `bus.publisher()`. */
  constructor(parts: PublisherParts) {
    super()
    const { native, payloads } = parts
    this.maxMessage = native.maxMessage
    this.#native = native
    // First, because a member that has left refuses it.
    this.#leaveMember = parts.member?.include(this.#part())
    this.#hot = native.hot()
    this.#send = this.#hot.send
    this.#payloads = payloads.plain ? undefined : payloads
    this.#onClose = parts.closed
    this.#poller = poller()
    this.#room = new Room(this.#hot, new WaitPolicy(parts.wait), this.#poller, (bytes) => this.#full(bytes))
    this.#audience = new Audience(native, this.#hot.sweep, this, this.#poller)
    this.#window = new Window(native, this.#hot, () => this.#room.writing)
    this.#host = hostOf(this, (bytes) => (this.#refused = bytes))
    this.#id = this.#poller.add(native, { wake: () => this.#wake() })
    try {
      this.#audience.listen()
    } catch (error) {
      this.#leaveMember?.()
      throw closedAfter(error, { close: () => this.#poller.remove(this.#id) })
    }
    if (channels.publisher.opened.hasSubscribers) channels.publisher.opened.publish({ publisher: this })
  }

  /** @internal Whether `send` takes values rather than bytes. */
  get objectMode(): boolean {
    return this.#payloads?.own === false
  }

  /** This publisher as others see it. */
  get service(): Service {
    return serviceOf(JSON.parse(translated(() => this.#native.record())) as RecordJson)
  }

  /** Subscribers attached right now. */
  get subscribers(): number {
    return this.#closed ? 0 : translated(() => this.#native.subscribers)
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#closed
  }

  /**
   * Sends one message at once to every attached subscriber. `false`: it was not accepted, because the ring is full for
   * the slowest subscriber, or a `write()` comes first. With `block`, wait for `ready()` and send it again; with
   * `drop-newest`, it was dropped and counted.
   *
   * @throws {RingbellError} `ERR_RINGBELL_MESSAGE_TOO_LARGE`, `ERR_RINGBELL_WINDOW_OPEN` while a batch or loan is open,
   * `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_INVALID_OPTION` for headers that cannot be sent.
   */
  send(value: T, options?: SendOptions): boolean {
    if (options !== undefined || tracer !== undefined) {
      const headers = options && headersOf(options)
      if (headers !== undefined || tracer !== undefined) return this.#sendWith(value, headers)
    }
    const payloads = this.#payloads
    const data = payloads === undefined ? (value as Uint8Array) : payloads.encodeMessage(value)
    try {
      if (!this.#room.writing && this.#send(data) === 1) return true
    } catch (error) {
      checkBytes(data)
      throw fromNative(error)
    }
    this.#refused = data.byteLength
    return false
  }

  /**
   * Sends one message of any size, up to 1 GiB on a `block` topic. Resolves when all of it is in the ring. A message
   * above `maxMessage` goes in pieces, while subscribers read the earlier pieces. Calls of `write()` and `ready()` are
   * served in order. Messages that are sent later come later: until then `send` returns `false`. Do not change the
   * bytes before it has resolved.
   *
   * Rejects with the errors of `send`; with `ERR_RINGBELL_CLOSED` when the publisher is closed meanwhile; with an
   * `AbortError` when the signal fires. After a rejection nothing was sent, or only a part: subscribers do not get
   * that, and count the message as missed.
   */
  async write(value: T, options?: WriteOptions): Promise<void> {
    if (options !== undefined) {
      checkWrite(options)
      throwIfAborted(options.signal)
    }
    if (this.#closed) throw closedError('publisher')
    const payloads = this.#payloads
    const data = payloads === undefined ? (value as Uint8Array) : payloads.encodeMessage(value)
    checkBytes(data)
    // A message that goes at once without the tracer's headers also does so with them.
    const limit = data.byteLength > this.maxMessage ? MAX_LARGE : this.maxMessage
    const headers = outgoing(options?.headers, limit - data.byteLength)
    if (headers === undefined) await this.#room.write(data, this.maxMessage, options?.signal)
    else {
      const block = this.#table.encoded(headers)
      const headed = { table: this.#table, size: block.byteLength }
      await this.#room.write(joined(data, block), this.maxMessage, options?.signal, headed)
    }
  }

  /**
   * Resolves when there is room for the message that was refused last, or for `bytes`. With `drop-oldest` it resolves
   * at once. Several calls may wait; they are served in order.
   *
   * Rejects with `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_MESSAGE_TOO_LARGE`, or an `AbortError`.
   */
  async ready(options?: ReadyOptions): Promise<void> {
    if (options !== undefined) {
      checkReady(options)
      throwIfAborted(options.signal)
    }
    if (this.#closed) throw closedError('publisher')
    const bytes = options?.bytes ?? this.#refused
    if (bytes > this.maxMessage) throw tooLarge(bytes, this.maxMessage)
    try {
      if (this.#room.now(bytes)) return
    } catch (error) {
      throw fromNative(error)
    }
    await this.#room.wait(bytes, options?.signal)
  }

  /**
   * Resolves when at least `count` subscribers are attached, at most as many as the publisher has slots for (`maxSubscribers`, and those for guests). Rejects with `ERR_RINGBELL_CLOSED` or an `AbortError`, whose
   * message says how many are attached. Waiting keeps the process alive, unless the publisher is `unref`ed.
   */
  async attached(options: AttachedSubscribersOptions = {}): Promise<void> {
    checkAttached(options)
    const { count = 1, signal } = options
    throwIfAborted(signal)
    if (this.#closed) throw closedError('publisher')
    if (count > 1) this.#checkCount(count)
    await this.#audience.wait(count, signal)
  }

  /** More subscribers than there are slots never come. */
  #checkCount(count: number): void {
    const { maxSubscribers = count, maxGuests = 0 } = this.service.topic ?? {}
    const most = maxSubscribers + maxGuests
    if (count > most)
      throw invalid('count', count, `must be at most ${most}, the slots of this publisher; raise maxSubscribers`)
  }

  /** Makes a writer for many small messages: bytes, which no codec and no schema sees. It is cheap, and can be used again and again. */
  batch(): BatchWriter {
    if (this.#closed) throw closedError('publisher')
    return new BatchWriter(this.#window, this.#host)
  }

  /**
   * Memory of the ring for one message of at most `byteLength` bytes, to be written in place; `undefined` when there is no room. No
   * codec and no schema sees it.
   *
   * @throws {RingbellError} as `send` does.
   */
  loan(byteLength: number): Loan | undefined {
    check({ byteLength }, { byteLength: integer(0, 2 ** 30) })
    if (this.#closed) throw closedError('publisher')
    const window = this.#window
    const length = translated(() => window.openFor(byteLength, this.maxMessage))
    if (length > 0) return new Loan(window, byteLength)
    this.#refused = byteLength
    return undefined
  }

  /** Replaces the record's metadata; others see `updated`. */
  update(metadata: Record<string, unknown>): void {
    const json = metadataJson(metadata)
    translated(() => this.#native.update(json))
  }

  /** A Node stream: every chunk becomes a message, with real back-pressure. Ending or destroying it leaves the publisher open. */
  writable(options: WritableOptions = {}): Writable {
    return writable(this, options)
  }

  /**
   * Counters of this publisher and of each attached subscriber.
   *
   * @throws {RingbellError} `ERR_RINGBELL_CLOSED`, as `service` does.
   */
  stats(): PublisherStats {
    return JSON.parse(translated(() => this.#native.stats())) as PublisherStats
  }

  /** Waiting for room or for subscribers keeps the process alive (the default). */
  ref(): this {
    this.#room.referenced = true
    this.#audience.referenced = true
    return this
  }

  /**
   * Waiting for room or for subscribers does not keep the process alive. It then sleeps whenever it waits, even if the option `wait` says
   * otherwise.
   */
  unref(): this {
    this.#room.referenced = false
    this.#audience.referenced = false
    return this
  }

  /** Withdraws the record. Subscribers can still read what was committed; an open batch or loan is dropped. Idempotent. */
  async close(): Promise<void> {
    this.closeNow()
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.closeNow()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Publisher', membersOf(this, 'service', 'closed', 'subscribers', 'maxMessage'), depth, options)
  }

  /** @internal */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    this.#onClose(this)
    this.#leaveMember?.()
    inSteps(
      () => this.#host.writer?.detach(),
      () => this.#room.close(),
      () => this.#audience.close(closedError('publisher')),
      () => this.#poller.remove(this.#id),
      () => this.#native.close(),
      () => this.#publishClosed(),
    )
  }

  /** The core refuses to send for a standby. */
  #part(): MemberPart {
    return {
      announce: (info) => translated(() => this.#native.setGroup(JSON.stringify(info))),
      settled: () => Promise.resolve(),
      disown: (reason) => this.#room.fail(reason),
      // What it has sent can be read when its process has ended.
      retire: () => Promise.resolve(),
    }
  }

  #sendWith(value: T, given: MessageHeaders | undefined): boolean {
    const payloads = this.#payloads
    const data = payloads === undefined ? (value as Uint8Array) : payloads.encodeMessage(value)
    let headers = given
    if (tracer !== undefined) {
      checkBytes(data)
      headers = outgoing(given, this.maxMessage - data.byteLength)
    }
    const size = headers === undefined ? 0 : this.#table.write(headers)
    try {
      if (!this.#room.writing && (size === 0 ? this.#send(data) : this.#hot.sendWith(data, size)) === 1) return true
    } catch (error) {
      checkBytes(data)
      throw fromNative(error)
    }
    this.#refused = data.byteLength + size
    return false
  }

  get #table(): HeaderTable {
    return (this.#headers ??= new HeaderTable(translated(() => this.#native.headers)))
  }

  #publishClosed(): void {
    if (channels.publisher.closed.hasSubscribers) channels.publisher.closed.publish({ publisher: this })
  }

  /** @internal */
  override listenerAdded(): void {
    this.#audience.listen()
  }

  #wake(): void {
    this.#room.wake()
    if (!this.#closed) this.#audience.wake()
  }

  #full(bytes: number): void {
    if (channels.publisher.full.hasSubscribers) channels.publisher.full.publish({ publisher: this, bytes })
  }
}

/** Bytes of the largest message, headers included, that `write` sends. */
const MAX_LARGE = 2 ** 30

/** Cheaper than `check`, which makes lists: it is called for each message with headers. */
function headersOf(options: SendOptions): MessageHeaders | undefined {
  if (typeof options !== 'object') checkSend(options)
  for (const name in options) if (name !== 'headers') checkSend(options)
  return options.headers
}

function hostOf(publisher: Publisher<unknown>, refused: (bytes: number) => void): BatchHost {
  return {
    get closed() {
      return publisher.closed
    },
    maxMessage: publisher.maxMessage,
    writer: undefined,
    refused,
  }
}
