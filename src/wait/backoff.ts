/** How long to wait before the next try. The pause doubles up to a limit, and is spread at random, so that a thousand clients do not come at once. */
import { duration, integer, LONGEST_MS, nested, type Rule } from '../check.js'

/** When connecting fails, or a connection fails though its other end lives. */
export interface ReconnectOptions {
  /** Tries in a row before it is given up (`'gaveUp'`), 5 by default; 0: for ever. */
  tries?: number | undefined
  /** Milliseconds before the first, 1,000 by default; doubled each time, and up to a quarter off either way. */
  delay?: number | undefined
  /** The longest of them, 30,000 by default. */
  maxDelay?: number | undefined
}

/** Of a client's or worker's: it reconnects by itself. A subscriber's is the core's. */
export const reconnect: Rule = nested('reconnect', {
  tries: integer(0, 2 ** 20),
  delay: duration(1, LONGEST_MS, 'milliseconds'),
  maxDelay: duration(1, LONGEST_MS, 'milliseconds'),
})

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
