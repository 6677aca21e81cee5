/**
 * Fairness towards the rest of the event loop. A stream that never runs dry lives in promise jobs, which come before
 * every timer and socket; so after a time budget the next message is delivered on a fresh macrotask. The clock is read
 * every so many messages, as many as keep that well below the budget.
 */

/** Milliseconds in a row that one endpoint may keep the event loop. */
export const TURN_MS = 2
const MOST_UNCHECKED = 256

const now = performance.now.bind(performance)

export class Turn {
  #until = 0
  #last = 0
  #unchecked = 1
  #stride = 1

  /** The last `due` said yes. */
  spent = false

  /** Counts a delivery; `true` when it is time to let others run. Then call `begin` on the fresh macrotask. */
  due(): boolean {
    return --this.#unchecked <= 0 && this.#look()
  }

  /** A macrotask begins. */
  begin(): void {
    this.spent = false
    this.#last = now()
    this.#until = this.#last + TURN_MS
    this.#unchecked = this.#stride
  }

  #look(): boolean {
    const time = now()
    const since = time - this.#last
    if (since > TURN_MS / 4) this.#stride = Math.max(1, this.#stride >> 2)
    else if (since < TURN_MS / 16) this.#stride = Math.min(MOST_UNCHECKED, this.#stride * 2)
    this.#last = time
    this.#unchecked = this.#stride
    this.spent = time >= this.#until
    return this.spent
  }
}
