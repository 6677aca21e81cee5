/**
 * How long to wait before the next try. The pause doubles up to a limit. It varies at random, so that a thousand
 * clients or jobs do not all come at once.
 */
import { duration, integer, LONGEST_MS, nested, type Rule, type Rules } from '../check.js'

/** How to try again when connecting fails, or when a connection fails although the process at its other end lives. */
export interface ReconnectOptions {
  /** Failed tries in a row before it gives up (`'gaveUp'`), 5 by default. With 0 it never gives up. */
  tries?: number | undefined
  /** Milliseconds before the first try, 1,000 by default. They double with each try, and vary by up to a quarter. */
  delay?: number | undefined
  /** The longest pause in milliseconds, before it varies by up to a quarter; by default 30,000, or `delay` if that is longer. */
  maxDelay?: number | undefined
}

/** Pauses between the attempts of one message of a work queue. */
export interface BackoffOptions {
  /** Milliseconds before the second attempt, 1,000 by default. They double with each further attempt, and vary by up to a quarter. */
  delay?: number | undefined
  /** The longest pause in milliseconds, before it varies by up to a quarter; by default 30,000, or `delay` if that is longer. */
  maxDelay?: number | undefined
}

const PAUSES: Rules = {
  delay: duration(1, LONGEST_MS, 'milliseconds'),
  maxDelay: duration(1, LONGEST_MS, 'milliseconds'),
}

export const backoff: Rule = nested('backoff', PAUSES)

/** The rule for clients and workers, which reconnect here. The core reconnects subscribers, and checks their option itself. */
export const reconnect: Rule = nested('reconnect', { tries: integer(0, 2 ** 20), ...PAUSES })

const SPREAD = 0.25
const DELAY = 1000
const MAX_DELAY = 30_000

/** Milliseconds after so many failures in a row. */
export function pauseAfter(
  failures: number,
  { delay = DELAY, maxDelay = Math.max(delay, MAX_DELAY) }: BackoffOptions,
  random = Math.random(),
): number {
  // The spread comes after the limit, so that those who wait for the longest time do not come back together.
  const pause = Math.min(maxDelay, delay * 2 ** (failures - 1)) * (1 - SPREAD + 2 * SPREAD * random)
  return Math.min(LONGEST_MS, pause)
}

export class Backoff {
  readonly #tries: number
  readonly #pauses: BackoffOptions
  #failures = 0

  constructor({ tries = 5, ...pauses }: ReconnectOptions = {}) {
    this.#tries = tries
    this.#pauses = pauses
  }

  /** Counts one more failure. Returns the milliseconds until the next try, or `undefined` when it must give up. */
  failed(random?: number): number | undefined {
    if (this.#tries > 0 && this.#failures >= this.#tries) return undefined
    return pauseAfter(++this.#failures, this.#pauses, random)
  }

  succeeded(): void {
    this.#failures = 0
  }
}
