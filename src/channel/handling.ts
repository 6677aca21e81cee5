/**
 * Handles requests: it calls the handler and sends the result, once. A handler may throw anything, never answer, or
 * answer too late. That harms neither this process nor another request. The `signal` is created only if the handler
 * reads it. It fires when the caller gives up or is gone; the handler counts until it has settled (places.ts). Each request has an async context of its own, which begins as the
 * context in which the endpoint was made: what one handler enters (AsyncLocalStorage) does not reach another request.
 */
import { AsyncResource } from 'node:async_hooks'
import { EMPTY, joined } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { followed, isThenable } from '../codec/schema.js'
import { RingbellError } from '../errors.js'
import { decodeHeaders, encodeHeaders, headersBehind, type MessageHeaders, NO_HEADERS } from '../headers.js'
import { tracer } from '../tracer.js'
import { Condition } from '../wait/condition.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import type { Endpoint } from './endpoint.js'
import type { InHand, Link } from './link.js'
import { PassedOn } from './passed-on.js'
import { type Place, Places } from './places.js'
import { encodeFailure, encodeRefusal } from './remote-error.js'
import {
  FLAGS_AT,
  HEADERS_AT,
  HEADERS_IN_FLAGS,
  KIND,
  NOT_BEGUN,
  NOT_PRIMARY,
  RETRIED,
  STREAM,
  TERM_OVER,
  VOID,
} from './wire.js'

/** What a handler gets besides the request. */
export interface CallContext<C> {
  /** Fires when the caller has given up (timeout, signal), or is gone. What the handler returns after that is dropped. */
  readonly signal: AbortSignal
  /** The connection of the caller. */
  readonly connection: C
  /** Milliseconds that the caller waits, counted from its call; `undefined`: without a limit. */
  readonly timeout: number | undefined
  /** Whether it was called by `client.stream()`, which alone takes more than one value. */
  readonly streamed: boolean
  /**
   * The caller made this call before, and does not know whether it was handled. In a work queue: the message was
   * delivered before.
   */
  readonly redelivered: boolean
  /** The headers that the caller has sent with the request; an empty object if there are none. */
  readonly headers: MessageHeaders
  /**
   * The headers of the reply: `client.exchange` gets them. Assign an object before the reply is returned. An error and a stream
   * carry none, nor does the result of a job. Assigning throws `ERR_RINGBELL_INVALID_OPTION` for headers that cannot be sent.
   */
  replyHeaders: MessageHeaders | undefined
}

/** Answers a request: with a value, a promise of one, or many values by an async iterable (an async generator, for example). */
export type AnyHandler = (request: unknown, context: CallContext<unknown>) => unknown

export interface HandlingHost {
  readonly endpoint: Endpoint
  readonly payloads: PayloadCodec
  /** Whether new requests are refused. */
  leaving(): boolean
  /** Why this member of a group does not act, if that is so. */
  notPrimary?(): RingbellError | undefined
  /** The most handlers that run for one connection, and the most answers that it has not read. */
  readonly maxRequests: number
  /** The connection that a handler sees for a link. */
  connectionOf(link: Link): unknown
  /** Whether a request with these flags is answered without the value that its handler returns. */
  silent?(flags: number): boolean
  /**
   * One request is over, and another may come. Its handler has ended (perhaps after the caller gave up), or was never
   * called because the request could not be decoded.
   */
  handled?(link: Link): void
}

/** Totals since the beginning. */
export interface HandlingCounters {
  /** Requests that came. */
  requests: number
  /** Answered with a value or a whole stream. */
  replies: number
  /** Answered with an error. */
  errors: number
  /** Given up by their callers before they were answered. */
  cancelled: number
}

export class Handling {
  readonly counters: HandlingCounters = { requests: 0, replies: 0, errors: 0, cancelled: 0 }
  readonly host: HandlingHost
  /** @internal */
  readonly places: Places
  readonly #handler: AnyHandler | undefined
  #inHand = 0
  /** Calls of the handler that have not returned. Such a handler may close this endpoint, which then waits for its answer. */
  #running = 0
  readonly #idle = new Condition(() => this.#inHand === 0 && this.#running === 0)

  constructor(host: HandlingHost, handler: AnyHandler | undefined) {
    this.host = host
    this.places = new Places(host.maxRequests)
    this.#handler = handler
  }

  /** Requests that are being handled. */
  get inHand(): number {
    return this.#inHand
  }

  /** Handlers that still run although their callers have given up or are gone. */
  get abandoned(): number {
    return this.places.size - this.#inHand
  }

  /** Resolves when no request is being handled. */
  idle(): Promise<void> {
    return this.#idle.wait()
  }

  /** Never throws. */
  take(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void {
    const { host } = this
    this.counters.requests++
    const { unsent } = link
    if (unsent > host.maxRequests && this.checkReader(link)) return
    if (host.leaving()) {
      refuse(link, id, NOT_BEGUN, new RingbellError('ERR_RINGBELL_CLOSED', 'The server is closing.'))
      return
    }
    const notPrimary = host.notPrimary?.()
    if (notPrimary !== undefined) {
      refuse(link, id, NOT_PRIMARY, notPrimary)
      return
    }
    const full = unsent >= host.maxRequests ? unread(host.maxRequests) : this.places.full(link)
    if (full !== undefined) {
      this.counters.errors++
      link.post(KIND.error, id, 0, encodeRefusal(new RingbellError('ERR_RINGBELL_BUSY', full)), true)
      return
    }
    if (link.requests.has(id)) {
      host.endpoint.breach(link, `request ${id} came twice`)
      return
    }
    // The endpoint has entered its own context, so that the request begins in that.
    const request = new Request(this, link, flags, id, aux, data)
    if (tracer === undefined) request.runInAsyncScope(this.#call, undefined, link, request, data)
    else request.runInAsyncScope(this.#traced, undefined, link, request, data)
  }

  readonly #traced = (link: Link, request: Request, data: Uint8Array): void => {
    const { headers } = request
    const call = (): void => this.#call(link, request, data)
    if (tracer === undefined || headers === NO_HEADERS) call()
    else tracer.run(headers, call)
  }

  readonly #call = (link: Link, request: Request, data: Uint8Array): void => {
    const { host } = this
    const handler = this.#handler
    if (handler === undefined) {
      const none = 'This server takes messages, but no calls: it has no handler.'
      request.refuse(new RingbellError('ERR_RINGBELL_NOT_FOUND', none))
      return
    }
    // Decoding, validating, the handler and reading its result may throw, because they run user code or read the
    // bytes of the peer.
    let called = false
    this.#running++
    try {
      let value = host.payloads.decode(data)
      let waits = false
      if (host.payloads.requests !== undefined) {
        value = host.payloads.request(value)
        waits = isThenable(value)
      }
      called = true
      const result = waits
        ? this.#validated(handler, value as Promise<unknown>, request)
        : handler(value, new Context(request))
      // A synchronous answer is sent at once, without an entry in the table of requests.
      if (isThenable(result)) {
        request.hold()
        this.#follow(result, link, request)
        return
      }
      if (isAsyncIterable(result)) request.hold()
      request.answer(result)
    } catch (error) {
      if (called) request.fail(error)
      else request.refuse(error)
    } finally {
      if (--this.#running === 0 && this.#inHand === 0) this.#idle.check()
    }
    host.handled?.(link)
  }

  /**
   * @internal Ends the link of a client that sends more and more requests and reads no answers, because the refusals
   * would fill our memory. `true` if it has ended the link.
   */
  checkReader(link: Link): boolean {
    if (link.unsent < this.host.maxRequests + MOST_REFUSALS) return false
    this.host.endpoint.breach(link, 'it sends requests and does not read the answers')
    return true
  }

  /** No request that is being handled is answered any more, except by an error that says why. */
  disown(reason: RingbellError): void {
    for (const link of this.host.endpoint.links.values())
      for (const request of link.requests.values()) request.disown(reason)
  }

  /** @internal A request will be answered later. */
  began(): void {
    this.#inHand++
    this.host.endpoint.taken()
  }

  /** @internal A request for which `began` was called is over. */
  done(): void {
    this.host.endpoint.answered()
    if (--this.#inHand === 0) this.#idle.check()
  }

  /** Answers when the result settles. */
  #follow(result: PromiseLike<unknown>, link: Link, request: Request): void {
    const work = followed(result)
    const handled = (how: () => void): void => {
      how()
      request.worked(work)
      this.host.handled?.(link)
    }
    request.works(work)
    void work.then(
      (value) => handled(() => request.answer(value)),
      (error) => handled(() => request.fail(error)),
    )
  }

  #validated(handler: AnyHandler, value: Promise<unknown>, request: Request): Promise<unknown> {
    return followed(value).then(
      (later) => handler(later, new Context(request)),
      (error) => request.refuse(error),
    )
  }
}

/** Without a listener for its end an async context costs less. */
const CONTEXT = { requireManualDestroy: true } as const

/** A request as its handler sees it. */
class Context implements CallContext<unknown> {
  readonly #request: Request

  constructor(request: Request) {
    this.#request = request
  }

  get signal(): AbortSignal {
    return this.#request.signal
  }

  get connection(): unknown {
    return this.#request.connection
  }

  get timeout(): number | undefined {
    return this.#request.timeout
  }

  get streamed(): boolean {
    return this.#request.streamed
  }

  get redelivered(): boolean {
    return this.#request.redelivered
  }

  get headers(): MessageHeaders {
    return this.#request.headers
  }

  get replyHeaders(): MessageHeaders | undefined {
    return this.#request.replyHeaders
  }

  set replyHeaders(headers: MessageHeaders | undefined) {
    this.#request.replyHeaders = headers
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    const members = membersOf(this, 'signal', 'connection', 'timeout', 'streamed', 'redelivered', 'headers')
    return shown('CallContext', members, depth, options)
  }
}

class Request extends AsyncResource implements InHand, CallContext<unknown> {
  readonly #handling: Handling
  readonly #link: Link
  readonly #flags: number
  readonly #id: number
  readonly #aux: number
  #abort: AbortController | undefined = undefined
  /** Why the caller does not wait for the answer any more, if that is so. */
  #over: RingbellError | undefined = undefined
  #held = false
  /** The context of the signal's listeners: what the handler has entered, too. */
  #scope: AsyncResource = this
  #answered = false
  #credit = 0
  /** Continues a stream that waits for credit, or until its last value is sent. */
  #more: (() => void) | undefined = undefined
  /** What the user's code still does for it: the promise of the handler, of its stream or of the schema of its reply. */
  #work: Promise<unknown> | undefined = undefined
  #place: Place | undefined = undefined
  /** Its bytes, if headers lie behind them, until those are read. */
  #data: Uint8Array | undefined
  #headers: MessageHeaders = NO_HEADERS
  #replyHeaders: Uint8Array | undefined = undefined

  constructor(handling: Handling, link: Link, flags: number, id: number, aux: number, data: Uint8Array) {
    super('RINGBELL_REQUEST', CONTEXT)
    this.#handling = handling
    this.#link = link
    this.#flags = flags
    this.#id = id
    this.#aux = aux
    this.#data = flags >>> HEADERS_IN_FLAGS === 0 ? undefined : data
  }

  get headers(): MessageHeaders {
    if (this.#data !== undefined) {
      this.#headers = headersBehind(this.#data, this.#flags >>> HEADERS_IN_FLAGS)
      this.#data = undefined
    }
    return this.#headers
  }

  get replyHeaders(): MessageHeaders | undefined {
    return this.#replyHeaders && decodeHeaders(this.#replyHeaders)
  }

  set replyHeaders(headers: MessageHeaders | undefined) {
    this.#replyHeaders = headers === undefined ? undefined : encodeHeaders(headers)
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      if (this.#held) this.#keepContext()
      if (this.#over !== undefined) this.#abort.abort(this.#over)
    }
    return this.#abort.signal
  }

  get connection(): unknown {
    return this.#handling.host.connectionOf(this.#link)
  }

  get timeout(): number | undefined {
    return this.#aux === 0 ? undefined : this.#aux
  }

  get streamed(): boolean {
    return (this.#flags & STREAM) !== 0
  }

  get redelivered(): boolean {
    return (this.#flags & RETRIED) !== 0
  }

  /** The answer comes later. Registers the request, so that a cancel finds it. */
  hold(): void {
    if (this.#held || this.#over !== undefined) return
    if (this.#link.over) {
      // The handler itself has ended the connection, before the link knew of this request.
      this.lost()
      return
    }
    this.#held = true
    if (this.#abort !== undefined) this.#keepContext()
    this.#link.requests.set(this.#id, this)
    this.#handling.began()
  }

  /** The user's code goes on for it, and counts until `worked` is called, whether or not somebody still waits for the answer. */
  works(work: Promise<unknown>): void {
    const { places } = this.#handling
    this.#work = work
    this.#place ??= places.take(this.#link)
    if (this.#over !== undefined) places.watch(this.#place, work)
  }

  /** This has settled. Meanwhile the next may have begun. */
  worked(work: Promise<unknown>): void {
    if (this.#work !== work) return
    this.#work = undefined
    if (this.#place !== undefined) this.#handling.places.leave(this.#place)
  }

  /** From Node 24 on, a resource keeps the context of its own beginning, whatever is entered in its scope later. */
  #keepContext(): void {
    this.#scope = new AsyncResource('RINGBELL_SIGNAL', CONTEXT)
  }

  answer(value: unknown): void {
    const { host } = this.#handling
    const { payloads } = host
    try {
      if (host.silent?.(this.#flags) === true) {
        if (isAsyncIterable(value)) void endOf(value)
        this.#reply(VOID, EMPTY, true)
      } else if (isAsyncIterable(value)) this.#goOn(this.#stream(value))
      else if (this.#over !== undefined) return
      else if (value === undefined) this.#reply(VOID, EMPTY, true)
      else if (payloads.replies === undefined) this.#reply(0, payloads.encode(value), payloads.own)
      else this.#answerChecked(value, payloads.reply(value))
    } catch (error) {
      this.fail(error)
    }
  }

  /** The handler threw, or what it returned cannot be sent. */
  fail(error: unknown): void {
    if (PassedOn.is(error)) this.#answerError(error, ({ data }) => data, error.flags)
    else this.#answerError(error, encodeFailure)
  }

  /** The library answers: the handler is not called, or has answered in the wrong way. */
  refuse(error: unknown): void {
    // A validator is user code, and may throw anything.
    if (isOfRequest(error)) this.#answerError(error, encodeRefusal)
    else this.fail(error)
  }

  cancel(): void {
    this.#end(new RingbellError('ERR_RINGBELL_ABORTED', 'The caller has given up.'))
  }

  lost(): void {
    this.#end(this.#link.gone ?? new RingbellError('ERR_RINGBELL_PEER_GONE', 'The caller is gone.'))
  }

  credit(chunks: number): void {
    this.#credit = Math.min(MOST_CREDIT, this.#credit + chunks)
    this.#resume()
  }

  disown(reason: RingbellError): void {
    this.#answerError(reason, encodeRefusal, TERM_OVER)
    this.#stop(reason)
  }

  #answerError<E>(error: E, encode: (error: E) => Uint8Array, flags = 0): void {
    if (this.#over !== undefined || this.#answered) return
    this.#finish()
    this.#handling.counters.errors++
    this.#link.post(KIND.error | (flags << FLAGS_AT), this.#id, 0, encode(error), true)
  }

  #answerChecked(value: unknown, checked: unknown): void {
    const { payloads } = this.#handling.host
    if (!isThenable(checked)) {
      this.#reply(0, payloads.encode(value), payloads.own)
      return
    }
    this.hold()
    let data = EMPTY
    const sent = followed(checked)
      .then(() => this.#reply(0, data, true))
      .then(undefined, (error: unknown) => this.fail(error))
    this.#goOn(sent)
    // It is sent as the handler gave it, whatever becomes of the value while it is checked.
    data = payloads.encodeKept(value)
  }

  /** After the handler there is more to do, which does not reject. */
  #goOn(work: Promise<void>): void {
    this.works(work)
    void work.then(() => this.worked(work))
  }

  #reply(flags: number, data: Uint8Array, own: boolean): void {
    if (this.#over !== undefined || this.#answered) return
    const headers = this.#replyHeaders
    const head = KIND.reply | (flags << FLAGS_AT)
    if (headers === undefined) this.#link.post(head, this.#id, 0, data, own)
    else this.#link.post(head | (headers.byteLength << HEADERS_AT), this.#id, 0, joined(data, headers), true)
    this.#handling.counters.replies++
    this.#finish()
  }

  /** The caller does not wait any more. The handler may go on, and nothing waits for it. */
  #end(reason: RingbellError): void {
    this.#over = reason
    this.#handling.counters.cancelled++
    if (this.#place !== undefined && this.#work !== undefined) this.#handling.places.watch(this.#place, this.#work)
    this.#letGo()
    this.#resume()
    // Its listeners are user code. What they throw becomes an uncaught exception, as everywhere.
    this.#fire(reason)
  }

  /** A value of a stream cannot be sent: the caller gets the error, and the signal of the handler fires. */
  #breakOff(error: RingbellError): void {
    this.fail(error)
    this.#stop(error)
  }

  /** It has its answer, and the handler need not go on. */
  #stop(error: RingbellError): void {
    this.#over ??= error
    this.#resume()
    this.#fire(error)
  }

  #fire(reason: RingbellError): void {
    const abort = this.#abort
    if (abort !== undefined) this.#scope.runInAsyncScope(() => abort.abort(reason))
  }

  #finish(): void {
    this.#answered = true
    this.#letGo()
  }

  #letGo(): void {
    if (!this.#held) return
    this.#held = false
    if (this.#link.requests.get(this.#id) === this) this.#link.requests.delete(this.#id)
    this.#handling.done()
  }

  async #stream(values: AsyncIterable<unknown>): Promise<void> {
    const { payloads } = this.#handling.host
    if ((this.#flags & STREAM) === 0) {
      this.refuse(
        new RingbellError(
          'ERR_RINGBELL_STREAM',
          'The handler answers with a stream; use client.stream(), or return one value in a worker.',
        ),
      )
      await endOf(values)
      return
    }
    /** All of the last value is on its way. */
    let out = false
    const sent = (error?: RingbellError): void => {
      if (error !== undefined) {
        this.#breakOff(error)
        return
      }
      out = true
      this.#resume()
    }
    try {
      for await (const value of this.#paced(values)) {
        if (this.#over !== undefined) break
        this.#credit--
        out = false
        payloads.replyNow(value)
        const data = payloads.encode(value)
        // Until then its memory is ours, and the handler may not go on to change it.
        if (!this.#link.post(KIND.chunk, this.#id, 0, data, payloads.own, sent)) await this.#until(() => out)
      }
      if (this.#over !== undefined) return
      this.#link.post(KIND.end, this.#id, 0, EMPTY, true)
      this.#handling.counters.replies++
      this.#finish()
    } catch (error) {
      this.fail(error)
    }
  }

  /** Asks the handler for its next value only when that may be sent, and ends its iterator when no more is wanted. */
  async *#paced(values: AsyncIterable<unknown>): AsyncGenerator<unknown, void> {
    const iterator = values[Symbol.asyncIterator]()
    let ended = false
    try {
      for (;;) {
        if (this.#credit <= 0) await this.#until(() => this.#credit > 0)
        if (this.#over !== undefined) return
        // An iterator that throws has ended. `return` is called only on one that has not.
        ended = true
        const { value, done } = await iterator.next()
        if (done === true) return
        ended = false
        yield value
      }
    } finally {
      if (!ended) await iterator.return?.()
    }
  }

  /** Waits until `so()`, or until the caller does not wait any more. A stream can be resumed for another reason, so it checks. */
  async #until(so: () => boolean): Promise<void> {
    while (!so() && this.#over === undefined) await new Promise<void>((more) => (this.#more = more))
  }

  #resume(): void {
    const more = this.#more
    this.#more = undefined
    more?.()
  }
}

const MOST_CREDIT = 2 ** 20
/** The most answers that wait for room, besides those to accepted requests. */
const MOST_REFUSALS = 16_384

function unread(most: number): string {
  return `This connection already has ${most} answers that were not read. Read them before the next call, or raise maxRequests at the server.`
}

/** Refuses a request. Its handler was not called and will not be. */
function refuse(link: Link, id: number, flag: number, error: RingbellError): void {
  link.post(KIND.error | (flag << FLAGS_AT), id, 0, encodeRefusal(error), true)
}

const OF_REQUEST = new Set<string>([
  'ERR_RINGBELL_CODEC',
  'ERR_RINGBELL_SCHEMA',
  'ERR_RINGBELL_STREAM',
  'ERR_RINGBELL_NOT_FOUND',
])

function isOfRequest(error: unknown): error is RingbellError {
  return error instanceof RingbellError && OF_REQUEST.has(error.code)
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as AsyncIterable<unknown>)[Symbol.asyncIterator] === 'function'
  )
}

async function endOf(values: AsyncIterable<unknown>): Promise<void> {
  try {
    await values[Symbol.asyncIterator]().return?.()
  } catch {
    // The caller did not want a stream, so an error of its end is dropped.
  }
}
