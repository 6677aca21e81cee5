/**
 * A streamed reply, on the caller's side. The first `next()` sends the request. The reader sets the pace: the handler
 * may send no more chunks than it has credit for. Leaving the loop cancels it. A stream is never repeated by itself,
 * because the reader would get the first values twice.
 */
import { EMPTY, joined } from '../codec/bytes.js'
import { withMismatch } from '../bus/kind-mismatch.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import type { RingbellError } from '../errors.js'
import { encodeHeaders } from '../headers.js'
import { shown, type ShownOptions } from '../shown.js'
import { outgoing } from '../tracer.js'
import { throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Iteration } from '../wait/iteration.js'
import type { CallDispatcher, Dispatchable } from './call-dispatcher.js'
import { outcome } from './call.js'
import type { StreamOptions } from './options.js'
import { Inbox } from './inbox.js'
import type { Link, Pending } from './link.js'
import { decodeError } from './remote-error.js'
import {
  HEADERS_IN_FLAGS,
  KIND,
  NOT_BEGUN,
  NOT_PRIMARY,
  NOT_REACHED,
  STREAM,
  STREAM_WINDOW,
  TERM_OVER,
} from './wire.js'

export class ReplyStream implements Pending, Dispatchable, AsyncIteration<unknown> {
  id = 0
  ordinal = 0
  settled = false
  readonly instance: string | undefined
  readonly #dispatcher: CallDispatcher
  readonly #payloads: PayloadCodec
  readonly #inbox: Inbox<unknown>
  readonly #iteration: Iteration<unknown>
  readonly #request: unknown
  #encoded: Uint8Array | undefined = undefined
  /** The bytes of the request's headers. */
  readonly #headers: Uint8Array | undefined
  readonly #flags: number
  readonly #signalled: boolean
  #link: Link | undefined
  /** In which it was sent. */
  #epoch = 0
  #begun = false
  /** Chunks that were read, and for which no credit was given yet. */
  #taken = 0

  constructor(
    dispatcher: CallDispatcher,
    payloads: PayloadCodec,
    request: unknown,
    want: (waits: boolean) => void,
    { signal, instance, headers: given }: StreamOptions,
  ) {
    throwIfAborted(signal)
    const headers = outgoing(given)
    this.instance = instance
    this.#dispatcher = dispatcher
    this.#payloads = payloads
    this.#request = request
    this.#headers = headers === undefined ? undefined : encodeHeaders(headers)
    this.#flags = STREAM | ((this.#headers?.byteLength ?? 0) << HEADERS_IN_FLAGS)
    this.#signalled = signal !== undefined
    this.#inbox = new Inbox({
      what: 'stream',
      decode: (data) => payloads.replyNow(payloads.decode(data)),
      waiting: want,
      taken: () => this.#took(),
      left: () => this.#leave(),
      explain: (error) => (this.#link === undefined ? withMismatch(error, dispatcher.reason) : error),
    })
    this.#iteration = new Iteration(this.#inbox, this.#inbox, signal)
  }

  next(): Promise<IteratorResult<unknown, undefined>> {
    if (!this.#begun) this.#begin()
    return this.#iteration.next()
  }

  return(): Promise<IteratorResult<unknown, undefined>> {
    return this.#iteration.return()
  }

  throw(error?: unknown): Promise<IteratorResult<unknown, undefined>> {
    return this.#iteration.throw(error)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  get endless(): boolean {
    return !this.#signalled
  }

  prepare(): void {
    if (this.settled) return
    try {
      this.#encoded ??= this.#payloads.encodeKept(this.#request)
    } catch (error) {
      this.fail(error)
    }
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('ReplyStream', {}, depth, options)
  }

  sendOn(link: Link): boolean {
    const payloads = this.#payloads
    try {
      const headers = this.#headers
      const request = this.#encoded ?? payloads.encode(this.#request)
      const data = headers === undefined ? request : joined(request, headers)
      if (!link.ask(this, this.#flags, 0, data, headers !== undefined || payloads.own)) return false
    } catch (error) {
      this.fail(error)
      return true
    }
    this.#link = link
    this.#epoch = this.#dispatcher.epoch
    link.post(KIND.credit, this.id, STREAM_WINDOW, EMPTY, true)
    return true
  }

  fail(error: unknown): void {
    this.#finish(error)
  }

  sent(ordinal: number): void {
    this.ordinal = ordinal
  }

  /** The handler answered with one value: the stream has just that value. */
  reply(_flags: number, data: Uint8Array): void {
    this.chunk(data)
    this.#finish(undefined)
  }

  chunk(data: Uint8Array): void {
    if (!this.settled) this.#inbox.push(data)
  }

  end(): void {
    this.#finish(undefined)
  }

  error(flags: number, data: Uint8Array): void {
    if ((flags & NOT_BEGUN) !== 0 && this.#again()) return
    if ((flags & NOT_PRIMARY) !== 0 && this.#dispatcher.refusedBy(this.#link, this.#epoch) && this.#again()) return
    const error = decodeError(data)
    const lost = (flags & (TERM_OVER | NOT_REACHED)) !== 0
    this.#finish(lost ? outcome((flags & TERM_OVER) !== 0, error.message) : error)
  }

  lost(reached: boolean, why: string): void {
    if (!reached && this.#dispatcher.resends && this.#again()) return
    this.#finish(this.#dispatcher.closedError() ?? outcome(reached, why))
  }

  target(): undefined {
    return undefined
  }

  tooLarge(error: RingbellError): void {
    this.#link?.callOff(this, this.#flags)
    this.#finish(error)
  }

  #begin(): void {
    this.#begun = true
    this.#dispatcher.begin()
    try {
      this.#dispatcher.dispatchChecked(this, this.#payloads.request(this.#request))
    } catch (error) {
      this.fail(error)
    }
  }

  /** Sends the request again, which no handler has begun. */
  #again(): boolean {
    if (this.settled) return true
    this.#link = undefined
    this.ordinal = 0
    return this.#dispatcher.redispatch(this)
  }

  #took(): void {
    this.#taken++
    if (this.settled || this.#taken < STREAM_WINDOW / 2) return
    this.#link?.post(KIND.credit, this.id, this.#taken, EMPTY, true)
    this.#taken = 0
  }

  /** The reader has left. */
  #leave(): void {
    if (!this.settled && this.#begun) {
      this.#link?.callOff(this, this.#flags)
      this.#finish(undefined)
    }
    // The reader may leave before it began.
    this.#begun = true
    this.#inbox.end()
    this.#inbox.clear()
  }

  #finish(error: unknown): void {
    if (this.settled) return
    this.settled = true
    this.#dispatcher.done(this)
    this.#inbox.end(error)
  }
}
