/**
 * How an endpoint waits. This is the policy alone, without timers and without the binding, so that tests can drive it
 * by hand. `sleep` sleeps at once. `spin` never sleeps. `adaptive` spins for a bounded time after the last message if
 * messages came quickly before; otherwise it sleeps at once. If spinning found nothing (the peer runs on our own core,
 * or has stopped), twice as many quick arrivals are needed before it spins again.
 */
import { duration, integer, nested, oneOf, plainObject } from '../check.js'
import { invalid } from '../invalid.js'

/** How to wait. `sleep` uses no CPU time while idle. `spin` answers fastest and keeps a core busy. `adaptive` is in between. */
export type WaitMode = 'sleep' | 'spin' | 'adaptive'

/** The long form of the option `wait`. */
export interface WaitOptions {
  /** Sleep, spin, or spin for a while before sleeping. */
  mode: WaitMode
  /** For `adaptive`: microseconds to spin after the last message, 200 by default, at most 100,000. */
  budget?: number | undefined
  /** Pause instructions to spin between two turns of the event loop, 100 by default, at most 100,000. */
  slice?: number | undefined
}

/** The type of the option `wait`. */
export type WaitOption = WaitMode | WaitOptions

export const DEFAULT_BUDGET_US = 200
const DEFAULT_SLICE = 100
const SPIN_SLICE = 1000
const MOST_DOUBT = 1023

const mode = oneOf('sleep', 'spin', 'adaptive')
const object = nested('wait', { mode, budget: duration(0, 100_000, 'microseconds'), slice: integer(1, 100_000) })

/** The rule of the option `wait`. */
export function checkWait(value: unknown): string | undefined {
  if (typeof value === 'string') return mode(value)
  if (plainObject(value) !== undefined || (value as Partial<WaitOptions>).mode === undefined)
    return "must be 'sleep', 'spin', 'adaptive' or { mode, budget, slice }"
  return object(value)
}

/** One endpoint's policy. Times are milliseconds of any monotonic clock. */
export class WaitPolicy {
  readonly mode: WaitMode
  /** Pause instructions per turn of the event loop. */
  readonly slice: number
  readonly #budget: number
  #lively: boolean
  #doubt = 0
  #owed = 0

  constructor(option: WaitOption = 'adaptive') {
    const broken = checkWait(option)
    if (broken !== undefined) throw invalid('wait', option, broken)
    const options: WaitOptions = typeof option === 'string' ? { mode: option } : option
    this.mode = options.mode
    this.slice = options.slice ?? (options.mode === 'spin' ? SPIN_SLICE : DEFAULT_SLICE)
    this.#budget =
      options.mode === 'adaptive'
        ? (options.budget ?? DEFAULT_BUDGET_US) / 1000
        : options.mode === 'spin'
          ? Infinity
          : 0
    this.#lively = options.mode === 'spin'
  }

  /** Whether spinning is worth while now. */
  get lively(): boolean {
    return this.#lively
  }

  /** Milliseconds to spin from now on before sleeping. */
  get patience(): number {
    return this.#lively ? this.#budget : 0
  }

  /** Something came `gap` milliseconds after the wait began. `slept`: the doorbell had to wake the endpoint. */
  arrived(gap: number, slept: boolean): void {
    if (this.mode !== 'adaptive') return
    if (!slept) {
      this.#doubt = 0
      return
    }
    if (gap > this.#budget) this.#lively = false
    else if (this.#owed > 0) this.#owed--
    else this.#lively = this.#budget > 0
  }

  /** The whole budget was spent on spinning, and nothing came. */
  inVain(): void {
    if (this.mode !== 'adaptive') return
    this.#doubt = Math.min(MOST_DOUBT, this.#doubt * 2 + 1)
    this.#owed = this.#doubt
    this.#lively = false
  }
}
