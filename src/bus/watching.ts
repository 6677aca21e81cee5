/**
 * One `for await` over what happens on the bus (services, a claim), with a watch of its own in the core. Waiting keeps the
 * process alive.
 */
import { failureOf, inSteps } from '../closing.js'
import { debug } from '../diagnostics.js'
import { fromNative } from '../errors.js'
import type { NativeClaimWatch, NativeWatch } from '../native.js'
import { onAbort } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { Fifo } from '../wait/fifo.js'
import { poller } from '../wait/poller.js'

interface Asked<E> {
  readonly resolve: (result: IteratorResult<E, undefined>) => void
  readonly reject: (error: unknown) => void
}

/** `R`: an event as it comes from the core. `E`: as users see it. */
export class Watching<R, E> implements AsyncIteration<E> {
  readonly #native: NativeWatch | NativeClaimWatch
  readonly #event: (raw: R) => E
  readonly #id: number
  readonly #forget: () => void
  readonly #ended: (watch: Watching<R, E>) => void
  readonly #events = new Fifo<E>()
  readonly #asked = new Fifo<Asked<E>>()
  #done = false
  #error: unknown = undefined

  constructor(
    native: NativeWatch | NativeClaimWatch,
    event: (raw: R) => E,
    signal: AbortSignal | undefined,
    ended: (watch: Watching<R, E>) => void,
  ) {
    this.#native = native
    this.#event = event
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
      const json = this.#native.take()
      // A record that cannot be read ends the watch here, while the waiting calls are still in the list.
      const events = json === '' ? [] : (JSON.parse(json) as R[]).map(this.#event)
      for (const event of events) this.#events.push(event)
    } catch (error) {
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
