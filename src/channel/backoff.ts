/** How long to wait before the next try: doubled each time up to a limit, and spread, so that a thousand clients do not come at once. */
import type { ReconnectOptions } from '../options.js'

const SPREAD = 0.25

export class Backoff {
  readonly #tries: number
  readonly #delay: number
  readonly #most: number
  #failures = 0

  constructor({ tries = 5, delay = 1000, maxDelay = 30_000 }: ReconnectOptions = {}) {
    this.#tries = tries
    this.#delay = delay
    this.#most = maxDelay
  }

  /** It failed once more: milliseconds until the next try, `undefined` when it is to be given up. */
  failed(random = Math.random()): number | undefined {
    if (this.#tries > 0 && this.#failures >= this.#tries) return undefined
    const pause = Math.min(this.#most, this.#delay * 2 ** this.#failures++)
    return pause * (1 - SPREAD + 2 * SPREAD * random)
  }

  succeeded(): void {
    this.#failures = 0
  }
}
