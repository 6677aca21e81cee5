/**
 * `for await` over a message source. While there are messages, `next` returns resolved promises. When there are none,
 * it waits. When the time slice is used up, it continues in a fresh macrotask. Overlapping calls of `next` are answered
 * in order. Leaving the loop (`break`, an error in the body, the signal, `close`) gives a lent batch back. A closed
 * subscriber ends the iteration; an abort rejects it.
 */
import { failureOf } from '../closing.js'
import { fromNative } from '../errors.js'
import { shown, type ShownOptions } from '../shown.js'
import { onAbort, throwIfAborted } from './abort.js'
import type { AsyncIteration } from './async-iteration.js'
import type { Gate, Holder, MessageSource, Reader } from './reader.js'
import { TimeSlice } from './time-slice.js'

interface Asked<V> {
  readonly resolve: (result: IteratorResult<V, undefined>) => void
  readonly reject: (error: unknown) => void
}

export class Iteration<V> implements AsyncIteration<V>, Reader, Holder {
  readonly messages: MessageSource<V>
  readonly #gate: Gate
  readonly #timeSlice = new TimeSlice()
  readonly #forget: () => void
  #asked: Asked<V>[] = []
  /** A call of `next` waits for a message or for a fresh macrotask. */
  #paused = false
  #done = false
  #error: unknown = undefined

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another iteration. */
  constructor(messages: MessageSource<V>, gate: Gate, signal: AbortSignal | undefined) {
    throwIfAborted(signal)
    this.messages = messages
    this.#gate = gate
    gate.hold(this)
    this.#forget = onAbort(signal, (error) => this.#abort(gate.explain?.(error) ?? error))
    this.#timeSlice.begin()
  }

  next(): Promise<IteratorResult<V, undefined>> {
    if (!this.#paused && !this.#done && !this.#timeSlice.due()) {
      try {
        const messages = this.messages
        if (messages.refill(this.#gate.glance)) return Promise.resolve({ value: messages.take(), done: false })
      } catch (error) {
        return this.#broken(error)
      }
    }
    return this.#later()
  }

  return(): Promise<IteratorResult<V, undefined>> {
    const error = this.#end()
    return error === undefined ? Promise.resolve(DONE) : Promise.reject(error)
  }

  throw(error?: unknown): Promise<IteratorResult<V, undefined>> {
    this.#end()
    return Promise.reject(error)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Iteration', {}, depth, options)
  }

  ready(): void {
    this.#timeSlice.begin()
    this.#resume()
  }

  failed(error: unknown): void {
    this.#error = error
    this.#end()
  }

  closed(): void {
    this.#end()
  }

  #later(): Promise<IteratorResult<V, undefined>> {
    if (this.#done) {
      const error = this.#error
      this.#error = undefined
      return error === undefined ? Promise.resolve(DONE) : Promise.reject(error)
    }
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject })
      if (!this.#paused) this.#pause()
    })
  }

  /** Waits for a message. If the time slice is used up, lets other code run first. */
  #pause(): void {
    this.#paused = true
    if (this.#timeSlice.spent) {
      setImmediate(() => this.#fresh())
      return
    }
    try {
      this.#gate.assertFree()
      this.#gate.wait(this)
    } catch (error) {
      this.failed(error)
    }
  }

  #fresh(): void {
    if (this.#done) return
    this.#timeSlice.begin()
    try {
      if (this.messages.refill()) this.#resume()
      else this.#pause()
    } catch (error) {
      this.failed(fromNative(error))
    }
  }

  /** There is a message: answers the waiting calls of `next`. */
  #resume(): void {
    const asked = this.#asked
    try {
      do {
        // If `take` throws, the call that asked is rejected, so it stays in the list until then.
        const value = this.messages.take()
        asked.shift()?.resolve({ value, done: false })
      } while (asked.length > 0 && this.messages.refill())
    } catch (error) {
      this.failed(fromNative(error))
      return
    }
    if (asked.length > 0) this.#pause()
    else this.#paused = false
  }

  #broken(error: unknown): Promise<IteratorResult<V, undefined>> {
    if (!this.#done) this.failed(fromNative(error))
    return this.#later()
  }

  #abort(error: unknown): void {
    if (!this.#done) this.failed(error)
  }

  /** Returns the error of giving a lent batch back. A call of `next` that waits gets it, unless there is an earlier one. */
  #end(): unknown {
    if (this.#done) return undefined
    this.#done = true
    this.#forget()
    this.#gate.callOff(this)
    this.#gate.letGo(this)
    const failure = failureOf(() => this.messages.leave())
    const asked = this.#asked
    this.#asked = []
    if (asked.length > 0) this.#error ??= failure
    for (const { resolve, reject } of asked) {
      const error = this.#error
      this.#error = undefined
      if (error === undefined) resolve(DONE)
      else reject(error)
    }
    return failure
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true })
