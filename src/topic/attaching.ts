/**
 * All calls that wait in `attached()`. They end when the sources are recorded, and not by the event, so that
 * `removeAllListeners` cannot break the wait. While a call waits and the subscriber is referenced, the process is kept
 * alive.
 */
import { withMismatch } from '../bus/kind-mismatch.js'
import type { Poller } from '../wait/poller.js'
import { Waiters } from '../wait/waiting.js'

export class Attaching {
  readonly #attached: () => number
  readonly #poller: Poller
  readonly #why: () => string | undefined
  readonly #waiters = new Waiters<true>({ began: () => this.#waits(1), ended: () => this.#waits(-1) })
  #waiting = 0
  #referenced = true
  #held = false

  /** `why`: why no publisher is attached, in words. */
  constructor(attached: () => number, poller: Poller, why: () => string | undefined) {
    this.#attached = attached
    this.#poller = poller
    this.#why = why
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced
    this.#keepAlive()
  }

  /** Waits until `count` publishers are attached. */
  async wait(count: number, signal: AbortSignal | undefined): Promise<void> {
    await this.#waiters.wait(() => (this.#attached() >= count ? true : undefined), {
      signal,
      explain: (error) => withMismatch(error, this.#why()),
    })
  }

  /** There are more sources than before. */
  check(): void {
    this.#waiters.check()
  }

  fail(error: unknown): void {
    this.#waiters.fail(error)
  }

  #waits(more: number): void {
    this.#waiting += more
    if (more > 0) this.#poller.hurry()
    this.#keepAlive()
  }

  #keepAlive(): void {
    const hold = this.#referenced && this.#waiting > 0
    if (hold === this.#held) return
    this.#held = hold
    if (hold) this.#poller.hold()
    else this.#poller.drop()
  }
}
