/** A condition that other code brings about, and everybody who waits for it. Whoever may have changed it calls `check`. */
import { type Limits, Waiters } from './waiting.js'

export class Condition {
  readonly #holds: () => boolean
  readonly #waiters = new Waiters<true>()

  constructor(holds: () => boolean) {
    this.#holds = holds
  }

  /** Resolves when it holds, at once or at a later `check`. */
  async wait(limits?: Limits): Promise<void> {
    if (!this.#holds()) await this.#waiters.wait(() => (this.#holds() ? true : undefined), limits)
  }

  /** It may hold by now. */
  check(): void {
    this.#waiters.check()
  }

  /** It will not be waited for any more. */
  fail(error: unknown): void {
    this.#waiters.fail(error)
  }
}
