/**
 * A member: this process's part in a service group. It contends for the claim named as the group; the kernel decides who holds it
 * (crates/core/src/bus/claim), so it works with one manager, with several and with none. While it holds the claim it is primary.
 *
 * Invariant: what acts for a term (the servers and publishers of the member, its user by the term's signal) is told of its end
 * before the claim is given back. Only a claim that is lost with the bus directory ends without that; then its epoch tells.
 *
 * Its control service `<group>.member` is how managers find members and speak to them. `bus.join` makes members.
 */
import type { Claim } from '../bus/claim.js'
import type { ClaimState } from '../bus/claims.js'
import {
  type MemberEvents,
  type MemberPart,
  Membership,
  type Role,
  type RoleInfo,
  steppedDown,
} from '../bus/membership.js'
import type { Service } from '../bus/service.js'
import type { Server } from '../channel/server.js'
import { inSteps } from '../closing.js'
import { channels, debug } from '../diagnostics.js'
import { asRingbellError, closedError, RingbellError } from '../errors.js'
import { membersOf, shown, type ShownOptions } from '../shown.js'
import { checkSignal, type SignalOptions } from '../wait/abort.js'
import type { AsyncIteration } from '../wait/async-iteration.js'
import { pauseAfter } from '../wait/backoff.js'
import { EventQueue } from '../wait/event-queue.js'
import { Newest } from '../wait/newest.js'
import { poller } from '../wait/poller.js'
import { waitFor, Waiters } from '../wait/waiting.js'
import { answer, type ControlRequest } from './control.js'
import { checkStepDown, DEFAULT_GRACE, ENVIRONMENT, type JoinOptions, type StepDownOptions } from './options.js'
import { Term } from './term.js'

/** @internal What a bus passes to the constructor. */
export interface MemberParts {
  readonly group: string
  readonly options: JoinOptions
  /** Offers the control service. */
  serve(metadata: Record<string, unknown>, handler: (request: ControlRequest) => unknown): Server<unknown>
  claim(signal: AbortSignal): Promise<Claim>
  /** Follows the group's claim. */
  watch(signal: AbortSignal): AsyncIteration<ClaimState>
  /** Whether the group has other members that contend. */
  others(own: Service): boolean
  closed(member: Member): void
}

/** What a member says of itself. `draining`: it does not contend any more, and its process is about to end. */
export type MemberState = 'ready' | 'stepping-down' | 'draining'

/** After a step-down, milliseconds in which the other members can have the claim before this one asks for it again. */
const YIELD = 1000
/** Pauses before it asks again for a claim that could not be had. */
const RETRY = { delay: 50, maxDelay: 5000 }

/** One process's part in a service group; `bus.join()` makes it. Like a server, it keeps the process alive unless it is `unref`ed. */
export class Member extends Membership implements AsyncDisposable {
  readonly group: string
  readonly #parts: MemberParts
  readonly #control: Server<unknown>
  readonly #events = new EventQueue<MemberEvents>(this, 'member', channels.member)
  readonly #included = new Set<MemberPart>()
  readonly #iterations = new Set<Newest<RoleInfo>>()
  readonly #waiters = new Waiters<unknown>({ began: () => poller().hold(), ended: () => poller().drop() })
  readonly #leaving = new AbortController()
  readonly #metadata: Record<string, unknown>
  #info: RoleInfo = { role: 'standby', epoch: 0 }
  #state: MemberState = 'ready'
  #term: Term | undefined
  /** The claim of the term, until it is given back. */
  #claim: Claim | undefined
  /** The step-down that is under way. */
  #steppingDown: Promise<boolean> | undefined
  #contends = true
  #lastBeat = performance.now()
  #closed = false

  /** @internal Use `bus.join()`. */
  constructor(parts: MemberParts) {
    super()
    this.group = parts.group
    this.#parts = parts
    this.#metadata = { ...fromEnvironment(), ...parts.options.metadata }
    this.#control = parts.serve(this.#described, (request) => answer(this, request))
    this.#publish('opened')
    void this.#contend()
  }

  get role(): Role {
    return this.#info.role
  }

  get epoch(): number {
    return this.#info.epoch
  }

  /** What it says of itself to managers. */
  get state(): MemberState {
    return this.#state
  }

  /** The present term; `undefined` while it is a standby. */
  get term(): Term | undefined {
    return this.#info.role === 'primary' ? this.#term : undefined
  }

  /** Resolves when it is primary, at once if it is. Rejects with `ERR_RINGBELL_CLOSED` when the member has left. */
  get primary(): Promise<Term> {
    return this.#when(() => this.term)
  }

  /** Resolves when it is a standby, at once if it is. Rejects as `primary` does. */
  get standby(): Promise<void> {
    return this.#standby()
  }

  /** Whether it has left its group. */
  get closed(): boolean {
    return this.#closed
  }

  /** The member's record, as others see it. */
  get service(): Service {
    return this.#control.service
  }

  /** Milliseconds since the work has last called `beat()`; 0 if its event loop is what beats. */
  get beatAge(): number {
    return this.#parts.options.heartbeat === 'manual' ? performance.now() - this.#lastBeat : 0
  }

  /** The work goes on. Only with `heartbeat: 'manual'` does anybody ask for it. */
  beat(): void {
    this.#lastBeat = performance.now()
  }

  /**
   * Iterates over the role: as it is now, then after each change, always the newest. It ends by `break`, by the signal (it rejects with
   * an `AbortError`), or when the member leaves.
   */
  roles(options: SignalOptions = {}): AsyncIteration<RoleInfo> {
    checkSignal(options)
    this.#assertOpen()
    const roles = new Newest<RoleInfo>(this.#info, options.signal, (ended) => this.#iterations.delete(ended))
    this.#iterations.add(roles)
    return roles
  }

  /**
   * Gives the claim back and stands by, behind the other members. First the servers of this member refuse new calls, and those that
   * run have `grace` milliseconds to end. `false`: it was no primary. It resolves when another member can be primary.
   */
  async stepDown(options: StepDownOptions = {}): Promise<boolean> {
    checkStepDown(options)
    this.#assertOpen()
    return this.#stepDown(options.grace)
  }

  /** Steps down and does not become primary again. The process can end then without a call being lost. */
  async drain(options: StepDownOptions = {}): Promise<void> {
    checkStepDown(options)
    this.#assertOpen()
    this.#contends = false
    this.#leaving.abort()
    await this.#stepDown(options.grace)
    this.#say('draining')
  }

  /** Steps down and leaves the group. Idempotent. */
  async leave(options: StepDownOptions = {}): Promise<void> {
    checkStepDown(options)
    try {
      if (!this.#closed) await this.drain(options)
    } finally {
      this.closeNow()
    }
  }

  /** As `leave()`. */
  close(options: StepDownOptions = {}): Promise<void> {
    return this.leave(options)
  }

  /** `await using`: as `leave()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.leave()
  }

  /** Keeps the process alive (the default). */
  ref(): this {
    this.#control.ref()
    return this
  }

  /** Does not keep the process alive. */
  unref(): this {
    this.#control.unref()
    return this
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](depth: number | null, options: ShownOptions): string {
    return shown('Member', membersOf(this, 'group', 'role', 'epoch', 'state', 'closed'), depth, options)
  }

  /** @internal */
  include(part: MemberPart): () => void {
    this.#assertOpen()
    this.#included.add(part)
    return () => void this.#included.delete(part)
  }

  /** @internal It leaves at once. */
  closeNow(): void {
    if (this.#closed) return
    this.#closed = true
    this.#contends = false
    const error = closedError('member')
    inSteps(
      () => this.#leaving.abort(),
      () => this.#fence(error),
      () => this.#letGo(error),
      () => this.#control.closeNow(),
      () => this.#waiters.fail(error),
      () => [...this.#iterations].forEach((roles) => roles.end()),
      () => this.#events.clear(),
      () => this.#parts.closed(this),
      () => this.#publish('closed'),
    )
  }

  get #described(): Record<string, unknown> {
    const { role, epoch } = this.#info
    const heartbeat = this.#parts.options.heartbeat ?? 'loop'
    return { ...this.#metadata, group: this.group, role, epoch, state: this.#state, heartbeat }
  }

  /** Asks for the claim, again after each term. It ends when the member no longer contends. */
  async #contend(): Promise<void> {
    for (let failures = 0; this.#contends;) {
      try {
        const claim = await this.#parts.claim(this.#leaving.signal)
        if (!this.#contends) {
          await claim.release()
          return
        }
        failures = 0
        await this.#serve(claim)
        if (this.#contends) await this.#yield(claim.epoch)
      } catch (error) {
        if (!this.#contends) return
        this.#failed(error)
        await elapsed(pauseAfter(++failures, RETRY), this.#leaving.signal)
      }
    }
  }

  /** One term, until it has ended. */
  async #serve(claim: Claim): Promise<void> {
    const term = new Term(claim.epoch)
    this.#claim = claim
    this.#term = term
    this.#become({ role: 'primary', epoch: claim.epoch })
    void this.#attend(claim)
    await term.ended
  }

  /** A claim that is lost ends its term at once. */
  async #attend(claim: Claim): Promise<void> {
    const reason = await claim.lost
    if (this.#claim !== claim) return
    this.#fence(reason)
    this.#letGo(reason)
  }

  async #standby(): Promise<void> {
    await this.#when(() => (this.role === 'standby' ? this : undefined))
  }

  /** Lets another member have the claim, if there is one that can. It hears of that; the time is for members that cannot take it. */
  async #yield(epoch: number): Promise<void> {
    if (!this.#parts.others(this.#control.service)) return
    const signal = AbortSignal.any([this.#leaving.signal, AbortSignal.timeout(YIELD)])
    try {
      for await (const state of this.#parts.watch(signal)) if (state.epoch > epoch) return
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  #stepDown(grace = this.#parts.options.grace ?? DEFAULT_GRACE): Promise<boolean> {
    return (this.#steppingDown ??= this.#endTerm(grace).finally(() => (this.#steppingDown = undefined)))
  }

  async #endTerm(grace: number): Promise<boolean> {
    const term = this.#term
    if (this.#claim === undefined || term === undefined) return false
    const reason = steppedDown(this)
    if (this.#state === 'ready') this.#state = 'stepping-down'
    this.#become({ role: 'standby', epoch: term.epoch })
    term.abort(reason)
    await waitFor(
      (waiting) => {
        this.#settled(term).then(
          () => waiting.resolve(),
          (error) => waiting.reject(error),
        )
        return () => {}
      },
      { timeout: grace, late: () => LATE },
    ).catch((error: unknown) => {
      // What `onStepDown` throws does not keep the claim. The grace is over without an error.
      if (error !== LATE) this.#failed(error)
    })
    this.#fence(reason)
    this.#letGo(reason)
    if (this.#state === 'stepping-down') this.#say('ready')
    return true
  }

  async #settled(term: Term): Promise<void> {
    await this.#parts.options.onStepDown?.(term)
    await Promise.all([...this.#included].map((part) => part.settled()))
  }

  /** From now on nothing acts for the term, and nothing that is under way is answered. */
  #fence(reason: RingbellError): void {
    const term = this.#term
    if (term === undefined || this.#claim === undefined) return
    if (this.role === 'primary') this.#become({ role: 'standby', epoch: term.epoch })
    term.abort(reason)
    for (const part of this.#included) this.#attempt(() => part.disown(reason))
  }

  /** Another member can have the claim. */
  #letGo(reason: RingbellError): void {
    const claim = this.#claim
    const term = this.#term
    this.#claim = undefined
    this.#term = undefined
    if (claim !== undefined) this.#attempt(() => claim.releaseNow())
    term?.end(reason)
  }

  /** The parts hear of it first: servers accept before their records say so, and refuse before the claim is given back. */
  #become(info: RoleInfo): void {
    this.#info = info
    for (const part of this.#included) this.#attempt(() => part.announce(info))
    this.#tell()
    this.#events.add('role', info)
    for (const roles of this.#iterations) roles.put(info)
    this.#waiters.check()
  }

  #say(state: MemberState): void {
    this.#state = state
    this.#tell()
  }

  #tell(): void {
    if (!this.#control.closed) this.#attempt(() => this.#control.update(this.#described))
  }

  #when<V>(find: () => V | undefined): Promise<V> {
    if (this.#closed) return Promise.reject(closedError('member'))
    const found = this.#waiters.wait(find) as Promise<V>
    this.#waiters.check()
    return found
  }

  #attempt(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#failed(error)
    }
  }

  #failed(error: unknown): void {
    debug('member of %s: %s', this.group, error)
    this.#events.add('failed', asRingbellError(error, 'member'))
  }

  #publish(what: 'opened' | 'closed'): void {
    const channel = channels.member[what]
    if (channel.hasSubscribers) channel.publish({ member: this })
  }

  #assertOpen(): void {
    if (this.#closed) throw closedError('member')
  }
}

/** The grace of a step-down is over. */
const LATE = Symbol('late')

function elapsed(milliseconds: number, signal: AbortSignal): Promise<void> {
  return waitFor(
    (waiting) => {
      const timer = setTimeout(() => waiting.resolve(), milliseconds)
      return () => clearTimeout(timer)
    },
    { signal },
  ).catch(() => {
    // It leaves.
  })
}

/** What the manager that has started this process adds to its metadata. */
function fromEnvironment(): Record<string, unknown> {
  const text = process.env[ENVIRONMENT]
  if (text === undefined || text === '') return {}
  try {
    const fields = JSON.parse(text) as unknown
    if (typeof fields === 'object' && fields !== null && !Array.isArray(fields))
      return fields as Record<string, unknown>
  } catch {
    // Told below.
  }
  throw new RingbellError(
    'ERR_RINGBELL_INVALID_OPTION',
    `The environment variable ${ENVIRONMENT} has the wrong value ${text.slice(0, 100)}: it must be a JSON object.`,
  )
}
