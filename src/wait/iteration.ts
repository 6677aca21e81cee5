/**
 * `for await` over an inflow: already-resolved promises while there is something, one wait when there is not, a fresh
 * macrotask when the turn is used up. Calls of `next` that overlap are answered in order. Leaving (`break`, an error in the
 * body, the signal, `close`) gives back what is lent; a closed subscriber ends the iteration, an aborted one rejects.
 */
import { onAbort, throwIfAborted } from './abort.js'
import { fromNative } from '../errors.js'
import type { Inflow, Holder, Gate, Reader } from './reader.js'
import { Turn } from './time-slice.js'

interface Asked<V> {
  readonly resolve: (result: IteratorResult<V, undefined>) => void
  readonly reject: (error: unknown) => void
}

export class Iteration<V> implements AsyncIterableIterator<V, undefined>, Reader, Holder {
  readonly inflow: Inflow<V>
  readonly #reception: Gate
  readonly #turn = new Turn()
  readonly #forget: () => void
  #asked: Asked<V>[] = []
  /** Somebody waits, or the turn is being given up. */
  #paused = false
  #done = false
  #error: unknown = undefined

  /** @throws {RingbellError} `ERR_RINGBELL_BUSY` while there is another one. */
  constructor(inflow: Inflow<V>, reception: Gate, signal: AbortSignal | undefined) {
    throwIfAborted(signal)
    this.inflow = inflow
    this.#reception = reception
    reception.hold(this)
    this.#forget = onAbort(signal, (error) => this.#abort(error))
    this.#turn.begin()
  }

  next(): Promise<IteratorResult<V, undefined>> {
    if (!this.#paused && !this.#done && !this.#turn.due()) {
      try {
        const inflow = this.inflow
        if (inflow.refill() || (this.#reception.glance() && inflow.refill()))
          return Promise.resolve({ value: inflow.take(), done: false })
      } catch (error) {
        return this.#broken(error)
      }
    }
    return this.#later()
  }

  return(): Promise<IteratorResult<V, undefined>> {
    this.#end()
    return Promise.resolve(DONE)
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

  ready(): void {
    this.#turn.begin()
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

  /** Nothing is there, or others are to run first. */
  #pause(): void {
    this.#paused = true
    if (this.#turn.spent) {
      setImmediate(() => this.#fresh())
      return
    }
    try {
      this.#reception.assertFree()
      this.#reception.wait(this)
    } catch (error) {
      this.failed(error)
    }
  }

  #fresh(): void {
    if (this.#done) return
    this.#turn.begin()
    try {
      if (this.inflow.refill()) this.#resume()
      else this.#pause()
    } catch (error) {
      this.failed(fromNative(error))
    }
  }

  /** Something is there: answers whoever asked. */
  #resume(): void {
    const asked = this.#asked
    try {
      do {
        // What cannot be taken rejects the one who asked for it, so that one stays in the list until then.
        const value = this.inflow.take()
        asked.shift()?.resolve({ value, done: false })
      } while (asked.length > 0 && this.inflow.refill())
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

  #end(): void {
    if (this.#done) return
    this.#done = true
    this.#forget()
    this.#reception.callOff(this)
    this.#reception.letGo(this)
    this.inflow.leave()
    const asked = this.#asked
    this.#asked = []
    for (const { resolve, reject } of asked) {
      const error = this.#error
      this.#error = undefined
      if (error === undefined) resolve(DONE)
      else reject(error)
    }
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true })
