/**
 * Waiting for something that other code does. `waitFor` makes one promise. Its owner, a signal or a timeout ends it,
 * whichever comes first. `Waiters` is the set of all waits for one thing. Each wait ends once and leaves nothing
 * behind. What ending it throws is told by its rejection, or is logged if the wait has an outcome already.
 */
import { failureOf } from '../closing.js'
import { debug } from '../diagnostics.js'
import type { AbortError } from '../errors.js'
import { onAbort } from './abort.js'
import { lastLook } from './last-look.js'

/** One wait, as its owner sees it. Only the first call of `resolve` or `reject` has an effect. */
export interface Waiting<V = void> {
  resolve(value: V): void
  reject(error: unknown): void
  /** The owner will end it soon. From now on neither the signal nor the timeout ends it. */
  decide(): void
}

/** What ends a wait, besides its owner. */
export interface Limits {
  readonly signal?: AbortSignal | undefined
  /** Makes the error of the rejection from the signal's `AbortError`. */
  readonly explain?: ((error: AbortError) => unknown) | undefined
  /** Milliseconds until the wait rejects with the error that `late` makes. */
  readonly timeout?: number | undefined
  readonly late?: (() => unknown) | undefined
}

/**
 * Makes a promise that its owner settles. `begin` stores the given `Waiting` where the owner finds it, and returns a
 * function that removes it from there. That function is called once, just before the promise is settled. An error that
 * one of the two throws rejects the promise, unless `begin` has settled it.
 */
export function waitFor<V = void>(begin: (waiting: Waiting<V>) => () => void, limits: Limits = {}): Promise<V> {
  const { signal, explain, timeout, late } = limits
  return new Promise((resolve, reject) => {
    let over = false
    let end: (() => void) | undefined
    let timer: NodeJS.Timeout | undefined
    let callOff: (() => void) | undefined
    const decide = (): void => {
      forget()
      if (timer === undefined) return
      clearTimeout(timer)
      callOff?.()
    }
    /** Once: the promise is settled, whatever `end` throws. */
    const settle = (settled: (failure: unknown) => void): void => {
      if (over) return
      over = true
      decide()
      settled(failureOf(() => end?.()))
    }
    const waiting: Waiting<V> = {
      resolve: (value) => settle((failure) => (failure === undefined ? resolve(value) : reject(failure))),
      reject: (error) =>
        settle((failure) => {
          // The first error is the one to be told.
          if (failure !== undefined) debug('ending a wait: %s', failure)
          reject(error)
        }),
      decide,
    }
    // It never fires before this function returns, so the wait is stored by then.
    const forget = onAbort(signal, (error) => waiting.reject(explained(error, explain)))
    if (timeout !== undefined)
      timer = setTimeout(() => {
        callOff = lastLook(() => waiting.reject(late?.()))
      }, timeout)
    try {
      end = begin(waiting)
    } catch (error) {
      waiting.reject(error)
    }
    if (!over) return
    const failure = failureOf(() => end?.())
    if (failure !== undefined) debug('ending a wait: %s', failure)
  })
}

/** An error of `explain` must not replace the one that it explains, nor keep the wait from ending. */
function explained(error: AbortError, explain: Limits['explain']): unknown {
  let told: unknown = error
  const failure = failureOf(() => (told = explain === undefined ? error : explain(error)))
  if (failure !== undefined) debug('explaining an error: %s', failure)
  return told
}

/** Is called at the beginning and at the end of each wait. */
export interface WaitersHost {
  began(): void
  ended(): void
}

/** All waits for one thing. */
export class Waiters<V> {
  readonly #waiting = new Map<Waiting<V>, () => V | undefined>()
  readonly #host: WaitersHost | undefined

  constructor(host?: WaitersHost) {
    this.#host = host
  }

  get size(): number {
    return this.#waiting.size
  }

  /** Resolves with the result of `find`, at the first `check` where that is not `undefined`. */
  wait(find: () => V | undefined, limits?: Limits): Promise<V> {
    return waitFor<V>((waiting) => {
      this.#host?.began()
      this.#waiting.set(waiting, find)
      return () => {
        this.#waiting.delete(waiting)
        this.#host?.ended()
      }
    }, limits)
  }

  /** Call when there may be something: resolves each wait whose `find` has a result. */
  check(): void {
    // This is called after each call, and there are nearly always no waits.
    if (this.#waiting.size === 0) return
    for (const [waiting, find] of this.#waiting) {
      const found = find()
      if (found !== undefined) waiting.resolve(found)
    }
  }

  fail(error: unknown): void {
    for (const waiting of this.#waiting.keys()) waiting.reject(error)
  }
}
