/**
 * One iteration over a value that changes: the value as it is, then each change, always the newest. A slow loop skips what was
 * replaced meanwhile, so at most one value is kept.
 */
import { shown, type ShownOptions } from '../shown.js'
import { onAbort, throwIfAborted } from './abort.js'
import type { AsyncIteration } from './async-iteration.js'
import { Fifo } from './fifo.js'

interface Asked<V> {
  readonly resolve: (result: IteratorResult<V, undefined>) => void
  readonly reject: (error: unknown) => void
}

export class Newest<V extends object> implements AsyncIteration<V> {
  readonly #left: (iteration: Newest<V>) => void
  readonly #forget: () => void
  readonly #asked = new Fifo<Asked<V>>()
  #value: V | undefined
  #done = false
  #error: unknown = undefined

  /** `left` is called once, when it has ended. */
  constructor(value: V, signal: AbortSignal | undefined, left: (iteration: Newest<V>) => void) {
    throwIfAborted(signal)
    this.#value = value
    this.#left = left
    this.#forget = onAbort(signal, (error) => this.end(error))
  }

  /** The value has changed. */
  put(value: V): void {
    const asked = this.#asked.shift()
    if (asked === undefined) this.#value = value
    else asked.resolve({ value, done: false })
  }

  /** No more changes. A call of `next` that waits rejects with the error; without one it is done. */
  end(error?: unknown): void {
    if (this.#done) return
    this.#done = true
    this.#value = undefined
    this.#error = error
    this.#forget()
    for (let asked = this.#asked.shift(); asked !== undefined; asked = this.#asked.shift()) {
      const failure = this.#error
      this.#error = undefined
      if (failure === undefined) asked.resolve({ value: undefined, done: true })
      else asked.reject(failure)
    }
    this.#left(this)
  }

  next(): Promise<IteratorResult<V, undefined>> {
    if (this.#done) return this.#last()
    const value = this.#value
    if (value !== undefined) {
      this.#value = undefined
      return Promise.resolve({ value, done: false })
    }
    return new Promise((resolve, reject) => this.#asked.push({ resolve, reject }))
  }

  async return(): Promise<IteratorResult<V, undefined>> {
    this.end()
    return { value: undefined, done: true }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end()
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Newest', {}, depth, options)
  }

  /** The end, with its error the first time. */
  async #last(): Promise<IteratorResult<V, undefined>> {
    const error = this.#error
    this.#error = undefined
    if (error !== undefined) throw error
    return { value: undefined, done: true }
  }
}
