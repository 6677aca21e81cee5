/** A condition that other code makes true, and all waits for it. Code that may have made it true calls `check`. */
import { type Limits, Waiters } from './waiting.js'

export class Condition {
  readonly #holds: () => boolean
  readonly #waiters = new Waiters<true>()

  constructor(holds: () => boolean) {
    this.#holds = holds
  }

  /** Whether something waits. */
  get pending(): boolean {
    return this.#waiters.size > 0
  }

  /** Resolves when the condition is true, at once or at a later `check`. */
  async wait(limits?: Limits): Promise<void> {
    if (!this.#holds()) await this.#waiters.wait(() => (this.#holds() ? true : undefined), limits)
  }

  /** Call when the condition may be true. */
  check(): void {
    this.#waiters.check()
  }

  /** Rejects all waits. */
  fail(error: unknown): void {
    this.#waiters.fail(error)
  }
}
