/**
 * The connections of an endpoint that have something to send and no room for it. The *hopeful* are tried at every look; before
 * the endpoint sleeps they are *armed*, left to the doorbell, and hopeful again when that may have rung. Nobody else is
 * walked, so a thousand connections that need nothing cost nothing.
 */
import type { Link } from './link.js'

/** Room that comes between asking for the doorbell and sleeping is taken at once so many times: the peer could go on for ever. */
const ARM_TRIES = 4

export class ShortOfRoom {
  readonly #hopeful = new Set<Link>()
  readonly #armed = new Set<Link>()

  /** Somebody is to be tried at the next look. */
  get hopeful(): boolean {
    return this.#hopeful.size > 0
  }

  add(link: Link): void {
    this.#hopeful.add(link)
  }

  forget(link: Link): void {
    this.#hopeful.delete(link)
    this.#armed.delete(link)
  }

  clear(): void {
    this.#hopeful.clear()
    this.#armed.clear()
  }

  /** There may be room for those that the doorbell was to wake. */
  hopeAgain(): void {
    for (const link of this.#armed) this.#hopeful.add(link)
    this.#armed.clear()
  }

  /** `true` when one of the hopeful needs nothing any more. */
  flush(): boolean {
    let moved = false
    for (const link of this.#hopeful) {
      if (!link.flush()) continue
      this.#hopeful.delete(link)
      moved = true
    }
    return moved
  }

  /** Leaves the hopeful to the doorbell; `false` when somebody gets room again and again. */
  arm(): boolean {
    for (const link of this.#hopeful) {
      for (let tries = 0; !link.flush(); tries++) {
        if (link.armRoom()) {
          this.#armed.add(link)
          break
        }
        if (tries === ARM_TRIES) return false
      }
      this.#hopeful.delete(link)
    }
    return true
  }
}
