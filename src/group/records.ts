/**
 * What the records of a member and of its servers and publishers must say. A record that cannot be written (the disk is full, descriptors
 * ran out) is written again later, with what is true then: clients go by these records, so one that stays wrong would keep them away
 * from the primary.
 */
import { failureOf } from '../closing.js'
import { pauseAfter } from '../wait/backoff.js'

/** Pauses before another try. */
export const RETRY = { delay: 50, maxDelay: 5000 }

export class Records {
  readonly #failed: (error: unknown) => void
  /** Those that could not be written yet. */
  readonly #owed = new Map<object, () => void>()
  #failures = 0
  #timer: NodeJS.Timeout | undefined

  /** `failed` is called for each try that fails. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed
  }

  /** Writes the record of `owner`. `write` is called again until it does not throw, and must say what is true at that moment. */
  write(owner: object, write: () => void): void {
    this.#owed.delete(owner)
    const failure = failureOf(write)
    if (failure === undefined) return
    this.#owed.set(owner, write)
    this.#timer ??= setTimeout(() => this.#again(), pauseAfter(++this.#failures, RETRY)).unref()
    this.#failed(failure)
  }

  /** It has no record any more. */
  forget(owner: object): void {
    this.#owed.delete(owner)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#owed.clear()
  }

  #again(): void {
    this.#timer = undefined
    const owed = [...this.#owed]
    for (const [owner, write] of owed) this.write(owner, write)
    if (this.#owed.size === 0) this.#failures = 0
  }
}
