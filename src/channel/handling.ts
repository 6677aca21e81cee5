/**
 * The requests that are being handled. It calls the handler and sends its result, once. Whatever a handler does (throw anything, never
 * answer, answer too late) harms neither this process nor another request. `signal` is made only if the handler asks for it. It fires when
 * the caller gives up or is gone.
 */
import { EMPTY } from '../codec/bytes.js'
import type { PayloadCodec } from '../codec/payload-codec.js'
import { followed, isThenable } from '../codec/schema.js'
import { RingbellError } from '../errors.js'
import { Condition } from '../wait/condition.js'
import type { Endpoint } from './endpoint.js'
import type { InHand, Link } from './link.js'
import { encodeError } from './remote-error.js'
import { FLAGS_AT, KIND, NOT_BEGUN, RETRIED, STREAM, VOID } from './wire.js'

/** What a handler is told besides the request. */
export interface CallContext<C> {
  /** Fires when the caller has given up (timeout, signal), or is gone. What the handler returns then goes nowhere. */
  readonly signal: AbortSignal
  /** Whose request it is. */
  readonly connection: C
  /** Milliseconds that the caller waits, counted from when it called; `undefined`: for ever. */
  readonly timeout: number | undefined
  /** The caller made this call before, and does not know whether it was handled. Of a work queue: delivered before. */
  readonly redelivered: boolean
}

/** Answers a request: with a value, a promise of one, or many by an async iterable (an async generator, for one). */
export type AnyHandler = (request: unknown, context: CallContext<unknown>) => unknown

export interface HandlingHost {
  readonly endpoint: Endpoint
  readonly payloads: PayloadCodec
  /** Nothing is taken on any more. */
  leaving(): boolean
  /** Unanswered requests that one connection may have, and answers that it has not read. */
  readonly maxRequests: number
  /** What a handler sees of a link. */
  connectionOf(link: Link): unknown
  /**
   * One request is over, and another may come: its handler has ended, also where nobody waits for it any more, or was never
   * called, because the request could not be decoded.
   */
  handled?(link: Link): void
}

/** Totals since the beginning. */
export interface HandlingCounters {
  /** Requests that came. */
  requests: number
  /** Answered, with a value or a whole stream. */
  replies: number
  /** Answered with an error. */
  errors: number
  /** Given up by their callers before they were answered. */
  cancelled: number
}

export class Handling {
  readonly counters: HandlingCounters = { requests: 0, replies: 0, errors: 0, cancelled: 0 }
  readonly host: HandlingHost
  readonly #handler: AnyHandler
  #inHand = 0
  readonly #idle = new Condition(() => this.#inHand === 0)

  constructor(host: HandlingHost, handler: AnyHandler) {
    this.host = host
    this.#handler = handler
  }

  /** Requests that are being handled. */
  get inHand(): number {
    return this.#inHand
  }

  /** Resolves when nothing is in hand. */
  idle(): Promise<void> {
    return this.#idle.wait()
  }

  /** Never throws. */
  take(link: Link, flags: number, id: number, aux: number, data: Uint8Array): void {
    const { host } = this
    this.counters.requests++
    if (this.checkReader(link)) return
    if (host.leaving()) {
      refuse(link, id, new RingbellError('ERR_RINGBELL_CLOSED', 'The server is closing.'))
      return
    }
    if (link.requests.size >= host.maxRequests || link.unsent >= host.maxRequests) {
      this.counters.errors++
      const most = new RingbellError(
        'ERR_RINGBELL_BUSY',
        `This connection already has ${host.maxRequests} unanswered requests or unread answers (option maxRequests).`,
      )
      link.post(KIND.error, id, 0, encodeError(most), true)
      return
    }
    if (link.requests.has(id)) {
      host.endpoint.breach(link, `request ${id} came twice`)
      return
    }
    const request = new Request(this, link, flags, id, aux)
    // Decoding, validating, the handler and everything that is asked of its result run code of users or of the peer.
    try {
      const value = host.payloads.decode(data)
      const result =
        host.payloads.requests === undefined
          ? this.#handler(value, request)
          : this.#validated(host.payloads.request(value), request)
      // An answer at hand is sent at once, and never enters a table.
      if (isThenable(result)) {
        request.hold()
        this.#follow(result, link, request)
        return
      }
      if (isAsyncIterable(result)) request.hold()
      request.answer(result)
    } catch (error) {
      request.fail(error)
    }
    host.handled?.(link)
  }

  /** @internal A client that goes on asking and never reads its answers would fill our memory with refusals: `true`, and its link has ended. */
  checkReader(link: Link): boolean {
    if (link.unsent < this.host.maxRequests + MOST_REFUSALS) return false
    this.host.endpoint.breach(link, 'it sends requests and does not read the answers')
    return true
  }

  /** @internal A request's answer takes its time. */
  began(): void {
    this.#inHand++
    this.host.endpoint.taken()
  }

  /** @internal Nothing more is to be done about one that began. */
  done(): void {
    this.host.endpoint.answered()
    if (--this.#inHand === 0) this.#idle.check()
  }

  /** Answers when it settles, or fails. */
  #follow(result: PromiseLike<unknown>, link: Link, request: Request): void {
    const handled = (how: () => void): void => {
      how()
      this.host.handled?.(link)
    }
    void followed(result).then(
      (value) => handled(() => request.answer(value)),
      (error) => handled(() => request.fail(error)),
    )
  }

  #validated(value: unknown, request: Request): unknown {
    return isThenable(value)
      ? followed(value).then((later) => this.#handler(later, request))
      : this.#handler(value, request)
  }
}

class Request implements InHand, CallContext<unknown> {
  readonly #handling: Handling
  readonly #link: Link
  readonly #flags: number
  readonly #id: number
  readonly #aux: number
  #abort: AbortController | undefined = undefined
  /** Nobody waits for the answer any more, and why. */
  #over: RingbellError | undefined = undefined
  #held = false
  #answered = false
  #credit = 0
  /** A stream that waits for credit, or for its last value to be sent. */
  #more: (() => void) | undefined = undefined

  constructor(handling: Handling, link: Link, flags: number, id: number, aux: number) {
    this.#handling = handling
    this.#link = link
    this.#flags = flags
    this.#id = id
    this.#aux = aux
  }

  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
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

  get redelivered(): boolean {
    return (this.#flags & RETRIED) !== 0
  }

  /** The answer takes its time: cancelling must find it. */
  hold(): void {
    if (this.#held || this.#over !== undefined) return
    if (this.#link.over) {
      // The handler itself has ended the connection, before the link knew of this request.
      this.lost()
      return
    }
    this.#held = true
    this.#link.requests.set(this.#id, this)
    this.#handling.began()
  }

  answer(value: unknown): void {
    const { payloads } = this.#handling.host
    try {
      if (isAsyncIterable(value)) void this.#stream(value)
      else if (this.#over !== undefined) return
      else if (value === undefined) this.#reply(VOID, EMPTY, true)
      else if (payloads.replies === undefined) this.#reply(0, payloads.encode(value), payloads.own)
      else this.#answerChecked(payloads.reply(value))
    } catch (error) {
      this.fail(error)
    }
  }

  fail(error: unknown): void {
    if (this.#over !== undefined || this.#answered) return
    this.#finish()
    this.#handling.counters.errors++
    this.#link.post(KIND.error, this.#id, 0, encodeError(error), true)
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

  #answerChecked(checked: unknown): void {
    const { payloads } = this.#handling.host
    if (!isThenable(checked)) {
      this.#reply(0, payloads.encode(checked), payloads.own)
      return
    }
    this.hold()
    followed(checked)
      .then((value) => this.#reply(0, payloads.encode(value), payloads.own))
      .then(undefined, (error: unknown) => this.fail(error))
  }

  #reply(flags: number, data: Uint8Array, own: boolean): void {
    if (this.#over !== undefined || this.#answered) return
    this.#link.post(KIND.reply | (flags << FLAGS_AT), this.#id, 0, data, own)
    this.#handling.counters.replies++
    this.#finish()
  }

  /** Nobody waits any more. The handler may go on for as long as it likes: nobody waits for that, either. */
  #end(reason: RingbellError): void {
    this.#over = reason
    this.#handling.counters.cancelled++
    this.#letGo()
    this.#resume()
    // Its listeners are the handler's own code; what they throw is an uncaught exception, here as everywhere.
    this.#abort?.abort(reason)
  }

  /** A value of a stream cannot be sent: the caller is told, and the handler. */
  #breakOff(error: RingbellError): void {
    this.fail(error)
    this.#over ??= error
    this.#resume()
    this.#abort?.abort(error)
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
      this.fail(
        new RingbellError('ERR_RINGBELL_STREAM', 'The handler answers with a stream; ask with client.stream().'),
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
        const data = payloads.encode(payloads.replyNow(value))
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

  /** The handler is asked for the next value only when that may be sent, and told when nobody wants more. */
  async *#paced(values: AsyncIterable<unknown>): AsyncGenerator<unknown, void> {
    const iterator = values[Symbol.asyncIterator]()
    let ended = false
    try {
      for (;;) {
        if (this.#credit <= 0) await this.#until(() => this.#credit > 0)
        if (this.#over !== undefined) return
        // What throws by itself is over; only who is broken off is told to return.
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

  /** Until it is so, or nobody waits any more. What resumes the stream may have come for another reason. */
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
/** Answers that wait for room, besides those to requests that were taken on. */
const MOST_REFUSALS = 16_384

/** The handler was not and will not be called. */
function refuse(link: Link, id: number, error: RingbellError): void {
  link.post(KIND.error | (NOT_BEGUN << FLAGS_AT), id, 0, encodeError(error), true)
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
    // Nobody asked for it, so nobody is told how it ended.
  }
}
