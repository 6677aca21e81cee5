/**
 * Watches an epoll with a timer, where no event loop can watch it (Bun, Deno; on Node with `RINGBELL_POLLER=timer`). It
 * polls every millisecond after a wait has begun or something has come, and less often after some time. Waking up takes
 * up to `SLOWEST_MS`, and an idle process uses some CPU time; docs/platform.md says so. The timer starts unreferenced.
 */

const FASTEST_MS = 1
export const SLOWEST_MS = 8
/** Polls at one pace before the pace is halved. */
const PATIENCE = 64

export class Ticker {
  readonly #poll: () => void
  #referenced = false
  #polls = 0
  #timer: NodeJS.Timeout

  constructor(poll: () => void) {
    this.#poll = poll
    this.#timer = this.#schedule()
  }

  ref(): void {
    this.#referenced = true
    this.#timer.ref()
  }

  /** Polls at the fastest pace again. A slow poll that is scheduled is replaced. */
  hurry(): void {
    const slow = this.#polls >= PATIENCE
    this.#polls = 0
    if (!slow) return
    clearTimeout(this.#timer)
    this.#timer = this.#schedule()
  }

  unref(): void {
    this.#referenced = false
    this.#timer.unref()
  }

  #schedule(): NodeJS.Timeout {
    const pace = Math.min(SLOWEST_MS, FASTEST_MS << Math.floor(this.#polls / PATIENCE))
    const timer = setTimeout(() => this.#tick(), pace)
    return this.#referenced ? timer : timer.unref()
  }

  #tick(): void {
    this.#polls = Math.min(this.#polls + 1, 4 * PATIENCE)
    try {
      this.#poll()
    } finally {
      // The poll may have called `hurry`, which has scheduled the next poll already.
      clearTimeout(this.#timer)
      this.#timer = this.#schedule()
    }
  }
}
