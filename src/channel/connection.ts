/**
 * One connection, as users hold it: plain messages in both directions, file descriptors, and the identity of the peer.
 * Calls belong to clients and servers; they share the rings of the connection with these messages, in one order. A slow
 * reader of messages stops their sender (after at most 256 KiB), but it does not stop the calls.
 */
import type { Fallback, Rung, Service } from '../bus/service.js'
import { copied, joined } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { closedError, RingbellError } from '../errors.js'
import { encodeHeaders, type Envelope } from '../headers.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { outgoing } from '../tracer.js'
import { checkSignal, type SignalOptions, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Iteration } from '../wait/iteration.js'
import { once } from '../wait/once.js'
import { TimeSlice } from '../wait/time-slice.js'
import { waitFor } from '../wait/waiting.js'
import type { Endpoint } from './endpoint.js'
import { Descriptors, type ReceivedFds } from './fds.js'
import { Inbox } from './inbox.js'
import type { Link, PeerInfo } from './link.js'
import { checkFds, checkMessage, checkMessageWrite, type MessageOptions, type MessageWriteOptions } from './options.js'
import { LARGEST } from './wire.js'

/** @internal What a connection is made of. */
export interface ConnectionParts {
  readonly endpoint: Endpoint
  readonly link: Link
  readonly payloads: PayloadCodec
  readonly rung: Rung
  readonly fallbacks: readonly Fallback[]
  readonly service: Service | undefined
}

/**
 * The connection of one client with one server: messages and file descriptors in both directions, besides calls. It receives an `M` and
 * sends an `S`.
 */
export class Connection<M = Uint8Array, S = M> implements AsyncIterable<M>, AsyncDisposable {
  /** The process at the other end, as the kernel reports it. */
  readonly peer: PeerInfo
  /** The server's instance; `undefined` at the server itself. */
  readonly service: Service | undefined
  /** How its memory was acquired. */
  readonly rung: Rung
  /** The better rungs that were not taken, and why. */
  readonly fallbacks: readonly Fallback[]
  /** A value of your own; the library does not use it. */
  data: unknown = undefined
  readonly #endpoint: Endpoint
  readonly #link: Link
  readonly #payloads: PayloadCodec
  readonly #inbox: Inbox<M>
  readonly #descriptors: Descriptors
  readonly #timeSlice = new TimeSlice()
  /** Bytes of the message that was refused last. */
  #refused = 0

  /** @internal */
  constructor({ endpoint, link, payloads, rung, fallbacks, service }: ConnectionParts) {
    this.peer = link.peer
    this.service = service
    this.rung = rung
    this.fallbacks = fallbacks
    this.#endpoint = endpoint
    this.#link = link
    this.#payloads = payloads
    this.#descriptors = new Descriptors(endpoint, link)
    this.#inbox = new Inbox<M>({
      what: 'connection',
      decode: (data) => payloads.decodeMessage(data) as M,
      waiting: (waits) => (waits ? endpoint.want() : endpoint.unwant()),
      taken: (bytes) => link.tookMessage(bytes),
      left: () => {},
    })
  }

  /** Whether it has ended, at either side. */
  get closed(): boolean {
    return this.#link.gone !== undefined
  }

  /**
   * Sends one message at once. `false`: it was not accepted, because there is no room or the reader at the other side
   * is behind. Wait for `ready()` and send it again.
   *
   * @throws {RingbellError} `ERR_RINGBELL_PEER_GONE`, `ERR_RINGBELL_CLOSED`, `ERR_RINGBELL_CODEC`, `ERR_RINGBELL_SCHEMA`, and
   * `ERR_RINGBELL_MESSAGE_TOO_LARGE` for a message that takes more than half of the ring: `write()` sends that;
   * `ERR_RINGBELL_INVALID_OPTION` for headers that cannot be sent.
   */
  send(value: S, options?: MessageOptions): boolean {
    if (options !== undefined) checkMessage(options)
    const link = this.#link
    if (link.gone !== undefined) throw link.gone
    const message = this.#payloads.encodeMessage(value)
    const headers = bytesOf(options, link.largest - message.byteLength)
    const data = headers === undefined ? message : joined(message, headers)
    if (link.message(data, headers?.byteLength ?? 0)) return true
    if (link.gone !== undefined) throw link.gone
    if (link.isLarge(data.byteLength))
      throw new RingbellError(
        'ERR_RINGBELL_MESSAGE_TOO_LARGE',
        `A message of ${data.byteLength} bytes does not fit into the connection's ring at once; send it with write().`,
      )
    this.#refused = data.byteLength
    return false
  }

  /** Resolves when there is room for the message that was refused last. Rejects with the errors of `send`, or an `AbortError`. */
  async ready(options: SignalOptions = {}): Promise<void> {
    checkSignal(options)
    await this.#ready(this.#refused, options.signal)
  }

  /**
   * Sends a message of any size, and waits for room as long as it takes. Resolves when all of it is sent. Do not change
   * its bytes until then. The signal ends the wait for room; it does not stop a message that has begun.
   *
   * Rejects with the errors of `send`, or an `AbortError`.
   */
  async write(value: S, options: MessageWriteOptions = {}): Promise<void> {
    checkMessageWrite(options)
    const { signal } = options
    throwIfAborted(signal)
    const link = this.#link
    let data = this.#payloads.encodeMessage(value)
    const headers = bytesOf(options, LARGEST - data.byteLength)
    const size = headers?.byteLength ?? 0
    checkSize(data.byteLength + size)
    if (headers !== undefined) data = joined(data, headers)
    // While this waits, the codec may use its scratch buffer again.
    else if (!this.#payloads.own) data = copied(data)
    for (;;) {
      if (link.gone !== undefined) throw link.gone
      if (link.message(data, size)) return
      await this.#ready(data.byteLength, signal)
      if (link.isLarge(data.byteLength)) break
    }
    await this.#written(data, size)
  }

  /**
   * `for await (const message of connection)`: the messages of the other side, until the connection ends. One that codec or
   * schema refuses ends the loop with `ERR_RINGBELL_CODEC` or `ERR_RINGBELL_SCHEMA`; the next loop goes on after it.
   */
  [Symbol.asyncIterator](): AsyncIteration<M> {
    return this.messages()
  }

  /**
   * The same with a signal: when it fires, the iteration rejects with an `AbortError`.
   *
   * @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another iteration.
   */
  messages(options: SignalOptions = {}): AsyncIteration<M> {
    checkSignal(options)
    return new Iteration(this.#inbox, this.#inbox, options.signal)
  }

  /** As `messages`, each with its headers. */
  envelopes(options: SignalOptions = {}): AsyncIteration<Envelope<M>> {
    checkSignal(options)
    return new Iteration(this.#inbox.envelopes, this.#inbox, options.signal)
  }

  /**
   * The next message. Rejects with `ERR_RINGBELL_CODEC` or `ERR_RINGBELL_SCHEMA` if that one is not what codec and schema
   * expect; the next call gets the one after it. Rejects with `ERR_RINGBELL_CLOSED` once the connection has ended and all messages are received,
   * `ERR_RINGBELL_BUSY`, or an `AbortError`.
   */
  async receive(options: SignalOptions = {}): Promise<M> {
    checkSignal(options)
    throwIfAborted(options.signal)
    const inbox = this.#inbox
    inbox.assertFree()
    if (!this.#timeSlice.due() && inbox.refill()) return inbox.take()
    inbox.assertGoesOn()
    return once(inbox, inbox, this.#timeSlice, options.signal)
  }

  /**
   * Passes up to 16 open file descriptors to the other process, with at most 32 KiB of data that says what they are.
   * The other process gets duplicates: the caller's own descriptors stay open, and it may close them at any time.
   *
   * Rejects with `ERR_RINGBELL_PEER_GONE`, `ERR_RINGBELL_INVALID_OPTION` (which names the descriptor that is not open),
   * `ERR_RINGBELL_RESOURCE`, or an `AbortError`.
   */
  async sendFds(data: Uint8Array, fds: readonly number[], options: SignalOptions = {}): Promise<void> {
    checkSignal(options)
    checkFds(data, fds)
    await this.#descriptors.send(data, fds, options.signal)
  }

  /**
   * The next descriptors from the other side. They belong to the caller, which must close them.
   *
   * Rejects with `ERR_RINGBELL_PEER_GONE`, `ERR_RINGBELL_RESOURCE` (the limit of open files; those descriptors are
   * lost), `ERR_RINGBELL_BUSY`, or an `AbortError`.
   */
  async receiveFds(options: SignalOptions = {}): Promise<ReceivedFds> {
    checkSignal(options)
    return this.#descriptors.receive(options.signal)
  }

  /** Ends it in good order: the other side can still read what was sent. A client connects again. Idempotent. */
  async close(): Promise<void> {
    if (this.#link.gone !== undefined) return
    this.#link.gone = closedError('connection')
    this.#endpoint.disconnect(this.#link)
  }

  /** `await using`: as `close()`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What `JSON.stringify` writes: who is at the other end. Not `data`, which is yours. */
  toJSON(): object {
    return membersOf(this, 'peer', 'service', 'rung', 'fallbacks', 'closed')
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Connection', { ...this.toJSON(), ...membersOf(this, 'data') }, depth, options)
  }

  /** @internal */
  arrived(data: Uint8Array, headers: number): void {
    this.#inbox.push(data, headers)
  }

  /** @internal */
  get descriptors(): Descriptors {
    return this.#descriptors
  }

  /** @internal The core has reported the end. */
  ended(error: RingbellError): void {
    this.#inbox.end()
    this.#descriptors.end(error)
  }

  async #ready(bytes: number, signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal)
    this.#endpoint.want()
    try {
      await this.#link.room(bytes, signal)
    } finally {
      this.#endpoint.unwant()
    }
  }

  #written(data: Uint8Array, headers: number): Promise<void> {
    const link = this.#link
    return waitFor((waiting) => {
      this.#endpoint.want()
      link.writers.add(waiting)
      const written = (error?: RingbellError): void => {
        if (error === undefined) waiting.resolve()
        else waiting.reject(error)
      }
      try {
        link.postMessage(data, headers, this.#payloads.own, written)
      } catch (error) {
        waiting.reject(error)
      }
      if (link.gone !== undefined) waiting.reject(link.gone)
      return () => {
        link.writers.delete(waiting)
        this.#endpoint.unwant()
      }
    })
  }
}

function checkSize(bytes: number): void {
  if (bytes <= LARGEST) return
  throw new RingbellError(
    'ERR_RINGBELL_MESSAGE_TOO_LARGE',
    `A message of ${bytes} bytes is larger than ${LARGEST} bytes, the most that a connection carries; send it in parts.`,
  )
}

/** `room`: bytes that there are for headers. */
function bytesOf(options: MessageOptions | undefined, room: number): Uint8Array | undefined {
  const headers = outgoing(options?.headers, room)
  // `null` is refused like other wrong headers.
  return headers === undefined ? undefined : encodeHeaders(headers)
}
