/**
 * Sends each call over the connection that the route picks. Without a connection the call waits, and is sent as soon as
 * there is one. Each call is in exactly one place, so `close` misses none.
 */
import { whenThere } from '../codec/payload-codec.js'
import { isThenable } from '../codec/schema.js'
import { debug } from '../diagnostics.js'
import type { RoleInfo } from '../bus/membership.js'
import type { RingbellError } from '../errors.js'
import { Condition } from '../wait/condition.js'
import type { Endpoint } from './endpoint.js'
import type { Life } from './life.js'
import type { Link } from './link.js'
import { PrimaryRoute } from './primary-route.js'
import { connectionOf } from './peers.js'
import { type Route, Routing } from './routing.js'

/** A call, or a stream that has not begun. */
export interface Dispatchable {
  readonly settled: boolean
  /** Neither a timeout nor a signal ends it. */
  readonly endless: boolean
  /** The id of the one instance that it is for. */
  readonly instance: string | undefined
  /** Encodes it before it waits for a connection or a schema, so that a wrong value is refused at once. An error settles it. */
  prepare(): void
  /** Sends it over this link. `false`: the link is gone. */
  sendOn(link: Link): boolean
  fail(error: unknown): void
}

/** After so many milliseconds without a server, a client says that its calls wait. */
const SAY_AFTER = 10_000

export class CallDispatcher {
  /** Calls that were made. */
  made = 0
  /** Calls that were made again on another connection. */
  repeated = 0
  /** Why the last try to connect failed; `undefined` while a server is connected. */
  lastFailure: RingbellError | undefined
  readonly #life: Life
  readonly #endpoint: Endpoint
  readonly #routing: Routing<Link> | PrimaryRoute<Link>
  /** Set if calls go to the primary of a service group. */
  readonly #primary: PrimaryRoute<Link> | undefined
  readonly #name: string
  readonly #mismatch: () => string | undefined
  /** Runs while an endless call waits, until it has been said once. */
  #patience: NodeJS.Timeout | undefined
  #said = false
  #links: Link[] = []
  /** Those of them that lead to servers of this bus. They are preferred. */
  #near: Link[] = []
  readonly #waiting = new Set<Dispatchable>()
  /** Calls whose request or reply an asynchronous schema checks. No link has them. */
  readonly #checking = new Set<Dispatchable>()
  #inFlight = 0
  readonly #idle = new Condition(() => this.#inFlight === 0)

  /** `mismatch`: which service has the name and is not a server, in words. `roleOf`: the role that the record of a server has. */
  constructor(
    life: Life,
    name: string,
    route: Route,
    mismatch: () => string | undefined,
    roleOf: (link: Link) => RoleInfo | undefined,
  ) {
    this.#life = life
    this.#name = name
    this.#endpoint = life.endpoint
    this.#mismatch = mismatch
    this.#primary = route === 'primary' ? new PrimaryRoute(roleOf) : undefined
    this.#routing = this.#primary ?? new Routing(route as Exclude<Route, 'primary'>)
  }

  get links(): readonly Link[] {
    return this.#links
  }

  /** Why there is no connection, if that is known. */
  get reason(): string | undefined {
    const { length } = this.#links
    if (this.#primary !== undefined && length > 0) return `it is connected to ${length} that are not primary`
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
    return this.#life.closed
  }

  /** Whether a call that was certainly not handled is sent again, whatever the reason. */
  get resends(): boolean {
    return this.#primary !== undefined
  }

  /** Where a call would go now. */
  get target(): Link | undefined {
    return this.#nearest(this.#links)
  }

  /** The latest epoch of the service group that is known. 0: calls follow no primary. */
  get epoch(): number {
    return this.#primary?.epoch ?? 0
  }

  /**
   * The server has refused a call that was sent in this epoch, because it is not primary. `true`: the call may be sent again, and waits
   * for the next primary.
   */
  refusedBy(link: Link | undefined, epoch: number): boolean {
    if (this.#primary === undefined || link === undefined) return false
    this.#primary.refusedBy(link, epoch)
    return true
  }

  /** Records of servers say this. */
  learn(roles: readonly (RoleInfo | undefined)[]): void {
    if (this.#primary === undefined) return
    this.#primary.learn(roles, this.#links)
    this.#sendWaiting()
  }

  /** Counts a new call. `done` must follow in every case. */
  begin(): void {
    this.made++
    this.#inFlight++
    this.#endpoint.want()
  }

  /** Sends it, now or when there is a connection. */
  dispatch(one: Dispatchable): void {
    const { leaving } = this.#life
    if (leaving === undefined) this.#put(one)
    else one.fail(leaving)
  }

  /** Sends a call again whose link is gone. `false`: the client is closed. */
  redispatch(one: Dispatchable): boolean {
    if (this.#life.closed !== undefined) return false
    this.repeated++
    this.#put(one)
    return true
  }

  /**
   * Sends a call when a schema has checked its request. If that takes a while, the request is encoded now, so that it is sent as
   * it was given, whatever the caller changes meanwhile.
   */
  dispatchChecked(one: Dispatchable, checked: unknown): void {
    this.whenChecked(one, checked, () => this.dispatch(one))
    if (isThenable(checked)) one.prepare()
  }

  /**
   * Calls `then` with a value of this call that a schema has checked, at once or when the promise of it resolves. If the
   * schema never answers, the timeout, the signal or the end of the client still end the call.
   */
  whenChecked(one: Dispatchable, value: unknown, then: (value: unknown) => void): void {
    if (isThenable(value)) this.#checking.add(one)
    whenThere(
      value,
      (checked) => {
        this.#checking.delete(one)
        if (!one.settled) then(checked)
      },
      (error) => one.fail(error),
    )
  }

  /** Must be called once for each settled call. */
  done(one: Dispatchable): void {
    if (--this.#inFlight === 0) this.#idle.check()
    if (this.#waiting.size > 0) this.#waiting.delete(one)
    if (this.#checking.size > 0) this.#checking.delete(one)
    this.#endpoint.unwant()
  }

  join(link: Link): void {
    this.#links = [...this.#links, link]
    if (connectionOf(link)?.service?.origin === undefined) this.#near = [...this.#near, link]
    this.lastFailure = undefined
    this.#primary?.learn([], this.#links)
    this.#sendWaiting()
  }

  #sendWaiting(): void {
    if (this.#primary !== undefined && this.target === undefined) return
    clearTimeout(this.#patience)
    this.#patience = undefined
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const one of waiting) if (!one.settled) this.#put(one)
  }

  lose(link: Link): void {
    this.#links = this.#links.filter((one) => one !== link)
    this.#near = this.#near.filter((one) => one !== link)
  }

  /** Resolves when every call has its answer. */
  idle(): Promise<void> {
    return this.#idle.wait()
  }

  /** The client has ended. */
  end(error: RingbellError): void {
    clearTimeout(this.#patience)
    for (const one of [...this.#waiting, ...this.#checking]) one.fail(error)
  }

  #put(one: Dispatchable): void {
    for (let link = this.#pick(one); link !== undefined; link = this.#pick(one)) if (one.sendOn(link)) return
    one.prepare()
    if (one.settled) return
    this.#waiting.add(one)
    if (one.endless && !this.#said) this.#patience ??= setTimeout(() => this.#say(), SAY_AFTER).unref()
  }

  #pick({ instance }: Dispatchable): Link | undefined {
    if (instance === undefined) return this.#nearest(this.#links)
    const isMeant = (link: Link): boolean => connectionOf(link)?.service?.id === instance
    if (this.#primary === undefined) return this.#routing.pick(this.#links.filter(isMeant))
    // There is one primary for all calls, whichever instance a call is for.
    const { target } = this
    return target !== undefined && isMeant(target) ? target : undefined
  }

  /** One of this bus if there is one that can be used. Members of a group are all of this bus. */
  #nearest(links: readonly Link[]): Link | undefined {
    const near = this.#near
    if (near.length === links.length) return this.#routing.pick(links)
    return this.#routing.pick(near) ?? this.#routing.pick(links)
  }

  #say(): void {
    this.#said = true
    const { reason } = this
    const why = reason === undefined ? '' : ` (${reason})`
    const told = `A call of '${this.#name}' without a timeout has waited ${SAY_AFTER / 1000} s: no server is connected${why}.`
    debug('%s', told)
    process.emitWarning(told, { type: 'RingbellWarning', code: 'RINGBELL_NO_SERVER' })
  }
}
