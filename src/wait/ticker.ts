/**
 * The portable way to watch an epoll where no event loop can (Bun, Deno; forced on Node by `RINGBELL_POLLER=timer`): a timer
 * that looks, every millisecond while somebody has begun to wait, less often after that. Waking up takes up to `SLOWEST_MS`, and
 * idle is not free; docs/platform.md says so. Starts unreferenced.
 */

const FASTEST_MS = 1
const SLOWEST_MS = 8
/** Looks at one pace before it is halved. */
const PATIENCE = 64

export class Ticker {
  readonly #look: () => void
  #referenced = false
  #looks = 0
  #timer: NodeJS.Timeout

  constructor(look: () => void) {
    this.#look = look
    this.#timer = this.#schedule()
  }

  ref(): void {
    this.#referenced = true
    this.hurry()
    this.#timer.ref()
  }

  hurry(): void {
    this.#looks = 0
  }

  unref(): void {
    this.#referenced = false
    this.#timer.unref()
  }

  #schedule(): NodeJS.Timeout {
    const pace = Math.min(SLOWEST_MS, FASTEST_MS << Math.floor(this.#looks / PATIENCE))
    const timer = setTimeout(() => this.#tick(), pace)
    return this.#referenced ? timer : timer.unref()
  }

  #tick(): void {
    this.#looks = Math.min(this.#looks + 1, 4 * PATIENCE)
    try {
      this.#look()
    } finally {
      this.#timer = this.#schedule()
    }
  }
}
