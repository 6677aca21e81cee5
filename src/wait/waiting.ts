/**
 * Waiting for something that other code brings about. `waitFor` is one promise; it ends by its owner, by a signal or by a timeout,
 * whichever comes first. `Waiters` are all who wait at one place until something is there. Each wait ends once, and leaves nothing behind.
 */
import type { AbortError } from '../errors.js'
import { onAbort } from './abort.js'

/** One promise, as its owner sees it. What comes after the first of `resolve` and `reject` changes nothing. */
export interface Waiting<V = void> {
  resolve(value: V): void
  reject(error: unknown): void
  /** How it ends is decided, and comes later: neither signal nor timeout ends it any more. */
  decide(): void
}

/** What else ends a wait. */
export interface Limits {
  readonly signal?: AbortSignal | undefined
  /** What the signal's end is told as. */
  readonly explain?: ((error: AbortError) => unknown) | undefined
  /** Milliseconds, and the error after them. */
  readonly timeout?: number | undefined
  readonly late?: (() => unknown) | undefined
}

/**
 * A promise that its owner settles. `begin` is given what settles it, puts that where the owner finds it, and returns what takes it
 * away from there; that is called once, just before the promise is settled. What `begin` throws rejects it.
 */
export function waitFor<V = void>(begin: (waiting: Waiting<V>) => () => void, limits: Limits = {}): Promise<V> {
  const { signal, explain, timeout, late } = limits
  return new Promise((resolve, reject) => {
    let over = false
    let end: (() => void) | undefined
    let timer: NodeJS.Timeout | undefined
    const decide = (): void => {
      forget()
      clearTimeout(timer)
    }
    const settle = (how: () => void): void => {
      if (over) return
      over = true
      decide()
      end?.()
      how()
    }
    const waiting: Waiting<V> = {
      resolve: (value) => settle(() => resolve(value)),
      reject: (error) => settle(() => reject(error)),
      decide,
    }
    // It never fires before this returns, so the wait is in its place by then.
    const forget = onAbort(signal, (error) => waiting.reject(explain === undefined ? error : explain(error)))
    if (timeout !== undefined) timer = setTimeout(() => waiting.reject(late?.()), timeout)
    try {
      end = begin(waiting)
    } catch (error) {
      waiting.reject(error)
    }
    if (over) end?.()
  })
}

/** Told of each wait. */
export interface WaitersHost {
  began(): void
  ended(): void
}

/** Everybody who waits at one place. */
export class Waiters<V> {
  readonly #waiting = new Map<Waiting<V>, () => V | undefined>()
  readonly #host: WaitersHost | undefined

  constructor(host?: WaitersHost) {
    this.#host = host
  }

  get size(): number {
    return this.#waiting.size
  }

  /** Resolves with what `find` finds, at the first `check` at which that is not `undefined`. */
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

  /** Something may be there. */
  check(): void {
    for (const [waiting, find] of this.#waiting) {
      const found = find()
      if (found !== undefined) waiting.resolve(found)
    }
  }

  fail(error: unknown): void {
    for (const waiting of this.#waiting.keys()) waiting.reject(error)
  }
}
