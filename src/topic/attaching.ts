/**
 * Everybody who waits in `attached()`. Told when sources were noted, not by the event: nobody's listener can be taken away
 * by `removeAllListeners`, or come between. Keeps the process alive while somebody waits and the subscriber is referenced.
 */
import { onAbort } from '../wait/abort.js'
import type { Poller } from '../wait/poller.js'
import { withStrangers } from '../bus/kind-mismatch.js'

interface Waiting {
  check(): void
  fail(error: unknown): void
}

export class Attaching {
  readonly #attached: () => number
  readonly #poller: Poller
  readonly #strangers: () => string | undefined
  readonly #waiting = new Set<Waiting>()
  #referenced = true
  #held = false

  /** `strangers`: who has the name and is no topic, in words. */
  constructor(attached: () => number, poller: Poller, strangers: () => string | undefined) {
    this.#attached = attached
    this.#poller = poller
    this.#strangers = strangers
  }

  set referenced(referenced: boolean) {
    this.#referenced = referenced
    this.#keepAlive()
  }

  /** Until so many are attached. */
  wait(count: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        check: () => {
          if (this.#attached() >= count) settle(resolve)
        },
        fail: (error) => settle(() => reject(error)),
      }
      const settle = (settled: () => void): void => {
        this.#waiting.delete(waiting)
        this.#keepAlive()
        forget()
        settled()
      }
      this.#waiting.add(waiting)
      this.#keepAlive()
      const forget = onAbort(signal, (error) => {
        waiting.fail(this.#attached() === 0 ? withStrangers(error, this.#strangers()) : error)
      })
    })
  }

  /** There are more sources than before. */
  check(): void {
    for (const waiting of this.#waiting) waiting.check()
  }

  fail(error: unknown): void {
    for (const waiting of this.#waiting) waiting.fail(error)
  }

  #keepAlive(): void {
    const hold = this.#referenced && this.#waiting.size > 0
    if (hold === this.#held) return
    this.#held = hold
    if (hold) this.#poller.hold()
    else this.#poller.drop()
  }
}
