/** Calls back when nothing happened for a while: a command's `--timeout`. Without a duration it never calls back. */
export class IdleTimer {
  /** Whether the time is over. */
  elapsed = false
  readonly #ms: number | undefined
  readonly #late: () => unknown
  #timer: NodeJS.Timeout | undefined

  /** Starts at once. */
  constructor(ms: number | undefined, late: () => unknown) {
    this.#ms = ms
    this.#late = late
    this.start()
  }

  start(): void {
    if (this.#ms === undefined) return
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.elapsed = true
      this.#late()
    }, this.#ms)
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}
