/**
 * The rounds in which an announced service is checked. A check has a limit, and the next one does not begin before the last one has
 * answered, so that checks that never answer do not pile up. The timer keeps no process alive.
 */
import { debug } from '../diagnostics.js'
import { reason } from '../errors.js'
import { onAbort } from '../wait/abort.js'
import { lastLook } from '../wait/last-look.js'
import { targetOf } from './address.js'
import { accepts, type Test } from './connect-test.js'
import type { Health, HealthOptions } from './options.js'

const INTERVAL_MS = 5000
const TIMEOUT_MS = 2000
const FAILURES = 2

export class HealthRounds {
  readonly #check: (signal: AbortSignal, waiting: boolean) => unknown
  readonly #interval: number
  readonly #timeout: number
  readonly #most: number
  readonly #ended = new AbortController()
  #timer: NodeJS.Timeout | undefined
  /** A check that has not answered. */
  #pending = false
  #failures = 0
  #health: Health = 'passing'

  /** `addresses`: those of the endpoints, for the connect test. */
  constructor(options: HealthOptions, addresses: readonly string[]) {
    const { interval = INTERVAL_MS, timeout = TIMEOUT_MS, failures = FAILURES } = options
    this.#interval = interval
    this.#timeout = timeout
    this.#most = failures
    const { check } = options
    this.#check =
      check === undefined
        ? (signal, waiting) => allAccept(addresses, { timeout, signal, stays: waiting })
        : (signal) => check(signal)
  }

  /** The first check, whose result is in the record from the beginning. */
  async first(): Promise<Health> {
    this.#health = (await this.#passes(true)) ? 'passing' : 'failing'
    return this.#health
  }

  /** Begins the rounds. `changed` hears of each change. */
  begin(changed: (health: Health) => void): void {
    this.#timer = setTimeout(() => void this.#round(changed), this.#interval)
    this.#timer.unref()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#ended.abort()
  }

  async #round(changed: (health: Health) => void): Promise<void> {
    const passes = await this.#passes(false)
    if (this.#ended.signal.aborted) return
    this.#failures = passes ? 0 : this.#failures + 1
    const health = passes ? 'passing' : this.#failures >= this.#most ? 'failing' : this.#health
    if (health !== this.#health) {
      this.#health = health
      changed(health)
    }
    this.begin(changed)
  }

  /** `waiting`: somebody waits for the answer. Otherwise it is no reason for the process to stay. */
  async #passes(waiting: boolean): Promise<boolean> {
    if (this.#pending) return false
    const limit = new AbortController()
    const { signal } = limit
    // Not `AbortSignal.any`: the signal of all rounds would keep something of each one.
    const forget = onAbort(this.#ended.signal, () => limit.abort())
    let callOff: (() => void) | undefined
    // The answer may have arrived, and wait behind this timer.
    const timer = setTimeout(() => (callOff = lastLook(() => limit.abort())), this.#timeout)
    if (!waiting) timer.unref()
    const late = new Promise<false>((resolve) => signal.addEventListener('abort', () => resolve(false), { once: true }))
    try {
      return await Promise.race([late, this.#answer(signal, waiting)])
    } finally {
      forget()
      clearTimeout(timer)
      callOff?.()
    }
  }

  async #answer(signal: AbortSignal, waiting: boolean): Promise<boolean> {
    this.#pending = true
    try {
      return (await this.#check(signal, waiting)) !== false
    } catch (error) {
      debug('a health check failed: %s', reason(error))
      return false
    } finally {
      this.#pending = false
    }
  }
}

async function allAccept(addresses: readonly string[], test: Test): Promise<boolean> {
  const some = addresses.map(targetOf).filter((target) => target !== undefined)
  const accepted = await Promise.all(some.map((target) => accepts(target, test)))
  return accepted.every(Boolean)
}
