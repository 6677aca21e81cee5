/**
 * One watch of a keyed state: the keys that have changed, each at most once until it is taken. So a slow loop is told of the
 * newest value of a key, and what is kept is never more than the keys that there are.
 */
import { type AbortError, fromNative } from '../errors.js'
import { shown, type ShownOptions } from '../shown.js'
import { onAbort, throwIfAborted } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'

/** A key that got another value, or lost its value. */
export interface StateChange<T = Uint8Array> {
  /** The key. */
  readonly key: string
  /** Its value now; absent when it was deleted. */
  readonly value?: T
}

/** A watch, as its reader sees it. */
export interface Watch {
  /** These keys have changed. */
  add(keys: readonly string[]): void
  /** No more changes. */
  end(error?: unknown): void
}

/** What a watch needs from its reader. */
export interface ChangesHost<T> {
  get(key: string): T | undefined
  /** The error of a signal, with the reason why nothing came. */
  explained(error: AbortError): AbortError
  /** This watch has ended. */
  left(watch: Watch): void
}

interface Asked<T> {
  readonly resolve: (result: IteratorResult<StateChange<T>, undefined>) => void
  readonly reject: (error: unknown) => void
}

export class Changes<T> implements AsyncIteration<StateChange<T>>, Watch {
  readonly #host: ChangesHost<T>
  readonly #concerns: (key: string) => boolean
  readonly #forget: () => void
  readonly #keys = new Set<string>()
  readonly #asked: Asked<T>[] = []
  #done = false
  #error: unknown = undefined

  constructor(host: ChangesHost<T>, concerns: (key: string) => boolean, signal: AbortSignal | undefined) {
    throwIfAborted(signal)
    this.#host = host
    this.#concerns = concerns
    this.#forget = onAbort(signal, (error) => this.end(host.explained(error)))
  }

  /** These keys have changed. */
  add(keys: readonly string[]): void {
    for (const key of keys) if (this.#concerns(key)) this.#keys.add(key)
    while (this.#asked.length > 0 && this.#keys.size > 0) {
      const asked = this.#asked.shift() as Asked<T>
      try {
        asked.resolve({ value: this.#take(), done: false })
      } catch (error) {
        asked.reject(fromNative(error))
        this.end()
      }
    }
  }

  next(): Promise<IteratorResult<StateChange<T>, undefined>> {
    if (this.#keys.size > 0 && !this.#done) {
      try {
        return Promise.resolve({ value: this.#take(), done: false })
      } catch (error) {
        this.end(fromNative(error))
      }
    }
    if (this.#done) {
      const error = this.#error
      this.#error = undefined
      return error === undefined ? Promise.resolve({ value: undefined, done: true }) : Promise.reject(error)
    }
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject })
    })
  }

  async return(): Promise<IteratorResult<StateChange<T>, undefined>> {
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
    return shown('Changes', {}, depth, options)
  }

  /** No more changes. A call of `next` that waits rejects with the error; without one it is done. */
  end(error?: unknown): void {
    if (this.#done) return
    this.#done = true
    this.#forget()
    this.#keys.clear()
    const [first, ...others] = this.#asked.splice(0)
    if (first === undefined) this.#error = error
    else if (error === undefined) first.resolve({ value: undefined, done: true })
    else first.reject(error)
    for (const { resolve } of others) resolve({ value: undefined, done: true })
    this.#host.left(this)
  }

  #take(): StateChange<T> {
    const [key] = this.#keys
    this.#keys.delete(key as string)
    const value = this.#host.get(key as string)
    return value === undefined ? { key: key as string } : { key: key as string, value }
  }
}
