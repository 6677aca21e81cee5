/**
 * Puts calls through: to the connection that the route names, or, while there is none, into a line that is served as soon as
 * there is one. Every call is in exactly one place, and on close none is forgotten.
 */
import { Waiters } from '../wait/waiting.js'
import type { RingbellError } from '../errors.js'
import type { Endpoint } from './endpoint.js'
import type { Link } from './link.js'
import { Routing, type Route } from './routing.js'

/** A call, or a stream that has not begun. */
export interface Placed {
  readonly settled: boolean
  /** Goes out by this link; `false`: the link is gone. */
  place(link: Link): boolean
  fail(error: unknown): void
}

export class Switchboard {
  /** Calls that were made. */
  made = 0
  /** Those that were made again on another connection. */
  repeated = 0
  /** Why the last server that was tried was not connected to; none while one is connected. */
  trouble: RingbellError | undefined
  readonly #endpoint: Endpoint
  readonly #routing: Routing<Link>
  readonly #strangers: () => string | undefined
  #links: Link[] = []
  readonly #waiting = new Set<Placed>()
  #inFlight = 0
  readonly #idle = new Waiters<true>()
  /** No new ones are taken on, and why. */
  #leaving: RingbellError | undefined
  #closed: RingbellError | undefined

  /** `strangers`: who has the name and is no server, in words. */
  constructor(endpoint: Endpoint, route: Route, strangers: () => string | undefined) {
    this.#endpoint = endpoint
    this.#strangers = strangers
    this.#routing = new Routing(route)
  }

  get links(): readonly Link[] {
    return this.#links
  }

  /** Why there may be no connection, as far as that is known. */
  get reason(): string | undefined {
    return this.trouble?.message ?? this.#strangers()
  }

  /** Calls without an answer. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Those of them that wait for a connection. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** The client's own end, if that is why. */
  closedError(): RingbellError | undefined {
    return this.#closed
  }

  /** There is a new one; `done` must follow, whatever happens. */
  begin(): void {
    this.made++
    this.#inFlight++
    this.#endpoint.want()
  }

  /** Puts it through, now or later. */
  place(one: Placed): void {
    if (this.#leaving === undefined) this.#put(one)
    else one.fail(this.#leaving)
  }

  /** One whose link is gone; `false`: there will be no other. */
  placeAgain(one: Placed): boolean {
    if (this.#closed !== undefined) return false
    this.repeated++
    this.#put(one)
    return true
  }

  /** It is settled. */
  done(one: Placed): void {
    if (--this.#inFlight === 0) this.#idle.check()
    if (this.#waiting.size > 0) this.#waiting.delete(one)
    this.#endpoint.unwant()
  }

  join(link: Link): void {
    this.#links = [...this.#links, link]
    this.trouble = undefined
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const one of waiting) if (!one.settled) this.#put(one)
  }

  lose(link: Link): void {
    this.#links = this.#links.filter((one) => one !== link)
  }

  /** Takes on no new ones; those that it has go on. */
  leave(error: RingbellError): void {
    this.#leaving ??= error
  }

  /** Resolves when none is without an answer. */
  async idle(): Promise<void> {
    if (this.#inFlight > 0) await this.#idle.wait(() => (this.#inFlight === 0 ? true : undefined))
  }

  close(error: RingbellError): void {
    this.#closed = error
    this.#leaving = error
    for (const one of this.#waiting) one.fail(error)
  }

  #put(one: Placed): void {
    for (let link = this.#routing.pick(this.#links); link !== undefined; link = this.#routing.pick(this.#links))
      if (one.place(link)) return
    this.#waiting.add(one)
  }
}
