/**
 * All calls that wait in `attached()` of a subscriber or a publisher. They end when the peers are there, and not by the
 * event, so that `removeAllListeners` cannot break the wait. While a call waits and the endpoint is referenced, the
 * process is kept alive.
 */
import { withMismatch } from '../bus/kind-mismatch.js'
import type { Poller } from '../wait/poller.js'
import { Waiters } from '../wait/waiting.js'

export class Attaching {
  readonly #attached: (count: number) => boolean
  readonly #poller: Poller
  readonly #why: () => string | undefined
  readonly #waiters = new Waiters<true>({ began: () => this.#waits(1), ended: () => this.#waits(-1) })
  #waiting = 0
  #referenced = true
  #held = false

  /** `attached`: whether so many peers are attached. `why`: why they are not, in words. */
  constructor(attached: (count: number) => boolean, poller: Poller, why: () => string | undefined) {
    this.#attached = attached
    this.#poller = poller
    this.#why = why
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced
    this.#keepAlive()
  }

  /** Whether a call waits. */
  get pending(): boolean {
    return this.#waiters.size > 0
  }

  /** Waits until `count` peers are attached. */
  async wait(count: number, signal: AbortSignal | undefined): Promise<void> {
    await this.#waiters.wait(() => (this.#attached(count) ? true : undefined), {
      signal,
      explain: (error) => withMismatch(error, this.#why()),
    })
  }

  /** There may be more peers than before. */
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
