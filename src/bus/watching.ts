/**
 * One `for await` over what happens on the bus (services, a claim), with a watch of its own in the core. Waiting keeps the
 * process alive.
 */
import { failureOf, inSteps } from '../closing.js'
import { debug } from '../diagnostics.js'
import { fromNative, type RingbellError } from '../errors.js'
import type { NativeClaimWatch, NativeWatch } from '../native.js'
import { onAbort } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Fifo } from '../wait/fifo.js'
import { poller } from '../wait/poller.js'

interface Asked<E> {
  readonly resolve: (result: IteratorResult<E, undefined>) => void
  readonly reject: (error: unknown) => void
}

/** What a watch of the core had to say. */
export interface News<E> {
  readonly events: readonly E[]
  /** Why the directory cannot be read for some time, after these events. The core tells it once. */
  readonly unreadable: RingbellError | undefined
}

export class Watching<E> implements AsyncIteration<E> {
  readonly #native: NativeWatch | NativeClaimWatch
  readonly #news: () => News<E>
  readonly #id: number
  readonly #forget: () => void
  readonly #ended: (watch: Watching<E>) => void
  readonly #events = new Fifo<E>()
  readonly #asked = new Fifo<Asked<E>>()
  #done = false
  #error: unknown = undefined
  /** The directory cannot be read. It is told after the events. */
  #unreadable: RingbellError | undefined

  constructor(
    native: NativeWatch | NativeClaimWatch,
    news: () => News<E>,
    signal: AbortSignal | undefined,
    ended: (watch: Watching<E>) => void,
  ) {
    this.#native = native
    this.#news = news
    this.#ended = ended
    this.#id = poller().add(native, { wake: () => this.#wake() })
    this.#forget = onAbort(signal, (error) => this.#fail(error))
  }

  next(): Promise<IteratorResult<E, undefined>> {
    if (this.#asked.size === 0 && this.#fill()) return Promise.resolve(this.#take())
    if (this.#done) return this.#last()
    return new Promise((resolve, reject) => {
      poller().hurry()
      if (this.#asked.size === 0) poller().hold()
      this.#asked.push({ resolve, reject })
    })
  }

  async return(): Promise<IteratorResult<E, undefined>> {
    this.#end(undefined)
    return DONE
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  close(): void {
    this.#end(undefined)
  }

  #wake(): void {
    if (this.#asked.size === 0) return
    while (this.#asked.size > 0 && this.#fill()) this.#asked.shift()?.resolve(this.#take())
    if (this.#asked.size === 0 && !this.#done) poller().drop()
  }

  #take(): IteratorResult<E, undefined> {
    return { value: this.#events.shift() as E, done: false }
  }

  /** Whether there is an event to take. */
  #fill(): boolean {
    if (this.#done) return false
    if (this.#events.size > 0) return true
    try {
      if (this.#unreadable !== undefined) throw this.#unreadable
      const { events, unreadable } = this.#news()
      for (const event of events) this.#events.push(event)
      this.#unreadable = unreadable
      if (unreadable !== undefined && events.length === 0) throw unreadable
    } catch (error) {
      // This ends the watch while the waiting calls are still in the list.
      this.#fail(fromNative(error))
      return false
    }
    return this.#events.size > 0
  }

  #last(): Promise<IteratorResult<E, undefined>> {
    const error = this.#error
    this.#error = undefined
    return error === undefined ? Promise.resolve(DONE) : Promise.reject(error)
  }

  /** Ends it with the error that is to be told. What ending it throws besides is not. */
  #fail(error: unknown): void {
    const second = failureOf(() => this.#end(error))
    if (second !== undefined) debug('ending a watch: %s', second)
  }

  #end(error: unknown): void {
    if (this.#done) return
    this.#done = true
    this.#error = error
    this.#forget()
    this.#ended(this)
    inSteps(
      () => this.#settle(),
      () => poller().remove(this.#id),
      () => this.#native.close(),
    )
  }

  /** Nothing more will come: answers the waiting calls, the first one with the error. */
  #settle(): void {
    if (this.#asked.size > 0) poller().drop()
    for (let asked = this.#asked.shift(); asked !== undefined; asked = this.#asked.shift()) {
      const failure = this.#error
      this.#error = undefined
      if (failure === undefined) asked.resolve(DONE)
      else asked.reject(failure)
    }
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true })
