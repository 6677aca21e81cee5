/**
 * Fairness towards the rest of the event loop. A stream that never runs dry lives in promise jobs, and those run before every timer and
 * socket. So after a time slice the next message is delivered in a fresh macrotask. Reading the clock is expensive: it is read every so
 * many messages, often enough to stay well below the slice.
 */

/** Milliseconds in a row that one endpoint may keep the event loop. */
export const SLICE_MS = 2
const MOST_UNCHECKED = 256

const monotonic = performance.now.bind(performance)

export class TimeSlice {
  readonly #now: () => number
  #until = 0
  #last = 0
  #unchecked = 1
  #stride = 1

  /** The last `due` said yes. */
  spent = false

  /** `now`: milliseconds of a monotonic clock. */
  constructor(now = monotonic) {
    this.#now = now
  }

  /** Counts a delivery; `true` when it is time to let others run. Then call `begin` on the fresh macrotask. */
  due(): boolean {
    return --this.#unchecked <= 0 && this.#readClock()
  }

  /** A macrotask begins. */
  begin(): void {
    this.spent = false
    this.#last = this.#now()
    this.#until = this.#last + SLICE_MS
    this.#unchecked = this.#stride
  }

  #readClock(): boolean {
    const time = this.#now()
    const since = time - this.#last
    if (since > SLICE_MS / 4) this.#stride = Math.max(1, this.#stride >> 2)
    else if (since < SLICE_MS / 16) this.#stride = Math.min(MOST_UNCHECKED, this.#stride * 2)
    this.#last = time
    this.#unchecked = this.#stride
    this.spent = time >= this.#until
    return this.spent
  }
}
