/**
 * A streamed reply, from the caller's side: asked for with the first `next()`, read at the reader's pace, since the handler may
 * send no more chunks than it has credit for. Leaving the loop cancels it. A stream is never begun again by itself: what
 * was read already would come twice.
 */
import { throwIfAborted } from '../wait/abort.js'
import { Iteration } from '../wait/iteration.js'
import { outcome, replyTooLarge } from './call.js'
import { Inbox } from './inbox.js'
import type { Link, Pending } from './link.js'
import { decodeError } from './remote-error.js'
import { whenThere, type Speech } from '../codec/payload-codec.js'
import type { Placed, Switchboard } from './call-dispatcher.js'
import { KIND, NOT_BEGUN, STREAM, STREAM_WINDOW } from './wire.js'
import { EMPTY } from '../codec/bytes.js'

export class ReplyStream implements Pending, Placed, AsyncIterableIterator<unknown, undefined> {
  id = 0
  ordinal = 0
  settled = false
  readonly #board: Switchboard
  readonly #speech: Speech
  readonly #inbox: Inbox<unknown>
  readonly #iteration: Iteration<unknown>
  #request: unknown
  #link: Link | undefined
  #begun = false
  /** Chunks that were read, and for which no credit was given yet. */
  #taken = 0

  constructor(
    board: Switchboard,
    speech: Speech,
    request: unknown,
    want: (waits: boolean) => void,
    signal?: AbortSignal,
  ) {
    throwIfAborted(signal)
    this.#board = board
    this.#speech = speech
    this.#request = request
    this.#inbox = new Inbox({
      what: 'stream',
      decode: (data) => speech.replyNow(speech.decode(data)),
      waiting: want,
      taken: () => this.#took(),
      left: () => this.#leave(),
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

  place(link: Link): boolean {
    const speech = this.#speech
    try {
      if (!link.ask(this, STREAM, 0, speech.encode(this.#request), speech.own)) return false
    } catch (error) {
      this.fail(error)
      return true
    }
    this.#link = link
    link.post(KIND.credit, this.id, STREAM_WINDOW, EMPTY, true)
    return true
  }

  fail(error: unknown): void {
    this.#finish(error)
  }

  sent(ordinal: number): void {
    this.ordinal = ordinal
  }

  /** The handler answered with one value: a stream of that. */
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
    if ((flags & NOT_BEGUN) !== 0 && !this.settled) {
      this.#link = undefined
      this.ordinal = 0
      if (this.#board.placeAgain(this)) return
    }
    this.#finish(decodeError(data))
  }

  lost(reached: boolean, why: string): void {
    this.#finish(this.#board.closedError() ?? outcome(reached, why))
  }

  target(): undefined {
    return undefined
  }

  tooLarge(bytes: number, limit: number): void {
    this.#link?.callOff(this, STREAM)
    this.#finish(replyTooLarge(bytes, limit))
  }

  #begin(): void {
    this.#begun = true
    this.#board.begin()
    try {
      whenThere(
        this.#speech.request(this.#request),
        (request) => {
          this.#request = request
          if (!this.settled) this.#board.place(this)
        },
        (error) => this.fail(error),
      )
    } catch (error) {
      this.fail(error)
    }
  }

  #took(): void {
    this.#taken++
    if (this.settled || this.#taken < STREAM_WINDOW / 2) return
    this.#link?.post(KIND.credit, this.id, this.#taken, EMPTY, true)
    this.#taken = 0
  }

  /** The reader is gone. */
  #leave(): void {
    if (!this.settled && this.#begun) {
      this.#link?.callOff(this, STREAM)
      this.#finish(undefined)
    }
    // It may have been left before it began.
    this.#begun = true
    this.#inbox.end()
    this.#inbox.clear()
  }

  #finish(error: unknown): void {
    if (this.settled) return
    this.settled = true
    this.#board.done(this)
    this.#inbox.end(error)
  }
}
