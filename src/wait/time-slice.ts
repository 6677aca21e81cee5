/**
 * Fairness towards the rest of the event loop. A stream that always has messages is delivered in promise jobs, which
 * run before all timers and sockets. So after a time slice the next message is delivered in a fresh macrotask. Reading
 * the clock is expensive, so it is read only now and then, but often enough to keep to the slice.
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

  /** Whether the last `due` returned `true`. */
  spent = false

  /** `now`: milliseconds of a monotonic clock. */
  constructor(now = monotonic) {
    this.#now = now
  }

  /** Counts a delivery. `true`: let other code run, and call `begin` in the next macrotask. */
  due(): boolean {
    return --this.#unchecked <= 0 && this.#readClock()
  }

  /** Call at the beginning of a macrotask. */
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
