/**
 * Counts the handlers that run, for each connection and each user. A handler counts until it has settled, also if its caller
 * has given up: otherwise a client that calls and cancels in a loop would start handlers without limit. When the connection
 * ends, what still runs counts for the user of the connection, because otherwise connecting again would begin anew.
 *
 * A handler that waits for something that can never come is collected, because nothing refers to it. It then counts no more. So
 * what counts is what takes memory, and no client is locked out for ever by handlers that have forgotten to answer.
 */
import type { Link } from './link.js'

/** The most handlers that run for one user after their connections have ended. */
export const MOST_LEFT = 65_536

export class Places {
  readonly #most: number
  /** By user: handlers that run although their connection has ended. */
  readonly #left = new Map<number, number>()
  readonly #collected = new FinalizationRegistry<Place>((place) => this.leave(place))
  #size = 0

  /** `most`: handlers of one connection. */
  constructor(most: number) {
    this.#most = most
  }

  /** Handlers that run, for whomever. */
  get size(): number {
    return this.#size
  }

  /** Why no further handler may run for this connection, if that is so. */
  full(link: Link): string | undefined {
    if (link.running >= this.#most)
      return `This connection already has ${this.#most} requests without an answer, or handlers that still run after their call was given up. Wait for answers before the next call, let handlers end when their signal fires, or raise maxRequests at the server.`
    if ((this.#left.get(link.peer.uid) ?? 0) >= MOST_LEFT)
      return `${MOST_LEFT} handlers of this user still run after their connections have ended; let handlers end when their signal fires.`
    return undefined
  }

  /** A handler runs. `leave` must follow, or `watch` with what will settle. */
  take(link: Link): Place {
    this.#size++
    link.running++
    if (link.over) this.#count(link, 1)
    return { link, left: false }
  }

  /** The handler has settled. It does nothing if that was known. */
  leave(place: Place): void {
    const { link } = place
    if (place.left) return
    place.left = true
    this.#size--
    link.running--
    if (link.over) this.#count(link, -1)
  }

  /** Nobody but the handler itself refers to `work`, its promise, any more: if it is collected, it counts no more. */
  watch(place: Place, work: object): void {
    this.#collected.register(work, place)
  }

  /** The connection has ended. */
  ended(link: Link): void {
    if (link.running > 0) this.#count(link, link.running)
  }

  #count({ peer: { uid } }: Link, more: number): void {
    const left = (this.#left.get(uid) ?? 0) + more
    if (left > 0) this.#left.set(uid, left)
    else this.#left.delete(uid)
  }
}

export interface Place {
  readonly link: Link
  /** It is counted no more. */
  left: boolean
}
