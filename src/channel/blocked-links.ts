/**
 * The links of an endpoint that have something to send and no room for it. The *retryable* ones are tried at every
 * poll. Before the endpoint sleeps they are *armed*: the doorbell will ring for them, and then they are retryable
 * again. No other link is visited, so a thousand idle connections cost nothing.
 */
import type { Link } from './link.js'

/**
 * How often room that comes between arming and sleeping is used at once. There is a limit, because the peer could make
 * room again and again.
 */
const ARM_TRIES = 4

export class BlockedLinks {
  readonly #retryable = new Set<Link>()
  readonly #armed = new Set<Link>()

  /** Whether a link must be tried at the next poll. */
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

  /** There may be room for the armed links: they are retryable again. */
  retryArmed(): void {
    for (const link of this.#armed) this.#retryable.add(link)
    this.#armed.clear()
  }

  /** Tries the retryable links. `true` when at least one of them waits no more. */
  flush(): boolean {
    let moved = false
    for (const link of this.#retryable) {
      if (!link.flush()) continue
      this.#retryable.delete(link)
      moved = true
    }
    return moved
  }

  /** Arms the doorbell for the retryable links. `false` when one of them gets room again and again. */
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
