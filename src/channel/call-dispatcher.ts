/**
 * Sends each call over the connection that the route picks. Without a connection the call waits, and is sent as soon as
 * there is one. Each call is in exactly one place, so `close` misses none.
 */
import type { RingbellError } from '../errors.js'
import { Waiters } from '../wait/waiting.js'
import type { Endpoint } from './endpoint.js'
import type { Link } from './link.js'
import { type Route, Routing } from './routing.js'

/** A call, or a stream that has not begun. */
export interface Dispatchable {
  readonly settled: boolean
  /** Sends it over this link. `false`: the link is gone. */
  sendOn(link: Link): boolean
  fail(error: unknown): void
}

export class CallDispatcher {
  /** Calls that were made. */
  made = 0
  /** Calls that were made again on another connection. */
  repeated = 0
  /** Why the last try to connect failed; `undefined` while a server is connected. */
  lastFailure: RingbellError | undefined
  readonly #endpoint: Endpoint
  readonly #routing: Routing<Link>
  readonly #mismatch: () => string | undefined
  #links: Link[] = []
  readonly #waiting = new Set<Dispatchable>()
  #inFlight = 0
  readonly #idle = new Waiters<true>()
  /** Why no new calls are accepted, if that is so. */
  #leaving: RingbellError | undefined
  #closed: RingbellError | undefined

  /** `mismatch`: which service has the name and is not a server, in words. */
  constructor(endpoint: Endpoint, route: Route, mismatch: () => string | undefined) {
    this.#endpoint = endpoint
    this.#mismatch = mismatch
    this.#routing = new Routing(route)
  }

  get links(): readonly Link[] {
    return this.#links
  }

  /** Why there is no connection, if that is known. */
  get reason(): string | undefined {
    return this.lastFailure?.message ?? this.#mismatch()
  }

  /** Calls without an answer. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Calls that wait for a connection. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** The error of the client's own end, if it has ended. */
  closedError(): RingbellError | undefined {
    return this.#closed
  }

  /** Counts a new call. `done` must follow in every case. */
  begin(): void {
    this.made++
    this.#inFlight++
    this.#endpoint.want()
  }

  /** Sends it, now or when there is a connection. */
  dispatch(one: Dispatchable): void {
    if (this.#leaving === undefined) this.#put(one)
    else one.fail(this.#leaving)
  }

  /** Sends a call again whose link is gone. `false`: the client is closed. */
  redispatch(one: Dispatchable): boolean {
    if (this.#closed !== undefined) return false
    this.repeated++
    this.#put(one)
    return true
  }

  /** Must be called once for each settled call. */
  done(one: Dispatchable): void {
    if (--this.#inFlight === 0) this.#idle.check()
    if (this.#waiting.size > 0) this.#waiting.delete(one)
    this.#endpoint.unwant()
  }

  join(link: Link): void {
    this.#links = [...this.#links, link]
    this.lastFailure = undefined
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const one of waiting) if (!one.settled) this.#put(one)
  }

  lose(link: Link): void {
    this.#links = this.#links.filter((one) => one !== link)
  }

  /** Accepts no new calls. Those that it has go on. */
  leave(error: RingbellError): void {
    this.#leaving ??= error
  }

  /** Resolves when every call has its answer. */
  async idle(): Promise<void> {
    if (this.#inFlight > 0) await this.#idle.wait(() => (this.#inFlight === 0 ? true : undefined))
  }

  close(error: RingbellError): void {
    this.#closed = error
    this.#leaving = error
    for (const one of this.#waiting) one.fail(error)
  }

  #put(one: Dispatchable): void {
    for (let link = this.#routing.pick(this.#links); link !== undefined; link = this.#routing.pick(this.#links))
      if (one.sendOn(link)) return
    this.#waiting.add(one)
  }
}
