/**
 * The links of an endpoint that have something to send and no room for it. The *retryable* ones are tried at every poll. Before the endpoint
 * sleeps they are *armed*: the doorbell will ring for them, and then they are retryable again. No other link is visited, so a thousand
 * connections that need nothing cost nothing.
 */
import type { Link } from './link.js'

/** Room that comes between asking for the doorbell and sleeping is taken at once so many times: the peer could go on for ever. */
const ARM_TRIES = 4

export class BlockedLinks {
  readonly #retryable = new Set<Link>()
  readonly #armed = new Set<Link>()

  /** Somebody is to be tried at the next look. */
  get retryable(): boolean {
    return this.#retryable.size > 0
  }

  add(link: Link): void {
    this.#retryable.add(link)
  }

  forget(link: Link): void {
    this.#retryable.delete(link)
    this.#armed.delete(link)
  }

  clear(): void {
    this.#retryable.clear()
    this.#armed.clear()
  }

  /** There may be room for those that the doorbell was to wake. */
  retryArmed(): void {
    for (const link of this.#armed) this.#retryable.add(link)
    this.#armed.clear()
  }

  /** `true` when one of the retryable needs nothing any more. */
  flush(): boolean {
    let moved = false
    for (const link of this.#retryable) {
      if (!link.flush()) continue
      this.#retryable.delete(link)
      moved = true
    }
    return moved
  }

  /** Leaves the retryable to the doorbell; `false` when somebody gets room again and again. */
  arm(): boolean {
    for (const link of this.#retryable) {
      for (let tries = 0; !link.flush(); tries++) {
        if (link.armRoom()) {
          this.#armed.add(link)
          break
        }
        if (tries === ARM_TRIES) return false
      }
      this.#retryable.delete(link)
    }
    return true
  }
}
