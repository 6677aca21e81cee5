/**
 * How long to wait before the next try. The pause doubles up to a limit. It varies at random, so that a thousand
 * clients do not all come at once.
 */
import { duration, integer, LONGEST_MS, nested, type Rule } from '../check.js'

/** How to try again when connecting fails, or when a connection fails although the process at its other end lives. */
export interface ReconnectOptions {
  /** Failed tries in a row before it gives up (`'gaveUp'`), 5 by default. With 0 it never gives up. */
  tries?: number | undefined
  /** Milliseconds before the first try, 1,000 by default. They double with each try, and vary by up to a quarter. */
  delay?: number | undefined
  /** The longest pause in milliseconds, 30,000 by default. */
  maxDelay?: number | undefined
}

/** The rule for clients and workers, which reconnect here. The core reconnects subscribers, and checks their option itself. */
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

  /** Counts one more failure. Returns the milliseconds until the next try, or `undefined` when it must give up. */
  failed(random = Math.random()): number | undefined {
    if (this.#tries > 0 && this.#failures >= this.#tries) return undefined
    const pause = Math.min(this.#most, this.#delay * 2 ** this.#failures++)
    return pause * (1 - SPREAD + 2 * SPREAD * random)
  }

  succeeded(): void {
    this.#failures = 0
  }
}
